"""Events as frozen values. The daemon publishes them and names no observer.

Log lines, metrics and pages are made of these events. ``name`` is the name of the log event,
``noun.past_participle``. An event without a name is for metrics only.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, dataclass_transform

from scheduler.core.model import AttemptResult, Definition, Occurrence, Outcome, Reason, RunStatus


@dataclass_transform(frozen_default=True, kw_only_default=True)
@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events. An event happened once. Each subclass is a frozen dataclass with keyword fields."""

    name: ClassVar[str | None]

    def __init_subclass__(cls, *, name: str | None = None) -> None:
        cls.name = name
        dataclass(frozen=True, kw_only=True)(cls)


class _TargetEvent(Event):
    target: str


class _AutomationEvent(_TargetEvent):
    automation_id: str
    automation: str


class _OccurrenceEvent(Event):
    occurrence: Occurrence
    automation: str


class DaemonStarted(Event, name="daemon.started"):
    """The daemon has opened the ledger, holds its lock, and serves the targets."""

    node: str
    version: str
    targets: tuple[str, ...]
    croniter: str
    tzdata: str


class DaemonWaiting(Event, name="daemon.waiting"):
    """Another daemon holds the ledger's lock. This daemon fires nothing until the lock is free."""

    holder: str


class DaemonStopping(Event, name="daemon.stopping"):
    """The daemon makes no new claims from now on."""

    reason: str


class DaemonStopped(Event, name="daemon.stopped"):
    """The last event of a daemon. ``in_flight`` attempts have no answer: the next start reconciles them."""

    in_flight: int


class StopShortened(_TargetEvent, name="stop.shortened"):
    """A stop ended before its last writes.

    ``attempts``: at most this number of attempts were never sent, and the ledger does not know that.
    ``waits``: this number of occurrences may lack the end of a wait.
    """

    attempts: int
    waits: int
    seconds: float


class SnapshotTaken(_TargetEvent, name="snapshot.taken"):
    """The target's automations were read. ``incomplete``: three passes disagreed, and nothing was removed."""

    automations: int
    seconds: float
    incomplete: bool
    clock_offset: float | None


class SnapshotFailed(_TargetEvent, name="snapshot.failed"):
    """The target's automations could not be read. ``first``: the previous poll was good."""

    error: str
    seconds: float
    first: bool


class AutomationAdded(_AutomationEvent, name="automation.added"):
    """An automation is seen for the first time, or again after its removal."""

    definition: Definition | None
    effective_from: datetime


class AutomationChanged(_AutomationEvent, name="automation.changed"):
    """The definition of an automation was edited."""

    definition: Definition | None
    effective_from: datetime


class AutomationRemoved(_AutomationEvent, name="automation.removed"):
    """An automation was removed: the API no longer has it."""


class AutomationQuarantined(_AutomationEvent, name="automation.quarantined"):
    """An automation cannot be evaluated. It fires nothing, and costs nothing until an edit."""

    reason: str


class AutomationsUnidentified(_TargetEvent, name="automations.unidentified"):
    """The list holds ``count`` objects with an unreadable id, different from before.

    These objects fire nothing, and keep every automation from removal.
    """

    count: int
    objects: str | None  # description of the first object, as far as known


class AutomationsDisappeared(_TargetEvent, name="automations.disappeared"):
    """More than half of the automations disappeared from the list within an hour.

    ``count`` of ``automations`` disappeared.
    """

    count: int
    automations: int


class ListDisagreed(_TargetEvent, name="list.disagreed"):
    """The list contradicts itself, or the automations in the list. Published once, with the first reason."""

    since: datetime
    reason: str


class ListAgreed(_TargetEvent, name="list.agreed"):
    """The list, which contradicted itself since ``since``, agrees again."""

    since: datetime


class OccurrenceClaimed(_OccurrenceEvent, name="occurrence.claimed"):
    """The claim of an occurrence is durable."""


class OccurrenceOverdue(_OccurrenceEvent, name="occurrence.overdue"):
    """Occurrences without an outcome became overdue.

    ``count`` of them are new, ``overdue`` is their total number. ``occurrence`` is the first new occurrence.
    """

    state: str
    count: int
    overdue: int


class OccurrenceConcluded(_OccurrenceEvent):
    """An occurrence, or ``count`` consecutive occurrences with the same outcome, got the outcome."""

    outcome: Outcome
    reason: Reason
    attempts: int = 0
    lateness: float | None = None  # seconds from due to the first byte
    kind: str | None = None  # of the lateness: on_time, catch_up, retry
    run_id: str | None = None
    error: str | None = None
    count: int = 1


class OccurrenceReopened(_OccurrenceEvent, name="occurrence.reopened"):
    """An operator asked to start an occurrence after all: it had an outcome, or had no row."""

    by: str


class FireRefused(Event, name="fire.refused"):
    """An operator asked for an occurrence that allows no backfill."""

    occurrence: Occurrence
    by: str
    reason: str


class DeliveryFailed(_OccurrenceEvent, name="occurrence.faulted"):
    """A fault of the daemon during a delivery. The occurrence stays open, and the daemon tries again."""

    error: Exception


class AttemptBegun(_TargetEvent):
    """The first byte of an attempt is about to be sent."""


class AttemptEnded(_OccurrenceEvent):
    """An attempt was answered or given up."""

    attempt: int
    result: AttemptResult
    seconds: float
    error: str | None


class RunFinished(_AutomationEvent, name="run.finished"):
    """A run has ended, or nothing more about the run can be known.

    ``scheduled_for`` is the instant of the occurrence that started the run, None for a run of another origin.
    ``duration`` is the number of seconds from the begin of the run to the reading that showed its end, None
    when the automation was not read for a long time before this reading. ``gone``: the automation was
    deleted in the meantime.
    """

    run_id: str
    status: RunStatus
    error: str | None
    scheduled_for: datetime | None = None
    duration: float | None = None
    gone: bool = False


class EarlierRunSeen(_AutomationEvent):
    """The newest run of an automation had ended before the daemon saw the automation for the first time."""

    status: RunStatus


class RunForeign(_AutomationEvent, name="run.foreign"):
    """A foreign run: neither an attempt nor `scheduler automations run` started the run.

    With ``scheduled_for``, the run began close to this occurrence: another scheduler may fire the automation.
    """

    run_id: str
    started_at: datetime | None
    scheduled_for: datetime | None = None
    hint: str


class RunDoubled(_AutomationEvent, name="run.doubled"):
    """A foreign run is most likely a late double: an attempt executed after it was taken for not started."""

    run_id: str
    started_at: datetime | None
    scheduled_for: datetime
    hint: str


class LedgerRestored(_TargetEvent, name="ledger.restored"):
    """The ledger was restored at ``restored_at``, and newest runs of automations are missing from the ledger.

    ``runs`` is the number of these runs: they began before ``restored_at`` and after the backup was made.
    """

    runs: int
    restored_at: datetime


class TargetHeld(_TargetEvent, name="target.held"):
    """The target is held: nothing is sent until an operator removes the cause."""

    error: str


class TargetThrottled(_TargetEvent, name="target.throttled"):
    """The API asked to send nothing for longer than a minute.

    Each process publishes each wait once, with its end.
    """

    until: datetime
    seconds: float


class TargetReleased(_TargetEvent, name="target.released"):
    """The target works again."""


class TargetSaturated(_TargetEvent, name="target.saturated"):
    """The hanging requests fill `max_waiting`: further hanging requests use places of `max_in_flight`."""

    hanging: int


class TargetRelieved(_TargetEvent, name="target.relieved"):
    """Fewer requests than `max_waiting` have been hanging for some time.

    ``since`` is the instant of the saturation.
    """

    since: datetime


class BudgetExhausted(_TargetEvent, name="budget.exhausted"):
    """The request budget keeps occurrences waiting."""

    waiting: int


class BudgetRecovered(_TargetEvent, name="budget.recovered"):
    """The request budget has kept no occurrence waiting for some time. ``since``: begin of the waits."""

    since: datetime


class ClockJumped(Event, name="clock.jumped"):
    """The wall clock moved by ``seconds`` more than the elapsed time.

    ``suspended``: the machine was suspended for this time.
    """

    seconds: float
    suspended: bool


class LedgerFailed(Event, name="ledger.failed"):
    """A write did not become durable. ``first``: the previous write was durable."""

    operation: str
    error: str
    first: bool


class LedgerRecovered(Event, name="ledger.recovered"):
    """Writes are durable again."""


class WakeFailed(Event, name="wake.failed"):
    """The wake socket cannot be used: changes by a command take effect at the next poll."""

    error: str


class LedgerCommitted(Event):
    """A transaction became durable."""

    seconds: float


class ConfigReloading(Event):
    """The configuration is about to be read again."""


class ConfigReloaded(Event, name="config.reloaded"):
    """The configuration was read again; with an ``error`` the old configuration stays in force."""

    error: str | None


class RequestEnded(_TargetEvent):
    """A request to a target ended. ``code`` is the HTTP status, or a word for the failure."""

    endpoint: str
    code: str
    seconds: float
