"""Backup: complete copies of databases, and the replacement of a database by a copy.

A copy either exists completely or not at all. Both operations also work as root on behalf of the database's
user. The module is separate because a copy belongs to the user who wants the copy, and a database to the user
of its server. Each file is opened before the process changes its user for the other file. SQLite needs no
other file beside a copy.
"""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from scheduler.core.command_line import format_command
from scheduler.core.errors import ConfigurationError, DatabaseRefused, LedgerUnavailable
from scheduler.database.errors import make_unavailable_error, translate_errors
from scheduler.database.files import (
    SIDE_FILE_SUFFIXES,
    Schema,
    check_schema,
    open_without_trace,
    require_sound,
)

_PAGES: Final = 4096  # pages of a copy made between two checks for signals


# ---------------------------------------------------------------- making copies


@contextmanager
def make_file(file: Path) -> Iterator[Path]:
    """Make a temporary file beside ``file``, for its owner alone.

    When the block ends, the temporary file becomes ``file`` and is on the disk. Raises `ConfigurationError`
    when ``file`` exists already or cannot be made. A failed block leaves nothing behind. A killed block
    leaves a file whose name begins with a dot and ends in ``.part``.
    """
    _require_absent(file)
    with make_temporary_file(file) as part:
        yield part
        _link_into_place(part, file)


@contextmanager
def make_temporary_file(file: Path) -> Iterator[Path]:
    """Make a private file beside ``file``. In the end, remove the file and SQLite's files beside it.

    mkstemp makes the file with mode 0600 and follows no link. Raises `ConfigurationError`.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=file.parent)
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be made: {error.strerror}; name a file in a folder that you may write to"
        ) from None
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
    finally:
        for suffix in ("", *SIDE_FILE_SUFFIXES):
            part.with_name(part.name + suffix).unlink(missing_ok=True)


@contextmanager
def fill_copy(part: Path, kind: Schema, file: Path) -> Iterator[sqlite3.Connection]:
    """Open an empty file for a copy, and check the content when the block ends.

    ``file`` is the name for messages.
    """
    with translate_errors(file), closing(sqlite3.connect(part, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = MEMORY")
        # opens the file now: a later change of the process's user does not matter
        connection.execute("PRAGMA user_version")
        yield connection
        require_whole(file, connection, kind)


def copy_database(source: sqlite3.Connection, into: sqlite3.Connection) -> None:
    """Copy a whole database in its present state, even while other processes write."""
    source.execute("BEGIN")
    # the copy shows the state of this instant
    source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    source.backup(into, pages=_PAGES)
    source.execute("COMMIT")


@contextmanager
def open_copy(path: Path, file: Path) -> Iterator[sqlite3.Connection]:
    """Open a copy, also a copy with its own write-ahead log.

    The file is opened at once: a later change of the process's user does not matter. ``file`` is the name for
    messages.
    """
    with translate_errors(file), closing(open_without_trace(path)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        yield connection


def require_whole(file: Path, connection: sqlite3.Connection, kind: Schema) -> None:
    """Raise `DatabaseRefused` for an unusable copy.

    Such a copy is damaged, of another kind, without tables, or of a newer version.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != kind.application_id:
        raise DatabaseRefused(f"the copy in {file} is no {kind.name}")
    check_schema(file, connection, kind)
    require_sound(file, connection)


# ---------------------------------------------------------------- replacing a database by a copy


def make_staged_path(path: Path) -> Path:
    """Return the path of the staged copy beside a database.

    While the staged copy exists, no server opens the database.
    """
    return path.with_name(f".{path.name}.restored")


def refuse_interrupted_restore(path: Path) -> None:
    """Raise `DatabaseRefused` after a killed restore.

    After such a restore, one of two databases may be old, or no database may be in place.
    """
    staged = make_staged_path(path)
    if staged.exists():
        raise DatabaseRefused(
            f"{path}: a restore was interrupted, {staged.name} lies beside it; "
            f"run `{format_command('restore FILE')}` again with the same backup, or remove {staged} "
            "to go on with the present database"
        )


def move_into_place(staged: Path, path: Path, at: datetime) -> Path | None:
    """Make ``staged`` the database. No process may have the database open.

    Return the folder with the earlier database and its files, or None when there was no database. Until the
    last step, ``staged`` marks the restore as incomplete. Raises `LedgerUnavailable`.
    """
    try:
        aside = _set_aside(path, at)
        staged.rename(path)
        sync(path.parent)
    except OSError as error:
        raise make_unavailable_error(path, error) from error
    return aside


def _set_aside(path: Path, at: datetime) -> Path | None:
    files = [path.with_name(path.name + suffix) for suffix in ("", *SIDE_FILE_SUFFIXES)]
    existing = [file for file in files if file.exists()]
    if not existing:
        return None
    aside = path.with_name(f"{path.name}.before-{at:%Y%m%dT%H%M%SZ}")
    while aside.exists():  # the name is taken when a restore is repeated within a second
        aside = aside.with_name(f"{aside.name}-again")
    aside.mkdir(mode=0o700)
    for file in existing:  # the database first: without its database, a write-ahead log has no effect
        file.rename(aside / file.name)
    return aside


# ---------------------------------------------------------------- files


def _require_absent(file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise ConfigurationError(f"{file} is there already; name another file, or move that one away")


def _link_into_place(part: Path, file: Path) -> None:
    """Give the copy its final name, unless another process has made a file of this name meanwhile."""
    try:
        sync(part)
        os.link(part, file)
        sync(file.parent)
    except FileExistsError:
        _require_absent(file)
    except OSError as error:
        raise LedgerUnavailable(f"{file}: {error.strerror}; copy to a local disk") from error


def sync(path: Path) -> None:
    """Make a file or a folder durable."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written but not read
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
