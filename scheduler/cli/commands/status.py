"""``scheduler status``: what the running daemon is like."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from scheduler.cli.group import Command, Source, as_json
from scheduler.cli.local_times import time_columns
from scheduler.cli.outcome_colours import colour_run
from scheduler.cli.output import Cell, Column, complain, line, name_column, print_json, styled, table, terminal_width
from scheduler.cli.times import at_text, span_text, usable_zone, zoned_text
from scheduler.core.errors import DatabaseRefused, Unreachable
from scheduler.core.instants import from_text
from scheduler.core.plural import pluralize
from scheduler.core.printable import escaped
from scheduler.core.steps import WAITS_FOR, Cause
from scheduler.core.zones import zone

if TYPE_CHECKING:
    from scheduler.cli.pauses import Paused

_NEXT: Final = 5
_MOST_WAITS: Final = 10
"""Waiting occurrences that are shown one by one; `--json` has the first hundred."""
_LACKS: Final[Mapping[str, str]] = {
    "budget_exhausted_since": "occurrences or polls wait for requests_per_minute or requests_per_hour",
    "saturated_since": "as many requests hang as max_waiting allows",
}

State = Mapping[str, Any]


@click.command("status", cls=Command, section="Record", examples=("scheduler status --state-dir var", "scheduler status --json"))
@as_json
@click.pass_obj
def command(source: Source, *, as_json: bool) -> None:
    """Ask the running daemon: is it ready, its targets, the age of their snapshots, open occurrences, and what fires next."""
    from scheduler.cli.daemon_pages import ask
    from scheduler.cli.pauses import Paused, paused

    settings = source.load().settings
    status = ask(settings, "/api/v1/status")
    upcoming = ask(settings, f"/api/v1/upcoming?limit={_NEXT}")["results"]
    try:
        pauses = paused(settings)
    except (Unreachable, DatabaseRefused) as error:  # what the daemon says is wanted all the more
        complain(f"what is paused is not known: {escaped(str(error))}")
        pauses = []
    if as_json:
        print_json({**status, "paused": pauses, "upcoming": upcoming})
        return
    for text in (*_of_daemon(status), *_of_targets(status), *_of_pauses(pauses), *_of_upcoming(status, upcoming, Paused(settings, pauses))):
        line(text)


def _of_daemon(status: State) -> Iterator[str]:
    up = span_text(from_text(status["at"]) - from_text(status["started_at"]))
    ready = styled("ready", "green") if status["ready"] else styled("not ready", "red")
    yield f"{ready}  node {escaped(status['node'])}, up {up}, version {status['version']}"
    for problem in status["missing"]:
        yield f"  {styled(escaped(problem), 'red')}"


def _of_targets(status: State) -> Iterator[str]:
    for target in status["targets"]:
        yield f"\ntarget {escaped(target['name'])}  {escaped(target['url'])}, project {escaped(target['project_id'])}"
        automations = ", ".join(f"{number} {state}" for state, number in target["automations"].items() if number)
        yield f"  automations  {automations or 'none'}"
        yield from _of_list(target)
        if target["snapshot_at"]:
            yield f"  snapshot     {span_text(from_text(status['at']) - from_text(target['snapshot_at']))} old"
        for title, key in (("held", "held"), ("last poll", "error")):
            if target[key]:
                yield f"  {title:<11}  {styled(escaped(target[key]), 'red')}"
        if until := target.get("throttled_until"):
            yield f"  throttled    {styled(f'until {zoned_text(from_text(until))}, HTTP 429', 'yellow')}"
        yield f"  open         {_describe_open(target)}"
        yield from _of_waits(target, from_text(status["at"]))
        yield from _of_places(target)
        yield from _of_failing(target)
        if target["overdue"]["count"]:
            yield f"  overdue      {styled(str(target['overdue']['count']), 'red')}"
            yield from (f"    {escaped(each)}" for each in target["overdue"]["occurrences"])
        if past := target.get("recovering"):
            count, since, until = past["automations"], from_text(past["since"]), from_text(past["until"])
            yield f"  recovering   {pluralize(count, 'automation')}, from {zoned_text(since)} up to {zoned_text(until)}"


def _of_failing(target: State) -> Iterator[str]:
    """Yield the number of failing automations and their names. A daemon of an older version says nothing of them."""
    failing = target.get("failing")
    if not failing or not failing["count"]:
        return
    count = failing["count"]
    yield f"  failing      {styled(pluralize(count, 'automation'), 'red')}: the newest finished run failed or was lost"
    for run in failing["automations"]:
        yield f"    {escaped(run['name'])}: {_told(run)}"
    if (more := count - len(failing["automations"])) > 0:
        yield f"    and {more:,} more"


def _told(run: State) -> str:
    """Return what became of a run, how often in a row, and the last line of the error."""
    often = f", {run['failures']:,} in a row" if run["failures"] > 1 else ""
    error = f": {run['error']}" if run["error"] else ""
    return styled(run["run_status"], colour_run(run["run_status"])) + escaped(f"{often}{error}")


def _of_places(target: State) -> Iterator[str]:
    """What is short. A daemon of an older version says nothing of it."""
    for title, key in (("budget", "budget_exhausted_since"), ("saturated", "saturated_since")):
        if since := target.get(key):
            yield f"  {title:<11}  {styled(f'{_LACKS[key]} since {escaped(since)}', 'yellow')}"
    if target.get("hanging"):
        yield f"  hanging      {target['hanging']} without an answer for a second"


def _describe_open(target: State) -> str:
    """Return the number of open occurrences and their states. Those without a row are waiting; an older daemon does not count them."""
    states: Counter[str] = Counter(target["open"])
    states["waiting"] += (target.get("waiting") or {}).get("unclaimed", 0)
    total = states.total()
    return f"{total:,}: {', '.join(f'{number:,} {state}' for state, number in states.items() if number)}" if total else "none"


def _of_waits(target: State, at: datetime) -> Iterator[str]:
    """Yield for each open occurrence its cause and since when. A daemon of an older version does not tell the causes."""
    waiting = target.get("waiting") or {}
    if not waiting.get("causes"):
        return
    for cause, number in waiting["causes"].items():
        yield f"    {number:,} {'waits' if number == 1 else 'wait'} for {_words(cause)}"
    for wait in waiting["occurrences"][:_MOST_WAITS]:
        due, since = from_text(wait["due"]), from_text(wait["since"])
        until = f" {due:%H:%M:%S}Z, in {span_text(due - at)}" if wait["waits_for"] == Cause.DUE else f", since {since:%H:%M:%S}Z"
        detail = f": {wait['detail']}" if wait["detail"] else ""
        yield f"    {escaped(wait['name'])} {wait['scheduled_for']}"
        yield f"      waits for {_words(wait['waits_for'])}{until}{escaped(detail)}"
        if expiry := _describe_expiry(wait, target):
            yield f"      {styled(expiry, 'red')}"


def _describe_expiry(wait: State, target: State) -> str | None:
    """Say that an occurrence expires before the throttle ends. A daemon of an older version tells no deadlines."""
    from scheduler.core.status import describe_expiry

    deadline, until = wait.get("deadline"), target.get("throttled_until")
    if not deadline or not until or wait["waits_for"] in {Cause.ANSWER, Cause.OUTCOME}:
        return None
    return describe_expiry(from_text(deadline), from_text(until))


def _words(cause: str) -> str:
    return WAITS_FOR[Cause(cause)] if cause in set(Cause) else escaped(cause)


def _of_list(target: State) -> Iterator[str]:
    """What is wrong with the list itself. A daemon of an earlier version does not tell."""
    unidentified, disappeared = target.get("unidentified") or {}, target.get("disappeared")
    if unidentified.get("count"):
        yield f"  unidentified {styled(str(unidentified['count']), 'yellow')}: objects whose id cannot be read, never fired"
        yield from (f"    {escaped(each)}" for each in unidentified["objects"])
    if doubt := target.get("inconsistent"):
        since = zoned_text(from_text(doubt["since"]))
        yield f"  list         {styled(f'not to be trusted since {since}', 'yellow')}"
        yield f"    {escaped(doubt['reason'])}"
    if target.get("absent"):
        yield f"  absent       {styled(str(target['absent']), 'yellow')}: not in the list, removed when a poll an interval later agrees"
    if disappeared:
        many = f"{disappeared['count']} of {disappeared['automations']} automations"
        yield f"  disappeared  {styled(many, 'yellow')} from the list at {disappeared['at']}"


def _of_pauses(pauses: list[dict[str, Any]]) -> Iterator[str]:
    if pauses:
        yield "\npaused"
    for each in pauses:
        yield f"  {escaped(each['name'])} on target {escaped(each['target'])}, {_since(each)}, by {escaped(each['by'])}"


def _since(pause: State) -> str:
    return f"since {at_text(from_text(pause['since']), usable_zone(pause['timezone']))}"


def _of_upcoming(status: State, upcoming: list[State], paused: "Paused") -> Iterator[str]:
    yield "\nnext" if upcoming else "\nnothing fires within 24 hours"
    now, width = from_text(status["at"]), terminal_width()

    ends = {target["name"]: target.get("throttled_until") for target in status["targets"]}

    def mark(fire: State) -> Cell:
        if paused.covers(fire["target"], fire["automation_id"], fire["name"]):
            return Cell("paused", "yellow")
        until = ends.get(fire["target"])
        is_throttled = until and from_text(fire.get("due") or fire["scheduled_for"]) < from_text(until)
        return Cell("throttled" if is_throttled else "", "yellow")

    due: list[Column[State]] = [Column("due", _due)] if any(map(_due, upcoming)) else []
    columns: list[Column[State]] = [
        *time_columns(upcoming, "scheduled", lambda fire: from_text(fire["scheduled_for"]), lambda fire: fire["timezone"]),
        *due,
        Column("in", lambda fire: span_text(from_text(fire["scheduled_for"]) - now)),
        name_column("automation", lambda fire: fire["name"]),
        Column("", mark),
    ]
    yield from (f"  {text}" for text in table(upcoming, columns, width and width - 2))


def _due(fire: State) -> str:
    """The due time in the automation's zone, where jitter makes it differ from the instant. An older daemon does not tell."""
    if not fire.get("due") or from_text(fire["due"]) == from_text(fire["scheduled_for"]):
        return ""
    return f"{from_text(fire['due']).astimezone(zone(usable_zone(fire['timezone']))):%H:%M:%S}"
