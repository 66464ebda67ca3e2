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
from scheduler.core.status import AutomationDetails, DaemonStatus, RecentActivity, TargetStatus, WaitsStatus
from scheduler.ops.page.findings import BAD, WARN, LedgerReading, PageFinding, list_findings
from scheduler.ops.page.renderer import iterate_with_pauses
from scheduler.ops.page.rows import (
    Notice,
    WaitRow,
    Zones,
    get_tone,
    make_history_rows,
    make_upcoming_row,
    make_wait_row,
)
from scheduler.ops.page.timeline import DAY, HOUR, Fires, Timeline, flatten, make_timeline
from scheduler.ops.page.times import DisplayTime, make_display_time
from scheduler.ops.views import Json

LOOK_AHEAD: Final = DAY.span
MAX_INSTANTS: Final = 30_000
"""Limit for the evaluated instants of one drawing.

The evaluation takes some tens of milliseconds, on another thread.
"""
_PAUSE_EVERY: Final = 10  # items, which take some tenths of a millisecond
MAX_NEXT: Final = 10
MAX_WAITS: Final = 20
MAX_LAST: Final = 12

FireStream = Iterator[tuple[datetime, Sequence[AutomationDetails]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewData:
    """The data for the page at the time of the request."""

    status: DaemonStatus
    streams: Sequence[FireStream]
    invalid: Iterator[AutomationDetails]
    zones: Zones
    waits: Mapping[str, WaitsStatus]
    records: Sequence[Json] | None
    ledger: LedgerReading


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
    open: Sequence[tuple[str, int]]


def make_overview(gathered: OverviewData) -> Mapping[str, object]:
    """Return the parts of the page.

    Evaluates schedules, and must therefore not run on the loop's thread.
    """
    status, now, throttles = gathered.status, gathered.status.at, gathered.status.throttles
    fires, cut = _read_fires(gathered.streams)
    invalid = (automation for automation in gathered.invalid if automation.state == "invalid")
    findings = list_findings(status, list(islice(invalid, MAX_NEXT)), gathered.ledger)
    day = make_timeline(fires, DAY, now, cut)
    firing = _find_next_fires(fires, status)
    following = [
        make_upcoming_row(instant, automation, now, throttles.get(automation.target))
        for instant, automation in islice(flatten(fires), MAX_NEXT)
    ]
    waits = list(islice(_make_wait_rows(gathered), MAX_WAITS))
    records = gathered.records
    return {
        "verdict": _make_verdict(status, findings),
        "figures": list(_make_figures(gathered, day, _describe_next_fire(firing, status))),
        "findings": findings,
        "hour": make_timeline(fires, HOUR, now, cut),
        "day": day,
        "next": following,
        "next_left": day.count + day.paused - len(following),
        "waits": waits,
        "waits_left": sum(waits.count for waits in gathered.waits.values()) - len(waits),
        "last": None if records is None else list(make_history_rows(records, gathered.zones, now)),
        "targets": [
            _make_target_summary(target, firing.get(target.name), gathered.waits[target.name], now)
            for target in status.targets
        ],
        "is_empty": bool(status.targets)
        and all(target.snapshot_at and not sum(target.automations.values()) for target in status.targets),
    }


def _read_fires(streams: Sequence[FireStream]) -> tuple[Fires, datetime | None]:
    """Return the fires of all streams in order, and the instant after which fires are left out."""
    merged = iterate_with_pauses(merge(*streams, key=itemgetter(0)), _PAUSE_EVERY)
    fires = list(islice(merged, MAX_INSTANTS + 1))
    return fires, fires.pop()[0] if len(fires) > MAX_INSTANTS else None


def _find_next_fires(fires: Fires, status: DaemonStatus) -> Mapping[str, datetime]:
    """Return for each target the due time of the first instant in the drawn day that fires.

    A paused automation does not fire, and no automation fires before the end of a throttle.
    """
    throttles, instants = status.throttles, dict[str, datetime]()
    for instant, automation in flatten(fires):
        if len(instants) == len(status.targets):
            break
        target = automation.target
        is_throttled = target in throttles and instant < throttles[target]
        if target not in instants and automation.state != "paused" and not is_throttled:
            policies, schedule = automation.policies, automation.schedule
            instants[target] = compute_due(policies, target, automation.id, schedule, instant)
    return instants


def _describe_next_fire(firing: Mapping[str, datetime], status: DaemonStatus) -> str:
    if firing:
        return DisplayTime(min(firing.values()), status.at).relative
    if status.throttles:
        return f"not before {to_text_seconds(min(status.throttles.values()))}"
    return "none within a day"


def _make_verdict(status: DaemonStatus, findings: Sequence[PageFinding]) -> Notice:
    problems = status.problems
    if status.stopping:
        sentence = "The daemon claims no more occurrences. The next start resolves the open ones."
        return Notice("warn", "Stopping", sentence)
    if problems and _is_starting(status):
        sentence = f"{_make_sentence(problems)} This page shows when the daemon is ready."
        return Notice("warn", "Starting", sentence)
    if problems:
        return Notice("bad", "Not ready", f"{_make_sentence(problems)} The remedies are below.")
    wrong = [finding for finding in findings if finding.severity in {BAD, WARN}]
    if not wrong:
        paused = " Some automations are paused." if findings else ""
        return Notice("good", "Ready", f"All is well: due occurrences fire.{paused}")
    things = "one thing needs" if len(wrong) == 1 else f"{len(wrong)} things need"
    is_bad = any(finding.severity == BAD for finding in wrong)
    tone, word = ("bad", "Needs attention") if is_bad else ("warn", "Ready")
    return Notice(tone, word, f"{_describe_firing(status)} {things} attention.")


def _describe_firing(status: DaemonStatus) -> str:
    """Return the beginning of a sentence about the daemon's fires; the number of problems follows."""
    throttles = status.throttles
    if not throttles:
        return "Due occurrences fire, but"
    if len(throttles) < len(status.targets):
        return "Due occurrences fire on targets that are not throttled, but"
    return f"Fires begin again at {to_text_seconds(min(throttles.values()))}, and"


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


def _make_wait_rows(gathered: OverviewData) -> Iterator[WaitRow]:
    """Yield the waits of all targets, by due time."""
    throttles = gathered.status.throttles
    waits = [(wait, target) for target, waits in gathered.waits.items() for wait in waits.first]
    for wait, target in sorted(waits, key=lambda pair: (pair[0].due, pair[0].name)):
        zone = gathered.zones.get((target, wait.automation_id))
        yield make_wait_row(target, wait, gathered.status.at, zone, throttles.get(target))


def _make_figures(gathered: OverviewData, day: Timeline, next_fire: str) -> Iterator[Figure]:
    status, recent = gathered.status, gathered.ledger.recent
    yield Figure("next fire", next_fire, "plain")
    yield Figure("fires in the coming day", f"{'more than ' if day.cut else ''}{day.count:,}", "plain")
    claimed = sum(sum(target.open.values()) for target in status.targets)
    open_ones = claimed + sum(waits.unclaimed for waits in gathered.waits.values())
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
    tone = get_tone(what) if count else "plain"
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
