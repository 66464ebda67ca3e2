"""The interval between the next two fire times of a schedule.

The intervals are cached, because many automations may share one schedule.
"""

from datetime import datetime, timedelta
from functools import lru_cache

from scheduler.core.cron.schedule import Schedule


@lru_cache(maxsize=4096)
def find_interval(schedule: Schedule, after: datetime) -> timedelta | None:
    """Return the time between the first two fire times after an instant; None when fewer than two remain."""
    first = schedule.find_next(after)
    second = first and schedule.find_next(first)
    return second - first if first and second else None
