"""The runs in the database: which waits, which is being carried out, and how each ended.

The database is the queue. A run is taken by the write that marks it as running, so the order survives a restart and no run is
taken twice; and its end is written together with what the automation shows of it.
"""

import json
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Literal

from scheduler.core.instants import to_text
from scheduler.database import Database

LEFT_BEHIND: Final = "The server ended while this run was going on, so how the run ended is not known."


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """A run to be carried out, with what was asked for when it was accepted."""

    id: str
    automation_id: str
    task_id: str
    name: str
    repository: str
    prompt: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended. ``exit_status`` is None when nothing was started, negative for a signal; ``error`` says why it failed."""

    status: Literal["success", "failed"]
    exit_status: int | None = None
    error: str | None = None


class RunQueue:
    """The runs of one database. ``now`` is the clock."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self.now = now

    async def left_running(self) -> list[str]:
        """The runs that are marked as running: before any was taken, those that a dead process left."""
        return await self._database.read(lambda connection: [row["id"] for row in connection.execute(f"SELECT id {_RUNNING}")])

    async def ended_long_ago(self, run_ids: Sequence[str], seconds: float) -> list[str]:
        """Which of these are runs that ended so long ago, or before."""
        before = to_text(self.now() - timedelta(seconds=seconds))
        statement = "SELECT id FROM runs WHERE id IN (SELECT value FROM json_each(?)) AND finished_at <= ?"
        return await self._database.read(
            lambda connection: [row["id"] for row in connection.execute(statement, (json.dumps(run_ids), before))]
        )

    async def recover(self) -> int:
        """Fail what a dead process left running; only then, and only by the one process that runs, may runs be taken.

        How many runs are waiting comes back.
        """
        return await self._database.write(partial(_recover, now=self._stamp()))

    async def cancel(self, run_id: str) -> bool:
        """Take note that a run is to be cancelled; whoever carries out the runs ends it soon. False when it has no end to be brought to."""
        statement = "UPDATE runs SET cancelled_at = coalesce(cancelled_at, ?) WHERE id = ? AND status IN ('queued', 'running')"
        return await self._database.write(lambda connection: connection.execute(statement, (self._stamp(), run_id)).rowcount == 1)

    async def cancellations(self) -> tuple[list[str], bool]:
        """Return the ids of the runs that are being carried out and are to be cancelled, and whether a run that waits is to be."""
        return await self._database.read(_cancellations)

    async def finish_cancelled(self, end: RunEnd) -> int:
        """Write down the ``end`` of the first runs that wait and are to be cancelled; return how many ended.

        One call ends a few hundred runs at most, so that no other write has to wait for long: call again until the result is 0.
        """
        return await self._database.write(partial(_finish_cancelled, end=end, now=self._stamp()))

    async def take(self, command: Sequence[str]) -> QueuedRun | None:
        """Mark the run that waits longest as running, with the command that will carry it out; None when none waits."""
        return await self._database.write(partial(_take, command=json.dumps(command), now=self._stamp()))

    async def finish(self, run: QueuedRun, end: RunEnd, ended_at: datetime) -> None:
        """Write down how and when a run ended. The automation shows the end as long as this is its newest run."""
        await self._database.write(partial(_finish, run_id=run.id, automation_id=run.automation_id, end=end, ended_at=to_text(ended_at)))

    async def runs(self, *, automation: str | None = None, status: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest runs, newest first: every column but the prompt.

        ``automation`` is an id, a name or a pattern for the name (``nightly-*``), as it is now or was when the run was accepted.
        """
        return await self._database.read(partial(_runs, automation=automation, status=status, limit=limit))

    async def run(self, run_id: str) -> dict[str, Any] | None:
        """Everything about one run, None if there is none."""
        return await self._database.read(partial(_run, run_id=run_id))

    def _stamp(self) -> str:
        return to_text(self.now())


# Each index holds only the runs that a statement looks for, so that none goes through the runs that have ended. Left to itself, SQLite
# prefers the table, which is in the order of the queue, too.
_RUNNING: Final = "FROM runs INDEXED BY runs_running WHERE status = 'running'"
_WAITING: Final = "FROM runs INDEXED BY runs_waiting WHERE status = 'queued' AND cancelled_at IS NULL"
_CANCELLED: Final = "FROM runs INDEXED BY runs_cancelled_early WHERE status = 'queued' AND cancelled_at IS NOT NULL"

_FINISHED_AT_ONCE: Final = 500
"""Cancelled runs that end in one transaction: some ten milliseconds."""


def _recover(connection: sqlite3.Connection, *, now: str) -> int:
    left = connection.execute(f"SELECT id, automation_id {_RUNNING}").fetchall()
    for run_id, automation_id in left:
        _finish(connection, run_id=run_id, automation_id=automation_id, end=RunEnd("failed", error=LEFT_BEHIND), ended_at=now)
    waiting, cancelled = (connection.execute(f"SELECT count(*) {which}").fetchone()[0] for which in (_WAITING, _CANCELLED))
    return int(waiting + cancelled)


def _take(connection: sqlite3.Connection, *, command: str, now: str) -> QueuedRun | None:
    row = connection.execute(
        f"""
        UPDATE runs SET status = 'running', started_at = ?, command = ?
        WHERE sequence = (SELECT sequence {_WAITING} ORDER BY sequence LIMIT 1)
        RETURNING id, automation_id, task_id, name, repository, prompt
        """,  # noqa: S608 - a constant
        (now, command),
    ).fetchone()
    return None if row is None else QueuedRun(*row)


def _cancellations(connection: sqlite3.Connection) -> tuple[list[str], bool]:
    running = connection.execute(f"SELECT id {_RUNNING} AND cancelled_at IS NOT NULL")
    waiting = connection.execute(f"SELECT 1 {_CANCELLED} LIMIT 1").fetchone()
    return [row["id"] for row in running], waiting is not None


def _finish_cancelled(connection: sqlite3.Connection, *, end: RunEnd, now: str) -> int:
    statement = f"SELECT id, automation_id {_CANCELLED} ORDER BY sequence LIMIT {_FINISHED_AT_ONCE}"
    cancelled = connection.execute(statement).fetchall()
    for run_id, automation_id in cancelled:
        _finish(connection, run_id=run_id, automation_id=automation_id, end=end, ended_at=now)
    return len(cancelled)


def _finish(connection: sqlite3.Connection, *, run_id: str, automation_id: str, end: RunEnd, ended_at: str) -> None:
    connection.execute(
        "UPDATE runs SET status = ?, finished_at = ?, exit_status = ?, error = ? WHERE id = ?",
        (end.status, ended_at, end.exit_status, end.error, run_id),
    )
    connection.execute(
        """
        UPDATE automations
        SET last_run_status = :status, last_error = :error, updated_at = iif(:status = 'failed', :ended_at, updated_at)
        WHERE id = :automation_id AND last_task_run_id = :run_id
        """,
        {"status": end.status, "error": end.error, "ended_at": ended_at, "automation_id": automation_id, "run_id": run_id},
    )


_OF_AUTOMATION: Final = """(name = :automation OR name GLOB :pattern
    OR automation_id IN (SELECT id FROM automations WHERE name = :automation OR name GLOB :pattern))"""


def _runs(connection: sqlite3.Connection, *, automation: str | None, status: str | None, limit: int) -> list[dict[str, Any]]:
    automation_id = _read_id(automation)
    conditions = ["true"]
    if automation is not None:
        conditions.append(_OF_AUTOMATION if automation_id is None else "automation_id = :automation_id")
    if status is not None:
        conditions.append("status = :status")
    rows = connection.execute(
        f"SELECT {_RUN_COLUMNS} FROM runs WHERE {' AND '.join(conditions)} ORDER BY sequence DESC LIMIT :limit",  # noqa: S608 - constants
        {
            "automation": automation,
            "automation_id": automation_id,
            "pattern": None if automation is None else automation.replace("[!", "[^"),
            "status": status,
            "limit": limit,
        },
    )
    return [_shown(row) for row in rows]


def _read_id(text: str | None) -> str | None:
    """Return the text in the usual form of an id; None when it is no id."""
    try:
        return None if text is None else str(uuid.UUID(text))
    except ValueError:
        return None


def _run(connection: sqlite3.Connection, *, run_id: str) -> dict[str, Any] | None:
    row = connection.execute(f"SELECT {_RUN_COLUMNS}, prompt FROM runs WHERE id = ?", (run_id,)).fetchone()  # noqa: S608 - the names are constants
    return None if row is None else _shown(row)


_RUN_COLUMNS: Final = (
    "id, automation_id, project_id, task_id, name, repository, status, created_at, started_at, cancelled_at, finished_at, command, "
    "exit_status, error"
)


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    shown = dict(row)
    shown["command"] = json.loads(shown["command"] or "null")
    return shown
