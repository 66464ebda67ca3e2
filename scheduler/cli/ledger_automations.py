"""The automations on record in the ledger, as schedules."""

from collections import defaultdict

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.ledger_file import make_ledger_collection, open_read_only
from scheduler.cli.lookup import find_automation
from scheduler.cli.output import print_to_stderr
from scheduler.cli.pauses import read_active_pauses, read_throttles
from scheduler.cli.times import format_machine_and_utc, now
from scheduler.cli.upcoming_fires import PlannedSchedule
from scheduler.core.command_line import format_command, resume_all
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.pauses import PauseSource
from scheduler.core.terminal_text import to_printable
from scheduler.ledger.automations import AutomationRow
from scheduler.ledger.automations import read_automations as read_automation_rows
from scheduler.settings.models import Settings

LedgerAutomation = tuple[AutomationRow, PlannedSchedule | InvalidSchedule]
"""An automation of the newest snapshot, with its schedule or the reason for an invalid schedule."""


def read_planned_schedules(settings: Settings, automation: str | None) -> list[PlannedSchedule]:
    """Read the schedules of all enabled automations, or of the named automation.

    Automations without a valid schedule, pauses and throttles are printed on standard error. Raises
    `AnswerIsNo` when the named automation does not exist or is disabled, and `NoLedger`.
    """
    enabled = [recorded for recorded in read_automations(settings, automation) if recorded[0].enabled]
    if automation is not None and not enabled:
        raise AnswerIsNo(f"{automation} is disabled and fires nothing")
    rows = [row for row, _ in enabled]
    _print_pauses(rows, settings)
    for target, until in read_throttles(settings, now()).items():
        if target in {row.target for row in rows}:
            end = format_machine_and_utc(until)
            print_to_stderr(f"throttled: target {to_printable(target)}; nothing fires before {end}")
    for row, planned in enabled:
        if isinstance(planned, InvalidSchedule):
            name, reason = to_printable(row.name), to_printable(planned.reason)
            print_to_stderr(f"{name} ({row.automation_id}) fires nothing: {reason}")
    return [planned for _, planned in enabled if isinstance(planned, PlannedSchedule)]


def read_automations(settings: Settings, automation: str | None) -> list[LedgerAutomation]:
    """Read all automations, or the automation with this id, name or beginning of an id.

    Disabled automations are included. Raises `AnswerIsNo` and `NoLedger`.
    """
    key = None
    with open_read_only(settings.ledger.url.path) as connection:
        if automation is not None:
            match = find_automation(make_ledger_collection(connection, only_present=True), automation)
            key = match.target, match.automation_id
        rows = read_automation_rows(connection, key)
    return [(row, _plan(row, settings)) for row in rows]


def _plan(row: AutomationRow, settings: Settings) -> PlannedSchedule | InvalidSchedule:
    rules = settings.schedule
    try:
        schedule = Schedule.parse(
            row.cron_expression, row.timezone, dst_gap=rules.dst_gap, dst_repeat=rules.dst_repeat
        )
    except InvalidSchedule as error:
        return error
    policies = settings.find_policies(row.automation_id, row.name)
    return PlannedSchedule(schedule, row.automation_id, row.name, row.target, policies)


def _print_pauses(automations: list[AutomationRow], settings: Settings) -> None:
    """Print the pauses, and how to end each pause.

    A pause is of all automations of a target, of a single automation, or of the configuration.
    """
    pauses = read_active_pauses(settings)
    meaning = "due occurrences are recorded and not fired"
    by_source: defaultdict[PauseSource, list[AutomationRow]] = defaultdict(list)
    for automation in automations:
        for source in pauses.find_sources(automation.target, automation.automation_id, automation.name):
            by_source[source].append(automation)
    for target in sorted({automation.target for automation in by_source[PauseSource.TARGET]}):
        end = f"{meaning} until {resume_all(target)}"
        print_to_stderr(f"paused: all automations of {to_printable(target)}; {end}")
    if single := by_source[PauseSource.AUTOMATION]:
        resume = format_command("resume AUTOMATION")
        print_to_stderr(f"paused: {_describe(single)}; {meaning} until `{resume}`")
    if configured := by_source[PauseSource.CONFIGURATION]:
        place = "see `paused` in [schedule] and [[override]]"
        print_to_stderr(f"paused by the configuration: {_describe(configured)}; {meaning}; {place}")


def _describe(automations: list[AutomationRow]) -> str:
    return to_printable(automations[0].name) if len(automations) == 1 else f"{len(automations):,} automations"
