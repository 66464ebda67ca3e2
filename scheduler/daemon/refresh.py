"""Refresh: applies changes by a command on the same machine at once, instead of at the next poll."""

import asyncio
from contextlib import suppress
from typing import Final

from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.context import Context
from scheduler.daemon.presence import READINGS_PER_POLL, Presence

REFRESH_INTERVAL: Final = 1.0
"""Minimum number of seconds between two refreshes. Commands cause at most one additional poll per second."""
READ_WITHIN: Final = 10.0
"""Maximum number of seconds for the readings of a refresh.

The readings may wait for the request budget for long, and the next refresh must not wait for them.
"""


class Refresh:
    """Refresh of one target. All requests during a refresh lead together to one more refresh."""

    def __init__(self, context: Context, readings: AutomationCache, presence: Presence) -> None:
        self._context = context
        self._cache = readings
        self._presence = presence
        self._request_event = asyncio.Event()

    async def request(self) -> None:
        """Read the pauses now, and request a poll. Raises `LedgerUnavailable`."""
        self._request_event.set()
        self._context.knowledge.paused_ids = await self._context.ledger.read_pauses(self._context.target)

    async def run(self) -> None:
        """Poll on request, forever.

        The poll waits for the request budget. While polls fail, the poll waits for the next try.
        """
        while True:
            await self._request_event.wait()
            self._request_event.clear()
            if await self._cache.wait_for_poll(self._context.clock.boottime()):
                with suppress(TimeoutError):
                    async with asyncio.timeout(READ_WITHIN):
                        await self._read_absent()
            await asyncio.sleep(REFRESH_INTERVAL)

    async def _read_absent(self) -> None:
        """Read the absent automations alone, so that a deleted automation is removed at once.

        When many automations are absent, an error of the list is more likely than many deletions: the next
        poll decides.
        """
        absent = sorted(self._context.timetable.absences.absent)
        if len(absent) > READINGS_PER_POLL:
            return
        for automation_id in absent:
            if self._presence.reserve_reading(automation_id):
                await self._presence.read(automation_id)
