"""Recorder of lasting waits: readers of the ledger see lasting waits, and a kill loses no such wait.

A wait is usually written with the next change of its occurrence and costs no transaction. A lasting
wait is written once before its end, many waits in one transaction. The end comes with the next change.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from scheduler.core.errors import LedgerUnavailable
from scheduler.core.status import WaitStatus
from scheduler.daemon.automation_queue import OpenDelivery
from scheduler.daemon.context import Context
from scheduler.daemon.dispatcher import Dispatcher

RECORD_INTERVAL: Final = 5.0
"""Seconds between two checks."""
AT_ONCE: Final = 500
"""Occurrences that a check handles at once, and that one transaction writes: some milliseconds."""
MAX_POSTPONEMENT: Final = 30.0
"""Seconds since the last complete check after which a check goes on although something is due soon.

With many automations, something is always due soon.
"""


class WaitRecorder:
    """Records the lasting waits of one target.

    ``is_due_soon`` returns whether an occurrence is fired within a moment: no other write may delay the fire.
    """

    def __init__(self, context: Context, dispatcher: Dispatcher, is_due_soon: Callable[[], bool]) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._is_due_soon = is_due_soon
        self._looked_at = context.clock.boottime()  # when the last complete check ended

    async def run(self) -> None:
        """Check for ever, every `RECORD_INTERVAL` seconds."""
        while True:
            await asyncio.sleep(RECORD_INTERVAL)
            await self.record_waits()

    async def record_waits(self) -> None:
        """Check once, and record the lasting waits. After a failed write, the next check tries again."""
        clock, some = self._context.clock, list[tuple[OpenDelivery, WaitStatus | None]]()
        for queue in self._dispatcher.list_queues():
            some += (
                (delivery, wait)
                for delivery, wait in queue.iterate_waits(clock)
                if delivery.value.end is None
            )
            if len(some) < AT_ONCE:
                continue
            if self._is_postponed() or not await self._record_steps(some):
                return
            some = []
            await asyncio.sleep(0)
        some += (
            (delivery, delivery.find_current_wait()) for delivery in self._dispatcher.abandoned_deliveries
        )
        if not self._is_postponed() and await self._record_steps(some):
            self._looked_at = clock.boottime()

    def _is_postponed(self) -> bool:
        return self._is_due_soon() and self._context.clock.boottime() - self._looked_at < MAX_POSTPONEMENT

    async def _record_steps(self, waits: Sequence[tuple[OpenDelivery, WaitStatus | None]]) -> bool:
        """Record the unrecorded steps of these deliveries. Return whether the ledger took all steps."""
        now = self._context.clock.now()
        noted = [
            (delivery, steps)
            for delivery, wait in waits
            if (steps := delivery.waits.find_unrecorded_steps(wait, now))
        ]
        for some in (noted[place : place + AT_ONCE] for place in range(0, len(noted), AT_ONCE)):
            try:
                await self._context.ledger.record_steps(
                    [(delivery.occurrence, steps) for delivery, steps in some]
                )
            except LedgerUnavailable as error:
                self._context.health.note_failure("note", str(error))
                return False
            for delivery, steps in some:
                delivery.waits.note_steps_recorded(steps, now)
        return True
