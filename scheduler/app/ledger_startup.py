"""The startup of a ledger: first the lock, then the file.

Both are waited for until they are available or a signal says stop. The module is separate from the daemon,
because nothing here knows a target. Meanwhile log, metrics and readiness show the obstacle.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import DaemonWaiting, LedgerCommitted
from scheduler.daemon.clock import back_off
from scheduler.daemon.ledger_health import LedgerHealth
from scheduler.daemon.ports import Publish
from scheduler.daemon.service import Service
from scheduler.database import Database
from scheduler.database.backup import refuse_interrupted_restore
from scheduler.database.lock_file import read_holder
from scheduler.ledger.lock import LedgerLock
from scheduler.ledger.schema import open_ledger

T = TypeVar("T")

_LOOK_AGAIN: Final = 1.0
"""Seconds between two attempts to acquire the lock."""


class LedgerStartup:
    """Opens one ledger for one daemon. Each method returns None when the daemon is told to stop before."""

    def __init__(self, ledger: Path, service: Service, health: LedgerHealth, publish: Publish) -> None:
        self._ledger = ledger
        self._service = service
        self._health = health
        self._publish = publish

    async def acquire_lock(self, node: str, now: Callable[[], datetime]) -> LedgerLock | None:
        """Acquire the lock as soon as the lock is free."""
        while not self._service.is_stopping:
            try:
                lock = LedgerLock.try_acquire(self._ledger, node=node, since=now())
            except LedgerUnavailable as error:
                self._health.note_failure("lock", str(error))
            else:
                self._health.note_success()
                self._note_holder(None if lock else read_holder(self._ledger))
                if lock is not None:
                    return lock
            await self._pause(_LOOK_AGAIN)
        return None

    async def open_database(self) -> Database | None:
        """Open the ledger; create or migrate the file when necessary. Raises `DatabaseRefused`."""
        loop = asyncio.get_running_loop()

        def publish_commit(seconds: float) -> None:
            loop.call_soon_threadsafe(self._publish, LedgerCommitted(seconds=seconds))

        def open_checked() -> Database:
            refuse_interrupted_restore(self._ledger)
            return open_ledger(self._ledger, on_commit=publish_commit)

        return await self.retry(lambda: asyncio.to_thread(open_checked))

    async def retry(self, step: Callable[[], Awaitable[T]]) -> T | None:
        """Return the result of ``step``, repeated until the ledger is available."""
        failures = 0
        while not self._service.is_stopping:
            try:
                done = await step()
            except LedgerUnavailable as error:
                failures += 1
                self._health.note_failure("open", str(error))
                await self._pause(back_off(failures))
            else:
                self._health.note_success()
                return done
        return None

    def _note_holder(self, other: str | None) -> None:
        if other is not None and other != self._service.lock_holder:
            self._publish(DaemonWaiting(holder=other))
        self._service.lock_holder = other

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._service.wait_for_stop()
        except TimeoutError:
            pass
