"""What people read of the ledger."""

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scheduler.core.model import (
    AttemptResult,
    ClaimPlan,
    Occurrence,
    Outcome,
    Reason,
    RunOrigin,
    RunStatus,
    RunUpdate,
    SnapshotUpdate,
    State,
)
from scheduler.core.occurrence_log import Cause
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.core.status import WaitStatus
from scheduler.ledger import history, not_due_lines
from scheduler.ledger.history import LastTimes, Line
from scheduler.ledger.schema import open_for_reading
from scheduler.ledger.targets import read_targets
from tests.counting import count_steps
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
    run,
    skip,
    stand,
    version,
)


@pytest.fixture(scope="module")
def filled() -> Iterator[Stand]:
    """Of the nightly one, 1 accepted, 2 open, 3 to 6 missed, 8 paused; of the hourly one, 4 accepted, 5 open;
    elsewhere, 4 missed.
    """
    with tempfile.TemporaryDirectory() as folder, stand(Path(folder) / "ledger.db") as on:
        verbs, renamed = on.ledger, automation(HOURLY, "hourly [eu]")
        both = [automation(), renamed]
        on.do(verbs.record_snapshot(MAIN, SnapshotUpdate(at(0), [version(each) for each in both], both, [])))
        on.do(verbs.bind("other", "https://eu.posthog.com", "1"))
        nightly = [claim(1, first=attempt()), claim(2)]
        hourly = [
            claim(4, HOURLY, name="hourly", first=attempt()),
            claim(5, HOURLY, name="hourly", first=attempt()),
        ]
        on.do(
            verbs.claim(
                MAIN, ClaimPlan(nightly + hourly, [skip(3, 4, 5, 6), skip(8, reason=Reason.PAUSED)], at(8))
            )
        )
        on.do(verbs.conclude(occurrence(1), accepted("run-1"), end(result=AttemptResult.ANSWERED)))
        on.do(
            verbs.conclude(
                occurrence(4, HOURLY),
                accepted("run-4", automation_id=HOURLY, minute=4),
                end(result=AttemptResult.ANSWERED),
            )
        )
        on.do(
            verbs.record_runs(
                MAIN, RunUpdate([(run("run-4", HOURLY, RunStatus.SUCCESS), RunOrigin.OCCURRENCE)], at(7))
            )
        )
        on.do(
            verbs.claim(
                "other",
                ClaimPlan([], [replace(skip(4), occurrence=Occurrence("other", NIGHTLY, at(4)))], at(8)),
            )
        )
        yield on


def _names(on: Stand, **selection: object) -> list[str]:
    """Each line as its name's first letter and its minute: n1, and o4 for the other target's."""
    return [
        ("o" if line["target"] == "other" else str(line["name"])[0]) + str(line["scheduled_for"])[15:16]
        for line in on.lines(**selection)
    ]


_ALL = ["n1", "n2", "n3", "o4", "h4", "h5", "n8"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, _ALL),
        ({"target": "other"}, ["o4"]),
        ({"target": "nobody"}, []),
        ({"automation": HOURLY}, ["h4", "h5"]),
        ({"automation": HOURLY.replace("-", "").upper()}, ["h4", "h5"]),
        ({"automation": "nightly report", "target": "main"}, ["n1", "n2", "n3", "n8"]),
        ({"automation": "night*", "target": "main"}, ["n1", "n2", "n3", "n8"]),
        ({"automation": "[!n]*"}, ["h4", "h5"]),
        ({"automation": "hourly"}, ["h4", "h5"]),
        ({"automation": "hourly [eu]"}, ["h4", "h5"]),
        ({"automation": "weekly"}, []),
        ({"outcome": Outcome.ACCEPTED}, ["n1", "h4"]),
        ({"outcome": Outcome.SKIPPED}, ["n3", "o4", "n8"]),
        ({"outcome": Outcome.EXPIRED}, []),
        ({"only_open": True}, ["n2", "h5"]),
        ({"run_status": RunStatus.RUNNING}, ["n1"]),
        ({"run_status": RunStatus.SUCCESS}, ["h4"]),
        ({"run_status": RunStatus.SUCCESS, "automation": "night*"}, []),
        ({"run_status": RunStatus.FAILED}, []),
        ({"run_status": RunStatus.RUNNING, "since": at(1), "until": at(2), "target": "main"}, ["n1"]),
        ({"run_status": RunStatus.RUNNING, "since": at(2)}, []),
        ({"run_status": RunStatus.RUNNING, "until": at(1)}, []),
        ({"run_status": RunStatus.RUNNING, "automation": HOURLY}, []),
        ({"since": at(4)}, ["n3", "o4", "h4", "h5", "n8"]),
        ({"since": at(6)}, ["n3", "n8"]),
        ({"since": at(6.01)}, ["n8"]),
        ({"since": at(9)}, []),
        ({"until": at(4)}, ["n1", "n2", "n3"]),
        ({"until": at(4.01)}, ["n1", "n2", "n3", "o4", "h4"]),
        ({"since": at(2), "until": at(5), "automation": "n*", "only_open": True}, ["n2"]),
    ],
)
def test_a_selection_shows_what_it_says(
    filled: Stand, selection: dict[str, object], expected: list[str]
) -> None:
    assert _names(filled, **selection) == expected


def test_the_newest_come_first_a_page_at_a_time(filled: Stand) -> None:
    def page(offset: int) -> list[object]:
        wanted = OccurrenceQuery(limit=3, offset=offset)
        lines = filled.do(
            filled.database.read(lambda connection: history.read_occurrences(connection, wanted))
        )
        return [line["scheduled_for"] for line in lines]

    newest_first = [line["scheduled_for"] for line in reversed(filled.lines())]
    assert page(0) + page(3) + page(6) == newest_first
    assert page(7) == []


def test_what_waits_for_its_due_time_has_its_place_among_the_others(filled: Stand) -> None:
    """Page by page and of any size, as if it had rows."""
    later = [
        WaitStatus(HOURLY, "hourly", at(minute), at(minute + 3), Cause.DUE, at(minute))
        for minute in (2, 6, 8, 9)
    ]
    derived = [not_due_lines.make_line(MAIN, wait) for wait in later]

    def page(**selection: Any) -> list[Line]:
        wanted = OccurrenceQuery(**selection)
        return filled.do(
            filled.database.read(
                lambda connection: not_due_lines.select_with_derived(connection, wanted, derived)
            )
        )

    everything = page()
    assert [str(line["scheduled_for"])[15] for line in everything] == list("98865443221")
    keys = [(line["scheduled_for"], line["automation_id"], line["target"]) for line in everything]
    assert keys == sorted(keys, reverse=True)
    assert len(everything) == len(filled.lines()) + 4
    for size in (1, 2, 3, 5):
        pages = [page(limit=size, offset=offset) for offset in range(0, len(everything) + 3 * size, size)]
        assert [line for lines in pages for line in lines] == everything
    assert {frozenset(line) - {"state"} for line in everything} == {
        frozenset(everything[0]) - {"state"}
    }  # the same keys for each
    assert [str(line["scheduled_for"])[15] for line in page(since=at(5), until=at(9), only_open=True)] == [
        "8",
        "6",
        "5",
    ]
    assert page(outcome=Outcome.ACCEPTED, target=MAIN) == [
        line for line in everything if line["outcome"] == "accepted"
    ]
    assert len(page(target="other")) == 1


def test_an_open_occurrence_has_a_state_and_no_outcome(filled: Stand) -> None:
    lines = filled.lines(only_open=True)
    assert [(line["outcome"], line["state"]) for line in lines] == [(None, "waiting"), (None, "claimed")]
    assert all("state" not in line for line in filled.lines(outcome=Outcome.ACCEPTED))


def test_a_span_is_one_line_with_its_count(filled: Stand) -> None:
    assert [
        (line["count"], line["reason"], line["claimed_at"], line["attempts"])
        for line in filled.lines(since=at(6), until=at(7))
    ] == [(4, "missed", None, 0)]


def test_a_line_shows_what_became_of_the_run(filled: Stand) -> None:
    assert [(line["task_run_id"], line["run_status"]) for line in filled.lines(outcome=Outcome.ACCEPTED)] == [
        ("run-1", "running"),
        ("run-4", "success"),
    ]


def test_a_command_reads_the_same_beside_the_daemon(filled: Stand) -> None:
    with closing(open_for_reading(filled.path)) as connection:
        assert history.read_occurrences(connection, OccurrenceQuery(oldest_first=True)) == filled.lines()
        assert [(each.name, each.snapshot_at) for each in read_targets(connection)] == [
            ("main", at(0)),
            ("other", None),
        ]


def test_when_each_automation_last_did_well_is_known(filled: Stand) -> None:
    assert filled.do(filled.database.read(lambda connection: history.read_last_times(connection, MAIN))) == {
        NIGHTLY: LastTimes(at(1), None),
        HOURLY: LastTimes(at(4), at(7)),
    }


def test_it_is_known_by_one_row_for_each_automation(filled: Stand) -> None:
    """However long the history is: a start must not go through it."""

    def plan(connection: sqlite3.Connection) -> list[str]:
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {history._LAST_TIMES}", (MAIN,))]

    assert filled.do(filled.database.read(plan)) == ["SEARCH automation USING PRIMARY KEY (target=?)"]


def test_an_older_time_does_not_replace_a_newer_one(ledger: Stand) -> None:
    verbs, shown = ledger.ledger, automation()
    ledger.do(verbs.record_snapshot(MAIN, SnapshotUpdate(at(0), [version(shown)], [shown], [])))
    ledger.do(verbs.claim(MAIN, ClaimPlan([claim(minute, first=attempt()) for minute in (3, 1)], [], at(8))))
    for minute, seen_at in ((3, 9), (1, 7)):
        ended = end(result=AttemptResult.ANSWERED)
        ledger.do(verbs.conclude(occurrence(minute), accepted(f"run-{minute}", minute=minute), ended))
        ledger.do(
            verbs.record_runs(
                MAIN,
                RunUpdate(
                    [(run(f"run-{minute}", status=RunStatus.SUCCESS), RunOrigin.OCCURRENCE)], at(seen_at)
                ),
            )
        )
    assert ledger.do(ledger.database.read(lambda connection: history.read_last_times(connection, MAIN))) == {
        NIGHTLY: LastTimes(at(3), at(9))
    }


_ACCEPT_MANY = """
    INSERT INTO occurrence (target, automation_id, scheduled_for, last, name, due, outcome, reason,
        task_run_id, node)
    SELECT 'main', 'a', strftime('%Y-%m-%dT%H:%M:%SZ', 1.8e9 + 60 * key, 'unixepoch'),
        strftime('%Y-%m-%dT%H:%M:%SZ', 1.8e9 + 60 * key,
        'unixepoch'), 'nightly', 'd', 'accepted', 'answered', 'run-' || key, 'n'
    FROM json_each(?)
"""
_RUN_MANY = """
    INSERT INTO run (target, run_id, automation_id, occurrence_id, scheduled_for, origin, status)
    SELECT target, task_run_id, automation_id, id, scheduled_for, 'occurrence',
        iif(task_run_id = 'run-0', 'lost', ?)
    FROM occurrence WHERE node = 'n'
"""
_END_OTHERWISE = (
    "UPDATE occurrence SET outcome = ?, reason = ?, state = ?, task_run_id = NULL WHERE node = 'n' AND "
    "task_run_id {} 'run-0'"
)
ACCEPTED = (Outcome.ACCEPTED, Reason.ANSWERED, None)
SKIPPED = (Outcome.SKIPPED, Reason.PAUSED, None)
REJECTED = (Outcome.REJECTED, Reason.REFUSED, None)
OPEN = (None, None, State.WAITING)
Ended = tuple[Outcome | None, Reason | None, State | None]


def _count_steps(on: Stand, wanted: OccurrenceQuery) -> int:
    return on.do(
        on.database.read(
            lambda connection: count_steps(connection, lambda each: history.read_occurrences(each, wanted))
        )
    )


@pytest.mark.parametrize(
    ("others", "wanted"),
    [
        (RunStatus.SUCCESS, OccurrenceQuery(run_status=RunStatus.LOST)),
        (RunStatus.FAILED, OccurrenceQuery(run_status=RunStatus.LOST)),
        (RunStatus.FAILED, OccurrenceQuery(run_status=RunStatus.FAILED, limit=5)),
        (
            RunStatus.FAILED,
            OccurrenceQuery(run_status=RunStatus.FAILED, since=datetime(2027, 6, 1, tzinfo=UTC)),
        ),
        (RunStatus.FAILED, OccurrenceQuery(run_status=RunStatus.SUCCESS)),
        (RunStatus.SUCCESS, OccurrenceQuery(run_status=RunStatus.SUCCESS, outcome=Outcome.REJECTED)),
        (RunStatus.SUCCESS, OccurrenceQuery(run_status=RunStatus.SUCCESS, only_open=True)),
    ],
)
def test_runs_of_a_status_are_found_as_fast_in_a_long_history_as_in_a_short_one(
    tmp_path: Path, others: RunStatus, wanted: OccurrenceQuery
) -> None:
    """The oldest run was lost, and all others came to ``others``."""

    def count(runs: int) -> int:
        with stand(tmp_path / f"{runs}.db") as on:
            on.write(
                lambda connection: connection.execute(_ACCEPT_MANY, (json.dumps([0] * (runs + 1)),)).rowcount
            )
            on.write(lambda connection: connection.execute(_RUN_MANY, (others,)).rowcount)
            return _count_steps(on, wanted)

    assert count(2_000) <= count(10) * 1.2


@pytest.mark.parametrize(
    ("oldest", "others", "wanted"),
    [
        (REJECTED, ACCEPTED, OccurrenceQuery(outcome=Outcome.REJECTED)),
        (ACCEPTED, SKIPPED, OccurrenceQuery(outcome=Outcome.ACCEPTED, target="main")),
        (
            REJECTED,
            ACCEPTED,
            OccurrenceQuery(outcome=Outcome.REJECTED, automation="night*", oldest_first=True),
        ),
        (
            REJECTED,
            ACCEPTED,
            OccurrenceQuery(outcome=Outcome.REJECTED, until=datetime(2027, 6, 1, tzinfo=UTC)),
        ),
        (
            ACCEPTED,
            SKIPPED,
            OccurrenceQuery(outcome=Outcome.SKIPPED, since=datetime(2027, 1, 1, tzinfo=UTC), limit=5),
        ),
        (OPEN, ACCEPTED, OccurrenceQuery(only_open=True)),
        (OPEN, SKIPPED, OccurrenceQuery(only_open=True, target="main")),
    ],
)
def test_an_outcome_is_found_as_fast_in_a_long_history_as_in_a_short_one(
    tmp_path: Path, oldest: Ended, others: Ended, wanted: OccurrenceQuery
) -> None:
    def count(occurrences: int) -> int:
        with stand(tmp_path / f"{occurrences}.db") as on:
            on.write(
                lambda connection: (
                    connection.execute(_ACCEPT_MANY, (json.dumps([0] * (occurrences + 1)),)).rowcount
                )
            )
            on.write(lambda connection: connection.execute(_END_OTHERWISE.format("<>"), others).rowcount)
            on.write(lambda connection: connection.execute(_END_OTHERWISE.format("="), oldest).rowcount)
            lines = on.do(on.database.read(lambda connection: history.read_occurrences(connection, wanted)))
            assert {line["outcome"] for line in lines} == {wanted.outcome}
            return _count_steps(on, wanted)

    assert count(2_000) <= count(10) * 1.2


def test_a_run_that_was_foreign_is_found_by_its_status_once_it_is_an_occurrence_s(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1, first=attempt())], [], at(1))))
    ledger.do(
        ledger.ledger.record_runs(
            MAIN, RunUpdate([(run("run-1", status=RunStatus.FAILED), RunOrigin.FOREIGN)], at(2))
        )
    )
    assert ledger.lines(run_status=RunStatus.FAILED) == []
    assert ledger.do(ledger.ledger.conclude(occurrence(1), accepted("run-1", Reason.FOUND)))
    found = ledger.lines(run_status=RunStatus.FAILED, since=at(1), until=at(2))
    assert [(line["task_run_id"], line["error"]) for line in found] == [("run-1", "it broke")]
