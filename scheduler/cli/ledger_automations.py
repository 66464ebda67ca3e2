"""The automations on record in the ledger, as schedules."""

from collections import defaultdict
from dataclasses import dataclass

from scheduler.cli.automation_lookup import make_ledger_collection
from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.ledger_file import open_read_only
from scheduler.cli.lookup import find_automation
from scheduler.cli.output import print_to_stderr
from scheduler.cli.pauses import ActivePauses, read_pauses, read_throttles
from scheduler.cli.times import format_machine_and_utc, now
from scheduler.cli.upcoming_fires import PlannedSchedule
from scheduler.core.command_line import format_command, resume_all
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.pauses import PauseSource
from scheduler.core.policy import Policies
from scheduler.core.terminal_text import to_printable
from scheduler.ledger.automations import AutomationRow
from scheduler.ledger.automations import read_automations as read_automation_rows
from scheduler.settings import Settings


@dataclass(frozen=True, slots=True)
class LedgerAutomation:
    """An automation of the newest snapshot, with its schedule or the reason for an invalid schedule."""

    target: str
    automation_id: str
    name: str
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
    automations = read_automations(settings, automation)
    if automation is not None and not any(recorded.enabled for recorded in automations):
        raise AnswerIsNo(f"{automation} is disabled and fires nothing")
    enabled = [recorded for recorded in automations if recorded.enabled]
    _print_pauses(enabled, settings)
    for target, until in read_throttles(settings, now()).items():
        if any(recorded.target == target for recorded in enabled):
            print_to_stderr(
                f"throttled: target {to_printable(target)}; nothing fires before "
                f"{format_machine_and_utc(until)}"
            )
    return [plan for recorded in enabled if (plan := _plan_automation(recorded))]


def read_automations(settings: Settings, automation: str | None) -> list[LedgerAutomation]:
    """Read all automations, or the automation with this id, name or beginning of an id.

    Disabled automations are included. Raises `AnswerIsNo` and `NoLedger`.
    """
    with open_read_only(settings.ledger.url.path) as connection:
        match = (
            None
            if automation is None
            else find_automation(make_ledger_collection(connection, only_present=True), automation)
        )
        rows = read_automation_rows(
            connection, None if match is None else (match.target, match.automation_id)
        )
    return [_make_automation(row, settings) for row in rows]


def _make_automation(row: AutomationRow, settings: Settings) -> LedgerAutomation:
    schedule: Schedule | InvalidSchedule
    try:
        schedule = Schedule.parse(
            row.cron_expression,
            row.timezone,
            dst_gap=settings.schedule.dst_gap,
            dst_repeat=settings.schedule.dst_repeat,
        )
    except InvalidSchedule as error:
        schedule = error
    return LedgerAutomation(
        row.target,
        row.automation_id,
        row.name,
        row.enabled,
        schedule,
        settings.find_policies(row.automation_id, row.name),
    )


def _print_pauses(automations: list[LedgerAutomation], settings: Settings) -> None:
    """Print the pauses, and how to end each pause.

    A pause is of all automations of a target, of a single automation, or of the configuration.
    """
    pauses, meaning = (
        ActivePauses(settings, read_pauses(settings)),
        "due occurrences are recorded and not fired",
    )
    by_source: defaultdict[PauseSource, list[LedgerAutomation]] = defaultdict(list)
    for automation in automations:
        for source in pauses.find_sources(automation.target, automation.automation_id, automation.name):
            by_source[source].append(automation)
    for target in sorted({automation.target for automation in by_source[PauseSource.TARGET]}):
        print_to_stderr(
            f"paused: all automations of {to_printable(target)}; {meaning} until {resume_all(target)}"
        )
    if single := by_source[PauseSource.AUTOMATION]:
        print_to_stderr(
            f"paused: {_describe(single)}; {meaning} until `{format_command('resume AUTOMATION')}`"
        )
    if configured := by_source[PauseSource.CONFIGURATION]:
        print_to_stderr(
            f"paused by the configuration: {_describe(configured)}; {meaning}; see `paused` in "
            "[schedule] and [[override]]"
        )


def _describe(automations: list[LedgerAutomation]) -> str:
    return to_printable(automations[0].name) if len(automations) == 1 else f"{len(automations):,} automations"


def _plan_automation(automation: LedgerAutomation) -> PlannedSchedule | None:
    if isinstance(automation.schedule, InvalidSchedule):
        print_to_stderr(
            f"{to_printable(automation.name)} ({automation.automation_id}) fires nothing: "
            f"{to_printable(automation.schedule.reason)}"
        )
        return None
    return automation.plan(automation.schedule)
