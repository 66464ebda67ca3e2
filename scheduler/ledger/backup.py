"""A copy of the ledger that is whole or not there, and one that is put in a ledger's place: also as root, for the daemon's user.

Apart, because a copy belongs to whoever wants it and the ledger to the daemon's user: either file is opened before the other is touched as
somebody else, and SQLite needs no other file beside a copy.
"""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from scheduler.core.errors import ConfigurationError, DatabaseRefused, LedgerUnavailable
from scheduler.database.faults import damaged, translated, unavailable
from scheduler.database.files import BESIDE, look
from scheduler.ledger.schema import APPLICATION_ID

_PAGES: Final = 4096  # of a copy that are made before a signal is heard


@contextmanager
def copying(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection to be copied into; when the block ends, ``file`` is its content, checked and on the disk, for its owner alone.

    Raises `ConfigurationError` when ``file`` is there already or cannot be made; what fails leaves nothing behind, and what is killed
    a file whose name begins with a dot.
    """
    _require_absent(file)
    part = _part(file)
    try:
        with translated(file), closing(sqlite3.connect(part, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("PRAGMA user_version")  # it has the file open now, whoever this process is from here on
            yield connection
            _check(file, connection)
        _settle(part, file)
    finally:
        for suffix in ("", *BESIDE):
            part.with_name(part.name + suffix).unlink(missing_ok=True)


def copy(ledger: sqlite3.Connection, into: sqlite3.Connection) -> None:
    """All of the ledger as it is at this instant, whoever writes to it meanwhile."""
    ledger.execute("BEGIN")
    ledger.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # the instant
    ledger.backup(into, pages=_PAGES)
    ledger.execute("COMMIT")


@contextmanager
def reading_copy(file: Path) -> Iterator[sqlite3.Connection]:
    """A backup, open whoever this process is from here on. Raises `ConfigurationError` when it is not there, and `DatabaseRefused`."""
    if not file.is_file():
        raise ConfigurationError(f"{file} is not there; name a file that `scheduler backup` made")
    with translated(file), closing(look(file)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        yield connection


def put_in_place(staged: Path, ledger: Path, at: datetime) -> Path | None:
    """Have ``staged`` be the ledger, which nobody may have open; the folder that what was there is in now, None when nothing was.

    Raises `LedgerUnavailable`.
    """
    try:
        aside = _set_aside(ledger, at)
        staged.rename(ledger)
        _to_disk(ledger.parent)
    except OSError as error:
        raise unavailable(ledger, error) from error
    return aside


def _set_aside(ledger: Path, at: datetime) -> Path | None:
    there = [path for suffix in ("", *BESIDE) if (path := ledger.with_name(ledger.name + suffix)).exists()]
    if not there:
        return None
    aside = ledger.with_name(f"{ledger.name}.before-{at:%Y%m%dT%H%M%SZ}")
    aside.mkdir(mode=0o700)
    for path in there:  # the ledger first: a write-ahead log without its ledger is of no effect
        path.rename(aside / path.name)
    return aside


def _require_absent(file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise ConfigurationError(f"{file} is there already; name another file, or move that one away")


def _part(file: Path) -> Path:
    """A new file beside it that is nobody else's (mkstemp: mode 0600, and no link is followed)."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=file.parent)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be made: {error.strerror}; name a file in a folder that you may write to") from None
    os.close(descriptor)
    return Path(name)


def _check(file: Path, connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise DatabaseRefused(f"what was copied into {file} is no ledger")
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise DatabaseRefused(damaged(file, found))


def _settle(part: Path, file: Path) -> None:
    """Have it under its name, unless somebody else has been quicker."""
    try:
        _to_disk(part)
        os.link(part, file)
        _to_disk(file.parent)
    except FileExistsError:
        _require_absent(file)
    except OSError as error:
        raise LedgerUnavailable(f"{file}: {error.strerror}; copy to a local disk") from error


def _to_disk(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written and not read
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
