"""Takes up at once what a command on the same machine has changed, instead of at the next poll."""

import asyncio
from contextlib import suppress
from typing import Final

from scheduler.daemon.clearance import Clearance
from scheduler.daemon.context import Context
from scheduler.daemon.presence import READINGS_PER_POLL, Presence
from scheduler.daemon.readings import Readings

EVERY: Final = 1.0
"""Seconds between two refreshes at least: commands can cause no more than one additional poll a second."""
READ_WITHIN: Final = 10.0
"""Seconds for the readings of a refresh, which may wait for the request budget for long: the next refresh must not wait for them."""


class Refresh:
    """One target's refresh. Requests that come while a refresh is under way lead to one more refresh, however many there are."""

    def __init__(self, context: Context, readings: Readings, clearance: Clearance, presence: Presence) -> None:
        self._context = context
        self._readings = readings
        self._clearance = clearance
        self._presence = presence
        self._wanted = asyncio.Event()

    async def request(self) -> None:
        """Read the pauses now, and ask for a poll. Raises `LedgerUnavailable`."""
        self._wanted.set()
        self._clearance.paused = await self._context.ledger.pauses(self._context.target)

    async def run(self) -> None:
        """Poll on request, for ever. The poll waits for the request budget, and while polls fail for the next try."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if await self._readings.poll_since(self._context.clock.seconds()):
                with suppress(TimeoutError):
                    async with asyncio.timeout(READ_WITHIN):
                        await self._read_absent()
            await asyncio.sleep(EVERY)

    async def _read_absent(self) -> None:
        """Read the automations alone that the list does not show: a deleted one is gone at once, and not only with a later poll.

        When many are absent, the list is more likely wrong than each of them deleted: the next poll decides.
        """
        absent = sorted(self._context.timetable.absent)
        if len(absent) > READINGS_PER_POLL:
            return
        for automation_id in absent:
            if self._presence.may_read(automation_id):
                await self._presence.read(automation_id)
