"""The occurrences between their instant and their due time, derived from the record by the arithmetic of the daemon.

They have no row yet, and no daemon is asked. The policies are those that the daemon recorded last.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Final, cast

from scheduler.audit.account import newest_policy
from scheduler.audit.lineage import in_force
from scheduler.audit.reading import recorded_of
from scheduler.cli.governing import settings_then
from scheduler.cli.times import LAST
from scheduler.core.cron import Gap, InvalidSchedule, Repeat, Schedule
from scheduler.core.instants import to_text, to_text_seconds
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
    SELECT target, automation_id, name, cron_expression, timezone FROM automation
    WHERE removed_at IS NULL AND enabled = 1 AND invalid IS NULL
"""
_CHANGED: Final = "SELECT target, automation_id FROM definition WHERE effective_from > ?"
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
    def parse(definition: Definition) -> Schedule | None:
        cron, timezone = definition.cron_expression, definition.timezone
        try:
            return Schedule.parse(cron, timezone, dst_gap=cast("Gap", gap), dst_repeat=cast("Repeat", repeat))
        except InvalidSchedule:  # by the zone data of this process
            return None

    find_newest = cache(newest)
    for each in _versions(connection, now - max(policies.jitter for policies in settings.every_policies)):
        policies, schedule = settings.policies(each.automation_id, each.name), parse(each.definition)
        if not policies.jitter or schedule is None or not is_wanted(Automation(each.automation_id, each.name, each.definition)):
            continue
        instant = find_newest(schedule, max(each.begin, now - policies.jitter), min(each.end, now))
        due = now if instant is None else due_of(policies, each.target, each.automation_id, schedule, instant)
        if instant is not None and due > now:
            yield each.target, WaitStatus(each.automation_id, each.name, instant, due, Cause.DUE, instant)


@dataclass(frozen=True, slots=True)
class _Version:
    """A definition that was in force after ``begin`` and up to ``end``."""

    target: str
    automation_id: str
    name: str
    definition: Definition
    begin: datetime
    end: datetime


def _versions(connection: sqlite3.Connection, since: datetime) -> Iterator[_Version]:
    """Yield the versions in force since then. An edit does not take back what was scheduled before it."""
    changed = {(target, automation_id) for target, automation_id in connection.execute(_CHANGED, (to_text(since),))}
    for target, automation_id, name, cron, timezone in connection.execute(_AUTOMATIONS):
        if (target, automation_id) not in changed:
            yield _Version(target, automation_id, name, Definition(cron, timezone, enabled=True), since, LAST)
    for target, automation_id in sorted(changed):
        recorded = recorded_of(connection, target, automation_id)
        for force in in_force(recorded):
            if force.version.fires is not None and force.end > since:
                yield _Version(target, automation_id, recorded[-1].name, force.version.fires, force.begin, force.end)
