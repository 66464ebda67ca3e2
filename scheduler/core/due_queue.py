"""What is scheduled but not durable yet: moments that are due, and moments whose jitter lets them wait.

Apart from the timetable because it answers the one question that must never be answered wrongly: what is not in the ledger yet.
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
    """Moments by automation, in the order in which they were scheduled.

    A moment that is forgotten leaves its entry in the heap of `_later`, where the entry is passed over: an edit costs as much as the
    automation has waiting, however many others wait. Half of the heap at most is such entries.
    """

    def __init__(self) -> None:
        self._ready: dict[str, Sequence[FireTime]] = {}
        self._delayed: list[tuple[datetime, int, str, FireTime]] = []
        self._delayed_by_automation: dict[str, dict[int, FireTime]] = {}  # by automation and number in the heap: those that still wait
        self._delayed_instants: Counter[datetime] = Counter()
        self._delayed_count = 0
        self._numbers = count()

    def add(self, automation_id: str, moments: Sequence[FireTime], until: datetime) -> None:
        """Take up moments; those due after ``until`` wait. The sequence is kept, and may be shared."""
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
        """All moments due up to and including ``until``, by automation. They stay until `discard` removes them."""
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
        """Automations with more than ``most`` moments that are due, with these moments."""
        return [(automation_id, moments) for automation_id, moments in self._ready.items() if len(moments) > most]

    def discard(self, automation_id: str, moments: Sequence[FireTime]) -> None:
        """These moments are in the ledger, or need not be."""
        self._keep_ready(automation_id, _subtract(self._ready.pop(automation_id, ()), moments))

    def cut(self, automation_id: str, after: datetime) -> None:
        """Forget what the automation had scheduled later than ``after``."""
        self._keep_ready(automation_id, [each for each in self._ready.pop(automation_id, ()) if each.scheduled_for <= after])
        waiting = self._delayed_by_automation.get(automation_id, {})
        for number in [number for number, each in waiting.items() if each.scheduled_for > after]:
            self._forget(automation_id, number)
        self._compact()

    def cut_all(self, after: datetime) -> None:
        """Forget everything scheduled later than ``after``."""
        for automation_id in [*self._ready, *(self._delayed_by_automation.keys() - self._ready.keys())]:
            self.cut(automation_id, after)

    def has_automation(self, automation_id: str) -> bool:
        """Whether anything of this automation is pending."""
        return automation_id in self._ready or automation_id in self._delayed_by_automation

    @property
    def delayed_count(self) -> int:
        """The number of moments whose jitter lets them wait."""
        return self._delayed_count

    def list_first_delayed(self, limit: int) -> list[tuple[str, FireTime]]:
        """Return the first ``limit`` moments whose jitter lets them wait, with their automations, in the order of due.

        The heap is walked from its top, so the cost depends on the limit and on forgotten entries, not on how many wait.
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
        """Return the moments of an automation whose jitter lets them wait."""
        return tuple(self._delayed_by_automation.get(automation_id, {}).values())

    @property
    def delayed_automations(self) -> Iterable[str]:
        """The ids of the automations of which a moment waits for its due time."""
        return self._delayed_by_automation.keys()

    @property
    def ready(self) -> Mapping[str, Sequence[FireTime]]:
        """The moments that were due when the planner last asked, by automation."""
        return self._ready

    @property
    def earliest_due(self) -> datetime | None:
        """When the first of all is due."""
        self._drop_forgotten()
        ready = (moments[0].due for moments in self._ready.values())
        return min(chain(ready, (each[0] for each in self._delayed[:1])), default=None)

    def find_earliest_scheduled(self, but: Mapping[str, Sequence[FireTime]]) -> datetime | None:
        """The first scheduled instant of all but these: everything before it is in the ledger, or is one of them."""
        ready = (left[0].scheduled_for for each, moments in self._ready.items() if (left := _subtract(moments, but.get(each, ()))))
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
        """Let a moment wait no more; its entry may stay in the heap."""
        waiting = self._delayed_by_automation[automation_id]
        each = waiting.pop(number)
        if not waiting:
            del self._delayed_by_automation[automation_id]
        self._delayed_instants[each.scheduled_for] -= 1
        if not self._delayed_instants[each.scheduled_for]:
            del self._delayed_instants[each.scheduled_for]  # else every instant there ever was would stay
        self._delayed_count -= 1

    def _is_delayed(self, entry: tuple[datetime, int, str, FireTime]) -> bool:
        _, number, automation_id, _ = entry
        return number in self._delayed_by_automation.get(automation_id, ())

    def _drop_forgotten(self) -> None:
        """Bring the first moment that still waits to the top of the heap."""
        while self._delayed and not self._is_delayed(self._delayed[0]):
            heapq.heappop(self._delayed)

    def _compact(self) -> None:
        """Make the heap anew when most of its entries are forgotten; each of them was added once, which pays for this."""
        if len(self._delayed) > 2 * self._delayed_count:
            self._delayed = [entry for entry in self._delayed if self._is_delayed(entry)]
            heapq.heapify(self._delayed)

    def _keep_ready(self, automation_id: str, moments: Sequence[FireTime]) -> None:
        if moments:
            self._ready[automation_id] = moments


def _merge_fire_times(known: Sequence[FireTime], moments: Sequence[FireTime]) -> Sequence[FireTime]:
    """Both, in the order of scheduling; of two for one instant the later one to come."""
    return sorted({each.scheduled_for: each for each in chain(known, moments)}.values(), key=_scheduled_for)


def _subtract(moments: Sequence[FireTime], these: Sequence[FireTime]) -> Sequence[FireTime]:
    if moments is these:
        return ()
    scheduled = {each.scheduled_for for each in these}
    return [each for each in moments if each.scheduled_for not in scheduled]
