"""A ledger's file in memory. The schema is made once for each process of tests, and copied for each file."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from scheduler.ledger.schema import APPLICATION_ID, MIGRATIONS

_T = TypeVar("_T")

_IN_MEMORY: Final = ":memory:"


class MemoryFile:
    """A ledger's file, with a connection for all readers and writers.

    The connection may be closed by any thread: the garbage collector runs in any thread.
    """

    def __init__(self) -> None:
        self.connection = sqlite3.connect(_IN_MEMORY, isolation_level=None, check_same_thread=False)
        self.connection.deserialize(_make_empty_file())
        self.connection.execute("PRAGMA foreign_keys = ON")

    def read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Query with rows by name, as a reader of the real file."""
        self.connection.row_factory = sqlite3.Row
        try:
            return query(self.connection)
        finally:
            self.connection.row_factory = None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit at the end, or roll back on an exception."""
        self.connection.execute("BEGIN IMMEDIATE")
        with self.connection:
            yield self.connection

    def copy(self) -> sqlite3.Connection:
        """Copy the present state into a database in memory."""
        copy = sqlite3.connect(_IN_MEMORY, check_same_thread=False)
        self.connection.backup(copy)
        return copy

    def save(self, path: Path) -> None:
        """Write the present state into a file, as the daemon would have left the file."""
        self.connection.execute("VACUUM INTO ?", (str(path),))
        with closing(sqlite3.connect(path)) as copy:
            copy.execute("PRAGMA journal_mode = WAL")

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


@cache
def _make_empty_file() -> bytes:
    connection = sqlite3.connect(_IN_MEMORY, isolation_level=None)
    try:
        for migration in MIGRATIONS:
            migration(cast("Any", connection))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS):d}")
        return connection.serialize()
    finally:
        connection.close()
