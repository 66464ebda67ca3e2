"""The due queue: fire times that are scheduled but not durable yet, and fire times delayed by their jitter.

The due queue is separate from the timetable because one answer must never be wrong: the fire times missing
from the ledger.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain, count
from operator import attrgetter
from typing import Final

from scheduler.core.policy import FireTime

_scheduled_for: Final = attrgetter("scheduled_for")


class DueQueue:
    """Fire times by automation, in the order of their scheduled instants.

    A removed fire time leaves its entry in the heap `_delayed`, where the entry is ignored later. The cost of
    an edit therefore depends on the delayed fire times of this automation, not of all automations. At most
    half of the heap consists of such entries.
    """

    def __init__(self) -> None:
        self._ready: dict[str, Sequence[FireTime]] = {}
        self._delayed: list[tuple[datetime, int, str, FireTime]] = []
        # The fire times still delayed, by automation and number in the heap.
        self._delayed_by_automation: dict[str, dict[int, FireTime]] = {}
        self._delayed_instants: Counter[datetime] = Counter()
        self._delayed_count = 0
        self._numbers = count()

    def add(self, automation_id: str, moments: Sequence[FireTime], until: datetime) -> None:
        """Add fire times; fire times due after ``until`` wait. The sequence is kept, and may be shared."""
        if moments[-1].due <= until:
            self._make_ready(automation_id, moments)
            return
        ready = tuple(each for each in moments if each.due <= until)
        if ready:
            self._make_ready(automation_id, ready)
        for each in moments:
            if each.due > until:
                self._delay(automation_id, each)

    def find_due(self, until: datetime) -> Mapping[str, Sequence[FireTime]]:
        """Return all fire times due up to and including ``until``, by automation.

        The fire times stay in the queue until `discard` removes them.
        """
        become_ready: defaultdict[str, list[FireTime]] = defaultdict(list)
        self._drop_forgotten()
        while self._delayed and self._delayed[0][0] <= until:
            _, number, automation_id, each = heapq.heappop(self._delayed)
            self._forget(automation_id, number)
            become_ready[automation_id].append(each)
            self._drop_forgotten()
        for automation_id, moments in become_ready.items():
            self._ready[automation_id] = _merge_fire_times(self._ready.get(automation_id, ()), moments)
        return self._ready

    def find_overfull(self, most: int) -> list[tuple[str, Sequence[FireTime]]]:
        """Return the automations with more than ``most`` due fire times, with these fire times."""
        return [
            (automation_id, moments) for automation_id, moments in self._ready.items() if len(moments) > most
        ]

    def discard(self, automation_id: str, moments: Sequence[FireTime]) -> None:
        """Remove fire times with a durable row, or without need of a row."""
        self._keep_ready(automation_id, _subtract(self._ready.pop(automation_id, ()), moments))

    def cut(self, automation_id: str, after: datetime) -> None:
        """Remove the automation's fire times scheduled after ``after``."""
        self._keep_ready(
            automation_id,
            [each for each in self._ready.pop(automation_id, ()) if each.scheduled_for <= after],
        )
        waiting = self._delayed_by_automation.get(automation_id, {})
        for number in [number for number, each in waiting.items() if each.scheduled_for > after]:
            self._forget(automation_id, number)
        self._compact()

    def cut_all(self, after: datetime) -> None:
        """Remove all fire times scheduled after ``after``."""
        for automation_id in [*self._ready, *(self._delayed_by_automation.keys() - self._ready.keys())]:
            self.cut(automation_id, after)

    def has_automation(self, automation_id: str) -> bool:
        """Return whether the queue has any fire time of the automation."""
        return automation_id in self._ready or automation_id in self._delayed_by_automation

    @property
    def delayed_count(self) -> int:
        """Number of fire times delayed by their jitter."""
        return self._delayed_count

    def list_first_delayed(self, limit: int) -> list[tuple[str, FireTime]]:
        """Return the first ``limit`` delayed fire times with their automations, in the order of due.

        The heap is walked from its top: the cost depends on the limit and on removed entries, not on the
        number of delayed fire times.
        """
        found: list[tuple[str, FireTime]] = []
        front = [(self._delayed[0], 0)] if self._delayed else []
        while front and len(found) < limit:
            entry, place = heapq.heappop(front)
            if self._is_delayed(entry):
                found.append((entry[2], entry[3]))
            for child in (2 * place + 1, 2 * place + 2):
                if child < len(self._delayed):
                    heapq.heappush(front, (self._delayed[child], child))
        return found

    def list_delayed_fires(self, automation_id: str) -> Sequence[FireTime]:
        """Return the fire times of an automation delayed by their jitter."""
        return tuple(self._delayed_by_automation.get(automation_id, {}).values())

    @property
    def delayed_automations(self) -> Iterable[str]:
        """Ids of the automations with a delayed fire time."""
        return self._delayed_by_automation.keys()

    @property
    def ready(self) -> Mapping[str, Sequence[FireTime]]:
        """Fire times that were due at the planner's last call of `find_due`, by automation."""
        return self._ready

    @property
    def earliest_due(self) -> datetime | None:
        """Earliest due instant of all fire times."""
        self._drop_forgotten()
        ready = (moments[0].due for moments in self._ready.values())
        return min(chain(ready, (each[0] for each in self._delayed[:1])), default=None)

    def find_earliest_scheduled(self, but: Mapping[str, Sequence[FireTime]]) -> datetime | None:
        """Return the first scheduled instant of all fire times except ``but``.

        Every earlier instant is in the ledger or belongs to ``but``.
        """
        ready = (
            left[0].scheduled_for
            for each, moments in self._ready.items()
            if (left := _subtract(moments, but.get(each, ())))
        )
        return min(chain(ready, self._delayed_instants), default=None)

    def _make_ready(self, automation_id: str, moments: Sequence[FireTime]) -> None:
        known = self._ready.get(automation_id)
        self._ready[automation_id] = moments if known is None else _merge_fire_times(known, moments)

    def _delay(self, automation_id: str, each: FireTime) -> None:
        number = next(self._numbers)
        heapq.heappush(self._delayed, (each.due, number, automation_id, each))
        self._delayed_by_automation.setdefault(automation_id, {})[number] = each
        self._delayed_instants[each.scheduled_for] += 1
        self._delayed_count += 1

    def _forget(self, automation_id: str, number: int) -> None:
        """Stop the delay of a fire time; its entry may stay in the heap."""
        waiting = self._delayed_by_automation[automation_id]
        each = waiting.pop(number)
        if not waiting:
            del self._delayed_by_automation[automation_id]
        self._delayed_instants[each.scheduled_for] -= 1
        if not self._delayed_instants[each.scheduled_for]:
            del self._delayed_instants[each.scheduled_for]  # otherwise the counter only grows
        self._delayed_count -= 1

    def _is_delayed(self, entry: tuple[datetime, int, str, FireTime]) -> bool:
        _, number, automation_id, _ = entry
        return number in self._delayed_by_automation.get(automation_id, ())

    def _drop_forgotten(self) -> None:
        """Move the first fire time that is still delayed to the top of the heap."""
        while self._delayed and not self._is_delayed(self._delayed[0]):
            heapq.heappop(self._delayed)

    def _compact(self) -> None:
        """Rebuild the heap when most of its entries are removed fire times.

        Each entry was added once: the amortized cost is constant for each entry.
        """
        if len(self._delayed) > 2 * self._delayed_count:
            self._delayed = [entry for entry in self._delayed if self._is_delayed(entry)]
            heapq.heapify(self._delayed)

    def _keep_ready(self, automation_id: str, moments: Sequence[FireTime]) -> None:
        if moments:
            self._ready[automation_id] = moments


def _merge_fire_times(known: Sequence[FireTime], moments: Sequence[FireTime]) -> Sequence[FireTime]:
    """Return both, in the order of their scheduled instants; for equal instants the later addition wins."""
    return sorted({each.scheduled_for: each for each in chain(known, moments)}.values(), key=_scheduled_for)


def _subtract(moments: Sequence[FireTime], these: Sequence[FireTime]) -> Sequence[FireTime]:
    if moments is these:
        return ()
    scheduled = {each.scheduled_for for each in these}
    return [each for each in moments if each.scheduled_for not in scheduled]
