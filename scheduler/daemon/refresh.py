"""Takes up at once what a command on the same machine has changed, instead of at the next poll."""

import asyncio
from contextlib import suppress
from typing import Final

from scheduler.daemon.admission import Admission
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.context import Context
from scheduler.daemon.presence import READINGS_PER_POLL, Presence

REFRESH_INTERVAL: Final = 1.0
"""Seconds between two refreshes at least: commands can cause no more than one additional poll a second."""
READ_WITHIN: Final = 10.0
"""Seconds for the readings of a refresh, which may wait for the request budget for long: the next refresh must not wait for them."""


class Refresh:
    """One target's refresh. Requests that come while a refresh is under way lead to one more refresh, however many there are."""

    def __init__(self, context: Context, readings: AutomationCache, clearance: Admission, presence: Presence) -> None:
        self._context = context
        self._cache = readings
        self._admission = clearance
        self._presence = presence
        self._request_event = asyncio.Event()

    async def request(self) -> None:
        """Read the pauses now, and ask for a poll. Raises `LedgerUnavailable`."""
        self._request_event.set()
        self._admission.paused_ids = await self._context.ledger.read_pauses(self._context.target)

    async def run(self) -> None:
        """Poll on request, for ever. The poll waits for the request budget, and while polls fail for the next try."""
        while True:
            await self._request_event.wait()
            self._request_event.clear()
            if await self._cache.wait_for_poll(self._context.clock.boottime()):
                with suppress(TimeoutError):
                    async with asyncio.timeout(READ_WITHIN):
                        await self._read_absent()
            await asyncio.sleep(REFRESH_INTERVAL)

    async def _read_absent(self) -> None:
        """Read the automations alone that the list does not show: a deleted one is gone at once, and not only with a later poll.

        When many are absent, the list is more likely wrong than each of them deleted: the next poll decides.
        """
        absent = sorted(self._context.timetable.absent)
        if len(absent) > READINGS_PER_POLL:
            return
        for automation_id in absent:
            if self._presence.reserve_reading(automation_id):
                await self._presence.read(automation_id)
