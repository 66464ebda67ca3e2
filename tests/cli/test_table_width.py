"""Every table fits into a terminal of 80 columns, with times in the automations' own zones, and cuts names
last.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from scheduler.cli.cells import measure_width
from scheduler.cli.commands import automations, history, keys, runs
from scheduler.cli.output import (
    Column,
    format_table,
)
from scheduler.cli.upcoming_fires import PlannedSchedule, UpcomingFire, make_columns
from scheduler.core.cron.schedule import Schedule
from scheduler.ledger.history import Line
from scheduler.localapi.keys import ApiKey, Scope
from tests.defaults import make_policies

ROOM = 80
NAME = "nightly-report"
LONG = "the weekly report of everything that happened in all repositories"
ZONES = ("Europe/Berlin", "America/Argentina/Buenos_Aires")
AT = "2026-11-23T19:20:00.123456Z"
RUNS = [f"3f2b8c1{number}-6a54-4b0e-8a53-0c1d2e3f4a5b" for number in range(3)]


def line(name: str, run_id: str | None, **changes: str | int | None) -> Line:
    """A line of the history."""
    made: Line = {
        "name": name,
        "scheduled_for": "2026-11-23T19:20:00Z",
        "due": AT,
        "outcome": "unresolved",
        "reason": "not_started",
        "attempts": 12,
        "claimed_at": AT,
        "lateness_seconds": 3600.123,
        "task_run_id": run_id,
        "run_status": "superseded",
        "error": "the API answered 500 again and again",
        "count": 1,
    }
    return {**made, **changes}


def test_a_history_keeps_names_and_enough_of_each_run_id() -> None:
    lines = [line(NAME, run_id) for run_id in RUNS]
    shown = format_table(lines, history._make_columns(lines, lambda _: ZONES[0]), ROOM)
    assert " ".join(shown[0].split()) == "Europe/Berlin automation outcome run run id"
    assert shown[2::2] == ["    error: the API answered 500 again and again"] * len(RUNS)
    for run_id, text in zip(RUNS, shown[1::2], strict=True):
        assert text.startswith("Mon 2026-11-23 20:20 CET ")
        assert f"  {NAME}  unresolved: not…  superseded  " in text
        assert text.endswith(run_id[:8])


def test_a_history_without_runs_has_no_column_for_their_ids() -> None:
    lines = [line(NAME, None, outcome="skipped", reason="coalesced", run_status="", error="")]
    make_columns = history._make_columns(lines, lambda _: ZONES[0])
    assert "run id" not in format_table(lines, make_columns, ROOM)[0]
    assert "run id" in format_table(lines, make_columns, 100)[0]


def test_a_due_time_stays_readable_beside_a_run() -> None:
    open_line = line(
        NAME, None, outcome=None, serve_status="waiting", claimed_at=None, run_status="", error=""
    )
    ended = line(NAME, RUNS[0], outcome="accepted", reason="answered", run_status="success", error="")
    for lines in ([open_line], [open_line, ended]):
        shown = format_table(lines, history._make_columns(lines, lambda _: ZONES[0]), ROOM)
        assert f"  {NAME}  open: due 20:20:00" in shown[1]


def test_times_in_several_zones_name_the_zone_of_each() -> None:
    lines = [line(NAME, None, zone=zone) for zone in ZONES]
    titles, *shown = format_table(lines, history._make_columns(lines, lambda line: str(line["zone"])))
    assert titles.split()[:3] == ["scheduled", "UTC", "zone"]
    assert shown[0].startswith("Mon 2026-11-23 20:20 CET  2026-11-23T19:20:00Z  Europe/Berlin  ")
    assert shown[1].startswith(
        "Mon 2026-11-23 16:20 -03  2026-11-23T19:20:00Z  America/Argentina/Buenos_Aires  "
    )


ERROR = (
    "The command ended with exit status 3. The last line of its output: fatal: the model is not "
    "available today"
)
ERROR_LINES = [
    "    error: The command ended with exit status 3. The last line of its output:",
    "    fatal: the model is not available today",
]


def test_a_failed_run_of_the_history_shows_its_cause() -> None:
    lines = [line(NAME, RUNS[0], outcome="accepted", reason="", run_status="failed", error=ERROR)]
    assert format_table(lines, history._make_columns(lines, lambda _: ZONES[0]), ROOM)[2:] == ERROR_LINES


@pytest.mark.parametrize("finished", [AT, "2026-11-24T21:59:58.987654Z"])
def test_a_failed_run_in_the_list_of_runs_shows_its_exit_status_and_its_cause(finished: str) -> None:
    failed = {
        **run(NAME, ZONES[0], RUNS[0]),
        "status": "failed",
        "exit_status": 3,
        "error": ERROR,
        "finished_at": finished,
    }
    succeeded = {**run(NAME, ZONES[0], RUNS[1]), "status": "success", "exit_status": 0, "error": None}
    titles, first, *rest, last = format_table(
        [failed, succeeded], runs._make_columns([failed, succeeded]), ROOM
    )
    assert titles.split()[-1] == "exit"
    assert first.split()[-1] == "3"
    assert rest == ERROR_LINES
    assert last.split()[-1] == "0"


@pytest.mark.parametrize("timezone", [None, "Mars/Olympus", "../etc/passwd", "\x1b[2J"])
def test_without_a_zone_that_this_machine_knows_times_are_in_utc(timezone: str | None) -> None:
    lines = [line(NAME, None)]
    titles, shown = format_table(lines, history._make_columns(lines, lambda _: timezone))
    assert titles.startswith("scheduled in UTC")
    assert shown.startswith("Mon 2026-11-23 19:20 UTC")


def document(name: str, zone: str, number: int) -> dict[str, Any]:
    return {
        "id": f"0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e{number:02}",
        "name": name,
        "cron_expression": "0,15,30,45 8-18 * * 1-5",
        "timezone": zone,
        "enabled": False,
        "last_run_at": AT,
        "last_run_status": "success",
    }


def run(name: str, zone: str, run_id: str) -> dict[str, Any]:
    return {
        "id": run_id,
        "name": name,
        "status": "running",
        "created_at": AT,
        "started_at": AT,
        "finished_at": AT,
        "exit_status": -15,
        "error": "The command ended with exit status 1. The last line of its output: " + name * 20,
        "timezone": zone,
    }


def fires(named: str | None, zone: str) -> list[UpcomingFire]:
    planned = PlannedSchedule(
        Schedule.parse("30 2 * * *", zone),
        "" if named is None else "id",
        named or "",
        policies=make_policies(),
    )
    return [UpcomingFire(planned, datetime(2027, 3, 28, 1, tzinfo=UTC))]


KEY = ApiKey("9f86d081884c7d65", 123_456_789, frozenset(Scope), AT, AT, AT)


def every_table(name: str, zones: Sequence[str]) -> list[tuple[Sequence[Any], Sequence[Column[Any]]]]:
    """Records and columns of every table that a command prints."""
    lines = [line(name, run_id, zone=zone, count=30) for run_id, zone in zip(RUNS, zones, strict=False)]
    of_runs = [run(name, zone, run_id) for run_id, zone in zip(RUNS, zones, strict=False)]
    coming = [fire for zone in zones for fire in fires(name, zone)]
    at, jitter = datetime(2026, 1, 1, tzinfo=UTC), make_policies(jitter=timedelta(seconds=5))
    return [
        (lines, history._make_columns(lines, lambda line: str(line["zone"]))),
        (of_runs, runs._make_columns(of_runs)),
        ([document(name, zone, number) for zone, number in zip(zones, count())], automations._COLUMNS),
        (coming, make_columns(at, [replace(fire.planned_schedule, policies=jitter) for fire in coming])),
        (coming, make_columns(at, [])),
        ([KEY], keys._COLUMNS),
    ]


@pytest.mark.parametrize("name", ["a", NAME, LONG, "日本" * 30])
@pytest.mark.parametrize("zones", [ZONES[:1], ZONES[1:], ZONES])
@pytest.mark.parametrize("room", [ROOM, 100])
def test_no_table_overflows(name: str, zones: Sequence[str], room: int) -> None:
    for records, shown in every_table(name, zones):
        lines = format_table(records, shown, room)
        assert max(map(measure_width, lines)) <= room, "\n".join(lines)


@pytest.mark.parametrize("room", range(1, 60, 7))
def test_what_cannot_fit_is_cut_as_far_as_it_can_be(room: int) -> None:
    for records, shown in every_table(LONG, ZONES):
        assert format_table(records, shown, room)


Row = tuple[str, str, str, str]
ROWS: list[Row] = [
    ("an-automation", "aaaaaaaa-1", "detail", "some words of an error"),
    ("other", "aaaaaaaa-2", "d", ""),
]
RANKED: list[Column[Row]] = [
    Column.make_name("name", lambda row: row[0]),
    Column.make_id("id", lambda row: row[1]),
    Column.make_detail("detail", lambda row: row[2]),
    Column.make_text("error", lambda row: row[3]),
]


@pytest.mark.parametrize(
    ("room", "shown"),
    [
        (60, "an-automation  aaaaaaaa-1  detail  some words of an error"),
        (56, "an-automation  aaaaaaaa-1  some words of an error"),
        (49, "an-automation  aaaaaaaa-1  some words of an error"),
        (48, "an-automation  aaaaaaaa-1  detail\n    error: some words of an error"),
        (32, "an-automation  aaaaaaaa-1\n    error: some words of an\n    error"),
        (24, "an-automati…  aaaaaaaa-1\n    error: some words of\n    an error"),
        (12, "an-auto…  aaaaaaaa\n    error:\n    some\n    words of\n    an error"),
    ],
)
def test_details_go_first_then_sentences_go_below_and_names_are_cut_last(room: int, shown: str) -> None:
    assert "\n".join(format_table(ROWS, RANKED, room)[1:-1]) == shown


def test_a_long_sentence_below_a_row_is_cut_and_a_long_word_is_broken() -> None:
    _, _, *below = format_table([("name", "id", "", "日本 " * 3 + "x" * 400)], RANKED, 30)
    assert below == ["    error: 日本 日本 日本", *["    " + "x" * 26] * 2, "    " + "x" * 25 + "…"]


def test_ids_are_cut_to_as_many_characters_as_tell_them_apart() -> None:
    column: list[Column[str]] = [Column.make_id("id", lambda row: row)]
    assert format_table(["aaaaaaaa-bbbb", "cccccccc-dddd"], column, 8) == ["id", "aaaaaaaa", "cccccccc"]
    assert format_table(["aaaaaaaa-bbbb", "aaaaaaaa-cccc"], column, 11) == [
        "id",
        "aaaaaaaa-b…",
        "aaaaaaaa-c…",
    ]


@pytest.mark.parametrize("room", range(80, 110))
def test_an_id_is_whole_or_has_8_characters_or_an_ellipsis(room: int) -> None:
    """An id that lacked its last characters looked whole, and was copied."""
    ids = ("0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e00", "9679bde4-f269-468a-8cbc-be3b44611b45")
    alone = [{**document(NAME, "UTC", 0), "id": text} for text in ids]
    alike = [document(NAME, "UTC", number) for number in range(2)]
    for list_documents in (alone, alike):
        for text, row in zip(
            list_documents, format_table(list_documents, automations._COLUMNS, room)[1:], strict=True
        ):
            shown = row.split()[0]
            assert shown == text["id"] or len(shown) == 8 or shown.endswith("…"), row


def test_either_all_times_of_a_table_have_seconds_or_none() -> None:
    exact, round_ = (
        {**run(NAME, "UTC", RUNS[0]), "created_at": "2026-11-23T19:20:07Z"},
        {**run(NAME, "UTC", RUNS[1]), "created_at": "2026-11-23T19:20:00Z"},
    )
    for runs_shown, time in (([exact, round_], "19:20:00 UTC"), ([round_], "19:20 UTC")):
        assert f" Mon 2026-11-23 {time}" in format_table(runs_shown, runs._make_columns(runs_shown))[-1]
