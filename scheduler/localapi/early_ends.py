"""Runs that end while they wait: cancelled runs, runs of deleted automations, and runs that waited too long.

A cancellation of many runs is a single row of `cancellations`, for any length of the queue. The server ends
the runs slice by slice, to keep transactions short. No run begins while a row is left: a run covered by a row
never begins, also after a restart.
"""

import json
import sqlite3
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

SLICE: Final = 500
"""The number of runs that end in a transaction: some ten milliseconds."""


class EarlyCause(StrEnum):
    """Why a run ends before it begins."""

    CANCELLED = "cancelled"
    DELETED = "deleted"  # the automation was deleted
    EXPIRED = "expired"  # the run waited longer than `queue_timeout`


# Each index holds only the runs for a statement: no statement reads the ended runs. Without the named index,
# SQLite prefers the table, which is in the order of the queue, too.
WAITING: Final = "FROM runs INDEXED BY runs_waiting WHERE status = 'queued' AND cancelled_at IS NULL"
CANCELLED: Final = (
    "FROM runs INDEXED BY runs_cancelled_early WHERE status = 'queued' AND cancelled_at IS NOT NULL"
)
_WAITING_OF_AUTOMATION: Final = """
    FROM runs INDEXED BY runs_waiting_of_automation
    WHERE status = 'queued' AND cancelled_at IS NULL AND automation_id = :automation_id
"""
_SLICE: Final = f"ORDER BY sequence LIMIT {SLICE}"
_SLICE_OF_EXPIRED: Final = f"""
    SELECT id, automation_id FROM (SELECT id, automation_id, created_at {WAITING} {_SLICE})
    WHERE created_at <= ?
"""  # noqa: S608 - the names are constants
_HAS_ENDS: Final = f"""
    SELECT EXISTS (SELECT 1 {CANCELLED}) OR EXISTS (SELECT 1 FROM cancellations)
        OR (SELECT created_at {WAITING} ORDER BY sequence LIMIT 1) <= ?
"""  # noqa: S608 - the names are constants
_FIRST_REQUEST: Final = "SELECT id, automation_id, up_to, cause FROM cancellations ORDER BY id LIMIT 1"


def _select_waiting(automation_id: str | None) -> str:
    """Return the SQL for the waiting runs of an automation, or with None of all automations."""
    return WAITING if automation_id is None else _WAITING_OF_AUTOMATION


def request_end(
    connection: sqlite3.Connection, automation_id: str | None, cause: EarlyCause, now: str
) -> int:
    """Request the end of all runs waiting now: of an automation, or with None of all automations.

    Return the sequence of the last of these runs, 0 when no run waits.
    """
    row = connection.execute(
        f"""
        INSERT INTO cancellations (automation_id, up_to, cause, requested_at)
        SELECT :automation_id, max(sequence), :cause, :now
        FROM (SELECT sequence {_select_waiting(automation_id)} ORDER BY sequence DESC LIMIT 1)
        WHERE true HAVING count(*) > 0 RETURNING up_to
        """,  # noqa: S608 - the names are constants
        {"automation_id": automation_id, "cause": cause, "now": now},
    ).fetchone()
    return int(row[0]) if row else 0


def count_waiting(connection: sqlite3.Connection, automation_id: str | None, up_to: int) -> int:
    """Count the waiting runs up to the sequence ``up_to``, of an automation or (None) of all."""
    (count,) = connection.execute(
        f"SELECT count(*) {_select_waiting(automation_id)} AND sequence <= :up_to",
        {"automation_id": automation_id, "up_to": up_to},
    ).fetchone()
    return int(count)


def has_any(connection: sqlite3.Connection, oldest: str) -> bool:
    """Return whether a waiting run is to end.

    Cancelled runs, runs covered by a request, and runs accepted at ``oldest`` or before are to end.
    """
    (has_ends,) = connection.execute(_HAS_ENDS, (oldest,)).fetchone()
    return bool(has_ends)


def find_slice(
    connection: sqlite3.Connection, oldest: str
) -> tuple[EarlyCause, Sequence[tuple[str, str]]] | None:
    """Find the next runs to end for the same cause, by id and automation; None without such runs.

    A request is removed in the transaction that finds the last runs of the request. A request may have no
    runs left.
    """
    if cancelled := connection.execute(f"SELECT id, automation_id {CANCELLED} {_SLICE}").fetchall():
        return EarlyCause.CANCELLED, cancelled
    if (request := connection.execute(_FIRST_REQUEST).fetchone()) is not None:
        number, automation_id, up_to, cause = request
        statement = (
            f"SELECT id, automation_id {_select_waiting(automation_id)} AND sequence <= :up_to {_SLICE}"
        )
        runs = connection.execute(statement, {"automation_id": automation_id, "up_to": up_to}).fetchall()
        if len(runs) < SLICE:
            connection.execute("DELETE FROM cancellations WHERE id = ?", (number,))
        return EarlyCause(cause), runs
    expired = connection.execute(_SLICE_OF_EXPIRED, (oldest,)).fetchall()
    return (EarlyCause.EXPIRED, expired) if expired else None


def end_runs(connection: sqlite3.Connection, runs: Sequence[tuple[str, str]], error: str, now: str) -> None:
    """Fail these runs with ``error``, in two statements.

    Beside a busy event loop, each statement waits for Python's global lock.
    """
    rows = json.dumps(runs)
    connection.execute(
        """
        UPDATE runs SET status = 'failed', finished_at = ?2, error = ?3
        WHERE id IN (SELECT value ->> 0 FROM json_each(?1))
        """,
        (rows, now, error),
    )
    connection.execute(
        """
        UPDATE automations SET last_run_status = 'failed', last_error = ?3, updated_at = ?2
        WHERE id IN (SELECT value ->> 1 FROM json_each(?1))
            AND last_task_run_id IN (SELECT value ->> 0 FROM json_each(?1))
        """,
        (rows, now, error),
    )
