"""Writes down the waits that last, so that readers of the ledger see them and a killed process does not take them along.

A wait is usually written with the next change of its occurrence and costs no transaction. One that has lasted is written once by itself,
without its end, many in one transaction; its end comes with the next change.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from scheduler.core.errors import LedgerUnavailable
from scheduler.core.status import WaitStatus
from scheduler.daemon.context import Context
from scheduler.daemon.dispatcher import Dispatcher
from scheduler.daemon.lane import Carried

LOOK_EVERY: Final = 5.0
"""Seconds between two looks."""
AT_ONCE: Final = 500
"""Occurrences that a look goes through at once, and that one transaction writes: some milliseconds."""
PUT_OFF: Final = 30.0
"""Seconds. A look ends when something is due soon, unless the last whole look is so long ago: with many automations something always is."""


class WaitRecord:
    """The lasting waits of one target. ``is_due_soon``: whether something is fired within a moment, so that nothing else may be written."""

    def __init__(self, context: Context, dispatcher: Dispatcher, is_due_soon: Callable[[], bool]) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._is_due_soon = is_due_soon
        self._looked_at = context.clock.seconds()  # when the last look that was not put off ended

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self.look()

    async def look(self) -> None:
        """Look once. What the ledger does not take now is tried again at the next look."""
        clock, some = self._context.clock, list[tuple[Carried, WaitStatus | None]]()
        for lane in self._dispatcher.all_lanes():
            some += ((carried, wait) for carried, wait in lane.waits(clock) if not carried.concluded)
            if len(some) < AT_ONCE:
                continue
            if self._is_put_off() or not await self._note(some):
                return
            some = []
            await asyncio.sleep(0)
        some += ((carried, carried.current_wait(clock)) for carried in self._dispatcher.given_up)
        if not self._is_put_off() and await self._note(some):
            self._looked_at = clock.seconds()

    def _is_put_off(self) -> bool:
        return self._is_due_soon() and self._context.clock.seconds() - self._looked_at < PUT_OFF

    async def _note(self, waits: Sequence[tuple[Carried, WaitStatus | None]]) -> bool:
        """Write what of these has to be written. Return whether the ledger took it."""
        now = self._context.clock.now()
        noted = [(carried, steps) for carried, wait in waits if (steps := carried.steps_to_note(wait, now))]
        for some in (noted[place : place + AT_ONCE] for place in range(0, len(noted), AT_ONCE)):
            try:
                await self._context.ledger.note([(carried.occurrence, steps) for carried, steps in some])
            except LedgerUnavailable as error:
                self._context.health.failed("note", str(error))
                return False
            for carried, steps in some:
                carried.note(steps, now)
        return True
