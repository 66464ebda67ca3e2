"""`scheduler next`."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Scheduler

GAP = ("--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--from", "2026-03-28T12:00:00Z")
REPEAT = ("--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--from", "2026-10-24T12:00:00Z")


def fires(scheduler: Scheduler, *arguments: str) -> list[dict[str, object]]:
    done = scheduler("next", *arguments, "--json")
    assert (done.status, done.err) == (0, "")
    return [json.loads(line) for line in done.out.splitlines()]


def test_an_expressions_fires_are_json_lines_in_utc_and_local_time(scheduler: Scheduler) -> None:
    assert fires(scheduler, *GAP, "--count", "2") == [
        {
            "scheduled_for": "2026-03-29T01:00:00Z",
            "due": None,
            "local": "2026-03-29T03:00:00+02:00",
            "timezone": "Europe/Berlin",
            "note": "after_gap",
        },
        {
            "scheduled_for": "2026-03-30T00:30:00Z",
            "due": None,
            "local": "2026-03-30T02:30:00+02:00",
            "timezone": "Europe/Berlin",
            "note": None,
        },
    ]


def test_the_zone_is_utc_if_none_is_given(scheduler: Scheduler) -> None:
    (fire,) = fires(scheduler, "--cron", "0 9 * * *", "--from", "2026-01-01T09:00:00Z", "--count", "1")
    assert (fire["scheduled_for"], fire["timezone"]) == ("2026-01-02T09:00:00Z", "UTC")


def test_people_get_a_table(scheduler: Scheduler) -> None:
    title, gap, after = scheduler("next", *GAP, "--count", "2").out.splitlines()
    assert title.split() == ["local", "UTC", "zone", "in", "note"]
    assert gap.split()[:8] == [
        "Sun",
        "2026-03-29",
        "03:00",
        "CEST",
        "2026-03-29T01:00:00Z",
        "Europe/Berlin",
        "13",
        "h",
    ]
    assert gap.endswith("in place of a time that the clock change skips")
    assert after.split()[-4:] == ["1", "d", "12", "h"]


def test_the_configured_policies_at_clock_changes_count(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEDULER_SCHEDULE__DST_GAP", "skip")
    monkeypatch.setenv("SCHEDULER_SCHEDULE__DST_REPEAT", "twice")
    assert [fire["note"] for fire in fires(scheduler, *GAP, "--count", "1")] == [None]
    assert [fire["note"] for fire in fires(scheduler, *REPEAT, "--count", "2")] == [
        "first_pass",
        "second_pass",
    ]


def test_an_end_of_the_calendar_is_an_end_of_the_list(scheduler: Scheduler) -> None:
    assert len(fires(scheduler, "--cron", "0 0 1 1 *", "--from", "9997-06-01T00:00:00Z", "--count", "9")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cron", "R 2 * * *"), "random"),
        (("--cron", "0 0 31 2 *"), "error: "),
        (("--cron", "* * * * *", "--timezone", "Mars/Olympus"), "Mars/Olympus"),
        (("--timezone", "UTC"), "--timezone belongs to --cron"),
        (("nightly", "--cron", "* * * * *"), "give one of them"),
        (
            ("--cron", "* * * * *", "--from", "tomorrow"),
            "or an instant with its offset (2026-11-28T09:00:00Z)",
        ),
        (("--cron", "* * * * *", "--from", "24h"), "is no time"),
        (("--cron", "* * * * *", "--from", "0001-01-01T00:00:00+14:00"), "--from"),
        (("--cron", "* * * * *", "--count", "0"), "--count"),
        (("--input", "/nonexistent"), "/nonexistent"),
    ],
)
def test_wrong_use_is_told_on_one_line(
    scheduler: Scheduler, arguments: tuple[str, ...], message: str
) -> None:
    done = scheduler("next", *arguments)
    assert (done.status, done.out) == (2, "")
    assert message in done.err.splitlines()[0]


def answers(scheduler: Scheduler, tmp_path: Path, *lines: bytes) -> list[dict[str, object]]:
    file = tmp_path / "lines"
    file.write_bytes(b"\n".join(lines))
    done = scheduler("next", "--input", str(file), "--from", "2026-01-01T00:00:00Z", "--count", "2")
    assert (done.status, done.err) == (0, "")
    return [json.loads(line) for line in done.out.splitlines()]


def test_each_line_gets_its_answer_in_order(scheduler: Scheduler, tmp_path: Path) -> None:
    assert answers(
        scheduler,
        tmp_path,
        b'{"cron": "0 9 * * *", "timezone": "Asia/Tokyo", "from": "2026-06-01T09:00:00+09:00", "count": 1}',
        b"",
        b'{"cron": "0 0 * * *"}',
    ) == [
        {
            "cron": "0 9 * * *",
            "timezone": "Asia/Tokyo",
            "from": "2026-06-01T09:00:00+09:00",
            "fires": ["2026-06-02T00:00:00Z"],
        },
        {
            "cron": "0 0 * * *",
            "timezone": "UTC",
            "from": "2026-01-01T00:00:00.000000Z",
            "fires": ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"],
        },
    ]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b'{"cron": ', "the line is not JSON"),
        (b'{"cron": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deep"),
        (b"9" * 5000, "the line is not JSON"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b"{}", "'cron' is missing"),
        (b'{"cron": 5}', "not text"),
        (b'{"cron": null}', ""),
        (b'{"cron": "0 0 31 2 *"}', ""),
        (b'{"cron": "* * * * *", "tz": "UTC"}', "unknown field 'tz'"),
        (b'{"cron": "* * * * *", "timezone": "../../etc/passwd"}', "passwd"),
        (b'{"cron": "* * * * *", "timezone": null}', ""),
        (b'{"cron": "* * * * *", "from": 5}', "'from' is no text"),
        (b'{"cron": "* * * * *", "from": "2026-01-01"}', "'from': the instant '2026-01-01' names no offset"),
        (b'{"cron": "* * * * *", "from": "0001-01-01T00:00:00+14:00"}', "'from'"),
        (b'{"cron": "* * * * *", "count": 0}', "'count'"),
        (b'{"cron": "* * * * *", "count": true}', "'count'"),
        (b'{"cron": "* * * * *", "count": 10001}', "'count'"),
        (b'{"cron": "* * * * *", "count": "3"}', "'count'"),
        (b'{"cron": "\\ud800 * * * *"}', ""),
    ],
)
def test_a_bad_line_gets_an_error_and_stops_nothing(
    scheduler: Scheduler, tmp_path: Path, line: bytes, error: str
) -> None:
    good = b'{"cron": "* * * * *"}'
    first, bad, last = answers(scheduler, tmp_path, good, line, good)
    assert len(first["fires"]) == len(last["fires"]) == 2  # type: ignore[arg-type]  # a list, as JSON has it
    assert "fires" not in bad
    assert error in str(bad["error"])
    assert bad["error"]
    assert "timezone" in bad or bad["line"] == 2
