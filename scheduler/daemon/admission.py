"""Admission: decide whether an occurrence may be sent now, must wait, or ends without being sent.

A decision does no I/O.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.model import Outcome, Reason
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.policy import CatchUp, Concurrency, Permission, Policies, permit
from scheduler.core.timetable import TimetableEntry
from scheduler.core.verdict import is_finished
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.context import Context
from scheduler.daemon.delivery import AutomationQueue, Delivery

EVERYTHING: Final = "*"
"""Id among the pauses that stands for all automations of the target."""


@dataclass(frozen=True, slots=True)
class MaySend:
    """Permission to send the occurrence."""


@dataclass(frozen=True, slots=True)
class MustWait:
    """Wait, and decide again after ``seconds``, or when the alarm of the automation queue rings.

    None: decide again only when the alarm rings. ``cause`` is the cause for users.
    """

    seconds: float | None
    cause: Cause | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class NeedReading:
    """Need of a reading that begins at ``since`` or later. Only this reading allows a decision."""

    since: float


@dataclass(frozen=True, slots=True)
class NeedPresence:
    """Need to know whether the automation exists, since the list lacks it or its run answered 404.

    Only a reading of the automation itself or the next snapshot can tell. Without an answer, decide again
    after ``seconds``.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class EndUnsent:
    """Outcome of the occurrence without an attempt."""

    outcome: Outcome
    reason: Reason
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Removal of the claim, as if the occurrence had never existed.

    The occurrence was claimed ahead, nothing was sent, and an edit took the occurrence back before the due
    instant.
    """


AdmissionDecision = MaySend | MustWait | NeedReading | NeedPresence | EndUnsent | Withdraw


class Admission:
    """Rules of one target for sending."""

    def __init__(self, context: Context, readings: AutomationCache) -> None:
        self._context = context
        self._cache = readings
        # No daemon ran before this instant. None after the first good poll, which confirms older due
        # occurrences.
        self.absent_until: datetime | None = None
        self.first_poll_wait: Step | None = None  # from the start of this process until its first good poll
        self.snapshot_at: datetime | None = None
        self.fresh_since = float("-inf")  # when a good poll ended a time of a stale snapshot
        self.paused_ids: frozenset[str] = frozenset()  # paused by an operator, as last read from the ledger

    def is_paused(self, automation_id: str) -> bool:
        """Return whether an operator had paused the automation at the last reading of the pauses."""
        return EVERYTHING in self.paused_ids or automation_id in self.paused_ids

    def find_deadline(self, carried: Delivery) -> datetime:
        """Return the latest instant for the start of the occurrence.

        An occurrence that waits for the run before has time until that run counts as lost.
        An occurrence with an unknown attempt does not wait for the run before, and keeps the normal deadline.
        """
        if carried.is_queued and carried.unknown_attempt is None:
            return max(carried.deadline, carried.due + self._context.settings.run_timeout)
        return carried.deadline

    def decide(self, carried: Delivery, lane: AutomationQueue, *, paused: bool) -> AdmissionDecision:
        """Decide once, from the present state of the target."""
        self._context.watch.check()
        now = self._context.clock.now()
        if carried.is_backfill:
            return self._check_knowledge(carried) or self._decide_backfill(carried, now)
        policies = self._find_policies(carried)
        return (
            self._check_knowledge(carried)
            or self._check_definition(carried)
            or self._check_time(carried, lane, policies, now, paused=paused or policies.paused)
            or self._check_presence(carried, now)
            or self._check_concurrency(carried, policies, now)
        )

    def note_good_poll(self, at: datetime) -> None:
        """Note a good poll from ``at``.

        The poll confirms the occurrences that came due before this process began.
        """
        if self.is_stale:
            self.fresh_since = self._context.clock.boottime()
        if self.absent_until is not None:
            self.first_poll_wait = Step(
                self.absent_until, Cause.UNCONFIRMED, max(self.absent_until, self._context.clock.now())
            )
        self.absent_until = None
        self.snapshot_at = at

    def _find_policies(self, carried: Delivery) -> Policies:
        entry = self._context.timetable.entries.get(carried.occurrence.automation_id)
        return (
            self._context.settings.policies(carried.occurrence.automation_id, carried.name)
            if entry is None
            else entry.policies
        )

    def note_clock_step(self, seconds: float) -> None:
        """Shift all instants of the wall clock after a clock step of ``seconds`` (positive: ahead)."""
        step = timedelta(seconds=seconds)
        self.absent_until = None if self.absent_until is None else self.absent_until + step
        self.snapshot_at = None if self.snapshot_at is None else self.snapshot_at + step
        self.first_poll_wait = None  # measured by the clock before the step

    @property
    def is_stale(self) -> bool:
        """Whether the newest snapshot is older than `stale_limit`, or missing."""
        return (
            self.snapshot_at is None
            or self._context.clock.now() - self.snapshot_at > self._context.settings.stale_limit
        )

    def _check_knowledge(self, carried: Delivery) -> AdmissionDecision | None:
        unconfirmed = self.absent_until is not None and carried.due <= self.absent_until
        if self._context.watch.is_in_doubt:
            return MustWait(None, Cause.CLOCK)
        if unconfirmed:
            return MustWait(None, Cause.UNCONFIRMED)
        return MustWait(None, Cause.STALE) if self.is_stale else None

    def _check_definition(self, carried: Delivery) -> AdmissionDecision | None:
        """Decide the effect of an edit on the occurrence; None: no effect.

        An edit in force before the scheduled instant takes the occurrence back, unless the new definition
        fires at the same instant. A later edit has no effect, unless the edit disables the automation.
        """
        entry = self._context.timetable.entries.get(carried.occurrence.automation_id)
        if entry is None:
            return EndUnsent(
                Outcome.SKIPPED, Reason.DELETED, "the automation was deleted before it could be sent"
            )
        if entry is carried.entry:
            return None
        scheduled_for = carried.occurrence.scheduled_for
        decisive = (carried.entry or carried.recovered_under or entry).find_decisive(scheduled_for)
        if decisive is not carried.entry and decisive.effective_from < scheduled_for:
            still_meant = decisive.schedule is not None and decisive.schedule.is_fire_time(scheduled_for)
            if not still_meant:
                return self._withdraw_or_end(carried, decisive)
        if entry.end_reason is not None:
            return EndUnsent(
                Outcome.SKIPPED,
                Reason.DELETED,
                f"the automation was {entry.end_reason} before it could be sent",
            )
        return None

    def _withdraw_or_end(self, carried: Delivery, entry: TimetableEntry) -> AdmissionDecision:
        """Withdraw an occurrence before its due instant, otherwise end the occurrence as skipped.

        The row of an occurrence stays after the due instant, after an attempt, or after an older occurrence
        was coalesced into it. Attempts and coalescence are possible before the due instant too: the planner
        coalesces into occurrences claimed ahead, and the clock may be set back.
        """
        if self._context.clock.now() < carried.due and not carried.is_attempted and not carried.has_coalesced:
            return Withdraw()
        change = (
            "edited with effect from before this instant" if entry.end_reason is None else entry.end_reason
        )
        return EndUnsent(
            Outcome.SKIPPED, Reason.DELETED, f"the automation was {change}, before it could be started"
        )

    def _explain_lateness(self, carried: Delivery) -> str | None:
        """Return the reason of a late or missing start; None when no reason but time is known."""
        denied = self._context.timetable.find_denial(carried.occurrence.automation_id)
        return denied or carried.error or self._context.breaker.obstacle

    def _decide_backfill(self, carried: Delivery, now: datetime) -> AdmissionDecision:
        """Decide about a backfill.

        Edits, pauses and unfinished runs do not count: the operator knows about edits, pauses and runs.
        """
        if carried.occurrence.automation_id not in self._context.timetable.entries:
            return EndUnsent(
                Outcome.SKIPPED, Reason.DELETED, "the automation was deleted before it could be sent"
            )
        left = (carried.deadline - now).total_seconds()
        if left < 0:
            return EndUnsent(Outcome.EXPIRED, Reason.NOT_STARTED, self._explain_lateness(carried))
        return self._check_breaker(carried, left) or self._check_presence(carried, now) or MaySend()

    def _check_time(
        self, carried: Delivery, lane: AutomationQueue, policies: Policies, now: datetime, *, paused: bool
    ) -> AdmissionDecision | None:
        if paused:
            return EndUnsent(Outcome.SKIPPED, Reason.PAUSED)
        if now < carried.due:
            # With an unknown attempt, the clock was set back: no second send before the due instant, but
            # reconcile now.
            if carried.unknown_attempt is not None:
                return EndUnsent(Outcome.EXPIRED, Reason.NOT_STARTED)
            carried.due_seen = None  # the occurrence may have been due before the clock was set back
            return MustWait((carried.due - now).total_seconds())
        if carried.due_seen is None:
            carried.due_seen = self._context.clock.boottime()
        may_be_overtaken = (
            policies.catch_up is not CatchUp.ALL or carried.is_queued
        ) and not carried.maybe_sent
        if may_be_overtaken and any(
            self._check_definition(each) is None for each in lane.iterate_newer_due(carried, now)
        ):
            return EndUnsent(Outcome.SKIPPED, Reason.COALESCED, carried.error)
        left = (self.find_deadline(carried) - now).total_seconds()
        if left < 0:
            return EndUnsent(Outcome.EXPIRED, Reason.NOT_STARTED, self._explain_lateness(carried))
        return self._check_breaker(carried, left)

    def _check_breaker(self, carried: Delivery, left: float) -> AdmissionDecision | None:
        gate = self._context.breaker
        own, common = carried.not_before - self._context.clock.boottime(), gate.measure_wait()
        wait = max(own, common)
        if wait <= 0:
            return None
        carried.is_held_up = True
        if own >= common:
            cause, detail = Cause.BACK_OFF, carried.error
        else:
            cause, detail = (
                (Cause.THROTTLED, gate.throttle_end)
                if gate.hold_error is None
                else (Cause.HELD, gate.hold_error)
            )
        return MustWait(min(wait, left + 0.001), cause, detail)

    def _check_presence(self, carried: Delivery, now: datetime) -> AdmissionDecision | None:
        """Require a reading of an automation that may be gone: absent from the list, or 404 for its run.

        Nobody must pay for a run of a deleted automation.
        """
        if not self._context.timetable.needs_reading(carried.occurrence.automation_id):
            return None
        carried.is_held_up = True
        return NeedPresence((self.find_deadline(carried) - now).total_seconds() + 0.001)

    def _check_concurrency(self, carried: Delivery, policies: Policies, now: datetime) -> AdmissionDecision:
        # A resend under the same key starts no second run, and the newest run may belong to this occurrence.
        if policies.concurrency is Concurrency.ALLOW or carried.unknown_attempt is not None:
            return MaySend()
        unfinished = self._is_newest_run_unfinished(carried, now)
        match permit(policies, newest_run_unfinished=unfinished):
            case Permission.GO:
                return MaySend()
            case Permission.OVERLAP:
                return EndUnsent(Outcome.SKIPPED, Reason.OVERLAP, "the newest run is not finished")
        carried.is_held_up = True
        if unfinished is None:
            return NeedReading(carried.due_seen or self._context.clock.boottime())
        carried.is_queued = True
        newest = self._cache.find_newest(carried.occurrence.automation_id)
        return MustWait(None, Cause.QUEUED, newest.automation.run_id if newest else None)

    def _is_newest_run_unfinished(self, carried: Delivery, now: datetime) -> bool | None:
        """Return whether the newest run is unfinished and not lost; None: no reading since due."""
        seen = self._cache.find_newest(carried.occurrence.automation_id)
        if seen is None or carried.due_seen is None or seen.begun < carried.due_seen:
            return None
        newest = seen.automation
        if newest.run_id is None or is_finished(newest.run_status):
            return False
        offset, _ = self._context.upstream.clock_offset or (0.0, 0.0)
        lost = (
            newest.run_at is not None
            and now + timedelta(seconds=offset) - newest.run_at > self._context.settings.run_timeout
        )
        return not lost
