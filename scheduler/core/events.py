"""What happened, as frozen values. The daemon publishes them and names no observer; a log line, a metric and a page are made of them.

``name`` is the log event's, ``noun.past_participle``; an event without one is for metrics alone.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from scheduler.core.model import AttemptResult, Definition, Occurrence, Outcome, Reason, RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened once."""

    name: ClassVar[str | None] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStarted(Event):
    """The ledger is ours and open, and the targets are being served."""

    name: ClassVar = "daemon.started"
    node: str
    version: str
    targets: tuple[str, ...]
    croniter: str
    tzdata: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonWaiting(Event):
    """Another daemon holds the ledger's lock; this one fires nothing until it is free."""

    name: ClassVar = "daemon.waiting"
    holder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopping(Event):
    """No new claims from here on."""

    name: ClassVar = "daemon.stopping"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopped(Event):
    """The last word of a daemon. ``in_flight`` attempts had no answer yet and are found out at the next start."""

    name: ClassVar = "daemon.stopped"
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StopShortened(Event):
    """A stop ended before its last writes.

    ``attempts``: at most so many were never sent, which the ledger does not know. ``waits``: so many occurrences may lack a wait's end.
    """

    name: ClassVar = "stop.shortened"
    target: str
    attempts: int
    waits: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotTaken(Event):
    """The target's automations were read. ``incomplete``: three passes disagreed, so nothing was removed."""

    name: ClassVar = "snapshot.taken"
    target: str
    automations: int
    seconds: float
    incomplete: bool
    clock_offset: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFailed(Event):
    """The target's automations could not be read. ``first``: the poll before was good."""

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
    """An automation is seen for the first time, or again after it was removed."""

    name: ClassVar = "automation.added"
    definition: Definition | None
    effective_from: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationChanged(_AutomationEvent):
    """Its definition was edited."""

    name: ClassVar = "automation.changed"
    definition: Definition | None
    effective_from: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationRemoved(_AutomationEvent):
    """It is gone from the API."""

    name: ClassVar = "automation.removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationQuarantined(_AutomationEvent):
    """It cannot be evaluated, fires nothing, and costs nothing until it is edited."""

    name: ClassVar = "automation.quarantined"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationsUnidentified(Event):
    """The list holds ``count`` objects whose id cannot be read, others than before. They fire nothing, and keep anything from removal."""

    name: ClassVar = "automations.unidentified"
    target: str
    count: int
    objects: str | None  # what is known of the first of them


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationsDisappeared(Event):
    """More than half of the automations, ``count`` of so many, disappeared from the list within an hour."""

    name: ClassVar = "automations.disappeared"
    target: str
    count: int
    automations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDisagreed(Event):
    """The list contradicts itself, or the automations that it shows. Published once, with the first reason."""

    name: ClassVar = "list.disagreed"
    target: str
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAgreed(Event):
    """The list, which had contradicted itself since then, does not any more."""

    name: ClassVar = "list.agreed"
    target: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OccurrenceClaimed(Event):
    """An occurrence is ours, durably."""

    name: ClassVar = "occurrence.claimed"
    occurrence: Occurrence
    automation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OccurrenceOverdue(Event):
    """Occurrences, ``count`` of them new, should have their outcome by now and have none. Named is the first of the new ones."""

    name: ClassVar = "occurrence.overdue"
    occurrence: Occurrence
    automation: str
    state: str
    count: int
    overdue: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OccurrenceConcluded(Event):
    """An occurrence, or ``count`` consecutive ones with the same fate, got its outcome."""

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
    """Somebody asked for an occurrence that had its outcome, or was missing: it is to be started after all."""

    name: ClassVar = "occurrence.reopened"
    occurrence: Occurrence
    automation: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FireRefused(Event):
    """Somebody asked for an occurrence that is not to be made up for."""

    name: ClassVar = "fire.refused"
    occurrence: Occurrence
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFailed(Event):
    """A fault of the daemon itself while it carried an occurrence, which stays open and is tried again."""

    name: ClassVar = "occurrence.faulted"
    occurrence: Occurrence
    automation: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptBegun(Event):
    """An attempt's first byte is about to leave."""

    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded(Event):
    """An attempt was answered, or given up."""

    occurrence: Occurrence
    automation: str
    attempt: int
    result: AttemptResult
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(_AutomationEvent):
    """A run came to its end, or to the end of what can be known of it.

    ``scheduled_for`` is the instant of the occurrence that started the run, None for a run of another origin. ``duration`` counts seconds
    from the begin of the run to the reading that showed its end, None where nobody looked for long before that reading. ``gone``: the
    automation was deleted meanwhile.
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
    """Somebody else started a run of this automation; with ``scheduled_for``, so close to ours that a second scheduler may be firing it."""

    name: ClassVar = "run.foreign"
    run_id: str
    started_at: datetime | None
    scheduled_for: datetime | None = None
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDoubled(_AutomationEvent):
    """A foreign run that is most likely an attempt of ours, carried out after it was taken for not started."""

    name: ClassVar = "run.doubled"
    run_id: str
    started_at: datetime | None
    scheduled_for: datetime
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRestored(Event):
    """The newest runs of so many automations began before ``restored_at``, when the ledger was restored, and after its backup was made."""

    name: ClassVar = "ledger.restored"
    target: str
    runs: int
    restored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetHeld(Event):
    """Nothing will be sent to the target until its cause is mended."""

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
    """So many requests hang that `max_waiting` is full: further requests that hang hold places of `max_in_flight`."""

    name: ClassVar = "target.saturated"
    target: str
    hanging: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRelieved(Event):
    """Fewer requests than `max_waiting` have hung for some time. ``since``: when the target was saturated."""

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
    """The request budget has kept no occurrence waiting for some time. ``since``: when it began to."""

    name: ClassVar = "budget.recovered"
    target: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJumped(Event):
    """The wall clock moved by ``seconds`` more than time went by; ``suspended``: the machine slept for that long."""

    name: ClassVar = "clock.jumped"
    seconds: float
    suspended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFailed(Event):
    """A write did not become durable. ``first``: the one before was."""

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
    """The wake socket cannot be used: what a command changes takes effect at the next poll."""

    name: ClassVar = "wake.failed"
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCommitted(Event):
    """One transaction became durable."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReloading(Event):
    """The configuration is about to be read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReloaded(Event):
    """The configuration was read again; with an ``error`` the old one stays."""

    name: ClassVar = "config.reloaded"
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEnded(Event):
    """One request to a target. ``code`` is the HTTP status, or a word for what went wrong."""

    target: str
    endpoint: str
    code: str
    seconds: float
