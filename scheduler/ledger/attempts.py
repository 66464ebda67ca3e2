"""Attempts: written before their first byte, ended by a result, removed when never sent.

An attempt is *open* while it has no result. When the process died, nobody saw the end: the attempt gets the
result ``unknown`` and no ``ended_at``.

The functions for many items are operations for `Database.write_together`: a thousand items take as few
statements as a single item.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scheduler.core.model import Attempt, AttemptEnd, Occurrence, State
from scheduler.core.occurrence_log import Step, StepsByOccurrence
from scheduler.ledger import steps
from scheduler.ledger.sql_batch import (
    OCCURRENCE,
    Value,
    change_each,
    halve_on_contradiction,
    make_statement,
    pack_rows,
    to_identity,
)

ATTEMPT: Final = f"{OCCURRENCE}, number, written_at, baseline, clock_offset"
_ATTEMPT_END: Final = f"{OCCURRENCE}, state, number, result, ended_at, sent_at, http_status, error"

_BEGIN: Final = make_statement(
    ATTEMPT,
    """
    UPDATE occurrence SET state = 'in_flight', attempts = given.number
    FROM {given} WHERE {same} AND outcome IS NULL AND given.number IN (attempts, attempts + 1)
        AND given.number > 0
    """,
)

_OPEN_TO_UNKNOWN: Final = """
    attempt SET result = 'unknown', automation_id = given.automation_id FROM {given}, occurrence
    WHERE {same} AND attempt.occurrence_id = occurrence.id AND attempt.result IS NULL
"""
_CLOSE: Final = make_statement(OCCURRENCE, f"UPDATE {_OPEN_TO_UNKNOWN}")
_CLOSE_EARLIER: Final = make_statement(
    ATTEMPT, f"UPDATE {_OPEN_TO_UNKNOWN} AND attempt.number < given.number"
)

_WRITE: Final = make_statement(
    ATTEMPT,
    """
    INSERT INTO attempt (occurrence_id, number, written_at, baseline, clock_offset)
    SELECT occurrence.id, given.number, given.written_at, given.baseline, given.clock_offset
    FROM {given} CROSS JOIN occurrence WHERE {same}
    ON CONFLICT (occurrence_id, number) DO UPDATE
    SET written_at = excluded.written_at, baseline = excluded.baseline, clock_offset = excluded.clock_offset
    WHERE result IS NULL
    """,
)

_END: Final = make_statement(
    _ATTEMPT_END,
    """
    UPDATE attempt SET result = given.result, ended_at = given.ended_at, sent_at = given.sent_at,
        http_status = given.http_status, error = given.error,
        automation_id = iif(given.result = 'unknown', given.automation_id, NULL)
    FROM {given}, occurrence
    WHERE {same} AND attempt.occurrence_id = occurrence.id AND attempt.number = given.number
        AND attempt.result IS NULL
    """,
)

_GO_ON: Final = make_statement(
    _ATTEMPT_END,
    "UPDATE occurrence SET state = given.state, error = given.error FROM {given} WHERE {same} AND "
    "outcome IS NULL",
)

_WAIT: Final = make_statement(
    OCCURRENCE,
    "UPDATE occurrence SET state = 'waiting' FROM {given} WHERE {same} AND outcome IS NULL",
)

_REMOVE_OPEN: Final = make_statement(
    OCCURRENCE,
    """
    DELETE FROM attempt
    WHERE result IS NULL
        AND occurrence_id IN (SELECT occurrence.id FROM {given} CROSS JOIN occurrence WHERE {same})
    """,
)

_COUNT_AGAIN: Final = make_statement(
    OCCURRENCE,
    """
    UPDATE occurrence SET attempts = (SELECT coalesce(max(number), 0) FROM attempt
        WHERE occurrence_id = occurrence.id)
    FROM {given} WHERE {same}
    """,
)


@dataclass(frozen=True, slots=True)
class AttemptWrite:
    """An attempt about to be made, and the steps before the attempt."""

    occurrence: Occurrence
    attempt: Attempt
    steps: Sequence[Step] = ()


@dataclass(frozen=True, slots=True)
class AttemptEndWrite:
    """The end of an attempt, and the next state of the occurrence.

    ``state`` None: the attempt led to the outcome of the occurrence.
    """

    occurrence: Occurrence
    end: AttemptEnd
    state: State | None
    steps: Sequence[Step] = ()


@halve_on_contradiction
def write(connection: sqlite3.Connection, items: Sequence[AttemptWrite]) -> None:
    """Write attempts: for each occurrence the newest attempt again, or the next attempt.

    An earlier attempt still open gets the result ``unknown``: nobody saw the end.
    """
    rows = pack_rows([make_attempt_row(item.occurrence, item.attempt) for item in items])
    problem = "an attempt for an occurrence that is not open, or out of its turn"
    change_each(connection, _BEGIN, rows, items, problem)
    if any(item.attempt.number > 1 for item in items):
        connection.execute(_CLOSE_EARLIER, (rows,))
    change_each(connection, _WRITE, rows, items, "an attempt has ended and cannot be made again")
    steps.record(connection, [(item.occurrence, item.steps) for item in items])


def make_attempt_row(occurrence: Occurrence, attempt: Attempt) -> tuple[Value, ...]:
    """Make the row of an attempt, in the order of `ATTEMPT`."""
    values = attempt.number, attempt.written_at, attempt.baseline, attempt.clock_offset
    return (*to_identity(occurrence), *values)


@halve_on_contradiction
def end(connection: sqlite3.Connection, items: Sequence[AttemptEndWrite]) -> None:
    """End attempts, each once, and write the next state of the occurrences."""
    rows = end_attempts(connection, items)
    problem = "the attempt that ended belongs to an occurrence with an outcome"
    change_each(connection, _GO_ON, rows, items, problem)
    steps.record(connection, [(item.occurrence, item.steps) for item in items])


def end_attempts(connection: sqlite3.Connection, items: Sequence[AttemptEndWrite]) -> str:
    """End the attempts only, and return the packed rows of the ends."""
    rows = pack_rows([_make_end_row(item) for item in items])
    change_each(connection, _END, rows, items, "the attempt that ended was not open")
    return rows


def _make_end_row(item: AttemptEndWrite) -> tuple[Value, ...]:
    end = item.end
    values = end.number, end.result, end.ended_at, end.sent_at, end.http_status, end.error
    return (*to_identity(item.occurrence), item.state, *values)


@halve_on_contradiction
def resolve_not_started(connection: sqlite3.Connection, items: StepsByOccurrence) -> None:
    """Resolve the newest, unknown attempts of occurrences as "not started": the occurrences wait.

    The items are occurrences with their steps. An attempt keeps the result ``unknown``, because the result
    was unknown when the attempt ended.
    """
    rows = pack_rows([to_identity(occurrence) for occurrence, _ in items])
    close_open(connection, rows)
    change_each(connection, _WAIT, rows, items, "an occurrence that is not open cannot be resolved")
    steps.record(connection, items)


def discard(
    connection: sqlite3.Connection,
    occurrences: Sequence[Occurrence],
    steps_by_occurrence: StepsByOccurrence,
) -> None:
    """Remove the newest attempts, never sent, and write the steps: the occurrences wait.

    A repetition changes nothing.
    """
    rows = pack_rows([to_identity(occurrence) for occurrence in occurrences])
    remove_open(connection, rows)
    connection.execute(_WAIT, (rows,))
    steps.record(connection, steps_by_occurrence)


def close_open(connection: sqlite3.Connection, rows: str) -> None:
    """Give open attempts the result ``unknown``: nobody saw the end."""
    connection.execute(_CLOSE, (rows,))


def remove_open(connection: sqlite3.Connection, rows: str) -> None:
    """Remove attempts never sent, and count the remaining attempts."""
    if connection.execute(_REMOVE_OPEN, (rows,)).rowcount:
        connection.execute(_COUNT_AGAIN, (rows,))
