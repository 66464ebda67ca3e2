"""The page of one automation, as values: its schedule in words, what it fires next, what the clock does to it, its policies, its state."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Final

from scheduler.core.changes import THIRTEEN_MONTHS, clock_changes
from scheduler.core.command_line import command_line
from scheduler.core.cron import InvalidSchedule, Schedule
from scheduler.core.policy import CatchUp, Concurrency, Policies, jitter, start_within
from scheduler.core.status import AutomationDetails, FinishedRun, PausedByHand, Recent, TargetStatus
from scheduler.core.words import in_words
from scheduler.ops.page.rows import TONES, Coming, coming
from scheduler.ops.page.times import When, duration, when

NEXT: Final = 10
_YEAR: Final = timedelta(days=366)
_CATCH_UP: Final = {
    CatchUp.LATEST: "of several that are overdue, the newest is sent",
    CatchUp.ALL: "all that are overdue are sent, in order",
    CatchUp.NONE: "what came due while nobody ran is not sent",
}
_CONCURRENCY: Final = {
    Concurrency.ALLOW: "it starts beside a run that is not finished",
    Concurrency.FORBID: "it is skipped while a run is not finished",
    Concurrency.QUEUE: "it waits for a run that is not finished",
}


@dataclass(frozen=True, slots=True)
class StateOf:
    """Whether it fires, and if not, why, and what to do. ``advice`` has code between backticks."""

    tone: str
    word: str
    sentence: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the clock, and what it does to the schedule."""

    when: When
    words: str
    touches: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy in force."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class NewestRun:
    """The run that the API showed last."""

    id: str
    began: When | None
    status: str
    tone: str
    error: str | None


@dataclass(frozen=True, slots=True)
class AutomationPage:
    """All of it but the history. ``words`` is None when there is no schedule that could be told."""

    details: AutomationDetails
    now: datetime
    states: Sequence[StateOf]
    words: str | None
    since: When
    next: Sequence[Coming]
    changes: Sequence[Change] | None
    policies: Sequence[Policy]
    run: NewestRun | None


def automation_page(
    details: AutomationDetails, target: TargetStatus, recent: Recent | None, run: FinishedRun | None, now: datetime
) -> AutomationPage:
    """Make the page; ``run`` is the automation's newest finished run.

    Evaluates the schedule, so it belongs on another thread than the loop's.
    """
    schedule = _told(details)
    firing = details.schedule
    following = [] if firing is None else _following(firing, now)
    return AutomationPage(
        details,
        now,
        [*_states(details, target, recent.pauses if recent else (), now), *_failure(run, now)],
        None if schedule is None else in_words(schedule),
        When(details.effective_from, now, details.timezone),
        [coming(each, details, now, target.throttled_until) for each in following[:NEXT]],
        None if schedule is None else list(_changes(schedule, now)),
        list(_policies(details, following)),
        _newest_run(details, now),
    )


def _told(details: AutomationDetails) -> Schedule | None:
    """The schedule; also of an automation that is disabled."""
    definition = details.automation.definition
    try:
        return details.schedule or Schedule.parse(definition.cron_expression, definition.timezone)
    except InvalidSchedule:
        return None


def _following(schedule: Schedule, now: datetime) -> Sequence[datetime]:
    """The next instants; one alone when it is far away."""
    near = list(islice(schedule.between(now, now + _YEAR), NEXT + 1))
    far = None if near else schedule.next(now)
    return near if far is None else [far]


def _states(details: AutomationDetails, target: TargetStatus, pauses: Sequence[PausedByHand], now: datetime) -> Iterator[StateOf]:
    if details.invalid is not None:
        yield StateOf("bad", "Invalid", f"It cannot be evaluated and never fires: {details.invalid}", "edit the automation")
    elif details.state == "disabled":
        yield StateOf(
            "soft",
            "Disabled",
            "It is disabled at the API, and fires nothing.",
            f"`{command_line(f'automations update {details.id} --enabled', target=details.target)}` enables it",
        )
    else:
        yield from _pauses(details, pauses, now)
        if details.state == "enabled" and target.throttled_until is not None:
            until = When(target.throttled_until, now)
            sentence = f"Nothing fires on target {target.name} before {until.utc} ({until.relative}): the API asked for that."
            yield StateOf("warn", "Throttled", sentence, "see the first page for what to do")
        elif details.state == "enabled":
            yield StateOf("good", "Enabled", "It fires at its times.")
    if target.held is not None:
        yield StateOf("bad", "Held", f"Nothing is sent to target {target.name}: {target.held}", "see the first page for what to do")


def _failure(run: FinishedRun | None, now: datetime) -> Iterator[StateOf]:
    """Yield that the newest finished run failed or was lost, if it was."""
    if run is None or not run.failures:
        return
    finished = When(run.finished_at, now)
    error = f": {run.error}" if run.error else "."
    sentence = f"The newest finished run {run.in_words}, {finished.utc} ({finished.relative}){error}"
    advice = f"`{command_line(f'runs show {run.run_id}')}` prints its output where the embedded API runs it; mend the cause"
    again = command_line(f"automations run {run.automation_id}", target=run.target)
    yield StateOf("bad", "Failing", sentence, f"{advice}, then `{again}`")


def _pauses(details: AutomationDetails, pauses: Sequence[PausedByHand], now: datetime) -> Iterator[StateOf]:
    meaning = "What comes due is recorded and not fired."
    if details.policies.paused:
        yield StateOf("warn", "Paused", f"By the configuration. {meaning}", "see `paused` in [schedule] and [[override]]")
    mine = [each for each in pauses if each.target == details.target and each.automation_id in {None, details.id}]
    for each in mine:
        since = When(each.since, now)
        who, what = ("", details.id) if each.automation_id else ("with all of its target, ", "--all --keep-single")
        yield StateOf(
            "warn",
            "Paused",
            f"By hand, {who}by {each.by}, since {since.utc} ({since.relative}). {meaning}",
            f"`{command_line(f'resume {what}', target=details.target)}` ends it",
        )
    if details.paused_by_hand and not mine:
        yield StateOf("warn", "Paused", f"By hand. {meaning}", f"`{command_line(f'resume {details.id}', target=details.target)}` ends it")


def _changes(schedule: Schedule, now: datetime) -> Iterator[Change]:
    for each in clock_changes(schedule, now, now + THIRTEEN_MONTHS):
        yield Change(When(each.at, now, schedule.timezone), each.words, each.effect != "untouched")


def _policies(details: AutomationDetails, following: Sequence[datetime]) -> Iterator[Policy]:
    policies = details.policies
    to_the_next = min((second - first for first, second in pairwise(following)), default=None)
    start = start_within(policies, to_the_next)
    if policies.start_within is None:
        now = f"; now {duration(start)}" if following else ""
        yield Policy("start_within", "auto", f"half the time to the next one, at least 5 min, at most 1 h{now}")
    else:
        yield Policy("start_within", duration(start), "so long after it is due it may start")
    yield Policy("catch_up", policies.catch_up, _CATCH_UP[policies.catch_up])
    yield Policy("concurrency", policies.concurrency, _CONCURRENCY[policies.concurrency])
    yield Policy("jitter", duration(policies.jitter), _jitter(policies, details, to_the_next))


def _jitter(policies: Policies, details: AutomationDetails, to_the_next: timedelta | None) -> str:
    if not policies.jitter:
        return "it is due when it is scheduled"
    own = jitter(policies, details.target, details.id, to_the_next).total_seconds()
    return f"it is due {own:.3f} s after it is scheduled, every time"


def _newest_run(details: AutomationDetails, now: datetime) -> NewestRun | None:
    automation = details.automation
    if automation.run_id is None:
        return None
    status = automation.run_status or "status unknown"
    return NewestRun(
        automation.run_id, when(automation.run_at, now, details.timezone), status, TONES.get(status, "soft"), automation.run_error
    )
