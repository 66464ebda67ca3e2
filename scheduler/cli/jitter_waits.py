"""The occurrences between their instant and their due instant, derived from the ledger.

Such occurrences have no row yet. The derivation uses the arithmetic of the daemon and the policies recorded
last. No daemon is asked.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Final, cast

from scheduler.audit.evidence import read_newest_policy
from scheduler.audit.ledger_queries import read_automation_versions
from scheduler.audit.versions import find_periods
from scheduler.cli.recorded_policies import parse_settings
from scheduler.cli.times import END_OF_TIME
from scheduler.core.backlog_decisions import find_last_instant
from scheduler.core.cron.schedule import GapPolicy, InvalidSchedule, RepeatPolicy, Schedule
from scheduler.core.instants import to_text, to_text_seconds
from scheduler.core.model import Automation, Definition
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import compute_due
from scheduler.core.status import WaitStatus
from scheduler.ledger.history import Line
from scheduler.ledger.not_due_lines import make_line
from scheduler.ops.views import make_automation_filter
from scheduler.settings import Settings

_AUTOMATIONS: Final = """
    SELECT target, automation_id, name, cron_expression, timezone FROM automation
    WHERE removed_at IS NULL AND enabled = 1 AND invalid IS NULL
"""
_SELECT_CHANGED: Final = "SELECT target, automation_id FROM definition WHERE effective_from > ?"
_RULES: Final = "SELECT dst_gap, dst_repeat FROM evaluation ORDER BY id DESC LIMIT 1"
_ROW: Final = "SELECT 1 FROM occurrence WHERE target = ? AND automation_id = ? AND scheduled_for = ?"


def derive_lines(
    connection: sqlite3.Connection, settings: Settings, automation: str | None, now: datetime
) -> list[Line]:
    """Derive the lines of all automations, or of the automations that match an id, a name or a pattern."""
    policy = read_newest_policy(connection)
    settings = (None if policy is None else parse_settings(policy)) or settings
    if not any(policies.jitter for policies in settings.all_policies):
        return []
    is_wanted = (lambda _: True) if automation is None else make_automation_filter(automation)
    return [
        make_line(target, wait)
        for target, wait in _derive(connection, settings, is_wanted, now)
        if connection.execute(
            _ROW, (target, wait.automation_id, to_text_seconds(wait.scheduled_for))
        ).fetchone()
        is None
    ]


def _derive(
    connection: sqlite3.Connection, settings: Settings, is_wanted: Callable[[Automation], bool], now: datetime
) -> Iterator[tuple[str, WaitStatus]]:
    """Yield the newest instant of each automation that is not due yet.

    Jitter is less than half the time to the next instant, so an automation has only one such instant.
    """
    gap, repeat = connection.execute(_RULES).fetchone() or (
        settings.schedule.dst_gap,
        settings.schedule.dst_repeat,
    )

    @cache
    def parse(definition: Definition) -> Schedule | None:
        cron, timezone = definition.cron_expression, definition.timezone
        try:
            return Schedule.parse(
                cron, timezone, dst_gap=cast("GapPolicy", gap), dst_repeat=cast("RepeatPolicy", repeat)
            )
        except InvalidSchedule:  # because of the zone data of this process
            return None

    find_cached_newest = cache(find_last_instant)
    for each in _list_versions(connection, now - max(policies.jitter for policies in settings.all_policies)):
        policies, schedule = settings.find_policies(each.automation_id, each.name), parse(each.definition)
        if (
            not policies.jitter
            or schedule is None
            or not is_wanted(Automation(each.automation_id, each.name, each.definition))
        ):
            continue
        instant = find_cached_newest(schedule, max(each.begin, now - policies.jitter), min(each.end, now))
        due = (
            now
            if instant is None
            else compute_due(policies, each.target, each.automation_id, schedule, instant)
        )
        if instant is not None and due > now:
            yield each.target, WaitStatus(each.automation_id, each.name, instant, due, Cause.DUE, instant)


@dataclass(frozen=True, slots=True)
class _Version:
    """A definition in force after ``begin`` and up to ``end``."""

    target: str
    automation_id: str
    name: str
    definition: Definition
    begin: datetime
    end: datetime


def _list_versions(connection: sqlite3.Connection, since: datetime) -> Iterator[_Version]:
    """Yield the versions in force since ``since``.

    An edit does not remove occurrences scheduled before the edit.
    """
    changed = {
        (target, automation_id)
        for target, automation_id in connection.execute(_SELECT_CHANGED, (to_text(since),))
    }
    for target, automation_id, name, cron, timezone in connection.execute(_AUTOMATIONS):
        if (target, automation_id) not in changed:
            yield _Version(
                target, automation_id, name, Definition(cron, timezone, enabled=True), since, END_OF_TIME
            )
    for target, automation_id in sorted(changed):
        recorded = read_automation_versions(connection, target, automation_id)
        for force in find_periods(recorded):
            if force.version.firing_definition is not None and force.end > since:
                yield _Version(
                    target,
                    automation_id,
                    recorded[-1].name,
                    force.version.firing_definition,
                    force.begin,
                    force.end,
                )
