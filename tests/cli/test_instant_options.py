"""Times as people write them on the command line."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import click
import pytest

from scheduler.cli.options import InstantType
from scheduler.cli.times import now
from tests.cli.conftest import Scheduler

AGO = InstantType(ago=True)


@pytest.fixture(autouse=True)
def _machine_in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def convert(text: str) -> datetime:
    return AGO.convert(text, None, None)


def test_an_instant_with_its_offset_is_read_as_it_is() -> None:
    assert convert("2026-11-23T19:20:00+01:00") == datetime(2026, 11, 23, 18, 20, tzinfo=UTC)


def test_a_duration_counts_from_now() -> None:
    assert abs(now() - timedelta(hours=25) - convert("1d1h")) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-28", datetime(2026, 11, 27, 23, tzinfo=UTC)),
        ("2026-11-28 09:00", datetime(2026, 11, 28, 8, tzinfo=UTC)),
        ("2026-06-28T09:00:30", datetime(2026, 6, 28, 7, 0, 30, tzinfo=UTC)),
    ],
)
def test_a_time_without_an_offset_is_read_in_the_zone_of_the_machine(text: str, instant: datetime) -> None:
    assert convert(text) == instant


@pytest.mark.parametrize(
    "text", ["", "yesterday", "24", "10000w", "-1h", "2026-13-01", "0001-01-01", "09:00"]
)
def test_anything_else_is_refused_with_all_forms(text: str) -> None:
    with pytest.raises(
        click.BadParameter,
        match=r"write a date .* a local time .* or an instant .* or how long ago it was \(24h\)",
    ):
        convert(text)


def test_a_duration_is_refused_where_the_past_makes_no_sense() -> None:
    with pytest.raises(click.BadParameter, match="'24h' is no time"):
        InstantType().convert("24h", None, None)


NEXT = ("next", "--cron", "0 9 * * *", "--count", "1", "--json", "--from")


def test_a_command_says_in_which_zone_it_read_a_time(scheduler: Scheduler) -> None:
    done = scheduler(*NEXT, "2026-11-28 09:30")
    assert done.err == (
        "--from: 2026-11-28 09:30 is Sat 2026-11-28 09:30 CET (2026-11-28T08:30:00Z), read in the "
        "zone of this machine; --utc reads UTC\n"
    )
    assert '"2026-11-28T09:00:00Z"' in done.out


@pytest.mark.parametrize(
    "arguments", [("--utc", *NEXT[1:], "2026-11-28 09:30"), (*NEXT[1:], "2026-11-28 09:30", "--utc")]
)
def test_utc_reads_times_in_utc_wherever_it_stands(scheduler: Scheduler, arguments: tuple[str, ...]) -> None:
    done = scheduler("next", *arguments)
    assert (
        done.err
        == "--from: 2026-11-28 09:30 is Sat 2026-11-28 09:30 UTC (2026-11-28T09:30:00Z), read in UTC\n"
    )
    assert '"2026-11-29T09:00:00Z"' in done.out


@pytest.mark.parametrize("command", [(), ("history",), ("runs", "list"), ("automations", "create")])
def test_a_short_option_shows_the_help(scheduler: Scheduler, command: tuple[str, ...]) -> None:
    assert scheduler(*command, "-h") == scheduler(*command, "--help")
