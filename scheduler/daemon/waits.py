"""Current waits of one target: open occurrences, due fire times without a row, and not yet due fires.

The module is separate from the waiting parts, because nothing here decides anything: the waits are shown to
users.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from heapq import nsmallest
from itertools import chain, islice
from typing import Final

from scheduler.core.model import Automation
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import FireTime
from scheduler.core.status import MOST_NAMED, WaitsStatus, WaitStatus
from scheduler.core.timetable import TimetableEntry
from scheduler.daemon.context import Context
from scheduler.daemon.dispatcher import Dispatcher
from scheduler.daemon.planner import Planner

MOST_LISTED: Final = 1_000
"""Most occurrences before their due instant in one list."""
_AT_ONCE: Final = 1_000
"""Waits handled before other tasks run: some milliseconds."""


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
        causes = claimed + unplanned + Counter({Cause.DUE: timetable.delayed_count})
        return WaitsStatus(causes, first, unplanned.total() + timetable.delayed_count)

    def list_for_automation(self, automation_id: str) -> list[WaitStatus]:
        """Return the waits of one automation by due instant, at most `MOST_NAMED`.

        Other automations cost nothing.
        """
        queue = self._dispatcher.find_queue(automation_id)
        claimed = (
            ()
            if queue is None
            else (wait for _, wait in queue.iterate_waits(self._context.clock) if wait is not None)
        )
        later = (
            _make_due_wait(*each) for each in self._context.timetable.iterate_delayed_fires(automation_id)
        )
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
        first, later = list[tuple[TimetableEntry, FireTime]](), timetable.iterate_delayed_fires(automation_id)
        while some := list(islice(later, _AT_ONCE)):
            chosen = (each for each in some if only is None or only(each[0].automation))
            first = nsmallest(MOST_LISTED, chain(first, chosen), key=lambda each: each[1].due)
            await asyncio.sleep(0)
        return [_make_due_wait(*each) for each in first]

    def _iterate_unplanned_fires(self, automation_id: str | None = None) -> Iterator[WaitStatus]:
        """Yield the waits of fire times without a row, of all automations or of one automation."""
        now, hindrance = self._context.clock.now(), self._planner.hindrance
        cause, since, detail = (
            (Cause.LEDGER, now, None)
            if hindrance is None
            else (hindrance.cause, hindrance.at, hindrance.detail)
        )
        for entry, moment in self._context.timetable.iterate_unplanned_fires(automation_id):
            is_due = moment.due <= now
            yield (
                _make_wait(entry, moment, cause, max(since, moment.due), detail)
                if is_due
                else _make_due_wait(entry, moment)
            )
        for entry, moment in self._context.timetable.iterate_unconfirmed_fires(automation_id):
            yield _make_wait(entry, moment, Cause.UNCONFIRMED, max(moment.due, self._planner.absent_until))


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
    automation = entry.automation
    return WaitStatus(
        automation.id,
        automation.name,
        moment.scheduled_for,
        moment.due,
        cause,
        since,
        detail,
        moment.deadline,
    )
