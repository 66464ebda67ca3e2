"""Decisions for a whole interval of the past, by its bounds: pure functions without a list of all instants.

Deadlines increase strictly from an instant of a schedule to the next. Due is less than half way to the next
instant, and ``start_within`` of ``auto`` is at most the other half, or five minutes. Therefore only the
newest occurrences may still start, and a look at the newest end of an interval is enough. Every older
occurrence is missed or coalesced, and all older occurrences together are a single span.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from scheduler.core.backlog import BacklogInterval
from scheduler.core.cron.schedule import Schedule
from scheduler.core.evaluated_span import evaluate_minutes
from scheduler.core.instants import JUST_BEFORE
from scheduler.core.model import Reason
from scheduler.core.policy import (
    RESTART_GRACE,
    CatchUp,
    FireTime,
    Policies,
    compute_longest_delay,
    make_fire_time,
)

_NEAR: Final = timedelta(hours=2)
_MOST_AT_ONCE: Final = 500
"""Most occurrences of an automation to claim in a transaction under ``catch_up = "all"``."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The first and the last instant of an interval, and the number of instants.

    ``second`` is the schedule's next instant after the first, also beyond the interval; None without a later
    instant.
    """

    first: datetime
    last: datetime
    count: int
    second: datetime | None


@lru_cache(maxsize=2048)
def measure_extent(schedule: Schedule, begin: datetime, end: datetime) -> Extent | None:
    """Return the extent of the instants after ``begin`` and up to ``end``, or None without an instant.

    The cost is O(days), once: the result is cached.
    """
    first = schedule.find_next(begin)
    if first is None or first > end:
        return None
    last = find_last_instant(schedule, begin, end)
    assert last is not None  # at least the first instant
    return Extent(first, last, schedule.count(begin, end), schedule.find_next(first))


@lru_cache(maxsize=2048)
def find_first_after(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the first instant after ``after``. The cache serves automations with equal schedules."""
    return schedule.find_next(after)


def clear_caches() -> None:
    """Clear the cached evaluations: the zone data may have changed."""
    evaluate_minutes.cache_clear()
    measure_extent.cache_clear()
    find_first_after.cache_clear()
    find_last_instant.cache_clear()


@lru_cache(maxsize=2048)
def find_last_instant(schedule: Schedule, begin: datetime, end: datetime) -> datetime | None:
    """Return the last instant after ``begin`` and up to ``end``, or None without an instant."""
    near = tuple(schedule.iterate_between(max(begin, end - _NEAR), end))
    if near:
        return near[-1]
    last = schedule.find_previous(end + JUST_BEFORE) if end - begin > _NEAR else None
    return last if last is not None and last > begin else None


@dataclass(frozen=True, slots=True)
class ExaminedIntervals:
    """The result of an examination.

    ``fire_times`` may still start or are not due yet, in order. ``unexamined`` follows after them. No
    occurrence of ``late`` may start.
    """

    fire_times: Sequence[FireTime]
    late: Sequence[BacklogInterval]
    unexamined: Sequence[BacklogInterval] = ()


class Examiner:
    """Examiner of the intervals of automations, at the same instant ``now`` for all.

    The examiner takes the newest occurrences out of the intervals. An occurrence counts as due when its due
    instant is at most ``until``. No daemon ran before ``absent_until``.
    """

    def __init__(self, target: str, *, now: datetime, until: datetime, absent_until: datetime | None) -> None:
        self._target = target
        self._now = now
        self.until = until
        self._absent_until = absent_until
        self._listed: dict[tuple[Schedule, datetime, datetime], Sequence[datetime]] = {}
        self._following: dict[tuple[Schedule, datetime], datetime | None] = {}

    @property
    def evaluations(self) -> int:
        """Number of schedule evaluations up to now."""
        return len(self._listed) + len(self._following)

    def examine(self, policies: Policies, stretches: Sequence[BacklogInterval]) -> ExaminedIntervals:
        """Take the occurrences that may still start out of an automation's intervals, the oldest first.

        Under ``latest`` this is the newest due occurrence; the older occurrences are coalesced into it. Under
        ``all`` these are the occurrences before their deadlines, the oldest first, and a limited number at
        the same time.
        """
        moments: list[FireTime] = []
        late = list(stretches)
        while late and not self._is_enough(moments, policies):
            stretch = late.pop()
            first = self._find_next(stretch.schedule, stretch.begin)
            if first is None or first > stretch.end:
                continue  # the interval has no instant
            found = self._find_startable(policies, stretch)
            moments[:0] = found
            if not found or first != found[0].scheduled_for:
                late.append(replace(stretch, end=found[0].scheduled_for - JUST_BEFORE) if found else stretch)
                break
        if policies.catch_up is CatchUp.ALL and len(moments) > _MOST_AT_ONCE:
            return _limit_claims(stretches, moments, late)
        return ExaminedIntervals(moments, late)

    def _is_enough(self, moments: Sequence[FireTime], policies: Policies) -> bool:
        return policies.catch_up is CatchUp.LATEST and bool(moments) and moments[0].due <= self.until

    def _find_startable(self, policies: Policies, stretch: BacklogInterval) -> list[FireTime]:
        """Return the newest fire times of an interval that may start or are not due yet, in order.

        Under ``latest`` return no more than necessary.
        """
        begin, end = max(stretch.begin, self._find_earliest(policies)), stretch.end
        if begin >= end:
            return []
        schedule = stretch.schedule
        find = self._find_last_two if policies.catch_up is CatchUp.LATEST else self._list_instants
        instants = find(schedule, begin, end)
        found: list[FireTime] = []
        following = self._find_next(schedule, instants[-1]) if instants else None
        for instant in reversed(instants):
            candidate = make_fire_time(policies, self._target, stretch.automation_id, instant, following)
            if candidate.deadline < self._now:
                break
            found.append(candidate)
            following = instant
            if self._is_enough(found[-1:], policies):
                break
        return found[::-1]

    def _find_earliest(self, policies: Policies) -> datetime:
        """Return the instant up to which no scheduled occurrence may start any more."""
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
        """Return the last two instants, or fewer. At most one is not due yet: jitter ends before the next."""
        near = self._list_instants(schedule, max(begin, end - _NEAR), end)[-2:]
        if len(near) > 1 or end - begin <= _NEAR:
            return near
        before = find_last_instant(schedule, begin, near[0] - JUST_BEFORE if near else end)
        return near if before is None else (before, *near)


def _limit_claims(
    stretches: Sequence[BacklogInterval], moments: Sequence[FireTime], late: Sequence[BacklogInterval]
) -> ExaminedIntervals:
    taken = moments[_MOST_AT_ONCE - 1].scheduled_for
    behind = [replace(each, begin=max(each.begin, taken)) for each in stretches if each.end > taken]
    return ExaminedIntervals(moments[:_MOST_AT_ONCE], late, behind)


def decide_late(
    stretch: BacklogInterval, policies: Policies, *, paused: bool, claimed: datetime | None
) -> list[tuple[Extent, Reason]]:
    """Decide a late interval, in which nothing may start, by the rules of `scheduler.core.policy.decide`.

    Return the extents of occurrences to skip, with their common reasons.

    ``claimed`` is the automation's newest scheduled instant with a claim. Under ``latest`` the older
    occurrences are coalesced.
    """
    if paused or policies.paused:
        parts = [(stretch.begin, stretch.end, Reason.PAUSED)]
    elif policies.catch_up is CatchUp.LATEST and claimed is not None:
        middle = min(max(claimed - JUST_BEFORE, stretch.begin), stretch.end)
        parts = [(stretch.begin, middle, Reason.COALESCED), (middle, stretch.end, Reason.MISSED)]
    else:
        parts = [(stretch.begin, stretch.end, Reason.MISSED)]
    measured = [
        (measure_extent(stretch.schedule, begin, end), reason) for begin, end, reason in parts if begin < end
    ]
    return [(extent, reason) for extent, reason in measured if extent is not None]
