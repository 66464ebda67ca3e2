"""``scheduler status``: the state of the running daemon."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from scheduler.cli.group import SchedulerCommand, Source, as_json
from scheduler.cli.output import (
    Cell,
    Colour,
    Column,
    format_indented_table,
    print_json,
    print_lines,
    print_to_stderr,
    style,
)
from scheduler.cli.record_columns import colour_run, make_time_columns
from scheduler.cli.times import format_machine_and_utc, format_timedelta, format_zone_and_utc, to_zone
from scheduler.core.errors import DatabaseRefused, Unreachable
from scheduler.core.instants import from_text, to_text
from scheduler.core.occurrence_log import SEVERAL_WAIT_FOR, WAITS_FOR, Cause
from scheduler.core.pauses import EVERYTHING
from scheduler.core.quantities import pluralize
from scheduler.core.terminal_text import to_printable

if TYPE_CHECKING:
    from scheduler.cli.pauses import ActivePauses
    from scheduler.core.status import OperatorPause

_ALL: Final = "all automations"
_UPCOMING_COUNT: Final = 5
_MAX_WAITS: Final = 10
"""Waiting occurrences that are shown one by one; `--json` has the first hundred."""
_NO_BUDGET: Final = "occurrences or polls wait for requests_per_minute or requests_per_hour"
_SHORTAGES: Final = (
    ("budget", "budget_exhausted_since", _NO_BUDGET),
    ("saturated", "saturated_since", "as many requests hang as max_waiting allows"),
)

JsonObject = Mapping[str, Any]


@click.command(
    "status",
    cls=SchedulerCommand,
    section="Record",
    examples=("scheduler status --state-dir var", "scheduler status --json"),
)
@as_json
@click.pass_obj
def command(source: Source, *, as_json: bool) -> None:
    """Print the state of the running daemon.

    The output has readiness, the targets, the age of their snapshots, the open occurrences, and the next fire
    times.
    """
    from scheduler.cli.daemon_client import fetch_page
    from scheduler.cli.pauses import ActivePauses, read_pauses

    settings = source.load().settings
    status = fetch_page(settings, "/api/v1/status")
    upcoming = fetch_page(settings, f"/api/v1/upcoming?limit={_UPCOMING_COUNT}")["results"]
    try:
        pauses = read_pauses(settings)
    except (Unreachable, DatabaseRefused) as error:  # the state of the daemon is wanted all the more
        print_to_stderr(f"the pauses cannot be read: {to_printable(str(error))}")
        pauses = []
    if as_json:
        print_json({**status, "paused": [_make_pause_json(pause) for pause in pauses], "upcoming": upcoming})
        return
    print_lines(_format_daemon(status))
    print_lines(_format_targets(status))
    print_lines(_format_pauses(pauses))
    print_lines(_format_upcoming(status, upcoming, ActivePauses(settings, pauses)))


def _format_daemon(status: JsonObject) -> Iterator[str]:
    up = format_timedelta(from_text(status["at"]) - from_text(status["started_at"]))
    ready = style("ready", "green") if status["ready"] else style("not ready", "red")
    yield f"{ready}  node {to_printable(status['node'])}, up {up}, version {status['version']}"
    for problem in status["missing"]:
        yield f"  {style(to_printable(problem), 'red')}"


def _format_targets(status: JsonObject) -> Iterator[str]:
    at = from_text(status["at"])
    for target in status["targets"]:
        place = f"{to_printable(target['url'])}, project {to_printable(target['project_id'])}"
        yield f"\ntarget {to_printable(target['name'])}  {place}"
        states = [f"{number} {state}" for state, number in target["automations"].items() if number]
        yield _format_row("automations", ", ".join(states) or "none")
        yield from _format_list_problems(target)
        if target["snapshot_at"]:
            yield _format_row("snapshot", f"{format_timedelta(at - from_text(target['snapshot_at']))} old")
        yield from _format_api_problems(target)
        yield _format_row("open", _describe_open(target))
        yield from _format_waits(target, at)
        yield from _format_shortages(target)
        yield from _format_failing(target)
        yield from _format_overdue(target)


def _format_row(title: str, text: str, colour: Colour | None = None, rest: str = "") -> str:
    """Format a fact about a target. Only ``text`` has the colour, not the ``rest`` of the sentence."""
    return f"  {title:<12} {style(text, colour)}{rest}"


def _format_api_problems(target: JsonObject) -> Iterator[str]:
    for title, key in (("held", "held"), ("last poll", "error")):
        if target[key]:
            yield _format_row(title, to_printable(target[key]), "red")
    if until := target.get("throttled_until"):
        end = format_machine_and_utc(from_text(until))
        yield _format_row("throttled", f"until {end}, HTTP 429", "yellow")


def _format_overdue(target: JsonObject) -> Iterator[str]:
    """Yield the overdue occurrences, and the past from which the daemon recovers."""
    if target["overdue"]["count"]:
        yield _format_row("overdue", str(target["overdue"]["count"]), "red")
        yield from (f"    {to_printable(occurrence)}" for occurrence in target["overdue"]["occurrences"])
    if past := target.get("recovering"):
        since, until = (format_machine_and_utc(from_text(past[key])) for key in ("since", "until"))
        count = pluralize(past["automations"], "automation")
        yield _format_row("recovering", f"{count}, from {since} up to {until}")


def _format_failing(target: JsonObject) -> Iterator[str]:
    """Yield the number of failing automations and their names.

    A daemon of an older version does not report them.
    """
    failing = target.get("failing")
    if not failing or not failing["count"]:
        return
    count = failing["count"]
    what = ": the newest finished run failed or was lost"
    yield _format_row("failing", pluralize(count, "automation"), "red", what)
    for run in failing["automations"]:
        yield f"    {to_printable(run['name'])}: {_describe_run(run)}"
    if (more := count - len(failing["automations"])) > 0:
        yield f"    and {more:,} more"


def _describe_run(run: JsonObject) -> str:
    """Return the result of a run, the number of failures in a row, and the last line of the error."""
    often = f", {run['failures']:,} in a row" if run["failures"] > 1 else ""
    error = f": {run['error']}" if run["error"] else ""
    return style(run["run_status"], colour_run(run["run_status"])) + to_printable(f"{often}{error}")


def _format_shortages(target: JsonObject) -> Iterator[str]:
    """Yield the shortages of a target. A daemon of an older version does not report them."""
    for title, key, text in _SHORTAGES:
        if since := target.get(key):
            yield _format_row(title, f"{text} since {to_printable(since)}", "yellow")
    if target.get("hanging"):
        yield _format_row("hanging", f"{target['hanging']} without an answer for a second")


def _describe_open(target: JsonObject) -> str:
    """Return the number of open occurrences and their states.

    Occurrences without a row are waiting; a daemon of an older version does not count them.
    """
    states: Counter[str] = Counter(target["open"])
    states["waiting"] += (target.get("waiting") or {}).get("unclaimed", 0)
    numbers = [f"{number:,} {state}" for state, number in states.items() if number]
    return f"{states.total():,}: {', '.join(numbers)}" if numbers else "none"


def _format_waits(target: JsonObject, at: datetime) -> Iterator[str]:
    """Yield each open occurrence with its cause and the beginning of its wait.

    A daemon of an older version does not report causes.
    """
    waiting = target.get("waiting") or {}
    if not waiting.get("causes"):
        return
    for cause, number in waiting["causes"].items():
        yield f"    {number:,} {'waits' if number == 1 else 'wait'} for {_describe_cause(cause, number)}"
    for wait in waiting["occurrences"][:_MAX_WAITS]:
        due, since = from_text(wait["due"]), from_text(wait["since"])
        until = f" {due:%H:%M:%S}Z, in {format_timedelta(due - at)}" if wait["waits_for"] == Cause.DUE else ""
        detail = to_printable(f": {wait['detail']}") if wait["detail"] else ""
        yield f"    {to_printable(wait['name'])} {wait['scheduled_for']}"
        cause = _describe_cause(wait["waits_for"])
        yield f"      waits for {cause}{until}, since {since:%H:%M:%S}Z{detail}"
        if expiry := _describe_expiry(wait, target):
            yield f"      {style(expiry, 'red')}"


def _describe_expiry(wait: JsonObject, target: JsonObject) -> str | None:
    """Return a sentence when an occurrence expires before the throttle ends, otherwise None.

    A daemon of an older version does not report deadlines.
    """
    from scheduler.core.status import describe_expiry

    deadline, until = wait.get("deadline"), target.get("throttled_until")
    if not deadline or not until or wait["waits_for"] in {Cause.ANSWER, Cause.OUTCOME}:
        return None
    return describe_expiry(from_text(deadline), from_text(until))


def _describe_cause(cause: str, number: int = 1) -> str:
    """Return the words for a cause. A daemon of a newer version may report causes that are unknown here."""
    words = WAITS_FOR if number == 1 else SEVERAL_WAIT_FOR
    return words[Cause(cause)] if cause in set(Cause) else to_printable(cause)


def _format_list_problems(target: JsonObject) -> Iterator[str]:
    """Yield the problems of the list of automations. A daemon of an older version does not report them."""
    unidentified = target.get("unidentified") or {}
    if count := unidentified.get("count"):
        what = ": objects whose id cannot be read, never fired"
        yield _format_row("unidentified", str(count), "yellow", what)
        yield from (f"    {to_printable(entry)}" for entry in unidentified["objects"])
    if doubt := target.get("inconsistent"):
        since = format_machine_and_utc(from_text(doubt["since"]))
        yield _format_row("list", f"not trusted since {since}", "yellow")
        yield f"    {to_printable(doubt['reason'])}"
    if absent := target.get("absent"):
        what = ": not in the list; removed when a poll one interval later confirms this"
        yield _format_row("absent", str(absent), "yellow", what)
    if disappeared := target.get("disappeared"):
        many = f"{disappeared['count']} of {disappeared['automations']} automations"
        yield _format_row("disappeared", many, "yellow", f" from the list at {disappeared['at']}")


def _make_pause_json(pause: "OperatorPause") -> JsonObject:
    return {
        "target": pause.target,
        "automation_id": pause.automation_id or EVERYTHING,
        "name": _name_paused(pause),
        "timezone": pause.timezone,
        "since": to_text(pause.since),
        "by": pause.by,
    }


def _name_paused(pause: "OperatorPause") -> str:
    return _ALL if pause.automation_id is None else pause.name


def _format_pauses(pauses: "list[OperatorPause]") -> Iterator[str]:
    if pauses:
        yield "\npaused"
    for pause in pauses:
        name, target, by = map(to_printable, (_name_paused(pause), pause.target, pause.by))
        since = format_zone_and_utc(pause.since, pause.timezone)
        yield f"  {name} on target {target}, since {since}, by {by}"


def _format_upcoming(status: JsonObject, upcoming: list[JsonObject], paused: "ActivePauses") -> Iterator[str]:
    yield "\nnext" if upcoming else "\nnothing fires within 24 hours"
    now = from_text(status["at"])
    ends = {target["name"]: target.get("throttled_until") for target in status["targets"]}

    def mark(fire: JsonObject) -> Cell:
        if paused.find_sources(fire["target"], fire["automation_id"], fire["name"]):
            return Cell("paused", "yellow")
        until = ends.get(fire["target"])
        return Cell("throttled" if until and _find_due(fire) < from_text(until) else "", "yellow")

    times = make_time_columns(
        upcoming, "scheduled", lambda fire: from_text(fire["scheduled_for"]), lambda fire: fire["timezone"]
    )
    due = [Column[JsonObject]("due", _format_due)] if any(map(_format_due, upcoming)) else []
    columns: list[Column[JsonObject]] = [
        *times,
        *due,
        Column("in", lambda fire: format_timedelta(_find_due(fire) - now)),
        Column.make_name("automation", lambda fire: fire["name"]),
        Column("", mark),
    ]
    yield from format_indented_table(upcoming, columns)


def _find_due(fire: JsonObject) -> datetime:
    """Return the due instant. A daemon of an older version reports only the scheduled instant."""
    return from_text(fire.get("due") or fire["scheduled_for"])


def _format_due(fire: JsonObject) -> str:
    """Return the due time in the automation's zone, if jitter makes it differ from the instant."""
    due = _find_due(fire)
    return "" if due == from_text(fire["scheduled_for"]) else f"{to_zone(due, fire['timezone']):%H:%M:%S}"
