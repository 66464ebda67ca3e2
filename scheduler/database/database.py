"""`Database`: group commits on a writer thread, and reads on threads with their own connections.

Browsing by people has its own thread, and background work such as maintenance has another thread. Before
sending, the daemon reads the ledger. This read must not wait behind a query over years of history.

An fsync costs milliseconds, and a row costs microseconds. Therefore all waiting writes share one fsync. Each
write runs in a savepoint: an error of one write concerns only its caller. A fault of the disk concerns all
callers: nothing of the group is in the file.

Statements are expensive for another reason. After each statement, the thread needs Python's global lock
again. Beside a busy event loop, the thread waits up to five milliseconds for the lock: a thousand small
statements take seconds. `Database.write_together` combines many small statements into few large statements.
"""

import sqlite3
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Concatenate, Final, ParamSpec, TypeVar, cast

from scheduler.core.errors import LedgerUnavailable
from scheduler.database.errors import get_primary_code, is_fault, make_unavailable_error
from scheduler.database.files import Schema, connect_for_reading, open_for_writing, reopen_for_writing
from scheduler.database.operations import (
    Operation,
    PendingOperation,
    PendingOperations,
    carry_out,
    complete_all,
)

T = TypeVar("T")
Item = TypeVar("Item")
P = ParamSpec("P")
Function = Callable[Concatenate[sqlite3.Connection, P], T]
"""Function that receives the connection, and further arguments."""

OnCommit = Callable[[float], None]
OnFault = Callable[[LedgerUnavailable], None]

_IDLE_SECONDS: Final = 1.0
"""Seconds without a write after which the writer copies the write-ahead log into the database file.

The copy is made in idle time, so that no commit has to wait for the copy.
"""

BROWSING_SECONDS: Final = 2.0
"""Maximum number of seconds for one query of `Database.browse`."""

# steps of SQLite's virtual machine, some milliseconds: each check of the time needs Python's global lock
_STEPS_BETWEEN_CHECKS: Final = 50_000

_CHECKPOINT_ROWS: Final = 2_000
"""Minimum number of changed rows for a checkpoint in idle time. Fewer rows stay in the write-ahead log."""


class _Worker(ABC):
    """Thread for the requests in a queue. Requests queued before `close` are still served."""

    def __init__(self, name: str, path: Path, connection: sqlite3.Connection | None = None) -> None:
        self._path = path
        self._connection = connection
        self._queue: SimpleQueue[PendingOperation[object, object] | None] = SimpleQueue()
        self._lock = Lock()  # no request may enter the queue behind the None that ends the queue
        self._is_closed = False
        # A daemon thread: acknowledged writes are durable, so an interpreter exit without close() loses
        # nothing.
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def ask(self, operation: Operation[Item, T], item: Item) -> T:
        """Carry out an operation on this thread, and return its result or raise its exception."""
        request = PendingOperation(operation, item)
        with self._lock:
            if self._is_closed:
                raise LedgerUnavailable(f"{self._path} was closed")
            self._queue.put(cast("PendingOperation[object, object]", request))
        return await request.future

    async def call(self, function: Function[P, T], *args: P.args, **keywords: P.kwargs) -> T:
        """Call the function on this thread as an operation of its own, never together with others."""
        return await self.ask(lambda connection, _: [function(connection, *args, **keywords)], None)

    def close(self) -> None:
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
        self._thread.join()

    @abstractmethod
    def _serve(self) -> None: ...

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # closing the connection rolls back an open transaction
                connection.close()


class _Reader(_Worker):
    """Reader: one query after the other, each on one consistent state of the database."""

    def __init__(self, name: str, path: Path, on_fault: OnFault) -> None:
        self._on_fault = on_fault
        super().__init__(name, path)

    def _serve(self) -> None:
        while (request := self._queue.get()) is not None:
            fault = self._execute_query(request)
            complete_all([request], None if fault is None else partial(self._on_fault, fault))
        self._drop_connection()

    def _execute_query(self, request: PendingOperation[object, object]) -> LedgerUnavailable | None:
        """Carry out the request.

        Return the fault of the file or the machine when a fault prevented the query, else None.
        """
        try:
            connection = self._get_connection()
            connection.execute("BEGIN")
            carry_out(connection, [request])
            connection.execute("ROLLBACK")
        except BaseException as error:  # noqa: BLE001 -- it is raised where somebody waits for it
            fault = make_unavailable_error(self._path, error) if is_fault(error) else None
            request.result = fault or error
            self._drop_connection()
            return fault
        return None

    def _get_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect_for_reading(self._path)
        return self._connection


class _Browser(_Reader):
    """Reader with a time limit: a query is stopped after `BROWSING_SECONDS`."""

    _time_limit = 0.0

    def _execute_query(self, request: PendingOperation[object, object]) -> LedgerUnavailable | None:
        self._time_limit = time.perf_counter() + BROWSING_SECONDS
        fault = super()._execute_query(request)
        if get_primary_code(request.result) == sqlite3.SQLITE_INTERRUPT:
            request.result = LedgerUnavailable(
                f"reading {self._path} took more than {BROWSING_SECONDS:g} s and was stopped: ask "
                "for a shorter period"
            )
        return fault

    def _get_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            super()._get_connection().set_progress_handler(
                lambda: time.perf_counter() > self._time_limit, _STEPS_BETWEEN_CHECKS
            )
        return super()._get_connection()


class _Writer(_Worker):
    """Writer with group commits.

    After a fault, the connection is dropped. The next group opens a new connection.
    """

    def __init__(self, path: Path, schema: Schema, on_commit: OnCommit, on_fault: OnFault) -> None:
        self._schema = schema
        self._on_commit = on_commit
        self._on_fault = on_fault
        self._checkpoint_changes = 0
        connection = open_for_writing(path, schema)
        self._file = _read_identity(path)
        super().__init__("database-writer", path, connection)

    def _serve(self) -> None:
        more_may_come = True
        while more_may_come:
            group, more_may_come = self._take_group()
            if group:
                self._write(group)
        self._drop_connection()

    def _take_group(self) -> tuple[PendingOperations, bool]:
        """Return all waiting requests, at least one unless the queue ends, and whether more may come."""
        group: list[PendingOperation[object, object]] = []
        request = self._wait()
        while request is not None:
            group.append(request)
            try:
                request = self._queue.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _wait(self) -> PendingOperation[object, object] | None:
        if (
            self._connection is None
            or self._connection.total_changes - self._checkpoint_changes < _CHECKPOINT_ROWS
        ):
            return self._queue.get()
        try:
            return self._queue.get(timeout=_IDLE_SECONDS)
        except Empty:
            self._checkpoint(self._connection)
            return self._queue.get()

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        self._checkpoint_changes = connection.total_changes
        # the log is as durable as the file, and the next write reports the error to its callers
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _write(self, group: PendingOperations) -> None:
        try:
            seconds = self._transact(group)
        except BaseException as error:  # noqa: BLE001 -- the thread outlives whatever happens, and each caller is told
            self._drop_connection()
            # one exception object per request: a shared object would collect the tracebacks of all callers
            for request in group:
                request.result = make_unavailable_error(self._path, error)
            complete_all(group, partial(self._on_fault, make_unavailable_error(self._path, error)))
        else:
            complete_all(group, partial(self._on_commit, seconds))

    def _transact(self, group: PendingOperations) -> float:
        """Carry out the group in one transaction. Return the seconds that the commit took.

        Raises when nothing of the group is in the file.
        """
        connection = self._get_connection()
        connection.execute("BEGIN IMMEDIATE")
        together: defaultdict[object, list[PendingOperation[object, object]]] = defaultdict(list)
        for request in group:
            together[request.operation].append(request)
        for requests in together.values():
            _execute_in_savepoint(connection, requests)
        began = time.perf_counter()
        connection.execute("COMMIT")
        return time.perf_counter() - began

    def _get_connection(self) -> sqlite3.Connection:
        """Return the connection to the file under the configured name.

        A moved or replaced file is refused, because nobody would ever find the writes to the moved file.
        """
        if _read_identity(self._path) != self._file:
            raise LedgerUnavailable(
                f"another file has taken the place of {self._path}: put the first one back; or stop "
                "the daemon, remove the files "
                f"{self._path.name}-wal and -shm, which belong to the first one, and start it again"
            )
        if self._connection is None:
            self._connection = reopen_for_writing(self._path, self._schema)
            self._checkpoint_changes = 0
        return self._connection


def _read_identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _execute_in_savepoint(connection: sqlite3.Connection, requests: PendingOperations) -> None:
    """Carry out requests of one operation in a savepoint. An error undoes only these requests.

    Raises faults, and errors that have ended the whole transaction.
    """
    connection.execute("SAVEPOINT operation")
    try:
        carry_out(connection, requests)
    except BaseException as error:
        if is_fault(error) or not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO operation")
        for request in requests:
            request.result = error
    connection.execute("RELEASE operation")


def ignore(_: object) -> None:
    """Do nothing with a report."""


class Database:
    """SQLite file of this project, open while the process needs the file. Usable from any event loop."""

    def __init__(
        self, path: Path, schema: Schema, on_commit: OnCommit = ignore, on_fault: OnFault = ignore
    ) -> None:
        """Open, make or migrate the file; blocks.

        ``on_commit`` is called on the loop with the seconds that each commit took. ``on_fault`` is called on
        the loop with the error of each transaction and each query that the file or the machine prevented.

        Raises `DatabaseRefused` for a file that is damaged, of another application or of a newer version. The
        refused file stays unchanged. Raises `LedgerUnavailable` when the file cannot be opened now.
        """
        self._writer = _Writer(path, schema, on_commit, on_fault)
        self._reader = _Reader("database-reader", path, on_fault)
        self._background = _Reader("database-background", path, on_fault)
        self._browser = _Browser("database-browser", path, on_fault)

    async def write(self, operation: Function[P, T], *args: P.args, **keywords: P.kwargs) -> T:
        """Carry out ``operation`` on the writer's thread, in the order of the calls.

        The operation receives the connection, and the further arguments of this call.
        Return the result of the operation when the result is durable. An exception of the operation undoes
        only this operation, and is raised here. `LedgerUnavailable` means: nothing of the operation is in the
        file. The database recovers by itself when the cause is gone. A cancelled caller stops waiting, but
        the operation is carried out all the same.
        """
        return await self._writer.call(operation, *args, **keywords)

    async def write_together(self, operation: Operation[Item, T], item: Item) -> T:
        """Carry out ``operation`` like `write`, in one call for all items that wait for the same operation.

        The call takes the place of the first item. A write that depends on the order therefore has to await
        the write before. An exception raised by the operation is raised for all items and undoes all of them.
        An exception returned for one item is raised only for the caller of this item.
        """
        return await self._writer.ask(operation, item)

    async def read(self, query: Function[P, T], *args: P.args, **keywords: P.kwargs) -> T:
        """Carry out ``query`` on the reader's thread, with the connection and the further arguments.

        The query sees one state of the database, with every write whose call of `write` has returned. Rows
        are `sqlite3.Row`. Changes are not possible. Raises `LedgerUnavailable`.
        """
        return await self._reader.call(query, *args, **keywords)

    async def read_in_background(self, query: Function[P, T], *args: P.args, **keywords: P.kwargs) -> T:
        """Carry out ``query`` like `read`, for maintenance and checks, on a background thread.

        Nothing due waits for this thread and its connection. A query should be one bounded slice of the work,
        because queries of other callers wait for its end.
        """
        return await self._background.call(query, *args, **keywords)

    async def browse(self, query: Function[P, T], *args: P.args, **keywords: P.kwargs) -> T:
        """Carry out ``query`` like `read`, for people, on a thread of its own.

        A query that takes more than `BROWSING_SECONDS` is stopped and raises `LedgerUnavailable`.
        """
        return await self._browser.call(query, *args, **keywords)

    async def fetch_all(self, statement: str, *values: object) -> list[sqlite3.Row]:
        """Return all rows of a statement with these values, like `read`."""
        return await self.read(lambda connection: connection.execute(statement, values).fetchall())

    async def change(self, statement: str, *values: object) -> int:
        """Execute a statement with these values like `write`. Return the number of changed rows."""
        return await self.write(lambda connection: connection.execute(statement, values).rowcount)

    def close(self) -> None:
        """Wait for the queued requests and close the file; blocks.

        Later requests raise `LedgerUnavailable`.
        """
        for worker in (self._browser, self._background, self._reader, self._writer):
            worker.close()
