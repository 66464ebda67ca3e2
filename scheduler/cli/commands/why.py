"""``scheduler why``: what happened to one automation at one time, and why."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import date, datetime
from typing import TYPE_CHECKING

import click

from scheduler.cli.completion_values import complete_automations, complete_targets
from scheduler.cli.failures import ANSWER_IS_NO
from scheduler.cli.group import Command, Source, as_json
from scheduler.cli.outcome_colours import colour_outcome, colour_run
from scheduler.cli.output import Colour, Json, line, print_json, styled
from scheduler.cli.times import in_zone, now, understood, usable_zone
from scheduler.core.instants import to_text, to_text_seconds
from scheduler.core.model import Occurrence, RunStatus, State
from scheduler.core.printable import escaped
from scheduler.core.zones import zone

if TYPE_CHECKING:
    from scheduler.audit.account import Account, Ran, Tried
    from scheduler.audit.lineage import Recorded
    from scheduler.audit.story import Story
    from scheduler.core.policy import Policies

_EXAMPLES = (
    "scheduler why nightly-report 2026-11-23T02:00:00Z",
    "scheduler why nightly-report 03:00",
    "scheduler why 0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e6f 2026-11-23T03:00 --json",
)
Fates = Mapping[datetime, str | None]


@click.command("why", cls=Command, section="Record", examples=_EXAMPLES)
@click.argument("automation", shell_complete=complete_automations)
@click.argument("time")
@click.option(
    "--target", metavar="NAME", help="The automation of this target, where several have one of that name.", shell_complete=complete_targets
)
@as_json
@click.pass_context
def command(context: click.Context, *, automation: str, time: str, target: str | None, as_json: bool) -> None:
    """Tell what happened to AUTOMATION at TIME, and why.

    AUTOMATION may be gone. TIME is an instant, as 2026-11-23T02:00:00Z, or the local time in the automation's own zone,
    as 2026-11-23T03:00, or 03:00 for the last time that the clock showed it, today or yesterday. What is shown: the
    outcome, the definition and the policies of then, and every step. When nothing was due, it says why not, and what
    the nearest was; the exit status is 1 then.

    Works whether the daemon runs or not, and changes nothing.
    """
    from scheduler.audit.account import recall, row_of
    from scheduler.audit.story import Verdict, tell
    from scheduler.cli.ledger_file import is_served, reading
    from scheduler.cli.named import named
    from scheduler.core.cron import versions

    source: Source = context.obj
    at, evaluated = now(), versions()
    path = source.load().settings.ledger.url.path
    with reading(path) as connection:
        which = named(connection, target, automation)
        asked = understood(time, which.timezone, at)
        account = recall(connection, which.target, which.automation_id, asked.instant, (evaluated.croniter, evaluated.tzdata))
        story = tell(account, at, _policies_of(account))
        near = (each for each in (story.before, story.after) if each is not None)
        rows = {each: row_of(connection, Occurrence(which.target, which.automation_id, each)) for each in near}
        seen_at = None if is_served(path) else _find_last_seen(account)
    fates = {each: None if row is None else row.fate for each, row in rows.items()}
    if as_json:
        print_json(_json(story, asked.note, fates))
    else:
        timezone = _timezone(story) or usable_zone(which.timezone)
        for text in _lines(story, asked.note, fates, at, timezone, seen_at=seen_at):
            line(text)
    if story.verdict in {Verdict.NOTHING, Verdict.MISSING}:
        context.exit(ANSWER_IS_NO)


# ---------------------------------------------------------------- for people


def _lines(story: "Story", note: str | None, fates: Fates, at: datetime, timezone: str, *, seen_at: datetime | None) -> Iterator[str]:
    """Yield the answer. ``seen_at``: no daemon runs, and one saw the state of an open occurrence or of its run last at this instant."""
    account = story.account
    yield f"{escaped(account.name)} ({account.automation_id}, target {escaped(account.target)})"
    yield f"  at {_when(account.instant, timezone)}" + (f", {escaped(note)}" if note else "")
    yield ""
    yield _answer(story, seen_at)
    yield f"  {escaped(story.why)}"
    if seen_at is not None and account.row is not None and account.row.outcome is None:
        yield f"  no daemon runs: this is as of {to_text_seconds(seen_at)}"
    yield ""
    yield from _definition(story)
    yield from _policies(story)
    yield from _steps(story, timezone)
    yield ""
    for title, instant in (("before", story.before), ("after", story.after)):
        fate = (
            "none" if instant is None else f"{_when(instant, timezone)}  {fates.get(instant) or ('still to come' if instant > at else '')}"
        )
        yield f"{title:<11}{fate}".rstrip()


def _find_last_seen(account: "Account") -> datetime | None:
    """Return when a daemon last saw the automation or recorded something of the occurrence."""
    row = account.row
    seen = [account.snapshot_at, *((row.claimed_at, row.finished_at) if row is not None else ())]
    seen += [step.until or step.at for step in account.steps]
    seen += [attempt.ended_at or attempt.written_at for attempt in account.attempts]
    return max((instant for instant in seen if instant is not None), default=None)


def _answer(story: "Story", seen_at: datetime | None) -> str:
    row = story.account.row
    if row is not None:
        status = next((run.status for run in story.account.runs if run.is_own), None)
        result = "" if status is None else f", run {styled(status, colour_run(status))}"
        if status == RunStatus.RUNNING and seen_at is not None:
            result += f" when last seen at {to_text_seconds(seen_at)} (no daemon runs)"
        return styled(row.fate, colour_outcome(row.outcome, status)) + result
    if story.wait is not None:  # it has no row before its due time, and is open all the same
        return styled(f"open: {State.WAITING}", colour_outcome(None, None))
    titles: dict[str, tuple[str, Colour]] = {
        "to_come": ("not decided yet", "cyan"),
        "missing": ("missing", "red"),
        "nothing": ("nothing was due", "yellow"),
    }
    return styled(*titles[story.verdict])


def _when(instant: datetime, timezone: str) -> str:
    """Return an instant in the automation's own zone, and in UTC."""
    return f"{in_zone(instant, timezone)} ({to_text_seconds(instant)})"


def _timezone(story: "Story") -> str | None:
    """Return the zone of the definition that was in force; None without a definition, or when its zone is not known."""
    definition = None if story.force is None else story.force.version.definition
    try:
        return None if definition is None else zone(definition.timezone).key
    except KeyError:  # the zone data of now do not have it
        return None


def _definition(story: "Story") -> Iterator[str]:
    if story.force is None:
        yield "definition none was in force"
        return
    version = story.force.version
    what = version.ended or ""
    if version.definition is not None:
        definition = version.definition
        what = f"{definition.cron_expression!r} in {definition.timezone}, {version.ended or 'enabled'}"
    yield f"definition {escaped(what)}"
    yield f"           counts from {to_text(version.effective_from)}, seen {to_text(version.observed_at)}"
    yield f"           evaluated by croniter {escaped(version.croniter)} with zone data {escaped(version.tzdata)}"


def _policies(story: "Story") -> Iterator[str]:
    policies = _policies_then(story)
    if policies is None:
        yield "policies   not on record"
        return
    since = "" if story.account.policy is None else f" (since {to_text(story.account.policy.since)})"
    settings = ", ".join(f"{name} {str(value).lower() if isinstance(value, bool) else value}" for name, value in policies.items())
    yield f"policies   {escaped(settings)}{since}"


def _policies_then(story: "Story") -> dict[str, str | bool] | None:
    from scheduler.cli.governing import as_settings

    found = _policies_of(story.account)
    return None if found is None else as_settings(found)


def _policies_of(account: "Account") -> "Policies | None":
    """The policies of the automation at the instant; None when they are not on record."""
    from scheduler.audit.story import force_at
    from scheduler.cli.governing import policies_then

    if account.policy is None:
        return None
    force = force_at(account, account.instant)
    name = account.name if force is None else force.version.name
    return policies_then(account.policy, account.automation_id, account.row.name if account.row else name)


def _steps(story: "Story", timezone: str) -> Iterator[str]:
    """In the automation's own zone, with the date where that is not the day that was asked about."""
    if not story.entries:
        return
    local = zone(timezone)
    day = story.account.instant.astimezone(local).date()
    times = [(_time(each.at.astimezone(local), day), each.until and _time(each.until.astimezone(local), day)) for each in story.entries]
    spans = [at if until is None else f"{at} to {until}" for at, until in times]
    width = max(map(len, spans))
    yield ""
    yield f"steps      in {escaped(timezone)}"
    for span, entry in zip(spans, story.entries, strict=True):
        yield f"  {span:<{width}}  {styled(escaped(entry.text), 'red' if entry.is_failure else None)}"


def _time(local: datetime, day: date) -> str:
    clock = local.isoformat(" ", "milliseconds")[11:23]
    return clock if local.date() == day else f"{local.date()} {clock}"


# ---------------------------------------------------------------- for programs


def _json(story: "Story", note: str | None, fates: Fates) -> Json:
    account, row, force = story.account, story.account.row, story.force
    return {
        "target": account.target,
        "automation_id": account.automation_id,
        "name": account.name,
        "instant": to_text_seconds(account.instant),
        "understood": note,
        "due": None if story.due is None else to_text(story.due),
        "verdict": story.verdict,
        "why": story.why,
        "outcome": None if row is None else row.outcome,
        "reason": None if row is None else row.reason,
        "state": None if row is None else row.state,
        "waits": None if story.wait is None else {"for": story.wait.cause, "since": to_text(story.wait.since), "detail": story.wait.detail},
        "span": None
        if row is None
        else {"first": to_text_seconds(row.scheduled_for), "last": to_text_seconds(row.last), "count": row.count},
        "definition": None if force is None else _version_json(force.version),
        "policies": _policies_then(story),
        "steps": [
            {"at": to_text(each.at), "until": None if each.until is None else to_text(each.until), "text": each.text}
            for each in story.entries
        ],
        "attempts": [_plain(each) for each in account.attempts],
        "runs": [_plain(each) for each in account.runs],
        "before": _near_json(story.before, fates),
        "after": _near_json(story.after, fates),
    }


def _version_json(version: "Recorded") -> Json:
    definition = version.definition
    return {
        "cron_expression": definition and definition.cron_expression,
        "timezone": definition and definition.timezone,
        "enabled": definition and definition.enabled,
        "effective_from": to_text(version.effective_from),
        "observed_at": to_text(version.observed_at),
        "invalid": version.invalid,
        "removed": version.removed,
        "croniter": version.croniter,
        "tzdata": version.tzdata,
    }


def _near_json(instant: datetime | None, fates: Fates) -> Json | None:
    return None if instant is None else {"scheduled_for": to_text_seconds(instant), "fate": fates.get(instant)}


def _plain(fact: "Tried | Ran") -> Json:
    """All that is known of an attempt or a run."""
    return {name: to_text(value) if isinstance(value, datetime) else value for name, value in asdict(fact).items()}
