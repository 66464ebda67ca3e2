"""`scheduler explain` of an expression."""

import json

import pytest

from scheduler.cli import output
from tests.cli.conftest import Scheduler

BERLIN = ("--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--from", "2025-03-28T12:00:00Z")


def test_people_are_told_all_of_it(scheduler: Scheduler) -> None:
    done = scheduler("explain", *BERLIN, "--count", "2")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "At 02:30, every day",
        '  30 2 * * * in Europe/Berlin; dst_gap = "after", dst_repeat = "once"',
        "",
        "next fires",
        "  local                      UTC                   in           note",
        "  Sat 2025-03-29 02:30 CET   2025-03-29T01:30:00Z  13 h 30 min",
        (
            "  Sun 2025-03-30 03:00 CEST  2025-03-30T01:00:00Z  1 d 13 h     in place of a time that "
            "the clock change skips"
        ),
        "",
        "clock changes in 13 months",
        "  2025-03-30 02:00 the clock goes ahead to 03:00: 02:30 does not exist; it fires at 03:00 instead",
        "  2025-10-26 03:00 the clock goes back to 02:00: 02:30 comes twice; it fires the first time only",
        "  2026-03-29 02:00 the clock goes ahead to 03:00: 02:30 does not exist; it fires at 03:00 instead",
        "",
        "in other crons",
        "  when the clock skips 02:30, it fires at the end of the gap",
        "      APScheduler: it fires as much later as the clock goes ahead",
        "      Kubernetes, EventBridge Scheduler and systemd timers: it does not fire",
        "  when the clock repeats 02:30, it fires the first time only",
        "      croniter, APScheduler and Kubernetes: it fires both times",
        "  times are those of Europe/Berlin, where the clock changes",
        "      GitHub Actions: they are UTC unless its timezone is set",
        "      EventBridge rules: they are UTC",
    ]


def test_a_schedule_that_is_alike_everywhere_is_told_shortly(scheduler: Scheduler) -> None:
    lines = scheduler("explain", "--cron", "*/15 * * * *", "--count", "1").out.splitlines()
    assert lines[0] == "Every 15 minutes"
    assert lines[1] == (
        "  */15 * * * * in UTC; the schedule follows the wall clock, so dst_gap and dst_repeat do not apply"
    )
    assert lines[-3:] == [
        "clock changes in 13 months: none in UTC",
        "",
        "other crons read the expression in the same way",
    ]


def test_programs_get_one_object_a_line(scheduler: Scheduler) -> None:
    done = scheduler(
        "explain",
        "--cron",
        "0 2 * * 7",
        "--timezone",
        "Europe/Berlin",
        "--from",
        "2025-03-28T12:00:00Z",
        "--count",
        "1",
        "--json",
    )
    assert (done.status, done.err) == (0, "")
    (line,) = done.out.splitlines()
    explained = json.loads(line)
    changes, differences = explained.pop("clock_changes"), explained.pop("differences")
    assert explained == {
        "cron": "0 2 * * 7",
        "timezone": "Europe/Berlin",
        "invalid": None,
        "words": "At 02:00, on Sunday",
        "dst_gap": "after",
        "dst_repeat": "once",
        "fires": [
            {
                "scheduled_for": "2025-03-30T01:00:00Z",
                "due": None,
                "local": "2025-03-30T03:00:00+02:00",
                "timezone": "Europe/Berlin",
                "note": "after_gap",
            }
        ],
    }
    assert changes[0] == {
        "at": "2025-03-30T01:00:00Z",
        "clock_goes": "ahead",
        "offset_before": "+01:00",
        "offset_after": "+02:00",
        "from": "2025-03-30T02:00:00",
        "to": "2025-03-30T03:00:00",
        "times": ["2025-03-30T02:00:00"],
        "effect": "made_up",
        "fires": ["2025-03-30T01:00:00Z"],
        "words": (
            "2025-03-30 02:00 the clock goes ahead to 03:00: 02:00 does not exist; it fires at 03:00 instead"
        ),
    }
    assert differences[0] == {
        "code": "seven_is_sunday",
        "here": "7 is Sunday, as 0 is",
        "elsewhere": [
            {"dialects": ["Quartz", "EventBridge"], "does": "it is Saturday"},
            {"dialects": ["Kubernetes", "APScheduler"], "does": "it is refused"},
        ],
        "instead": "0 2 * * sun",
        "words": (
            "7 is Sunday, as 0 is; in Quartz and EventBridge it is Saturday; in Kubernetes and "
            "APScheduler it is refused; write 0 2 * * sun"
        ),
    }


def test_the_configured_policies_at_clock_changes_count(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEDULER_SCHEDULE__DST_GAP", "skip")
    explained = json.loads(scheduler("explain", *BERLIN, "--json").out)
    assert (explained["dst_gap"], explained["clock_changes"][0]["effect"]) == ("skip", "not_fired")


@pytest.mark.parametrize(
    ("begin", "heading"),
    [("0001-01-01T00:00:00Z", "next fires"), ("9999-12-31T23:59:59Z", "no fire time is left")],
)
def test_both_ends_of_the_calendar_can_be_asked_about(scheduler: Scheduler, begin: str, heading: str) -> None:
    done = scheduler("explain", "--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--from", begin)
    assert (done.status, done.err) == (0, "")
    assert heading in done.out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cron", "0 25 * * *"), "error: the hour '25' is not valid; it takes 0-23"),
        (("--cron", "R 2 * * *"), "random"),
        (("--cron", "0 0 31 2 *"), "croniter finds no day that ever matches"),
        (("--cron", "* * * * *", "--timezone", "Mars/Olympus"), "Mars/Olympus"),
        (("--timezone", "UTC"), "--timezone belongs to --cron"),
        (("nightly", "--cron", "* * * * *"), "give one of them"),
        (("--cron", "* * * * *", "--count", "0"), "--count"),
    ],
)
def test_wrong_use_is_told_on_one_line(
    scheduler: Scheduler, arguments: tuple[str, ...], message: str
) -> None:
    done = scheduler("explain", *arguments)
    assert (done.status, done.out) == (2, "")
    assert message in done.err.splitlines()[0]


def test_what_is_told_fits_the_terminal(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_find_width", lambda _: 70)
    lines = scheduler("explain", "--cron", "30 2 13 * 5", "--timezone", "Europe/Berlin").out.splitlines()
    assert max(map(len, lines)) <= 70
    assert "      Quartz and EventBridge: it is refused, since one of the two must" in lines
    assert "        be ?" in lines
