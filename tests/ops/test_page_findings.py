"""What is wrong and what to do: every trouble is named, the worst first, with the runbook's own words."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduler.core.model import Outcome, Reason, RunStatus
from scheduler.core.status import (
    NONE_FAILING,
    DaemonStatus,
    Disappearance,
    FailingAutomations,
    ForeignRunTally,
    Inconsistency,
    OperatorPause,
    OutcomeTally,
    PlacesStatus,
    RecentActivity,
)
from scheduler.ops.page.findings import ADVICE, BAD, NOTE, WARN, LedgerReading, PageFinding, list_findings
from tests.ops.support import EMPTY_TARGET, FAILED_RUN, ID, NOW, RUN, STATUS, TARGET, details, entry

RUNBOOK = (
    (Path(__file__).parents[2] / "docs" / "runbooks.md")
    .read_text()
    .partition("## Log events")[2]
    .partition("\n## ")[0]
)
WELL = replace(TARGET, overdue=[], overdue_count=0, automations={"enabled": 2})
SHORT = PlacesStatus(waiting=14, exhausted_since=NOW)
QUIET = RecentActivity(NOW - timedelta(days=1), complete=True, tallies=(), foreign=(), pauses=())


def found(
    status: DaemonStatus | None = None,
    recent: RecentActivity | None = QUIET,
    *,
    failing: FailingAutomations | None = NONE_FAILING,
    unreadable: str | None = None,
    **target: Any,
) -> list[PageFinding]:
    return list(
        list_findings(
            status or replace(STATUS, targets=[replace(WELL, **target)]),
            [],
            LedgerReading(recent, failing, unreadable),
        )
    )


def test_nothing_wrong_is_nothing_said() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "severity", "title"),
    [
        ({"lock_holder": "vm2"}, BAD, "Another daemon holds the ledger"),
        ({"ledger_error": "disk full"}, BAD, "The ledger cannot be written"),
        ({"clock_in_doubt": True}, BAD, "The clock is in doubt"),
        ({"stopping": True}, NOTE, "The daemon is stopping"),
    ],
)
def test_what_is_wrong_with_the_daemon_is_found(changes: Any, severity: str, title: str) -> None:
    assert [(each.severity, each.title) for each in found(replace(STATUS, targets=[WELL], **changes))] == [
        (severity, title)
    ]


@pytest.mark.parametrize(
    ("changes", "severity", "title"),
    [
        ({"held": "401"}, BAD, "Target main is held: nothing is sent to it"),
        ({"held": "401", "error": "401", "stale": True}, BAD, "Target main is held: nothing is sent to it"),
        ({"snapshot_at": None, "error": "HTTP 500"}, BAD, "Target main has never been read"),
        (
            {"stale": True, "error": "HTTP 500"},
            BAD,
            "Target main: its newest snapshot is too old to fire by",
        ),
        ({"error": "HTTP 500"}, WARN, "Target main cannot be read now"),
        (
            {"overdue": ["a 2026-11-23T18:20:00Z (waiting)"], "overdue_count": 1},
            BAD,
            "1 occurrence of target main overdue",
        ),
        ({"stalled_for": 15.0}, BAD, "Target main: planning has stopped although occurrences are due"),
        (
            {"places": PlacesStatus(hanging=256, saturated_since=NOW)},
            WARN,
            "Target main is saturated: 256 requests hang, as many as max_waiting allows",
        ),
        (
            {"throttled_until": NOW, "error": "HTTP 429"},
            WARN,
            "Target main waits until 2026-11-23T19:20:00Z: nothing is sent to it",
        ),
        (
            {"places": SHORT},
            WARN,
            "The request budget of target main is exhausted: occurrences or polls wait for it",
        ),
        (
            {"automations": {"invalid": 2}},
            WARN,
            "2 automations of target main cannot be evaluated and never fire",
        ),
        (
            {"unidentified": 1},
            WARN,
            "1 object in the list of target main cannot be identified and never fires",
        ),
        (
            {"inconsistent": Inconsistency(NOW, "its count is wrong")},
            WARN,
            "The list of target main cannot be trusted",
        ),
        (
            {"disappeared": Disappearance(NOW, 6, 10)},
            WARN,
            "6 of 10 automations of target main disappeared within an hour",
        ),
    ],
)
def test_what_is_wrong_with_a_target_is_found(changes: Any, severity: str, title: str) -> None:
    assert [(each.severity, each.title) for each in found(**changes)] == [(severity, title)]


def test_each_newest_finished_run_that_failed_or_was_lost_is_found_and_the_rest_is_counted() -> None:
    lost = replace(FAILED_RUN, name="weekly", status=RunStatus.LOST, failures=1, error=None)
    first, second, *_, rest = told = found(failing=FailingAutomations({"main": 7}, [FAILED_RUN, *[lost] * 6]))
    assert (len(told), {finding.severity for finding in told}) == (6, {BAD})
    assert (first.title, second.title) == (
        "The newest finished run of nightly failed",
        "The newest finished run of weekly was lost",
    )
    assert first.detail == "3 failures in a row, the newest 2026-11-23T19:18:00Z (2 min ago)."
    assert second.detail == "At 2026-11-23T19:18:00Z (2 min ago)."
    (item,) = first.items
    assert (item.text, item.more, item.link) == (
        f"run {RUN}",
        "exit status 3: no room",
        f"/automations/main/{ID}",
    )
    assert "`scheduler runs show RUN`" in first.advice
    assert (rest.title, rest.link) == (
        "The newest finished run of 2 more automations failed or was lost",
        "/automations?result=failing",
    )


def test_a_shortage_is_told_with_its_beginning_and_with_how_many_wait() -> None:
    (finding,) = found(places=SHORT)
    assert finding.detail == "Since 2026-11-23T19:20:00Z. 14 occurrences waiting now."


def test_objects_that_cannot_be_identified_are_named_as_far_as_they_are_known() -> None:
    (finding,) = found(
        unidentified=12,
        anonymous=[f"object {number} of the list: its id is not a UUID" for number in range(10)],
    )
    assert [each.text for each in finding.items] == [
        f"object {number} of the list: its id is not a UUID" for number in range(10)
    ]
    assert (finding.more, finding.advice) == (2, ADVICE["automations.unidentified"])


def test_a_target_that_has_only_just_begun_is_no_trouble() -> None:
    assert found(replace(STATUS, targets=[replace(EMPTY_TARGET)])) == []


@pytest.mark.parametrize(
    ("outcome", "reason", "severity", "says"),
    [
        (
            Outcome.UNRESOLVED,
            Reason.COVERED,
            BAD,
            "3 occurrences unresolved: nobody knows whether they started, and they are not sent again",
        ),
        (Outcome.REJECTED, Reason.REFUSED, WARN, "3 occurrences refused by the API for good"),
        (Outcome.EXPIRED, Reason.NOT_STARTED, WARN, "3 occurrences not started in time"),
        (Outcome.SKIPPED, Reason.MISSED, WARN, "3 occurrences missed"),
    ],
)
def test_outcomes_that_nobody_wanted_are_found_with_a_link_to_them(
    outcome: Outcome, reason: Reason, severity: str, says: str
) -> None:
    recent = replace(
        QUIET,
        tallies=[OutcomeTally("main", outcome, reason, 2, NOW), OutcomeTally("b", outcome, reason, 1, NOW)],
    )
    (finding,) = found(recent=recent)
    assert (finding.severity, finding.title) == (severity, says)
    assert finding.link == f"/occurrences?outcome={outcome}&since=2026-11-22T19%3A20%3A00Z"
    assert len(finding.items) == 2


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(Outcome.ACCEPTED, Reason.FOUND), (Outcome.SKIPPED, Reason.OVERLAP), (Outcome.SKIPPED, Reason.PAUSED)],
)
def test_outcomes_that_are_as_somebody_wanted_are_no_trouble(outcome: Outcome, reason: Reason) -> None:
    assert found(recent=replace(QUIET, tallies=[OutcomeTally("main", outcome, reason, 2, NOW)])) == []


def test_runs_of_others_and_late_doubles_are_told_apart() -> None:
    runs = [ForeignRunTally("main", ID, "a", 3, 1, NOW), ForeignRunTally("main", ID, "b", 1, 1, None)]
    double, foreign = found(recent=replace(QUIET, foreign=runs))
    assert (double.severity, double.title[:14], len(double.items)) == (BAD, "2 late doubles", 2)
    assert (foreign.severity, foreign.title, len(foreign.items)) == (
        WARN,
        "2 runs that this scheduler did not start",
        1,
    )


def test_pauses_are_told_last_so_that_nobody_forgets() -> None:
    pauses = [OperatorPause("main", ID, "a", NOW, "ada"), OperatorPause("main", None, "*", NOW, "ben")]
    told = found(recent=replace(QUIET, pauses=pauses), held="401")
    assert [(each.severity, each.title) for each in told] == [
        (BAD, "Target main is held: nothing is sent to it"),
        (NOTE, "All automations of target main are paused"),
        (NOTE, "1 automation paused by hand"),
    ]


def test_a_ledger_that_cannot_be_read_is_told_unless_something_else_says_why() -> None:
    assert [each.title for each in found(recent=None, unreadable="disk I/O error")] == [
        "The ledger cannot be read now"
    ]
    assert [each.title for each in found(replace(STATUS, targets=[]), None, unreadable="not open yet")] == []
    held = replace(STATUS, targets=[WELL], lock_holder="vm2")
    assert [each.title for each in found(held, None, unreadable="not open yet")] == [
        "Another daemon holds the ledger"
    ]


def test_no_more_are_named_than_anybody_reads_and_the_rest_is_counted() -> None:
    (overdue,) = found(overdue=[f"late {number}" for number in range(100)], overdue_count=5000)
    assert (len(overdue.items), overdue.more) == (10, 4990)
    invalid = [
        details(replace(entry(f"a{number}"), schedule=None, invalid="no such zone")) for number in range(12)
    ]
    (finding,) = list_findings(
        replace(STATUS, targets=[replace(WELL, automations={"invalid": 500})]), invalid, LedgerReading(QUIET)
    )
    assert (len(finding.items), finding.more, finding.link) == (
        10,
        490,
        "/automations?target=main&state=invalid",
    )


@pytest.mark.parametrize("event", ADVICE)
def test_the_advice_is_that_of_the_runbook(event: str) -> None:
    entries = re.findall(rf"^### {re.escape(event)}\n(.*?)(?=^### |\Z)", RUNBOOK, re.DOTALL | re.MULTILINE)
    told = [" ".join(entry.partition("- **Do.** ")[2].split()) for entry in entries]
    assert told == [f"{ADVICE[event][0].upper()}{ADVICE[event][1:]}."]
