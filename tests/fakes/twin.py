"""`TwinLedger`: the ledger in memory and the real one side by side, told the same and made to agree at every
step.

So whatever story is told on it shows that the fake is like the real one, and that the real one does what the
daemon needs.
"""

import sqlite3
import weakref
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from scheduler.core.backfill import FireRequest
from scheduler.core.model import RunStatus
from scheduler.core.recorded_state import RecordedTargetState
from scheduler.ledger.fire_requests import request_fire
from scheduler.ledger.operator_requests import Pause, pause, resume
from scheduler.ledger.schema import MIGRATIONS
from scheduler.ledger.sqlite import SqliteLedger
from tests.fakes.ledger import MemoryLedger

if TYPE_CHECKING:
    from scheduler.database import Database

_T = TypeVar("_T")
_I = TypeVar("_I")


class _Inline:
    """A `Database` without threads: what it is asked to do is done by the time it is asked."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self.connection.close)
        self.connection.execute("PRAGMA foreign_keys = ON")
        for migration in MIGRATIONS:
            migration(cast("Any", self.connection))

    async def read(self, operation: Callable[[sqlite3.Connection], _T]) -> _T:
        self.connection.row_factory = sqlite3.Row
        try:
            return operation(self.connection)
        finally:
            self.connection.row_factory = None

    async def read_in_background(self, operation: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self.read(operation)

    async def write(self, operation: Callable[[sqlite3.Connection], _T]) -> _T:
        with self.transaction():
            return operation(self.connection)

    async def write_together(
        self, operation: Callable[[sqlite3.Connection, Sequence[_I]], Sequence[_T | Exception]], item: _I
    ) -> _T:
        with self.transaction():
            (done,) = operation(self.connection, [item])
        if isinstance(done, Exception):
            raise done
        return done

    def transaction(self) -> sqlite3.Connection:
        self.connection.execute("BEGIN IMMEDIATE")
        return self.connection


_VERBS: Final = (
    "record_snapshot",
    "claim",
    "write_attempt",
    "end_attempt",
    "resolve_not_started",
    "conclude",
    "withdraw",
    "discard_attempts",
    "record_steps",
    "rewind",
    "read_open_occurrences",
    "find_missing",
    "read_late_occurrences",
    "read_pauses",
    "read_fire_requests",
    "reopen",
    "refuse",
    "record_runs",
    "read_unattributed_runs",
    "find_run_origin",
)


class TwinLedger(MemoryLedger):
    """Both. What the one in memory gives back is what the daemon sees."""

    def __init__(self) -> None:
        super().__init__()
        self._inline = _Inline()
        self._real = SqliteLedger(cast("Database", self._inline), "node-1", "6.2.4", "2026.2")

    async def bind(self, target: str, url: str, project_id: str) -> RecordedTargetState:
        """See `scheduler.daemon.ports.Ledger`."""
        mine = await super().bind(target, url, project_id)
        theirs = await self._real.bind(target, url, project_id)
        assert (mine.snapshot_at, mine.watermark, mine.automations) == (
            theirs.snapshot_at,
            theirs.watermark,
            theirs.automations,
        )
        assert mine.gaps == theirs.gaps
        assert sorted(mine.ended, key=str) == sorted(theirs.ended, key=str)
        return mine

    async def read_newest_runs(self, target: str) -> list[Any]:
        """See `scheduler.daemon.ports.Ledger`."""
        mine, theirs = await super().read_newest_runs(target), await self._real.read_newest_runs(target)
        assert {run.id for run in theirs} >= {run.id for run in mine if run.status is RunStatus.RUNNING}, (
            f"{mine}, {theirs}"
        )
        return theirs  # which may lack runs that have ended: nothing more is to be learned of those

    def ask(self, request: FireRequest) -> None:
        """An operator asks for an occurrence to be made up for."""
        super().ask(request)
        with self._inline.transaction():
            request_fire(self._inline.connection, request)

    def pause(self, automation_id: str = "*", *, target: str = "main") -> None:
        """An operator pauses an automation, or all."""
        super().pause(automation_id, target=target)
        pause(
            self._inline.connection,
            Pause(target, automation_id, datetime.fromisoformat("2026-11-23T12:00:00Z"), "ada"),
        )

    def resume(self, automation_id: str = "*", *, target: str = "main") -> None:
        """An operator resumes it, or everything."""
        super().resume(automation_id, target=target)
        resume(
            self._inline.connection,
            target,
            automation_id,
            at=datetime.fromisoformat("2026-11-23T13:00:00Z"),
            by="ada",
        )


def _both(verb: str) -> Callable[..., Awaitable[object]]:
    fake, real = getattr(MemoryLedger, verb), getattr(SqliteLedger, verb)

    async def both(self: TwinLedger, *args: object, **named: object) -> object:
        mine = await fake(self, *args, **named)
        theirs = await real(self._real, *args, **named)
        assert mine == theirs, f"{verb}{args}: {mine} in memory, {theirs} in the database"
        return mine

    return both


for _verb in _VERBS:
    setattr(TwinLedger, _verb, _both(_verb))
