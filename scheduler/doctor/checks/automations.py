"""The known automations as checks see them: schedules, intervals, and pauses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from scheduler.core import pauses
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.pauses import PauseSource
from scheduler.core.policy import Concurrency, Policies, compute_jitter
from scheduler.doctor.facts import Facts
from scheduler.ledger.automations import AutomationRow
from scheduler.settings.models import Settings


@dataclass(frozen=True, slots=True)
class RecurringAutomation:
    """An automation that fires by a schedule. ``offset``: the delay from a scheduled to a due instant."""

    id: str
    name: str
    schedule: Schedule
    offset: timedelta
    policies: Policies

    @property
    def needs_reading(self) -> bool:
        """Whether a reading must show before each fire that the previous run has ended."""
        return self.policies.concurrency is not Concurrency.ALLOW


def list_recurring(facts: Facts, automations: Sequence[AutomationRow]) -> Iterator[RecurringAutomation]:
    """Yield the automations that fire, with schedule, jitter and policies."""
    for automation in automations:
        if not automation.enabled or automation.broken is not None or find_pause_sources(facts, automation):
            continue
        try:
            schedule = parse_schedule(automation, facts.settings)
        except InvalidSchedule:
            continue
        policies = facts.settings.find_policies(automation.automation_id, automation.name)
        interval = find_interval(schedule, facts.now) if policies.jitter else None
        jitter = compute_jitter(policies, automation.target, automation.automation_id, interval)
        offset = timedelta(seconds=int(jitter.total_seconds()))
        yield RecurringAutomation(automation.automation_id, automation.name, schedule, offset, policies)


def parse_schedule(automation: AutomationRow, settings: Settings) -> Schedule:
    """Return the schedule of an automation by the configured rules. Raise `InvalidSchedule`."""
    expression, timezone = automation.cron_expression or "", automation.timezone or ""
    rules = settings.schedule
    return Schedule.parse(expression, timezone, dst_gap=rules.dst_gap, dst_repeat=rules.dst_repeat)


@lru_cache(maxsize=4096)
def find_interval(schedule: Schedule, after: datetime) -> timedelta | None:
    """Return the time between the first two fire times after an instant; None when fewer than two remain.

    The intervals are cached, because many automations may share one schedule.
    """
    first = schedule.find_next(after)
    second = first and schedule.find_next(first)
    return second - first if first and second else None


def find_pause_sources(facts: Facts, automation: AutomationRow) -> frozenset[PauseSource]:
    """Find the sources that pause the automation: the configuration, and the operator by the ledger."""
    policies = facts.settings.find_policies(automation.automation_id, automation.name)
    paused = facts.record.paused if facts.record else frozenset[tuple[str, str]]()
    return pauses.find_pause_sources(paused, automation.target, automation.automation_id, policies)
