"""Meaning of SQLite errors: try again later, the file is unusable, or the statement is wrong.

The opening of a file and the work on an open file share this module, so that both treat errors alike.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from scheduler.core.errors import DatabaseRefused, LedgerUnavailable

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_END_TRANSACTION: Final = (
    "another process holds it: end its transaction (an open sqlite3 shell, a backup), or wait"
)
_WHAT_TO_DO: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_READONLY: (
        "give the daemon's user the right to write to it and to its folder, or mount its disk for writing"
    ),
    sqlite3.SQLITE_PERM: "give the daemon's user the right to write to it and to its folder",
    sqlite3.SQLITE_CANTOPEN: "check that its folder exists and that the daemon's user may write there",
    sqlite3.SQLITE_BUSY: _END_TRANSACTION,
    sqlite3.SQLITE_LOCKED: _END_TRANSACTION,
    sqlite3.SQLITE_PROTOCOL: "another process holds it: wait, and check that it is on a local disk",
    sqlite3.SQLITE_IOERR: "check its disk, and read the system log",
    sqlite3.SQLITE_NOMEM: "free some memory",
    sqlite3.SQLITE_CORRUPT: (
        "stop the daemon and restore a backup, or save its readable rows with `sqlite3 FILE .recover`"
    ),
    sqlite3.SQLITE_NOTADB: "something has overwritten it: stop the daemon and restore a backup",
}
"""Advice by primary result code (https://www.sqlite.org/rescode.html).

The codes are the faults of the file or the machine. Errors of a statement are not included.
"""


def get_primary_code(error: object) -> int:
    """Return SQLite's primary result code; 0 for an error that is not from SQLite itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_fault(error: BaseException) -> bool:
    """Return whether the file or the machine is at fault.

    After a fault, no other operation in the same transaction can be trusted either.
    """
    return get_primary_code(error) in _WHAT_TO_DO


def make_unavailable_error(path: Path, error: BaseException) -> LedgerUnavailable:
    """Return the error for a caller who may try again later."""
    if isinstance(error, OSError):
        return LedgerUnavailable(f"{path}: {error.strerror or error}; {_WHAT_TO_DO[sqlite3.SQLITE_CANTOPEN]}")
    if not isinstance(error, sqlite3.Error):
        return LedgerUnavailable(str(error))
    what_to_do = _WHAT_TO_DO.get(get_primary_code(error), "see the log for earlier errors")
    return LedgerUnavailable(f"{path}: {error}; {what_to_do}")


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Translate errors while a file is opened.

    Damage becomes `DatabaseRefused`, any other fault becomes `LedgerUnavailable`.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if get_primary_code(error) in _DAMAGED:
            raise DatabaseRefused(describe_damage(path, str(error))) from error
        raise make_unavailable_error(path, error) from error


def describe_damage(path: Path, what: str) -> str:
    """Return the message for a damaged file, or for a file without a database."""
    return (
        f"{path} is damaged or no SQLite database ({what}). The file is unchanged: restore a backup, "
        "name another file, "
        f"or move it away and save its readable rows with `sqlite3 {path.name} .recover`"
    )
