"""Old rows go in small steps, and what is needed stays whatever its age."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from functools import partial

import pytest

from scheduler.core.instants import to_text
from scheduler.core.model import (
    AttemptResult,
    ClaimPlan,
    Outcome,
    Reason,
    RunOrigin,
    RunStatus,
    RunUpdate,
    SnapshotUpdate,
)
from scheduler.ledger import retention
from scheduler.ledger.operator_requests import Pause, announce_run, pause, resume
from scheduler.ledger.retention import prune
from scheduler.ledger.sqlite import SqliteLedger
from tests.database.support import Gate
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
    concluded,
    end,
    occurrence,
    removal,
    run,
    skip,
    version,
)


def _prune(on: Stand, before: datetime) -> int:
    return on.do(prune(on.database, before))


def _minutes(on: Stand) -> list[int]:
    return [minute for minute, _, _ in on.outcomes()]


def test_what_is_older_goes_with_all_that_belongs_to_it(ledger: Stand) -> None:
    verbs = ledger.ledger
    ledger.do(verbs.claim(MAIN, ClaimPlan([claim(1, first=attempt()), claim(5)], [skip(2), skip(6)], at(6))))
    ledger.do(verbs.conclude(occurrence(1), accepted("run-1"), end(result=AttemptResult.ANSWERED)))
    ledger.do(
        verbs.record_runs(
            MAIN, RunUpdate([(run("run-1", status=RunStatus.SUCCESS), RunOrigin.OCCURRENCE)], at(4))
        )
    )
    assert _prune(ledger, at(5)) == 3, "two occurrences and a run"
    assert _minutes(ledger) == [5, 6]
    assert ledger.rows("SELECT * FROM attempt") == []
    assert ledger.rows("SELECT * FROM run") == []
    assert _prune(ledger, at(5)) == 0


def test_open_occurrences_stay(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1, first=attempt()), claim(2)], [], at(2))))
    assert _prune(ledger, at(1000)) == 0
    assert len(ledger.do(ledger.ledger.read_open_occurrences(MAIN))) == 2


def test_a_span_goes_when_all_of_it_is_old(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(1, 2, 3)], at(3))))
    assert _prune(ledger, at(3)) == 0
    assert _prune(ledger, at(4)) == 1


def test_the_newest_finished_run_stays_beside_a_newer_run(ledger: Stand) -> None:
    shown = automation(run_id="newest")
    ledger.do(ledger.ledger.record_snapshot(MAIN, SnapshotUpdate(at(0), [version(shown)], [shown], [])))
    runs = [
        run("older", status=RunStatus.FAILED),
        run("finished", status=RunStatus.FAILED, minute=2),
        run("newest", minute=3),
    ]
    ledger.do(ledger.ledger.record_runs(MAIN, RunUpdate([(each, RunOrigin.FOREIGN) for each in runs], at(4))))
    assert _prune(ledger, at(1000)) == 1
    assert ledger.rows("SELECT run_id FROM run ORDER BY run_id") == [("finished",), ("newest",)]


def test_the_newest_run_stays_and_so_does_one_that_has_not_ended(ledger: Stand) -> None:
    shown = automation(run_id="newest")
    ledger.do(ledger.ledger.record_snapshot(MAIN, SnapshotUpdate(at(0), [version(shown)], [shown], [])))
    runs = [
        run("older", status=RunStatus.SUCCESS),
        run("newest", status=RunStatus.FAILED),
        run("running"),
        run("lost", HOURLY, RunStatus.LOST),
    ]
    ledger.do(ledger.ledger.record_runs(MAIN, RunUpdate([(each, RunOrigin.FOREIGN) for each in runs], at(4))))
    _prune(ledger, at(4))
    assert len(ledger.rows("SELECT * FROM run")) == 4
    _prune(ledger, at(5))
    assert ledger.rows("SELECT run_id FROM run ORDER BY run_id") == [("newest",), ("running",)]


def _versions(on: Stand) -> list[tuple[object, ...]]:
    return on.rows("SELECT cron_expression FROM definition ORDER BY id")


def _edited(on: Stand, *minutes: float) -> None:
    for minute in minutes:
        edited = automation(cron=f"{minute:.0f} * * * *")
        on.do(
            on.ledger.record_snapshot(
                MAIN, SnapshotUpdate(at(minute + 1), [version(edited, minute)], [edited], [])
            )
        )


def test_the_newest_definition_stays_and_older_ones_while_they_were_in_force(ledger: Stand) -> None:
    _edited(ledger, 0, 10, 20)
    _prune(ledger, at(10.5))
    assert _versions(ledger) == [("0 * * * *",), ("10 * * * *",), ("20 * * * *",)], (
        "the second was observed at 10.5"
    )
    _prune(ledger, at(11))
    assert _versions(ledger) == [("10 * * * *",), ("20 * * * *",)]
    _prune(ledger, at(1000))
    assert _versions(ledger) == [("20 * * * *",)]


def test_the_definition_that_says_that_an_automation_is_gone_stays(ledger: Stand) -> None:
    _edited(ledger, 0)
    ledger.do(
        ledger.ledger.record_snapshot(MAIN, SnapshotUpdate(at(5), [removal(automation(), 5)], [], [NIGHTLY]))
    )
    _prune(ledger, at(1000))
    assert ledger.rows("SELECT removed FROM definition") == [(1,)]


@pytest.mark.parametrize("minute", [5, 10])
def test_a_definition_stays_while_an_open_occurrence_comes_from_it(ledger: Stand, minute: int) -> None:
    _edited(ledger, 0, 10)
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(minute)], [], at(minute))))
    _prune(ledger, at(1000))
    assert len(_versions(ledger)) == 2
    ledger.do(ledger.ledger.conclude(occurrence(minute), concluded(Outcome.EXPIRED, Reason.NOT_STARTED)))
    _prune(ledger, at(1000))
    assert len(_versions(ledger)) == 1


def test_requests_by_hand_go_by_their_age(ledger: Stand) -> None:
    for minute in (1, 9):
        ledger.write(partial(announce_run, target=MAIN, automation_id=NIGHTLY, at=at(minute)))
    assert _prune(ledger, at(5)) == 1
    assert ledger.rows("SELECT requested_at FROM manual_run") == [("2026-11-23T12:09:00.000000Z",)]


def test_a_past_pause_goes_when_it_ended_long_ago_and_one_that_lasts_stays(ledger: Stand) -> None:
    for automation_id in (NIGHTLY, HOURLY):
        ledger.write(partial(pause, wanted=Pause(MAIN, automation_id, at(1), "ada")))
    ledger.write(partial(resume, target=MAIN, automation_id=NIGHTLY, at=at(5), by="bob"))
    assert _prune(ledger, at(5)) == 0
    assert _prune(ledger, at(6)) == 1
    assert ledger.rows("SELECT automation_id FROM pause") == [(HOURLY,)]


def test_the_policies_that_were_in_force_since_stay(ledger: Stand) -> None:
    assert isinstance(ledger.ledger, SqliteLedger)
    for minute in (1, 5, 9):
        ledger.do(
            ledger.ledger.record_policies(at(minute), schedule=f'{{"jitter": "{minute}s"}}', overrides="[]")
        )
    assert _prune(ledger, at(5)) == 0
    assert _prune(ledger, at(6)) == 1
    assert _prune(ledger, at(1000)) == 1
    assert ledger.rows("SELECT since FROM policy") == [("2026-11-23T12:09:00.000000Z",)]


def test_it_is_on_record_what_may_be_gone(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(3), skip(8)], at(9))))
    _prune(ledger, at(2))
    assert ledger.rows("SELECT before FROM pruned") == []
    for minute in (5, 4):
        _prune(ledger, at(minute))
        assert ledger.rows("SELECT before FROM pruned") == [("2026-11-23T12:05:00.000000Z",)]


class Counting:
    """A database that counts the steps of SQLite's machine for each slice that is read, on the connection
    that is for it.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.steps: list[int] = []

    async def read_in_background(self, query: Callable[[sqlite3.Connection], object]) -> object:
        self.steps.append(0)
        self._connection.set_progress_handler(self._count, 10)
        return query(self._connection)

    async def write(self, operation: Callable[[sqlite3.Connection], object]) -> object:
        self._connection.set_progress_handler(None, 0)
        return operation(self._connection)

    def _count(self) -> None:
        self.steps[-1] += 10


def _steps(on: Stand, versions: int) -> list[int]:
    """The steps of each slice, when one automation has so many versions, of which an open occurrence needs
    all.
    """
    with closing(sqlite3.connect(on.path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM definition")
        instants = [(to_text(at(minute)),) * 2 for minute in range(versions)]
        connection.execute("BEGIN")
        connection.executemany(
            f"{_INSERT_VERSION} VALUES ('main', 'a', 'n', '* * * * *', 'UTC', 1, ?, ?, 0, '6', '2026')",
            instants,
        )
        connection.execute("COMMIT")
        counting = Counting(connection)
        assert asyncio.run(prune(counting, at(versions + 10))) == 0  # type: ignore[arg-type]  # all that it asks for
        return counting.steps


_INSERT_VERSION = """
    INSERT INTO definition (target, automation_id, name, cron_expression, timezone, enabled, effective_from,
        observed_at, removed,
        croniter, tzdata)
"""


def test_twice_the_versions_cost_twice_the_steps_and_no_slice_costs_more(ledger: Stand) -> None:
    with closing(sqlite3.connect(ledger.path)) as connection, connection:
        values = "('main', 'a', '2026-11-23T11:00:00Z', '2026-11-23T11:00:00Z', 'n', 'd', 'n', 'waiting')"
        connection.execute(
            "INSERT INTO occurrence (target, automation_id, scheduled_for, last, name, due, node, "
            f"state) VALUES {values}"
        )
    few, many = _steps(ledger, 4_000), _steps(ledger, 8_000)
    assert sum(many) < 2.2 * sum(few)
    assert max(many) < 1.2 * max(few)


def test_much_is_removed_in_steps_that_let_others_through(
    ledger: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_SLICE", 10)
    ledger.do(
        ledger.ledger.claim(
            MAIN, ClaimPlan([], [skip(minute, reason=Reason.PAUSED) for minute in range(95)], at(95))
        )
    )
    removed: list[int] = []
    original = retention._delete_rows

    def counting(*args: object) -> int:
        removed.append(original(*args))  # type: ignore[arg-type]  # passed on as it came
        return removed[-1]

    monkeypatch.setattr(retention, "_delete_rows", counting)
    assert _prune(ledger, at(93)) == 93
    assert removed == [10] * 9 + [3]
    assert _minutes(ledger) == [93, 94]


def test_neither_maintenance_nor_the_overdue_check_reads_where_the_planner_does(ledger: Stand) -> None:
    """It would wait for them, and what is due with it."""

    async def main() -> None:
        gate = Gate()
        reading = asyncio.create_task(ledger.database.read(gate))
        await gate.entered()
        await prune(ledger.database, at(5))
        await ledger.ledger.find_missing(MAIN, [occurrence(1)])
        await ledger.ledger.read_late_occurrences(MAIN, at(5))
        gate.open()
        await reading

    ledger.do(main())
