"""The health of the embedded API's database, for `/healthz`, the metric and the log.

The last writes and reads decide. A server without writers has to notice new room on the disk. A probe writes
while the database is failing, and only the probe ends the failure: a small write may succeed on a disk where
the next larger write fails.
"""

import asyncio
import errno
import os
import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from scheduler.core.errors import LedgerUnavailable, Unreachable
from scheduler.database import Database

ROOM: Final = 2**20
"""Bytes for the probe on the disk: more than a usual write and a share of the write-ahead log."""
_PROBE_NOT_BEFORE: Final = 0.1  # seconds
_PROBE_EVERY: Final = 1.0  # seconds
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_MOST_CAUSES: Final = 10

_log = structlog.get_logger(__name__)


class DatabaseHealth:
    """The health of the database at this path.

    The log has a line for each cause of a failure, and a line for the end of the failure.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._causes: list[str] = []  # of the present failure, as logged
        self._faults = 0  # so far, so that a probe notices an error during the probe
        self._failed = asyncio.Event()
        self._written = asyncio.Event()  # since the last probe

    @property
    def is_working(self) -> bool:
        """Whether no write or read has failed since the database last worked."""
        return not self._failed.is_set()

    def note_fault(self, error: LedgerUnavailable) -> None:
        """Note a failed write or read. Several causes may alternate: each cause is logged once."""
        cause = str(error)
        if cause not in self._causes and len(self._causes) < _MOST_CAUSES:
            self._causes.append(cause)
            _log.error("database.unavailable", error=cause)
        self._faults += 1
        self._failed.set()

    def note_commit(self, _seconds: float) -> None:
        """Note a successful write: a good moment for the probe."""
        self._written.set()

    async def check(self, database: Database) -> bool:
        """Return whether the last writes succeeded, and a read succeeds now."""
        try:
            await database.read(_read)
        except Unreachable:
            return False
        return self.is_working

    async def probe_while_failed(self, database: Database) -> None:
        """Probe every second while the database is failing, or soon after a successful write; for ever."""
        while True:
            await self._failed.wait()
            await asyncio.sleep(_PROBE_NOT_BEFORE)
            with suppress(TimeoutError):
                # wait_for of Python 3.11 may swallow the cancellation of this task
                async with asyncio.timeout(_PROBE_EVERY):
                    await self._written.wait()
            faults = self._faults
            if await self._probe(database) and faults == self._faults:
                self._failed.clear()
                self._causes.clear()
                _log.info("database.recovered")
            self._written.clear()

    async def _probe(self, database: Database) -> bool:
        try:
            await asyncio.to_thread(_require_room, self._path.parent)
            await database.write(_write)
            await database.read(_read)
        except (OSError, RuntimeError, Unreachable, sqlite3.Error):  # RuntimeError: no thread can be started
            return False
        return True


def _require_room(folder: Path) -> None:
    """Raise OSError for a disk without room. When the folder accepts no file, the write decides."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, ROOM)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise


def _write(connection: sqlite3.Connection) -> None:
    """Write a page of the database, without a change of the content."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version:d}")


def _read(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT 1 FROM keys LIMIT 1").fetchone()
