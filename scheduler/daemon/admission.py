"""Whether an occurrence may be sent now, must wait, or gets its outcome without being sent. One look, without I/O."""

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
"""In place of an automation's id among the pauses: all of the target."""


@dataclass(frozen=True, slots=True)
class MaySend:
    """Send it."""


@dataclass(frozen=True, slots=True)
class MustWait:
    """Look again after so many seconds, or when the lane's alarm rings; None: only then. ``cause`` is what people are told."""

    seconds: float | None
    cause: Cause | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class NeedReading:
    """Only a reading begun at ``since`` or later can tell."""

    since: float


@dataclass(frozen=True, slots=True)
class NeedPresence:
    """The list does not have the automation: only the automation itself, read alone, or the next snapshot can tell whether it is there.

    Without an answer, look again after so many seconds.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class EndUnsent:
    """This is its outcome."""

    outcome: Outcome
    reason: Reason
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Withdraw:
    """It was claimed ahead, nothing was sent for it, and an edit took it back before it was due: it never was."""


AdmissionDecision = MaySend | MustWait | NeedReading | NeedPresence | EndUnsent | Withdraw


class Admission:
    """One target's rules for sending."""

    def __init__(self, context: Context, readings: AutomationCache) -> None:
        self._context = context
        self._cache = readings
        self.absent_until: datetime | None = None  # nobody ran before; None once a poll has confirmed what came due since
        self.first_poll_wait: Step | None = None  # from the start of this process until its first good poll
        self.snapshot_at: datetime | None = None
        self.fresh_since = float("-inf")  # when a good poll ended a time in which the newest snapshot was too old
        self.paused_ids: frozenset[str] = frozenset()  # by an operator, as last read from the ledger

    def is_paused(self, automation_id: str) -> bool:
        """Whether an operator had paused it when that was last read."""
        return EVERYTHING in self.paused_ids or automation_id in self.paused_ids

    def find_deadline(self, carried: Delivery) -> datetime:
        """Until when it may start. One that waits for the run before it has until that run counts as lost, but waits for none in doubt."""
        if carried.is_queued and carried.unknown_attempt is None:
            return max(carried.deadline, carried.due + self._context.settings.run_timeout)
        return carried.deadline

    def decide(self, carried: Delivery, lane: AutomationQueue, *, paused: bool) -> AdmissionDecision:
        """Look once."""
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
        """A poll that began then was good: what came due before this process began is still meant."""
        if self.is_stale:
            self.fresh_since = self._context.clock.boottime()
        if self.absent_until is not None:
            self.first_poll_wait = Step(self.absent_until, Cause.UNCONFIRMED, max(self.absent_until, self._context.clock.now()))
        self.absent_until = None
        self.snapshot_at = at

    def _find_policies(self, carried: Delivery) -> Policies:
        entry = self._context.timetable.entries.get(carried.occurrence.automation_id)
        return self._context.settings.policies(carried.occurrence.automation_id, carried.name) if entry is None else entry.policies

    def note_clock_step(self, seconds: float) -> None:
        """Ahead by so many seconds: the instants that were taken from it go along."""
        step = timedelta(seconds=seconds)
        self.absent_until = None if self.absent_until is None else self.absent_until + step
        self.snapshot_at = None if self.snapshot_at is None else self.snapshot_at + step
        self.first_poll_wait = None  # the clock that it was measured by is gone

    @property
    def is_stale(self) -> bool:
        """Whether the newest snapshot is too old to go on from."""
        return self.snapshot_at is None or self._context.clock.now() - self.snapshot_at > self._context.settings.stale_limit

    def _check_knowledge(self, carried: Delivery) -> AdmissionDecision | None:
        unconfirmed = self.absent_until is not None and carried.due <= self.absent_until
        if self._context.watch.is_in_doubt:
            return MustWait(None, Cause.CLOCK)
        if unconfirmed:
            return MustWait(None, Cause.UNCONFIRMED)
        return MustWait(None, Cause.STALE) if self.is_stale else None

    def _check_definition(self, carried: Delivery) -> AdmissionDecision | None:
        """Tell what an edit does to the occurrence.

        One that came into force before the instant takes it back, a later one leaves it, unless it switches the automation off.
        """
        entry = self._context.timetable.entries.get(carried.occurrence.automation_id)
        if entry is None:
            return EndUnsent(Outcome.SKIPPED, Reason.DELETED, "the automation was deleted before it could be sent")
        if entry is carried.entry:
            return None
        scheduled_for = carried.occurrence.scheduled_for
        decisive = (carried.entry or carried.recovered_under or entry).find_decisive(scheduled_for)
        if decisive is not carried.entry and decisive.effective_from < scheduled_for:
            still_meant = decisive.schedule is not None and decisive.schedule.is_fire_time(scheduled_for)
            if not still_meant:
                return self._withdraw_or_end(carried, decisive)
        if entry.end_reason is not None:
            return EndUnsent(Outcome.SKIPPED, Reason.DELETED, f"the automation was {entry.end_reason} before it could be sent")
        return None

    def _withdraw_or_end(self, carried: Delivery, entry: TimetableEntry) -> AdmissionDecision:
        """Withdraw an occurrence that is not due yet. What was due may have been sent, or coalesced an older one: its row stays.

        Either may also hold of one that is not due yet: the planner coalesces into what it claims ahead, and a clock may be set back.
        """
        if self._context.clock.now() < carried.due and not carried.is_attempted and not carried.has_coalesced:
            return Withdraw()
        change = "edited with effect from before this instant" if entry.end_reason is None else entry.end_reason
        return EndUnsent(Outcome.SKIPPED, Reason.DELETED, f"the automation was {change}, before it could be started")

    def _explain_lateness(self, carried: Delivery) -> str | None:
        """Return why an occurrence was not started in time; None when nothing but time is known."""
        denied = self._context.timetable.find_denial(carried.occurrence.automation_id)
        return denied or carried.error or self._context.breaker.obstacle

    def _decide_backfill(self, carried: Delivery, now: datetime) -> AdmissionDecision:
        """Somebody asked for it, who knows what was edited, paused or is running."""
        if carried.occurrence.automation_id not in self._context.timetable.entries:
            return EndUnsent(Outcome.SKIPPED, Reason.DELETED, "the automation was deleted before it could be sent")
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
            if (
                carried.unknown_attempt is not None
            ):  # the clock was set back: not to be sent again before it is due again, but found out now
                return EndUnsent(Outcome.EXPIRED, Reason.NOT_STARTED)
            carried.due_seen = None  # it may have been due before the clock was set back
            return MustWait((carried.due - now).total_seconds())
        if carried.due_seen is None:
            carried.due_seen = self._context.clock.boottime()
        may_be_overtaken = (policies.catch_up is not CatchUp.ALL or carried.is_queued) and not carried.maybe_sent
        if may_be_overtaken and any(self._check_definition(each) is None for each in lane.iterate_newer_due(carried, now)):
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
            cause, detail = (Cause.THROTTLED, gate.throttle_end) if gate.hold_error is None else (Cause.HELD, gate.hold_error)
        return MustWait(min(wait, left + 0.001), cause, detail)

    def _check_presence(self, carried: Delivery, now: datetime) -> AdmissionDecision | None:
        """An automation that is absent from the list, or whose run answered 404, may be gone: nobody pays for that."""
        if not self._context.timetable.needs_reading(carried.occurrence.automation_id):
            return None
        carried.is_held_up = True
        return NeedPresence((self.find_deadline(carried) - now).total_seconds() + 0.001)

    def _check_concurrency(self, carried: Delivery, policies: Policies, now: datetime) -> AdmissionDecision:
        # One that is sent again under its key starts no second run, and the newest one may be its own.
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
        """None: no reading begun after the due instant."""
        seen = self._cache.find_newest(carried.occurrence.automation_id)
        if seen is None or carried.due_seen is None or seen.begun < carried.due_seen:
            return None
        newest = seen.automation
        if newest.run_id is None or is_finished(newest.run_status):
            return False
        offset, _ = self._context.upstream.clock_offset or (0.0, 0.0)
        lost = newest.run_at is not None and now + timedelta(seconds=offset) - newest.run_at > self._context.settings.run_timeout
        return not lost
