"""Files: a database is checked without any change, and only then opened, made or migrated.

The application id in SQLite's header shows the kind of the database, and ``user_version`` the number of its
migrations.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlite_utils  # noqa: TID251 -- this package is the one that may

from scheduler.core.errors import DatabaseRefused, LedgerUnavailable
from scheduler.core.quantities import pluralize
from scheduler.database.errors import describe_damage, get_primary_code, translate_errors

Tables = sqlite_utils.Database
"""Database object for migrations."""

SIDE_FILE_SUFFIXES: Final = ("-wal", "-shm")
"""Suffixes that SQLite adds to the name of a database for side files."""

BUSY_SECONDS: Final = 1.0
"""Seconds for which a statement waits for another process, such as a command that writes a pause."""

_HEADER_SIZE: Final = 100
"""Size of the header of every database, in bytes (https://www.sqlite.org/fileformat.html).

Only SQLite reads the header, never this package: closing a file removes the locks that SQLite has on the file
(https://www.sqlite.org/howtocorrupt.html, 2.2).
"""

_TRIES: Final = 20
"""Number of tries within `BUSY_SECONDS` for the journal lock: SQLite does not wait for this lock."""

_FULL_CHECK_LIMIT: Final = 128 * 2**20
"""Maximum size in bytes for a check of the whole file at the opening, which takes less than a second.

Damage in a larger file shows in use.
"""

_MAX_DAMAGES: Final = 5  # damages reported at most
_STEPS: Final = 100_000  # of SQLite's virtual machine, between two readings of the clock

_PRAGMAS: Final = (
    "PRAGMA synchronous = FULL",  # a commit is on the disk when it returns
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 8000",  # pages; a fallback, because the writer makes checkpoints when idle
    "PRAGMA journal_size_limit = 67108864",  # bytes kept by the write-ahead log after a burst
    "PRAGMA cache_size = -8000",  # KiB
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of a schema. The file records the name of the step.

    After a release, the name, the statements and the position of a step never change.
    """

    name: str
    statements: Sequence[str]

    def __call__(self, tables: Tables, /) -> None:
        """Take the step, inside the transaction of all pending steps."""
        for statement in self.statements:
            tables.execute(statement)


@dataclass(frozen=True, slots=True)
class Schema:
    """Schema of a kind of database: the application id in the file's header, and all steps in order.

    ``name`` is for people. ``member`` is the name of the copy in an archive.
    """

    application_id: int
    migrations: Sequence[Migration]
    name: str
    member: str


def open_for_writing(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open the file for writing. Make or migrate the file if necessary.

    Raises `DatabaseRefused`, with the file unchanged, or `LedgerUnavailable`.
    """
    with translate_errors(path):
        _read_version(path, schema)
        if path.exists():
            _require_writable(path)
        with _close_on_error(_connect(path, "rwc")) as connection:
            _enable_write_ahead_log(path, connection)
            _migrate(connection, schema)
            _prepare(connection)
            return connection


def reopen_for_writing(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open the same file again after a fault, without making or migrating the file.

    Therefore no empty file replaces a missing file.
    """
    with translate_errors(path):
        _require_writable(path)
        with _close_on_error(_connect(path, "rw")) as connection:
            _require_current(path, connection, schema)
            _prepare(connection)
            return connection


def open_for_reading(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open a read-only connection with rows by name, for commands, also while a daemon writes.

    Raises `DatabaseRefused` for a file of another application, a damaged file, or another version. Raises
    `LedgerUnavailable` when the file does not exist or cannot be read now.
    """
    if not path.exists():
        raise LedgerUnavailable(
            f"{path} does not exist: nothing has been recorded there. Start the daemon once, or name "
            "another file"
        )
    with translate_errors(path), _close_on_error(connect_for_reading(path)) as connection:
        _require_current(path, connection, schema)
        return connection


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """Open a read-only connection to a file of this project, which was checked before."""
    connection = _connect(path, "ro")
    connection.row_factory = sqlite3.Row
    return connection


@contextmanager
def _close_on_error(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Close the connection when the block raises, and only then."""
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # Autocommit: every BEGIN is written out. The threads that share a connection take turns by themselves.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _require_writable(path: Path) -> None:
    """Raise `LedgerUnavailable` for a file without write permission.

    SQLite would open such a file for reading instead, and would create the files beside it with the same
    rights. These rights would remain after the mistake is corrected.
    """
    if not os.access(path, os.W_OK, effective_ids=True):
        raise LedgerUnavailable(
            f"{path} is read-only; give the daemon's user the right to write to it, or mount its "
            "disk for writing"
        )


def _prepare(connection: sqlite3.Connection) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _enable_write_ahead_log(path: Path, connection: sqlite3.Connection) -> None:
    """Switch the database to a write-ahead log.

    When several processes make the same file, SQLite does not wait for the lock of this switch. Therefore the
    switch is tried again, `_TRIES` times within `BUSY_SECONDS`.
    """
    connection.execute("PRAGMA busy_timeout = 0")
    for _ in range(_TRIES):
        if (mode := _switch_journal_mode(connection)) is not None:
            break
        time.sleep(BUSY_SECONDS / _TRIES)
    else:
        raise LedgerUnavailable(f"{path} is locked; another process holds it: end its transaction, or wait")
    if mode != "wal":
        raise LedgerUnavailable(
            f"{path} cannot have a write-ahead log, only {mode!r}: put it on a local disk"
        )
    connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")


def _switch_journal_mode(connection: sqlite3.Connection) -> str | None:
    """Switch to the write-ahead log. Return the current journal mode.

    Return None when another process holds the lock.
    """
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.OperationalError as error:
        if get_primary_code(error) != sqlite3.SQLITE_BUSY:
            raise
        return None
    return str(mode)


def measure_database(path: Path) -> int:
    """Return the bytes of a database and of the files that SQLite keeps beside it; 0 without a file."""
    size = 0
    for suffix in ("", *SIDE_FILE_SUFFIXES):
        with suppress(FileNotFoundError):
            size += path.with_name(path.name + suffix).stat().st_size
    return size


# ---------------------------------------------------------------- checks


def _read_version(path: Path, schema: Schema) -> int:
    """Return the number of migrations in the file; 0 for a file without content.

    Raises `DatabaseRefused` for a folder, a file of another application, a damaged file, or a newer version.
    """
    if path.is_dir():
        raise DatabaseRefused(f"{path} is a folder; name a file in it")
    size = path.stat().st_size if path.exists() else 0
    if size == 0:
        return 0
    if size < _HEADER_SIZE:  # SQLite treats a file of one byte as empty, and would overwrite the file
        raise DatabaseRefused(describe_damage(path, f"it has {pluralize(size, 'byte')}"))
    with closing(open_without_trace(path)) as connection:
        version = check_schema(path, connection, schema)
        if size <= _FULL_CHECK_LIMIT:
            require_sound(path, connection)
        return version


def open_without_trace(path: Path) -> sqlite3.Connection:
    """Open a read-only connection that leaves no trace.

    When no process has the database open, no file is made beside the database.
    """
    logged = any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-journal"))
    return _connect(path, "ro" if logged else "ro&immutable=1")


def check_schema(path: Path, connection: sqlite3.Connection, schema: Schema) -> int:
    """Return the number of migrations in an open database.

    Raises `DatabaseRefused` for another kind of database, and for a newer version.
    """
    application_id, version = read_kind(connection)
    if application_id == 0 and version == 0 and not has_tables(connection):
        return 0
    if application_id != schema.application_id:
        raise DatabaseRefused(
            f"{path} is an SQLite database of another program (application id "
            f"{application_id:#010x}, not {schema.application_id:#010x}). "
            "The file is unchanged: name another file"
        )
    newest = len(schema.migrations)
    if version > newest:
        raise DatabaseRefused(
            f"{path} was written by a newer version of the scheduler (schema {version}, this one "
            f"knows {newest}). "
            "The file is unchanged: install the newer version, or restore a backup from before the upgrade"
        )
    return int(version)


def read_kind(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the application id and the version of the schema in an open database."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application_id, version


def has_tables(connection: sqlite3.Connection) -> bool:
    """Return whether an open database has any content."""
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is not None


def find_damage(connection: sqlite3.Connection, overdue: Callable[[], bool]) -> tuple[str, ...] | None:
    """Return the damages that SQLite finds; None when ``overdue`` returned True before the end."""
    connection.set_progress_handler(overdue, _STEPS)
    try:
        damages = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({_MAX_DAMAGES})")]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return None
        raise
    finally:
        connection.set_progress_handler(None, 0)
    return () if damages == ["ok"] else tuple(damages)


def require_sound(path: Path, connection: sqlite3.Connection) -> None:
    """Raise `DatabaseRefused` for a database with damaged pages."""
    (damage,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if damage != "ok":
        raise DatabaseRefused(describe_damage(path, damage))


def _require_current(path: Path, connection: sqlite3.Connection, schema: Schema) -> None:
    version, newest = check_schema(path, connection, schema), len(schema.migrations)
    if version < newest:
        raise DatabaseRefused(
            f"{path} was written by an older version of the scheduler (schema {version}, this one "
            f"wants {newest}). "
            "The file is unchanged: start the daemon once, which brings it up to date"
        )


# ---------------------------------------------------------------- migrations


def _migrate(connection: sqlite3.Connection, schema: Schema) -> None:
    """Take all pending steps in one transaction.

    When two processes try, the second process finds no pending step.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        _take_steps(connection, schema)
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _take_steps(connection: sqlite3.Connection, schema: Schema) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version >= len(schema.migrations):
        return
    steps = sqlite_utils.Migrations("scheduler")
    for migration in schema.migrations:
        steps(name=migration.name)(migration.__call__)
    steps.apply(Tables(connection, execute_plugins=False))
    connection.execute(f"PRAGMA application_id = {schema.application_id:d}")
    connection.execute(f"PRAGMA user_version = {len(schema.migrations):d}")
