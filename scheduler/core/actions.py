"""The next action of a delivery: a pure function from the delivery and the facts to one action.

The shell in `scheduler.daemon.sender` performs the action and applies the resulting event to the delivery.
Places of the budget are reserved and released by actions and never counted as facts: between a look at the
budget and its use, another delivery may take the place.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from scheduler.core.admission import (
    DeliveryFacts,
    MaySend,
    MustWait,
    NeedPresence,
    NeedReading,
    TakeBack,
    decide_admission,
    find_deadline,
    is_attempt_fresh,
)
from scheduler.core.delivery import Delivery, Place
from scheduler.core.model import Attempt, AttemptEnd, Conclusion, Run, State
from scheduler.core.occurrence_log import Cause
from scheduler.core.reconcile import UnknownAttempt

_MOMENT: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Stop:
    """Do nothing more: another delivery is the head of the queue, or the daemon stops."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for ``seconds``, or until something changes. None: only until something changes."""

    seconds: float | None
    cause: Cause | None
    detail: str | None
    is_due: bool


@dataclass(frozen=True, slots=True)
class ReadPauses:
    """Read the pauses of operators from the ledger."""


@dataclass(frozen=True, slots=True)
class ReadAutomation:
    """Get a reading that begins at ``since`` or later, for at most ``seconds``."""

    since: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ConfirmPresence:
    """Find out whether the automation exists, for at most ``seconds``. Go on at once with any change."""

    seconds: float
    detail: str | None


@dataclass(frozen=True, slots=True)
class RequestPlace:
    """Join the queue for places."""


@dataclass(frozen=True, slots=True)
class AwaitPlace:
    """Wait for the place for at most ``seconds``, or until something changes."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ReleasePlace:
    """Leave the place or its queue. ``conclusion``: the occurrence ends unsent."""

    conclusion: Conclusion | None


@dataclass(frozen=True, slots=True)
class WriteAttempt:
    """Make the attempt durable before its first byte."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class DiscardAttempt:
    """Discard the attempt, which was never sent.

    Otherwise the next process would recover an unknown attempt, hidden by the run of the occurrence that
    went first.
    """


@dataclass(frozen=True, slots=True)
class Send:
    """Send the attempt."""


@dataclass(frozen=True, slots=True)
class RecordEnd:
    """Record the end of the newest attempt."""

    end: AttemptEnd


@dataclass(frozen=True, slots=True)
class CheckList:
    """Read the list: a run answered 404, and the list shows whether the automation is gone."""


@dataclass(frozen=True, slots=True)
class CheckRun:
    """Ask the ledger whether a run that appeared late has another origin: an occurrence, or an operator."""

    run: Run


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Find the outcome of the unknown attempt by reading the automation, not before ``not_before``."""

    unknown_attempt: UnknownAttempt
    not_before: float


@dataclass(frozen=True, slots=True)
class Conclude:
    """Make the outcome durable, with the end of its attempt if the end is not recorded yet."""

    conclusion: Conclusion
    end: AttemptEnd | None


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Remove the claim."""


Action = (
    Stop
    | Sleep
    | ReadPauses
    | ReadAutomation
    | ConfirmPresence
    | RequestPlace
    | AwaitPlace
    | ReleasePlace
    | WriteAttempt
    | DiscardAttempt
    | Send
    | RecordEnd
    | CheckList
    | CheckRun
    | Reconcile
    | Conclude
    | Withdraw
)


def next_action(delivery: Delivery, facts: DeliveryFacts) -> Action:
    """Return the next action for a delivery that has no end yet."""
    return (
        _finish_attempt(delivery, facts)
        or _give_way(delivery, facts)
        or _check_late_run(delivery, facts)
        or _reconcile(delivery, facts)
        or _pursue(delivery, facts)
    )


def _finish_attempt(delivery: Delivery, facts: DeliveryFacts) -> Action | None:
    """Return the action for a result that the ledger does not have yet. Such a result precedes all else.

    A run that appeared late replaces a conclusion without a run.
    """
    conclusion, late_run = delivery.conclusion, facts.automation.late_run
    if conclusion is not None and (conclusion.run is not None or late_run is None):
        if delivery.has_unsent_attempt:
            return DiscardAttempt()
        return Conclude(replace(conclusion, at=facts.daemon.now), delivery.open_end)
    if delivery.open_end is not None:
        return RecordEnd(delivery.open_end)
    if conclusion is not None and late_run is not None:
        return CheckRun(late_run)
    return CheckList() if delivery.must_check_list else None


def _give_way(delivery: Delivery, facts: DeliveryFacts) -> Action | None:
    """Return the action of a delivery that must not go on.

    At a stop of the daemon, the last write discards the unsent attempts of all deliveries together.
    """
    if facts.queue.is_head and not facts.daemon.is_stopping:
        return None
    if delivery.place is not Place.NONE:
        return ReleasePlace(None)
    if delivery.has_unsent_attempt and not facts.daemon.is_stopping:
        return DiscardAttempt()
    return Stop()


def _check_late_run(delivery: Delivery, facts: DeliveryFacts) -> Action | None:
    run = facts.automation.late_run
    if run is None:
        return None
    return CheckRun(run) if delivery.place is Place.NONE else ReleasePlace(None)


def _reconcile(delivery: Delivery, facts: DeliveryFacts) -> Action | None:
    """Return `Reconcile` for an unknown attempt, unless the attempt may be sent again under the same key."""
    unknown = delivery.unknown_attempt
    if unknown is None or _may_resend(delivery, facts):
        return None
    if delivery.place is not Place.NONE:
        return ReleasePlace(None)
    return Reconcile(unknown, delivery.not_before)


def _may_resend(delivery: Delivery, facts: DeliveryFacts) -> bool:
    return facts.send.is_idempotent and delivery.may_resend and facts.daemon.now <= delivery.deadline


def _pursue(delivery: Delivery, facts: DeliveryFacts) -> Action:
    """Return the action that brings the delivery nearer to its send, or ends the delivery."""
    if facts.automation.is_paused is None:
        return ReadPauses()
    admission = decide_admission(delivery, facts)
    if isinstance(admission, MaySend):
        return _proceed(delivery, facts)
    if delivery.place is not Place.NONE:
        return ReleasePlace(admission if isinstance(admission, Conclusion) else None)
    if isinstance(admission, Conclusion):
        unknown = delivery.unknown_attempt
        return Conclude(admission, None) if unknown is None else Reconcile(unknown, delivery.not_before)
    return _wait(admission)


def _wait(admission: MustWait | NeedReading | NeedPresence | TakeBack) -> Action:
    match admission:
        case MustWait(seconds=seconds, cause=cause, detail=detail, is_due=is_due):
            return Sleep(seconds, cause, detail, is_due)
        case NeedReading(since=since, seconds=seconds):
            return ReadAutomation(since, seconds)
        case NeedPresence(seconds=seconds, detail=detail):
            return ConfirmPresence(seconds, detail)
    return Withdraw()


def _proceed(delivery: Delivery, facts: DeliveryFacts) -> Action:
    """Return the next step to the send of an admitted delivery: a place, a durable attempt, the send."""
    match delivery.place:
        case Place.NONE:
            return RequestPlace()
        case Place.WAITING:
            return AwaitPlace(_measure_place_wait(delivery, facts))
    if is_attempt_fresh(delivery, facts.daemon.boottime) and not _is_outdated(delivery, facts):
        return Send()
    return WriteAttempt(_make_attempt(delivery, facts))


def _measure_place_wait(delivery: Delivery, facts: DeliveryFacts) -> float:
    """Return the seconds until time alone ends the wait: at the deadline, or when a newer fire is due."""
    instants = [find_deadline(delivery, facts) + _MOMENT]
    if facts.queue.next_due is not None:
        instants.append(facts.queue.next_due)
    return max(0.0, (min(instants) - facts.daemon.now).total_seconds())


def _is_outdated(delivery: Delivery, facts: DeliveryFacts) -> bool:
    """Return whether the newest known run changed since the attempt was written.

    The new run is not the attempt's, and must become the baseline of the attempt.
    """
    assert delivery.attempt is not None
    return delivery.unknown_attempt is None and delivery.attempt.baseline != facts.automation.baseline


def _make_attempt(delivery: Delivery, facts: DeliveryFacts) -> Attempt:
    is_rewrite = delivery.attempt is not None and delivery.state is State.CLAIMED
    number = delivery.attempt_count if is_rewrite else delivery.attempt_count + 1
    unknown = delivery.unknown_attempt
    baseline = facts.automation.baseline if unknown is None else unknown.baseline
    return Attempt(number, facts.daemon.now, baseline, facts.daemon.clock_offset)
