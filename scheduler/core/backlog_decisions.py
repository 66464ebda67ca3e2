"""Decisions for a whole stretch of the past, by its bounds: pure functions that never list the instants of the stretch.

Deadlines increase strictly from one instant of a schedule to the next: due is less than half way to the next instant, and ``start_within``
of ``auto`` is at most the other half, or five minutes. So the occurrences that may still start are the newest ones, and one look at the
newest end of a stretch is enough; every older occurrence is missed or coalesced, and all of them together are one span.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from scheduler.core.backlog import BacklogInterval
from scheduler.core.cron import Schedule
from scheduler.core.model import Reason
from scheduler.core.policy import RESTART_GRACE, CatchUp, FireTime, Policies, compute_longest_delay, make_fire_time

JUST_BEFORE: Final = timedelta(microseconds=1)
MOST_LISTED: Final = 16
"""More instants than this of one automation are not listed but held as a stretch."""
_NEAR: Final = timedelta(hours=2)
_MOST_AT_ONCE: Final = 500
"""Under ``catch_up = "all"`` no more occurrences of one automation than this are claimed in one transaction."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The first and the last instant of a stretch, how many there are, and the instant after the first; None: there is no later one."""

    first: datetime
    last: datetime
    count: int
    second: datetime | None


@lru_cache(maxsize=2048)
def measure_extent(schedule: Schedule, begin: datetime, end: datetime) -> Extent | None:
    """Return the extent of the instants after ``begin`` and up to ``end``; None when there is none. Costs O(days), once."""
    first = schedule.find_next(begin)
    if first is None or first > end:
        return None
    last = find_last_instant(schedule, begin, end)
    assert last is not None  # the first one, if no other
    return Extent(first, last, schedule.count(begin, end), schedule.find_next(first))


@lru_cache(maxsize=2048)
def find_first_after(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the schedule's first instant later than ``after``; the many automations that share a schedule ask the same."""
    return schedule.find_next(after)


@lru_cache(maxsize=2048)
def find_last_near(schedule: Schedule, begin: datetime, end: datetime) -> datetime | None:
    """Return the last instant of a short time; the many automations that share a schedule ask the same."""
    return max(schedule.iterate_between(begin, end), default=None)


def clear_caches() -> None:
    """Forget what was evaluated so far: there may be other zone data now."""
    measure_extent.cache_clear()
    find_first_after.cache_clear()
    find_last_near.cache_clear()


def find_last_instant(schedule: Schedule, begin: datetime, end: datetime) -> datetime | None:
    """Return the last instant after ``begin`` and up to ``end``; None when there is none."""
    near = tuple(schedule.iterate_between(max(begin, end - _NEAR), end))
    if near:
        return near[-1]
    last = schedule.find_previous(end + JUST_BEFORE) if end - begin > _NEAR else None
    return last if last is not None and last > begin else None


@dataclass(frozen=True, slots=True)
class ExaminedIntervals:
    """``fire_times`` may still start or are not due yet, in order. ``unexamined`` comes after them; no occurrence of ``late`` may start."""

    fire_times: Sequence[FireTime]
    late: Sequence[BacklogInterval]
    unexamined: Sequence[BacklogInterval] = ()


class Examiner:
    """Takes the newest occurrences out of the stretches of automations, all at one instant ``now``.

    An occurrence is due when it is due up to ``until``. ``absent_until``: nobody ran before this instant.
    """

    def __init__(self, target: str, *, now: datetime, until: datetime, absent_until: datetime | None) -> None:
        self._target = target
        self._now = now
        self._until = until
        self._absent_until = absent_until
        self._listed: dict[tuple[Schedule, datetime, datetime], Sequence[datetime]] = {}
        self._following: dict[tuple[Schedule, datetime], datetime | None] = {}

    @property
    def evaluations(self) -> int:
        """How many times a schedule was evaluated so far."""
        return len(self._listed) + len(self._following)

    def examine(self, automation_id: str, policies: Policies, stretches: Sequence[BacklogInterval]) -> ExaminedIntervals:
        """Take out of an automation's stretches, the oldest first, what may still start under its policies.

        Under ``latest`` that is the newest occurrence that is due; it stands for the older ones, which are coalesced. Under ``all`` it is
        every occurrence before its deadline, the oldest of them first and not too many at once.
        """
        moments: list[FireTime] = []
        late = list(stretches)
        while late and not self._is_enough(moments, policies):
            stretch = late.pop()
            first = self._find_next(stretch.schedule, stretch.begin)
            if first is None or first > stretch.end:
                continue  # there is nothing in it
            found = self._find_startable(automation_id, policies, stretch)
            moments[:0] = found
            if not found or first != found[0].scheduled_for:
                late.append(replace(stretch, end=found[0].scheduled_for - JUST_BEFORE) if found else stretch)
                break
        return _limit_claims(stretches, moments, late) if policies.catch_up is CatchUp.ALL else ExaminedIntervals(moments, late)

    def _is_enough(self, moments: Sequence[FireTime], policies: Policies) -> bool:
        return policies.catch_up is CatchUp.LATEST and bool(moments) and moments[0].due <= self._until

    def _find_startable(self, automation_id: str, policies: Policies, stretch: BacklogInterval) -> list[FireTime]:
        """The newest moments of a stretch that may start or are not due yet; under ``latest`` no more than are needed."""
        begin, end, schedule = max(stretch.begin, self._find_earliest(policies)), stretch.end, stretch.schedule
        if begin >= end:
            return []
        is_latest = policies.catch_up is CatchUp.LATEST
        instants = self._find_last_two(schedule, begin, end) if is_latest else self._list_instants(schedule, begin, end)
        found: list[FireTime] = []
        following = self._find_next(schedule, instants[-1]) if instants else None
        for instant in reversed(instants):
            candidate = make_fire_time(policies, self._target, automation_id, instant, following)
            if candidate.deadline < self._now:
                break
            found.append(candidate)
            following = instant
            if self._is_enough(found[-1:], policies):
                break
        return found[::-1]

    def _find_earliest(self, policies: Policies) -> datetime:
        """What was scheduled up to this instant may not start any more."""
        earliest = self._now - compute_longest_delay(policies) - JUST_BEFORE
        if policies.catch_up is CatchUp.NONE and self._absent_until is not None:
            return max(earliest, self._absent_until - RESTART_GRACE - policies.jitter - JUST_BEFORE)
        return earliest

    def _find_next(self, schedule: Schedule, after: datetime) -> datetime | None:
        key = (schedule, after)
        if key not in self._following:
            self._following[key] = schedule.find_next(after)
        return self._following[key]

    def _list_instants(self, schedule: Schedule, begin: datetime, end: datetime) -> Sequence[datetime]:
        key = (schedule, begin, end)
        if key not in self._listed:
            self._listed[key] = tuple(schedule.iterate_between(begin, end))
        return self._listed[key]

    def _find_last_two(self, schedule: Schedule, begin: datetime, end: datetime) -> Sequence[datetime]:
        """The last instants, two where there are: at most one is scheduled and not due yet, since jitter ends before the next one."""
        near = self._list_instants(schedule, max(begin, end - _NEAR), end)[-2:]
        if len(near) > 1 or end - begin <= _NEAR:
            return near
        before = find_last_instant(schedule, begin, near[0] - JUST_BEFORE if near else end)
        return near if before is None else (before, *near)


def _limit_claims(stretches: Sequence[BacklogInterval], moments: Sequence[FireTime], late: Sequence[BacklogInterval]) -> ExaminedIntervals:
    if len(moments) <= _MOST_AT_ONCE:
        return ExaminedIntervals(moments, late)
    taken = moments[_MOST_AT_ONCE - 1].scheduled_for
    behind = [replace(stretch, begin=max(stretch.begin, taken)) for stretch in stretches if stretch.end > taken]
    return ExaminedIntervals(moments[:_MOST_AT_ONCE], late, behind)


@dataclass(frozen=True, slots=True)
class SkippedExtent:
    """The occurrences of a stretch after ``begin`` and up to ``end`` are passed over for one reason."""

    extent: Extent
    reason: Reason


def decide_late(stretch: BacklogInterval, policies: Policies, *, paused: bool, claimed: datetime | None) -> list[SkippedExtent]:
    """Decide a late stretch, of which nothing is to be started; the same rules as `scheduler.core.policy.decide`.

    ``claimed``: the newest scheduled instant of the automation of which there is a claim. Under ``latest`` what is older is coalesced.
    """
    if paused or policies.paused:
        parts = [(stretch.begin, stretch.end, Reason.PAUSED)]
    elif policies.catch_up is CatchUp.LATEST and claimed is not None:
        middle = min(max(claimed - JUST_BEFORE, stretch.begin), stretch.end)
        parts = [(stretch.begin, middle, Reason.COALESCED), (middle, stretch.end, Reason.MISSED)]
    else:
        parts = [(stretch.begin, stretch.end, Reason.MISSED)]
    measured = [(measure_extent(stretch.schedule, begin, end), reason) for begin, end, reason in parts if begin < end]
    return [SkippedExtent(extent, reason) for extent, reason in measured if extent is not None]
