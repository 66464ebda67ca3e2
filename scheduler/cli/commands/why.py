"""``scheduler why``: the history of one automation at one time, with reasons."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

import click

from scheduler.cli.failures import ANSWER_IS_NO
from scheduler.cli.group import SchedulerCommand, Source, as_json
from scheduler.cli.options import choose_target_of_automation, name_automation
from scheduler.cli.output import Colour, Json, print_json, print_lines, style
from scheduler.cli.record_columns import colour_outcome, colour_run
from scheduler.cli.times import find_usable_zone, format_in_zone, now, parse_time, to_zone
from scheduler.core.instants import to_optional_text, to_text, to_text_seconds
from scheduler.core.model import Occurrence, RunStatus, State
from scheduler.core.terminal_text import to_printable

if TYPE_CHECKING:
    from scheduler.audit.evidence import Evidence
    from scheduler.audit.explanation import OccurrenceExplanation
    from scheduler.core.policy import Policies
    from scheduler.ledger.occurrence_records import AttemptRow, OccurrenceRow, RunRow
    from scheduler.ledger.versions import RecordedVersion

_EXAMPLES = (
    "scheduler why nightly-report 2026-11-23T02:00:00Z",
    "scheduler why nightly-report 03:00",
    "scheduler why 0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e6f 2026-11-23T03:00 --json",
)
_COLOURS: Final[Mapping[str, Colour]] = {"to_come": "cyan", "missing": "red", "nothing": "yellow"}
Fates = Mapping[datetime, str | None]


@click.command("why", cls=SchedulerCommand, section="Record", examples=_EXAMPLES)
@name_automation
@click.argument("time")
@choose_target_of_automation
@as_json
@click.pass_obj
def command(source: Source, *, automation: str, time: str, target: str | None, as_json: bool) -> None:
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
    from scheduler.audit.explanation import ExplanationVerdict, OccurrenceExplanation
    from scheduler.cli.ledger_file import is_served, make_ledger_collection, open_read_only
    from scheduler.cli.lookup import find_automation
    from scheduler.core.cron.schedule import read_versions
    from scheduler.ledger.occurrence_records import read_row

    at, evaluated = now(), read_versions()
    evaluator = evaluated.croniter, evaluated.tzdata
    path = source.load().settings.ledger.url.path
    with open_read_only(path) as connection:
        match = find_automation(make_ledger_collection(connection, target), automation)
        parsed = parse_time(time, match.timezone, at)

        def explain(instant: datetime) -> "OccurrenceExplanation":
            evidence = collect_evidence(connection, match.target, match.automation_id, instant, evaluator)
            return OccurrenceExplanation(evidence, at, _find_policies(evidence))

        def find_fate(instant: datetime) -> str | None:
            row = read_row(connection, Occurrence(match.target, match.automation_id, instant))
            if row is not None:
                return row.fate
            return _describe_without_row(explain(instant)) if instant <= at else None

        explanation = explain(parsed.instant)
        near = filter(None, (explanation.before, explanation.after))
        fates = {instant: find_fate(instant) for instant in near}
        seen_at = None if is_served(path) else _find_last_seen(explanation.evidence)
    if as_json:
        print_json(_make_json(explanation, parsed.note, fates))
    else:
        definition = None if explanation.period is None else explanation.period.version.definition
        timezone = find_usable_zone(None if definition is None else definition.timezone, match.timezone)
        print_lines(_format_lines(explanation, parsed.note, fates, at, timezone, seen_at=seen_at))
    if explanation.verdict in {ExplanationVerdict.NOTHING, ExplanationVerdict.MISSING}:
        raise click.exceptions.Exit(ANSWER_IS_NO)


# ---------------------------------------------------------------- for people


def _format_lines(
    explanation: "OccurrenceExplanation",
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
    evidence = explanation.evidence
    yield f"{to_printable(evidence.name)} ({evidence.automation_id}, target {to_printable(evidence.target)})"
    yield f"  at {_format_instant(evidence.instant, timezone)}" + (f", {to_printable(note)}" if note else "")
    yield ""
    yield _format_answer(explanation, seen_at)
    yield f"  {to_printable(explanation.why)}"
    if seen_at is not None and evidence.row is not None and evidence.row.outcome is None:
        yield f"  no daemon runs: the state is as of {to_text_seconds(seen_at)}"
    yield ""
    yield from _format_definition(explanation)
    yield from _format_policies(evidence)
    yield from _format_steps(explanation, timezone)
    yield ""
    for title, instant in (("before", explanation.before), ("after", explanation.after)):
        if instant is None:
            yield f"{title:<11}none"
        else:
            fate = fates[instant] or ("still to come" if instant > at else "")
            yield f"{title:<11}{_format_instant(instant, timezone)}  {fate}".rstrip()


def _find_last_seen(evidence: "Evidence") -> datetime | None:
    """Return when a daemon last saw the automation or recorded something of the occurrence."""
    row = evidence.row
    instants = [
        evidence.recorded_target.snapshot_at,
        *((row.claimed_at, row.finished_at) if row is not None else ()),
    ]
    instants += [step.until or step.at for step in evidence.steps]
    instants += [attempt.ended_at or attempt.written_at for attempt in evidence.attempts]
    return max(filter(None, instants), default=None)


def _format_answer(explanation: "OccurrenceExplanation", seen_at: datetime | None) -> str:
    row = explanation.evidence.row
    if row is not None:
        status = next((run.status for run in explanation.evidence.runs if run.is_own), None)
        result = "" if status is None else f", run {style(status, colour_run(status))}"
        if status == RunStatus.RUNNING and seen_at is not None:
            result += f" when last seen at {to_text_seconds(seen_at)} (no daemon runs)"
        return style(row.fate, colour_outcome(row.outcome, status)) + result
    text = _describe_without_row(explanation) or "nothing was due"
    return style(text, "cyan" if explanation.wait is not None else _COLOURS[explanation.verdict])


def _describe_without_row(explanation: "OccurrenceExplanation") -> str | None:
    """Return the state of an instant without a row; None when nothing was due.

    An occurrence before its due time is open.
    """
    if explanation.wait is not None:
        return f"open: {State.WAITING}"
    return {"to_come": "not decided yet", "missing": "missing"}.get(explanation.verdict)


def _format_instant(instant: datetime, timezone: str) -> str:
    """Return an instant in the automation's own zone, and in UTC."""
    return f"{format_in_zone(instant, timezone)} ({to_text_seconds(instant)})"


def _format_definition(explanation: "OccurrenceExplanation") -> Iterator[str]:
    if explanation.period is None:
        yield "definition none was in force"
        return
    version = explanation.period.version
    what = version.end_reason or ""
    if version.definition is not None:
        definition = version.definition
        what = f"{definition.cron_expression!r} in {definition.timezone}, {version.end_reason or 'enabled'}"
    croniter, tzdata = to_printable(version.croniter), to_printable(version.tzdata)
    yield f"definition {to_printable(what)}"
    yield f"           counts from {to_text(version.effective_from)}, seen {to_text(version.observed_at)}"
    yield f"           evaluated by croniter {croniter} with zone data {tzdata}"


def _format_policies(evidence: "Evidence") -> Iterator[str]:
    policies = _find_policy_settings(evidence)
    if policies is None or evidence.policy is None:
        yield "policies   not on record"
        return
    settings = ", ".join(f"{name} {str(value).lower()}" for name, value in policies.items())
    yield f"policies   {to_printable(settings)} (since {to_text(evidence.policy.since)})"


def _find_policy_settings(evidence: "Evidence") -> dict[str, str | bool] | None:
    from scheduler.cli.recorded_policies import format_policies

    policies = _find_policies(evidence)
    return None if policies is None else format_policies(policies)


def _find_policies(evidence: "Evidence") -> "Policies | None":
    """Return the policies of the automation at the instant; None when they are not on record.

    The policies are also None when the recorded settings belong to a version with other settings.
    """
    from scheduler.cli.recorded_policies import parse_settings

    if evidence.policy is None:
        return None
    name = evidence.name if evidence.period is None else evidence.period.version.name
    if evidence.row is not None:
        name = evidence.row.name
    settings = parse_settings(evidence.policy)
    return None if settings is None else settings.find_policies(evidence.automation_id, name)


def _format_steps(explanation: "OccurrenceExplanation", timezone: str) -> Iterator[str]:
    """Yield the steps in the automation's zone. A step of another day has its date."""
    if not explanation.entries:
        return
    day = to_zone(explanation.evidence.instant, timezone).date()
    spans = [
        " to ".join(_format_time(to_zone(at, timezone), day) for at in (entry.at, entry.until) if at)
        for entry in explanation.entries
    ]
    width = max(map(len, spans))
    yield ""
    yield f"steps      in {to_printable(timezone)}"
    for span, entry in zip(spans, explanation.entries, strict=True):
        yield f"  {span:<{width}}  {style(to_printable(entry.text), 'red' if entry.is_failure else None)}"


def _format_time(local: datetime, day: date) -> str:
    clock = local.isoformat(" ", "milliseconds")[11:23]
    return clock if local.date() == day else f"{local.date()} {clock}"


# ---------------------------------------------------------------- for programs


def _make_json(explanation: "OccurrenceExplanation", note: str | None, fates: Fates) -> Json:
    evidence, row, period = explanation.evidence, explanation.evidence.row, explanation.period
    wait = explanation.wait
    return {
        "target": evidence.target,
        "automation_id": evidence.automation_id,
        "name": evidence.name,
        "instant": to_text_seconds(evidence.instant),
        "understood": note,
        "due": to_optional_text(explanation.due),
        "verdict": explanation.verdict,
        "why": explanation.why,
        "outcome": row and row.outcome,
        "reason": row and row.reason,
        "state": row and row.state,
        "waits": wait and {"for": wait.cause, "since": to_text(wait.at), "detail": wait.detail},
        "span": row and _make_span_json(row),
        "definition": period and _make_version_json(period.version),
        "policies": _find_policy_settings(evidence),
        "steps": [
            {"at": to_text(entry.at), "until": to_optional_text(entry.until), "text": entry.text}
            for entry in explanation.entries
        ],
        "attempts": [_make_fact_json(attempt) for attempt in evidence.attempts],
        "runs": [_make_fact_json(run) for run in evidence.runs],
        "before": _make_near_json(explanation.before, fates),
        "after": _make_near_json(explanation.after, fates),
    }


def _make_span_json(row: "OccurrenceRow") -> Json:
    first, last = to_text_seconds(row.scheduled_for), to_text_seconds(row.last)
    return {"first": first, "last": last, "count": row.count}


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
    return {"scheduled_for": to_text_seconds(instant), "fate": fates[instant]} if instant else None


def _make_fact_json(fact: "AttemptRow | RunRow") -> Json:
    """Return all fields of an attempt or a run."""
    return {
        name: to_text(value) if isinstance(value, datetime) else value for name, value in asdict(fact).items()
    }
