"""The runs in the database: waiting runs, running runs, and the ends of runs.

The database is the queue. A run is taken by the write that marks the run as running. So the order survives a
restart, and no run is taken twice. The end of a run is written together with the automation that shows the
end.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from scheduler.core.automation_filter import find_id, make_glob
from scheduler.core.instants import to_text
from scheduler.database import Database
from scheduler.localapi import early_ends, prompts
from scheduler.localapi.config import QUEUE_TIMEOUT
from scheduler.localapi.early_ends import CANCELLED, WAITING, EarlyCause


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """A run to be carried out, with the values at the time of acceptance."""

    id: str
    automation_id: str
    task_id: str
    name: str
    repository: str
    prompt: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. ``exit_status`` is None when nothing was started, negative for a signal.

    ``error`` is the reason of a failure.
    """

    status: Literal["success", "failed"]
    exit_status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CancelledRuns:
    """The runs to be cancelled: number of waiting runs, running runs, and the last waiting sequence."""

    waiting: int
    running: tuple[str, ...]
    up_to: int


INTERRUPTED: Final = RunResult(
    "failed", error="The server ended during this run, and the end of the run is not known."
)
"""The end of a run that a dead process left running."""


class RunQueue:
    """The runs of a database. ``now`` is the clock. A run waits for ``queue_timeout`` seconds at most."""

    def __init__(
        self, database: Database, now: Callable[[], datetime], queue_timeout: float = QUEUE_TIMEOUT
    ) -> None:
        self._database = database
        self.now = now
        self._queue_timeout = queue_timeout

    async def list_running(self) -> list[QueuedRun]:
        """List the runs marked as running. Before the first `take`, a dead process left them."""
        rows = await self._database.fetch_all(f"SELECT {_QUEUED_RUN} {RUNNING}")
        return [QueuedRun(*row) for row in rows]

    async def cancel(self, run_id: str) -> bool:
        """Note the cancellation of a run, which the runner ends soon. Return False for an ended run."""
        statement = (
            "UPDATE runs SET cancelled_at = coalesce(cancelled_at, ?) WHERE id = ? AND status IN "
            "('queued', 'running')"
        )
        return await self._database.change(statement, self._format_now(), run_id) == 1

    async def cancel_all(self, automation_id: str | None) -> CancelledRuns:
        """Note the cancellation of all unfinished runs: of an automation, or with None of all automations."""
        return await self._database.write(_cancel_all, automation_id, self._format_now())

    async def count_unfinished(self) -> int:
        """Count all unfinished runs."""
        counts = (f"SELECT count(*) {condition}" for condition in _UNFINISHED)
        return sum([int((await self._database.fetch_all(count))[0][0]) for count in counts])

    async def count_unfinished_among(self, run_ids: Sequence[str]) -> int:
        """Count the unfinished runs among these runs."""
        statement = (
            "SELECT count(*) FROM runs WHERE id IN (SELECT value FROM json_each(?)) AND status IN "
            "('queued', 'running')"
        )
        ((count,),) = await self._database.fetch_all(statement, json.dumps(run_ids))
        return int(count)

    async def list_cancellations(self) -> list[str]:
        """Return the ids of the running runs with a cancellation."""
        rows = await self._database.fetch_all(f"SELECT id {RUNNING} AND cancelled_at IS NOT NULL")
        return [run_id for (run_id,) in rows]

    async def end_early(self, errors: Mapping[EarlyCause, str]) -> tuple[EarlyCause, int] | None:
        """End the first waiting runs that may not begin, each with the error of the cause.

        Return the cause and the number of these runs, None without such runs. A call ends a few hundred runs
        at most, to delay no other write for long. Call again until the result is None.
        """
        oldest = self._compute_expiry_limit()
        if not await self._database.read(early_ends.has_any, oldest):
            return None
        return await self._database.write(_end_early, errors, oldest, self._format_now())

    async def take(self, command: Sequence[str]) -> QueuedRun | None:
        """Mark the longest waiting run as running, with the command for the run; None when no run waits.

        None also while waiting runs are to end: call again after `end_early`.
        """
        oldest, now = self._compute_expiry_limit(), self._format_now()
        return await self._database.write(_take, json.dumps(command), oldest, now)

    async def finish(self, run: QueuedRun, end: RunResult, ended_at: datetime) -> None:
        """Record how and when a run ended. The automation shows the end while this is the newest run."""
        await self._database.write(_finish, run, end, to_text(ended_at))

    async def end_unfinished(self, error: str) -> int:
        """Fail all unfinished runs with ``error``, and return the number; only while no process runs them."""
        return await self._database.write(_end_unfinished, error, self._format_now())

    async def list_runs(
        self, *, automation: str | None = None, status: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Return the newest runs, newest first: every column but the prompt.

        ``automation`` is an id, a name or a pattern for a name (``nightly-*``), now or at the time of
        acceptance.
        """
        return await self._database.read(select_runs, automation=automation, status=status, limit=limit)

    async def get_run(self, run_id: str) -> dict[str, Any] | None:
        """Return all values of a run, None for an unknown run."""
        statement = f"SELECT {_RUN_COLUMNS}, {prompts.RUN_PROMPT} AS prompt FROM runs WHERE id = ?"  # noqa: S608 - the names are constants
        rows = await self._database.fetch_all(statement, run_id)
        return _to_dict(rows[0]) if rows else None

    def _compute_expiry_limit(self) -> str:
        """Return the latest acceptance time of the runs that have waited too long by now."""
        return to_text(self.now() - timedelta(seconds=self._queue_timeout))

    def _format_now(self) -> str:
        return to_text(self.now())


RUNNING: Final = "FROM runs INDEXED BY runs_running WHERE status = 'running'"
_UNFINISHED: Final = (RUNNING, WAITING, CANCELLED)
"""The conditions of unfinished runs, each with its index."""
_PROMPT: Final = (
    "iif(prompt_id IS NULL, prompt, (SELECT text FROM prompts WHERE prompts.id = runs.prompt_id))"
)
_QUEUED_RUN: Final = f"id, automation_id, task_id, name, repository, {_PROMPT}"
"""The columns of a `QueuedRun`. The prompt is NULL when a damaged database lacks the text."""


def _take(connection: sqlite3.Connection, command: str, oldest: str, now: str) -> QueuedRun | None:
    row = connection.execute(
        f"""
        UPDATE runs SET status = 'running', started_at = ?, command = ?
        WHERE sequence = (SELECT sequence {WAITING} ORDER BY sequence LIMIT 1)
            AND created_at > ? AND NOT EXISTS (SELECT 1 FROM cancellations)
        RETURNING {_QUEUED_RUN}
        """,  # noqa: S608 - the names are constants
        (now, command, oldest),
    ).fetchone()
    if row is None:
        return None
    run = QueuedRun(*row)
    if run.prompt is None:  # nobody pays for a run without its prompt: the run stays queued
        raise LookupError(f"the database has no prompt for run {run.id}")
    return run


def _cancel_all(connection: sqlite3.Connection, automation_id: str | None, now: str) -> CancelledRuns:
    up_to = early_ends.request_end(connection, automation_id, EarlyCause.CANCELLED, now)
    running = connection.execute(
        f"""
        UPDATE runs SET cancelled_at = coalesce(cancelled_at, ?1)
        WHERE id IN (SELECT id {RUNNING} AND automation_id = coalesce(?2, automation_id))
        RETURNING id
        """,  # noqa: S608 - a constant
        (now, automation_id),
    ).fetchall()
    waiting = early_ends.count_waiting(connection, automation_id, up_to)
    return CancelledRuns(waiting, tuple(run_id for (run_id,) in running), up_to)


def _end_early(
    connection: sqlite3.Connection, errors: Mapping[EarlyCause, str], oldest: str, now: str
) -> tuple[EarlyCause, int] | None:
    ends = early_ends.find_slice(connection, oldest)
    if ends is None:
        return None
    cause, runs = ends
    early_ends.end_runs(connection, runs, errors[cause], now)
    return cause, len(runs)


def _end_unfinished(connection: sqlite3.Connection, error: str, now: str) -> int:
    statements = (f"SELECT id, automation_id {condition}" for condition in _UNFINISHED)
    runs = [run for statement in statements for run in connection.execute(statement)]
    early_ends.end_runs(connection, runs, error, now)
    return len(runs)


def _finish(connection: sqlite3.Connection, run: QueuedRun, end: RunResult, ended_at: str) -> None:
    connection.execute(
        "UPDATE runs SET status = ?, finished_at = ?, exit_status = ?, error = ? WHERE id = ?",
        (end.status, ended_at, end.exit_status, end.error, run.id),
    )
    connection.execute(
        """
        UPDATE automations
        SET last_run_status = ?1, last_error = ?2, updated_at = iif(?1 = 'failed', ?3, updated_at)
        WHERE id = ?4 AND last_task_run_id = ?5
        """,
        (end.status, end.error, ended_at, run.automation_id, run.id),
    )


_AUTOMATION_CONDITION: Final = """(name = :automation OR name GLOB :pattern
    OR automation_id IN (SELECT id FROM automations WHERE name = :automation OR name GLOB :pattern))"""


def select_runs(
    connection: sqlite3.Connection, *, automation: str | None, status: str | None, limit: int
) -> list[dict[str, Any]]:
    """Return the newest runs, see `RunQueue.list_runs`."""
    automation_id = find_id(automation)
    # Only a plain comparison lets SQLite use the index of running runs.
    conditions = ["true" if status is None else "status = :status"]
    if automation is not None:
        conditions.append("automation_id = :automation_id" if automation_id else _AUTOMATION_CONDITION)
    rows = connection.execute(
        f"SELECT {_RUN_COLUMNS} FROM runs "  # noqa: S608 -- constants
        f"WHERE {' AND '.join(conditions)} ORDER BY sequence DESC LIMIT :limit",
        {
            "automation": automation,
            "automation_id": automation_id,
            "pattern": make_glob(automation),
            "status": status,
            "limit": limit,
        },
    )
    return [_to_dict(row) for row in rows]


def find_with_prefix(connection: sqlite3.Connection, prefix: str, limit: int) -> list[dict[str, Any]]:
    """Return id, name, status and ``created_at`` of the runs with ids that begin with a prefix."""
    rows = connection.execute(_RUNS_WITH_PREFIX, {"prefix": prefix, "limit": limit})
    return [dict(row) for row in rows]


_RUNS_WITH_PREFIX: Final = """
    SELECT id, name, status, created_at FROM runs WHERE id >= :prefix AND id < :prefix || 'g'
    ORDER BY id LIMIT :limit
"""  # no id has a character from g on
_RUN_COLUMNS: Final = (
    "id, automation_id, project_id, task_id, name, repository, status, created_at, started_at, "
    "cancelled_at, finished_at, command, "
    "exit_status, error, (SELECT timezone FROM automations WHERE automations.id = automation_id) AS timezone"
)


def _to_dict(row: sqlite3.Row) -> dict[str, Any]:
    return {**dict(row), "command": json.loads(row["command"] or "null")}
