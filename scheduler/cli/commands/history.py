"""``scheduler history``: what came due, and what became of it."""

from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from scheduler.cli.completion_values import complete_automations, complete_targets
from scheduler.cli.group import Command, Source, as_json
from scheduler.cli.instant_options import InstantType, utc
from scheduler.cli.local_times import time_columns
from scheduler.cli.outcome_colours import colour_outcome, colour_run
from scheduler.cli.output import Cell, Column, complain, detail_column, id_column, name_column, show, text_column
from scheduler.cli.times import now, usable_zone, zoned_text
from scheduler.core.duration import describe_duration
from scheduler.core.instants import from_text
from scheduler.core.model import Outcome, RunStatus
from scheduler.core.printable import escaped
from scheduler.core.zones import zone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scheduler.ledger.history import Line

_EXAMPLES = (
    "scheduler history --state-dir var --since 24h",
    "scheduler history --since 24h --run-status failed",
    "scheduler history --automation 'nightly-*' --since 2026-11-01T00:00:00Z --outcome skipped --json",
)
_OUTCOMES: Final = (*(each.value for each in Outcome), "open")
_RUN_STATUSES: Final = [status.value for status in RunStatus]


@click.command("history", cls=Command, section="Record", examples=_EXAMPLES)
@click.option(
    "--automation",
    metavar="NAME",
    help="Only this automation's: a name, an id or its first 4 or more characters, or a pattern such as 'nightly-*'.",
    shell_complete=complete_automations,
)
@click.option("--since", type=InstantType(ago=True), metavar="TIME|AGO", help="Only what was scheduled then or later.")
@click.option("--until", type=InstantType(ago=True), metavar="TIME|AGO", help="Only what was scheduled before.")
@click.option("--outcome", type=click.Choice(_OUTCOMES), help="Only what came to this; open has not come to anything yet.")
@click.option("--run-status", type=click.Choice(_RUN_STATUSES), help="Only occurrences whose run has this status.")
@click.option(
    "--target",
    metavar="NAME",
    help="Only this target's.",
    shell_complete=complete_targets,
)
@click.option("--limit", type=click.IntRange(1, 10_000_000), default=50, show_default=True, help="The newest so many.")
@utc
@as_json
@click.pass_obj
def command(
    source: Source,
    *,
    automation: str | None,
    since: datetime | None,
    until: datetime | None,
    outcome: str | None,
    run_status: str | None,
    target: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Print the occurrences in the ledger, the newest first, each with its outcome and the reason for it.

    An occurrence between its instant and its due time, which jitter sets apart, is shown as waiting.

    Works whether the daemon runs or not, and changes nothing.
    """
    from scheduler.cli.ledger_file import is_served, read_last_seen, reading
    from scheduler.cli.named import advise_on, widen
    from scheduler.cli.policy_record import has_jitter
    from scheduler.ledger.history import Selection, timezones
    from scheduler.ledger.not_due import select_with

    settings = source.load().settings
    path = settings.ledger.url.path
    with reading(path) as connection:
        automation = widen(connection, target, automation)
        selection = Selection(
            target=target,
            automation=automation,
            since=since,
            until=until,
            outcome=Outcome(outcome) if outcome not in {None, "open"} else None,
            run_status=None if run_status is None else RunStatus(run_status),
            only_open=outcome == "open",
            limit=limit,
        )
        derived: list[Line] = []
        if selection.outcome is None and has_jitter(connection, settings):
            from scheduler.cli.until_due import derive_lines  # which evaluates schedules, and so loads much more

            derived = derive_lines(connection, settings, automation, now())
        lines = select_with(connection, selection, derived)
        zones = {} if as_json else timezones(connection, lines)
        seen = {} if as_json or is_served(path) else read_last_seen(connection)
        near = "" if lines else advise_on(connection, target, automation)
    filtered = any((automation, since, until, outcome, run_status, target))
    empty = f"no occurrence matches{near}" if filtered else "nothing has come due yet"

    def timezone(line: "Line") -> str | None:
        return zones.get((str(line["target"]), str(line["automation_id"])))

    show(lines, _columns(lines, timezone), (lambda one: one) if as_json else None, empty=empty)
    for name in dict.fromkeys(str(line["target"]) for line in lines if _may_have_changed(line)):
        if name in seen:
            claims = [from_text(str(line["claimed_at"])) for line in lines if line["target"] == name and line["claimed_at"]]
            at = zoned_text(max([seen[name], *claims]))
            complain(f"no daemon runs: what waits or runs of target {escaped(name)} is as last seen at {at}")


def _may_have_changed(line: "Line") -> bool:
    """Return whether the line is not final: the occurrence has no outcome, or its run has not ended."""
    return line["outcome"] is None or line["run_status"] == RunStatus.RUNNING


def _outcome(line: "Line", timezone: str | None) -> Cell:
    outcome = _text(line["outcome"])
    text = _open(line, timezone) if outcome is None else f"{outcome}: {line['reason']}"
    return Cell(text, colour_outcome(outcome, _text(line["run_status"])))


def _open(line: "Line", timezone: str | None) -> str:
    """The state of an open occurrence; of one without a claim, when it is due, in the automation's zone."""
    due = from_text(str(line["due"])).astimezone(zone(usable_zone(timezone)))
    until = "" if line["claimed_at"] else f", due {due:%H:%M:%S}"
    return f"open: {line.get('state')}{until}"


def _run(line: "Line") -> Cell:
    status = _text(line["run_status"])
    return Cell(status or "", colour_run(status))


def _text(value: str | float | None) -> str | None:
    return None if value is None else str(value)


def _late(line: "Line") -> str:
    seconds = line["lateness_seconds"]
    return "" if seconds is None else describe_duration(float(seconds))


def _columns(lines: "Sequence[Line]", timezone: "Callable[[Line], str | None]") -> "list[Column[Line]]":
    times = time_columns(lines, "scheduled", lambda line: from_text(str(line["scheduled_for"])), timezone)
    counts: list[Column[Line]] = [Column("count", lambda line: str(line["count"]))] if any(line["count"] != 1 for line in lines) else []
    return [
        *times,
        *counts,
        name_column("automation", lambda line: str(line["name"])),
        Column("outcome", lambda line: _outcome(line, timezone(line)), rank=8, least=16),
        detail_column("late", _late, rank=3),
        detail_column("attempts", lambda line: str(line["attempts"])),
        Column("run", _run),
        id_column("run id", lambda line: _text(line["task_run_id"]) or ""),
        text_column("error", lambda line: _text(line["error"]) or ""),
    ]
