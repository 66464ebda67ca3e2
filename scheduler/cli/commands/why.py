"""``scheduler why``: the history of one automation at one time, with reasons."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

import click

from scheduler.cli.completion_values import complete_automations
from scheduler.cli.failures import ANSWER_IS_NO
from scheduler.cli.group import SchedulerCommand, Source, as_json
from scheduler.cli.options import choose_target_of_automation
from scheduler.cli.output import Colour, Json, print_json, print_line, style
from scheduler.cli.record_columns import colour_outcome, colour_run
from scheduler.cli.times import find_usable_zone, format_in_zone, now, parse_time
from scheduler.core.cron.zones import load_zone
from scheduler.core.instants import to_optional_text, to_text, to_text_seconds
from scheduler.core.model import Occurrence, RunStatus, State
from scheduler.core.terminal_text import to_printable

if TYPE_CHECKING:
    from scheduler.audit.evidence import Evidence
    from scheduler.audit.explanation import OccurrenceExplanation
    from scheduler.core.policy import Policies
    from scheduler.ledger.occurrence_records import AttemptRow, RunRow
    from scheduler.ledger.versions import RecordedVersion

_EXAMPLES = (
    "scheduler why nightly-report 2026-11-23T02:00:00Z",
    "scheduler why nightly-report 03:00",
    "scheduler why 0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e6f 2026-11-23T03:00 --json",
)
_COLOURS: Final[Mapping[str, Colour]] = {"to_come": "cyan", "missing": "red", "nothing": "yellow"}
Fates = Mapping[datetime, str | None]


@click.command("why", cls=SchedulerCommand, section="Record", examples=_EXAMPLES)
@click.argument("automation", shell_complete=complete_automations)
@click.argument("time")
@choose_target_of_automation
@as_json
@click.pass_context
def command(context: click.Context, *, automation: str, time: str, target: str | None, as_json: bool) -> None:
    """Explain what happened to AUTOMATION at TIME.

    AUTOMATION may be deleted. TIME is an instant (2026-11-23T02:00:00Z), a local time in the automation's
    zone (2026-11-23T03:00), or a time of day (03:00). A time of day means the last time that the clock showed
    it, today or yesterday.

    The output has the outcome, the definition and the policies of that time, and every step. If nothing was
    due, the output has the reason and the nearest fire times. Exit status 1: nothing was due, or the
    occurrence is missing.

    The command works with and without a running daemon, and changes nothing.
    """
    from scheduler.audit.evidence import collect_evidence
    from scheduler.audit.explanation import ExplanationVerdict, explain_occurrence
    from scheduler.cli.automation_lookup import make_ledger_place
    from scheduler.cli.ledger_file import is_served, open_read_only
    from scheduler.cli.lookup import find_automation
    from scheduler.core.cron.schedule import read_versions
    from scheduler.ledger.occurrence_records import read_row

    source: Source = context.obj
    at, evaluated = now(), read_versions()
    path = source.load().settings.ledger.url.path
    with open_read_only(path) as connection:
        which = find_automation(make_ledger_place(connection, target), automation)
        asked = parse_time(time, which.timezone, at)

        def tell_of(instant: datetime) -> "OccurrenceExplanation":
            account = collect_evidence(
                connection, which.target, which.automation_id, instant, (evaluated.croniter, evaluated.tzdata)
            )
            return explain_occurrence(account, at, _find_policies(account))

        def find_fate(instant: datetime) -> str | None:
            row = read_row(connection, Occurrence(which.target, which.automation_id, instant))
            return (
                row.fate
                if row is not None
                else _describe_without_row(tell_of(instant))
                if instant <= at
                else None
            )

        story = tell_of(asked.instant)
        fates = {
            instant: find_fate(instant) for instant in (story.before, story.after) if instant is not None
        }
        seen_at = None if is_served(path) else _find_last_seen(story.evidence)
    if as_json:
        print_json(_make_json(story, asked.note, fates))
    else:
        timezone = _find_timezone(story) or find_usable_zone(which.timezone)
        for text in _format_lines(story, asked.note, fates, at, timezone, seen_at=seen_at):
            print_line(text)
    if story.verdict in {ExplanationVerdict.NOTHING, ExplanationVerdict.MISSING}:
        context.exit(ANSWER_IS_NO)


# ---------------------------------------------------------------- for people


def _format_lines(
    story: "OccurrenceExplanation",
    note: str | None,
    fates: Fates,
    at: datetime,
    timezone: str,
    *,
    seen_at: datetime | None,
) -> Iterator[str]:
    """Yield the lines of the answer.

    ``seen_at``: set if no daemon runs; a daemon saw the state of the open occurrence or of its run last at
    this instant.
    """
    account = story.evidence
    yield f"{to_printable(account.name)} ({account.automation_id}, target {to_printable(account.target)})"
    yield f"  at {_format_instant(account.instant, timezone)}" + (f", {to_printable(note)}" if note else "")
    yield ""
    yield _format_answer(story, seen_at)
    yield f"  {to_printable(story.why)}"
    if seen_at is not None and account.row is not None and account.row.outcome is None:
        yield f"  no daemon runs: the state is as of {to_text_seconds(seen_at)}"
    yield ""
    yield from _format_definition(story)
    yield from _format_policies(story)
    yield from _format_steps(story, timezone)
    yield ""
    for title, instant in (("before", story.before), ("after", story.after)):
        fate = (
            "none"
            if instant is None
            else (
                f"{_format_instant(instant, timezone)}  "
                f"{fates.get(instant) or ('still to come' if instant > at else '')}"
            )
        )
        yield f"{title:<11}{fate}".rstrip()


def _find_last_seen(account: "Evidence") -> datetime | None:
    """Return when a daemon last saw the automation or recorded something of the occurrence."""
    row = account.row
    instants = [account.snapshot_at, *((row.claimed_at, row.finished_at) if row is not None else ())]
    instants += [step.until or step.at for step in account.steps]
    instants += [attempt.ended_at or attempt.written_at for attempt in account.attempts]
    return max((instant for instant in instants if instant is not None), default=None)


def _format_answer(story: "OccurrenceExplanation", seen_at: datetime | None) -> str:
    row = story.evidence.row
    if row is not None:
        status = next((run.status for run in story.evidence.runs if run.is_own), None)
        result = "" if status is None else f", run {style(status, colour_run(status))}"
        if status == RunStatus.RUNNING and seen_at is not None:
            result += f" when last seen at {to_text_seconds(seen_at)} (no daemon runs)"
        return style(row.fate, colour_outcome(row.outcome, status)) + result
    text = _describe_without_row(story) or "nothing was due"
    return style(text, colour_outcome(None, None) if story.wait is not None else _COLOURS[story.verdict])


def _describe_without_row(story: "OccurrenceExplanation") -> str | None:
    """Return the state of an instant without a row; None when nothing was due.

    An occurrence before its due time is open.
    """
    if story.wait is not None:
        return f"open: {State.WAITING}"
    return {"to_come": "not decided yet", "missing": "missing"}.get(story.verdict)


def _format_instant(instant: datetime, timezone: str) -> str:
    """Return an instant in the automation's own zone, and in UTC."""
    return f"{format_in_zone(instant, timezone)} ({to_text_seconds(instant)})"


def _find_timezone(story: "OccurrenceExplanation") -> str | None:
    """Return the zone of the definition in force; None without a definition, or when its zone is unknown."""
    definition = None if story.period is None else story.period.version.definition
    try:
        return None if definition is None else load_zone(definition.timezone).key
    except KeyError:  # the present zone data do not have this zone
        return None


def _format_definition(story: "OccurrenceExplanation") -> Iterator[str]:
    if story.period is None:
        yield "definition none was in force"
        return
    version = story.period.version
    what = version.end_reason or ""
    if version.definition is not None:
        definition = version.definition
        what = f"{definition.cron_expression!r} in {definition.timezone}, {version.end_reason or 'enabled'}"
    yield f"definition {to_printable(what)}"
    yield f"           counts from {to_text(version.effective_from)}, seen {to_text(version.observed_at)}"
    yield (
        f"           evaluated by croniter {to_printable(version.croniter)} with zone data "
        f"{to_printable(version.tzdata)}"
    )


def _format_policies(story: "OccurrenceExplanation") -> Iterator[str]:
    policies = _find_policy_settings(story)
    if policies is None:
        yield "policies   not on record"
        return
    since = "" if story.evidence.policy is None else f" (since {to_text(story.evidence.policy.since)})"
    settings = ", ".join(
        f"{name} {str(value).lower() if isinstance(value, bool) else value}"
        for name, value in policies.items()
    )
    yield f"policies   {to_printable(settings)}{since}"


def _find_policy_settings(story: "OccurrenceExplanation") -> dict[str, str | bool] | None:
    from scheduler.cli.recorded_policies import format_policies

    policies = _find_policies(story.evidence)
    return None if policies is None else format_policies(policies)


def _find_policies(account: "Evidence") -> "Policies | None":
    """Return the policies of the automation at the instant; None when they are not on record."""
    from scheduler.audit.explanation import find_period_at
    from scheduler.cli.recorded_policies import parse_policies

    if account.policy is None:
        return None
    force = find_period_at(account, account.instant)
    name = account.name if force is None else force.version.name
    return parse_policies(account.policy, account.automation_id, account.row.name if account.row else name)


def _format_steps(story: "OccurrenceExplanation", timezone: str) -> Iterator[str]:
    """Yield the steps in the automation's zone. A step of another day has its date."""
    if not story.entries:
        return
    local = load_zone(timezone)
    day = story.evidence.instant.astimezone(local).date()
    times = [
        (
            _format_time(entry.at.astimezone(local), day),
            entry.until and _format_time(entry.until.astimezone(local), day),
        )
        for entry in story.entries
    ]
    spans = [at if until is None else f"{at} to {until}" for at, until in times]
    width = max(map(len, spans))
    yield ""
    yield f"steps      in {to_printable(timezone)}"
    for span, entry in zip(spans, story.entries, strict=True):
        yield f"  {span:<{width}}  {style(to_printable(entry.text), 'red' if entry.is_failure else None)}"


def _format_time(local: datetime, day: date) -> str:
    clock = local.isoformat(" ", "milliseconds")[11:23]
    return clock if local.date() == day else f"{local.date()} {clock}"


# ---------------------------------------------------------------- for programs


def _make_json(story: "OccurrenceExplanation", note: str | None, fates: Fates) -> Json:
    account, row, force = story.evidence, story.evidence.row, story.period
    return {
        "target": account.target,
        "automation_id": account.automation_id,
        "name": account.name,
        "instant": to_text_seconds(account.instant),
        "understood": note,
        "due": to_optional_text(story.due),
        "verdict": story.verdict,
        "why": story.why,
        "outcome": None if row is None else row.outcome,
        "reason": None if row is None else row.reason,
        "state": None if row is None else row.state,
        "waits": None
        if story.wait is None
        else {"for": story.wait.cause, "since": to_text(story.wait.since), "detail": story.wait.detail},
        "span": None
        if row is None
        else {
            "first": to_text_seconds(row.scheduled_for),
            "last": to_text_seconds(row.last),
            "count": row.count,
        },
        "definition": None if force is None else _make_version_json(force.version),
        "policies": _find_policy_settings(story),
        "steps": [
            {
                "at": to_text(entry.at),
                "until": to_optional_text(entry.until),
                "text": entry.text,
            }
            for entry in story.entries
        ],
        "attempts": [_make_fact_json(attempt) for attempt in account.attempts],
        "runs": [_make_fact_json(run) for run in account.runs],
        "before": _make_near_json(story.before, fates),
        "after": _make_near_json(story.after, fates),
    }


def _make_version_json(version: "RecordedVersion") -> Json:
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


def _make_near_json(instant: datetime | None, fates: Fates) -> Json | None:
    return (
        None if instant is None else {"scheduled_for": to_text_seconds(instant), "fate": fates.get(instant)}
    )


def _make_fact_json(fact: "AttemptRow | RunRow") -> Json:
    """Return all fields of an attempt or a run."""
    return {
        name: to_text(value) if isinstance(value, datetime) else value for name, value in asdict(fact).items()
    }
