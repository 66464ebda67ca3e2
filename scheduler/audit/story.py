"""What happened to one automation at one instant, step by step; or why nothing did, and what was the nearest to it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from scheduler.audit.account import Account, Ran, Row, Tried
from scheduler.audit.lineage import Force
from scheduler.audit.sentences import CAUSES, REASONS, RESULTS, RUNS, STATES
from scheduler.core.command_line import command_line
from scheduler.core.cron import InvalidSchedule, Schedule
from scheduler.core.duration import describe_duration
from scheduler.core.instants import to_text, to_text_seconds
from scheduler.core.model import FAILURES, AttemptResult, Reason, RunStatus, State
from scheduler.core.policy import Policies, due_of
from scheduler.core.ranges import RULES_VERSION
from scheduler.core.status import describe_expiry
from scheduler.core.steps import WAITS_FOR, Cause, Step

_JUST_AFTER: Final = timedelta(microseconds=1)
_LARGE_OFFSET: Final = 60.0
"""Seconds between two clocks: a smaller difference is not told."""


class Verdict(StrEnum):
    """The answer in one word."""

    ON_RECORD = "on_record"
    TO_COME = "to_come"  # implied, and not decided yet
    MISSING = "missing"  # implied, and should be on record
    NOTHING = "nothing"  # nothing was due


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened at an instant, or lasted until another; ``is_failure``: a run failed or was lost."""

    at: datetime
    text: str
    until: datetime | None = None
    is_failure: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """What an occurrence without an outcome waits for, and since when."""

    cause: Cause
    since: datetime
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """The answer.

    ``due`` is None where nothing was scheduled. ``wait``: what it waits for, as far as the record tells. ``force`` is the version that was
    in force; ``before`` and ``after`` are the nearest instants that are implied.
    """

    account: Account
    verdict: Verdict
    why: str
    force: Force | None
    entries: tuple[Entry, ...]
    before: datetime | None
    after: datetime | None
    due: datetime | None
    wait: Wait | None


def tell(account: Account, now: datetime, policies: Policies | None = None) -> Story:
    """The story as far as it has come by ``now``. ``policies``: of the automation at the instant; None: they are not known."""
    force = force_at(account, account.instant)
    due = _due(account, force, policies)
    verdict, why = _judged(account, force, now, due)
    wait = _wait(account, verdict, now, due)
    if wait is not None and account.row is not None:
        why = _why_open(wait)
    if expects := _expect(account, verdict, wait, now=now, due=due, policies=policies):
        why = f"{why}; {expects}"
    entries = tuple(sorted(_entries(account, due, wait), key=lambda each: each.at))
    before, after = nearest_before(account, account.instant), nearest_after(account, account.instant)
    return Story(account, verdict, why, force, entries, before, after, due, wait)


def _due(account: Account, force: Force | None, policies: Policies | None) -> datetime | None:
    """Return when the instant is due; None when nothing was scheduled, or nobody can tell."""
    if account.row is not None:
        return account.instant + (account.row.due - account.row.scheduled_for)
    if force is None or policies is None or not is_implied(account, account.instant):
        return None
    return due_of(policies, account.target, account.automation_id, _schedule(account, force), account.instant)


def force_at(account: Account, instant: datetime) -> Force | None:
    """The version that was in force; None before the first one."""
    return next((each for each in account.forces if each.begin < instant <= each.end), None)


def is_implied(account: Account, instant: datetime) -> bool:
    """Whether the version in force implied an occurrence at exactly this instant."""
    force = force_at(account, instant)
    definition = None if force is None else force.version.fires
    return definition is not None and account.evaluation.implies(definition, instant)


def nearest_before(account: Account, instant: datetime) -> datetime | None:
    """The last instant before this one that a version in force implied."""
    found = []
    for each in account.forces:
        schedule = _schedule(account, each)
        end = instant if each.end >= instant else each.end + _JUST_AFTER
        previous = None if schedule is None or each.begin >= end else schedule.previous(end)
        if previous is not None and previous > each.begin:
            found.append(previous)
    return max(found, default=None)


def nearest_after(account: Account, instant: datetime) -> datetime | None:
    """The first instant after this one that a version in force implies."""
    found = []
    for each in account.forces:
        schedule = _schedule(account, each)
        following = None if schedule is None or each.end <= instant else schedule.next(max(each.begin, instant))
        if following is not None and following <= each.end:
            found.append(following)
    return min(found, default=None)


def _schedule(account: Account, force: Force) -> Schedule | None:
    """What the version fires by; None when it fires nothing, or cannot be evaluated any more."""
    definition = force.version.fires
    if definition is None:
        return None
    try:
        return account.evaluation.rules_at(min(force.end, account.instant)).schedule(definition)
    except InvalidSchedule:
        return None


# ---------------------------------------------------------------- the answer


def _judged(account: Account, force: Force | None, now: datetime, due: datetime | None) -> tuple[Verdict, str]:
    row, instant = account.row, account.instant
    if row is not None:
        return Verdict.ON_RECORD, _why(row)
    if not is_implied(account, instant):
        return Verdict.NOTHING, _why_not(account, force)
    if account.pruned_before is not None and instant < account.pruned_before:
        return (
            Verdict.NOTHING,
            f"it was due, but what was scheduled before {to_text(account.pruned_before)} may have been removed for its age",
        )
    if instant > now or (due is not None and due > now):
        return Verdict.TO_COME, _until_due(instant, due, now)
    if account.is_undecided:
        return Verdict.TO_COME, f"it is due, and not decided yet{_reach(account)}; when no daemon runs, start it"
    fire = command_line(f"fire {account.automation_id} {to_text_seconds(instant)}")
    return Verdict.MISSING, f"it was due, and is not on record, which must not be: make up for it with `{fire}`, and report this"


def _until_due(instant: datetime, due: datetime | None, now: datetime) -> str:
    if due is None or due == instant:
        return "it is still to come"
    jitter = f"{to_text(due)}: jitter delays it by {describe_duration((due - instant).total_seconds())}"
    return f"it is still to come, and due at {jitter}" if instant > now else f"it waits for its due time, {jitter}"


def _reach(account: Account) -> str:
    """How far the record is complete."""
    if account.is_in_gap:
        return ": the daemon recovers from a downtime, slice by slice"
    return "" if account.watermark is None else f": the record is complete up to {to_text(account.watermark)}"


def _why(row: Row) -> str:
    sentence = REASONS[Reason(row.reason)] if row.reason is not None else STATES[State(str(row.state))]
    together = (
        ""
        if row.count == 1
        else (f"; one of {row.count:,} with the same fate, from {to_text_seconds(row.scheduled_for)} to {to_text_seconds(row.last)}")
    )
    return f"{sentence}{together}" + (f" ({row.error})" if row.error else "")


def _why_open(wait: Wait) -> str:
    return f"it waits for {WAITS_FOR[wait.cause]}, since {to_text(wait.since)}" + (f" ({wait.detail})" if wait.detail else "")


def _expect(
    account: Account, verdict: Verdict, wait: Wait | None, *, now: datetime, due: datetime | None, policies: Policies | None
) -> str | None:
    """Say what a throttle or a pause will do to an occurrence that has not been sent; None when neither does anything."""
    row, is_open = account.row, account.row is not None and account.row.outcome is None
    if not (is_open or verdict is Verdict.TO_COME) or (wait is not None and wait.cause in {Cause.ANSWER, Cause.OUTCOME}):
        return None
    if not is_open and ((policies is not None and policies.paused) or any(pause.until is None for pause in account.pauses)):
        return "it will be recorded and not fired, because it is paused"
    end = account.throttled_until
    if end is None or end <= now:
        return None
    if row is not None and row.deadline is not None and (expiry := describe_expiry(row.deadline, end)):
        return f"it {expiry}"
    is_before = (due or account.instant) < end
    return f"nothing is sent before the throttle ends at {to_text_seconds(end)}" if is_before and not is_open else None


def _why_not(account: Account, force: Force | None) -> str:
    if force is None:
        first = account.forces[0].version if account.forces else None
        return (
            "the ledger has no definition of it"
            if first is None
            else f"it was first seen later: it counts from {to_text(first.effective_from)}"
        )
    version = force.version
    if version.ended is not None:
        return f"it was {version.ended} then, from {to_text(force.begin)} on"
    return _mismatch(account, force)


def _mismatch(account: Account, force: Force) -> str:
    definition, schedule = force.version.definition, _schedule(account, force)
    assert definition is not None  # else it would have ended
    which = f"{definition.cron_expression!r} in {definition.timezone}"
    if schedule is None:
        return f"{which} cannot be evaluated with the zone data of now"
    rules = account.evaluation.rules_at(account.instant)
    if replace(rules, dst_repeat="twice").schedule(definition).fires_at(account.instant):
        return f"{which} names a time that the clock shows twice that day, and fires the first time (dst_repeat is {rules.dst_repeat})"
    if replace(rules, dst_gap="after").schedule(definition).fires_at(account.instant):
        return f"{which} names a time that the clock skips that day, and is not to make up for it (dst_gap is {rules.dst_gap})"
    if replace(rules, rules_version=RULES_VERSION).schedule(definition).fires_at(account.instant):
        return f"{which} matches it by the rules that read expressions now; by those of then it did not"
    return f"{which} does not match it"


# ---------------------------------------------------------------- the steps


def _wait(account: Account, verdict: Verdict, now: datetime, due: datetime | None) -> Wait | None:
    """What it waits for now, as far as the record tells."""
    row, instant = account.row, account.instant
    is_before_due = due is not None and instant <= now < due
    if row is None:
        return Wait(Cause.DUE, instant) if verdict is Verdict.TO_COME and is_before_due else None
    if row.outcome is not None:
        return None
    if (step := _lasting(account)) is not None:
        return Wait(step.cause, step.at, step.detail)
    return Wait(Cause.DUE, instant) if is_before_due else _attempt_wait(row, account.attempts)


def _lasting(account: Account) -> Step | None:
    """The wait that has no end on record and began in the process that has the occurrence now."""
    begin = max((step.at for step in account.steps if step.cause is Cause.ADOPTED), default=None)
    lasting = [step for step in account.steps if step.cause in WAITS_FOR and step.until is None and (begin is None or step.at >= begin)]
    return max(lasting, key=lambda step: step.at, default=None)


def _attempt_wait(row: Row, attempts: Sequence[Tried]) -> Wait | None:
    newest = attempts[-1] if attempts else None
    if newest is None:
        return None
    if row.state == State.UNKNOWN:
        return Wait(Cause.OUTCOME, newest.ended_at or newest.written_at)
    return Wait(Cause.ANSWER, newest.written_at) if newest.result is None else None


def _entries(account: Account, due: datetime | None, wait: Wait | None) -> Iterator[Entry]:
    row = account.row
    if row is not None:
        yield from _of_row(row, account.instant)
    elif due is not None:
        yield Entry(account.instant, "scheduled")
    if due is not None and due != account.instant:
        yield Entry(due, f"due, by {describe_duration((due - account.instant).total_seconds())} of jitter")
    for step in account.steps:
        yield _of_step(step, wait)
    for attempt in account.attempts:
        yield from _of_attempt(attempt)
    if row is not None and row.finished_at is not None:
        yield Entry(row.finished_at, f"{row.fate}: {_why(row)}")
    for run in account.runs:
        yield from _of_run(run)
    for pause in account.pauses:
        which = "everything was paused" if pause.everything else "it was paused"
        ended = f", ended by {pause.ended_by}" if pause.ended_by else ""
        yield Entry(pause.since, f"{which} by {pause.by}{ended}", pause.until)


def _of_row(row: Row, instant: datetime) -> Iterator[Entry]:
    yield Entry(instant, "scheduled")
    if row.claimed_at is not None:
        late = (row.claimed_at - row.due).total_seconds()
        yield Entry(row.claimed_at, f"claimed by {row.node}" + (f", {describe_duration(late)} after it was due" if late >= 1 else ""))
    if row.asked_at is not None:
        yield Entry(row.asked_at, "asked for by hand")
    if row.deadline is not None and row.reason in {None, Reason.NOT_STARTED}:
        yield Entry(row.deadline, "the deadline: it may not start after this")


def _of_step(step: Step, wait: Wait | None) -> Entry:
    if step.cause is Cause.REOPENED:
        return Entry(step.at, f"{step.detail}; then {step.by} asked for it by hand", step.until)
    detail = f": {step.detail}" if step.detail else ""
    if step.until is not None or step.cause not in WAITS_FOR:
        return Entry(step.at, CAUSES[step.cause] + detail, step.until)
    if wait is not None and (wait.cause, wait.since) == (step.cause, step.at):
        return Entry(step.at, f"waits for {WAITS_FOR[step.cause]}{detail}")
    return Entry(step.at, f"{CAUSES[step.cause]}{detail}; the end is not on record, since the process was killed")


def _of_attempt(attempt: Tried) -> Iterator[Entry]:
    which = f"attempt {attempt.number}"
    if attempt.sent_at is not None:
        yield Entry(attempt.sent_at, f"{which} sent{_describe_offset(attempt.clock_offset)}")
    if attempt.ended_at is None:
        text = "was on record as about to be sent" if attempt.result else "is on record as about to be sent"
        yield Entry(attempt.written_at, f"{which} {text}; nobody has seen its end")
    elif attempt.result is not None:
        http = "" if attempt.http_status is None else f" (HTTP {attempt.http_status})"
        error = f": {attempt.error}" if attempt.error else ""
        yield Entry(attempt.ended_at, f"{which} {RESULTS[AttemptResult(attempt.result)]}{http}{error}")


def _describe_offset(seconds: float | None) -> str:
    """Return the difference of the clocks, when it is so large that the order of instants may confuse."""
    if seconds is None or abs(seconds) < _LARGE_OFFSET:
        return ""
    return f", by a clock that was {describe_duration(abs(seconds))} {'behind' if seconds > 0 else 'ahead of'} the API's"


def _of_run(run: Ran) -> Iterator[Entry]:
    if run.started_at is not None:
        late = "" if run.is_own else ": most likely a late attempt for this occurrence, a second run"
        yield Entry(run.started_at, f"run {run.run_id} began, by the API's clock{late}")
    if run.finished_at is not None:
        is_read = run.status in {RunStatus.SUCCESS, RunStatus.FAILED}
        seen = ", as a poll showed then" if is_read else ""  # only the API knows when the run ended
        text = f"run {run.run_id} {RUNS[RunStatus(run.status)]}{seen}" + (f": {run.error}" if run.error else "")
        yield Entry(run.finished_at, text, is_failure=run.status in FAILURES)
