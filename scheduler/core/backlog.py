"""The undecided past: intervals of time with occurrences missing from the ledger, without a list of instants.

After a downtime the undecided past may have millions of instants. Therefore the backlog holds intervals with
a schedule: the instants of a definition version after ``begin`` and up to ``end``. The occurrences of an
interval are decided together, see `scheduler.core.backlog_decisions`.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Final

from scheduler.core.cron.schedule import Schedule
from scheduler.core.model import Definition, Gap

_LONGEST_INTERVAL: Final = timedelta(days=180)
"""Longest interval; a longer interval is divided to bound the time of its evaluation."""


@dataclass(frozen=True, slots=True)
class BacklogInterval:
    """The instants of an automation after ``begin`` and up to ``end`` (UTC).

    ``schedule`` is the evaluated ``definition``.
    """

    automation_id: str
    definition: Definition
    schedule: Schedule
    begin: datetime
    end: datetime

    def contains(self, instant: datetime) -> bool:
        """Return whether the interval has this scheduled instant."""
        return self.begin < instant <= self.end

    def may_join(self, other: "BacklogInterval") -> bool:
        """Return whether the other interval has the same schedule and continues or overlaps this interval."""
        is_same = (self.definition, self.schedule) == (other.definition, other.schedule)
        return is_same and self.begin <= other.end and other.begin <= self.end


class Backlog:
    """Intervals by automation, the oldest first, and the gaps around them.

    An interval is *unexamined* until its newest occurrences, which may still start, are taken out. Then the
    interval is *late*: none of its occurrences may start.
    """

    def __init__(self) -> None:
        self._unexamined: dict[str, list[BacklogInterval]] = {}
        self._late: dict[str, list[BacklogInterval]] = {}
        self._postponed: dict[str, list[BacklogInterval]] = {}
        self._gaps: list[Gap] = []
        self._order: deque[str] | None = None  # the ids with late intervals, sorted; some may be done already

    def __bool__(self) -> bool:
        return bool(self._unexamined or self._late)

    # ------------------------------------------------------------ adding and removing

    def add(self, stretch: BacklogInterval) -> None:
        """Add an interval whose newest occurrences may still start.

        Covered time of late intervals becomes unexamined again. Time of unexamined intervals is not added
        again: after a step back of the clock the same time may be derived twice.
        """
        self._widen_gaps(stretch)
        automation_id = stretch.automation_id
        late = self._late.get(automation_id, ())
        _keep(self._late, automation_id, [left for each in late for left in _subtract(each, stretch)])
        unexamined = self._unexamined.setdefault(automation_id, [])
        for part in _find_uncovered_parts(stretch, tuple(unexamined)):
            _insert(unexamined, part)

    def add_late(self, stretch: BacklogInterval) -> None:
        """Add an interval in which no occurrence may start."""
        self._widen_gaps(stretch)
        if stretch.automation_id not in self._late:
            self._order = None
        for part in _divide(stretch):
            _insert(self._late.setdefault(stretch.automation_id, []), part)

    def pop_unexamined_intervals(self, automation_id: str) -> Sequence[BacklogInterval]:
        """Remove and return the unexamined intervals of an automation, the oldest first."""
        return self._unexamined.pop(automation_id, ())

    def cut(self, automation_id: str, after: datetime) -> None:
        """Remove the automation's instants after ``after``."""
        for stretches in (self._unexamined, self._late, self._postponed):
            _keep(stretches, automation_id, _cut(stretches.get(automation_id, ()), after))

    def cut_all(self, after: datetime) -> None:
        """Remove all instants after ``after``."""
        for automation_id in [*self._unexamined, *self._late, *self._postponed]:
            self.cut(automation_id, after)

    def reopen_late(self) -> None:
        """Make all late intervals unexamined again: they were found late by a clock ahead of time."""
        self.take_all(self._late)

    def discard(self, recovered: Sequence[BacklogInterval]) -> None:
        """Remove late intervals with outcomes in the ledger.

        When an interval was cut in the meantime, its shorter successor stays.
        """
        done = {id(stretch) for stretch in recovered}
        for automation_id in {stretch.automation_id for stretch in recovered}:
            late = self._late.get(automation_id, ())
            _keep(self._late, automation_id, [each for each in late if id(each) not in done])

    def postpone(self, stretch: BacklogInterval) -> None:
        """Keep an interval for later: the zone data lack the schedule's time zone at present."""
        self.discard([stretch])
        self._postponed.setdefault(stretch.automation_id, []).append(stretch)

    def resume_postponed_intervals(self) -> None:
        """Add the postponed intervals again: the zone data have changed."""
        self.take_all(self._postponed)

    def move_to(self, other: "Backlog") -> None:
        """Move every unexamined interval to another backlog."""
        other.take_all(self._unexamined)

    def take_all(self, stretches: dict[str, list[BacklogInterval]]) -> None:
        """Remove all intervals from ``stretches``, and add them as unexamined intervals."""
        moved = [stretch for some in stretches.values() for stretch in some]
        stretches.clear()
        for stretch in moved:
            self.add(stretch)

    # ------------------------------------------------------------ contents

    @property
    def unexamined(self) -> list[str]:
        """Ids of the automations with unexamined intervals."""
        return list(self._unexamined)

    @property
    def automations(self) -> set[str]:
        """Ids of the automations with unexamined or late intervals."""
        return self._unexamined.keys() | self._late.keys()

    def has_automation(self, automation_id: str) -> bool:
        """Return whether the backlog holds anything undecided of the automation, postponed intervals too."""
        return any(automation_id in some for some in (self._unexamined, self._late, self._postponed))

    def is_unexamined(self, automation_id: str) -> bool:
        """Return whether newer instants of the automation have to wait for an unexamined interval."""
        return automation_id in self._unexamined

    def iterate_late(self) -> Iterator[BacklogInterval]:
        """Return every late interval, by the ids of the automations, each automation's oldest first."""
        return (stretch for each in self._sort_late_ids() for stretch in self._late.get(each, ()))

    def find_gaps(self, without: Sequence[BacklogInterval] = ()) -> Sequence[Gap]:
        """Return the gaps around every interval, or around every interval except these late intervals.

        A gap may cover more than the intervals.
        """
        done = {id(stretch) for stretch in without}
        first_late = (each.automation_id for each in self.iterate_late() if id(each) not in done)
        ids = [*islice(first_late, 1), *self._unexamined, *self._postponed]
        return tuple(replace(gap, automation_id=min(ids)) for gap in self._gaps) if ids else ()

    def _sort_late_ids(self) -> Sequence[str]:
        if self._order is None:
            self._order = deque(sorted(self._late))
        while self._order and self._order[0] not in self._late:
            self._order.popleft()
        return self._order

    def find_earliest(self) -> datetime | None:
        """Return the beginning of the earliest interval; postponed intervals do not count."""
        undecided = chain(self._unexamined.values(), self._late.values())
        return min((stretch.begin for stretches in undecided for stretch in stretches), default=None)

    def _widen_gaps(self, stretch: BacklogInterval) -> None:
        """Extend the gaps to cover an interval about to be added."""
        if not self and not self._postponed:
            self._gaps.clear()
        if not any(gap.since <= stretch.begin and stretch.end <= gap.until for gap in self._gaps):
            self._gaps = merge_gaps([*self._gaps, Gap(stretch.begin, stretch.end)])


def merge_gaps(gaps: Iterable[Gap]) -> list[Gap]:
    """Return gaps over the same time, in order; no two returned gaps touch."""
    merged: list[Gap] = []
    for gap in sorted(gaps, key=lambda gap: gap.since):
        if merged and gap.since <= merged[-1].until:
            merged[-1] = Gap(merged[-1].since, max(merged[-1].until, gap.until))
        else:
            merged.append(gap)
    return merged


def _insert(stretches: list[BacklogInterval], stretch: BacklogInterval) -> None:
    """Insert an interval in the order of begins, and join the interval with its predecessor if possible."""
    at = len(stretches)
    while at and stretches[at - 1].begin > stretch.begin:
        at -= 1
    before = stretches[at - 1] if at else None
    end = stretch.end if before is None else max(before.end, stretch.end)
    if before is not None and before.may_join(stretch) and end - before.begin <= _LONGEST_INTERVAL:
        stretches[at - 1] = replace(before, end=end)
    else:
        stretches.insert(at, stretch)


def _divide(stretch: BacklogInterval) -> Iterator[BacklogInterval]:
    begin = stretch.begin
    while stretch.end - begin > _LONGEST_INTERVAL:
        yield replace(stretch, begin=begin, end=begin + _LONGEST_INTERVAL)
        begin += _LONGEST_INTERVAL
    yield replace(stretch, begin=begin)


def _subtract(late: BacklogInterval, stretch: BacklogInterval) -> Iterator[BacklogInterval]:
    """Yield the parts of a late interval without the instants of another interval."""
    if not late.may_join(stretch):
        yield late
        return
    if late.begin < stretch.begin:
        yield replace(late, end=stretch.begin)
    if stretch.end < late.end:
        yield replace(late, begin=stretch.end)


def _find_uncovered_parts(
    stretch: BacklogInterval, others: Iterable[BacklogInterval]
) -> Iterator[BacklogInterval]:
    """Yield the parts of an interval not covered by the other intervals, which are in order of time."""
    begin = stretch.begin
    for other in others:
        if begin < other.begin < stretch.end:
            yield replace(stretch, begin=begin, end=other.begin)
        if other.begin < stretch.end:
            begin = max(begin, other.end)
    if begin < stretch.end:
        yield replace(stretch, begin=begin)


def _cut(stretches: Sequence[BacklogInterval], after: datetime) -> list[BacklogInterval]:
    kept = (each if each.end <= after else replace(each, end=after) for each in stretches)
    return [stretch for stretch in kept if stretch.begin < stretch.end]


def _keep(
    stretches: dict[str, list[BacklogInterval]], automation_id: str, kept: list[BacklogInterval]
) -> None:
    """Keep only these intervals of an automation."""
    if kept:
        stretches[automation_id] = kept
    else:
        stretches.pop(automation_id, None)
