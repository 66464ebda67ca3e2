"""`Database`: what waits to be written becomes one transaction, on one thread; reads have a thread and a connection of their own.

So do people who browse, and background work such as maintenance: what the daemon reads before it fires must not wait behind somebody who
goes through years of history.

An fsync costs milliseconds and a row microseconds, so that a thousand writes that wait together must share one. Each of them runs in a
savepoint: its own mistake is its caller's alone. A fault of the disk is everybody's: then nothing of the group is in the file.

Statements are dear in another way. After each of them this thread needs Python's global lock again, and beside a busy event loop it waits
up to five milliseconds for it: a thousand small statements take seconds then. `Database.write_together` makes few of many.
"""

import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final, TypeVar, cast

from scheduler.core.errors import LedgerUnavailable
from scheduler.database.errors import get_primary_code, is_fault, make_unavailable_error
from scheduler.database.files import Migration, Schema, connect_for_reading, open_for_writing, reopen_for_writing
from scheduler.database.operations import Operation, PendingOperation, PendingOperations, SingleOperation, carry_out, complete_all

T = TypeVar("T")
Item = TypeVar("Item")

OnFault = Callable[[LedgerUnavailable], None]

_IDLE_SECONDS: Final = 1.0
"""After so long without a write the writer moves its log into the file, so that no commit has to wait for that."""

BROWSING_SECONDS: Final = 2.0
"""How long one look of somebody who browses may take."""

_STEPS_BETWEEN_CHECKS: Final = 50_000  # of SQLite's machine, some milliseconds: each look at the time needs Python's global lock

_CHECKPOINT_ROWS: Final = 2_000
"""Fewer changed rows than these are left in the log."""


class _Worker:
    """A thread that serves requests from a queue until it is closed; what was queued before that is still served."""

    def __init__(self, name: str, path: Path, connection: sqlite3.Connection | None = None) -> None:
        self._path = path
        self._connection = connection
        self._queue: SimpleQueue[PendingOperation[object, object] | None] = SimpleQueue()
        self._lock = Lock()  # nothing may enter the queue behind the None that ends it
        self._is_closed = False
        # A daemon thread: what was acknowledged is durable, so that nothing is lost when the interpreter ends without close().
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def submit(self, request: PendingOperation[object, object]) -> None:
        with self._lock:
            if self._is_closed:
                raise LedgerUnavailable(f"{self._path} was closed")
            self._queue.put(request)

    def close(self) -> None:
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
        self._thread.join()

    def _serve(self) -> None:
        raise NotImplementedError

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # what is open is rolled back with the connection
                connection.close()

    def _make_error(self, error: BaseException) -> LedgerUnavailable:
        return make_unavailable_error(self._path, error) if isinstance(error, (sqlite3.Error, OSError)) else LedgerUnavailable(str(error))


class _Reader(_Worker):
    """One query after the other, each on one consistent state of the database."""

    def __init__(self, name: str, path: Path, on_fault: OnFault | None) -> None:
        self._on_fault = on_fault
        super().__init__(name, path)

    def _serve(self) -> None:
        while (request := self._queue.get()) is not None:
            fault = self._execute_query(request)
            complete_all([request], _make_report(self._on_fault, fault))
        self._drop_connection()

    def _execute_query(self, request: PendingOperation[object, object]) -> LedgerUnavailable | None:
        """Carry out the request, and return the fault of the file or the machine that prevented the query."""
        try:
            connection = self._get_connection()
            connection.execute("BEGIN")
            carry_out(connection, [request])
            connection.execute("ROLLBACK")
        except BaseException as error:  # noqa: BLE001 -- it is raised where somebody waits for it
            fault = self._make_error(error) if is_fault(error) else None
            request.result = fault or error
            self._drop_connection()
            return fault
        return None

    def _get_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect_for_reading(self._path)
        return self._connection


class _Browser(_Reader):
    """A reader that gives up what takes too long."""

    _time_limit = 0.0

    def _execute_query(self, request: PendingOperation[object, object]) -> LedgerUnavailable | None:
        self._time_limit = time.perf_counter() + BROWSING_SECONDS
        fault = super()._execute_query(request)
        if isinstance(request.result, sqlite3.Error) and get_primary_code(request.result) == sqlite3.SQLITE_INTERRUPT:
            request.result = LedgerUnavailable(
                f"going through {self._path} took more than {BROWSING_SECONDS:g} s and was given up: ask for a shorter time"
            )
        return fault

    def _get_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            super()._get_connection().set_progress_handler(lambda: time.perf_counter() > self._time_limit, _STEPS_BETWEEN_CHECKS)
        return super()._get_connection()


class _Writer(_Worker):
    """Group commit. After a fault the connection is dropped, and opened again for the next group."""

    def __init__(self, path: Path, schema: Schema, on_commit: Callable[[float], None] | None, on_fault: OnFault | None) -> None:
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
        """Everything that waits, at least one; and whether more may come."""
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
        if self._connection is None or self._connection.total_changes - self._checkpoint_changes < _CHECKPOINT_ROWS:
            return self._queue.get()
        try:
            return self._queue.get(timeout=_IDLE_SECONDS)
        except Empty:
            self._checkpoint(self._connection)
            return self._queue.get()

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        self._checkpoint_changes = connection.total_changes
        with suppress(sqlite3.Error):  # the log is as durable as the file; the next write will tell whoever waits for it
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _write(self, group: PendingOperations) -> None:
        try:
            seconds = self._transact(group)
        except BaseException as error:  # noqa: BLE001 -- the thread outlives whatever happens, and each caller is told
            self._drop_connection()
            for request in group:  # each gets its own: an exception that is raised in several places collects the tracebacks of all
                request.result = self._make_error(error)
            complete_all(group, _make_report(self._on_fault, self._make_error(error)))
        else:
            complete_all(group, partial(self._on_commit, seconds) if self._on_commit is not None else None)

    def _transact(self, group: PendingOperations) -> float:
        """One transaction. Returns the seconds that its commit took; raises when nothing of it is in the file."""
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
        """The connection, to the file under our name. One that was moved away or replaced would take writes that nobody ever finds."""
        if _read_identity(self._path) != self._file:
            raise LedgerUnavailable(
                f"another file has taken the place of {self._path}: put the first one back; or stop the daemon, remove the files "
                f"{self._path.name}-wal and -shm, which belong to the first one, and start it again"
            )
        if self._connection is None:
            self._connection = reopen_for_writing(self._path, self._schema)
            self._checkpoint_changes = 0
        return self._connection


def _make_report(on_fault: OnFault | None, fault: LedgerUnavailable | None) -> Callable[[], None] | None:
    """Make the call that reports a fault on the loop; None when nobody wants to know, or there is no fault."""
    return None if on_fault is None or fault is None else partial(on_fault, fault)


def _read_identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _execute_in_savepoint(connection: sqlite3.Connection, requests: PendingOperations) -> None:
    """Carry them out, or undo them alone. Raises a fault, and what destroyed the whole transaction."""
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


class Database:
    """An SQLite file of ours, open for as long as the process needs it. Usable from any event loop."""

    def __init__(self, writer: _Writer, reader: _Reader, background: _Reader, browser: _Browser) -> None:
        self._writer = writer
        self._reader = reader
        self._background = background
        self._browser = browser
        self._pending_operations: set[object] = set()

    @property
    def pending(self) -> int:
        """How many callers wait for an answer. An event loop with a virtual clock lets real time pass while there are any."""
        return len(self._pending_operations)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        application_id: int,
        migrations: Sequence[Migration],
        on_commit: Callable[[float], None] | None = None,
        on_fault: OnFault | None = None,
    ) -> "Database":
        """Open, make or migrate the file; blocks.

        ``on_commit`` is called on the loop with the seconds that each commit took. ``on_fault`` is called on the loop with the error of
        each transaction and each query that the file or the machine prevented.

        Raises `DatabaseRefused`, the file left as it is, for one that is damaged, not ours or of a newer version, and
        `LedgerUnavailable` when it cannot be opened now.
        """
        writer = _Writer(path, Schema(application_id, migrations), on_commit, on_fault)
        reader, background = _Reader("database-reader", path, on_fault), _Reader("database-background", path, on_fault)
        return cls(writer, reader, background, _Browser("database-browser", path, on_fault))

    async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out ``operation`` on the writer's thread, in the order of the calls; returns its result when it is durable.

        What it raises undoes it alone and is raised here. `LedgerUnavailable`: nothing of it is in the file; it recovers by itself when
        the cause is gone. A caller that is cancelled stops waiting, but the operation is carried out all the same.
        """
        return await self._ask(self._writer, PendingOperation(SingleOperation(operation), None))

    async def write_together(self, operation: Operation[Item, T], item: Item) -> T:
        """Like `write`, but all items that wait for the same ``operation`` are carried out in one call of it, where the first one stands.

        So what depends on the order has to await the one before. An exception that it raises, rather than gives for an item, is raised
        for all of these items and undoes them.
        """
        return await self._ask(self._writer, PendingOperation(operation, item))

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out ``query`` on the reader's thread, on one state of the database that holds everything `write` has returned for.

        Rows are `sqlite3.Row`; nothing can be changed there. Raises `LedgerUnavailable`.
        """
        return await self._ask(self._reader, PendingOperation(SingleOperation(query), None))

    async def read_in_background(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Like `read`, for maintenance and checks, on a thread and a connection that nothing due waits for.

        A query should be one bounded slice of the work: the next one of somebody else waits for it.
        """
        return await self._ask(self._background, PendingOperation(SingleOperation(query), None))

    async def browse(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Like `read`, for people: on a thread that nothing else waits for; what takes too long is given up, as `LedgerUnavailable`."""
        return await self._ask(self._browser, PendingOperation(SingleOperation(query), None))

    def close(self) -> None:
        """Wait for what is queued, then close the file. Blocks; what is asked for afterwards raises `LedgerUnavailable`."""
        self._browser.close()
        self._background.close()
        self._reader.close()
        self._writer.close()

    async def _ask(self, worker: _Worker, request: PendingOperation[Item, T]) -> T:
        worker.submit(cast("PendingOperation[object, object]", request))
        self._pending_operations.add(request)
        try:
            return await request.wait_for_result()
        finally:
            self._pending_operations.discard(request)
