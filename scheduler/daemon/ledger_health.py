"""Health of the ledger: whether writes work, and the retries of operations that failed."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Final, TypeVar

from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import LedgerFailed, LedgerRecovered
from scheduler.daemon.clock import back_off
from scheduler.daemon.ports import Publish

_T = TypeVar("_T")

_RETRIED_AT_ONCE: Final = 500
"""Waits for a retry that one write ends: ten thousand retries at once would block the event loop."""


class LedgerHealth:
    """State of the ledger: whether writes work.

    Each change is published. The waits for a retry end when a write works again.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._writes = 0  # number of successful writes
        self._waiters: dict[asyncio.Future[None], None] = {}  # in the order of arrival
        self.recovery_listeners: list[Callable[[], None]] = []  # called when writes work again
        self.error: str | None = None

    def note_failure(self, operation: str, error: str) -> None:
        """Note that a write or read failed."""
        self._publish(LedgerFailed(operation=operation, error=error, first=self.error is None))
        self.error = error

    def note_success(self) -> None:
        """Note that a write worked.

        Some of the waiting operations retry now. Their writes end the waits of the next operations.
        """
        self._writes += 1
        if self.error is not None:
            self.error = None
            self._publish(LedgerRecovered())
            for listener in self.recovery_listeners:
                listener()
        for waiter in list(islice(self._waiters, _RETRIED_AT_ONCE)):
            del self._waiters[waiter]
            waiter.set_result(None)

    async def wait_for_retry(self, seconds: float) -> None:
        """Wait ``seconds`` before a retry, or less when another write works meanwhile.

        An eighth of the time always passes: a write that fails for a reason of its own must not be
        retried after each success of another write.
        """
        writes = self._writes
        await asyncio.sleep(seconds / 8)
        if self._writes > writes:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await asyncio.wait({waiter}, timeout=seconds * 7 / 8)
        finally:
            self._waiters.pop(waiter, None)

    async def retry_write(self, operation: str, write: Callable[[], Awaitable[_T]]) -> _T:
        """Write to the ledger, with retries until the write is durable. Nothing may go on before."""
        result = await self.retry_read(operation, write)
        self.note_success()
        return result

    async def retry_read(
        self, operation: str, read: Callable[[], Awaitable[_T]], on_failure: Callable[[], None] | None = None
    ) -> _T:
        """Read the ledger, with retries until the read works. A read does not tell whether writes work."""
        failures = 0
        while True:
            try:
                return await read()
            except LedgerUnavailable as error:
                failures += 1
                self.note_failure(operation, str(error))
                if on_failure is not None:
                    on_failure()
                await self.wait_for_retry(back_off(failures))
