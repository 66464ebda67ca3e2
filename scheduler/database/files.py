"""Whose file is it: a database is looked at without a change to it, and only then opened, made or migrated.

The application id in SQLite's header says what kind of database it is, ``user_version`` how many of its migrations it has.
"""

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import sqlite_utils  # noqa: TID251 -- this package is the one that may

from scheduler.core.errors import DatabaseRefused, LedgerUnavailable
from scheduler.core.plural import pluralize
from scheduler.database.errors import describe_damage, get_primary_code, translate_errors

Tables = sqlite_utils.Database
"""What a migration works on."""

SIDE_FILE_SUFFIXES: Final = ("-wal", "-shm")
"""What SQLite adds to the name of a database for the files beside it."""

BUSY_SECONDS: Final = 1.0
"""How long a statement waits for another process, such as a command that writes a pause."""

_HEADER_SIZE: Final = 100
"""Bytes that every database begins with (https://www.sqlite.org/fileformat.html). They are read by SQLite and never by us: closing a
file takes away the locks that SQLite has on it (https://www.sqlite.org/howtocorrupt.html, 2.2)."""

_TRIES: Final = 20
"""So often in `BUSY_SECONDS` a lock is asked for that SQLite does not wait for."""

_FULL_CHECK_LIMIT: Final = 128 * 2**20
"""Bytes up to which the whole file is checked at the opening; it takes less than a second. Damage in a bigger one shows in use."""

_PRAGMAS: Final = (
    "PRAGMA synchronous = FULL",  # a commit is on the disk when it returns
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 8000",  # pages; a backstop, since the writer checkpoints when it is idle
    "PRAGMA journal_size_limit = 67108864",  # bytes that the write-ahead log keeps after a burst
    "PRAGMA cache_size = -8000",  # KiB
)


class Migration(Protocol):
    """One step of a schema. Its name is recorded in the file: once released, neither name nor content nor place in the row changes."""

    __name__: str

    def __call__(self, tables: Tables, /) -> None:
        """Take the step, inside the transaction of all steps that are pending."""


@dataclass(frozen=True, slots=True)
class Schema:
    """A kind of database: its mark in the file's header, and all its steps in order."""

    application_id: int
    migrations: Sequence[Migration]


def open_for_writing(path: Path, schema: Schema) -> sqlite3.Connection:
    """The file, made or migrated where need be. Raises `DatabaseRefused`, the file unchanged, or `LedgerUnavailable`."""
    with translate_errors(path):
        _read_version(path, schema)
        if path.exists():
            _require_writable(path)
        connection = _connect(path, "rwc")
        try:
            _enable_write_ahead_log(path, connection)
            _migrate(connection, schema)
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def reopen_for_writing(path: Path, schema: Schema) -> sqlite3.Connection:
    """The same file again after a fault: never made, never migrated, so that a file that went missing is not replaced by an empty one."""
    with translate_errors(path):
        _require_writable(path)
        connection = _connect(path, "rw")
        try:
            _require_current(path, connection, schema)
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def open_for_reading(path: Path, *, application_id: int, migrations: Sequence[Migration]) -> sqlite3.Connection:
    """A connection that can change nothing, with rows by name. For commands, also while a daemon writes.

    Raises `DatabaseRefused` for a file that is not ours, damaged, or of another version, and `LedgerUnavailable` when there is none
    or it cannot be read now.
    """
    if not path.exists():
        raise LedgerUnavailable(f"{path} does not exist: nothing has been recorded there. Start the daemon once, or name another file")
    with translate_errors(path):
        connection = connect_for_reading(path)
        try:
            _require_current(path, connection, Schema(application_id, migrations))
        except BaseException:
            connection.close()
            raise
        return connection


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """A read-only connection to a file that is known to be ours."""
    connection = _connect(path, "ro")
    connection.row_factory = sqlite3.Row
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # Autocommit: every BEGIN is written out. The threads that share a connection see to it that they take turns.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _require_writable(path: Path) -> None:
    """SQLite would open it for reading instead, and give the files beside it the same rights, which then outlast the mistake."""
    if not os.access(path, os.W_OK, effective_ids=True):
        raise LedgerUnavailable(f"{path} is read-only; give the daemon's user the right to write to it, or mount its disk for writing")


def _prepare(connection: sqlite3.Connection) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _enable_write_ahead_log(path: Path, connection: sqlite3.Connection) -> None:
    """Of several processes that make the same file, SQLite lets none wait for the lock that this takes; so they try again."""
    connection.execute("PRAGMA busy_timeout = 0")
    for _ in range(_TRIES):
        if (mode := _switch_journal_mode(connection)) is not None:
            break
        time.sleep(BUSY_SECONDS / _TRIES)
    else:
        raise LedgerUnavailable(f"{path} is locked; another process holds it: end its transaction, or wait")
    if mode != "wal":
        raise LedgerUnavailable(f"{path} cannot have a write-ahead log, only {mode!r}: put it on a local disk")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")


def _switch_journal_mode(connection: sqlite3.Connection) -> str | None:
    """The mode that the journal is in now; None when somebody else holds the lock."""
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.OperationalError as error:
        if get_primary_code(error) != sqlite3.SQLITE_BUSY:
            raise
        return None
    return str(mode)


# ---------------------------------------------------------------- looking


def _read_version(path: Path, schema: Schema) -> int:
    """How many migrations the file has, 0 when it has no content. Raises `DatabaseRefused` for what we must not touch."""
    if path.is_dir():
        raise DatabaseRefused(f"{path} is a folder; name a file in it")
    size = path.stat().st_size if path.exists() else 0
    if size == 0:
        return 0
    if size < _HEADER_SIZE:  # SQLite takes a file of one byte for an empty one, and would write over it
        raise DatabaseRefused(describe_damage(path, f"it has {pluralize(size, 'byte')}"))
    with closing(open_without_trace(path)) as connection:
        version = _check_schema(path, connection, schema)
        if size <= _FULL_CHECK_LIMIT:
            _require_sound(path, connection)
        return version


def open_without_trace(path: Path) -> sqlite3.Connection:
    """A connection that leaves no trace, not even a file beside the database, when nobody has it open."""
    logged = any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-journal"))
    return _connect(path, "ro" if logged else "ro&immutable=1")


def require_kind(path: Path, connection: sqlite3.Connection, *, application_id: int, migrations: Sequence[Migration]) -> int:
    """Return how many migrations an open database has. Raises `DatabaseRefused` for another kind of database, and for a newer version."""
    return _check_schema(path, connection, Schema(application_id, migrations))


def _check_schema(path: Path, connection: sqlite3.Connection, schema: Schema) -> int:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (content,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application_id == 0 and version == 0 and content == 0:
        return 0
    if application_id != schema.application_id:
        raise DatabaseRefused(
            f"{path} is an SQLite database of something else (application id {application_id:#010x}, not {schema.application_id:#010x}). "
            "It was left as it is: name another file"
        )
    newest = len(schema.migrations)
    if version > newest:
        raise DatabaseRefused(
            f"{path} was written by a newer version of the scheduler (schema {version}, this one knows {newest}). "
            "It was left as it is: install the newer version, or restore a backup from before the upgrade"
        )
    return int(version)


def _require_sound(path: Path, connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise DatabaseRefused(describe_damage(path, found))


def _require_current(path: Path, connection: sqlite3.Connection, schema: Schema) -> None:
    version, newest = _check_schema(path, connection, schema), len(schema.migrations)
    if version < newest:
        raise DatabaseRefused(
            f"{path} was written by an older version of the scheduler (schema {version}, this one wants {newest}). "
            "It was left as it is: start the daemon once, which brings it up to date"
        )


# ---------------------------------------------------------------- migrating


def _migrate(connection: sqlite3.Connection, schema: Schema) -> None:
    """Take all pending steps in one transaction. Of two processes that try, the second one finds nothing to do."""
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
        steps()(migration)
    steps.apply(Tables(connection, execute_plugins=False))
    connection.execute(f"PRAGMA application_id = {schema.application_id:d}")
    connection.execute(f"PRAGMA user_version = {len(schema.migrations):d}")
