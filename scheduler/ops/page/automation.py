"""The page of one automation, as values: schedule in words, next fires, clock changes, policies, state."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Final

from scheduler.core.command_line import format_command, resume_all
from scheduler.core.cron.clock_changes import THIRTEEN_MONTHS, ClockChange, find_clock_changes
from scheduler.core.cron.description import describe_schedule
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.policy import CatchUp, Concurrency, Policies, compute_jitter, compute_start_within
from scheduler.core.status import AutomationDetails, FinishedRun, OperatorPause, RecentActivity, TargetStatus
from scheduler.ops.page.rows import Notice, make_upcoming_row
from scheduler.ops.page.times import DisplayTime, format_duration, make_display_time

MAX_NEXT: Final = 10
_ADVICE_ON_TARGET: Final = "see the advice on the first page"
_YEAR: Final = timedelta(days=366)
_CATCH_UP_MEANINGS: Final = {
    CatchUp.LATEST: "of several that are overdue, the newest is sent",
    CatchUp.ALL: "all that are overdue are sent, in order",
    CatchUp.NONE: "occurrences that came due while no daemon ran are not sent",
}
_CONCURRENCY_MEANINGS: Final = {
    Concurrency.ALLOW: "an occurrence starts beside an unfinished run",
    Concurrency.FORBID: "an occurrence is skipped during an unfinished run",
    Concurrency.QUEUE: "an occurrence waits for an unfinished run",
}


def make_automation_page(
    details: AutomationDetails,
    target: TargetStatus,
    recent: RecentActivity | None,
    run: FinishedRun | None,
    now: datetime,
) -> Mapping[str, object]:
    """Return the parts of the page except the history. ``run`` is the automation's newest finished run.

    The schedule in words and the clock changes are None without a valid schedule. Evaluates the schedule, and
    must therefore not run on the loop's thread.
    """
    schedule = _parse_schedule(details)
    following = _find_next_instants(details.schedule, now) if details.schedule else []
    states = _list_states(details, target, recent.pauses if recent else (), now)
    return {
        "details": details,
        "states": [*states, *_describe_failure(run, now)],
        "words": schedule and describe_schedule(schedule),
        "since": DisplayTime(details.effective_from, now, details.timezone),
        "next": [
            make_upcoming_row(instant, details, now, target.throttled_until)
            for instant in following[:MAX_NEXT]
        ],
        "changes": schedule and _list_clock_changes(schedule, now),
        "policies": list(_describe_policies(details, following)),
        "run_began": make_display_time(details.automation.run_at, now, details.timezone),
    }


def _parse_schedule(details: AutomationDetails) -> Schedule | None:
    """Return the schedule, also of a disabled automation, or None for an invalid schedule."""
    definition = details.automation.definition
    try:
        return details.schedule or details.parse(definition.cron_expression, definition.timezone)
    except InvalidSchedule:
        return None


def _find_next_instants(schedule: Schedule, now: datetime) -> Sequence[datetime]:
    """Return the next instants within a year, at most one more than `MAX_NEXT`.

    When no instant is within a year, return the next instant alone.
    """
    near = list(islice(schedule.iterate_between(now, now + _YEAR), MAX_NEXT + 1))
    far = None if near else schedule.find_next(now)
    return near if far is None else [far]


def _list_states(
    details: AutomationDetails, target: TargetStatus, pauses: Sequence[OperatorPause], now: datetime
) -> Iterator[Notice]:
    if details.invalid is not None:
        sentence = f"The schedule cannot be evaluated, and the automation never fires: {details.invalid}"
        yield Notice("bad", "Invalid", sentence, "correct the schedule of the automation")
    elif details.state == "disabled":
        enable = format_command(f"automations update {details.id} --enabled", target=details.target)
        sentence = "The automation is disabled at the API, and never fires."
        yield Notice("soft", "Disabled", sentence, f"`{enable}` enables it")
    else:
        yield from _describe_pauses(details, pauses, now)
        if details.state == "enabled" and target.throttled_until is not None:
            until = DisplayTime(target.throttled_until, now)
            sentence = f"Nothing fires on target {target.name} before {until.utc} ({until.relative})"
            yield Notice("warn", "Throttled", f"{sentence}: the API asked for that.", _ADVICE_ON_TARGET)
        elif details.state == "enabled":
            yield Notice("good", "Enabled", "The automation fires at its times.")
    if target.held is not None:
        sentence = f"Nothing is sent to target {target.name}: {target.held}"
        yield Notice("bad", "Held", sentence, _ADVICE_ON_TARGET)


def _describe_failure(run: FinishedRun | None, now: datetime) -> Iterator[Notice]:
    """Yield a notice if the newest finished run failed or was lost."""
    if run is None or not run.failures:
        return
    finished = DisplayTime(run.finished_at, now)
    error = f": {run.error}" if run.error else "."
    sentence = f"The newest finished run {run.description}, {finished.utc} ({finished.relative}){error}"
    show = f"`{format_command(f'runs show {run.run_id}')}` prints its output where the embedded API runs it"
    again = format_command(f"automations run {run.automation_id}", target=run.target)
    yield Notice("bad", "Failing", sentence, f"{show}; mend the cause, then `{again}`")


def _describe_pauses(
    details: AutomationDetails, pauses: Sequence[OperatorPause], now: datetime
) -> Iterator[Notice]:
    meaning = "Due occurrences are recorded and not fired."
    resume = f"`{format_command(f'resume {details.id}', target=details.target)}`"
    if details.policies.paused:
        advice = "see `paused` in [schedule] and [[override]]"
        yield Notice("warn", "Paused", f"By the configuration. {meaning}", advice)
    mine = [
        pause
        for pause in pauses
        if pause.target == details.target and pause.automation_id in {None, details.id}
    ]
    for pause in mine:
        since = DisplayTime(pause.since, now)
        who = "" if pause.automation_id else "with all automations of the target, "
        sentence = f"By hand, {who}by {pause.by}, since {since.utc} ({since.relative}). {meaning}"
        advice = f"{resume if pause.automation_id else resume_all(details.target)} ends it"
        yield Notice("warn", "Paused", sentence, advice)
    if details.paused_by_hand and not mine:
        all_paused = "where all automations of the target are paused"
        advice = f"{resume} ends it, or {resume_all(details.target)} {all_paused}"
        yield Notice("warn", "Paused", f"By hand. {meaning}", advice)


def _list_clock_changes(schedule: Schedule, now: datetime) -> Sequence[tuple[ClockChange, DisplayTime]]:
    return [
        (change, DisplayTime(change.at, now, schedule.timezone))
        for change in find_clock_changes(schedule, now, now + THIRTEEN_MONTHS)
    ]


def _describe_policies(
    details: AutomationDetails, following: Sequence[datetime]
) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the value and the meaning of each policy in force."""
    policies = details.policies
    to_the_next = min((second - first for first, second in pairwise(following)), default=None)
    start = format_duration(compute_start_within(policies, to_the_next))
    if policies.start_within is None:
        now = f"; now {start}" if following else ""
        yield "start_within", "auto", f"half the time to the next fire, at least 5 min, at most 1 h{now}"
    else:
        yield "start_within", start, "an occurrence may start so long after it is due"
    yield "catch_up", policies.catch_up, _CATCH_UP_MEANINGS[policies.catch_up]
    yield "concurrency", policies.concurrency, _CONCURRENCY_MEANINGS[policies.concurrency]
    yield "jitter", format_duration(policies.jitter), _describe_jitter(policies, details, to_the_next)


def _describe_jitter(policies: Policies, details: AutomationDetails, to_the_next: timedelta | None) -> str:
    if not policies.jitter:
        return "due at the scheduled instant"
    own = compute_jitter(policies, details.target, details.id, to_the_next).total_seconds()
    return f"due {own:.3f} s after the scheduled instant, every time"
