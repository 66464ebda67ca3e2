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
from scheduler.ledger.versions import EvaluationRules

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


class OccurrenceExplanation:
    """The answer for one occurrence, as known at ``now``. Each attribute follows from the attributes before.

    ``policies`` are the policies of the automation at the instant; None: unknown. ``due`` is None when
    nothing was scheduled, or when the due instant is unknown. ``wait`` is the present wait, as far as the
    record shows. ``period`` is the period of the version in force. ``before`` and ``after`` are the nearest
    implied instants.
    """

    def __init__(self, evidence: Evidence, now: datetime, policies: Policies | None = None) -> None:
        self.evidence, self.now, self.policies = evidence, now, policies
        self.row, self.instant, self.period = evidence.row, evidence.instant, evidence.period
        self.schedule = None if self.period is None else _parse_schedule(evidence, self.period)
        self.due = self._find_due()
        self.verdict, self.why = self._judge()
        self.wait = self._find_wait()
        self.deadline = self._find_deadline()
        if self.wait is not None and self.row is not None:
            self.why = _describe_wait(self.wait)
        if hindrance := self._describe_hindrance():
            self.why = f"{self.why}; {hindrance}"
        self.entries = sorted(self._list_entries(), key=lambda entry: entry.at)
        self.before, self.after = _find_nearest_before(evidence), _find_nearest_after(evidence)

    def _find_due(self) -> datetime | None:
        """Find the due instant; None when nothing was scheduled, or when the due instant is unknown."""
        evidence = self.evidence
        if self.row is not None:
            return self.instant + (self.row.due - self.row.scheduled_for)
        if self.policies is None or not evidence.is_implied:
            return None
        return compute_due(
            self.policies, evidence.target, evidence.automation_id, self.schedule, self.instant
        )

    def _find_deadline(self) -> datetime | None:
        """Return the instant until which the occurrence may start.

        Return None when the occurrence has an outcome other than "not started". Return None also when the
        occurrence has waited for the end of the previous run: that run decides. Before the due instant an
        occurrence has no row, and the deadline comes from the policies.
        """
        evidence, row = self.evidence, self.row
        if row is not None:
            is_late_or_open = row.reason in {None, Reason.NOT_STARTED}
            return row.deadline if is_late_or_open and not _has_queued(evidence, row) else None
        if self.wait is None or self.policies is None or self.schedule is None:
            return None
        following = self.schedule.find_next(self.instant)
        fire_time = make_fire_time(
            self.policies, evidence.target, evidence.automation_id, self.instant, following
        )
        return fire_time.deadline

    # ---------------------------------------------------------------- the answer

    def _judge(self) -> tuple[ExplanationVerdict, str]:
        evidence = self.evidence
        if self.row is not None:
            return ExplanationVerdict.ON_RECORD, _describe_row(self.row)
        if not evidence.is_implied:
            return ExplanationVerdict.NOTHING, self._explain_absence()
        if evidence.pruned_before is not None and self.instant < evidence.pruned_before:
            removed = f"what was scheduled before {to_text(evidence.pruned_before)} may have been removed"
            return ExplanationVerdict.NOTHING, f"it was due, but {removed} for its age"
        if self.instant > self.now or (self.due is not None and self.due > self.now):
            return ExplanationVerdict.TO_COME, self._describe_time_until_due()
        if evidence.is_undecided:
            why = f"it is due, and not decided yet{_describe_reach(evidence)}; when no daemon runs, start it"
            return ExplanationVerdict.TO_COME, why
        fire = format_command(f"fire {evidence.automation_id} {to_text_seconds(self.instant)}")
        why = f"it was due, and is not on record. This is a fault: run it with `{fire}`, and report this"
        return ExplanationVerdict.MISSING, why

    def _describe_time_until_due(self) -> str:
        if self.due is None or self.due == self.instant:
            return "it is still to come"
        delay = describe_duration((self.due - self.instant).total_seconds())
        jitter = f"{to_text(self.due)}: jitter delays it by {delay}"
        if self.instant > self.now:
            return f"it is still to come, and due at {jitter}"
        return f"it waits for its due time, {jitter}"

    def _describe_hindrance(self) -> str | None:
        """Describe the effect of a throttle or a pause on an occurrence that was not sent.

        Return None when neither has an effect.
        """
        is_open = self.row is not None and self.row.outcome is None
        is_sent = self.wait is not None and self.wait.cause in {Cause.ANSWER, Cause.OUTCOME}
        if is_sent or not (is_open or self.verdict is ExplanationVerdict.TO_COME):
            return None
        if not is_open and self._is_paused():
            return "it will be recorded and not fired, because it is paused"
        end = self.evidence.recorded_target.throttled_until
        if end is None or end <= self.now:
            return None
        if self.deadline is not None and (expiry := describe_expiry(self.deadline, end)):
            return f"it {expiry}"
        if is_open or (self.due or self.instant) >= end:
            return None
        return f"nothing is sent before the throttle ends at {to_text_seconds(end)}"

    def _is_paused(self) -> bool:
        by_configuration = self.policies is not None and self.policies.paused
        return by_configuration or any(pause.until is None for pause in self.evidence.pauses)

    def _explain_absence(self) -> str:
        if self.period is not None:
            reason = self.period.version.end_reason
            if reason is not None:
                return f"it was {reason} then, from {to_text(self.period.begin)} on"
            return self._explain_mismatch(self.period)
        if not self.evidence.periods:
            return "the ledger has no definition of it"
        first = self.evidence.periods[0].version
        return f"it was first seen later: it counts from {to_text(first.effective_from)}"

    def _explain_mismatch(self, period: VersionPeriod) -> str:
        definition = period.version.definition
        assert definition is not None  # otherwise the version has an end reason
        described = f"{definition.cron_expression!r} in {definition.timezone}"
        if self.schedule is None:
            return f"{described} cannot be evaluated with the zone data of now"
        rules = self.evidence.evaluation.find_rules_at(self.instant)

        def fires_by(other: EvaluationRules) -> bool:
            return other.parse_schedule(definition).is_fire_time(self.instant)

        if fires_by(replace(rules, dst_repeat="twice")):
            twice = "names a time that the clock shows twice that day, and fires the first time"
            return f"{described} {twice} (dst_repeat is {rules.dst_repeat})"
        if fires_by(replace(rules, dst_gap="after")):
            skipped = "names a time that the clock skips that day, and does not fire for it"
            return f"{described} {skipped} (dst_gap is {rules.dst_gap})"
        if fires_by(replace(rules, rules_version=RULES_VERSION)):
            return (
                f"{described} matches it by the rules that read expressions now; by those of then it did not"
            )
        return f"{described} does not match it"

    # ---------------------------------------------------------------- the steps

    def _find_wait(self) -> Step | None:
        """Find the present wait of the occurrence, as far as the record shows."""
        is_before_due = self.due is not None and self.instant <= self.now < self.due
        wait_until_due = Step(self.instant, Cause.DUE) if is_before_due else None
        if self.row is None:
            return wait_until_due if self.verdict is ExplanationVerdict.TO_COME else None
        if self.row.outcome is not None:
            return None
        lasting = _find_lasting_step(self.evidence)
        return lasting or wait_until_due or _find_attempt_wait(self.row, self.evidence.attempts)

    def _list_entries(self) -> Iterator[ExplanationEntry]:
        evidence, row = self.evidence, self.row
        if row is not None:
            yield from _list_row_entries(row, self.instant)
        elif self.due is not None:
            yield ExplanationEntry(self.instant, "scheduled")
        if self.deadline is not None:
            yield ExplanationEntry(self.deadline, "the deadline: it may not start after this")
        if self.due is not None and self.due != self.instant:
            jitter = describe_duration((self.due - self.instant).total_seconds())
            yield ExplanationEntry(self.due, f"due, by {jitter} of jitter")
        for step in evidence.steps:
            yield _make_step_entry(step, self.wait)
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


# ---------------------------------------------------------------- schedules


def _find_nearest_before(evidence: Evidence) -> datetime | None:
    """Find the last instant, before the instant in question, implied by a version in force."""
    instants = []
    for period in evidence.periods:
        schedule = _parse_schedule(evidence, period)
        end = evidence.instant if period.end >= evidence.instant else period.end + JUST_BEFORE
        previous = None if schedule is None or period.begin >= end else schedule.find_previous(end)
        if previous is not None and previous > period.begin:
            instants.append(previous)
    return max(instants, default=None)


def _find_nearest_after(evidence: Evidence) -> datetime | None:
    """Find the first instant, after the instant in question, implied by a version in force."""
    instants = []
    for period in evidence.periods:
        schedule, begin = _parse_schedule(evidence, period), max(period.begin, evidence.instant)
        following = None if schedule is None or period.end <= begin else schedule.find_next(begin)
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


# ---------------------------------------------------------------- the parts of an answer


def _has_queued(evidence: Evidence, row: OccurrenceRow) -> bool:
    """Return whether the occurrence waits or waited for the previous run.

    A backfill does not wait for the previous run.
    """
    return row.asked_at is None and any(step.cause is Cause.QUEUED for step in evidence.steps)


def _describe_reach(evidence: Evidence) -> str:
    """Describe how far the record is complete."""
    if evidence.is_in_gap:
        return ": the daemon recovers from a downtime, slice by slice"
    watermark = evidence.recorded_target.watermark
    return "" if watermark is None else f": the record is complete up to {to_text(watermark)}"


def _describe_row(row: OccurrenceRow) -> str:
    text = REASONS[Reason(row.reason)] if row.reason is not None else STATES[State(str(row.state))]
    if row.count > 1:
        span = f"from {to_text_seconds(row.scheduled_for)} to {to_text_seconds(row.last)}"
        text += f"; one of {row.count:,} with the same fate, {span}"
    return f"{text} ({row.error})" if row.error else text


def _describe_wait(wait: Step) -> str:
    detail = f" ({wait.detail})" if wait.detail else ""
    return f"it waits for {WAITS_FOR[wait.cause]}, since {to_text(wait.at)}{detail}"


def _find_lasting_step(evidence: Evidence) -> Step | None:
    """Find the newest wait without a recorded end, begun in the process that has the occurrence now."""
    begin = max((step.at for step in evidence.steps if step.cause is Cause.ADOPTED), default=None)
    lasting = [
        step
        for step in evidence.steps
        if step.cause in WAITS_FOR and step.until is None and (begin is None or step.at >= begin)
    ]
    return max(lasting, key=lambda step: step.at, default=None)


def _find_attempt_wait(row: OccurrenceRow, attempts: Sequence[AttemptRow]) -> Step | None:
    newest = attempts[-1] if attempts else None
    if newest is None:
        return None
    if row.state == State.UNKNOWN:
        return Step(newest.ended_at or newest.written_at, Cause.OUTCOME)
    return Step(newest.written_at, Cause.ANSWER) if newest.result is None else None


def _list_row_entries(row: OccurrenceRow, instant: datetime) -> Iterator[ExplanationEntry]:
    yield ExplanationEntry(instant, "scheduled")
    if row.claimed_at is not None:
        late = (row.claimed_at - row.due).total_seconds()
        lateness = f", {describe_duration(late)} after it was due" if late >= 1 else ""
        yield ExplanationEntry(row.claimed_at, f"claimed by {row.node}{lateness}")
    if row.asked_at is not None:
        yield ExplanationEntry(row.asked_at, "an operator asked for a backfill")


def _make_step_entry(step: Step, wait: Step | None) -> ExplanationEntry:
    if step.cause is Cause.REOPENED:
        return ExplanationEntry(step.at, f"{step.detail}; then {step.by} asked for a backfill", step.until)
    detail = f": {step.detail}" if step.detail else ""
    if step.until is not None or step.cause not in WAITS_FOR:
        return ExplanationEntry(step.at, CAUSES[step.cause] + detail, step.until)
    if wait is not None and (wait.cause, wait.at) == (step.cause, step.at):
        return ExplanationEntry(step.at, f"waits for {WAITS_FOR[step.cause]}{detail}")
    end = "the end is not on record, because the process was killed"
    return ExplanationEntry(step.at, f"{CAUSES[step.cause]}{detail}; {end}")


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
        result = RESULTS[AttemptResult(attempt.result)]
        yield ExplanationEntry(attempt.ended_at, f"{which} {result}{http}{error}")


def _describe_offset(seconds: float | None) -> str:
    """Describe the clock offset, when the offset may make the order of instants confusing."""
    if seconds is None or abs(seconds) < _LARGE_OFFSET:
        return ""
    difference = f"{describe_duration(abs(seconds))} {'behind' if seconds > 0 else 'ahead of'}"
    return f", by a clock that was {difference} the API's"


def _list_run_entries(run: RunRow) -> Iterator[ExplanationEntry]:
    if run.started_at is not None:
        late = "" if run.is_own else ": most likely a late attempt for this occurrence, a second run"
        yield ExplanationEntry(run.started_at, f"run {run.run_id} began, by the API's clock{late}")
    if run.finished_at is not None:
        is_read = run.status in {RunStatus.SUCCESS, RunStatus.FAILED}
        seen = ", as a poll showed then" if is_read else ""  # only the API knows when the run ended
        error = f": {run.error}" if run.error else ""
        text = f"run {run.run_id} {RUNS[RunStatus(run.status)]}{seen}{error}"
        yield ExplanationEntry(run.finished_at, text, is_failure=run.status in FAILURES)
