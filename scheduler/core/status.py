"""The state of a running daemon at one instant, as values for gauges, health checks and pages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from scheduler.core.cron.schedule import Schedule
from scheduler.core.instants import to_text_seconds
from scheduler.core.model import Automation, Outcome, Reason, RunStatus, State
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import Policies

_RESULTS: Final = {RunStatus.SUCCESS: "succeeded", RunStatus.FAILED: "failed", RunStatus.LOST: "was lost"}
STALLED_AFTER: Final = 15.0
"""Seconds without progress after which the event loop, or the loop of a planner, counts as hanging."""
AUTOMATION_STATES: Final = ("enabled", "disabled", "paused", "invalid")
"""The possible values of `AutomationDetails.state`."""
MOST_NAMED: Final = 100
"""Most overdue occurrences of a target to name; of the others only the number is known."""


@dataclass(frozen=True, slots=True)
class AutomationDetails:
    """All known facts of an automation. ``state`` is one of `AUTOMATION_STATES`.

    ``invalid`` is the reason why the definition cannot be evaluated. ``schedule`` is None for an invalid or
    disabled automation. ``paused_by_hand``: `scheduler pause` paused the automation, or everything. The
    ``policies`` may pause the automation too. ``parse`` makes a schedule of an expression and a zone, by the
    configured rules for clock changes.
    """

    target: str
    automation: Automation
    state: str
    invalid: str | None
    paused_by_hand: bool
    policies: Policies
    schedule: Schedule | None
    next_fire: datetime | None
    effective_from: datetime
    parse: Callable[[str, str], Schedule] = field(compare=False)

    @property
    def id(self) -> str:
        """Id of the automation."""
        return self.automation.id

    @property
    def name(self) -> str:
        """Name as last shown by the API: hostile until escaped."""
        return self.automation.name

    @property
    def timezone(self) -> str:
        """Name of the time zone, which need not exist."""
        return self.automation.definition.timezone


@dataclass(frozen=True, slots=True)
class OutcomeTally:
    """The number of a target's occurrences with an outcome and reason, and the newest scheduled instant."""

    target: str
    outcome: Outcome
    reason: Reason
    count: int
    newest: datetime


@dataclass(frozen=True, slots=True)
class RunOutputTail:
    """The end of a run's output, and the size of the whole output in bytes.

    ``error`` is the reason why the output could not be read.
    """

    size: int | None = None
    text: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignRunTally:
    """Foreign runs of an automation. ``doubled`` of them are most likely late doubles."""

    target: str
    automation_id: str
    name: str
    count: int
    doubled: int
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """The newest finished run of an automation. ``status`` is success, failed or lost.

    ``failures`` is the number of failed runs in a row up to this run. ``finished_at`` is the instant at which
    the end of the run was seen; for a run that ended before the daemon first saw the automation, the begin of
    the run. ``error`` is the last line of the API's error text.
    """

    target: str
    automation_id: str
    name: str
    run_id: str
    status: RunStatus
    finished_at: datetime
    failures: int
    error: str | None

    @property
    def description(self) -> str:
        """Result of the run, with the number of failures in a row when there are several."""
        text = _RESULTS[self.status]
        return f"{text}, {self.failures:,} failures in a row" if self.failures > 1 else text


@dataclass(frozen=True, slots=True)
class FailingAutomations:
    """The failing automations: the number for each target, and the newest finished runs.

    The newest finished run of a failing automation failed or was lost.
    """

    counts: Mapping[str, int]
    newest: Sequence[FinishedRun]

    @property
    def count(self) -> int:
        """Number of failing automations of all targets."""
        return sum(self.counts.values())


NONE_FAILING: Final = FailingAutomations({}, ())


@dataclass(frozen=True, slots=True)
class OperatorPause:
    """An operator's pause, with its begin and the operator. ``automation_id`` None: the whole target."""

    target: str
    automation_id: str | None
    name: str
    since: datetime
    by: str
    timezone: str | None = None  # of the automation


@dataclass(frozen=True, slots=True)
class RecentActivity:
    """The activity in the ledger since an instant; not ``complete`` when the ledger holds more than is read.

    ``failed_runs`` counts the failed runs and the lost runs, by status.
    """

    since: datetime
    complete: bool
    tallies: Sequence[OutcomeTally]
    foreign: Sequence[ForeignRunTally]
    pauses: Sequence[OperatorPause]
    failed_runs: Mapping[RunStatus, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BacklogStatus:
    """The undecided past: its bounds and the number of automations. The present is planned all the same."""

    automations: int
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class WaitStatus:
    """An occurrence without an outcome, the cause of its present wait, and the begin of the wait.

    ``detail`` is an error, an instant or the id of a run.
    The occurrence expires at the ``deadline``; None: unknown here.
    """

    automation_id: str
    name: str
    scheduled_for: datetime
    due: datetime
    cause: Cause
    since: datetime
    detail: str | None = None
    deadline: datetime | None = None

    def describe_expiry(self, throttled_until: datetime | None) -> str | None:
        """Return a text when the occurrence expires before its target's throttle ends; otherwise None.

        Also return None for an unknown deadline, and for an occurrence whose request was sent.
        """
        is_sent = self.cause in {Cause.ANSWER, Cause.OUTCOME}
        return None if is_sent or self.deadline is None else describe_expiry(self.deadline, throttled_until)


def describe_expiry(deadline: datetime, throttled_until: datetime | None) -> str | None:
    """Return a text when an occurrence with this deadline expires before the throttle ends, else None."""
    if throttled_until is None or deadline >= throttled_until:
        return None
    return (
        f"expires at {to_text_seconds(deadline)}, "
        f"before the throttle ends at {to_text_seconds(throttled_until)}"
    )


@dataclass(frozen=True, slots=True)
class WaitsStatus:
    """The occurrences of a target without an outcome: the number for each cause, and the first by due time.

    ``first`` has at most `MOST_NAMED` occurrences. ``unclaimed`` is the number of occurrences without a row.
    """

    causes: Mapping[Cause, int] = field(default_factory=dict)
    first: Sequence[WaitStatus] = ()
    unclaimed: int = 0

    @property
    def count(self) -> int:
        """Number of all occurrences without an outcome."""
        return sum(self.causes.values())


@dataclass(frozen=True, slots=True)
class PlacesStatus:
    """The number of occurrences waiting for a place, and the number of hanging requests.

    ``exhausted_since`` is the instant since which the request budget keeps occurrences or polls waiting.
    ``saturated_since`` is the instant since which as many requests hang as `max_waiting` allows. None: no
    such time.
    """

    waiting: int = 0
    hanging: int = 0
    exhausted_since: datetime | None = None
    saturated_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Disappearance:
    """More than half of the automations disappeared from the list within an hour: ``gone`` of ``known``."""

    at: datetime
    gone: int
    known: int


@dataclass(frozen=True, slots=True)
class Inconsistency:
    """The reason why a target's list cannot be trusted, and the instant of the first such reading."""

    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """The state of a target. ``held`` is why nothing is sent; ``error`` is why its last poll failed.

    ``planned``: the due fire times have been planned at least once. ``stalled_for``: seconds without progress
    of planning although something is due. ``overdue`` describes the first `MOST_NAMED` of ``overdue_count``
    overdue occurrences, with their state. ``throttled_until`` is the end of the wait requested by the API;
    None: no wait. ``unidentified`` is the number of objects in the list without a readable id; ``anonymous``
    describes the first of these objects. ``absent`` counts automations missing from the list but not removed
    yet. ``open`` counts the open occurrences with a row. ``before_due`` counts the occurrences without a row
    between their instant and their due time.
    """

    name: str
    url: str
    project_id: str
    held: str | None
    error: str | None
    snapshot_at: datetime | None
    stale: bool
    automations: Mapping[str, int]  # number by enabled, disabled, paused, invalid
    open: Mapping[State, int]
    in_flight: int
    planned: bool
    stalled_for: float
    overdue: Sequence[str]
    overdue_count: int
    next_fire: datetime | None
    clock_offset: float | None
    throttled_until: datetime | None = None
    recovering: BacklogStatus | None = None
    places: PlacesStatus = PlacesStatus()
    unidentified: int = 0
    anonymous: Sequence[str] = ()
    absent: int = 0
    disappeared: Disappearance | None = None
    inconsistent: Inconsistency | None = None
    before_due: int = 0

    @property
    def is_paused(self) -> bool:
        """Whether the target has enabled automations and all of them are paused."""
        return bool(self.automations.get("paused")) and not self.automations.get("enabled")


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The state of the daemon.

    ``lock_holder`` names another daemon that holds the ledger. ``ledger_error`` is why the ledger cannot be
    written.
    """

    node: str
    version: str
    at: datetime
    started_at: datetime
    lock_holder: str | None
    ledger_error: str | None
    clock_in_doubt: bool
    stopping: bool
    targets: Sequence[TargetStatus]

    @property
    def throttles(self) -> Mapping[str, datetime]:
        """The end of the wait of each throttled target."""
        return {
            target.name: target.throttled_until
            for target in self.targets
            if target.throttled_until is not None
        }

    @property
    def problems(self) -> list[str]:
        """Sentences about the problems that keep the daemon from its work; empty when it is ready."""
        problems = []
        if self.lock_holder is not None:
            problems.append(f"the ledger is held by {self.lock_holder}")
        if self.ledger_error is not None:
            problems.append(f"the ledger cannot be written: {self.ledger_error}")
        if self.clock_in_doubt:
            problems.append(
                "the clock stepped forward, or shows less than the ledger has seen, "
                "and no API has confirmed it yet"
            )
        if self.stopping:
            problems.append("stopping")
        is_explained = bool(problems)
        if not self.targets and not is_explained:
            problems.append("no target is served yet")
        for target in self.targets:
            problems.extend(
                _find_target_problems(target) or ([] if is_explained else _find_planning_problems(target))
            )
        return problems


def _find_target_problems(target: TargetStatus) -> list[str]:
    if target.held is not None:
        return [f"target {target.name} is held: {target.held}"]
    if target.snapshot_at is None:
        return [f"target {target.name} has no snapshot yet" + (f": {target.error}" if target.error else "")]
    if target.stale:
        why = target.error or "it could not be read since"
        return [f"target {target.name} has no snapshot newer than stale_limit: {why}"]
    return []


def _find_planning_problems(target: TargetStatus) -> list[str]:
    if target.stalled_for >= STALLED_AFTER:
        passed = f"{target.stalled_for:.0f} s"
        return [f"target {target.name} has planned nothing for {passed} although something is due"]
    if not target.planned:
        return [f"target {target.name} has not planned yet what is due"]
    return []
