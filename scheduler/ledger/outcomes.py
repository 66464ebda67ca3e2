"""The single outcome of an occurrence, the run, and the removal of claims and outcomes."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from scheduler.core.instants import JUST_BEFORE, from_text
from scheduler.core.model import AttemptEnd, Conclusion, Occurrence, Outcome, Reason, Run, RunStatus
from scheduler.core.occurrence_log import Step
from scheduler.ledger import steps
from scheduler.ledger.attempts import AttemptEndWrite, close_open, end_attempts, remove_open
from scheduler.ledger.sql_batch import (
    OCCURRENCE,
    Contradiction,
    Value,
    change_each,
    halve_on_contradiction,
    make_statement,
    pack_rows,
    to_identity,
    to_text,
    to_text_seconds,
)

_CONCLUDE: Final = make_statement(
    f"{OCCURRENCE}, outcome, reason, finished_at, sent_at, lateness_seconds, task_run_id, error",
    """
    UPDATE occurrence SET state = NULL, outcome = given.outcome, reason = given.reason,
        finished_at = given.finished_at, sent_at = given.sent_at, lateness_seconds = given.lateness_seconds,
        task_run_id = given.task_run_id, error = given.error
    FROM {given} WHERE {same} AND occurrence.outcome IS NULL
    """,
)

_RUN: Final = f"{OCCURRENCE}, run_id, status, started_at, finished_at, error"

_ADOPT_RUNS: Final = make_statement(
    _RUN,
    """
    UPDATE run SET occurrence_id = occurrence.id, scheduled_for = occurrence.scheduled_for,
        origin = 'occurrence', doubles = NULL
    FROM {given} CROSS JOIN occurrence
    WHERE {same} AND run.target = given.target AND run.run_id = given.run_id AND run.origin = 'foreign'
    """,
)

_INSERT_RUNS: Final = make_statement(
    _RUN,
    """
    INSERT INTO run (target, run_id, automation_id, occurrence_id, scheduled_for, origin, status, started_at,
        finished_at, error)
    SELECT target, given.run_id, automation_id, occurrence.id, scheduled_for, 'occurrence', given.status,
        given.started_at, given.finished_at, given.error
    FROM {given} CROSS JOIN occurrence USING (scheduled_for, automation_id, target)
    WHERE true ON CONFLICT (target, run_id) DO NOTHING
    """,
)

_WITHDRAW: Final = make_statement(
    OCCURRENCE,
    """
    DELETE FROM occurrence WHERE outcome IS NULL
        AND id IN (SELECT occurrence.id FROM {given} CROSS JOIN occurrence WHERE {same})
        AND NOT EXISTS (SELECT 1 FROM attempt WHERE occurrence_id = occurrence.id AND result IS NOT NULL)
    """,
)

_STILL_THERE: Final = make_statement(
    OCCURRENCE, "SELECT count(*) FROM {given} CROSS JOIN occurrence WHERE {same}"
)

_RESTS_ON_NO_ATTEMPT: Final = "attempts = 0 AND outcome IN ('skipped', 'expired')"
_STRADDLING: Final = f"""
    FROM occurrence INDEXED BY occurrence_span_ends
    WHERE count > 1 AND last > ?2 AND target = ?1 AND scheduled_for <= ?2 AND {_RESTS_ON_NO_ATTEMPT}
        AND reason <> 'deleted'
"""
_EARLIEST_STRADDLING: Final = f"SELECT min(scheduled_for) {_STRADDLING}"
_DELETE_STRADDLING: Final = f"DELETE {_STRADDLING}"
_DELETE_AHEAD: Final = f"""
    DELETE FROM occurrence
    WHERE scheduled_for > ?2 AND target = ?1 AND {_RESTS_ON_NO_ATTEMPT} AND (reason <> 'deleted' OR EXISTS (
        SELECT 1 FROM automation
        WHERE target = ?1 AND automation_id = occurrence.automation_id AND removed_at IS NULL
    ))
"""  # noqa: S608 -- literals

_DEFINITIONS_IN_FORCE: Final = """
    UPDATE definition INDEXED BY definition_by_effect SET effective_from = ?2
    WHERE effective_from > ?2 AND target = ?1
"""
_AUTOMATIONS_IN_FORCE: Final = (
    "UPDATE automation SET effective_from = ?2 WHERE target = ?1 AND effective_from > ?2"
)

_NOTHING_STARTED: Final = frozenset({Outcome.SKIPPED, Outcome.EXPIRED})


class RunTaken(Contradiction):
    """The run is recorded already: for another occurrence, or with another origin."""


@dataclass(frozen=True, slots=True)
class ConclusionWrite:
    """An outcome for an open occurrence, with the end of the deciding attempt."""

    occurrence: Occurrence
    conclusion: Conclusion
    end: AttemptEnd | None
    steps: Sequence[Step] = ()


@halve_on_contradiction
def conclude(connection: sqlite3.Connection, items: Sequence[ConclusionWrite]) -> None:
    """Give each occurrence the outcome.

    Raises `Contradiction` for a second outcome: the first outcome stays. Raises `RunTaken` when the run is
    somebody else's. A run recorded as foreign becomes the run of an occurrence when ``found`` by a reading: a
    reading proves more than the order of discovery. An answer naming a foreign run does not assign the run:
    reconciling decides.
    """
    rows = pack_rows([_make_conclusion_row(item.occurrence, item.conclusion) for item in items])
    change_each(connection, _CONCLUDE, rows, items, "an outcome for an occurrence that is not open")
    _end_attempts(connection, items)
    _record_runs(connection, items)
    steps.record(connection, [(item.occurrence, item.steps) for item in items])


def _make_conclusion_row(occurrence: Occurrence, conclusion: Conclusion) -> tuple[Value, ...]:
    run_id = None if conclusion.run is None else conclusion.run.id
    outcome = conclusion.outcome, conclusion.reason, conclusion.at
    sending = conclusion.sent_at, conclusion.lateness
    return (*to_identity(occurrence), *outcome, *sending, run_id, conclusion.error)


def _end_attempts(connection: sqlite3.Connection, items: Sequence[ConclusionWrite]) -> None:
    """End the attempts of the outcomes.

    An open attempt without an end is removed when the occurrence started nothing: the attempt was never sent.
    Otherwise nobody saw the end, and the result is ``unknown``.
    """
    ends = [AttemptEndWrite(item.occurrence, item.end, None) for item in items if item.end is not None]
    if ends:
        end_attempts(connection, ends)
    endless = [item for item in items if item.end is None]
    unsent = [to_identity(item.occurrence) for item in endless if item.conclusion.outcome in _NOTHING_STARTED]
    unseen = [
        to_identity(item.occurrence) for item in endless if item.conclusion.outcome not in _NOTHING_STARTED
    ]
    if unsent:
        remove_open(connection, pack_rows(unsent))
    if unseen:
        close_open(connection, pack_rows(unseen))


def _record_runs(connection: sqlite3.Connection, items: Sequence[ConclusionWrite]) -> None:
    runs = [(item, run) for item in items if (run := item.conclusion.run) is not None]
    found_runs = [(item, run) for item, run in runs if _is_found_run(item)]
    recorded = 0
    for statement, wanted in ((_ADOPT_RUNS, found_runs), (_INSERT_RUNS, runs)):
        if wanted:
            rows = pack_rows([_make_run_row(item, run) for item, run in wanted])
            recorded += connection.execute(statement, (rows,)).rowcount
    if recorded != len(runs):
        raise RunTaken(f"a run belongs to another occurrence already: {items[0]}")


def _is_found_run(concluded: ConclusionWrite) -> bool:
    """Return whether the run was found by reading the automation.

    The reason of a backfill does not show how the run was found, but an answer comes with the end of an
    attempt.
    """
    return concluded.conclusion.reason is Reason.FOUND or (
        concluded.conclusion.reason is Reason.MANUAL and concluded.end is None
    )


def _make_run_row(concluded: ConclusionWrite, run: Run) -> tuple[Value, ...]:
    finished_at = None if run.status is RunStatus.RUNNING else concluded.conclusion.at
    return (*to_identity(concluded.occurrence), run.id, run.status, run.started_at, finished_at, run.error)


# ---------------------------------------------------------------- withdraw and rewind


def withdraw(connection: sqlite3.Connection, occurrences: Sequence[Occurrence]) -> None:
    """Remove open occurrences without an ended attempt. Occurrences without a row are ignored.

    Raises `Contradiction` for an occurrence that has an outcome, or an attempt with a result, even when the
    attempt started nothing: an occurrence keeps its row once a request was sent. The watermark goes back
    behind the occurrences.
    """
    rows = pack_rows([to_identity(occurrence) for occurrence in occurrences])
    connection.execute(_WITHDRAW, (rows,))
    (left,) = connection.execute(_STILL_THERE, (rows,)).fetchone()
    if left:
        raise Contradiction(f"{left} of these have had an attempt or have an outcome: {occurrences}")
    for target in {occurrence.target for occurrence in occurrences}:
        first = min(occurrence.scheduled_for for occurrence in occurrences if occurrence.target == target)
        _lower_watermark(connection, target, first - JUST_BEFORE)


def rewind(connection: sqlite3.Connection, target: str, now: datetime) -> None:
    """Remove the outcomes that lie ahead of ``now`` and rest on no attempt.

    The watermark goes back to ``now`` or before. A span that began before ``now`` and ends after ``now`` is
    removed whole, because here nobody can tell how many of its occurrences are ahead. The watermark then goes
    back behind the span. A span that was skipped as deleted stays. A row ahead of ``now`` that was skipped as
    deleted stays when its automation is gone: nothing would imply the occurrence again. While the automation
    exists, the row is removed: an edit took the occurrence back, and the edit may be undone before the
    instant comes again.

    Definition versions with effect ahead of ``now`` were seen while the clock was ahead: they are in force
    from ``now`` on. For the same reason, the snapshot counts as read at ``now``.
    """
    for statement in (_DEFINITIONS_IN_FORCE, _AUTOMATIONS_IN_FORCE):
        connection.execute(statement, (target, to_text(now)))
    connection.execute(
        "UPDATE target SET snapshot_at = min(snapshot_at, ?) WHERE name = ?", (to_text(now), target)
    )
    present = (target, to_text_seconds(now))
    (earliest,) = connection.execute(_EARLIEST_STRADDLING, present).fetchone()
    connection.execute(_DELETE_STRADDLING, present)
    connection.execute(_DELETE_AHEAD, present)
    _lower_watermark(connection, target, now if earliest is None else from_text(earliest) - JUST_BEFORE)


def _lower_watermark(connection: sqlite3.Connection, target: str, instant: datetime) -> None:
    connection.execute(
        "UPDATE target SET watermark = min(watermark, ?) WHERE name = ?", (to_text(instant), target)
    )
