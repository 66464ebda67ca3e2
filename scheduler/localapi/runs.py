"""The runs in the database: which waits, which is being carried out, and how each ended.

The database is the queue. A run is taken by the write that marks it as running, so the order survives a restart and no run is
taken twice; and its end is written together with what the automation shows of it.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
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
        self._now = now

    async def left_running(self) -> list[str]:
        """The runs that are marked as running: before any was taken, those that a dead process left."""
        return await self._database.read(
            lambda connection: [row["id"] for row in connection.execute("SELECT id FROM runs WHERE status = 'running'")]
        )

    async def ended_long_ago(self, run_ids: Sequence[str], seconds: float) -> list[str]:
        """Which of these are runs that ended so long ago, or before."""
        before = to_text(self._now() - timedelta(seconds=seconds))
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

    async def cancelled(self) -> list[str]:
        """The runs that are to be cancelled and have not ended."""
        statement = "SELECT id FROM runs WHERE status IN ('queued', 'running') AND cancelled_at IS NOT NULL"
        return await self._database.read(lambda connection: [row["id"] for row in connection.execute(statement)])

    async def finish_waiting(self, run_ids: Iterable[str], end: RunEnd) -> int:
        """Write down how those of these runs ended that still wait; how many they were."""
        return await self._database.write(partial(_finish_waiting, run_ids=tuple(run_ids), end=end, now=self._stamp()))

    async def take(self, command: Sequence[str]) -> QueuedRun | None:
        """Mark the run that waits longest as running, with the command that will carry it out; None when none waits."""
        return await self._database.write(partial(_take, command=json.dumps(command), now=self._stamp()))

    async def finish(self, run: QueuedRun, end: RunEnd) -> None:
        """Write down how a run ended. The automation shows it as long as this is its newest run."""
        await self._database.write(partial(_finish, run_id=run.id, automation_id=run.automation_id, end=end, now=self._stamp()))

    async def runs(self, *, automation_id: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest runs, of one automation or of all, newest first: every column but the prompt."""
        return await self._database.read(partial(_runs, automation_id=automation_id, limit=limit))

    async def run(self, run_id: str) -> dict[str, Any] | None:
        """Everything about one run, None if there is none."""
        return await self._database.read(partial(_run, run_id=run_id))

    def _stamp(self) -> str:
        return to_text(self._now())


def _recover(connection: sqlite3.Connection, *, now: str) -> int:
    left = connection.execute("SELECT id, automation_id FROM runs WHERE status = 'running'").fetchall()
    for run_id, automation_id in left:
        _finish(connection, run_id=run_id, automation_id=automation_id, end=RunEnd("failed", error=LEFT_BEHIND), now=now)
    count: int = connection.execute("SELECT count(*) FROM runs WHERE status = 'queued'").fetchone()[0]
    return count


def _take(connection: sqlite3.Connection, *, command: str, now: str) -> QueuedRun | None:
    row = connection.execute(
        """
        UPDATE runs SET status = 'running', started_at = ?, command = ?
        WHERE sequence = (SELECT min(sequence) FROM runs WHERE status = 'queued' AND cancelled_at IS NULL)
        RETURNING id, automation_id, task_id, name, repository, prompt
        """,
        (now, command),
    ).fetchone()
    return None if row is None else QueuedRun(*row)


def _finish_waiting(connection: sqlite3.Connection, *, run_ids: Sequence[str], end: RunEnd, now: str) -> int:
    waiting = connection.execute(
        "SELECT id, automation_id FROM runs WHERE status = 'queued' AND id IN (SELECT value FROM json_each(?))", (json.dumps(run_ids),)
    ).fetchall()
    for run_id, automation_id in waiting:
        _finish(connection, run_id=run_id, automation_id=automation_id, end=end, now=now)
    return len(waiting)


def _finish(connection: sqlite3.Connection, *, run_id: str, automation_id: str, end: RunEnd, now: str) -> None:
    connection.execute(
        "UPDATE runs SET status = ?, finished_at = ?, exit_status = ?, error = ? WHERE id = ?",
        (end.status, now, end.exit_status, end.error, run_id),
    )
    connection.execute(
        """
        UPDATE automations
        SET last_run_status = :status, last_error = :error, updated_at = iif(:status = 'failed', :now, updated_at)
        WHERE id = :automation_id AND last_task_run_id = :run_id
        """,
        {"status": end.status, "error": end.error, "now": now, "automation_id": automation_id, "run_id": run_id},
    )


def _runs(connection: sqlite3.Connection, *, automation_id: str | None, limit: int) -> list[dict[str, Any]]:
    rows = connection.execute(
        f"""
        SELECT {_RUN_COLUMNS} FROM runs {"" if automation_id is None else "WHERE automation_id = :automation_id"}
        ORDER BY sequence DESC LIMIT :limit
        """,  # noqa: S608 - the names are constants
        {"automation_id": automation_id, "limit": limit},
    )
    return [_shown(row) for row in rows]


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
