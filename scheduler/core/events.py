"""Events as frozen values. The daemon publishes them and names no observer.

Log lines, metrics and pages are made of these events. ``name`` is the name of the log event,
``noun.past_participle``. An event without a name is for metrics only.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from scheduler.core.model import AttemptResult, Definition, Occurrence, Outcome, Reason, RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events. An event happened once."""

    name: ClassVar[str | None] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStarted(Event):
    """The daemon has opened the ledger, holds its lock, and serves the targets."""

    name: ClassVar = "daemon.started"
    node: str
    version: str
    targets: tuple[str, ...]
    croniter: str
    tzdata: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonWaiting(Event):
    """Another daemon holds the ledger's lock. This daemon fires nothing until the lock is free."""

    name: ClassVar = "daemon.waiting"
    holder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopping(Event):
    """The daemon makes no new claims from now on."""

    name: ClassVar = "daemon.stopping"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopped(Event):
    """The last event of a daemon. ``in_flight`` attempts have no answer: the next start reconciles them."""

    name: ClassVar = "daemon.stopped"
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StopShortened(Event):
    """A stop ended before its last writes.

    ``attempts``: at most this number of attempts were never sent, and the ledger does not know that.
    ``waits``: this number of occurrences may lack the end of a wait.
    """

    name: ClassVar = "stop.shortened"
    target: str
    attempts: int
    waits: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotTaken(Event):
    """The target's automations were read. ``incomplete``: three passes disagreed, and nothing was removed."""

    name: ClassVar = "snapshot.taken"
    target: str
    automations: int
    seconds: float
    incomplete: bool
    clock_offset: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFailed(Event):
    """The target's automations could not be read. ``first``: the previous poll was good."""

    name: ClassVar = "snapshot.failed"
    target: str
    error: str
    seconds: float
    first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _AutomationEvent(Event):
    target: str
    automation_id: str
    automation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationAdded(_AutomationEvent):
    """An automation is seen for the first time, or again after its removal."""

    name: ClassVar = "automation.added"
    definition: Definition | None
    effective_from: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationChanged(_AutomationEvent):
    """The definition of an automation was edited."""

    name: ClassVar = "automation.changed"
    definition: Definition | None
    effective_from: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationRemoved(_AutomationEvent):
    """An automation was removed: the API no longer has it."""

    name: ClassVar = "automation.removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationQuarantined(_AutomationEvent):
    """An automation cannot be evaluated. It fires nothing, and costs nothing until an edit."""

    name: ClassVar = "automation.quarantined"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationsUnidentified(Event):
    """The list holds ``count`` objects with an unreadable id, different from before.

    These objects fire nothing, and keep every automation from removal.
    """

    name: ClassVar = "automations.unidentified"
    target: str
    count: int
    objects: str | None  # description of the first object, as far as known


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationsDisappeared(Event):
    """More than half of the automations disappeared from the list within an hour.

    ``count`` of ``automations`` disappeared.
    """

    name: ClassVar = "automations.disappeared"
    target: str
    count: int
    automations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDisagreed(Event):
    """The list contradicts itself, or the automations in the list. Published once, with the first reason."""

    name: ClassVar = "list.disagreed"
    target: str
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAgreed(Event):
    """The list, which contradicted itself since ``since``, agrees again."""

    name: ClassVar = "list.agreed"
    target: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OccurrenceClaimed(Event):
    """The claim of an occurrence is durable."""

    name: ClassVar = "occurrence.claimed"
    occurrence: Occurrence
    automation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OccurrenceOverdue(Event):
    """Occurrences without an outcome became overdue.

    ``count`` of them are new, ``overdue`` is their total number. ``occurrence`` is the first new occurrence.
    """

    name: ClassVar = "occurrence.overdue"
    occurrence: Occurrence
    automation: str
    state: str
    count: int
    overdue: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OccurrenceConcluded(Event):
    """An occurrence, or ``count`` consecutive occurrences with the same outcome, got the outcome."""

    occurrence: Occurrence
    automation: str
    outcome: Outcome
    reason: Reason
    attempts: int = 0
    lateness: float | None = None  # seconds from due to the first byte
    kind: str | None = None  # of the lateness: on_time, catch_up, retry
    run_id: str | None = None
    error: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OccurrenceReopened(Event):
    """An operator asked to start an occurrence after all: it had an outcome, or had no row."""

    name: ClassVar = "occurrence.reopened"
    occurrence: Occurrence
    automation: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FireRefused(Event):
    """An operator asked for an occurrence that allows no backfill."""

    name: ClassVar = "fire.refused"
    occurrence: Occurrence
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFailed(Event):
    """A fault of the daemon during a delivery. The occurrence stays open, and the daemon tries again."""

    name: ClassVar = "occurrence.faulted"
    occurrence: Occurrence
    automation: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptBegun(Event):
    """The first byte of an attempt is about to be sent."""

    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded(Event):
    """An attempt was answered or given up."""

    occurrence: Occurrence
    automation: str
    attempt: int
    result: AttemptResult
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(_AutomationEvent):
    """A run has ended, or nothing more about the run can be known.

    ``scheduled_for`` is the instant of the occurrence that started the run, None for a run of another origin.
    ``duration`` is the number of seconds from the begin of the run to the reading that showed its end, None
    when the automation was not read for a long time before this reading. ``gone``: the automation was
    deleted in the meantime.
    """

    name: ClassVar = "run.finished"
    run_id: str
    status: RunStatus
    error: str | None
    scheduled_for: datetime | None = None
    duration: float | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierRunSeen(_AutomationEvent):
    """The newest run of an automation had ended before the daemon saw the automation for the first time."""

    status: RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RunForeign(_AutomationEvent):
    """A foreign run: neither an attempt nor `scheduler automations run` started the run.

    With ``scheduled_for``, the run began close to this occurrence: another scheduler may fire the automation.
    """

    name: ClassVar = "run.foreign"
    run_id: str
    started_at: datetime | None
    scheduled_for: datetime | None = None
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDoubled(_AutomationEvent):
    """A foreign run is most likely a late double: an attempt executed after it was taken for not started."""

    name: ClassVar = "run.doubled"
    run_id: str
    started_at: datetime | None
    scheduled_for: datetime
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRestored(Event):
    """The ledger was restored at ``restored_at``, and newest runs of automations are missing from the ledger.

    ``runs`` is the number of these runs: they began before ``restored_at`` and after the backup was made.
    """

    name: ClassVar = "ledger.restored"
    target: str
    runs: int
    restored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetHeld(Event):
    """The target is held: nothing is sent until an operator removes the cause."""

    name: ClassVar = "target.held"
    target: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetThrottled(Event):
    """The API asked to send nothing for longer than a minute.

    Each process publishes each wait once, with its end.
    """

    name: ClassVar = "target.throttled"
    target: str
    until: datetime
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReleased(Event):
    """The target works again."""

    name: ClassVar = "target.released"
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSaturated(Event):
    """The hanging requests fill `max_waiting`: further hanging requests use places of `max_in_flight`."""

    name: ClassVar = "target.saturated"
    target: str
    hanging: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRelieved(Event):
    """Fewer requests than `max_waiting` have been hanging for some time.

    ``since`` is the instant of the saturation.
    """

    name: ClassVar = "target.relieved"
    target: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetExhausted(Event):
    """The request budget keeps occurrences waiting."""

    name: ClassVar = "budget.exhausted"
    target: str
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRecovered(Event):
    """The request budget has kept no occurrence waiting for some time. ``since``: begin of the waits."""

    name: ClassVar = "budget.recovered"
    target: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJumped(Event):
    """The wall clock moved by ``seconds`` more than the elapsed time.

    ``suspended``: the machine was suspended for this time.
    """

    name: ClassVar = "clock.jumped"
    seconds: float
    suspended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFailed(Event):
    """A write did not become durable. ``first``: the previous write was durable."""

    name: ClassVar = "ledger.failed"
    operation: str
    error: str
    first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRecovered(Event):
    """Writes are durable again."""

    name: ClassVar = "ledger.recovered"


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeFailed(Event):
    """The wake socket cannot be used: changes by a command take effect at the next poll."""

    name: ClassVar = "wake.failed"
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCommitted(Event):
    """A transaction became durable."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReloading(Event):
    """The configuration is about to be read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReloaded(Event):
    """The configuration was read again; with an ``error`` the old configuration stays in force."""

    name: ClassVar = "config.reloaded"
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEnded(Event):
    """A request to a target ended. ``code`` is the HTTP status, or a word for the failure."""

    target: str
    endpoint: str
    code: str
    seconds: float
