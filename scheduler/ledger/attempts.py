"""Attempts: written before their first byte, ended by a result, removed when never sent.

An attempt is *open* while it has no result. When the process died, nobody saw the end: the attempt gets the
result ``unknown`` and no ``ended_at``.

The functions for many items are for `Database.write_together`, by way of `halve_on_contradiction`: a thousand
items take as few statements as a single item.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scheduler.core.model import Attempt, AttemptEnd, Occurrence, State
from scheduler.core.occurrence_log import Step
from scheduler.ledger import steps
from scheduler.ledger.sql_batch import (
    Contradiction,
    Value,
    make_statement,
    pack_rows,
    to_identity,
    to_optional_text,
    to_text,
)

_ATTEMPT: Final = "target, automation_id, scheduled_for, number, written_at, baseline, clock_offset"

_BEGIN: Final = make_statement(
    _ATTEMPT,
    """
    UPDATE occurrence SET state = 'in_flight', attempts = given.number
    FROM {given} WHERE {same} AND outcome IS NULL AND given.number IN (attempts, attempts + 1)
        AND given.number > 0
    """,
)

_CLOSE_EARLIER: Final = make_statement(
    _ATTEMPT,
    """
    UPDATE attempt SET result = 'unknown', automation_id = given.automation_id
    FROM {given}, occurrence
    WHERE {same} AND attempt.occurrence_id = occurrence.id AND attempt.number < given.number
        AND attempt.result IS NULL
    """,
)

_WRITE: Final = make_statement(
    _ATTEMPT,
    """
    INSERT INTO attempt (occurrence_id, number, written_at, baseline, clock_offset)
    SELECT occurrence.id, given.number, given.written_at, given.baseline, given.clock_offset
    FROM {given} CROSS JOIN occurrence WHERE {same}
    ON CONFLICT (occurrence_id, number)
    DO UPDATE SET written_at = excluded.written_at, baseline = excluded.baseline,
        clock_offset = excluded.clock_offset
    WHERE result IS NULL
    """,
)

_END: Final = make_statement(
    "target, automation_id, scheduled_for, state, number, result, ended_at, sent_at, http_status, error",
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
    "target, automation_id, scheduled_for, state, number, result, ended_at, sent_at, http_status, error",
    "UPDATE occurrence SET state = given.state, error = given.error FROM {given} WHERE {same} AND "
    "outcome IS NULL",
)

_WAIT: Final = make_statement(
    "target, automation_id, scheduled_for",
    "UPDATE occurrence SET state = 'waiting' FROM {given} WHERE {same} AND outcome IS NULL",
)

_CLOSE: Final = make_statement(
    "target, automation_id, scheduled_for",
    """
    UPDATE attempt SET result = 'unknown', automation_id = given.automation_id FROM {given}, occurrence
    WHERE {same} AND attempt.occurrence_id = occurrence.id AND attempt.result IS NULL
    """,
)

_REMOVE_OPEN: Final = make_statement(
    "target, automation_id, scheduled_for",
    """
    DELETE FROM attempt
    WHERE result IS NULL
        AND occurrence_id IN (SELECT occurrence.id FROM {given} CROSS JOIN occurrence WHERE {same})
    """,
)

_COUNT_AGAIN: Final = make_statement(
    "target, automation_id, scheduled_for",
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


@dataclass(frozen=True, slots=True)
class NotStartedWrite:
    """An occurrence with an unknown attempt that started nothing, as a reading showed later."""

    occurrence: Occurrence
    steps: Sequence[Step] = ()


def write(connection: sqlite3.Connection, items: Sequence[AttemptWrite]) -> Sequence[None]:
    """Write attempts: for each occurrence the newest attempt again, or the next attempt.

    An earlier attempt still open gets the result ``unknown``: nobody saw the end.
    """
    rows = pack_rows([_make_attempt_row(item) for item in items])
    if connection.execute(_BEGIN, (rows,)).rowcount != len(items):
        raise Contradiction(f"an attempt for an occurrence that is not open, or out of its turn: {items[0]}")
    if any(item.attempt.number > 1 for item in items):
        connection.execute(_CLOSE_EARLIER, (rows,))
    if connection.execute(_WRITE, (rows,)).rowcount != len(items):
        raise Contradiction(f"an attempt has ended and cannot be made again: {items[0]}")
    steps.record(connection, [(item.occurrence, item.steps) for item in items])
    return [None] * len(items)


def _make_attempt_row(written: AttemptWrite) -> tuple[Value, ...]:
    attempt = written.attempt
    return (
        *to_identity(written.occurrence),
        attempt.number,
        to_text(attempt.written_at),
        attempt.baseline,
        attempt.clock_offset,
    )


def end(connection: sqlite3.Connection, items: Sequence[AttemptEndWrite]) -> Sequence[None]:
    """End attempts, each once, and write the next state of the occurrences."""
    rows = pack_rows([make_end_row(item) for item in items])
    end_rows(connection, rows, items)
    if connection.execute(_GO_ON, (rows,)).rowcount != len(items):
        raise Contradiction(f"the attempt that ended belongs to an occurrence with an outcome: {items[0]}")
    steps.record(connection, [(item.occurrence, item.steps) for item in items])
    return [None] * len(items)


def end_rows(connection: sqlite3.Connection, rows: str, items: Sequence[AttemptEndWrite]) -> None:
    """End the attempts only; ``rows`` are the packed rows of the ``items``."""
    if connection.execute(_END, (rows,)).rowcount != len(items):
        raise Contradiction(f"the attempt that ended was not open: {items[0]}")


def make_end_row(ended: AttemptEndWrite) -> tuple[Value, ...]:
    """Make the row of an attempt's end for `end_rows`."""
    end = ended.end
    sent_at = to_optional_text(end.sent_at)
    return (
        *to_identity(ended.occurrence),
        ended.state,
        end.number,
        end.result,
        to_text(end.ended_at),
        sent_at,
        end.http_status,
        end.error,
    )


def resolve_not_started(connection: sqlite3.Connection, items: Sequence[NotStartedWrite]) -> Sequence[None]:
    """Resolve the newest, unknown attempts as "not started": their occurrences wait.

    An attempt keeps the result ``unknown``, because the result was unknown when the attempt ended.
    """
    rows = pack_rows([to_identity(item.occurrence) for item in items])
    close_open(connection, rows)
    if connection.execute(_WAIT, (rows,)).rowcount != len(items):
        raise Contradiction(f"an occurrence that is not open cannot be resolved: {items[0]}")
    steps.record(connection, [(item.occurrence, item.steps) for item in items])
    return [None] * len(items)


def discard(connection: sqlite3.Connection, items: Sequence[Occurrence]) -> Sequence[None]:
    """Remove the newest attempts, never sent: the occurrences wait.

    A repetition changes nothing.
    """
    rows = pack_rows([to_identity(item) for item in items])
    remove_open(connection, rows)
    connection.execute(_WAIT, (rows,))
    return [None] * len(items)


def close_open(connection: sqlite3.Connection, rows: str) -> None:
    """Give open attempts the result ``unknown``: nobody saw the end."""
    connection.execute(_CLOSE, (rows,))


def remove_open(connection: sqlite3.Connection, rows: str) -> None:
    """Remove attempts never sent, and count the remaining attempts."""
    if connection.execute(_REMOVE_OPEN, (rows,)).rowcount:
        connection.execute(_COUNT_AGAIN, (rows,))
