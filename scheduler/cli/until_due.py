"""The occurrences between their instant and their due time, derived from the record by the arithmetic of the daemon.

They have no row yet, and no daemon is asked. The policies are those that the daemon recorded last.
"""

import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Final, cast

from scheduler.audit.account import newest_policy
from scheduler.cli.governing import settings_then
from scheduler.core.cron import Gap, InvalidSchedule, Repeat, Schedule
from scheduler.core.instants import from_text, to_text_seconds
from scheduler.core.model import Automation, Definition
from scheduler.core.policy import due_of
from scheduler.core.recovery import newest
from scheduler.core.status import WaitStatus
from scheduler.core.steps import Cause
from scheduler.ledger.history import Line
from scheduler.ledger.not_due import make_line
from scheduler.ops.views import wanted
from scheduler.settings import Settings

_AUTOMATIONS: Final = """
    SELECT target, automation_id, name, cron_expression, timezone, effective_from FROM automation
    WHERE removed_at IS NULL AND enabled = 1 AND invalid IS NULL
"""
_RULES: Final = "SELECT dst_gap, dst_repeat FROM evaluation ORDER BY id DESC LIMIT 1"
_ROW: Final = "SELECT 1 FROM occurrence WHERE target = ? AND automation_id = ? AND scheduled_for = ?"


def derive_lines(connection: sqlite3.Connection, settings: Settings, automation: str | None, now: datetime) -> list[Line]:
    """Return the lines of all automations, or of those that an id, a name or a pattern means."""
    policy = newest_policy(connection)
    settings = (None if policy is None else settings_then(policy)) or settings
    if not any(policies.jitter for policies in settings.every_policies):
        return []
    is_wanted = (lambda _: True) if automation is None else wanted(automation)
    return [
        make_line(target, wait)
        for target, wait in _derive(connection, settings, is_wanted, now)
        if connection.execute(_ROW, (target, wait.automation_id, to_text_seconds(wait.scheduled_for))).fetchone() is None
    ]


def _derive(
    connection: sqlite3.Connection, settings: Settings, is_wanted: Callable[[Automation], bool], now: datetime
) -> Iterator[tuple[str, WaitStatus]]:
    """Yield each automation's newest instant that is not due yet: jitter is less than half the time to the next instant."""
    gap, repeat = connection.execute(_RULES).fetchone() or (settings.schedule.dst_gap, settings.schedule.dst_repeat)

    @cache
    def parse(cron: str, timezone: str) -> Schedule | None:
        try:
            return Schedule.parse(cron, timezone, dst_gap=cast("Gap", gap), dst_repeat=cast("Repeat", repeat))
        except InvalidSchedule:  # by the zone data of this process
            return None

    @cache
    def find_newest(schedule: Schedule, jitter: timedelta) -> datetime | None:
        return newest(schedule, now - jitter, now)

    for target, automation_id, name, cron, timezone, effective_from in connection.execute(_AUTOMATIONS):
        policies = settings.policies(automation_id, name)
        if not policies.jitter or not is_wanted(Automation(automation_id, name, Definition(cron, timezone, enabled=True))):
            continue
        schedule = parse(cron, timezone)
        instant = None if schedule is None else find_newest(schedule, policies.jitter)
        if instant is None or instant <= from_text(effective_from):
            continue
        due = due_of(policies, target, automation_id, schedule, instant)
        if due > now:
            yield target, WaitStatus(automation_id, name, instant, due, Cause.DUE, instant)
