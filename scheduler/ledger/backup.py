"""A copy of the ledger that is whole or not there: for backups, also while a daemon writes.

Apart, because the copy belongs to whoever wants it and the ledger to the daemon's user: the file is opened before anything is read as that
user, and SQLite needs no other file beside it.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from scheduler.core.errors import ConfigurationError
from scheduler.database.faults import translated


@contextmanager
def copying(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection to be backed up into; when the block ends, ``file`` is its content, checked and on the disk, readable by its owner.

    Raises `ConfigurationError` when ``file`` is there already or cannot be made; what fails leaves nothing behind.
    """
    if file.exists():
        raise ConfigurationError(f"{file} is there already; name another file, or move that one away")
    part = file.with_name(f"{file.name}.part")
    _make(part)
    try:
        with translated(part), closing(sqlite3.connect(part, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("PRAGMA user_version")  # it has the file open now, whoever this process is from here on
            yield connection
            _check(part, connection)
        _settle(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _make(part: Path) -> None:
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    except OSError as error:
        raise ConfigurationError(f"{part} cannot be made: {error.strerror}; name a file in a folder that you may write to") from None


def _check(part: Path, connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise ConfigurationError(f"the copy {part} is damaged ({found}), and so is the ledger; see docs/operations.md")


def _settle(part: Path, file: Path) -> None:
    for path in (part, part.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if path == part:
            part.rename(file)
