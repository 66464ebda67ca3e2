"""Requests for a backfill: `scheduler fire` writes a request, and the daemon opens the occurrence again.

One transaction opens the occurrence and removes the request. So when a process is killed in between, no
request is lost and none is carried out twice.
"""

import sqlite3
from datetime import datetime
from typing import Final

from scheduler.core.backfill import BACKFILL_OUTCOMES, FireRequest, Reopening
from scheduler.core.instants import from_text
from scheduler.core.model import Occurrence
from scheduler.core.occurrence_log import Cause, Step
from scheduler.ledger import steps
from scheduler.ledger.rows import make_parser, parse_rows
from scheduler.ledger.spans import decode_intervals, encode_intervals, take_out
from scheduler.ledger.sql_batch import to_identity, to_text, to_text_seconds

_CHANGED: Final = "what is on record of it has changed meanwhile; ask again"

# ---------------------------------------------------------------- for the command


def request_fire(connection: sqlite3.Connection, request: FireRequest) -> bool:
    """Write the request. Return False when a request waits for the daemon already."""
    first = to_text_seconds(request.instants[0]) if request.instants else None
    span = first, encode_intervals(request.instants)
    row = (*to_identity(request.occurrence), to_text(request.at), request.by, *span)
    return connection.execute(_ASK, row).rowcount == 1


_ASK: Final = """
    INSERT INTO fire_request (target, automation_id, scheduled_for, requested_at, "by", span, intervals)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (target, automation_id, scheduled_for)
    DO UPDATE SET requested_at = excluded.requested_at, "by" = excluded."by",
        span = excluded.span, intervals = excluded.intervals, refused = NULL
    WHERE fire_request.refused IS NOT NULL
"""


def withdraw_request(connection: sqlite3.Connection, occurrence: Occurrence) -> bool:
    """Withdraw the request. Return False when the daemon has carried out or refused the request."""
    return connection.execute(f"DELETE {_OF} AND refused IS NULL", to_identity(occurrence)).rowcount == 1


def read_refusal(connection: sqlite3.Connection, occurrence: Occurrence) -> str | None:
    """Return why the daemon refused the request; None when the request waits or was carried out."""
    row = connection.execute(f"SELECT refused {_OF}", to_identity(occurrence)).fetchone()
    return None if row is None else row[0]


def is_requested(connection: sqlite3.Connection, occurrence: Occurrence) -> bool:
    """Return whether a request waits for the daemon."""
    row = connection.execute(f"SELECT 1 {_OF} AND refused IS NULL", to_identity(occurrence)).fetchone()
    return row is not None


_IS_OCCURRENCE: Final = "target = ?1 AND automation_id = ?2 AND scheduled_for = ?3"
_OF: Final = f"FROM fire_request WHERE {_IS_OCCURRENCE}"

# ---------------------------------------------------------------- for the daemon


def has_request(connection: sqlite3.Connection) -> bool:
    """Return whether any request of any target waits for the daemon."""
    return connection.execute(_ANY_REQUEST).fetchone() is not None


_ANY_REQUEST: Final = (
    "SELECT 1 FROM fire_request INDEXED BY fire_request_waiting WHERE refused IS NULL LIMIT 1"
)


def read_requests(connection: sqlite3.Connection, target: str) -> list[FireRequest]:
    """Read the waiting requests of a target, the oldest first."""
    rows = connection.execute(_REQUESTS, (target,))
    return parse_rows(FireRequest, rows, occurrence=make_parser(Occurrence, rows), instants=_parse_instants)


_REQUESTS: Final = """
    SELECT *, requested_at AS at FROM fire_request INDEXED BY fire_request_waiting
    WHERE target = ? AND refused IS NULL ORDER BY requested_at, scheduled_for
"""


def _parse_instants(row: sqlite3.Row) -> tuple[datetime, ...]:
    return (
        () if row["intervals"] is None else tuple(decode_intervals(from_text(row["span"]), row["intervals"]))
    )


def refuse(connection: sqlite3.Connection, request: FireRequest, why: str) -> None:
    """Refuse the request. The request stays in the ledger, where the command reads the reason."""
    connection.execute(_REFUSE, (*to_identity(request.occurrence), why))


_REFUSE: Final = f"UPDATE fire_request SET refused = ?4 WHERE {_IS_OCCURRENCE}"  # noqa: S608 -- literals


def reopen(
    connection: sqlite3.Connection, request: FireRequest, reopening: Reopening, node: str
) -> str | None:
    """Open the occurrence again, keep the old outcome as a step, and remove the request.

    Otherwise refuse the request, and return the reason.
    """
    take_out(connection, request.occurrence, request.instants)
    why = _reopen_row(connection, request, reopening, node)
    if why is not None:
        refuse(connection, request, why)
        return why
    connection.execute(f"DELETE {_OF}", to_identity(request.occurrence))
    return None


def _reopen_row(
    connection: sqlite3.Connection, request: FireRequest, reopening: Reopening, node: str
) -> str | None:
    row = connection.execute(_SELECT, to_identity(request.occurrence)).fetchone()
    if row is None:
        return _insert_row(connection, request, reopening, node)
    outcome, reason, state, finished_at, count, late_run = row
    if count != 1:
        return _CHANGED
    if outcome not in BACKFILL_OUTCOMES:
        return f"it is open ({state})" if outcome is None else f"it is {outcome}: {reason}"
    if late_run is not None:
        return f"run {late_run} is most likely a late attempt for it"
    changes = (to_text(reopening.deadline), to_text(reopening.at), to_text(request.at))
    connection.execute(_OPEN, (*to_identity(request.occurrence), *changes))
    _record_reopening(connection, request, from_text(finished_at), reopening.at, f"{outcome}: {reason}")
    return None


def _insert_row(
    connection: sqlite3.Connection, request: FireRequest, reopening: Reopening, node: str
) -> str | None:
    """Insert a row for an occurrence without a row.

    An occurrence within the bounds of a remaining span is refused: the record has changed since the request.
    """
    instants = map(to_text, (reopening.due, reopening.deadline, reopening.at, request.at))
    values = (*to_identity(request.occurrence), reopening.name, *instants, node)
    if connection.execute(_MAKE, values).rowcount != 1:
        return _CHANGED
    _record_reopening(connection, request, request.at, reopening.at, "not on record")
    return None


def _record_reopening(
    connection: sqlite3.Connection, request: FireRequest, at: datetime, until: datetime, detail: str
) -> None:
    steps.record(connection, [(request.occurrence, [Step(at, Cause.REOPENED, until, detail, request.by)])])


_SELECT: Final = """
    SELECT outcome, reason, state, finished_at, count,
        (SELECT run_id FROM run INDEXED BY run_doubles
            WHERE doubles = ?3 AND target = ?1 AND automation_id = ?2 LIMIT 1)
    FROM occurrence
    WHERE target = ?1 AND automation_id = ?2 AND scheduled_for = ?3
"""
_OPEN: Final = """
    UPDATE occurrence SET state = 'waiting', outcome = NULL, reason = NULL, finished_at = NULL,
        sent_at = NULL, lateness_seconds = NULL, deadline = ?4, claimed_at = coalesce(claimed_at, ?5),
        asked_at = ?6
    WHERE target = ?1 AND automation_id = ?2 AND scheduled_for = ?3
"""
_MAKE: Final = """
    INSERT INTO occurrence (target, automation_id, scheduled_for, last, name, due, deadline, claimed_at,
        asked_at, node, state)
    SELECT ?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'waiting' WHERE NOT EXISTS (
        SELECT 1 FROM occurrence AS span
        WHERE span.count > 1 AND span.target = ?1 AND span.automation_id = ?2 AND span.last >= ?3
            AND span.scheduled_for <= ?3
    )
"""
