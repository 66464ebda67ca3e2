"""The instants of a schedule in a short interval of time, and the fire times of many automations from them.

The module is separate from the timetable and the schedule heap, which both evaluate schedules.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import islice, pairwise
from typing import Final, Self

from scheduler.core.cron.schedule import Schedule
from scheduler.core.policy import FireTime, Policies, make_fire_time

MOST_LISTED: Final = 16
"""Most instants to list for an automation; more instants are held as an interval."""


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedSpan:
    """The instants of a schedule in an interval of time, and the schedule's next instant afterwards."""

    instants: Sequence[datetime]
    following: datetime | None
    _shared: dict[Policies, Sequence[FireTime]] = field(default_factory=dict)

    @classmethod
    def evaluate(cls, schedule: Schedule, begin: datetime, end: datetime) -> Self | None:
        """Evaluate the instants after ``begin`` and up to ``end``; None for more than `MOST_LISTED`."""
        instants = tuple(islice(schedule.iterate_between(begin, end), MOST_LISTED + 1))
        if len(instants) > MOST_LISTED:
            return None
        return cls(instants, schedule.find_next(end) if instants else None)

    def get_fire_times(
        self, policies: Policies, target: str, automation_id: str, effective_from: datetime
    ) -> Sequence[FireTime]:
        """Return an automation's fire times, in order: those scheduled after ``effective_from``.

        Automations with equal policies and without jitter share the fire times.
        """
        if policies.jitter:
            moments = self._make_fire_times(policies, target, automation_id)
        else:
            if policies not in self._shared:
                self._shared[policies] = self._make_fire_times(policies, target, automation_id)
            moments = self._shared[policies]
        if moments and moments[0].scheduled_for <= effective_from:
            return tuple(each for each in moments if each.scheduled_for > effective_from)
        return moments

    def _make_fire_times(self, policies: Policies, target: str, automation_id: str) -> Sequence[FireTime]:
        return tuple(
            make_fire_time(policies, target, automation_id, instant, following)
            for instant, following in pairwise((*self.instants, self.following))
            if instant is not None
        )


@lru_cache(maxsize=10_000)
def evaluate_minutes(schedule: Schedule, begin: datetime, end: datetime) -> EvaluatedSpan | None:
    """Evaluate a schedule like `EvaluatedSpan.evaluate`, between two whole minutes.

    The cache serves the thousands of automations of a bulk edit.
    """
    return EvaluatedSpan.evaluate(schedule, begin, end)
