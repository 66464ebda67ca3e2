"""Admission: the decision whether a delivery may be sent now, must wait, or ends without being sent.

`DeliveryFacts` has everything that a decision depends on besides the delivery. The rules are pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.delivery import Delivery, make_conclusion
from scheduler.core.model import Automation, Conclusion, Outcome, Reason, Run, is_finished
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import CatchUp, Concurrency, Permission, Policies, permit
from scheduler.core.timetable import TimetableEntry

SEND_WITHIN: Final = 10.0
"""Seconds after the durable instant of an attempt in which the attempt may be sent.

Later, the attempt is written anew.
"""
_ROUNDING: Final = 0.001
"""Seconds after a deadline at which a wait for the deadline ends."""
DELETED: Final = "the automation was deleted before it could be sent"


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

    ``is_paused`` is the operator's pause; None: read the pauses first. ``denial`` tells why an automation in
    the list may be gone. ``needs_reading``: only a reading tells whether the automation exists. ``baseline``
    is the newest known run. ``late_run`` appeared after an attempt was resolved as not started.
    """

    entry: TimetableEntry | None
    policies: Policies
    is_paused: bool | None
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


# ---------------------------------------------------------------- decisions


@dataclass(frozen=True, slots=True)
class MaySend:
    """Permission to send the occurrence."""


@dataclass(frozen=True, slots=True)
class MustWait:
    """Wait, and decide again after ``seconds``, or when something changes. None: only when it changes.

    ``cause`` is None before the due instant. ``is_due``: the occurrence is due, and something delays it.
    """

    seconds: float | None
    cause: Cause | None = None
    detail: str | None = None
    is_due: bool = False


@dataclass(frozen=True, slots=True)
class NeedReading:
    """Need of a reading that begins at ``since`` or later, on the boot-time clock.

    Decide again without a reading after ``seconds``.
    """

    since: float
    seconds: float


@dataclass(frozen=True, slots=True)
class NeedPresence:
    """Need to know whether the automation exists, since the list lacks it or its run answered 404.

    Only a reading of the automation itself or the next snapshot can tell. Without an answer, decide again
    after ``seconds``.
    """

    seconds: float
    detail: str | None


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Withdrawal of the claim, as if the occurrence had never existed.

    The occurrence was claimed ahead, nothing was sent, and an edit took the occurrence back before the due
    instant.
    """


Admission = MaySend | MustWait | NeedReading | NeedPresence | TakeBack | Conclusion


def decide_admission(delivery: Delivery, facts: DeliveryFacts) -> Admission:
    """Decide whether the delivery may be sent now. A conclusion ends the delivery without an attempt."""
    if delivery.is_backfill:
        return _check_knowledge(delivery, facts) or _decide_backfill(delivery, facts)
    return (
        _check_knowledge(delivery, facts)
        or _check_definition(delivery, facts)
        or _check_time(delivery, facts)
        or _check_presence(delivery, facts)
        or _check_concurrency(delivery, facts)
    )


def is_in_force(delivery: Delivery, entry: TimetableEntry | None) -> bool:
    """Return whether no edit took the occurrence back. ``entry`` is the definition version in force."""
    return entry is not None and _find_repeal(delivery, entry) is None and _find_end(delivery, entry) is None


def has_newer_in_force(newer: Iterable[Delivery], entry: TimetableEntry | None) -> bool:
    """Return whether one of these newer due deliveries of the automation is in force."""
    return any(is_in_force(delivery, entry) for delivery in newer)


def is_attempt_fresh(delivery: Delivery, boottime: float) -> bool:
    """Return whether the attempt may be sent under its durable instant, within `SEND_WITHIN` seconds."""
    return delivery.written_boottime is not None and boottime - delivery.written_boottime <= SEND_WITHIN


def find_deadline(delivery: Delivery, facts: DeliveryFacts) -> datetime:
    """Return the latest instant for the start of the occurrence."""
    return delivery.find_deadline(facts.send.run_timeout)


def _check_knowledge(delivery: Delivery, facts: DeliveryFacts) -> MustWait | None:
    absent_until = facts.send.absent_until
    if facts.daemon.is_clock_in_doubt:
        return MustWait(None, Cause.CLOCK)
    if absent_until is not None and delivery.due <= absent_until:
        return MustWait(None, Cause.UNCONFIRMED)
    return MustWait(None, Cause.STALE) if facts.send.is_stale else None


def _check_definition(delivery: Delivery, facts: DeliveryFacts) -> Admission | None:
    """Decide the effect of an edit on the occurrence; None: no effect.

    An edit in force before the scheduled instant takes the occurrence back, unless the new definition
    fires at the same instant. A later edit has no effect, unless the edit disables the automation.
    """
    entry = facts.automation.entry
    if entry is None:
        return _skip_deleted(delivery, facts, DELETED)
    if (repeal := _find_repeal(delivery, entry)) is not None:
        return _take_back(delivery, facts, repeal)
    if (end_reason := _find_end(delivery, entry)) is not None:
        return _skip_deleted(delivery, facts, f"the automation was {end_reason} before it could be sent")
    return None


def _find_repeal(delivery: Delivery, entry: TimetableEntry) -> TimetableEntry | None:
    """Return the definition version that took the occurrence back; None: no version did."""
    if entry is delivery.entry:
        return None
    scheduled_for = delivery.occurrence.scheduled_for
    decisive = (delivery.entry or delivery.recovered_under or entry).find_decisive(scheduled_for)
    if decisive is delivery.entry or decisive.effective_from >= scheduled_for:
        return None
    still_fires = decisive.schedule is not None and decisive.schedule.is_fire_time(scheduled_for)
    return None if still_fires else decisive


def _find_end(delivery: Delivery, entry: TimetableEntry) -> str | None:
    """Return why the automation no longer fires, unless the occurrence belongs to the version in force."""
    return None if entry is delivery.entry else entry.end_reason


def _take_back(delivery: Delivery, facts: DeliveryFacts, entry: TimetableEntry) -> TakeBack | Conclusion:
    """Withdraw an occurrence before its due instant, otherwise end the occurrence as skipped.

    The row of an occurrence stays after the due instant, after an attempt, or after an older occurrence
    was coalesced into it. Attempts and coalescence are possible before the due instant too: the planner
    coalesces into occurrences claimed ahead, and the clock may be set back.
    """
    if facts.daemon.now < delivery.due and not delivery.is_attempted and not delivery.has_coalesced:
        return TakeBack()
    change = "edited with effect from before this instant" if entry.end_reason is None else entry.end_reason
    return _skip_deleted(delivery, facts, f"the automation was {change}, before it could be started")


def _skip_deleted(delivery: Delivery, facts: DeliveryFacts, error: str) -> Conclusion:
    return make_conclusion(delivery, Outcome.SKIPPED, Reason.DELETED, facts.daemon.now, error=error)


def _expire(delivery: Delivery, facts: DeliveryFacts) -> Conclusion:
    """Return the conclusion of an occurrence that could not be started in time, with the known reason."""
    error = facts.automation.denial or delivery.error or facts.send.breaker.obstacle
    return make_conclusion(delivery, Outcome.EXPIRED, Reason.NOT_STARTED, facts.daemon.now, error=error)


def _decide_backfill(delivery: Delivery, facts: DeliveryFacts) -> Admission:
    """Decide about a backfill.

    Edits, pauses and unfinished runs do not count: the operator knows about edits, pauses and runs.
    """
    if facts.automation.entry is None:
        return _skip_deleted(delivery, facts, DELETED)
    left = (delivery.deadline - facts.daemon.now).total_seconds()
    if left < 0:
        return _expire(delivery, facts)
    return _check_breaker(delivery, facts, left) or _check_presence(delivery, facts) or MaySend()


def _check_time(delivery: Delivery, facts: DeliveryFacts) -> Admission | None:
    now, policies = facts.daemon.now, facts.automation.policies
    if facts.automation.is_paused or policies.paused:
        return make_conclusion(delivery, Outcome.SKIPPED, Reason.PAUSED, now)
    if now < delivery.due:
        # With an unknown attempt, the clock was set back: no second send before the due instant, but
        # reconcile now.
        if delivery.unknown_attempt is not None:
            return make_conclusion(delivery, Outcome.EXPIRED, Reason.NOT_STARTED, now)
        return MustWait((delivery.due - now).total_seconds())
    if facts.queue.has_newer_due and _may_be_coalesced(delivery, policies):
        return make_conclusion(delivery, Outcome.SKIPPED, Reason.COALESCED, now, error=delivery.error)
    left = (find_deadline(delivery, facts) - now).total_seconds()
    return _expire(delivery, facts) if left < 0 else _check_breaker(delivery, facts, left)


def _may_be_coalesced(delivery: Delivery, policies: Policies) -> bool:
    return (policies.catch_up is not CatchUp.ALL or delivery.is_queued) and not delivery.maybe_sent


def _check_breaker(delivery: Delivery, facts: DeliveryFacts, left: float) -> MustWait | None:
    breaker = facts.send.breaker
    back_off = delivery.not_before - facts.daemon.boottime
    wait = max(back_off, breaker.wait)
    if wait <= 0:
        return None
    own = back_off >= breaker.wait
    cause, detail = (Cause.BACK_OFF, delivery.error) if own else (breaker.cause, breaker.detail)
    return MustWait(min(wait, left + _ROUNDING), cause, detail, is_due=True)


def _check_presence(delivery: Delivery, facts: DeliveryFacts) -> NeedPresence | None:
    """Require a reading of an automation that may be gone: absent from the list, or 404 for its run.

    Nobody must pay for a run of a deleted automation.
    """
    if not facts.automation.needs_reading:
        return None
    return NeedPresence(_measure_rest(delivery, facts) + _ROUNDING, facts.automation.denial)


def _measure_rest(delivery: Delivery, facts: DeliveryFacts) -> float:
    return (find_deadline(delivery, facts) - facts.daemon.now).total_seconds()


def _check_concurrency(delivery: Delivery, facts: DeliveryFacts) -> Admission:
    policies = facts.automation.policies
    # A resend under the same key starts no second run, and the newest run may belong to this occurrence.
    if policies.concurrency is Concurrency.ALLOW or delivery.unknown_attempt is not None:
        return MaySend()
    unfinished = _is_newest_run_unfinished(delivery, facts)
    match permit(policies, newest_run_unfinished=unfinished):
        case Permission.GO:
            return MaySend()
        case Permission.OVERLAP:
            error = "the newest run is not finished"
            return make_conclusion(delivery, Outcome.SKIPPED, Reason.OVERLAP, facts.daemon.now, error=error)
    if unfinished is None:
        since = facts.daemon.boottime if delivery.due_seen is None else delivery.due_seen
        return NeedReading(since, max(_measure_rest(delivery, facts), 0.0) + _ROUNDING)
    reading = facts.automation.reading
    return MustWait(None, Cause.QUEUED, reading.automation.run_id if reading else None, is_due=True)


def _is_newest_run_unfinished(delivery: Delivery, facts: DeliveryFacts) -> bool | None:
    """Return whether the newest run is unfinished and not lost; None: no reading since due."""
    reading = facts.automation.reading
    if reading is None or delivery.due_seen is None or reading.begun < delivery.due_seen:
        return None
    newest = reading.automation
    if newest.run_id is None or is_finished(newest.run_status):
        return False
    if newest.run_at is None:
        return True
    by_api = facts.daemon.now + timedelta(seconds=facts.daemon.clock_offset or 0.0)
    return by_api - newest.run_at <= facts.send.run_timeout
