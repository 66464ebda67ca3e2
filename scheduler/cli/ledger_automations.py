"""The automations on record in the ledger, as schedules."""

import sqlite3
from dataclasses import dataclass

from scheduler.cli.automation_lookup import find_present_automation
from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.ledger_file import open_read_only
from scheduler.cli.output import print_to_stderr
from scheduler.cli.pauses import ActivePauses, read_pauses, read_throttles
from scheduler.cli.times import format_machine_and_utc, now
from scheduler.cli.upcoming_fires import PlannedSchedule
from scheduler.core.command_line import format_command, resume_all
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.policy import Policies
from scheduler.core.terminal_text import to_printable
from scheduler.settings import Settings

_SELECT = """
    SELECT target, automation_id, name, cron_expression, timezone, enabled FROM automation
    WHERE removed_at IS NULL AND (?1 IS NULL OR (target, automation_id) = (?1, ?2)) ORDER BY name, automation_id
"""


@dataclass(frozen=True, slots=True)
class LedgerAutomation:
    """An automation of the newest snapshot, with its schedule or the reason for an invalid schedule."""

    target: str
    automation_id: str
    name: str
    cron: str
    timezone: str
    enabled: bool
    schedule: Schedule | InvalidSchedule
    policies: Policies

    def plan(self, schedule: Schedule) -> PlannedSchedule:
        """Return the planned schedule of the automation, for its valid schedule."""
        return PlannedSchedule(schedule, self.automation_id, self.name, self.target, self.policies)


def read_planned_schedules(settings: Settings, automation: str | None) -> list[PlannedSchedule]:
    """Read the schedules of all enabled automations, or of the named automation.

    Automations without a valid schedule, pauses and throttles are printed on standard error. Raises
    `AnswerIsNo` when the named automation does not exist or is disabled, and `NoLedger`.
    """
    found = read_automations(settings, automation)
    if automation is not None and not any(each.enabled for each in found):
        raise AnswerIsNo(f"{automation} is disabled and fires nothing")
    enabled = [each for each in found if each.enabled]
    _print_pauses(enabled, settings)
    for target, until in read_throttles(settings, now()).items():
        if any(each.target == target for each in enabled):
            print_to_stderr(
                f"throttled: target {to_printable(target)}; nothing fires before {format_machine_and_utc(until)}"
            )
    return [plan for each in enabled if (plan := _plan_automation(each))]


def read_automations(settings: Settings, automation: str | None) -> list[LedgerAutomation]:
    """Read all automations, or the automation with this id, name or beginning of an id.

    Disabled automations are included. Raises `AnswerIsNo` and `NoLedger`.
    """
    with open_read_only(settings.ledger.url.path) as connection:
        which = None if automation is None else find_present_automation(connection, None, automation)
        key = (None, None) if which is None else (which.target, which.automation_id)
        rows = connection.execute(_SELECT, key).fetchall()
    return [_make_automation(row, settings) for row in rows]


def _make_automation(row: sqlite3.Row, settings: Settings) -> LedgerAutomation:
    target, automation_id, name, cron, timezone, enabled = row
    schedule: Schedule | InvalidSchedule
    try:
        schedule = Schedule.parse(
            cron, timezone, dst_gap=settings.schedule.dst_gap, dst_repeat=settings.schedule.dst_repeat
        )
    except InvalidSchedule as error:
        schedule = error
    return LedgerAutomation(
        target,
        automation_id,
        name,
        cron,
        timezone,
        bool(enabled),
        schedule,
        settings.find_policies(automation_id, name),
    )


def _print_pauses(found: list[LedgerAutomation], settings: Settings) -> None:
    """Print the pauses, and how to end each pause.

    A pause is of all automations of a target, of a single automation, or of the configuration.
    """
    pauses, meaning = (
        ActivePauses(settings, read_pauses(settings)),
        "what comes due is recorded and not fired",
    )
    for target in sorted({each.target for each in found if pauses.is_complete(each.target)}):
        print_to_stderr(
            f"paused: all automations of {to_printable(target)}; {meaning} until {resume_all(target)}"
        )
    if single := [each.name for each in found if pauses.is_single(each.target, each.automation_id)]:
        print_to_stderr(
            f"paused: {_describe(single)}; {meaning} until `{format_command('resume AUTOMATION')}`"
        )
    if configured := [each.name for each in found if pauses.is_configured(each.automation_id, each.name)]:
        print_to_stderr(
            f"paused by the configuration: {_describe(configured)}; {meaning}; see `paused` in [schedule] and [[override]]"
        )


def _describe(names: list[str]) -> str:
    return to_printable(names[0]) if len(names) == 1 else f"{len(names):,} automations"


def _plan_automation(one: LedgerAutomation) -> PlannedSchedule | None:
    if isinstance(one.schedule, InvalidSchedule):
        print_to_stderr(
            f"{to_printable(one.name)} ({one.automation_id}) fires nothing: {to_printable(one.schedule.reason)}"
        )
        return None
    return one.plan(one.schedule)
