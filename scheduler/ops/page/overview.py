"""The first page, as values: verdict, findings, next fires, last occurrences, and each target."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Final

from scheduler.core.instants import to_text_seconds
from scheduler.core.model import Outcome, RunStatus, State
from scheduler.core.policy import compute_due
from scheduler.core.quantities import describe_duration
from scheduler.core.status import (
    AutomationDetails,
    DaemonStatus,
    FailingAutomations,
    RecentActivity,
    TargetStatus,
    WaitsStatus,
)
from scheduler.ops.page.findings import BAD, WARN, PageFinding, list_findings
from scheduler.ops.page.renderer import iterate_with_pauses
from scheduler.ops.page.rows import (
    TONES,
    FindZone,
    HistoryRow,
    UpcomingRow,
    WaitRow,
    make_history_rows,
    make_upcoming_row,
    make_wait_row,
)
from scheduler.ops.page.timeline import DAY, HOUR, Fires, Timeline, flatten, make_timeline
from scheduler.ops.page.times import DisplayTime, make_display_time
from scheduler.ops.views import Json, list_missing

LOOK_AHEAD: Final = DAY.span
MAX_INSTANTS: Final = 30_000
"""Limit for the evaluated instants of one drawing.

The evaluation takes some tens of milliseconds, on another thread.
"""
_PAUSE_EVERY: Final = 10  # items, which take some tenths of a millisecond
MAX_NEXT: Final = 10
MAX_WAITS: Final = 20
MAX_LAST: Final = 12
_NO_WAITS: Final = WaitsStatus()

FireStream = Iterator[tuple[datetime, Sequence[AutomationDetails]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewData:
    """The data for the page at the time of the request.

    ``ledger_error`` is the reason why a part of the ledger could not be read.
    """

    status: DaemonStatus
    streams: Sequence[FireStream]
    invalid: Iterator[AutomationDetails]
    find_zone: FindZone
    waits: Mapping[str, WaitsStatus]
    records: Sequence[Json] | None
    recent: RecentActivity | None
    failing: FailingAutomations | None
    ledger_error: str | None


@dataclass(frozen=True, slots=True)
class OverviewVerdict:
    """The overall state of the daemon, in a word and a sentence."""

    tone: str
    word: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A number on the page, with an optional link to the details."""

    label: str
    value: str
    tone: str
    link: str | None = None


@dataclass(frozen=True, slots=True)
class TargetSummary:
    """A target with its computed values and words."""

    status: TargetStatus
    state: str
    tone: str
    snapshot: DisplayTime | None
    next_fire: DisplayTime | None
    hindrance: str | None
    offset: str | None
    automations: Sequence[tuple[str, int]]
    open: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole page."""

    status: DaemonStatus
    now: datetime
    verdict: OverviewVerdict
    figures: Sequence[Figure]
    findings: Sequence[PageFinding]
    hour: Timeline
    day: Timeline
    hindrances: Sequence[str]
    next: Sequence[UpcomingRow]
    next_left: int
    waits: Sequence[WaitRow]
    waits_left: int
    last: Sequence[HistoryRow] | None
    targets: Sequence[TargetSummary]
    is_empty: bool


def make_overview(gathered: OverviewData) -> Overview:
    """Make the page from its data.

    Evaluates schedules, and must therefore not run on the loop's thread.
    """
    status, now = gathered.status, gathered.status.at
    fires = list(
        islice(
            iterate_with_pauses(merge(*gathered.streams, key=itemgetter(0)), _PAUSE_EVERY), MAX_INSTANTS + 1
        )
    )
    cut = fires.pop()[0] if len(fires) > MAX_INSTANTS else None
    invalid = list(
        islice((automation for automation in gathered.invalid if automation.state == "invalid"), MAX_NEXT)
    )
    findings = list_findings(status, invalid, gathered.recent, gathered.failing, gathered.ledger_error)
    day = make_timeline(fires, DAY, now, cut)
    ends = {target.name: target.throttled_until for target in status.targets}
    following = [
        make_upcoming_row(instant, automation, now, ends.get(automation.target))
        for instant, automation in islice(flatten(fires), MAX_NEXT)
    ]
    firing = _find_next_fires(fires, ends)
    waits = list(islice(_make_wait_rows(gathered, now), MAX_WAITS))
    return Overview(
        status,
        now,
        _make_verdict(status, findings),
        list(_make_figures(gathered, day, _describe_next_fire(firing, ends, now))),
        findings,
        make_timeline(fires, HOUR, now, cut),
        day,
        [
            f"On target {target.name} {text}."
            for target in status.targets
            if (text := _describe_hindrance(target))
        ],
        following,
        day.count + day.paused - len(following),
        waits,
        sum(waits.count for waits in gathered.waits.values()) - len(waits),
        None
        if gathered.records is None
        else list(make_history_rows(gathered.records[:MAX_LAST], gathered.find_zone, now)),
        [
            _make_target_summary(
                target, firing.get(target.name), gathered.waits.get(target.name, _NO_WAITS), now
            )
            for target in status.targets
        ],
        bool(status.targets)
        and all(target.snapshot_at and not sum(target.automations.values()) for target in status.targets),
    )


def _find_next_fires(fires: Fires, ends: Mapping[str, datetime | None]) -> Mapping[str, datetime]:
    """Return for each target the due time of the first instant in the drawn day that fires.

    A paused automation does not fire, and no automation fires before the end of a throttle.
    """
    instants: dict[str, datetime] = {}
    for instant, automation in flatten(fires):
        if len(instants) == len(ends):
            break
        end = ends.get(automation.target)
        if (
            automation.state != "paused"
            and (end is None or instant >= end)
            and automation.target not in instants
        ):
            policies, schedule = automation.policies, automation.schedule
            instants[automation.target] = compute_due(
                policies, automation.target, automation.id, schedule, instant
            )
    return instants


def _describe_next_fire(
    firing: Mapping[str, datetime], ends: Mapping[str, datetime | None], now: datetime
) -> str:
    if firing:
        return DisplayTime(min(firing.values()), now).relative
    throttled = [end for end in ends.values() if end is not None]
    return f"not before {to_text_seconds(min(throttled))}" if throttled else "none within a day"


def _make_verdict(status: DaemonStatus, findings: Sequence[PageFinding]) -> OverviewVerdict:
    problems = list_missing(status)
    if status.stopping:
        return OverviewVerdict(
            "warn",
            "Stopping",
            "The daemon claims no more occurrences. The next start resolves the open ones.",
        )
    if problems and _is_starting(status):
        return OverviewVerdict(
            "warn", "Starting", f"{_make_sentence(problems)} This page shows when the daemon is ready."
        )
    if problems:
        return OverviewVerdict("bad", "Not ready", f"{_make_sentence(problems)} The remedies are below.")
    wrong = sum(finding.severity in {BAD, WARN} for finding in findings)
    if wrong:
        is_bad = any(finding.severity == BAD for finding in findings)
        things = "one thing needs" if wrong == 1 else f"{wrong} things need"
        tone, word = ("bad", "Needs attention") if is_bad else ("warn", "Ready")
        return OverviewVerdict(tone, word, f"{_describe_firing(status)} {things} attention.")
    return OverviewVerdict(
        "good",
        "Ready",
        "All is well: due occurrences fire." + (" Some automations are paused." if findings else ""),
    )


def _describe_firing(status: DaemonStatus) -> str:
    """Return the beginning of a sentence about the daemon's fires; the number of problems follows."""
    ends = [target.throttled_until for target in status.targets if target.throttled_until is not None]
    if not ends:
        return "Due occurrences fire, but"
    if len(ends) < len(status.targets):
        return "Due occurrences fire on targets that are not throttled, but"
    return f"Fires begin again at {to_text_seconds(min(ends))}, and"


def _is_starting(status: DaemonStatus) -> bool:
    """Return whether the daemon has only just started: no target is read yet, and nothing has failed."""
    if status.lock_holder or status.ledger_error or status.clock_in_doubt:
        return False
    return all(
        target.snapshot_at is None and not target.error and not target.held for target in status.targets
    )


def _make_sentence(problems: Sequence[str]) -> str:
    first = problems[0][:1].upper() + problems[0][1:]
    more = len(problems) - 1
    return f"{first}." if not more else f"{first}; and {more} more."


def _make_wait_rows(gathered: OverviewData, now: datetime) -> Iterator[WaitRow]:
    """Yield the waits of all targets, by due time."""
    ends = {target.name: target.throttled_until for target in gathered.status.targets}
    waits = [(wait, target) for target, waits in gathered.waits.items() for wait in waits.first]
    for wait, target in sorted(waits, key=lambda pair: (pair[0].due, pair[0].name)):
        yield make_wait_row(
            target, wait, now, gathered.find_zone(target, wait.automation_id), ends.get(target)
        )


def _make_figures(gathered: OverviewData, day: Timeline, next_fire: str) -> Iterator[Figure]:
    status, recent = gathered.status, gathered.recent
    yield Figure("next fire", next_fire, "plain")
    yield Figure("fires in the coming day", f"{'more than ' if day.cut else ''}{day.count:,}", "plain")
    open_ones = sum(sum(target.open.values()) for target in status.targets) + sum(
        waits.unclaimed for waits in gathered.waits.values()
    )
    yield Figure("open now", f"{open_ones:,}", "plain", "/occurrences?outcome=open")
    if recent is None:
        return
    for run_status in (RunStatus.FAILED, RunStatus.LOST):
        count = recent.failed_runs.get(run_status, 0)
        if count or run_status is RunStatus.FAILED:
            yield _make_day_figure(recent, run_status, count, f"/occurrences?run_status={run_status}")
    for outcome in Outcome:
        count = sum(tally.count for tally in recent.tallies if tally.outcome is outcome)
        if count or outcome is Outcome.ACCEPTED:
            yield _make_day_figure(recent, outcome, count, f"/occurrences?outcome={outcome}")


def _make_day_figure(recent: RecentActivity, what: Outcome | RunStatus, count: int, link: str) -> Figure:
    tone = TONES[what] if count else "plain"
    return Figure(f"{what} in the last day", f"{count:,}{'' if recent.complete else ' or more'}", tone, link)


def _make_target_summary(
    target: TargetStatus, next_fire: datetime | None, waits: WaitsStatus, now: datetime
) -> TargetSummary:
    """Return a target with words.

    ``next_fire`` is the due instant of the first fire in the coming day.
    """
    open_states = Counter(target.open)
    open_states[State.WAITING] += waits.unclaimed
    state, tone = "serving", "good"
    if target.held is not None:
        state, tone = "held", "bad"
    elif target.throttled_until is not None and (target.snapshot_at is None or not target.stale):
        state, tone = f"throttled until {to_text_seconds(target.throttled_until)}", "warn"
    elif target.snapshot_at is None:
        state, tone = ("not read yet", "warn") if target.error is None else ("cannot be read", "bad")
    elif target.stale:
        state, tone = "too old", "bad"
    elif target.error is not None:
        state, tone = "cannot be read now", "warn"
    return TargetSummary(
        target,
        state,
        tone,
        make_display_time(target.snapshot_at, now),
        make_display_time(_choose_next_fire(target, next_fire, now), now),
        _describe_hindrance(target),
        _describe_clock_offset(target.clock_offset),
        [(name, count) for name, count in target.automations.items() if count],
        [(str(state), count) for state, count in open_states.items() if count],
    )


def _choose_next_fire(target: TargetStatus, next_fire: datetime | None, now: datetime) -> datetime | None:
    """Return the next instant that fires.

    Beyond the drawn day any instant counts, unless automations of the target are paused.
    """
    is_beyond = (
        target.next_fire is not None
        and target.next_fire > now + LOOK_AHEAD
        and not target.automations.get("paused")
    )
    return target.next_fire if next_fire is None and is_beyond else next_fire


def _describe_hindrance(target: TargetStatus) -> str | None:
    """Return why nothing fires now on the target, for a reader of its next fire."""
    if target.held is not None:
        return "nothing fires while the target is held"
    if target.throttled_until is not None:
        return f"nothing fires before the throttle ends at {to_text_seconds(target.throttled_until)}"
    if target.is_paused:
        return "nothing fires: all enabled automations are paused"
    return None


def _describe_clock_offset(seconds: float | None) -> str | None:
    """Return the clock offset in words.

    Below a second the clocks agree, since HTTP dates have whole seconds.
    """
    if seconds is None:
        return None
    if abs(seconds) < 1:
        return "agrees within a second"
    return f"{describe_duration(abs(seconds))} {'ahead of' if seconds > 0 else 'behind'} this machine's"
