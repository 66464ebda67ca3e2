"""``scheduler explain``: the meaning of a schedule."""

from datetime import datetime
from typing import TYPE_CHECKING

import click

from scheduler.cli.failures import ANSWER_IS_NO
from scheduler.cli.group import SchedulerCommand, Source, as_json
from scheduler.cli.options import (
    add_utc_option,
    choose_begin,
    choose_zone_of_cron,
    make_number_option,
    name_optional_automation,
)
from scheduler.cli.output import print_json, print_lines, print_to_stderr
from scheduler.cli.times import now

if TYPE_CHECKING:
    from scheduler.settings.models import Settings

_EXAMPLES = (
    "scheduler explain nightly-report",
    "scheduler explain --cron '30 2 * * *' --timezone Europe/Berlin",
    "scheduler explain --cron '0 9 13 * 5' --timezone America/New_York --from 2027-01-01T00:00:00Z --json",
)


@click.command("explain", cls=SchedulerCommand, section="Schedules", examples=_EXAMPLES)
@name_optional_automation
@click.option("--cron", metavar="EXPR", help="Explain this expression instead of an automation.")
@choose_zone_of_cron
@choose_begin
@make_number_option("--count", 5, 10_000, "The number of fire times.")
@add_utc_option
@as_json
@click.pass_obj
def command(
    source: Source,
    *,
    automation: str | None,
    cron: str | None,
    timezone: str | None,
    after: datetime | None,
    count: int,
    as_json: bool,
) -> None:
    """Explain the schedule of AUTOMATION or of an expression.

    Without both, explain the schedules of all automations. The output has the schedule in words, the next
    fire times, the effect of each clock change in the next 13 months, and the different readings of other
    cron programs. If an automation has no valid schedule, the output says why. Exit status 1: AUTOMATION has
    no valid schedule.
    """
    if automation is not None and cron is not None:
        raise click.UsageError("AUTOMATION and --cron exclude each other; give one of them")
    if timezone is not None and cron is None:
        raise click.UsageError("--timezone belongs to --cron; an automation has its own")
    settings, begin = source.load().settings, after or now()
    if cron is not None:
        _explain_expression(cron, timezone or "UTC", settings, begin, count, as_json=as_json)
    elif not _explain_automations(automation, settings, begin, count, as_json=as_json):
        raise click.exceptions.Exit(ANSWER_IS_NO)


def _explain_expression(
    cron: str, timezone: str, settings: "Settings", after: datetime, count: int, *, as_json: bool
) -> None:
    from scheduler.cli import schedule_explanation
    from scheduler.cli.upcoming_fires import PlannedSchedule, parse_schedule

    planned = PlannedSchedule(parse_schedule(cron, timezone, settings.schedule))
    explanation = schedule_explanation.ScheduleExplanation.compute(planned, after, count)
    if as_json:
        print_json(schedule_explanation.make_explanation_json(explanation))
    else:
        print_lines(schedule_explanation.format_explanation(explanation))


def _explain_automations(
    automation: str | None, settings: "Settings", after: datetime, count: int, *, as_json: bool
) -> bool:
    """Return whether the named automation has a valid schedule; true without a name."""
    from scheduler.cli.ledger_automations import read_automations
    from scheduler.cli.schedule_explanation import format_automation, make_automation_json
    from scheduler.cli.upcoming_fires import PlannedSchedule

    automations = read_automations(settings, automation)
    for number, recorded in enumerate(automations):
        if as_json:
            print_json(make_automation_json(recorded, after, count))
            continue
        print_lines(["", ""] if number else [])
        print_lines(format_automation(recorded, after, count))
    if not automations:
        print_to_stderr("there are no automations in the newest snapshot")
    return automation is None or any(isinstance(planned, PlannedSchedule) for _, planned in automations)
