"""The state of a running daemon at one instant, as values: what gauges, health checks and pages are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from scheduler.core.cron import Schedule
from scheduler.core.instants import to_text_seconds
from scheduler.core.model import Automation, Outcome, Reason, RunStatus, State
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import Policies

STALLED_AFTER: Final = 15.0
"""Seconds after which a loop that should have made progress counts as hanging: the event loop, or a planner's."""
MOST_NAMED: Final = 100
"""Overdue occurrences of a target that are named; of the others only the number is known."""


@dataclass(frozen=True, slots=True)
class AutomationStatus:
    """One automation, for the metrics that are kept for each."""

    automation_id: str
    name: str
    cron_expression: str
    timezone: str
    next_fire: datetime | None


@dataclass(frozen=True, slots=True)
class AutomationDetails:
    """All that is known of one automation. ``state`` is enabled, disabled, paused or invalid.

    ``invalid`` is why it cannot be evaluated; ``schedule`` is None as well while it is disabled. ``paused_by_hand``: `scheduler pause` has
    paused it, or everything; its ``policies`` may pause it too.
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

    @property
    def id(self) -> str:
        """The automation's."""
        return self.automation.id

    @property
    def name(self) -> str:
        """As the API last showed it: hostile until escaped."""
        return self.automation.name

    @property
    def timezone(self) -> str:
        """The name of its zone, which need not be one that there is."""
        return self.automation.definition.timezone


@dataclass(frozen=True, slots=True)
class OutcomeTally:
    """How many occurrences of a target had this outcome for this reason, and when the newest was scheduled."""

    target: str
    outcome: Outcome
    reason: Reason
    count: int
    newest: datetime


@dataclass(frozen=True, slots=True)
class RunOutputTail:
    """The end of what a run has printed, and the size of all of it in bytes. ``error``: why the output could not be read."""

    size: int | None = None
    text: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignRunTally:
    """Runs of an automation that somebody else started; ``doubled`` of them are most likely attempts of ours, carried out late."""

    target: str
    automation_id: str
    name: str
    count: int
    doubled: int
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """The newest finished run of an automation. ``status`` is success, failed or lost; ``failures`` runs up to this run failed in a row.

    ``finished_at`` is when the end of the run was seen. Of a run that ended before the daemon first saw the automation, it is
    when the run began. ``error`` is the last line of the API's words.
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
        """Return what became of the run, and which failure in a row that is."""
        text = "was lost" if self.status is RunStatus.LOST else "failed" if self.status is RunStatus.FAILED else "succeeded"
        return f"{text}, {self.failures:,} failures in a row" if self.failures > 1 else text


@dataclass(frozen=True, slots=True)
class FailingAutomations:
    """The failing automations, whose newest finished run failed or was lost: how many of each target, and the runs that ended last."""

    counts: Mapping[str, int]
    newest: Sequence[FinishedRun]

    @property
    def count(self) -> int:
        """Return the number of failing automations of all targets."""
        return sum(self.counts.values())


NONE_FAILING: Final = FailingAutomations({}, ())


@dataclass(frozen=True, slots=True)
class OperatorPause:
    """What `scheduler pause` paused, since when, and whoever asked for it. ``automation_id`` None: all of the target."""

    target: str
    automation_id: str | None
    name: str
    since: datetime
    by: str


@dataclass(frozen=True, slots=True)
class RecentActivity:
    """What the ledger holds since an instant; not ``complete`` when there was more than is gone through.

    ``failed_runs`` counts the runs that were seen to fail, and those that were lost, by their status.
    """

    since: datetime
    complete: bool
    tallies: Sequence[OutcomeTally]
    foreign: Sequence[ForeignRunTally]
    pauses: Sequence[OperatorPause]
    failed_runs: Mapping[RunStatus, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BacklogStatus:
    """A past that is not on record yet: of so many automations, within these bounds. The present is planned all the same."""

    automations: int
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class WaitStatus:
    """An occurrence that has no outcome yet, the cause for which it waits now, and since when. ``detail`` is an error, an instant or the id of a run.

    The occurrence expires at the ``deadline``; None: nobody knows it here.
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
        """Say that the occurrence expires before the throttle of its target ends; None when it does not, or nobody knows."""
        is_sent = self.cause in {Cause.ANSWER, Cause.OUTCOME}
        return None if is_sent or self.deadline is None else describe_expiry(self.deadline, throttled_until)


def describe_expiry(deadline: datetime, throttled_until: datetime | None) -> str | None:
    """Say that an occurrence with this deadline expires before the throttle ends; None when it does not expire so early."""
    if throttled_until is None or deadline >= throttled_until:
        return None
    return f"expires at {to_text_seconds(deadline)}, before the throttle ends at {to_text_seconds(throttled_until)}"


@dataclass(frozen=True, slots=True)
class WaitsStatus:
    """The occurrences of a target that have no outcome yet: how many wait for each cause, and the first `MOST_NAMED` by due time.

    ``unclaimed`` is the number of those that have no row yet.
    """

    causes: Mapping[Cause, int] = field(default_factory=dict)
    first: Sequence[WaitStatus] = ()
    unclaimed: int = 0

    @property
    def count(self) -> int:
        """The number of all of them."""
        return sum(self.causes.values())


@dataclass(frozen=True, slots=True)
class PlacesStatus:
    """How many occurrences wait for a place to be sent, and how many requests hang.

    ``exhausted_since`` is since when the request budget keeps occurrences or polls waiting, ``saturated_since`` since when as many
    requests hang as `max_waiting` allows; None: they do not.
    """

    waiting: int = 0
    hanging: int = 0
    exhausted_since: datetime | None = None
    saturated_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Disappearance:
    """More than half of the automations disappeared from the list within an hour: ``gone`` of the ``known`` ones."""

    at: datetime
    gone: int
    known: int


@dataclass(frozen=True, slots=True)
class Inconsistency:
    """Why the list of a target cannot be trusted, and the instant of the first reading that showed so."""

    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target. ``held`` is why nothing is sent to it; ``error`` is why its last poll failed.

    ``planned``: what is due has been planned at least once. ``stalled_for``: seconds without progress of planning although something is
    due. ``overdue`` names the first `MOST_NAMED` of ``overdue_count`` overdue occurrences: which, and their state.
    ``throttled_until`` is the end of the wait that the API asked for; None: no wait.
    ``unidentified`` objects of the list have no readable id; ``anonymous`` is what is known of the first of them. ``absent`` automations
    are not in the list, and not removed yet. ``open`` counts the open occurrences with a row; ``before_due`` those without a row, between
    their instant and their due time.
    """

    name: str
    url: str
    project_id: str
    held: str | None
    error: str | None
    snapshot_at: datetime | None
    stale: bool
    automations: Mapping[str, int]  # by enabled, disabled, paused, invalid
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
    """The daemon. ``lock_holder`` names another daemon that holds the ledger; ``ledger_error`` is why it cannot be written."""

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
    def is_ready(self) -> bool:
        """Whether everything is there that firing needs."""
        return bool(self.targets) and not self.problems

    @property
    def problems(self) -> list[str]:
        """What keeps the daemon from doing its work, in words; empty when it is ready."""
        problems = []
        if self.lock_holder is not None:
            problems.append(f"the ledger is held by {self.lock_holder}")
        if self.ledger_error is not None:
            problems.append(f"the ledger cannot be written: {self.ledger_error}")
        if self.clock_in_doubt:
            problems.append("the clock stepped forward, or shows less than the ledger has seen, and no API has confirmed it yet")
        if self.stopping:
            problems.append("stopping")
        is_explained = bool(problems)
        for target in self.targets:
            problems.extend(_find_target_problems(target) or ([] if is_explained else _find_planning_problems(target)))
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
        return [f"target {target.name} has planned nothing for {target.stalled_for:.0f} s although something is due"]
    if not target.planned:
        return [f"target {target.name} has not planned yet what is due"]
    return []
