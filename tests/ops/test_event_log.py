"""What the log says of each event: one line, under its name, at its level, with its keys, and nothing that an
event does not hold.
"""

import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduler.core import events
from scheduler.core.events import (
    AutomationAdded,
    AutomationChanged,
    AutomationsUnidentified,
    ConfigReloaded,
    DeliveryFailed,
    Event,
    LedgerFailed,
    LedgerRecovered,
    OccurrenceClaimed,
    OccurrenceOverdue,
    RunDoubled,
    RunForeign,
    SnapshotFailed,
    SnapshotTaken,
)
from scheduler.core.instants import to_text_seconds
from scheduler.core.model import REASONS, AttemptResult, Definition, Outcome, Reason, RunStatus
from scheduler.ops.event_log import EventLogger
from scheduler.ops.logs import Log, LogLevel
from tests.ops.support import HOSTILE, ID, NOW, OCCURRENCE, RUN, attempt, concluded, every_event, run_finished

WITHOUT_A_LINE = {"AttemptBegun", "ConfigReloading", "LedgerCommitted", "RequestEnded", "EarlierRunSeen"}
IN_ORDER = [
    *("timestamp", "level", "event", "target", "automation_id", "automation", "scheduled_for", "attempt"),
    *("lateness_seconds", "task_run_id", "reason", "error", "node"),
]


def narrated(file: Path, happened: Iterable[Event], level: LogLevel = "debug") -> list[dict[str, Any]]:
    with (
        file.open("w") as stream,
        closing(Log(format="json", level=level, node="vm1", now=lambda: NOW, stream=stream)) as log,
    ):
        narrator = EventLogger(log.is_enabled_for)
        for event in happened:
            narrator.observe(event)
    return [json.loads(line) for line in file.read_text().splitlines()]


def taken(target: str = "main", *, incomplete: bool = False) -> SnapshotTaken:
    return SnapshotTaken(target=target, automations=3, seconds=0.3, incomplete=incomplete, clock_offset=None)


def failed(error: str = "HTTP 500", target: str = "main", *, first: bool = False) -> SnapshotFailed:
    return SnapshotFailed(target=target, error=error, seconds=0.3, first=first)


def _foreign(*, beside: datetime | None) -> RunForeign:
    return RunForeign(
        target="main",
        automation_id=ID,
        automation="nightly",
        run_id=RUN,
        started_at=None,
        scheduled_for=beside,
        hint="ask around",
    )


def test_the_examples_hold_every_event_there_is() -> None:
    known = {each for each in vars(events).values() if isinstance(each, type) and issubclass(each, Event)}
    assert {each for each in known if not each.__name__.startswith("_")} - {Event} == {
        type(event) for event in every_event()
    }


@pytest.mark.parametrize("event", every_event(), ids=lambda event: type(event).__name__)
def test_an_event_is_one_line_and_one_that_people_need_not_know_of_is_none(
    event: Event, tmp_path: Path
) -> None:
    lines = narrated(tmp_path / "log", [event])
    assert len(lines) == (0 if type(event).__name__ in WITHOUT_A_LINE else 1)


@pytest.mark.parametrize(
    ("event", "level", "name"),
    [
        (OccurrenceClaimed(occurrence=OCCURRENCE, automation="a"), "debug", "occurrence.claimed"),
        (
            OccurrenceOverdue(occurrence=OCCURRENCE, automation="a", state="waiting", count=1, overdue=1),
            "error",
            "occurrence.overdue",
        ),
        (
            DeliveryFailed(occurrence=OCCURRENCE, automation="a", error=ValueError()),
            "error",
            "occurrence.faulted",
        ),
        *(
            (concluded(Outcome.ACCEPTED, reason), "info", "occurrence.accepted")
            for reason in REASONS[Outcome.ACCEPTED]
        ),
        (concluded(Outcome.REJECTED, Reason.REFUSED), "warning", "occurrence.rejected"),
        (concluded(Outcome.EXPIRED, Reason.NOT_STARTED), "warning", "occurrence.expired"),
        *(
            (concluded(Outcome.UNRESOLVED, reason), "error", "occurrence.unresolved")
            for reason in REASONS[Outcome.UNRESOLVED]
        ),
        (concluded(Outcome.SKIPPED, Reason.MISSED), "warning", "occurrence.skipped"),
        (concluded(Outcome.SKIPPED, Reason.OVERLAP), "info", "occurrence.skipped"),
        (attempt(AttemptResult.ANSWERED), "debug", "attempt.answered"),
        (attempt(AttemptResult.NOT_SENT), "warning", "attempt.failed"),
        (attempt(AttemptResult.THROTTLED), "warning", "attempt.failed"),
        (attempt(AttemptResult.UNKNOWN), "warning", "attempt.unknown"),
        (attempt(AttemptResult.REFUSED), "info", "attempt.failed"),
        (run_finished(RunStatus.SUCCESS), "info", "run.finished"),
        (run_finished(RunStatus.FAILED), "warning", "run.finished"),
        (run_finished(RunStatus.LOST), "warning", "run.finished"),
        (_foreign(beside=None), "warning", "run.foreign"),
        (_foreign(beside=NOW), "error", "run.foreign"),
        (
            AutomationsUnidentified(target="main", count=1, objects="object 1"),
            "warning",
            "automations.unidentified",
        ),
        (AutomationsUnidentified(target="main", count=0, objects=None), "info", "automations.unidentified"),
        (ConfigReloaded(error=None), "info", "config.reloaded"),
        (ConfigReloaded(error="unknown key"), "error", "config.reloaded"),
    ],
)
def test_what_needs_somebody_is_above_what_does_not(
    event: Event, level: str, name: str, tmp_path: Path
) -> None:
    assert [(line["level"], line["event"]) for line in narrated(tmp_path / "log", [event])] == [(level, name)]


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("automation.quarantined", "warning"),
        ("automations.disappeared", "warning"),
        ("list.disagreed", "warning"),
        ("list.agreed", "info"),
        ("run.foreign", "warning"),
        ("run.doubled", "error"),
        ("target.held", "error"),
        ("target.throttled", "warning"),
        ("target.released", "info"),
        ("target.saturated", "warning"),
        ("target.relieved", "info"),
        ("budget.exhausted", "warning"),
        ("budget.recovered", "info"),
        ("clock.jumped", "warning"),
        ("ledger.recovered", "info"),
        ("ledger.restored", "info"),
        ("wake.failed", "warning"),
        ("daemon.started", "info"),
        ("daemon.waiting", "warning"),
        ("daemon.stopped", "info"),
        ("stop.shortened", "warning"),
    ],
)
def test_the_level_of_the_rest(name: str, level: str, tmp_path: Path) -> None:
    lines = [line for line in narrated(tmp_path / "log", every_event()) if line["event"] == name]
    assert {line["level"] for line in lines} == {level}


def test_a_line_has_its_keys_in_their_order_with_the_node_at_the_end(tmp_path: Path) -> None:
    for line in narrated(tmp_path / "log", every_event()):
        keys = [key for key in line if key in IN_ORDER]
        assert keys == [key for key in IN_ORDER if key in line]
        assert list(line)[:3] == ["timestamp", "level", "event"]


def test_the_end_of_a_run_says_which_occurrence_started_it_and_how_long_it_took(tmp_path: Path) -> None:
    event = run_finished(RunStatus.FAILED, scheduled_for=NOW, duration=90.5, error="no such model")
    (line,) = narrated(tmp_path / "log", [event])
    shown = {key: line[key] for key in ("level", "scheduled_for", "status", "duration_seconds", "error")}
    assert shown == {
        "level": "warning",
        "scheduled_for": to_text_seconds(NOW),
        "status": "failed",
        "duration_seconds": 90.5,
        "error": "no such model",
    }


def test_an_accepted_occurrence_says_all_that_is_known_of_it(tmp_path: Path) -> None:
    event = concluded(attempts=1, lateness=0.0123456789, kind="on_time", run_id=RUN)
    assert narrated(tmp_path / "log", [event]) == [
        {
            "timestamp": "2026-11-23T19:20:00.000000Z",
            "level": "info",
            "event": "occurrence.accepted",
            "target": "main",
            "automation_id": ID,
            "automation": "nightly",
            "scheduled_for": "2026-11-23T19:20:00Z",
            "attempts": 1,
            "lateness_seconds": 0.012346,
            "task_run_id": RUN,
            "reason": "answered",
            "kind": "on_time",
            "node": "vm1",
        }
    ]


def test_what_is_not_known_or_goes_without_saying_is_left_out(tmp_path: Path) -> None:
    (line,) = narrated(tmp_path / "log", [concluded(Outcome.SKIPPED, Reason.OVERLAP)])
    assert set(line) == {
        "timestamp",
        "level",
        "event",
        "target",
        "automation_id",
        "automation",
        "scheduled_for",
        "reason",
        "node",
    }
    (line,) = narrated(tmp_path / "log", [concluded(Outcome.SKIPPED, Reason.MISSED, count=1440)])
    assert line["count"] == 1440


def test_instants_are_text_with_whole_seconds_for_what_was_scheduled(tmp_path: Path) -> None:
    of = {"target": "main", "automation_id": ID, "automation": "nightly"}
    later = NOW + timedelta(microseconds=5)
    doubled = RunDoubled(**of, run_id=RUN, started_at=later, scheduled_for=NOW, hint="raise settle_time")
    (line,) = narrated(tmp_path / "log", [doubled])
    assert (line["scheduled_for"], line["started_at"]) == (
        "2026-11-23T19:20:00Z",
        "2026-11-23T19:20:00.000005Z",
    )


@pytest.mark.parametrize("kind", [AutomationAdded, AutomationChanged])
def test_an_automation_without_a_usable_definition_has_its_line(
    kind: type[AutomationAdded | AutomationChanged], tmp_path: Path
) -> None:
    event = kind(target="main", automation_id=ID, automation="nightly", definition=None, effective_from=NOW)
    (line,) = narrated(tmp_path / "log", [event])
    assert line["automation"] == "nightly"
    assert not line.keys() & {"cron_expression", "timezone", "enabled"}


def test_a_definition_is_shown_by_its_parts(tmp_path: Path) -> None:
    definition = Definition("0 3 * * *", "Europe/Berlin", enabled=True)
    event = AutomationAdded(
        target="main", automation_id=ID, automation="nightly", definition=definition, effective_from=NOW
    )
    (line,) = narrated(tmp_path / "log", [event])
    assert (line["cron_expression"], line["timezone"], line["enabled"]) == (
        "0 3 * * *",
        "Europe/Berlin",
        True,
    )


def test_a_fault_of_the_daemon_comes_with_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lost its way") as raised:
        int("lost its way")
    (line,) = narrated(
        tmp_path / "log", [DeliveryFailed(occurrence=OCCURRENCE, automation="nightly", error=raised.value)]
    )
    assert line["error"].startswith("ValueError: invalid literal")
    assert "test_event_log.py" in line["exception"]


# ------------------------------------------------------------ news, and no news


def levels(lines: list[dict[str, Any]]) -> list[str]:
    return [line["level"] for line in lines]


def test_a_snapshot_is_news_when_it_is_the_first_or_good_again(tmp_path: Path) -> None:
    happened = [taken(), taken(), failed(first=True), taken(), taken()]
    assert levels(narrated(tmp_path / "log", happened)) == ["info", "debug", "warning", "info", "debug"]


def test_a_snapshot_that_disagreed_is_a_warning_until_it_is_no_news(tmp_path: Path) -> None:
    happened = [taken(), taken(incomplete=True), taken(incomplete=True), taken()]
    assert levels(narrated(tmp_path / "log", happened)) == ["info", "warning", "debug", "info"]


def test_a_failing_poll_is_news_when_it_begins_to_fail_or_fails_otherwise(tmp_path: Path) -> None:
    happened = [
        failed(first=True),
        failed(),
        failed("HTTP 401"),
        failed("HTTP 401"),
        failed(),
        failed("HTTP 500", first=True),
    ]
    assert levels(narrated(tmp_path / "log", happened)) == [
        "warning",
        "debug",
        "warning",
        "debug",
        "warning",
        "warning",
    ]


def test_what_is_no_news_of_one_target_may_be_of_another(tmp_path: Path) -> None:
    happened = [
        taken("a"),
        taken("b"),
        failed(target="a", first=True),
        failed(target="b", first=True),
        taken("a"),
    ]
    assert levels(narrated(tmp_path / "log", happened)) == ["info", "info", "warning", "warning", "info"]


def test_a_failing_ledger_is_an_error_once_for_each_cause(tmp_path: Path) -> None:
    def failing(error: str, *, first: bool = False) -> LedgerFailed:
        return LedgerFailed(operation="claim", error=error, first=first)

    happened = [
        failing("full", first=True),
        failing("full"),
        failing("locked"),
        LedgerRecovered(),
        failing("locked", first=True),
    ]
    assert levels(narrated(tmp_path / "log", happened)) == ["error", "debug", "error", "info", "error"]


# ------------------------------------------------------------ what must not be


def test_a_level_that_is_not_taken_is_not_logged_and_not_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepared(_: Event) -> dict[str, object]:
        raise AssertionError("nobody will see it")

    monkeypatch.setattr("scheduler.ops.event_log._make_keys", prepared)
    assert (
        narrated(tmp_path / "log", [OccurrenceClaimed(occurrence=OCCURRENCE, automation="a")], level="info")
        == []
    )


@pytest.mark.parametrize(
    "event",
    [
        replace(concluded(), automation=HOSTILE),
        replace(concluded(), run_id=HOSTILE),
        replace(concluded(), error=HOSTILE),
        replace(concluded(), occurrence=replace(OCCURRENCE, automation_id=HOSTILE)),
    ],
)
def test_no_value_can_begin_a_line_or_leave_its_key(event: Event, tmp_path: Path) -> None:
    (line,) = narrated(tmp_path / "log", [event])
    assert (line["level"], line["event"]) == ("info", "occurrence.accepted")
    assert HOSTILE in line.values()
    assert (tmp_path / "log").read_bytes().isascii()


def test_a_foreign_run_without_a_start_is_logged_all_the_same(tmp_path: Path) -> None:
    line = narrated(tmp_path / "log", [_foreign(beside=None)])[0]
    assert "started_at" not in line
    assert line["hint"] == "ask around"
