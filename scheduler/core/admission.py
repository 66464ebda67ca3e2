"""Admission and the next action: pure functions from a delivery and the facts to one decision.

`decide_admission` tells whether a delivery may be sent now. `next_action` also considers results that the
ledger does not have yet, unknown attempts, and places.
The shell in `scheduler.daemon.sender` performs the action and applies the resulting event to the delivery.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from scheduler.core import actions
from scheduler.core.actions import DeliveryAction, DeliveryFacts
from scheduler.core.delivery import Delivery, PlaceState
from scheduler.core.model import Attempt, Conclusion, Outcome, Reason, State, is_finished
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import CatchUp, Concurrency, Permission, Policies, permit
from scheduler.core.timetable import TimetableEntry

SEND_WITHIN: Final = 10.0
"""Seconds after the begin of its write in which an attempt may be sent.

Later, the attempt is written anew.
"""
_ROUNDING: Final = 0.001
"""Seconds added to a wait for a deadline, so that the deadline has surely passed at the end of the wait."""
DELETED: Final = "the automation was deleted before it could be sent"


# ---------------------------------------------------------------- the next action


def next_action(delivery: Delivery, facts: DeliveryFacts) -> DeliveryAction:
    """Return the next action for a delivery that has no end yet."""
    return (
        _finish_attempt(delivery, facts)
        or _give_way(delivery, facts)
        or _check_late_run(delivery, facts)
        or _reconcile(delivery, facts)
        or _pursue(delivery, facts)
    )


def _finish_attempt(delivery: Delivery, facts: DeliveryFacts) -> DeliveryAction | None:
    """Return the action that finishes the newest attempt: write its result, or learn more about the attempt.

    Such an action precedes all else. A conclusion without a run waits for the check of a late run, because
    this run may belong to the occurrence. An answer 404 is followed by a look at the list.
    """
    conclusion, late_run = delivery.conclusion, facts.automation.late_run
    must_check_run = conclusion is not None and conclusion.run is None and late_run is not None
    if conclusion is not None and not must_check_run:
        if delivery.has_unsent_attempt:
            return actions.DiscardAttempt()
        return actions.Conclude(replace(conclusion, at=facts.daemon.now))
    if delivery.unrecorded_end is not None:
        return actions.RecordEnd()
    if must_check_run and late_run is not None:
        return actions.CheckRun(late_run)
    return actions.CheckList() if delivery.must_check_list else None


def _give_way(delivery: Delivery, facts: DeliveryFacts) -> DeliveryAction | None:
    """Return the action of a delivery that is not the head of its queue, or that the daemon must stop.

    The delivery gives its place back and discards an unsent attempt. At a stop of the daemon, one last write
    discards the unsent attempts of all deliveries, and no delivery does so alone.
    """
    if facts.queue.is_head and not facts.daemon.is_stopping:
        return None
    if delivery.place_state is not PlaceState.NONE:
        return actions.ReleasePlace()
    if delivery.has_unsent_attempt and not facts.daemon.is_stopping:
        return actions.DiscardAttempt()
    return actions.Stop()


def _check_late_run(delivery: Delivery, facts: DeliveryFacts) -> DeliveryAction | None:
    run = facts.automation.late_run
    if run is None:
        return None
    return actions.CheckRun(run) if delivery.place_state is PlaceState.NONE else actions.ReleasePlace()


def _reconcile(delivery: Delivery, facts: DeliveryFacts) -> DeliveryAction | None:
    """Return `Reconcile` for an unknown attempt, unless the attempt may be sent again under the same key."""
    if delivery.unknown_attempt is None or _may_resend_now(delivery, facts):
        return None
    return actions.Reconcile() if delivery.place_state is PlaceState.NONE else actions.ReleasePlace()


def _may_resend_now(delivery: Delivery, facts: DeliveryFacts) -> bool:
    return facts.send.is_idempotent and delivery.may_resend and facts.daemon.now <= delivery.deadline


def _pursue(delivery: Delivery, facts: DeliveryFacts) -> DeliveryAction:
    """Return the action that brings the delivery nearer to its send, or ends the delivery.

    A delivery that may not be sent first gives its place back. The next call decides again, without a place.
    While an attempt is unknown, only readings end the delivery: it is reconciled in place of a conclusion.
    """
    if facts.automation.must_read_pauses:
        return actions.ReadPauses()
    admission = decide_admission(delivery, facts)
    if admission is None:
        return _proceed(delivery, facts)
    if delivery.place_state is not PlaceState.NONE:
        return actions.ReleasePlace(admission if isinstance(admission, Conclusion) else None)
    if not isinstance(admission, Conclusion):
        return admission
    return actions.Conclude(admission) if delivery.unknown_attempt is None else actions.Reconcile()


def _proceed(delivery: Delivery, facts: DeliveryFacts) -> DeliveryAction:
    """Return the next step to the send of an admitted delivery: a place, a durable attempt, the send."""
    match delivery.place_state:
        case PlaceState.NONE:
            return actions.RequestPlace()
        case PlaceState.WAITING:
            return actions.AwaitPlace(_measure_place_wait(delivery, facts))
    if is_attempt_fresh(delivery, facts.daemon.boottime) and not _is_outdated(delivery, facts):
        return actions.Send()
    return actions.WriteAttempt(_make_attempt(delivery, facts))


def _measure_place_wait(delivery: Delivery, facts: DeliveryFacts) -> float:
    """Return the longest wait for a place in seconds: until the deadline, or until a newer one is due."""
    wait, next_due = _measure_time_left(delivery, facts) + _ROUNDING, facts.queue.next_due
    if next_due is not None:
        wait = min(wait, (next_due - facts.daemon.now).total_seconds())
    return max(0.0, wait)


def _is_outdated(delivery: Delivery, facts: DeliveryFacts) -> bool:
    """Return whether another run became the newest known run since the attempt was written.

    This run is not the run of the unsent attempt, and must become its baseline. A resend keeps the baseline
    of the unknown attempt.
    """
    assert delivery.attempt is not None
    return delivery.unknown_attempt is None and delivery.attempt.baseline != facts.automation.baseline


def _make_attempt(delivery: Delivery, facts: DeliveryFacts) -> Attempt:
    """Make the attempt to write: the unsent attempt anew under its number, or the next attempt."""
    is_rewrite = delivery.attempt is not None and delivery.state is State.CLAIMED
    number = delivery.attempt_count if is_rewrite else delivery.attempt_count + 1
    unknown = delivery.unknown_attempt
    baseline = facts.automation.baseline if unknown is None else unknown.baseline
    return Attempt(number, facts.daemon.now, baseline, facts.daemon.clock_offset)


# ---------------------------------------------------------------- admission

Admission = DeliveryAction | Conclusion | None
"""The decision of one check, or of all checks. None: no objection to the send.

A conclusion ends the delivery without a further attempt. After an action, the admission is decided again.
"""


def decide_admission(delivery: Delivery, facts: DeliveryFacts) -> Admission:
    """Decide whether the delivery may be sent now."""
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


def is_attempt_fresh(delivery: Delivery, boottime: float) -> bool:
    """Return whether an attempt is written, not sent, and not older than `SEND_WITHIN`."""
    return delivery.written_boottime is not None and boottime - delivery.written_boottime <= SEND_WITHIN


def _check_knowledge(delivery: Delivery, facts: DeliveryFacts) -> actions.Sleep | None:
    """Require a wait while the daemon cannot trust its clock or its snapshot.

    After an absence of the daemon, an occurrence from this absence waits for the first good poll. News about
    the clock or the snapshot end the wait.
    """
    absent_until = facts.send.absent_until
    if facts.daemon.is_clock_in_doubt:
        return actions.Sleep(None, Cause.CLOCK)
    if absent_until is not None and delivery.due <= absent_until:
        return actions.Sleep(None, Cause.UNCONFIRMED)
    return actions.Sleep(None, Cause.STALE) if facts.send.is_stale else None


def _check_definition(delivery: Delivery, facts: DeliveryFacts) -> Admission:
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
    """Return the definition version that took the occurrence back; None: no version did.

    The search begins at the version of the occurrence, or after a recovery at the version in force then, and
    follows the later edits to the version in force at the scheduled instant. An edit to this version takes
    the occurrence back when its schedule does not fire at the instant.
    """
    if entry is delivery.entry:
        return None
    scheduled_for = delivery.occurrence.scheduled_for
    in_force_then = (delivery.entry or delivery.recovered_under or entry).find_decisive(scheduled_for)
    if in_force_then is delivery.entry or in_force_then.effective_from >= scheduled_for:
        return None
    schedule = in_force_then.schedule
    still_fires = schedule is not None and schedule.is_fire_time(scheduled_for)
    return None if still_fires else in_force_then


def _find_end(delivery: Delivery, entry: TimetableEntry) -> str | None:
    """Return why the automation no longer fires, unless the occurrence belongs to the version in force."""
    return None if entry is delivery.entry else entry.end_reason


def _take_back(
    delivery: Delivery, facts: DeliveryFacts, entry: TimetableEntry
) -> actions.Withdraw | Conclusion:
    """End an occurrence that an edit took back: remove its row, or end the occurrence as skipped.

    The row is removed only before the due instant, without an attempt, and when no older occurrence was
    coalesced into this occurrence. Both can happen before the due instant: an attempt when the clock was set
    back since, and a coalescence when the planner coalesces into occurrences claimed ahead.
    """
    if facts.daemon.now < delivery.due and not delivery.is_attempted and not delivery.has_coalesced:
        return actions.Withdraw()
    change = "edited with effect from before this instant" if entry.end_reason is None else entry.end_reason
    return _skip_deleted(delivery, facts, f"the automation was {change}, before it could be started")


def _skip_deleted(delivery: Delivery, facts: DeliveryFacts, error: str) -> Conclusion:
    return delivery.make_conclusion(Outcome.SKIPPED, Reason.DELETED, facts.daemon.now, error=error)


def _expire(delivery: Delivery, facts: DeliveryFacts) -> Conclusion:
    """Return the conclusion of an occurrence that could not be started in time, with the known reason."""
    error = facts.automation.denial or delivery.error or facts.send.breaker.obstacle
    return delivery.make_conclusion(Outcome.EXPIRED, Reason.NOT_STARTED, facts.daemon.now, error=error)


def _decide_backfill(delivery: Delivery, facts: DeliveryFacts) -> Admission:
    """Decide about a backfill.

    Edits, pauses and unfinished runs do not count: the operator knows about edits, pauses and runs.
    """
    if facts.automation.entry is None:
        return _skip_deleted(delivery, facts, DELETED)
    return _check_deadline(delivery, facts) or _check_presence(delivery, facts)


def _check_time(delivery: Delivery, facts: DeliveryFacts) -> Admission:
    now, policies = facts.daemon.now, facts.automation.policies
    if facts.automation.is_paused or policies.paused:
        return delivery.make_conclusion(Outcome.SKIPPED, Reason.PAUSED, now)
    if now < delivery.due:
        # An attempt before the due instant means that the clock was set back. Nothing may be sent now. While
        # an attempt is unknown, `_pursue` writes no conclusion: this conclusion becomes `Reconcile`.
        if delivery.unknown_attempt is not None:
            return delivery.make_conclusion(Outcome.EXPIRED, Reason.NOT_STARTED, now)
        return actions.AwaitDue((delivery.due - now).total_seconds())
    if facts.queue.has_newer_due and _may_be_coalesced(delivery, policies):
        return delivery.make_conclusion(Outcome.SKIPPED, Reason.COALESCED, now, error=delivery.error)
    return _check_deadline(delivery, facts)


def _may_be_coalesced(delivery: Delivery, policies: Policies) -> bool:
    """Return whether a newer due occurrence may replace this occurrence.

    Under `CatchUp.ALL`, only an occurrence that waits for the run before may be replaced. An occurrence that
    may have been sent is never replaced.
    """
    return (policies.catch_up is not CatchUp.ALL or delivery.waits_for_run_before) and not delivery.maybe_sent


def _check_deadline(delivery: Delivery, facts: DeliveryFacts) -> actions.Sleep | Conclusion | None:
    """End an occurrence after its deadline. Until then, require a wait while back-off or breaker last."""
    left, breaker = _measure_time_left(delivery, facts), facts.send.breaker
    if left < 0:
        return _expire(delivery, facts)
    back_off = delivery.not_before - facts.daemon.boottime
    wait = max(back_off, breaker.wait)
    if wait <= 0:
        return None
    is_back_off = back_off >= breaker.wait
    cause, detail = (Cause.BACK_OFF, delivery.error) if is_back_off else (breaker.cause, breaker.detail)
    return actions.Sleep(min(wait, left + _ROUNDING), cause, detail, is_due=True)


def _check_presence(delivery: Delivery, facts: DeliveryFacts) -> actions.ConfirmPresence | None:
    """Require a reading of an automation that may be gone: absent from the list, or 404 for its run.

    Nobody must pay for a run of a deleted automation.
    """
    if not facts.automation.needs_reading:
        return None
    return actions.ConfirmPresence(_measure_time_left(delivery, facts) + _ROUNDING, facts.automation.denial)


def _measure_time_left(delivery: Delivery, facts: DeliveryFacts) -> float:
    """Return the seconds until the latest instant for the start of the occurrence; negative afterwards."""
    return (delivery.find_deadline(facts.send.run_timeout) - facts.daemon.now).total_seconds()


def _check_concurrency(delivery: Delivery, facts: DeliveryFacts) -> Admission:
    """Require that the newest run is finished, under a concurrency policy that asks for this."""
    policies = facts.automation.policies
    # A resend under the same key starts no second run, and the newest run may belong to this occurrence.
    if policies.concurrency is Concurrency.ALLOW or delivery.unknown_attempt is not None:
        return None
    unfinished = _is_newest_run_unfinished(delivery, facts)
    match permit(policies, newest_run_unfinished=unfinished):
        case Permission.GO:
            return None
        case Permission.OVERLAP:
            error = "the newest run is not finished"
            return delivery.make_conclusion(Outcome.SKIPPED, Reason.OVERLAP, facts.daemon.now, error=error)
    # The occurrence waits: first for a reading, then for the end of the newest run.
    if unfinished is None:
        since = facts.daemon.boottime if delivery.due_seen is None else delivery.due_seen
        return actions.ReadAutomation(since, max(_measure_time_left(delivery, facts), 0.0) + _ROUNDING)
    reading = facts.automation.reading
    return actions.Sleep(None, Cause.QUEUED, reading.automation.run_id if reading else None, is_due=True)


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
