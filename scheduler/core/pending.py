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

from scheduler.core.policy import Moment

_scheduled_for: Final = attrgetter("scheduled_for")


class Pending:
    """Moments by automation, in the order in which they were scheduled.

    A moment that is forgotten leaves its entry in the heap of `_later`, where the entry is passed over: an edit costs as much as the
    automation has waiting, however many others wait. Half of the heap at most is such entries.
    """

    def __init__(self) -> None:
        self._ready: dict[str, Sequence[Moment]] = {}
        self._later: list[tuple[datetime, int, str, Moment]] = []
        self._later_of: dict[str, dict[int, Moment]] = {}  # by automation and number in the heap: those that still wait
        self._later_at: Counter[datetime] = Counter()
        self._later_count = 0
        self._numbers = count()

    def add(self, automation_id: str, moments: Sequence[Moment], until: datetime) -> None:
        """Take up moments; those due after ``until`` wait. The sequence is kept, and may be shared."""
        if moments[-1].due <= until:
            self._make_ready(automation_id, moments)
            return
        ready = tuple(each for each in moments if each.due <= until)
        if ready:
            self._make_ready(automation_id, ready)
        for each in moments:
            if each.due > until:
                self._wait(automation_id, each)

    def due(self, until: datetime) -> Mapping[str, Sequence[Moment]]:
        """All moments due up to and including ``until``, by automation. They stay until they are `settled`."""
        become_ready: defaultdict[str, list[Moment]] = defaultdict(list)
        self._pass_over_forgotten()
        while self._later and self._later[0][0] <= until:
            _, number, automation_id, each = heapq.heappop(self._later)
            self._forget(automation_id, number)
            become_ready[automation_id].append(each)
            self._pass_over_forgotten()
        for automation_id, moments in become_ready.items():
            self._ready[automation_id] = _merge(self._ready.get(automation_id, ()), moments)
        return self._ready

    def overfull(self, most: int) -> list[tuple[str, Sequence[Moment]]]:
        """Automations with more than ``most`` moments that are due, with these moments."""
        return [(automation_id, moments) for automation_id, moments in self._ready.items() if len(moments) > most]

    def settled(self, automation_id: str, moments: Sequence[Moment]) -> None:
        """These moments are in the ledger, or need not be."""
        self._keep(automation_id, _without(self._ready.pop(automation_id, ()), moments))

    def cut(self, automation_id: str, after: datetime) -> None:
        """Forget what the automation had scheduled later than ``after``."""
        self._keep(automation_id, [each for each in self._ready.pop(automation_id, ()) if each.scheduled_for <= after])
        waiting = self._later_of.get(automation_id, {})
        for number in [number for number, each in waiting.items() if each.scheduled_for > after]:
            self._forget(automation_id, number)
        self._compact()

    def cut_all(self, after: datetime) -> None:
        """Forget everything scheduled later than ``after``."""
        for automation_id in [*self._ready, *(self._later_of.keys() - self._ready.keys())]:
            self.cut(automation_id, after)

    def holds(self, automation_id: str) -> bool:
        """Whether anything of this automation is pending."""
        return automation_id in self._ready or automation_id in self._later_of

    @property
    def later_count(self) -> int:
        """The number of moments whose jitter lets them wait."""
        return self._later_count

    def first_later(self, limit: int) -> list[tuple[str, Moment]]:
        """Return the first ``limit`` moments whose jitter lets them wait, with their automations, in the order of due.

        The heap is walked from its top, so the cost depends on the limit and on forgotten entries, not on how many wait.
        """
        found: list[tuple[str, Moment]] = []
        front = [(self._later[0], 0)] if self._later else []
        while front and len(found) < limit:
            entry, place = heapq.heappop(front)
            if self._waits(entry):
                found.append((entry[2], entry[3]))
            for child in (2 * place + 1, 2 * place + 2):
                if child < len(self._later):
                    heapq.heappush(front, (self._later[child], child))
        return found

    def later_of(self, automation_id: str) -> Sequence[Moment]:
        """Return the moments of an automation whose jitter lets them wait."""
        return tuple(self._later_of.get(automation_id, {}).values())

    @property
    def later_automations(self) -> Iterable[str]:
        """The ids of the automations of which a moment waits for its due time."""
        return self._later_of.keys()

    @property
    def ready(self) -> Mapping[str, Sequence[Moment]]:
        """The moments that were due when the planner last asked, by automation."""
        return self._ready

    @property
    def earliest_due(self) -> datetime | None:
        """When the first of all is due."""
        self._pass_over_forgotten()
        ready = (moments[0].due for moments in self._ready.values())
        return min(chain(ready, (each[0] for each in self._later[:1])), default=None)

    def earliest_scheduled(self, but: Mapping[str, Sequence[Moment]]) -> datetime | None:
        """The first scheduled instant of all but these: everything before it is in the ledger, or is one of them."""
        ready = (left[0].scheduled_for for each, moments in self._ready.items() if (left := _without(moments, but.get(each, ()))))
        return min(chain(ready, self._later_at), default=None)

    def _make_ready(self, automation_id: str, moments: Sequence[Moment]) -> None:
        known = self._ready.get(automation_id)
        self._ready[automation_id] = moments if known is None else _merge(known, moments)

    def _wait(self, automation_id: str, each: Moment) -> None:
        number = next(self._numbers)
        heapq.heappush(self._later, (each.due, number, automation_id, each))
        self._later_of.setdefault(automation_id, {})[number] = each
        self._later_at[each.scheduled_for] += 1
        self._later_count += 1

    def _forget(self, automation_id: str, number: int) -> None:
        """Let a moment wait no more; its entry may stay in the heap."""
        waiting = self._later_of[automation_id]
        each = waiting.pop(number)
        if not waiting:
            del self._later_of[automation_id]
        self._later_at[each.scheduled_for] -= 1
        if not self._later_at[each.scheduled_for]:
            del self._later_at[each.scheduled_for]  # else every instant there ever was would stay
        self._later_count -= 1

    def _waits(self, entry: tuple[datetime, int, str, Moment]) -> bool:
        _, number, automation_id, _ = entry
        return number in self._later_of.get(automation_id, ())

    def _pass_over_forgotten(self) -> None:
        """Bring the first moment that still waits to the top of the heap."""
        while self._later and not self._waits(self._later[0]):
            heapq.heappop(self._later)

    def _compact(self) -> None:
        """Make the heap anew when most of its entries are forgotten; each of them was added once, which pays for this."""
        if len(self._later) > 2 * self._later_count:
            self._later = [entry for entry in self._later if self._waits(entry)]
            heapq.heapify(self._later)

    def _keep(self, automation_id: str, moments: Sequence[Moment]) -> None:
        if moments:
            self._ready[automation_id] = moments


def _merge(known: Sequence[Moment], moments: Sequence[Moment]) -> Sequence[Moment]:
    """Both, in the order of scheduling; of two for one instant the later one to come."""
    return sorted({each.scheduled_for: each for each in chain(known, moments)}.values(), key=_scheduled_for)


def _without(moments: Sequence[Moment], these: Sequence[Moment]) -> Sequence[Moment]:
    if moments is these:
        return ()
    scheduled = {each.scheduled_for for each in these}
    return [each for each in moments if each.scheduled_for not in scheduled]
