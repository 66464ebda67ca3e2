"""The newest finished run of each automation."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

import pytest

from scheduler.core.model import AttemptResult, ClaimPlan, RunOrigin, RunStatus, RunUpdate, SnapshotUpdate
from scheduler.core.status import FailingAutomations, FinishedRun
from scheduler.ledger.finished_runs import (
    count_failed_runs,
    read_failing,
    read_failing_ids,
    read_finished_runs,
    read_last_line,
)
from scheduler.ledger.operator_requests import announce_run, record_started_run
from tests.ledger.support import (
    HOURLY,
    MAIN,
    NIGHTLY,
    Stand,
    accepted,
    at,
    attempt,
    automation,
    claim,
    end,
    occurrence,
    removal,
    run,
    version,
)

SUCCESS, FAILED, LOST, SUPERSEDED = RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.LOST, RunStatus.SUPERSEDED


def show(on: Stand, *automation_ids: str) -> None:
    """Record these automations."""
    shown = [automation(automation_id, f"automation {automation_id[-1]}") for automation_id in automation_ids]
    on.do(
        on.ledger.record_snapshot(MAIN, SnapshotUpdate(at(0), [version(each) for each in shown], shown, []))
    )


def follow(
    on: Stand,
    run_id: str,
    status: RunStatus,
    *,
    minute: float = 1,
    seen_at: float | None = None,
    automation_id: str = NIGHTLY,
    origin: RunOrigin = RunOrigin.FOREIGN,
) -> None:
    """Record what a reading shows of a run that began at ``minute``."""
    seen = at(minute + 0.5 if seen_at is None else seen_at)
    on.do(
        on.ledger.record_runs(
            MAIN, RunUpdate([(run(run_id, automation_id, status, minute=minute), origin)], seen)
        )
    )


def failing(on: Stand, most: int = 10) -> FailingAutomations:
    return on.do(on.database.browse(partial(read_failing, targets=[MAIN], most=most)))


def newest(on: Stand, automation_id: str = NIGHTLY) -> FinishedRun | None:
    found = on.do(
        on.database.browse(partial(read_finished_runs, automations=[(MAIN, automation_id), (MAIN, "nobody")]))
    )
    return found.get((MAIN, automation_id))


def in_a_row(on: Stand) -> tuple[str, int] | None:
    found = newest(on)
    return None if found is None else (found.run_id, found.failures)


def test_a_run_that_goes_on_is_no_finished_run(ledger: Stand) -> None:
    show(ledger, NIGHTLY)
    follow(ledger, "1", RunStatus.RUNNING)
    assert newest(ledger) is None
    assert failing(ledger) == FailingAutomations({}, [])


def test_failures_are_counted_until_a_run_succeeds(ledger: Stand) -> None:
    show(ledger, NIGHTLY)
    follow(ledger, "1", FAILED, minute=1)
    follow(ledger, "2", RunStatus.RUNNING, minute=2)
    assert in_a_row(ledger) == ("1", 1), "the result of the run before"
    follow(ledger, "2", LOST, minute=2, seen_at=3)
    expected = FinishedRun(MAIN, NIGHTLY, "automation a", "2", LOST, at(3), 2, None)
    assert failing(ledger) == FailingAutomations({MAIN: 1}, [expected])
    assert [
        ledger.do(ledger.database.read(partial(read_failing_ids, target=target)))
        for target in (MAIN, "other")
    ] == [[NIGHTLY], []]
    follow(ledger, "3", SUPERSEDED, minute=4)
    assert newest(ledger) == expected, "nobody knows how that one ended"
    follow(ledger, "4", SUCCESS, minute=5)
    assert in_a_row(ledger) == ("4", 0)
    assert failing(ledger) == FailingAutomations({}, [])


@pytest.mark.parametrize(("status", "failures"), [(FAILED, 2), (SUCCESS, 0)])
def test_the_end_of_a_lost_run_that_is_seen_after_all_is_no_further_run(
    ledger: Stand, status: RunStatus, failures: int
) -> None:
    show(ledger, NIGHTLY)
    follow(ledger, "1", FAILED, minute=1)
    follow(ledger, "2", LOST, minute=2)
    follow(ledger, "2", status, minute=2, seen_at=9)
    assert in_a_row(ledger) == ("2", failures)
    found = newest(ledger)
    assert found is not None
    assert (found.status, found.finished_at) == (status, at(9))


def test_a_run_that_began_before_the_newest_finished_run_changes_nothing(ledger: Stand) -> None:
    show(ledger, NIGHTLY)
    follow(ledger, "2", SUCCESS, minute=2)
    follow(ledger, "1", FAILED, minute=1, seen_at=3)
    assert in_a_row(ledger) == ("2", 0)


def test_a_run_that_was_there_before_finished_at_an_unknown_time_after_its_beginning(ledger: Stand) -> None:
    show(ledger, NIGHTLY)
    follow(ledger, "1", FAILED, minute=-600, seen_at=0, origin=RunOrigin.BEFORE)
    found = newest(ledger)
    assert found is not None
    assert (found.finished_at, found.failures) == (at(-600), 1)
    assert ended(ledger, at(-1000)) == {}


def test_runs_of_occurrences_and_runs_by_hand_count_alike(ledger: Stand) -> None:
    show(ledger, NIGHTLY)
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1, first=attempt())], [], at(1))))
    ledger.do(ledger.ledger.conclude(occurrence(1), accepted("1"), end(result=AttemptResult.ANSWERED)))
    follow(ledger, "1", FAILED, origin=RunOrigin.OCCURRENCE)
    assert in_a_row(ledger) == ("1", 1)

    def run_by_hand(connection: sqlite3.Connection) -> None:
        intent = announce_run(connection, MAIN, NIGHTLY, at(2))
        record_started_run(connection, intent, run("2", status=FAILED, minute=2), at(2.1))

    ledger.write(run_by_hand)
    assert in_a_row(ledger) == ("2", 2)
    assert ledger.rows("SELECT finished_at IS NULL FROM run WHERE run_id = '2'") == [(0,)]


def test_all_automations_that_fail_are_counted_and_the_newest_are_named(ledger: Stand) -> None:
    show(ledger, NIGHTLY, HOURLY)
    follow(ledger, "1", FAILED, minute=2, automation_id=HOURLY)
    follow(ledger, "2", FAILED, minute=1)
    found = failing(ledger, most=1)
    assert (found.counts, found.count) == ({MAIN: 2}, 2)
    assert [(each.name, each.error) for each in found.newest] == [("automation b", "it broke")]


def test_an_automation_that_is_gone_does_not_count(ledger: Stand) -> None:
    show(ledger, NIGHTLY)
    follow(ledger, "1", FAILED)
    gone = automation()
    ledger.do(ledger.ledger.record_snapshot(MAIN, SnapshotUpdate(at(5), [removal(gone, 5)], [], [gone.id])))
    assert failing(ledger) == FailingAutomations({}, [])


def test_an_automation_that_is_disabled_counts_again_when_it_is_enabled(ledger: Stand) -> None:
    show(ledger, NIGHTLY)
    follow(ledger, "1", FAILED)
    enabled = automation()
    disabled = replace(enabled, definition=replace(enabled.definition, enabled=False))
    for minute, shown, count in ((5, disabled, 0), (6, enabled, 1)):
        ledger.do(
            ledger.ledger.record_snapshot(
                MAIN, SnapshotUpdate(at(minute), [version(shown, minute)], [shown], [])
            )
        )
        assert failing(ledger).count == count
    assert in_a_row(ledger) == ("1", 1)


def test_a_target_that_is_not_asked_for_does_not_count(ledger: Stand) -> None:
    show(ledger, NIGHTLY)
    follow(ledger, "1", FAILED)
    found = ledger.do(ledger.database.browse(partial(read_failing, targets=["other"])))
    assert found == FailingAutomations({}, [])


def ended(on: Stand, since: datetime, most: int = 100) -> dict[RunStatus, int]:
    return dict(on.do(on.database.browse(partial(count_failed_runs, since=since, most=most))))


def test_failed_and_lost_runs_are_counted_by_when_their_end_was_seen(ledger: Stand) -> None:
    show(ledger, NIGHTLY, HOURLY)
    follow(ledger, "1", FAILED, minute=1)
    follow(ledger, "2", FAILED, minute=3)
    follow(ledger, "3", LOST, minute=4, automation_id=HOURLY)
    follow(ledger, "4", SUCCESS, minute=5)
    assert ended(ledger, at(0)) == {FAILED: 2, LOST: 1}
    assert ended(ledger, at(2)) == {FAILED: 1, LOST: 1}
    assert sum(ended(ledger, at(0), most=2).values()) == 2


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        ((), None),
        (["exit status 3"], "exit status 3"),
        (["Traceback", "ValueError: no ", "", "\t"], "ValueError: no"),
    ],
)
def test_of_a_long_error_the_last_line_says_most(lines: Sequence[str], last: str | None) -> None:
    assert read_last_line("\n".join(lines)) == last
