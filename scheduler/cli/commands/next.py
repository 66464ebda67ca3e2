"""``scheduler next``: the next fire times."""

from datetime import datetime
from typing import IO, TYPE_CHECKING

import click

from scheduler.cli.group import SchedulerCommand, Source, as_json
from scheduler.cli.options import (
    add_utc_option,
    choose_begin,
    choose_zone_of_cron,
    make_number_option,
    name_optional_automation,
)
from scheduler.cli.output import print_json, show
from scheduler.cli.times import now

if TYPE_CHECKING:
    from scheduler.cli.upcoming_fires import PlannedSchedule
    from scheduler.settings.models import Settings

_EXAMPLES = (
    "scheduler next --cron '30 2 * * *' --timezone Europe/Berlin --from 2026-03-28T00:00:00Z",
    """echo '{"cron": "0 9 * * 1-5", "timezone": "Asia/Tokyo", "count": 3}' | scheduler next --input -""",
)


@click.command("next", cls=SchedulerCommand, section="Schedules", examples=_EXAMPLES)
@name_optional_automation
@click.option("--cron", metavar="EXPR", help="Evaluate this expression instead of an automation.")
@choose_zone_of_cron
@choose_begin
@make_number_option("--count", 10, 100_000, "The number of fire times.")
@click.option(
    "--input",
    "lines",
    type=click.File("rb"),
    metavar="FILE",
    help="Answer the JSON lines in this file; - reads standard input.",
)
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
    lines: IO[bytes] | None,
    as_json: bool,
) -> None:
    """Print the next fire times of AUTOMATION or of an expression.

    Without both, print the next fire times of all automations. Clock changes follow dst_gap and dst_repeat in
    [schedule]. If an automation has jitter, each fire time has its due time too.

    With --input, each line of FILE is {"cron", "timezone", "from", "count"}. Each line gets
    one line as answer, in order: {"cron", "timezone", "from", "fires"}, or with "error" in place of "fires".
    """
    if sum(given is not None for given in (automation, cron, lines)) > 1:
        raise click.UsageError("AUTOMATION, --cron and --input exclude each other; give one of them")
    if timezone is not None and cron is None:
        raise click.UsageError("--timezone belongs to --cron; an automation has its own")
    settings, begin = source.load().settings, after or now()
    if lines is not None:
        _answer(lines, settings, begin, count)
    else:
        from scheduler.cli.upcoming_fires import find_upcoming_fires, make_columns, make_fire_json

        planned = _plan(automation, cron, timezone or "UTC", settings)
        fires, columns = find_upcoming_fires(planned, begin, count), make_columns(begin, planned)
        show(fires, columns, make_fire_json if as_json else None, empty="nothing fires")


def _answer(lines: IO[bytes], settings: "Settings", after: datetime, count: int) -> None:
    from scheduler.cli.batch import BatchDefaults, answer_lines

    for answer in answer_lines(lines, BatchDefaults(after, count, settings.schedule)):
        print_json(answer)


def _plan(
    automation: str | None, cron: str | None, timezone: str, settings: "Settings"
) -> list["PlannedSchedule"]:
    """Return the schedule of an expression, or the schedules in the ledger. An expression loads no ledger."""
    from scheduler.cli.upcoming_fires import PlannedSchedule, parse_schedule

    if cron is not None:
        return [PlannedSchedule(parse_schedule(cron, timezone, settings.schedule))]
    from scheduler.cli.ledger_automations import read_planned_schedules

    return read_planned_schedules(settings, automation)
