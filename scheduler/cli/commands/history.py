"""``scheduler history``: the occurrences in the ledger, with their outcomes."""

from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from scheduler.cli.group import SchedulerCommand, Source, as_json
from scheduler.cli.options import (
    add_utc_option,
    filter_by_automation,
    filter_by_target,
    make_number_option,
    make_time_option,
)
from scheduler.cli.output import Cell, Column, print_to_stderr, show
from scheduler.cli.record_columns import colour_outcome, make_run_cell, make_time_columns
from scheduler.cli.times import format_machine_and_utc, now, to_zone
from scheduler.core.instants import from_text
from scheduler.core.model import Outcome, RunStatus
from scheduler.core.quantities import describe_duration
from scheduler.core.terminal_text import to_printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scheduler.ledger.history import Line

_EXAMPLES = (
    "scheduler history --state-dir var --since 24h",
    "scheduler history --since 24h --run-status failed",
    "scheduler history --automation 'nightly-*' --since 2026-11-01T00:00:00Z --outcome skipped --json",
)
_OUTCOMES: Final = (*(outcome.value for outcome in Outcome), "open")
_RUN_STATUSES: Final = [status.value for status in RunStatus]


@click.command("history", cls=SchedulerCommand, section="Record", examples=_EXAMPLES)
@filter_by_automation
@make_time_option("--since", "Only occurrences scheduled at this time or later.")
@make_time_option("--until", "Only occurrences scheduled before this time.")
@click.option(
    "--outcome",
    type=click.Choice(_OUTCOMES),
    help="Only occurrences with this outcome; open: without an outcome yet.",
)
@click.option(
    "--run-status", type=click.Choice(_RUN_STATUSES), help="Only occurrences whose run has this status."
)
@filter_by_target
@make_number_option("--limit", 50, 10_000_000, "Print at most this number of lines, the newest.")
@add_utc_option
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
    """Print the occurrences in the ledger, newest first.

    Each line has the outcome and its reason. With jitter, an occurrence between its scheduled instant and its
    due time is open, and its due time is shown.

    The command works with and without a running daemon, and changes nothing.
    """
    from scheduler.cli.ledger_file import is_served, make_ledger_collection, open_read_only
    from scheduler.cli.lookup import advise_on, expand_prefix
    from scheduler.cli.recorded_policies import read_settings
    from scheduler.core.occurrence_query import OccurrenceQuery
    from scheduler.ledger.history import read_timezones
    from scheduler.ledger.not_due_lines import select_with_derived
    from scheduler.ledger.targets import read_targets

    settings = source.load().settings
    path = settings.ledger.url.path
    with open_read_only(path) as connection:
        collection = make_ledger_collection(connection, target)
        automation = None if automation is None else expand_prefix(collection, automation)
        selection = OccurrenceQuery(
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
        recorded = read_settings(connection, settings)
        if selection.outcome is None and any(policies.jitter for policies in recorded.all_policies):
            from scheduler.cli.jitter_waits import derive_lines  # evaluates schedules, and loads much more

            derived = derive_lines(connection, recorded, automation, now())
        lines = select_with_derived(connection, selection, derived)
        zones = {} if as_json else read_timezones(connection, lines)
        targets = [] if as_json or is_served(path) else read_targets(connection)
        snapshots = {target.name: target.snapshot_at for target in targets if target.snapshot_at}
        near = "" if lines else advise_on(collection, automation)
    filtered = any((automation, since, until, outcome, run_status, target))
    empty = f"no occurrence matches{near}" if filtered else "nothing has come due yet"

    def find_timezone(line: "Line") -> str | None:
        return zones.get((str(line["target"]), str(line["automation_id"])))

    show(lines, _make_columns(lines, find_timezone), dict if as_json else None, empty=empty)
    for name, at in _find_last_seen(lines, snapshots).items():
        last_seen = f"are as last seen at {format_machine_and_utc(at)}"
        print_to_stderr(f"no daemon runs: waits and runs of target {to_printable(name)} {last_seen}")


def _find_last_seen(lines: "Sequence[Line]", snapshots: dict[str, datetime]) -> dict[str, datetime]:
    """Find when a daemon last saw each target with a line that is not final.

    In such a line, the occurrence has no outcome, or its run has not ended.
    """
    seen_at: dict[str, datetime] = {}
    for name in (str(line["target"]) for line in lines if _may_have_changed(line)):
        if name in snapshots:
            claims = [line["claimed_at"] for line in lines if line["target"] == name]
            seen_at[name] = max([snapshots[name], *(from_text(str(claim)) for claim in claims if claim)])
    return seen_at


def _may_have_changed(line: "Line") -> bool:
    return line["outcome"] is None or line["run_status"] == RunStatus.RUNNING


def _make_outcome_cell(line: "Line", timezone: str | None) -> Cell:
    outcome = _get_text(line, "outcome")
    text = f"{outcome}: {line['reason']}" if outcome else _describe_open(line, timezone)
    return Cell(text, colour_outcome(outcome or None, _get_text(line, "run_status")))


def _describe_open(line: "Line", timezone: str | None) -> str:
    """Return the state of an open occurrence; before its claim, its due time in the automation's zone."""
    if line["claimed_at"]:
        return f"open: {line.get('state')}"
    return f"open: due {to_zone(from_text(str(line['due'])), timezone):%H:%M:%S}"


def _get_text(line: "Line", key: str) -> str:
    return "" if line[key] is None else str(line[key])


def _format_lateness(line: "Line") -> str:
    seconds = line["lateness_seconds"]
    return "" if seconds is None else describe_duration(float(seconds))


def _make_columns(lines: "Sequence[Line]", timezone: "Callable[[Line], str | None]") -> "list[Column[Line]]":
    is_any_due = any(line["outcome"] is None and not line["claimed_at"] for line in lines)
    least = len("open: due 00:00:00") if is_any_due else 16
    has_spans = any(line["count"] != 1 for line in lines)
    counts = [Column["Line"]("count", lambda line: str(line["count"]))] if has_spans else []
    return [
        *make_time_columns(lines, "scheduled", lambda line: from_text(str(line["scheduled_for"])), timezone),
        *counts,
        Column.make_name("automation", lambda line: str(line["name"])),
        Column("outcome", lambda line: _make_outcome_cell(line, timezone(line)), rank=8, least=least),
        Column.make_detail("late", _format_lateness, rank=3),
        Column.make_detail("attempts", lambda line: str(line["attempts"])),
        Column("run", lambda line: make_run_cell(_get_text(line, "run_status"))),
        Column.make_id("run id", lambda line: _get_text(line, "task_run_id")),
        Column.make_text("error", lambda line: _get_text(line, "error")),
    ]
