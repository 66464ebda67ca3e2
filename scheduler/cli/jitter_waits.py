"""The occurrences between their instant and their due instant, derived from the ledger.

Such occurrences have no row yet. The derivation uses the arithmetic of the daemon and the policies recorded
last. No daemon is asked.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import cast

from scheduler.audit.versions import find_periods
from scheduler.cli.recorded_policies import read_settings
from scheduler.core.automation_filter import make_automation_filter
from scheduler.core.backlog_decisions import find_last_instant
from scheduler.core.cron.schedule import GapPolicy, InvalidSchedule, RepeatPolicy, Schedule
from scheduler.core.instants import END_OF_TIME
from scheduler.core.model import Automation, Definition, Occurrence
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import compute_due
from scheduler.core.status import WaitStatus
from scheduler.ledger.automations import find_changed, read_automations
from scheduler.ledger.history import Line
from scheduler.ledger.not_due_lines import make_line
from scheduler.ledger.occurrence_records import has_row
from scheduler.ledger.versions import read_automation_versions, read_dst_rules
from scheduler.settings import Settings


def derive_lines(
    connection: sqlite3.Connection, settings: Settings, automation: str | None, now: datetime
) -> list[Line]:
    """Derive the lines of all automations, or of the automations that match an id, a name or a pattern."""
    settings = read_settings(connection, settings)
    is_wanted = (lambda _: True) if automation is None else make_automation_filter(automation)
    return [
        make_line(target, wait)
        for target, wait in _derive(connection, settings, is_wanted, now)
        if not has_row(connection, Occurrence(target, wait.automation_id, wait.scheduled_for))
    ]


def _derive(
    connection: sqlite3.Connection, settings: Settings, is_wanted: Callable[[Automation], bool], now: datetime
) -> Iterator[tuple[str, WaitStatus]]:
    """Yield the newest instant of each automation that is not due yet.

    Jitter is less than half the time to the next instant, so an automation has only one such instant.
    """
    rules = read_dst_rules(connection) or (settings.schedule.dst_gap, settings.schedule.dst_repeat)
    gap, repeat = cast("GapPolicy", rules[0]), cast("RepeatPolicy", rules[1])

    @cache
    def parse(definition: Definition) -> Schedule | None:
        cron, timezone = definition.cron_expression, definition.timezone
        try:
            return Schedule.parse(cron, timezone, dst_gap=gap, dst_repeat=repeat)
        except InvalidSchedule:  # because of the zone data of this process
            return None

    find_cached_newest = cache(find_last_instant)
    for version in _list_versions(
        connection, now - max(policies.jitter for policies in settings.all_policies)
    ):
        policies, schedule = (
            settings.find_policies(version.automation_id, version.name),
            parse(version.definition),
        )
        if (
            not policies.jitter
            or schedule is None
            or not is_wanted(Automation(version.automation_id, version.name, version.definition))
        ):
            continue
        instant = find_cached_newest(
            schedule, max(version.begin, now - policies.jitter), min(version.end, now)
        )
        due = (
            now
            if instant is None
            else compute_due(policies, version.target, version.automation_id, schedule, instant)
        )
        if instant is not None and due > now:
            yield (
                version.target,
                WaitStatus(version.automation_id, version.name, instant, due, Cause.DUE, instant),
            )


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
    changed = find_changed(connection, since)
    for row in read_automations(connection):
        if row.enabled and row.invalid is None and (row.target, row.automation_id) not in changed:
            definition = Definition(str(row.cron_expression), str(row.timezone), enabled=True)
            yield _Version(row.target, row.automation_id, row.name, definition, since, END_OF_TIME)
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
