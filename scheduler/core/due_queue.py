"""The due queue: fire times that are scheduled but not durable yet, and fire times delayed by their jitter.

The due queue is separate from the timetable because one answer must never be wrong: the fire times missing
from the ledger.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import chain, count
from operator import attrgetter
from typing import Final, NamedTuple

from scheduler.core.policy import FireTime

_scheduled_for: Final = attrgetter("scheduled_for")


class _HeapEntry(NamedTuple):
    due: datetime
    number: int
    automation_id: str
    fire_time: FireTime


class DueQueue:
    """Fire times by automation, in the order of their scheduled instants.

    A scheduled instant of an automation is either ready or delayed, and only once: the later addition wins.
    After a step back of the clock, the same instant may be added again, and may have to wait again.

    A removed fire time leaves its entry in the heap, where the entry is ignored later. The cost of an edit
    therefore depends on the delayed fire times of this automation, not of all automations. At most half of
    the heap consists of such entries.
    """

    def __init__(self) -> None:
        self._ready: dict[str, Sequence[FireTime]] = {}
        self._unconfirmed: dict[str, Sequence[FireTime]] = {}
        self._heap: list[_HeapEntry] = []
        # The fire times still delayed, by automation, with their numbers in the heap.
        self._delayed: dict[str, dict[FireTime, int]] = {}
        self._delayed_instants: Counter[datetime] = Counter()
        self.delayed_count = 0
        """Number of fire times with a past instant and a future due time."""
        self._numbers = count()

    def add(self, automation_id: str, moments: Sequence[FireTime], until: datetime) -> None:
        """Add fire times; fire times due after ``until`` wait. The sequence is kept, and may be shared."""
        self._add(self._ready, automation_id, moments, until)

    def recall(self, automation_id: str, moments: Sequence[FireTime], until: datetime) -> None:
        """Add fire times like `add`; fire times due up to ``until`` wait for `confirm_all`."""
        self._add(self._unconfirmed, automation_id, moments, until)

    def confirm_all(self, until: datetime) -> None:
        """Add the unconfirmed fire times like `add`: the clock may have been set back since `recall`."""
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for automation_id, moments in unconfirmed.items():
            self.add(automation_id, moments, until)

    def _add(
        self,
        due: dict[str, Sequence[FireTime]],
        automation_id: str,
        moments: Sequence[FireTime],
        until: datetime,
    ) -> None:
        self._forget_instants(automation_id, moments)
        if moments[-1].due <= until:
            _merge_into(due, automation_id, moments)
            return
        waiting = [each for each in moments if each.due > until]
        for known in (self._ready, self._unconfirmed):
            if automation_id in known:
                _keep(known, automation_id, _subtract(known[automation_id], waiting))
        for each in waiting:
            self._delay(automation_id, each)
        ready = tuple(each for each in moments if each.due <= until)
        if ready:
            _merge_into(due, automation_id, ready)

    def find_due(self, until: datetime) -> Mapping[str, Sequence[FireTime]]:
        """Return all fire times due up to and including ``until``, by automation.

        The fire times stay in the queue until `discard` removes them.
        """
        become_ready: defaultdict[str, list[FireTime]] = defaultdict(list)
        self._drop_forgotten()
        while self._heap and self._heap[0].due <= until:
            entry = heapq.heappop(self._heap)
            self._forget(entry.automation_id, entry.fire_time)
            become_ready[entry.automation_id].append(entry.fire_time)
            self._drop_forgotten()
        for automation_id, moments in become_ready.items():
            _merge_into(self._ready, automation_id, moments)
        return self._ready

    def find_overfull(self, most: int) -> list[tuple[str, Sequence[FireTime]]]:
        """Return the automations with more than ``most`` due fire times, with these fire times."""
        return [
            (automation_id, moments) for automation_id, moments in self._ready.items() if len(moments) > most
        ]

    def discard(self, automation_id: str, moments: Sequence[FireTime]) -> None:
        """Remove fire times with a durable row, or without need of a row."""
        _keep(self._ready, automation_id, _subtract(self._ready.get(automation_id, ()), moments))

    def cut(self, automation_id: str, after: datetime) -> None:
        """Remove the automation's fire times scheduled after ``after``."""
        for due in (self._ready, self._unconfirmed):
            kept = [each for each in due.get(automation_id, ()) if each.scheduled_for <= after]
            _keep(due, automation_id, kept)
        for each in list(self._delayed.get(automation_id, ())):
            if each.scheduled_for > after:
                self._forget(automation_id, each)
        self._compact()

    def cut_all(self, after: datetime) -> None:
        """Remove all fire times scheduled after ``after``."""
        for automation_id in self._ready.keys() | self._unconfirmed.keys() | self._delayed.keys():
            self.cut(automation_id, after)

    def has_automation(self, automation_id: str) -> bool:
        """Return whether the queue has any fire time of the automation."""
        return any(automation_id in fires for fires in (self._ready, self._unconfirmed, self._delayed))

    def list_first_delayed(self, limit: int) -> list[tuple[str, FireTime]]:
        """Return the first ``limit`` delayed fire times with their automations, in the order of due.

        The heap is walked from its top: the cost depends on the limit and on removed entries, not on the
        number of delayed fire times.
        """
        found: list[tuple[str, FireTime]] = []
        front = [(self._heap[0], 0)] if self._heap else []
        while front and len(found) < limit:
            entry, place = heapq.heappop(front)
            if self._is_delayed(entry):
                found.append((entry.automation_id, entry.fire_time))
            for child in (2 * place + 1, 2 * place + 2):
                if child < len(self._heap):
                    heapq.heappush(front, (self._heap[child], child))
        return found

    @property
    def delayed(self) -> Mapping[str, Collection[FireTime]]:
        """Fire times with a past instant and a future due time, by automation."""
        return self._delayed

    @property
    def ready(self) -> Mapping[str, Sequence[FireTime]]:
        """Fire times that were due at the planner's last call of `find_due`, by automation."""
        return self._ready

    @property
    def unconfirmed(self) -> Mapping[str, Sequence[FireTime]]:
        """Fire times that came due before this daemon ran and wait for the first good poll."""
        return self._unconfirmed

    @property
    def earliest_due(self) -> datetime | None:
        """Earliest due instant of all fire times except the unconfirmed ones."""
        self._drop_forgotten()
        ready = (moments[0].due for moments in self._ready.values())
        return min(chain(ready, (entry.due for entry in self._heap[:1])), default=None)

    def find_earliest_scheduled(self, but: Mapping[str, Sequence[FireTime]]) -> datetime | None:
        """Return the first scheduled instant of all fire times except the ready fire times ``but``.

        Every earlier instant is in the ledger or belongs to ``but``.
        """
        ready = (_subtract(moments, but.get(each, ())) for each, moments in self._ready.items())
        first = (left[0].scheduled_for for left in chain(ready, self._unconfirmed.values()) if left)
        return min(chain(first, self._delayed_instants), default=None)

    def _delay(self, automation_id: str, each: FireTime) -> None:
        number = next(self._numbers)
        self._delayed.setdefault(automation_id, {})[each] = number
        heapq.heappush(self._heap, _HeapEntry(each.due, number, automation_id, each))
        self._delayed_instants[each.scheduled_for] += 1
        self.delayed_count += 1

    def _forget(self, automation_id: str, each: FireTime) -> None:
        """Stop the delay of a fire time; its entry may stay in the heap."""
        waiting = self._delayed[automation_id]
        del waiting[each]
        if not waiting:
            del self._delayed[automation_id]
        self.delayed_count -= 1
        self._delayed_instants[each.scheduled_for] -= 1
        if not self._delayed_instants[each.scheduled_for]:
            del self._delayed_instants[each.scheduled_for]  # otherwise the counter only grows

    def _forget_instants(self, automation_id: str, moments: Sequence[FireTime]) -> None:
        """Stop the delays of the fire times with the scheduled instants of ``moments``."""
        if automation_id in self._delayed:
            instants = set(map(_scheduled_for, moments))
            for each in [each for each in self._delayed[automation_id] if each.scheduled_for in instants]:
                self._forget(automation_id, each)
            self._compact()

    def _is_delayed(self, entry: _HeapEntry) -> bool:
        return self._delayed.get(entry.automation_id, {}).get(entry.fire_time) == entry.number

    def _drop_forgotten(self) -> None:
        """Move the first fire time that is still delayed to the top of the heap."""
        while self._heap and not self._is_delayed(self._heap[0]):
            heapq.heappop(self._heap)

    def _compact(self) -> None:
        """Rebuild the heap when most of its entries are removed fire times.

        Each entry was added once: the amortized cost is constant for each entry.
        """
        if len(self._heap) > 2 * self.delayed_count:
            self._heap = [entry for entry in self._heap if self._is_delayed(entry)]
            heapq.heapify(self._heap)


def _keep(due: dict[str, Sequence[FireTime]], automation_id: str, moments: Sequence[FireTime]) -> None:
    """Keep only these fire times of an automation."""
    if moments:
        due[automation_id] = moments
    else:
        due.pop(automation_id, None)


def _merge_into(due: dict[str, Sequence[FireTime]], automation_id: str, moments: Sequence[FireTime]) -> None:
    """Add fire times in the order of scheduled instants; for equal instants the later addition wins."""
    known = due.get(automation_id)
    due[automation_id] = (
        moments
        if known is None
        else sorted({each.scheduled_for: each for each in chain(known, moments)}.values(), key=_scheduled_for)
    )


def _subtract(moments: Sequence[FireTime], these: Sequence[FireTime]) -> Sequence[FireTime]:
    if moments is these:
        return ()
    scheduled = {each.scheduled_for for each in these}
    return [each for each in moments if each.scheduled_for not in scheduled]
