"""How long it is between the next two fires of a schedule. Remembered: many automations may share one."""

from datetime import datetime, timedelta
from functools import lru_cache

from scheduler.core.cron import Schedule


@lru_cache(maxsize=4096)
def find_interval(schedule: Schedule, after: datetime) -> timedelta | None:
    """From the first fire after an instant to the one that follows it; None when there are not two any more."""
    first = schedule.find_next(after)
    second = first and schedule.find_next(first)
    return second - first if first and second else None
