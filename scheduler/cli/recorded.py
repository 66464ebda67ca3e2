"""The automations that the ledger recorded, as schedules to evaluate."""

import sqlite3
from dataclasses import dataclass

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.fires import Planned
from scheduler.cli.ledger_file import reading
from scheduler.cli.named import named_now
from scheduler.cli.output import complain
from scheduler.cli.pauses import Paused, paused, read_throttles
from scheduler.cli.times import now, zoned_text
from scheduler.core.command_line import command_line
from scheduler.core.cron import InvalidSchedule, Schedule
from scheduler.core.policy import Policies
from scheduler.core.printable import escaped
from scheduler.settings import Settings

_SELECT = """
    SELECT target, automation_id, name, cron_expression, timezone, enabled FROM automation
    WHERE removed_at IS NULL AND (?1 IS NULL OR (target, automation_id) = (?1, ?2)) ORDER BY name, automation_id
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An automation of the newest snapshot, and what its definition comes to: a schedule, or the reason why it is none."""

    target: str
    automation_id: str
    name: str
    cron: str
    timezone: str
    enabled: bool
    schedule: Schedule | InvalidSchedule
    policies: Policies

    def plan(self, schedule: Schedule) -> Planned:
        """Return its fires to evaluate, by its valid schedule."""
        return Planned(schedule, self.automation_id, self.name, self.target, self.policies)


def planned(settings: Settings, automation: str | None) -> list[Planned]:
    """What comes due: all enabled automations, or the one that is named. Says which of them have no valid schedule, or are paused.

    Raises `AnswerIsNo` when the one that is asked for is not there or fires nothing, and `NoLedger`.
    """
    found = recorded(settings, automation)
    if automation is not None and not any(each.enabled for each in found):
        raise AnswerIsNo(f"{automation} is disabled and fires nothing")
    enabled = [each for each in found if each.enabled]
    _tell_of_pauses(enabled, settings)
    for target, until in read_throttles(settings, now()).items():
        if any(each.target == target for each in enabled):
            complain(f"throttled: target {escaped(target)}; nothing fires before {zoned_text(until)}")
    return [plan for each in enabled if (plan := _planned(each))]


def recorded(settings: Settings, automation: str | None) -> list[Recorded]:
    """All automations, or the one of this id, name or beginning of an id, disabled ones too. Raises `AnswerIsNo` and `NoLedger`."""
    with reading(settings.ledger.url.path) as connection:
        which = None if automation is None else named_now(connection, None, automation)
        key = (None, None) if which is None else (which.target, which.automation_id)
        rows = connection.execute(_SELECT, key).fetchall()
    return [_recorded(row, settings) for row in rows]


def _recorded(row: sqlite3.Row, settings: Settings) -> Recorded:
    target, automation_id, name, cron, timezone, enabled = row
    schedule: Schedule | InvalidSchedule
    try:
        schedule = Schedule.parse(cron, timezone, dst_gap=settings.schedule.dst_gap, dst_repeat=settings.schedule.dst_repeat)
    except InvalidSchedule as error:
        schedule = error
    return Recorded(target, automation_id, name, cron, timezone, bool(enabled), schedule, settings.policies(automation_id, name))


def _tell_of_pauses(found: list[Recorded], settings: Settings) -> None:
    pauses = Paused(settings, paused(settings))
    names = [each.name for each in found if pauses.covers(each.target, each.automation_id, each.name)]
    if names:
        which = escaped(names[0]) if len(names) == 1 else f"{len(names)} automations"
        complain(f"paused: {which}; what comes due is recorded and not fired until `{command_line('resume AUTOMATION')}`")


def _planned(one: Recorded) -> Planned | None:
    if isinstance(one.schedule, InvalidSchedule):
        complain(f"{escaped(one.name)} ({one.automation_id}) fires nothing: {escaped(one.schedule.reason)}")
        return None
    return one.plan(one.schedule)
