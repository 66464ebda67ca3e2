"""`Database`: what waits to be written becomes one transaction, on one thread; reads have a thread and a connection of their own.

An fsync costs milliseconds and a row microseconds, so that a thousand writes that wait together must share one. Each of them runs in a
savepoint: its own mistake is its caller's alone. A fault of the disk is everybody's: then nothing of the group is in the file.

Statements are dear in another way. After each of them this thread needs Python's global lock again, and beside a busy event loop it waits
up to five milliseconds for it: a thousand small statements take seconds then. `Database.write_together` makes few of many.
"""

import asyncio
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final, Generic, TypeVar, cast

from scheduler.core.errors import LedgerUnavailable
from scheduler.database.faults import is_fault, unavailable
from scheduler.database.files import Migration, Schema, connect_for_reading, open_for_writing, reopen_for_writing

T = TypeVar("T")
Item = TypeVar("Item")

Operation = Callable[[sqlite3.Connection, Sequence[Item]], Sequence[T | Exception]]
"""Carries out all items at once. Gives a result for each, in order; an exception as a result is raised for that item's caller."""

_IDLE_SECONDS: Final = 1.0
"""After so long without a write the writer moves its log into the file, so that no commit has to wait for that."""

_CHECKPOINT_ROWS: Final = 2_000
"""Fewer changed rows than these are left in the log."""


class Request(Generic[Item, T]):
    """An item for an operation, and the future on which somebody waits for what comes of it."""

    __slots__ = ("_future", "item", "loop", "operation", "outcome")

    def __init__(self, operation: Operation[Item, T], item: Item) -> None:
        self.operation = operation
        self.item = item
        self.outcome: T | BaseException | None = None
        self.loop = asyncio.get_running_loop()
        self._future: asyncio.Future[T] = self.loop.create_future()

    def settle(self) -> None:
        """On the loop: wake whoever waits, unless it has been cancelled."""
        if self._future.done():
            return
        if isinstance(self.outcome, StopIteration):
            self._future.set_exception(RuntimeError("the operation raised StopIteration, which no future takes"))
        elif isinstance(self.outcome, BaseException):
            self._future.set_exception(self.outcome)
        else:
            self._future.set_result(cast("T", self.outcome))

    async def answer(self) -> T:
        """What came of it."""
        return await self._future


Requests = Sequence[Request[object, object]]


class _Alone(Generic[T]):
    """A function as an operation that is never carried out together with another."""

    def __init__(self, function: Callable[[sqlite3.Connection], T]) -> None:
        self._function = function

    def __call__(self, connection: sqlite3.Connection, items: Sequence[None], /) -> Sequence[T | Exception]:
        return [self._function(connection) for _ in items]


def _carry_out(connection: sqlite3.Connection, requests: Requests) -> None:
    """Carry out requests for the same operation."""
    outcomes = requests[0].operation(connection, [request.item for request in requests])
    for request, outcome in zip(requests, outcomes, strict=True):
        request.outcome = outcome


def _answer(requests: Requests, afterwards: Callable[[], None] | None = None) -> None:
    """Wake each loop once, however many of its requests were done; ``afterwards`` is called on the loop of the first one."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = defaultdict(list)
    for request in requests:
        by_loop[request.loop].append(request.settle)
    if afterwards is not None:
        by_loop[requests[0].loop].append(afterwards)
    for loop, calls in by_loop.items():
        with suppress(RuntimeError):  # that loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_call_all, calls)


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()


class _Worker:
    """A thread that serves requests from a queue until it is closed; what was queued before that is still served."""

    def __init__(self, name: str, path: Path) -> None:
        self._path = path
        self._queue: SimpleQueue[Request[object, object] | None] = SimpleQueue()
        self._lock = Lock()  # nothing may enter the queue behind the None that ends it
        self._closed = False
        # A daemon thread: what was acknowledged is durable, so that nothing is lost when the interpreter ends without close().
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def submit(self, request: Request[object, object]) -> None:
        with self._lock:
            if self._closed:
                raise LedgerUnavailable(f"{self._path} was closed")
            self._queue.put(request)

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _serve(self) -> None:
        raise NotImplementedError

    def _unavailable(self, error: BaseException) -> BaseException:
        return unavailable(self._path, error) if isinstance(error, (sqlite3.Error, OSError)) else LedgerUnavailable(str(error))


class _Reader(_Worker):
    """One query after the other, each on one consistent state of the database."""

    _connection: sqlite3.Connection | None = None

    def _serve(self) -> None:
        while (request := self._queue.get()) is not None:
            self._look(request)
            _answer([request])
        self._drop()

    def _look(self, request: Request[object, object]) -> None:
        try:
            if self._connection is None:
                self._connection = connect_for_reading(self._path)
            self._connection.execute("BEGIN")
            _carry_out(self._connection, [request])
        except sqlite3.Error as error:
            request.outcome = self._unavailable(error) if is_fault(error) else error
            self._drop()
        except BaseException as error:  # noqa: BLE001 -- it is raised where somebody waits for it
            request.outcome = error
        finally:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Writer(_Worker):
    """Group commit. After a fault the connection is dropped, and opened again for the next group."""

    def __init__(self, path: Path, schema: Schema, on_commit: Callable[[float], None] | None) -> None:
        self._schema = schema
        self._on_commit = on_commit
        self._connection: sqlite3.Connection | None = open_for_writing(path, schema)
        self._file = _identity(path)
        self._checkpointed = 0
        super().__init__("database-writer", path)

    def _serve(self) -> None:
        more_may_come = True
        while more_may_come:
            group, more_may_come = self._next_group()
            if group:
                self._write(group)
        self._drop()

    def _next_group(self) -> tuple[Requests, bool]:
        """Everything that waits, at least one; and whether more may come."""
        group: list[Request[object, object]] = []
        request = self._wait()
        while request is not None:
            group.append(request)
            try:
                request = self._queue.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _wait(self) -> Request[object, object] | None:
        if self._connection is None or self._connection.total_changes - self._checkpointed < _CHECKPOINT_ROWS:
            return self._queue.get()
        try:
            return self._queue.get(timeout=_IDLE_SECONDS)
        except Empty:
            self._checkpoint(self._connection)
            return self._queue.get()

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        self._checkpointed = connection.total_changes
        with suppress(sqlite3.Error):  # the log is as durable as the file; the next write will tell whoever waits for it
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _write(self, group: Requests) -> None:
        try:
            seconds = self._transact(group)
        except BaseException as error:  # noqa: BLE001 -- the thread outlives whatever happens, and each caller is told
            self._drop()
            for request in group:  # each gets its own: an exception that is raised in several places collects the tracebacks of all
                request.outcome = self._unavailable(error)
            _answer(group)
        else:
            _answer(group, partial(self._on_commit, seconds) if self._on_commit is not None else None)

    def _transact(self, group: Requests) -> float:
        """One transaction. Returns the seconds that its commit took; raises when nothing of it is in the file."""
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        together: defaultdict[object, list[Request[object, object]]] = defaultdict(list)
        for request in group:
            together[request.operation].append(request)
        for requests in together.values():
            _in_savepoint(connection, requests)
        began = time.perf_counter()
        connection.execute("COMMIT")
        return time.perf_counter() - began

    def _connected(self) -> sqlite3.Connection:
        """The connection to the file under our name. One that was moved away or replaced would take writes that nobody ever finds."""
        if self._connection is not None and _identity(self._path) != self._file:
            self._drop()
        if self._connection is None:
            self._connection = reopen_for_writing(self._path, self._schema)
            self._file = _identity(self._path)
            self._checkpointed = 0
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # what is open is rolled back with the connection
                connection.close()


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _in_savepoint(connection: sqlite3.Connection, requests: Requests) -> None:
    """Carry them out, or undo them alone. Raises a fault, and what destroyed the whole transaction."""
    connection.execute("SAVEPOINT operation")
    try:
        _carry_out(connection, requests)
    except BaseException as error:
        if is_fault(error) or not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO operation")
        for request in requests:
            request.outcome = error
    connection.execute("RELEASE operation")


class Database:
    """An SQLite file of ours, open for as long as the process needs it. Usable from any event loop."""

    def __init__(self, writer: _Writer, reader: _Reader) -> None:
        self._writer = writer
        self._reader = reader
        self._waited_for: set[object] = set()

    @property
    def pending(self) -> int:
        """How many callers wait for an answer. An event loop with a virtual clock lets real time pass while there are any."""
        return len(self._waited_for)

    @classmethod
    def open(
        cls, path: Path, *, application_id: int, migrations: Sequence[Migration], on_commit: Callable[[float], None] | None = None
    ) -> "Database":
        """Open, make or migrate the file; blocks. ``on_commit`` is called on the loop with the seconds that each commit took.

        Raises `DatabaseRefused`, the file left as it is, for one that is damaged, not ours or of a newer version, and
        `LedgerUnavailable` when it cannot be opened now.
        """
        writer = _Writer(path, Schema(application_id, migrations), on_commit)
        return cls(writer, _Reader("database-reader", path))

    async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out ``operation`` on the writer's thread, in the order of the calls; returns its result when it is durable.

        What it raises undoes it alone and is raised here. `LedgerUnavailable`: nothing of it is in the file; it recovers by itself when
        the cause is gone. A caller that is cancelled stops waiting, but the operation is carried out all the same.
        """
        return await self._ask(self._writer, Request(_Alone(operation), None))

    async def write_together(self, operation: Operation[Item, T], item: Item) -> T:
        """Like `write`, but all items that wait for the same ``operation`` are carried out in one call of it, where the first one stands.

        So what depends on the order has to await the one before. An exception that it raises, rather than gives for an item, is raised
        for all of these items and undoes them.
        """
        return await self._ask(self._writer, Request(operation, item))

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out ``query`` on the reader's thread, on one state of the database that holds everything `write` has returned for.

        Rows are `sqlite3.Row`; nothing can be changed there. Raises `LedgerUnavailable`.
        """
        return await self._ask(self._reader, Request(_Alone(query), None))

    def close(self) -> None:
        """Wait for what is queued, then close the file. Blocks; what is asked for afterwards raises `LedgerUnavailable`."""
        self._reader.close()
        self._writer.close()

    async def _ask(self, worker: _Worker, request: Request[Item, T]) -> T:
        worker.submit(cast("Request[object, object]", request))
        self._waited_for.add(request)
        try:
            return await request.answer()
        finally:
            self._waited_for.discard(request)
