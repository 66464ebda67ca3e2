"""The input and the result of a decision about a delivery: the facts, and the actions.

`DeliveryFacts` has everything that a decision depends on besides the delivery. Places of the budget are
reserved and released by actions and never counted as facts: between a look at the budget and its use, another
delivery may take the place. `scheduler.core.admission` decides, and `scheduler.daemon.sender` performs the
actions.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import dataclass_transform

from scheduler.core.model import Attempt, Automation, Conclusion, Run
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import Policies
from scheduler.core.timetable import TimetableEntry

# ---------------------------------------------------------------- facts


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """The clocks of the daemon, the clock offset (API minus local, in seconds), and the stop."""

    now: datetime
    boottime: float
    is_clock_in_doubt: bool
    is_stopping: bool
    clock_offset: float | None


@dataclass(frozen=True, slots=True)
class BreakerFacts:
    """Wait for the circuit breaker in seconds, as this delivery sees the breaker; 0: the delivery may pass.

    ``cause`` and ``detail`` explain the wait. ``obstacle`` is the same for people, also without a wait.
    """

    wait: float
    cause: Cause
    detail: str | None
    obstacle: str | None


@dataclass(frozen=True, slots=True)
class SendFacts:
    """Facts about sending to the target.

    No daemon ran before ``absent_until``; None after the first good poll.
    """

    is_idempotent: bool
    run_timeout: timedelta
    absent_until: datetime | None
    is_stale: bool
    breaker: BreakerFacts


@dataclass(frozen=True, slots=True)
class NewestReading:
    """Newest reading of an automation, and its start on the boot-time clock."""

    automation: Automation
    begun: float


@dataclass(frozen=True, slots=True)
class AutomationFacts:
    """Facts of the automation. ``entry`` is the definition version in force; None after the removal.

    ``is_paused`` is the operator's pause; ``must_read_pauses``: read the pauses before a use of this fact.
    ``denial`` tells why an automation in the list may be gone. ``needs_reading``: only a reading tells
    whether the automation exists. ``baseline`` is the newest known run. ``late_run`` appeared after an
    attempt was resolved as not started.
    """

    entry: TimetableEntry | None
    policies: Policies
    is_paused: bool
    must_read_pauses: bool
    denial: str | None
    needs_reading: bool
    reading: NewestReading | None
    baseline: str | None
    late_run: Run | None


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """Facts of the automation queue. ``next_due`` is the next due instant of a newer occurrence.

    ``has_newer_due``: a newer occurrence is due, and both are in force.
    """

    is_head: bool
    has_newer_due: bool
    next_due: datetime | None


@dataclass(frozen=True, slots=True)
class DeliveryFacts:
    """All facts for the decision about one delivery at one instant."""

    daemon: DaemonFacts
    send: SendFacts
    automation: AutomationFacts
    queue: QueueFacts


# ---------------------------------------------------------------- actions


@dataclass_transform(frozen_default=True)
class DeliveryAction:
    """The next work for a delivery. Each subclass is a frozen dataclass."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True)(cls)


class Stop(DeliveryAction):
    """Do nothing more: another delivery is the head of the queue, or the daemon stops."""


class AwaitDue(DeliveryAction):
    """Wait for the due instant for ``seconds``, or until something changes."""

    seconds: float


class Sleep(DeliveryAction):
    """Wait for ``seconds``, or until something changes. None: only until something changes.

    ``is_due``: the occurrence is due, and ``cause`` delays it.
    """

    seconds: float | None
    cause: Cause
    detail: str | None = None
    is_due: bool = False


class ReadPauses(DeliveryAction):
    """Read the pauses of operators from the ledger."""


class ReadAutomation(DeliveryAction):
    """Get a reading that begins at ``since`` or later, on the boot-time clock, for at most ``seconds``."""

    since: float
    seconds: float


class ConfirmPresence(DeliveryAction):
    """Find out whether the automation exists, for at most ``seconds``. Go on at once with any change.

    The list lacks the automation, or its run answered 404. Only a reading of the automation itself or the
    next snapshot can tell.
    """

    seconds: float
    detail: str | None


class RequestPlace(DeliveryAction):
    """Join the queue for places."""


class AwaitPlace(DeliveryAction):
    """Wait for the place for at most ``seconds``, or until something changes."""

    seconds: float


class ReleasePlace(DeliveryAction):
    """Leave the place or its queue. ``conclusion``: the occurrence ends unsent."""

    conclusion: Conclusion | None = None


class WriteAttempt(DeliveryAction):
    """Make the attempt durable before its first byte."""

    attempt: Attempt


class DiscardAttempt(DeliveryAction):
    """Discard the attempt, which was never sent.

    Otherwise the next process would recover an unknown attempt, hidden by the run of the occurrence that
    went first.
    """


class Send(DeliveryAction):
    """Send the attempt."""


class RecordEnd(DeliveryAction):
    """Record the end of the newest attempt."""


class CheckList(DeliveryAction):
    """Read the list: a run answered 404, and the list shows whether the automation is gone."""


class CheckRun(DeliveryAction):
    """Ask the ledger whether a run that appeared late has another origin: an occurrence, or an operator."""

    run: Run


class Reconcile(DeliveryAction):
    """Find the outcome of the unknown attempt by reading the automation."""


class Conclude(DeliveryAction):
    """Make the outcome durable, with the end of the newest attempt if the end is not recorded yet."""

    conclusion: Conclusion


class Withdraw(DeliveryAction):
    """Remove the claim, as if the occurrence had never existed.

    The occurrence was claimed ahead, nothing was sent, and an edit took the occurrence back before the due
    instant.
    """
