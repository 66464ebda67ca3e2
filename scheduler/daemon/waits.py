"""Waits of one target: shown to users, and recorded in the ledger while they last.

The waits are those of open occurrences, of due fire times without a row, and of fires that are not yet due.
The module is separate from the waiting parts, because nothing here decides anything.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from heapq import nsmallest
from itertools import chain, islice
from typing import Final

from scheduler.core.errors import LedgerUnavailable
from scheduler.core.model import Automation
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.policy import FireTime
from scheduler.core.status import MOST_NAMED, WaitsStatus, WaitStatus
from scheduler.core.timetable import TimetableEntry
from scheduler.daemon.automation_queue import OpenDelivery
from scheduler.daemon.context import Context
from scheduler.daemon.dispatcher import Dispatcher
from scheduler.daemon.planner import Planner

MOST_LISTED: Final = 1_000
"""Most occurrences before their due instant in one list."""
_AT_ONCE: Final = 1_000
"""Waits handled before other tasks run: some milliseconds."""
RECORD_INTERVAL: Final = 5.0
"""Seconds between two checks."""
AT_ONCE: Final = 500
"""Occurrences that a check handles at once, and that one transaction writes: some milliseconds."""
MAX_POSTPONEMENT: Final = 30.0
"""Seconds since the last complete check after which a check goes on although something is due soon.

With many automations, something is always due soon.
"""

_DeliveryWait = tuple[OpenDelivery, WaitStatus | None]
"""Delivery with its current wait; None: nothing lasting delays the occurrence."""


class Waits:
    """Waits of one target."""

    def __init__(self, context: Context, planner: Planner, dispatcher: Dispatcher) -> None:
        self._context = context
        self._planner = planner
        self._dispatcher = dispatcher

    async def make_status(self) -> WaitsStatus:
        """Return the number of waits by cause, and the first waits by due instant.

        The cost is linear in the open occurrences. Other tasks run after each part.
        """
        timetable = self._context.timetable
        claimed, first = await _count_waits(
            wait for _, wait in self._dispatcher.iterate_waits() if wait is not None
        )
        unplanned, more = await _count_waits(self._iterate_unplanned_fires())
        later = (_make_due_wait(entry, moment) for entry, moment in timetable.list_first_delayed(MOST_NAMED))
        first = nsmallest(MOST_NAMED, chain(first, more, later), key=_to_sort_key)
        causes = claimed + unplanned + Counter({Cause.DUE: timetable.due_queue.delayed_count})
        return WaitsStatus(causes, first, unplanned.total() + timetable.due_queue.delayed_count)

    def list_for_automation(self, automation_id: str) -> list[WaitStatus]:
        """Return the waits of one automation by due instant, at most `MOST_NAMED`.

        Other automations cost nothing.
        """
        queue = self._dispatcher.queues.get(automation_id)
        claimed = () if queue is None else (wait for _, wait in queue.iterate_waits() if wait is not None)
        later = (_make_due_wait(*each) for each in self._iterate_delayed_fires(automation_id))
        return nsmallest(
            MOST_NAMED, chain(claimed, self._iterate_unplanned_fires(automation_id), later), key=_to_sort_key
        )

    async def list_not_due(
        self, automation_id: str | None = None, *, only: Callable[[Automation], bool] | None = None
    ) -> list[WaitStatus]:
        """Return the waits of occurrences between scheduled instant and due instant.

        The waits are in the order of due, at most `MOST_LISTED`. Occurrences before the due instant have no
        row. The waits are those of all automations, of the automation with this id, or of the automations for
        which ``only`` is true. With a filter, other tasks run after each part.
        """
        timetable = self._context.timetable
        if automation_id is None and only is None:
            return [_make_due_wait(*each) for each in timetable.list_first_delayed(MOST_LISTED)]
        first, later = list[tuple[TimetableEntry, FireTime]](), self._iterate_delayed_fires(automation_id)
        while some := list(islice(later, _AT_ONCE)):
            chosen = (each for each in some if only is None or only(each[0].automation))
            first = nsmallest(MOST_LISTED, chain(first, chosen), key=lambda each: each[1].due)
            await asyncio.sleep(0)
        return [_make_due_wait(*each) for each in first]

    def _iterate_delayed_fires(self, automation_id: str | None) -> Iterator[tuple[TimetableEntry, FireTime]]:
        timetable = self._context.timetable
        return timetable.iterate_fires(timetable.due_queue.delayed, automation_id)

    def _iterate_unplanned_fires(self, automation_id: str | None = None) -> Iterator[WaitStatus]:
        """Yield the waits of fire times without a row, of all automations or of one automation."""
        timetable, now = self._context.timetable, self._context.clock.now()
        hindrance = self._planner.hindrance or Step(now, Cause.LEDGER)
        for entry, moment in timetable.iterate_fires(timetable.due_queue.ready, automation_id):
            if moment.due > now:
                yield _make_due_wait(entry, moment)
            else:
                since = max(hindrance.at, moment.due)
                yield _make_wait(entry, moment, hindrance.cause, since, hindrance.detail)
        for entry, moment in timetable.iterate_fires(timetable.due_queue.unconfirmed, automation_id):
            yield _make_wait(entry, moment, Cause.UNCONFIRMED, max(moment.due, self._planner.absent_until))


class WaitRecorder:
    """Records the lasting waits of one target: readers of the ledger see these waits, and a kill loses none.

    A wait is usually written with the next change of its occurrence and costs no transaction. A lasting wait
    is written once before its end, many waits in one transaction. The end comes with the next change.

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
        for some in self._iterate_parts():
            if self._is_postponed() or not await self._record_steps(some):
                return
            await asyncio.sleep(0)
        self._looked_at = self._context.clock.boottime()

    def _iterate_parts(self) -> Iterator[list[_DeliveryWait]]:
        """Yield the open deliveries with their current waits: whole queues, `AT_ONCE` deliveries or more."""
        some = list[_DeliveryWait]()
        for queue in list(self._dispatcher.queues.values()):
            some += (each for each in queue.iterate_waits() if each[0].value.end is None)
            if len(some) >= AT_ONCE:
                yield some
                some = []
        abandoned = self._dispatcher.abandoned_deliveries
        yield [*some, *((delivery, delivery.find_current_wait()) for delivery in abandoned)]

    def _is_postponed(self) -> bool:
        return self._is_due_soon() and self._context.clock.boottime() - self._looked_at < MAX_POSTPONEMENT

    async def _record_steps(self, waits: Sequence[_DeliveryWait]) -> bool:
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


async def _count_waits(waits: Iterator[WaitStatus]) -> tuple[Counter[Cause], list[WaitStatus]]:
    """Return the number of waits by cause, and the first waits by due instant."""
    causes, first = Counter[Cause](), list[WaitStatus]()
    while some := list(islice(waits, _AT_ONCE)):
        causes.update(wait.cause for wait in some)
        first = nsmallest(MOST_NAMED, chain(first, some), key=_to_sort_key)
        await asyncio.sleep(0)
    return causes, first


def _to_sort_key(wait: WaitStatus) -> tuple[datetime, str]:
    return wait.due, wait.name


def _make_due_wait(entry: TimetableEntry, moment: FireTime) -> WaitStatus:
    return _make_wait(entry, moment, Cause.DUE, moment.scheduled_for)


def _make_wait(
    entry: TimetableEntry, moment: FireTime, cause: Cause, since: datetime, detail: str | None = None
) -> WaitStatus:
    automation, instant = entry.automation, moment.scheduled_for
    return WaitStatus(
        automation.id, automation.name, instant, moment.due, cause, since, detail, moment.deadline
    )
