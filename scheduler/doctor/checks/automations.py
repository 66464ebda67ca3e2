"""The pauses of the known automations, and the intervals of their schedules."""

from datetime import datetime, timedelta
from functools import lru_cache

from scheduler.core.cron.schedule import Schedule
from scheduler.doctor.facts import Facts, KnownAutomation
from scheduler.ledger.operator_requests import EVERYTHING


@lru_cache(maxsize=4096)
def find_interval(schedule: Schedule, after: datetime) -> timedelta | None:
    """Return the time between the first two fire times after an instant; None when fewer than two remain.

    The intervals are cached, because many automations may share one schedule.
    """
    first = schedule.find_next(after)
    second = first and schedule.find_next(first)
    return second - first if first and second else None


class PauseLookup:
    """The pauses in the facts: by the configuration, or by hand according to the ledger."""

    def __init__(self, facts: Facts) -> None:
        self._settings = facts.settings
        self._by_hand = facts.record.paused if facts.record else frozenset()

    def is_complete(self, automation: KnownAutomation) -> bool:
        """Return whether all automations of the automation's target are paused by hand."""
        return (automation.target, EVERYTHING) in self._by_hand

    def is_single(self, automation: KnownAutomation) -> bool:
        """Return whether the automation is paused by hand, by itself."""
        return (automation.target, automation.id) in self._by_hand

    def is_configured(self, automation: KnownAutomation) -> bool:
        """Return whether the configuration pauses the automation."""
        return self._settings.find_policies(automation.id, automation.name).paused

    def is_paused(self, automation: KnownAutomation) -> bool:
        """Return whether the automation comes due without being fired, because of any pause."""
        return self.is_complete(automation) or self.is_single(automation) or self.is_configured(automation)
