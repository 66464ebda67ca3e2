"""The occurrences between their instant and their due instant, derived from the ledger.

Such occurrences have no row yet. The derivation uses the arithmetic of the daemon and the policies recorded
last. No daemon is asked.
"""

import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache

from scheduler.audit.versions import find_periods
from scheduler.core.automation_filter import make_match
from scheduler.core.backlog_decisions import find_last_instant
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.instants import END_OF_TIME
from scheduler.core.model import Definition, Occurrence
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import compute_due
from scheduler.core.status import WaitStatus
from scheduler.ledger.automations import find_changed, read_automations
from scheduler.ledger.history import Line
from scheduler.ledger.not_due_lines import make_line
from scheduler.ledger.occurrence_records import has_row
from scheduler.ledger.versions import read_automation_versions, read_dst_rules
from scheduler.settings.models import Settings


def derive_lines(
    connection: sqlite3.Connection, settings: Settings, automation: str | None, now: datetime
) -> list[Line]:
    """Derive the lines of all automations, or of the automations that match an id, a name or a pattern.

    ``settings`` are the settings recorded last.
    """
    is_wanted = make_match("*" if automation is None else automation)
    return [
        make_line(target, wait)
        for target, wait in _derive(connection, settings, is_wanted, now)
        if not has_row(connection, Occurrence(target, wait.automation_id, wait.scheduled_for))
    ]


def _derive(
    connection: sqlite3.Connection, settings: Settings, is_wanted: Callable[[str, str], bool], now: datetime
) -> Iterator[tuple[str, WaitStatus]]:
    """Yield the newest instant of each automation that is not due yet.

    Jitter is less than half the time to the next instant, so an automation has only one such instant.
    """
    gap, repeat = read_dst_rules(connection) or (settings.schedule.dst_gap, settings.schedule.dst_repeat)

    @cache
    def find_newest(
        definition: Definition, after: datetime, until: datetime
    ) -> tuple[Schedule, datetime] | None:
        cron, timezone = definition.cron_expression, definition.timezone
        try:
            schedule = Schedule.parse(cron, timezone, dst_gap=gap, dst_repeat=repeat)
        except InvalidSchedule:  # because of the zone data of this process
            return None
        instant = find_last_instant(schedule, after, until)
        return None if instant is None else (schedule, instant)

    since = now - max(policies.jitter for policies in settings.all_policies)
    for target, automation_id, name, definition, begin, end in _list_versions(connection, since):
        policies = settings.find_policies(automation_id, name)
        if not policies.jitter or not is_wanted(automation_id, name):
            continue
        if newest := find_newest(definition, max(begin, now - policies.jitter), min(end, now)):
            due = compute_due(policies, target, automation_id, *newest)
            if due > now:
                yield target, WaitStatus(automation_id, name, newest[1], due, Cause.DUE, newest[1])


def _list_versions(
    connection: sqlite3.Connection, since: datetime
) -> Iterator[tuple[str, str, str, Definition, datetime, datetime]]:
    """Yield the definitions in force since ``since``: target, id, name, definition, begin and end.

    A definition is in force after its begin and up to its end. An edit does not remove occurrences scheduled
    before the edit.
    """
    changed = find_changed(connection, since)
    for row in read_automations(connection):
        if row.enabled and row.invalid is None and (row.target, row.automation_id) not in changed:
            definition = Definition(str(row.cron_expression), str(row.timezone), enabled=True)
            yield row.target, row.automation_id, row.name, definition, since, END_OF_TIME
    for target, automation_id in sorted(changed):
        recorded = read_automation_versions(connection, target, automation_id)
        for period in find_periods(recorded):
            firing, begin, end = period.version.firing_definition, period.begin, period.end
            if firing is not None and end > since:
                yield target, automation_id, recorded[-1].name, firing, begin, end
