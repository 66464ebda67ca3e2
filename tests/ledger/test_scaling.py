"""What a write costs, in steps of SQLite's machine: ten times the change is at most twelve times the work,
whatever is stored.

Steps are counted and not seconds, so that no busy machine makes a test fail.
"""

import sqlite3
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import pytest

from scheduler.core.cron.schedule import Schedule
from scheduler.core.instants import to_text, to_text_seconds
from scheduler.core.model import (
    Automation,
    ClaimPlan,
    Definition,
    Reason,
    Run,
    RunOrigin,
    RunStatus,
    RunUpdate,
    SkippedSpan,
    SnapshotUpdate,
    State,
)
from scheduler.ledger import claims, snapshots
from scheduler.ledger.operator_requests import announce_run, find_manual_run, record_started_run
from tests import counting
from tests.ledger.support import (
    MAIN,
    Stand,
    at,
    attempt,
    automation,
    claim,
    end,
    occurrence,
    removal,
    run,
    skip,
    version,
)

FEW: Final = 100
MANY: Final = 10 * FEW


def ids(count: int) -> list[str]:
    return [f"0190e1a0-0000-7000-8000-{number:012x}" for number in range(count)]


def automations(count: int, name: str) -> list[Automation]:
    return [automation(automation_id, f"{name} {automation_id}") for automation_id in ids(count)]


def count_steps(ledger: Stand, operation: Callable[[sqlite3.Connection], object]) -> int:
    return ledger.write(lambda connection: counting.count_steps(connection, operation))


def observe(ledger: Stand, sighting: SnapshotUpdate) -> int:
    return count_steps(
        ledger,
        lambda connection: snapshots.record_snapshot(connection, MAIN, sighting, ("6.2.4", "2026.2")),
    )


def added(count: int) -> SnapshotUpdate:
    shown = automations(count, "first")
    return SnapshotUpdate(at(0), [version(each) for each in shown], shown, frozenset())


def edited(count: int) -> SnapshotUpdate:
    shown = automations(count, "second")
    return SnapshotUpdate(at(1), [version(each, 1) for each in shown], shown, frozenset())


def run_moved(count: int) -> SnapshotUpdate:
    return SnapshotUpdate(at(1), [], automations(count, "first"), frozenset())


def removed(count: int) -> SnapshotUpdate:
    return SnapshotUpdate(
        at(1), [removal(each, 1) for each in automations(count, "first")], [], frozenset(ids(count))
    )


def not_shown(count: int) -> SnapshotUpdate:
    return SnapshotUpdate(at(1), [], [], frozenset(), dict.fromkeys(ids(count), at(0)))


def test_a_first_snapshot_costs_as_much_as_it_has_automations(ledger: Stand) -> None:
    few = observe(ledger, added(FEW))
    assert FEW < few < observe(ledger, added(MANY)) <= 12 * few


@pytest.mark.parametrize("change", [edited, run_moved, removed, not_shown])
def test_a_poll_costs_as_much_as_it_changed(ledger: Stand, change: Callable[[int], SnapshotUpdate]) -> None:
    observe(ledger, added(FEW))
    few = observe(ledger, change(FEW))
    observe(ledger, added(MANY))
    assert FEW < few < observe(ledger, change(MANY)) <= 12 * few


def follow(ledger: Stand, runs: Sequence[Run]) -> int:
    records = [(each, RunOrigin.FOREIGN) for each in runs]
    return count_steps(
        ledger, lambda connection: snapshots.record_runs(connection, MAIN, RunUpdate(records, at(9), 0.0))
    )


def doubt(ledger: Stand, minute: int, automation_ids: Sequence[str]) -> None:
    """An attempt of unknown outcome for each automation."""
    ledger.do(
        ledger.ledger.claim(
            MAIN,
            ClaimPlan(
                [claim(minute, each, first=attempt(1, minute)) for each in automation_ids], [], at(minute)
            ),
        )
    )
    ledger.together(
        *[
            ledger.ledger.end_attempt(occurrence(minute, each), end(minute=minute), State.UNKNOWN)
            for each in automation_ids
        ]
    )


def test_foreign_runs_cost_as_much_as_there_are_whoever_is_in_doubt(ledger: Stand) -> None:
    doubt(ledger, 0, ids(FEW))
    few = follow(ledger, [run(f"few {each}", each, minute=5) for each in ids(FEW)])
    doubt(ledger, 1, ids(MANY))
    many = follow(ledger, [run(f"many {each}", each, minute=5) for each in ids(MANY)])
    assert FEW < few < many <= 12 * few


def test_a_foreign_run_costs_the_same_however_many_others_are_in_doubt(ledger: Stand) -> None:
    doubt(ledger, 0, ids(2))
    before = follow(ledger, [run("before", ids(1)[0], minute=5)])
    doubt(ledger, 1, ids(MANY)[1:])
    assert follow(ledger, [run("after", ids(1)[0], minute=5)]) <= 2 * before + counting.STEPS_BETWEEN_COUNTS


def test_a_manual_run_is_found_among_many(ledger: Stand) -> None:
    def request_runs(connection: sqlite3.Connection) -> None:
        for number in range(MANY):
            record_started_run(
                connection,
                announce_run(connection, MAIN, ids(1)[0], at(number)),
                run(f"by hand {number}", ids(1)[0]),
                at(number),
            )
        announce_run(connection, MAIN, ids(1)[0], at(MANY))

    def look(connection: sqlite3.Connection) -> None:
        told = Run(f"by hand {MANY // 2}", ids(1)[0], None, RunStatus.RUNNING)
        assert find_manual_run(connection, MAIN, told) == MANY // 2 + 1
        untold = Run("nobody told of", ids(1)[0], at(MANY), RunStatus.RUNNING)
        assert find_manual_run(connection, MAIN, untold) == MANY + 1

    ledger.write(request_runs)
    assert count_steps(ledger, look) < FEW


_ROWS_OF_ANOTHER: Final = """
    WITH RECURSIVE minute (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM minute WHERE number < 99),
        automation_of (id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM automation_of WHERE id < ?1 - 1)
    INSERT INTO occurrence (target, automation_id, scheduled_for, last, name, due, outcome, reason, node)
    SELECT 'other', hex(id), scheduled_for, scheduled_for, 'n', scheduled_for, 'accepted',
        'answered', 'node' FROM (
        SELECT strftime('%Y-%m-%dT%H:%M:%SZ', ?2, number || ' minutes') AS scheduled_for FROM minute
    ), automation_of
"""


def steps_among(ledger: Stand, others: int, plan: ClaimPlan) -> int:
    """What a plan costs while another target in the same ledger has a row for each of so many automations and
    each of 100 minutes.
    """
    ledger.write(
        lambda connection: connection.execute(
            "INSERT OR IGNORE INTO target (name, url, project_id) VALUES ('other', 'u', 'p')"
        )
    )
    ledger.write(lambda connection: connection.execute("DELETE FROM occurrence"))
    ledger.write(lambda connection: connection.execute(_ROWS_OF_ANOTHER, (others, to_text_seconds(at(0)))))
    return count_steps(ledger, lambda connection: claims.claim(connection, MAIN, plan, "node"))


def test_a_slice_of_a_recovery_does_not_go_through_what_other_targets_have(
    ledger: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One target is down for days, and another one in the same ledger is busy all the time."""
    monkeypatch.setattr(claims, "_MANY_ROWS", FEW)
    schedule = Schedule.parse("* * * * *", "UTC")
    of = occurrence(0)
    wanted = SkippedSpan(
        of, "n", at(0), Definition("* * * * *", "UTC", True), schedule, at(99), 100, Reason.MISSED, at(200)
    )

    def recover(others: int) -> int:
        steps = steps_among(ledger, others, ClaimPlan([], [], at(0), [wanted]))
        assert ledger.rows("SELECT count(*) FROM occurrence WHERE target = 'main' AND count = 100") == [(1,)]
        return steps

    few = recover(10)
    assert few > 100
    assert recover(100) <= 1.2 * few


def test_the_version_that_implied_a_span_is_found_among_many(ledger: Stand) -> None:
    """It may be the oldest: of an automation that is edited each hour, what the first version implied is
    decided last.
    """
    schedule, first = Schedule.parse("* * * * *", "UTC"), automation(ids(1)[0], cron="* * * * *")
    wanted = SkippedSpan(
        occurrence(0, first.id), "n", at(0), first.definition, schedule, at(99), 100, Reason.MISSED, at(200)
    )

    def decide(versions: int) -> int:
        ledger.write(lambda connection: connection.execute("DELETE FROM occurrence"))
        edits = [
            version(automation(first.id, cron=f"{number % 60} * * * *"), number) for number in range(versions)
        ]
        observe(ledger, SnapshotUpdate(at(0), [version(first), *edits], [], frozenset()))
        steps = count_steps(
            ledger,
            lambda connection: claims.claim(connection, MAIN, ClaimPlan([], [], at(0), [wanted]), "node"),
        )
        assert ledger.rows("SELECT count(*) FROM occurrence WHERE definition_id IS NOT NULL") == [(1,)]
        return steps

    few = decide(10)
    assert decide(1000) <= 2 * few


def test_what_is_passed_over_with_the_present_does_not_go_through_what_other_targets_have(
    ledger: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_MANY_ROWS", FEW)
    monkeypatch.setattr(claims, "_ROWS_FOR_A_CHANGE", 10)
    plan = ClaimPlan(
        [], [skip(0, 40, 41, 99, automation_id="0"), skip(1, 98, automation_id="z")], at(0)
    )  # before and behind all others

    def pass_over(others: int) -> int:
        steps = steps_among(ledger, others, plan)
        made = ledger.rows(
            "SELECT automation_id, sum(count) FROM occurrence WHERE target = 'main' GROUP BY "
            "automation_id ORDER BY 1"
        )
        assert made == [("0", 4), ("z", 2)]
        return steps

    few = pass_over(10)
    assert few > 100
    assert pass_over(100) <= 1.2 * few


@pytest.mark.parametrize("most", [0, 20_000], ids=["among many rows", "among few rows"])
def test_no_span_of_the_present_lies_over_another_row(
    ledger: Stand, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(claims, "_MANY_ROWS", most)
    monkeypatch.setattr(claims, "_ROWS_FOR_A_CHANGE", 0)
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(20), claim(41)], [skip(60, 61, 62)], at(62))))
    skipped = skip(0, 10, 11, 12, 40, 41, 42, 61, 70, 71)
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skipped], at(71))))
    rows = [
        (str(first), str(last), int(str(count)))
        for first, last, count in ledger.rows(
            "SELECT scheduled_for, last, count FROM occurrence ORDER BY scheduled_for"
        )
    ]
    assert all(one[1] < following[0] for one, following in pairwise(rows)), rows
    assert sum(count for _, _, count in rows) == 2 + 3 + 8


# ---------------------------------------------------------------- one automation with a long history

_LATER_SPANS: Final = """
    WITH RECURSIVE hour (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM hour WHERE number < ?3)
    INSERT INTO occurrence (target, automation_id, scheduled_for, last, count, intervals, name, due,
        outcome, reason, node)
    SELECT ?1, ?2, since, strftime('%Y-%m-%dT%H:%M:%SZ', since, '2 minutes'), 3, '[[60,2]]', 'n', since,
        'skipped', 'missed', 'node' FROM (
        SELECT strftime('%Y-%m-%dT%H:%M:%SZ', ?4, number || ' hours') AS since FROM hour
    )
"""


def test_an_instant_is_looked_for_in_one_span_however_many_come_later(ledger: Stand) -> None:
    def steps_of_both(minute: int) -> tuple[int, int]:
        plan = ClaimPlan([claim(minute)], [], at(0))
        return (
            count_steps(
                ledger, lambda connection: claims.find_missing(connection, MAIN, [occurrence(minute)])
            ),
            count_steps(ledger, lambda connection: claims.claim(connection, MAIN, plan, "node")),
        )

    alone = steps_of_both(0)
    bounds = (occurrence(0).automation_id, MANY, to_text_seconds(at(0)))
    ledger.write(lambda connection: connection.execute(_LATER_SPANS, (MAIN, *bounds)))
    for few, many in zip(alone, steps_of_both(1), strict=True):
        assert few < MANY
        assert many <= few + FEW


_VERSIONS: Final = """
    WITH RECURSIVE version (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM version WHERE number < ?2)
    INSERT INTO definition (target, automation_id, name, effective_from, observed_at, removed,
        croniter, tzdata)
    SELECT ?1, 'one', 'n', ?3, strftime('%Y-%m-%dT%H:%M:%fZ', ?3, number || ' minutes'), 0, '6',
        '2026' FROM version
"""
_REMOVED: Final = (
    "INSERT INTO automation (target, automation_id, name, effective_from, removed_at) VALUES (?1, 'one', "
    "'n', ?2, ?2)"
)


def test_a_removal_is_recalled_without_the_versions_after_the_first(ledger: Stand) -> None:
    def recall(connection: sqlite3.Connection) -> None:
        (removal,) = snapshots._read_recent_removals(connection, MAIN, at(0))
        assert removal.added_at == at(1)

    ledger.write(lambda connection: connection.execute(_REMOVED, (MAIN, to_text(at(5)))))
    ledger.write(lambda connection: connection.execute(_VERSIONS, (MAIN, MANY, to_text(at(0)))))
    assert count_steps(ledger, recall) < FEW
