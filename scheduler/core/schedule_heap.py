"""Unique schedules in a heap by their next instant, with the automations that share each one.

Apart from the timetable because it alone evaluates: once for each schedule, however many automations hang on it.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count, islice

from scheduler.core.backlog_decisions import MOST_LISTED
from scheduler.core.cron import Schedule


@dataclass(slots=True)
class HeapEntry:
    """One schedule, its next instant after the cursor, and the ids of those who share it."""

    schedule: Schedule
    next: datetime | None
    members: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class ScheduleInstants:
    """What one schedule gave after ``begin``: its instants, the one that follows them, and whom they are for.

    ``instants`` None: there are more than `MOST_LISTED`, and they are not listed.
    """

    schedule: Schedule
    begin: datetime
    instants: tuple[datetime, ...] | None
    following: datetime | None
    members: frozenset[str]


class ScheduleHeap:
    """All schedules of a target, evaluated up to and including the ``cursor``."""

    def __init__(self, cursor: datetime) -> None:
        self.cursor = cursor
        self._entries: dict[Schedule, HeapEntry] = {}
        self._heap: list[tuple[datetime, int, HeapEntry]] = []
        self._numbers = count()

    def join(self, automation_id: str, schedule: Schedule) -> None:
        """From the cursor on, the automation fires by this schedule."""
        slot = self._entries.get(schedule)
        if slot is None:
            slot = self._entries[schedule] = HeapEntry(schedule, schedule.find_next(self.cursor))
            self._push(slot)
        slot.members.add(automation_id)

    def leave(self, automation_id: str, schedule: Schedule) -> None:
        """It fires by this schedule no more."""
        self._entries[schedule].members.discard(automation_id)

    def collect(self, until: datetime) -> Iterator[ScheduleInstants]:
        """Move the cursor to ``until`` and give what lies between, in no particular order. Must be run to its end."""
        begin, self.cursor = self.cursor, max(until, self.cursor)
        while self._heap and self._heap[0][0] <= until:
            slot = heapq.heappop(self._heap)[2]
            if not slot.members:
                del self._entries[slot.schedule]
                continue
            instants = tuple(islice(slot.schedule.iterate_between(begin, until), MOST_LISTED + 1))
            slot.next = slot.schedule.find_next(until)
            self._push(slot)
            yield ScheduleInstants(
                slot.schedule, begin, instants if len(instants) <= MOST_LISTED else None, slot.next, frozenset(slot.members)
            )

    def rewind(self, cursor: datetime) -> None:
        """Go back to an earlier ``cursor``."""
        self.cursor = cursor
        self._heap.clear()
        for slot in self._entries.values():
            slot.next = slot.schedule.find_next(cursor)
            self._push(slot)

    @property
    def next_instant(self) -> datetime | None:
        """The first instant after the cursor at which an automation is scheduled."""
        while self._heap and not self._heap[0][2].members:
            del self._entries[heapq.heappop(self._heap)[2].schedule]
        return self._heap[0][0] if self._heap else None

    def find_next(self, schedule: Schedule) -> datetime | None:
        """The schedule's first instant after the cursor; None when nobody fires by it any more."""
        slot = self._entries.get(schedule)
        return None if slot is None else slot.next

    def iterate_by_schedule(
        self, after: datetime, until: datetime, find_wanted: Callable[[], AbstractSet[str]] | None = None
    ) -> Iterator[tuple[datetime, Schedule, Sequence[str]]]:
        """Return instants after ``after`` and up to ``until`` with the automations they are for, in order of time.

        ``find_wanted`` returns the ids of the automations that are asked for; without it, all are. Those that share a schedule come
        together, sorted. What the cursor has passed is not among them: it is due. Only a copy of a list is made here: everything else may
        happen in another thread. An instant is evaluated when it is asked for.
        """
        return _merge_schedules(list(self._entries.values()), after, until, find_wanted)

    def _push(self, slot: HeapEntry) -> None:
        if slot.next is not None:
            heapq.heappush(self._heap, (slot.next, next(self._numbers), slot))


def _merge_schedules(
    slots: Sequence[HeapEntry], after: datetime, until: datetime, find_wanted: Callable[[], AbstractSet[str]] | None
) -> Iterator[tuple[datetime, Schedule, Sequence[str]]]:
    """Yield the instants of these schedules in order of time. The slots may change meanwhile: what is read of one is read at once."""
    wanted = None if find_wanted is None else find_wanted()
    streams = [
        _iterate_schedule(number, first, slot.schedule, members, after=after, until=until)
        for number, slot in enumerate(slots)
        if (first := slot.next) is not None
        and first <= until
        and (members := sorted(slot.members if wanted is None else slot.members & wanted))
    ]
    for instant, _, schedule, in_order in heapq.merge(*streams):
        yield instant, schedule, in_order


def _iterate_schedule(
    number: int, first: datetime, schedule: Schedule, in_order: Sequence[str], *, after: datetime, until: datetime
) -> Iterator[tuple[datetime, int, Schedule, Sequence[str]]]:
    """One schedule's part. ``number`` decides the order of what comes at one instant."""
    if first > after:
        yield first, number, schedule, in_order
    for instant in schedule.iterate_between(max(first, after), until):
        yield instant, number, schedule, in_order
