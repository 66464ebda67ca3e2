"""Whether the embedded API's database works: what the last writes and reads came to, for `/healthz`, the metric and the log.

A server to which nobody writes has to notice that the disk has room again. So a probe writes while the database has failed, and only the
probe ends the failure: a small write may succeed on a disk on which the next larger write fails.
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
"""Bytes that the probe needs on the disk: more than a usual write takes, with its share of the write-ahead log."""
_PROBE_NOT_BEFORE: Final = 0.1  # seconds
_PROBE_EVERY: Final = 1.0  # seconds
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_MOST_CAUSES: Final = 10

_log = structlog.get_logger(__name__)


class DatabaseHealth:
    """Whether the database of this path works. The log has a line for each cause of one failure, and a line when the failure is over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._causes: list[str] = []  # of the present failure, as logged
        self._faults = 0  # so far, so that a probe notices a fault beside it
        self._failed = asyncio.Event()
        self._written = asyncio.Event()  # since the last probe

    @property
    def is_working(self) -> bool:
        """Whether no write or read has failed since the database worked last."""
        return not self._failed.is_set()

    def note_fault(self, error: LedgerUnavailable) -> None:
        """Note that a write or a read failed. Several causes may take turns, so each one is logged once."""
        cause = str(error)
        if cause not in self._causes and len(self._causes) < _MOST_CAUSES:
            self._causes.append(cause)
            _log.error("database.unavailable", error=cause)
        self._faults += 1
        self._failed.set()

    def note_commit(self, _seconds: float) -> None:
        """Note that a write succeeded: a good moment for the probe."""
        self._written.set()

    async def probe_while_failed(self, database: Database) -> None:
        """Probe every second while the database fails, or soon after a write that succeeded; for ever."""
        while True:
            await self._failed.wait()
            await asyncio.sleep(_PROBE_NOT_BEFORE)
            with suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_EVERY):  # wait_for of Python 3.11 may swallow the cancellation that ends this task
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
    """Raise OSError when the disk has no room. A folder in which no file can be made says nothing: the write decides then."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, ROOM)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise


def _write(connection: sqlite3.Connection) -> None:
    """Write a page of the database, with what it holds already."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version:d}")


def _read(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT 1 FROM keys LIMIT 1").fetchone()
