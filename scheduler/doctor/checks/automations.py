"""The known automations as checks see them: schedules, intervals, and pauses."""

from datetime import datetime, timedelta
from functools import lru_cache

from scheduler.core import pauses
from scheduler.core.cron.schedule import Schedule
from scheduler.core.pauses import PauseSource
from scheduler.doctor.facts import Facts, KnownAutomation
from scheduler.settings import Settings


def parse_schedule(automation: KnownAutomation, settings: Settings) -> Schedule:
    """Return the schedule of an automation by the configured rules. Raise `InvalidSchedule`."""
    rules = settings.schedule
    return Schedule.parse(
        automation.cron_expression, automation.timezone, dst_gap=rules.dst_gap, dst_repeat=rules.dst_repeat
    )


@lru_cache(maxsize=4096)
def find_interval(schedule: Schedule, after: datetime) -> timedelta | None:
    """Return the time between the first two fire times after an instant; None when fewer than two remain.

    The intervals are cached, because many automations may share one schedule.
    """
    first = schedule.find_next(after)
    second = first and schedule.find_next(first)
    return second - first if first and second else None


def find_pause_sources(facts: Facts, automation: KnownAutomation) -> frozenset[PauseSource]:
    """Find the sources that pause the automation: the configuration, and the operator by the ledger."""
    policies = facts.settings.find_policies(automation.id, automation.name)
    paused = facts.record.paused if facts.record else frozenset[tuple[str, str]]()
    return pauses.find_pause_sources(paused, automation.target, automation.id, policies)
