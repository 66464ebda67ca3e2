"""The history of one automation at one instant, step by step.

When nothing happened, the explanation gives the reason and the nearest implied instants. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from scheduler.audit.evidence import Evidence
from scheduler.audit.messages import CAUSES, REASONS, RESULTS, RUNS, STATES
from scheduler.audit.versions import VersionPeriod
from scheduler.core.command_line import format_command
from scheduler.core.cron.ranges import RULES_VERSION
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.instants import JUST_BEFORE, to_text, to_text_seconds
from scheduler.core.model import FAILURES, AttemptResult, Reason, RunStatus, State
from scheduler.core.occurrence_log import WAITS_FOR, Cause, Step
from scheduler.core.policy import Policies, compute_due, make_fire_time
from scheduler.core.quantities import describe_duration
from scheduler.core.status import describe_expiry
from scheduler.ledger.occurrence_records import AttemptRow, OccurrenceRow, RunRow

_LARGE_OFFSET: Final = 60.0
"""Minimum difference of two clocks, in seconds, that an explanation mentions."""


class ExplanationVerdict(StrEnum):
    """The answer in a single word."""

    ON_RECORD = "on_record"
    TO_COME = "to_come"  # implied, and not decided yet
    MISSING = "missing"  # implied, and missing on record
    NOTHING = "nothing"  # nothing was due


@dataclass(frozen=True, slots=True)
class ExplanationEntry:
    """An event at an instant, or a state until ``until``; ``is_failure``: a run failed or was lost."""

    at: datetime
    text: str
    until: datetime | None = None
    is_failure: bool = False


@dataclass(frozen=True, slots=True)
class OccurrenceWait:
    """The cause for which an occurrence without an outcome waits, and the begin of the wait."""

    cause: Cause
    since: datetime
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class OccurrenceExplanation:
    """The answer.

    ``due`` is None when nothing was scheduled, or when the due instant is unknown. ``wait`` is the present
    wait, as far as the record shows. ``period`` is the period of the version in force. ``before`` and
    ``after`` are the nearest implied instants.
    """

    evidence: Evidence
    verdict: ExplanationVerdict
    why: str
    period: VersionPeriod | None
    entries: tuple[ExplanationEntry, ...]
    before: datetime | None
    after: datetime | None
    due: datetime | None
    wait: OccurrenceWait | None


def explain_occurrence(
    evidence: Evidence, now: datetime, policies: Policies | None = None
) -> OccurrenceExplanation:
    """Explain the occurrence, as known at ``now``.

    ``policies`` are the policies of the automation at the instant; None: unknown.
    """
    period = find_period_at(evidence, evidence.instant)
    due = _find_due(evidence, period, policies)
    verdict, why = _judge(evidence, period, now, due)
    wait = _find_wait(evidence, verdict, now, due)
    if wait is not None and evidence.row is not None:
        why = _describe_wait(wait)
    deadline = _find_deadline(evidence, period, policies, wait)
    if expects := _describe_hindrance(
        evidence, verdict, wait, now=now, due=due, deadline=deadline, policies=policies
    ):
        why = f"{why}; {expects}"
    entries = tuple(sorted(_list_entries(evidence, due, deadline, wait), key=lambda entry: entry.at))
    before, after = (
        find_nearest_before(evidence, evidence.instant),
        find_nearest_after(evidence, evidence.instant),
    )
    return OccurrenceExplanation(evidence, verdict, why, period, entries, before, after, due, wait)


def _find_due(evidence: Evidence, period: VersionPeriod | None, policies: Policies | None) -> datetime | None:
    """Find the due instant; None when nothing was scheduled, or when the due instant is unknown."""
    if evidence.row is not None:
        return evidence.instant + (evidence.row.due - evidence.row.scheduled_for)
    if period is None or policies is None or not is_implied(evidence, evidence.instant):
        return None
    return compute_due(
        policies, evidence.target, evidence.automation_id, _parse_schedule(evidence, period), evidence.instant
    )


def _find_deadline(
    evidence: Evidence, period: VersionPeriod | None, policies: Policies | None, wait: OccurrenceWait | None
) -> datetime | None:
    """Return the instant until which the occurrence may start.

    Return None when the occurrence has an outcome other than "not started". Return None also when the
    occurrence has waited for the end of the previous run: that run decides. Before the due instant an
    occurrence has no row, and the deadline comes from the policies.
    """
    row, instant = evidence.row, evidence.instant
    if row is not None:
        is_late_or_open = row.reason in {None, Reason.NOT_STARTED}
        return row.deadline if is_late_or_open and not _has_queued(evidence, row) else None
    schedule = None if period is None else _parse_schedule(evidence, period)
    if wait is None or policies is None or schedule is None:
        return None
    return make_fire_time(
        policies, evidence.target, evidence.automation_id, instant, schedule.find_next(instant)
    ).deadline


def _has_queued(evidence: Evidence, row: OccurrenceRow) -> bool:
    """Return whether the occurrence waits or waited for the previous run.

    A backfill does not wait for the previous run.
    """
    return row.asked_at is None and any(step.cause is Cause.QUEUED for step in evidence.steps)


def find_period_at(evidence: Evidence, instant: datetime) -> VersionPeriod | None:
    """Find the period of the version in force at the instant; None before the first version."""
    return next((period for period in evidence.periods if period.begin < instant <= period.end), None)


def is_implied(evidence: Evidence, instant: datetime) -> bool:
    """Return whether the version in force implied an occurrence at exactly this instant."""
    period = find_period_at(evidence, instant)
    definition = None if period is None else period.version.firing_definition
    return definition is not None and evidence.evaluation.implies(definition, instant)


def find_nearest_before(evidence: Evidence, instant: datetime) -> datetime | None:
    """Find the last instant, before this instant, implied by a version in force."""
    instants = []
    for period in evidence.periods:
        schedule = _parse_schedule(evidence, period)
        end = instant if period.end >= instant else period.end + JUST_BEFORE
        previous = None if schedule is None or period.begin >= end else schedule.find_previous(end)
        if previous is not None and previous > period.begin:
            instants.append(previous)
    return max(instants, default=None)


def find_nearest_after(evidence: Evidence, instant: datetime) -> datetime | None:
    """Find the first instant, after this instant, implied by a version in force."""
    instants = []
    for period in evidence.periods:
        schedule = _parse_schedule(evidence, period)
        following = (
            None
            if schedule is None or period.end <= instant
            else schedule.find_next(max(period.begin, instant))
        )
        if following is not None and following <= period.end:
            instants.append(following)
    return min(instants, default=None)


def _parse_schedule(evidence: Evidence, period: VersionPeriod) -> Schedule | None:
    """Parse the schedule of the version; None when the version fires nothing or cannot be evaluated now."""
    definition = period.version.firing_definition
    if definition is None:
        return None
    try:
        return evidence.evaluation.find_rules_at(min(period.end, evidence.instant)).parse_schedule(definition)
    except InvalidSchedule:
        return None


# ---------------------------------------------------------------- the answer


def _judge(
    evidence: Evidence, period: VersionPeriod | None, now: datetime, due: datetime | None
) -> tuple[ExplanationVerdict, str]:
    row, instant = evidence.row, evidence.instant
    if row is not None:
        return ExplanationVerdict.ON_RECORD, _describe_row(row)
    if not is_implied(evidence, instant):
        return ExplanationVerdict.NOTHING, _explain_absence(evidence, period)
    if evidence.pruned_before is not None and instant < evidence.pruned_before:
        return (
            ExplanationVerdict.NOTHING,
            (
                f"it was due, but what was scheduled before {to_text(evidence.pruned_before)} may have "
                "been removed for its age"
            ),
        )
    if instant > now or (due is not None and due > now):
        return ExplanationVerdict.TO_COME, _describe_time_until_due(instant, due, now)
    if evidence.is_undecided:
        return (
            ExplanationVerdict.TO_COME,
            f"it is due, and not decided yet{_describe_reach(evidence)}; when no daemon runs, start it",
        )
    fire = format_command(f"fire {evidence.automation_id} {to_text_seconds(instant)}")
    return (
        ExplanationVerdict.MISSING,
        f"it was due, and is not on record. This is a fault: run it with `{fire}`, and report this",
    )


def _describe_time_until_due(instant: datetime, due: datetime | None, now: datetime) -> str:
    if due is None or due == instant:
        return "it is still to come"
    jitter = f"{to_text(due)}: jitter delays it by {describe_duration((due - instant).total_seconds())}"
    return (
        f"it is still to come, and due at {jitter}"
        if instant > now
        else f"it waits for its due time, {jitter}"
    )


def _describe_reach(evidence: Evidence) -> str:
    """Describe how far the record is complete."""
    if evidence.is_in_gap:
        return ": the daemon recovers from a downtime, slice by slice"
    return (
        "" if evidence.watermark is None else f": the record is complete up to {to_text(evidence.watermark)}"
    )


def _describe_row(row: OccurrenceRow) -> str:
    sentence = REASONS[Reason(row.reason)] if row.reason is not None else STATES[State(str(row.state))]
    together = (
        ""
        if row.count == 1
        else (
            f"; one of {row.count:,} with the same fate, from {to_text_seconds(row.scheduled_for)} "
            f"to {to_text_seconds(row.last)}"
        )
    )
    return f"{sentence}{together}" + (f" ({row.error})" if row.error else "")


def _describe_wait(wait: OccurrenceWait) -> str:
    return f"it waits for {WAITS_FOR[wait.cause]}, since {to_text(wait.since)}" + (
        f" ({wait.detail})" if wait.detail else ""
    )


def _describe_hindrance(
    evidence: Evidence,
    verdict: ExplanationVerdict,
    wait: OccurrenceWait | None,
    *,
    now: datetime,
    due: datetime | None,
    deadline: datetime | None,
    policies: Policies | None,
) -> str | None:
    """Describe the effect of a throttle or a pause on an occurrence that was not sent.

    Return None when neither has an effect.
    """
    is_open = evidence.row is not None and evidence.row.outcome is None
    if not (is_open or verdict is ExplanationVerdict.TO_COME) or (
        wait is not None and wait.cause in {Cause.ANSWER, Cause.OUTCOME}
    ):
        return None
    if not is_open and (
        (policies is not None and policies.paused) or any(pause.until is None for pause in evidence.pauses)
    ):
        return "it will be recorded and not fired, because it is paused"
    end = evidence.throttled_until
    if end is None or end <= now:
        return None
    if deadline is not None and (expiry := describe_expiry(deadline, end)):
        return f"it {expiry}"
    is_before = (due or evidence.instant) < end
    return (
        f"nothing is sent before the throttle ends at {to_text_seconds(end)}"
        if is_before and not is_open
        else None
    )


def _explain_absence(evidence: Evidence, period: VersionPeriod | None) -> str:
    if period is None:
        first = evidence.periods[0].version if evidence.periods else None
        return (
            "the ledger has no definition of it"
            if first is None
            else f"it was first seen later: it counts from {to_text(first.effective_from)}"
        )
    version = period.version
    if version.end_reason is not None:
        return f"it was {version.end_reason} then, from {to_text(period.begin)} on"
    return _explain_mismatch(evidence, period)


def _explain_mismatch(evidence: Evidence, period: VersionPeriod) -> str:
    definition, schedule = period.version.definition, _parse_schedule(evidence, period)
    assert definition is not None  # otherwise the version has an end reason
    described = f"{definition.cron_expression!r} in {definition.timezone}"
    if schedule is None:
        return f"{described} cannot be evaluated with the zone data of now"
    rules = evidence.evaluation.find_rules_at(evidence.instant)
    if replace(rules, dst_repeat="twice").parse_schedule(definition).is_fire_time(evidence.instant):
        return (
            f"{described} names a time that the clock shows twice that day, and fires the first time "
            f"(dst_repeat is {rules.dst_repeat})"
        )
    if replace(rules, dst_gap="after").parse_schedule(definition).is_fire_time(evidence.instant):
        return (
            f"{described} names a time that the clock skips that day, and does not fire for it (dst_gap "
            f"is {rules.dst_gap})"
        )
    if replace(rules, rules_version=RULES_VERSION).parse_schedule(definition).is_fire_time(evidence.instant):
        return f"{described} matches it by the rules that read expressions now; by those of then it did not"
    return f"{described} does not match it"


# ---------------------------------------------------------------- the steps


def _find_wait(
    evidence: Evidence, verdict: ExplanationVerdict, now: datetime, due: datetime | None
) -> OccurrenceWait | None:
    """Find the present wait of the occurrence, as far as the record shows."""
    row, instant = evidence.row, evidence.instant
    is_before_due = due is not None and instant <= now < due
    if row is None:
        return (
            OccurrenceWait(Cause.DUE, instant)
            if verdict is ExplanationVerdict.TO_COME and is_before_due
            else None
        )
    if row.outcome is not None:
        return None
    if (step := _find_lasting_step(evidence)) is not None:
        return OccurrenceWait(step.cause, step.at, step.detail)
    return OccurrenceWait(Cause.DUE, instant) if is_before_due else _find_attempt_wait(row, evidence.attempts)


def _find_lasting_step(evidence: Evidence) -> Step | None:
    """Find the newest wait without a recorded end, begun in the process that has the occurrence now."""
    begin = max((step.at for step in evidence.steps if step.cause is Cause.ADOPTED), default=None)
    lasting = [
        step
        for step in evidence.steps
        if step.cause in WAITS_FOR and step.until is None and (begin is None or step.at >= begin)
    ]
    return max(lasting, key=lambda step: step.at, default=None)


def _find_attempt_wait(row: OccurrenceRow, attempts: Sequence[AttemptRow]) -> OccurrenceWait | None:
    newest = attempts[-1] if attempts else None
    if newest is None:
        return None
    if row.state == State.UNKNOWN:
        return OccurrenceWait(Cause.OUTCOME, newest.ended_at or newest.written_at)
    return OccurrenceWait(Cause.ANSWER, newest.written_at) if newest.result is None else None


def _list_entries(
    evidence: Evidence, due: datetime | None, deadline: datetime | None, wait: OccurrenceWait | None
) -> Iterator[ExplanationEntry]:
    row = evidence.row
    if row is not None:
        yield from _list_row_entries(row, evidence.instant)
    elif due is not None:
        yield ExplanationEntry(evidence.instant, "scheduled")
    if deadline is not None:
        yield ExplanationEntry(deadline, "the deadline: it may not start after this")
    if due is not None and due != evidence.instant:
        yield ExplanationEntry(
            due, f"due, by {describe_duration((due - evidence.instant).total_seconds())} of jitter"
        )
    for step in evidence.steps:
        yield _make_step_entry(step, wait)
    for attempt in evidence.attempts:
        yield from _list_attempt_entries(attempt)
    if row is not None and row.finished_at is not None:
        yield ExplanationEntry(row.finished_at, f"{row.fate}: {_describe_row(row)}")
    for run in evidence.runs:
        yield from _list_run_entries(run)
    for pause in evidence.pauses:
        which = "all automations were paused" if pause.everything else "it was paused"
        ended = f", ended by {pause.ended_by}" if pause.ended_by else ""
        yield ExplanationEntry(pause.since, f"{which} by {pause.by}{ended}", pause.until)


def _list_row_entries(row: OccurrenceRow, instant: datetime) -> Iterator[ExplanationEntry]:
    yield ExplanationEntry(instant, "scheduled")
    if row.claimed_at is not None:
        late = (row.claimed_at - row.due).total_seconds()
        yield ExplanationEntry(
            row.claimed_at,
            f"claimed by {row.node}" + (f", {describe_duration(late)} after it was due" if late >= 1 else ""),
        )
    if row.asked_at is not None:
        yield ExplanationEntry(row.asked_at, "an operator asked for a backfill")


def _make_step_entry(step: Step, wait: OccurrenceWait | None) -> ExplanationEntry:
    if step.cause is Cause.REOPENED:
        return ExplanationEntry(step.at, f"{step.detail}; then {step.by} asked for a backfill", step.until)
    detail = f": {step.detail}" if step.detail else ""
    if step.until is not None or step.cause not in WAITS_FOR:
        return ExplanationEntry(step.at, CAUSES[step.cause] + detail, step.until)
    if wait is not None and (wait.cause, wait.since) == (step.cause, step.at):
        return ExplanationEntry(step.at, f"waits for {WAITS_FOR[step.cause]}{detail}")
    return ExplanationEntry(
        step.at, f"{CAUSES[step.cause]}{detail}; the end is not on record, because the process was killed"
    )


def _list_attempt_entries(attempt: AttemptRow) -> Iterator[ExplanationEntry]:
    which = f"attempt {attempt.number}"
    if attempt.sent_at is not None:
        yield ExplanationEntry(attempt.sent_at, f"{which} sent{_describe_offset(attempt.clock_offset)}")
    if attempt.ended_at is None:
        text = "was on record as about to be sent" if attempt.result else "is on record as about to be sent"
        yield ExplanationEntry(attempt.written_at, f"{which} {text}; its end is unknown")
    elif attempt.result is not None:
        http = "" if attempt.http_status is None else f" (HTTP {attempt.http_status})"
        error = f": {attempt.error}" if attempt.error else ""
        yield ExplanationEntry(
            attempt.ended_at, f"{which} {RESULTS[AttemptResult(attempt.result)]}{http}{error}"
        )


def _describe_offset(seconds: float | None) -> str:
    """Describe the clock offset, when the offset may make the order of instants confusing."""
    if seconds is None or abs(seconds) < _LARGE_OFFSET:
        return ""
    return (
        f", by a clock that was {describe_duration(abs(seconds))} "
        f"{'behind' if seconds > 0 else 'ahead of'} the API's"
    )


def _list_run_entries(run: RunRow) -> Iterator[ExplanationEntry]:
    if run.started_at is not None:
        late = "" if run.is_own else ": most likely a late attempt for this occurrence, a second run"
        yield ExplanationEntry(run.started_at, f"run {run.run_id} began, by the API's clock{late}")
    if run.finished_at is not None:
        is_read = run.status in {RunStatus.SUCCESS, RunStatus.FAILED}
        seen = ", as a poll showed then" if is_read else ""  # only the API knows when the run ended
        text = f"run {run.run_id} {RUNS[RunStatus(run.status)]}{seen}" + (
            f": {run.error}" if run.error else ""
        )
        yield ExplanationEntry(run.finished_at, text, is_failure=run.status in FAILURES)
