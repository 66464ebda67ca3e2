"""The unique schedules in a heap by their next instant, with the automations of each schedule.

The heap is separate from the timetable because the heap alone evaluates the time after the cursor: once for
each schedule, for any number of automations.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from operator import itemgetter

from scheduler.core.cron.schedule import Schedule
from scheduler.core.evaluated_span import EvaluatedSpan


@dataclass(slots=True)
class HeapEntry:
    """A schedule, its next instant after the cursor, and the ids of its automations."""

    schedule: Schedule
    next: datetime | None
    members: set[str] = field(default_factory=set)


CollectedSpan = tuple[Schedule, datetime, EvaluatedSpan | None, frozenset[str]]
"""A schedule, an instant, the schedule's later instants, and the ids of its automations.

The span is None for too many instants to list.
"""


class ScheduleHeap:
    """All schedules of a target, evaluated up to and including the ``cursor``."""

    def __init__(self, cursor: datetime) -> None:
        self.cursor = cursor
        self._entries: dict[Schedule, HeapEntry] = {}
        self._heap: list[tuple[datetime, int, HeapEntry]] = []
        self._numbers = count()

    def join(self, automation_id: str, schedule: Schedule) -> None:
        """Add an automation to a schedule: it fires by this schedule from the cursor on."""
        slot = self._entries.get(schedule)
        if slot is None:
            slot = self._entries[schedule] = HeapEntry(schedule, schedule.find_next(self.cursor))
            self._push(slot)
        slot.members.add(automation_id)

    def leave(self, automation_id: str, schedule: Schedule) -> None:
        """Remove an automation from a schedule."""
        self._entries[schedule].members.discard(automation_id)

    def collect(self, until: datetime) -> Iterator[CollectedSpan]:
        """Move the cursor to ``until`` and yield the instants in between, in no particular order.

        The caller must exhaust the iterator.
        """
        begin, self.cursor = self.cursor, max(until, self.cursor)
        while self._heap and self._heap[0][0] <= until:
            slot = heapq.heappop(self._heap)[2]
            if not slot.members:
                del self._entries[slot.schedule]
                continue
            span = EvaluatedSpan.evaluate(slot.schedule, begin, until)
            slot.next = span.following if span and span.instants else slot.schedule.find_next(until)
            self._push(slot)
            yield slot.schedule, begin, span, frozenset(slot.members)

    def rewind(self, cursor: datetime) -> None:
        """Move the cursor back to an earlier instant."""
        self.cursor = cursor
        self._heap.clear()
        for slot in self._entries.values():
            slot.next = slot.schedule.find_next(cursor)
            self._push(slot)

    @property
    def next_instant(self) -> datetime | None:
        """First instant after the cursor at which an automation is scheduled."""
        while self._heap and not self._heap[0][2].members:
            del self._entries[heapq.heappop(self._heap)[2].schedule]
        return self._heap[0][0] if self._heap else None

    def find_next(self, schedule: Schedule) -> datetime | None:
        """Return the schedule's first instant after the cursor; None when no automation uses the schedule."""
        slot = self._entries.get(schedule)
        return None if slot is None else slot.next

    def iterate_by_schedule(
        self, after: datetime, until: datetime, is_wanted: Callable[[str], bool] = lambda _: True
    ) -> Iterator[tuple[datetime, Schedule, Sequence[str]]]:
        """Return the instants after ``after`` and up to ``until`` with their automations, in order of time.

        ``is_wanted`` selects automations by their ids. The automations of a schedule come together, sorted.
        Instants before the cursor are left out: they are due. This call only copies a list. The iteration may
        happen in another thread, and evaluates each instant on request.
        """
        return _merge_schedules(list(self._entries.values()), after, until, is_wanted)

    def _push(self, slot: HeapEntry) -> None:
        if slot.next is not None:
            heapq.heappush(self._heap, (slot.next, next(self._numbers), slot))


def _merge_schedules(
    slots: Sequence[HeapEntry],
    after: datetime,
    until: datetime,
    is_wanted: Callable[[str], bool],
) -> Iterator[tuple[datetime, Schedule, Sequence[str]]]:
    """Yield the instants of these schedules in order of time.

    Schedules with the same instant keep the order of ``slots``. The entries may change during the iteration:
    the values of an entry are read at the same time.
    """
    streams = [
        _iterate_schedule(slot.schedule, first, members, after=after, until=until)
        for slot in slots
        if (first := slot.next) is not None
        and first <= until
        and (members := sorted(filter(is_wanted, tuple(slot.members))))
    ]
    yield from heapq.merge(*streams, key=itemgetter(0))


def _iterate_schedule(
    schedule: Schedule, first: datetime, in_order: Sequence[str], *, after: datetime, until: datetime
) -> Iterator[tuple[datetime, Schedule, Sequence[str]]]:
    """Yield the instants of a schedule. ``first`` is its first instant after the cursor."""
    if first > after:
        yield first, schedule, in_order
    for instant in schedule.iterate_between(max(first, after), until):
        yield instant, schedule, in_order
