"""What is scheduled but not durable yet: moments that are due, and moments whose jitter lets them wait.

Apart from the timetable because it answers the one question that must never be answered wrongly: what is not in the ledger yet.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, count
from typing import TypeVar

from scheduler.core.policy import Moment

_Key = TypeVar("_Key", str, datetime)


class Pending:
    """Moments by automation, in the order in which they were scheduled."""

    def __init__(self) -> None:
        self._ready: dict[str, Sequence[Moment]] = {}
        self._later: list[tuple[datetime, int, str, Moment]] = []
        self._later_of: Counter[str] = Counter()
        self._later_at: Counter[datetime] = Counter()
        self._numbers = count()

    def add(self, automation_id: str, moments: Sequence[Moment], until: datetime) -> None:
        """Take up moments; those due after ``until`` wait. The sequence is kept, and may be shared."""
        if moments[-1].due <= until:
            self._make_ready(automation_id, moments)
            return
        for each in moments:
            if each.due <= until:
                self._make_ready(automation_id, (each,))
            else:
                self._wait(automation_id, each)

    def due(self, until: datetime) -> Mapping[str, Sequence[Moment]]:
        """All moments due up to and including ``until``, by automation. They stay until they are `settled`."""
        while self._later and self._later[0][0] <= until:
            _, _, automation_id, each = heapq.heappop(self._later)
            self._forget(automation_id, each)
            self._make_ready(automation_id, (each,))
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
        if self._later_of[automation_id]:
            self._rebuild(each for each in self._later if each[2] != automation_id or each[3].scheduled_for <= after)

    def cut_all(self, after: datetime) -> None:
        """Forget everything scheduled later than ``after``."""
        for automation_id in list(self._ready):
            self.cut(automation_id, after)
        self._rebuild(each for each in self._later if each[3].scheduled_for <= after)

    def holds(self, automation_id: str) -> bool:
        """Whether anything of this automation is pending."""
        return automation_id in self._ready or self._later_of[automation_id] > 0

    @property
    def earliest_due(self) -> datetime | None:
        """When the first of all is due."""
        ready = (moments[0].due for moments in self._ready.values())
        return min(chain(ready, (each[0] for each in self._later[:1])), default=None)

    def earliest_scheduled(self, but: Mapping[str, Sequence[Moment]]) -> datetime | None:
        """The first scheduled instant of all but these: everything before it is in the ledger, or is one of them."""
        ready = (left[0].scheduled_for for each, moments in self._ready.items() if (left := _without(moments, but.get(each, ()))))
        return min(chain(ready, self._later_at), default=None)

    def _make_ready(self, automation_id: str, moments: Sequence[Moment]) -> None:
        known = self._ready.get(automation_id)
        if known is not None:
            moments = sorted({each.scheduled_for: each for each in chain(known, moments)}.values(), key=lambda each: each.scheduled_for)
        self._ready[automation_id] = moments

    def _wait(self, automation_id: str, each: Moment) -> None:
        heapq.heappush(self._later, (each.due, next(self._numbers), automation_id, each))
        self._later_of[automation_id] += 1
        self._later_at[each.scheduled_for] += 1

    def _forget(self, automation_id: str, each: Moment) -> None:
        _one_less(self._later_of, automation_id)
        _one_less(self._later_at, each.scheduled_for)

    def _keep(self, automation_id: str, moments: Sequence[Moment]) -> None:
        if moments:
            self._ready[automation_id] = moments

    def _rebuild(self, kept: Iterator[tuple[datetime, int, str, Moment]]) -> None:
        self._later = list(kept)
        heapq.heapify(self._later)
        self._later_of = Counter(each[2] for each in self._later)
        self._later_at = Counter(each[3].scheduled_for for each in self._later)


def _one_less(counter: Counter[_Key], key: _Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]  # else every instant there ever was would stay


def _without(moments: Sequence[Moment], these: Sequence[Moment]) -> Sequence[Moment]:
    if moments is these:
        return ()
    scheduled = {each.scheduled_for for each in these}
    return [each for each in moments if each.scheduled_for not in scheduled]
