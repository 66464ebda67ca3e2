"""The ledger's file on a disk that fails, and the `Database` of a process that has it open.

Group commit as in `scheduler.database`: whatever waits becomes one transaction. Between the transaction and
the word that it is durable time passes, in which a process can die; and what failed at its fsync may be there
after a crash all the same, since its pages were written and only the next write of the same process would
have gone over them (https://www.sqlite.org/wal.html).
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from scheduler.core.errors import LedgerUnavailable
from scheduler.database.operations import Operation, PendingOperation, carry_out
from tests.memory_file import MemoryFile
from tests.simulation.script import Disk, Ledger

if TYPE_CHECKING:
    from tests.simulation.process import Process

T = TypeVar("T")
Item = TypeVar("Item")

_BUSY: Final = 1.0
"""Seconds for which SQLite waits for a lock."""

_GATHERS: Final = 0.000_02
"""Seconds for which writes gather, so that the order of two writes of one instant decides nothing."""

_OPEN_OF_AUTOMATION: Final = """
    CREATE INDEX simulated_open_of_automation ON occurrence (automation_id, target) WHERE outcome IS NULL
"""
"""For `World.leaves`, which looks at every request to run."""

_Group = Sequence[PendingOperation[Any, Any]]


class File(MemoryFile):
    """What is durable, whoever has it open. A commit takes ``commit`` seconds."""

    def __init__(self, commit: float) -> None:
        super().__init__()
        self.commit = commit
        self.trouble: Ledger | None = None
        self.unheard = 0  # writes whose caller was gone before it heard whether they are durable
        self.writes = 0
        self.connection.execute(_OPEN_OF_AUTOMATION)

    def transact(self, group: _Group) -> None:
        """All in one transaction, each in a savepoint of its own or together with its like."""
        with self.transaction():
            for each in group:
                self._in_savepoint(each)
        self.writes += 1

    def _in_savepoint(self, request: PendingOperation[Any, Any]) -> None:
        self.connection.execute("SAVEPOINT operation")
        try:
            carry_out(self.connection, [request])
        except Exception as error:  # noqa: BLE001  its caller's
            self.connection.execute("ROLLBACK TO operation")
            request.result = error
        self.connection.execute("RELEASE operation")


class OpenFile:
    """A `Database` for one process: its writer and its reader. What it was asked for dies with the
    process.
    """

    def __init__(self, file: File, process: "Process") -> None:
        self._file, self._process = file, process
        self._queue: deque[PendingOperation[Any, Any]] = deque()
        self._committing = False
        self._unsure: list[
            tuple[_Group, bool]
        ] = []  # what failed at its fsync since the last write that did not

    async def write(self, operation: Callable[..., T], *args: Any, **keywords: Any) -> T:
        """See `scheduler.database.Database`."""
        return await self.write_together(
            lambda connection, _: [operation(connection, *args, **keywords)], None
        )

    async def write_together(self, operation: Operation[Item, T], item: Item) -> T:
        """See `scheduler.database.Database`."""
        return await self._written(PendingOperation(operation, item))

    async def read(self, query: Callable[..., T], *args: Any, **keywords: Any) -> T:
        """See `scheduler.database.Database`."""
        self._process.must_live()
        await asyncio.sleep(self._file.commit / 3)
        trouble = self._file.trouble
        if trouble is not None and trouble.reads:
            raise LedgerUnavailable(f"it cannot be read: {trouble.trouble}")
        return self._file.read(lambda connection: query(connection, *args, **keywords))

    async def read_in_background(self, query: Callable[..., T], *args: Any, **keywords: Any) -> T:
        """See `scheduler.database.Database`."""
        return await self.read(query, *args, **keywords)

    def close(self) -> None:
        """Nothing more is asked of it."""

    def died(self) -> None:
        """Its process is no more. What failed at its fsync is found by whoever opens the file next."""
        for group, surfaces in self._unsure:
            if surfaces:
                with suppress(sqlite3.Error):
                    self._file.transact(group)
                    self._file.unheard += len(group)
        self._unsure.clear()

    # ------------------------------------------------------------ the writer

    async def _written(self, request: PendingOperation[Any, T]) -> T:
        self._process.must_live()
        self._queue.append(request)
        self._next()
        try:
            return await request.future
        except asyncio.CancelledError:
            self._file.unheard += 1
            raise

    def _next(self) -> None:
        if self._committing or not self._queue:
            return
        self._committing = True
        asyncio.get_running_loop().call_later(_GATHERS, self._begin)

    def _begin(self) -> None:
        if not self._process.alive:
            return
        group = list(self._queue)
        self._queue.clear()
        trouble, loop = self._file.trouble, asyncio.get_running_loop()
        if trouble is None or trouble.trouble is Disk.SLOW:
            loop.call_later(
                self._file.commit + (0.0 if trouble is None else trouble.took), self._commit, group
            )
        else:
            loop.call_later(
                _BUSY if trouble.trouble is Disk.LOCKED else self._file.commit, self._fail, group, trouble
            )

    def _commit(self, group: _Group) -> None:
        self._process.commits()
        if not self._process.alive:
            return
        self._file.transact(group)
        self._unsure.clear()
        self._process.committed()
        asyncio.get_running_loop().call_later(self._file.commit / 3, self._answer, group)

    def _fail(self, group: _Group, trouble: Ledger) -> None:
        if not self._process.alive:
            return
        if trouble.trouble is Disk.FSYNC:
            self._unsure.append((group, trouble.surfaces))
        for each in group:
            each.result = LedgerUnavailable(f"the disk is in trouble: {trouble.trouble}")
        self._answer(group)

    def _answer(self, group: _Group) -> None:
        self._committing = False
        if not self._process.alive:
            return
        for each in group:
            each.complete()
        self._next()
