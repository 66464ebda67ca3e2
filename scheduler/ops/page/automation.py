"""The page of one automation, as values: schedule in words, next fires, clock changes, policies, state."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Final

from scheduler.core.command_line import format_command, resume_all
from scheduler.core.cron.clock_changes import THIRTEEN_MONTHS, find_clock_changes
from scheduler.core.cron.description import describe_schedule
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.policy import CatchUp, Concurrency, Policies, compute_jitter, compute_start_within
from scheduler.core.status import AutomationDetails, FinishedRun, OperatorPause, RecentActivity, TargetStatus
from scheduler.ops.page.rows import TONES, UpcomingRow, make_upcoming_row
from scheduler.ops.page.times import DisplayTime, format_duration, make_display_time

MAX_NEXT: Final = 10
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


@dataclass(frozen=True, slots=True)
class StateNotice:
    """The state of an automation: whether the automation fires, the reason, and advice.

    ``advice`` has code between backticks.
    """

    tone: str
    word: str
    sentence: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class ClockChangeRow:
    """A change of the clock, and its effect on the schedule."""

    when: DisplayTime
    words: str
    touches: bool


@dataclass(frozen=True, slots=True)
class PolicySummary:
    """One policy in force."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class NewestRun:
    """The newest run shown by the API."""

    id: str
    began: DisplayTime | None
    status: str
    tone: str
    error: str | None


@dataclass(frozen=True, slots=True)
class AutomationPage:
    """All parts of the page except the history.

    ``words`` is None without a valid schedule.
    """

    details: AutomationDetails
    now: datetime
    states: Sequence[StateNotice]
    words: str | None
    since: DisplayTime
    next: Sequence[UpcomingRow]
    changes: Sequence[ClockChangeRow] | None
    policies: Sequence[PolicySummary]
    run: NewestRun | None


def make_automation_page(
    details: AutomationDetails,
    target: TargetStatus,
    recent: RecentActivity | None,
    run: FinishedRun | None,
    now: datetime,
) -> AutomationPage:
    """Make the page. ``run`` is the automation's newest finished run.

    Evaluates the schedule, and must therefore not run on the loop's thread.
    """
    schedule = _parse_schedule(details)
    firing = details.schedule
    following = [] if firing is None else _find_next_instants(firing, now)
    return AutomationPage(
        details,
        now,
        [*_list_states(details, target, recent.pauses if recent else (), now), *_describe_failure(run, now)],
        None if schedule is None else describe_schedule(schedule),
        DisplayTime(details.effective_from, now, details.timezone),
        [
            make_upcoming_row(instant, details, now, target.throttled_until)
            for instant in following[:MAX_NEXT]
        ],
        None if schedule is None else list(_make_changes(schedule, now)),
        list(_make_policies(details, following)),
        _make_newest_run(details, now),
    )


def _parse_schedule(details: AutomationDetails) -> Schedule | None:
    """Return the schedule, also of a disabled automation, or None for an invalid schedule."""
    definition = details.automation.definition
    try:
        return details.schedule or Schedule.parse(definition.cron_expression, definition.timezone)
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
) -> Iterator[StateNotice]:
    if details.invalid is not None:
        yield StateNotice(
            "bad",
            "Invalid",
            f"The schedule cannot be evaluated, and the automation never fires: {details.invalid}",
            "correct the schedule of the automation",
        )
    elif details.state == "disabled":
        yield StateNotice(
            "soft",
            "Disabled",
            "The automation is disabled at the API, and never fires.",
            f"`{format_command(f'automations update {details.id} --enabled', target=details.target)}` "
            "enables it",
        )
    else:
        yield from _describe_pauses(details, pauses, now)
        if details.state == "enabled" and target.throttled_until is not None:
            until = DisplayTime(target.throttled_until, now)
            sentence = (
                f"Nothing fires on target {target.name} before {until.utc} ({until.relative}): the API "
                "asked for that."
            )
            yield StateNotice("warn", "Throttled", sentence, "see the advice on the first page")
        elif details.state == "enabled":
            yield StateNotice("good", "Enabled", "The automation fires at its times.")
    if target.held is not None:
        yield StateNotice(
            "bad",
            "Held",
            f"Nothing is sent to target {target.name}: {target.held}",
            "see the advice on the first page",
        )


def _describe_failure(run: FinishedRun | None, now: datetime) -> Iterator[StateNotice]:
    """Yield a notice if the newest finished run failed or was lost."""
    if run is None or not run.failures:
        return
    finished = DisplayTime(run.finished_at, now)
    error = f": {run.error}" if run.error else "."
    sentence = f"The newest finished run {run.description}, {finished.utc} ({finished.relative}){error}"
    advice = (
        f"`{format_command(f'runs show {run.run_id}')}` prints its output where the embedded API runs "
        "it; mend the cause"
    )
    again = format_command(f"automations run {run.automation_id}", target=run.target)
    yield StateNotice("bad", "Failing", sentence, f"{advice}, then `{again}`")


def _describe_pauses(
    details: AutomationDetails, pauses: Sequence[OperatorPause], now: datetime
) -> Iterator[StateNotice]:
    meaning = "Due occurrences are recorded and not fired."
    if details.policies.paused:
        yield StateNotice(
            "warn",
            "Paused",
            f"By the configuration. {meaning}",
            "see `paused` in [schedule] and [[override]]",
        )
    mine = [
        pause
        for pause in pauses
        if pause.target == details.target and pause.automation_id in {None, details.id}
    ]
    for pause in mine:
        since = DisplayTime(pause.since, now)
        who = "" if pause.automation_id else "with all automations of the target, "
        resume = (
            f"`{format_command(f'resume {details.id}', target=details.target)}`"
            if pause.automation_id
            else resume_all(details.target)
        )
        yield StateNotice(
            "warn",
            "Paused",
            f"By hand, {who}by {pause.by}, since {since.utc} ({since.relative}). {meaning}",
            f"{resume} ends it",
        )
    if details.paused_by_hand and not mine:
        resume = f"`{format_command(f'resume {details.id}', target=details.target)}`"
        advice = (
            f"{resume} ends it, or {resume_all(details.target)} where all automations of the target are "
            "paused"
        )
        yield StateNotice("warn", "Paused", f"By hand. {meaning}", advice)


def _make_changes(schedule: Schedule, now: datetime) -> Iterator[ClockChangeRow]:
    for change in find_clock_changes(schedule, now, now + THIRTEEN_MONTHS):
        yield ClockChangeRow(
            DisplayTime(change.at, now, schedule.timezone), change.words, change.effect != "untouched"
        )


def _make_policies(details: AutomationDetails, following: Sequence[datetime]) -> Iterator[PolicySummary]:
    policies = details.policies
    to_the_next = min((second - first for first, second in pairwise(following)), default=None)
    start = compute_start_within(policies, to_the_next)
    if policies.start_within is None:
        now = f"; now {format_duration(start)}" if following else ""
        yield PolicySummary(
            "start_within", "auto", f"half the time to the next fire, at least 5 min, at most 1 h{now}"
        )
    else:
        yield PolicySummary(
            "start_within", format_duration(start), "an occurrence may start so long after it is due"
        )
    yield PolicySummary("catch_up", policies.catch_up, _CATCH_UP_MEANINGS[policies.catch_up])
    yield PolicySummary("concurrency", policies.concurrency, _CONCURRENCY_MEANINGS[policies.concurrency])
    yield PolicySummary(
        "jitter", format_duration(policies.jitter), _describe_jitter(policies, details, to_the_next)
    )


def _describe_jitter(policies: Policies, details: AutomationDetails, to_the_next: timedelta | None) -> str:
    if not policies.jitter:
        return "due at the scheduled instant"
    own = compute_jitter(policies, details.target, details.id, to_the_next).total_seconds()
    return f"due {own:.3f} s after the scheduled instant, every time"


def _make_newest_run(details: AutomationDetails, now: datetime) -> NewestRun | None:
    automation = details.automation
    if automation.run_id is None:
        return None
    status = automation.run_status or "status unknown"
    return NewestRun(
        automation.run_id,
        make_display_time(automation.run_at, now, details.timezone),
        status,
        TONES.get(status, "soft"),
        automation.run_error,
    )
