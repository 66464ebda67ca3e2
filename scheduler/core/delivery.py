"""The delivery of one occurrence as a state machine: from its row in the ledger to its outcome or withdrawal.

`Delivery` is a frozen value. `DeliveryEvent.apply_to` returns the delivery after an event. After its begin,
only events change a delivery. `TRANSITIONS` has each allowed change of the state; the diagram
in ``docs/semantics.md`` is made from this table. `scheduler.core.admission` chooses what to do next. Nothing
here does I/O or reads a clock.

The states have the names of the ledger's states:

- waiting: the occurrence has a row in the ledger, and no written attempt that may be sent;
- claimed: the next attempt is written and not sent;
- in flight: the attempt is sent, and its end is not known, or known and not in the ledger yet;
- unknown: an attempt may have started a run. Either the daemon sends again under the same idempotency key, or
  readings of the automation must tell. The end of the attempt may not be in the ledger yet.

A resend passes through the states claimed and in flight. Meanwhile `Delivery.unknown_attempt` keeps the
earlier attempt. `Delivery.end` shows that the delivery is over.

Terms (``docs/glossary.md`` has all terms):

- reading: an answer of the API about one automation, alone or in the list; it shows the newest run;
- list: all automations of the target, as the API shows them;
- baseline: the newest known run of the automation at the write of an attempt;
- claim: the row that gives the occurrence to the daemon, with the first attempt, or without an attempt (then
  the state is waiting, and not claimed);
- place: the permission to send one attempt, within `max_in_flight` and the request budget;
- late run: a run that appears after readings agreed that nothing was started;
- recovery: a new process takes over the open occurrences of an earlier process.

Instants on the boot-time clock are seconds. This clock counts suspend and cannot be set.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, dataclass_transform

from scheduler.core.model import (
    Attempt,
    AttemptEnd,
    AttemptResult,
    Conclusion,
    Occurrence,
    Outcome,
    Reason,
    Run,
    RunStatus,
    State,
)
from scheduler.core.occurrence_log import Cause
from scheduler.core.reconcile import UnknownAttempt
from scheduler.core.response import (
    AttemptAccepted,
    AttemptVerdict,
    AutomationNotFound,
    Held,
    MaybeStarted,
    Rejected,
    Throttled,
)
from scheduler.core.timetable import TimetableEntry


class PlaceState(StrEnum):
    """Relation of a delivery to the places for attempts: `max_in_flight` and the request budget."""

    NONE = "none"
    WAITING = "waiting"
    GRANTED = "granted"


class End(StrEnum):
    """End of a delivery: the ledger has the outcome, or the ledger has no row for the occurrence any more."""

    CONCLUDED = "concluded"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class SendInstant:
    """Instant of an attempt's first byte on three clocks: wall clock, boot-time clock and API clock.

    ``by_api`` is None without a clock offset.
    """

    at: datetime
    boottime: float
    by_api: datetime | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One open occurrence with everything that this process knows about its delivery."""

    occurrence: Occurrence
    name: str
    due: datetime
    deadline: datetime
    state: State
    is_late: bool  # planned after the due instant, recovered, or a backfill
    is_backfill: bool = False  # ignores pauses, catch-up and concurrency
    # Definition version of the occurrence. None after recovery and for a backfill.
    entry: TimetableEntry | None = None
    recovered_under: TimetableEntry | None = None  # definition version in force at the recovery

    # Attempts
    # The newest written attempt. After a discard, only its number counts.
    attempt: Attempt | None = None
    # Instant of the write of the attempt, on the boot-time clock. None: no written attempt may be sent.
    written_boottime: float | None = None
    flight: SendInstant | None = None  # of the attempt in flight
    sent: SendInstant | None = None  # of the newest attempt that started, or may have started, a run
    unknown_attempt: UnknownAttempt | None = None
    # An attempt of which readings agree that it started nothing. A late run of the attempt may still appear.
    # Kept until a later attempt may have started a run, or until a late run is dismissed.
    unstarted_attempt: UnknownAttempt | None = None
    may_resend: bool = True  # under the same idempotency key, where the target honours keys
    # From the first unknown attempt on, also when readings find later that it started nothing.
    maybe_sent: bool = False

    # Results that are not in the ledger yet
    unrecorded_end: AttemptEnd | None = None  # end of the newest attempt
    conclusion: Conclusion | None = None
    must_check_list: bool = (
        False  # the attempt was answered 404: the list shows whether the automation is gone
    )

    # Waits
    place_state: PlaceState = PlaceState.NONE
    failures: int = 0  # attempts that failed
    faults: int = 0  # internal errors of the scheduler
    not_before: float = 0.0  # start of the next attempt or reading after a back-off, on the boot-time clock
    # When this process first saw the occurrence due, on the boot-time clock. A reading that began earlier
    # cannot tell whether the run before has ended.
    due_seen: float | None = None
    # Start of the wait, on the boot-time clock: the due instant of this occurrence, or of the first coalesced
    # occurrence.
    waiting_since: float | None = None
    is_held_up: bool = False  # something delayed the occurrence after its due instant
    # The run of the occurrence before delayed this occurrence, under the concurrency policy `queue`.
    waits_for_run_before: bool = False
    has_coalesced: bool = False  # an older occurrence was coalesced into this one
    error: str | None = None  # first error since the newest answer, for people

    end: End | None = None

    @property
    def attempt_count(self) -> int:
        """Number of written attempts. A discarded attempt does not count."""
        return 0 if self.attempt is None else self.attempt.number

    @property
    def is_attempted(self) -> bool:
        """Whether an attempt was made, with any result. A written but unsent attempt does not count."""
        return self.attempt_count > (1 if self.state is State.CLAIMED else 0)

    @property
    def has_unsent_attempt(self) -> bool:
        """Whether an attempt was written and not sent, and no earlier attempt is unknown."""
        return self.state is State.CLAIMED and self.attempt is not None and self.unknown_attempt is None

    @property
    def state_after_attempt_end(self) -> State:
        """State after the record of the newest attempt's end. An earlier attempt may still be unknown."""
        return State.WAITING if self.unknown_attempt is None else State.UNKNOWN

    @property
    def has_unrecorded_result(self) -> bool:
        """Whether the ledger lacks the end of the newest attempt or the outcome, or a list check is due."""
        return self.unrecorded_end is not None or self.conclusion is not None or self.must_check_list

    @property
    def may_have_started(self) -> bool:
        """Whether an attempt is in flight or unknown, in any state.

        An unknown attempt stays unknown while its resend is written and sent.
        """
        return self.state is State.IN_FLIGHT or self.unknown_attempt is not None

    @property
    def is_undecided(self) -> bool:
        """Whether a run that appears now may belong to this occurrence."""
        return self.may_have_started or self.unstarted_attempt is not None

    @property
    def is_under_way(self) -> bool:
        """Whether the occurrence was seen due, or has an attempt in flight or unknown."""
        return self.due_seen is not None or self.may_have_started

    def find_deadline(self, run_timeout: timedelta) -> datetime:
        """Return the latest instant for the start of the occurrence.

        An occurrence that waits for the run before has at least ``run_timeout`` after its own due instant.
        After ``run_timeout``, the run before counts as lost, and nothing waits for this run. An occurrence
        with an unknown attempt does not wait for the run before, and keeps the normal deadline.
        """
        if self.waits_for_run_before and self.unknown_attempt is None:
            return max(self.deadline, self.due + run_timeout)
        return self.deadline

    @property
    def lateness_kind(self) -> str:
        """Label of the lateness in the metrics: ``catch_up``, ``retry`` or ``on_time``."""
        if self.is_late:
            return "catch_up"
        return "retry" if self.attempt_count > 1 or self.is_held_up else "on_time"

    def make_conclusion(
        self,
        outcome: Outcome,
        reason: Reason,
        at: datetime,
        *,
        error: str | None = None,
        run: Run | None = None,
    ) -> Conclusion:
        """Return a conclusion of the delivery.

        With a run and a known send, the conclusion has the send instant and the lateness. The run of a
        backfill has the reason `manual`.
        """
        if run is None or self.sent is None:
            return Conclusion(outcome, reason, at, error=error, run=run)
        # Of a recovered attempt without an end, only the instant of its write is known, and an attempt may be
        # written before the due instant. No attempt is sent before the due instant.
        sent_at = max(self.sent.at, self.due)
        lateness = (sent_at - self.due).total_seconds()
        reason = Reason.MANUAL if self.is_backfill else reason
        return Conclusion(outcome, reason, at, sent_at, lateness, error, run)

    def note_due(self, boottime: float) -> "Delivery":
        """Return the delivery as seen due at ``boottime``, unless it was seen due before."""
        if self.due_seen is not None or self.is_backfill:
            return self
        return replace(self, due_seen=boottime)

    def mark_unknown(self, sent: SendInstant, *, ended: float, settle_time: float) -> "Delivery":
        """Return the delivery with its newest attempt unknown, sent at ``sent`` and ended at ``ended``.

        An earlier attempt that was unknown, or seems to have started nothing, is combined with the newest
        attempt. The result has the send instant of the earlier attempt, because the API may start or show its
        run late. The baseline is that of the newest attempt. A resend has the baseline of the unknown
        attempt. Otherwise, each run that the API showed before the write of the newest attempt was checked,
        and none of these runs belongs to this occurrence.
        """
        earlier = self.unknown_attempt or self.unstarted_attempt
        unknown = UnknownAttempt(
            self.attempt.baseline if self.attempt else None,
            sent.boottime if earlier is None else earlier.sent,
            ended,
            settle_time,
            sent.by_api if earlier is None else earlier.sent_by_api,
        )
        return replace(
            self,
            state=State.UNKNOWN,
            sent=sent,
            flight=None,
            unknown_attempt=unknown,
            unstarted_attempt=None,
            maybe_sent=True,
        )

    def mark_not_started(self) -> "Delivery":
        """Return the delivery as waiting: its unknown attempt started nothing.

        Resends are allowed again: if the next attempt becomes unknown, it may be sent again under its key.
        """
        return replace(
            self,
            state=State.WAITING,
            written_boottime=None,
            unstarted_attempt=self.unknown_attempt,
            unknown_attempt=None,
            may_resend=True,
        )


# ---------------------------------------------------------------- events


@dataclass_transform(frozen_default=True)
class DeliveryEvent(ABC):
    """Something that happened to a delivery: most events are results of an action of the daemon.

    Each subclass is a frozen dataclass.
    """

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True)(cls)

    def apply_to(self, delivery: Delivery) -> Delivery:
        """Return the delivery after this event. Raise `InvalidTransition` if the event cannot happen now.

        An event that is missing from `TRANSITIONS` is allowed in each state, and never changes the state. An
        event of the table is allowed only in the states that list the event. There are two exceptions:
        `Faulted` and `RunRefused` are allowed in each state, but change only the states that list them.
        """
        kind = type(self)
        if delivery.end is not None:
            raise InvalidTransition(f"{kind.__name__} after the end: {delivery.end}")
        allowed = TRANSITIONS[delivery.state].get(kind)
        if allowed is None and kind in _ONLY_WHERE_LISTED:
            raise InvalidTransition(f"{kind.__name__} in the state {delivery.state}")
        after = self._change(delivery)
        state_after = after.end or after.state
        if state_after not in (allowed or {delivery.state}):
            raise InvalidTransition(f"{kind.__name__}: {delivery.state} to {state_after}")
        return after

    @abstractmethod
    def _change(self, delivery: Delivery) -> Delivery:
        """Return the delivery with all changes by this event, allowed or not."""


class InvalidTransition(RuntimeError):
    """The event is not allowed in the state of the delivery. This is an error of the scheduler itself."""


class NotDue(DeliveryEvent):
    """The occurrence is not due. It may have been seen due before the clock was set back."""

    def _change(self, delivery: Delivery) -> Delivery:
        return replace(delivery, due_seen=None)


class Delayed(DeliveryEvent):
    """The occurrence is due, and waits for ``cause`` from ``boottime`` on."""

    boottime: float
    cause: Cause

    def _change(self, delivery: Delivery) -> Delivery:
        waits_for_run_before = delivery.waits_for_run_before or self.cause is Cause.QUEUED
        due = delivery.note_due(self.boottime)
        if due.is_held_up and due.waits_for_run_before == waits_for_run_before:
            return due  # a waiting delivery is told so at each decision
        return replace(due, is_held_up=True, waits_for_run_before=waits_for_run_before)


class PlaceRequested(DeliveryEvent):
    """The delivery joined the queue for places. ``waiting_since`` is on the boot-time clock."""

    boottime: float
    waiting_since: float

    def _change(self, delivery: Delivery) -> Delivery:
        due = delivery.note_due(self.boottime)
        return replace(due, place_state=PlaceState.WAITING, waiting_since=self.waiting_since)


class PlaceGranted(DeliveryEvent):
    """The delivery has a place for its attempt."""

    def _change(self, delivery: Delivery) -> Delivery:
        return replace(delivery, place_state=PlaceState.GRANTED)


class PlaceReleased(DeliveryEvent):
    """The delivery has no place and waits for none.

    ``error`` is set only when the occurrence expired while it waited for a place: the cause of the shortage.
    """

    error: str | None = None

    def _change(self, delivery: Delivery) -> Delivery:
        return replace(delivery, place_state=PlaceState.NONE, error=delivery.error or self.error)


class AttemptWritten(DeliveryEvent):
    """The ledger has the next attempt. ``boottime`` is the begin of the write.

    In the state waiting: a first attempt, or a retry. In the state claimed: an attempt in place of an unsent
    attempt that is too old to be sent. In the state unknown: a resend of the unknown attempt.
    """

    attempt: Attempt
    boottime: float

    def _change(self, delivery: Delivery) -> Delivery:
        return replace(delivery, state=State.CLAIMED, attempt=self.attempt, written_boottime=self.boottime)


class AttemptDiscarded(DeliveryEvent):
    """The ledger no longer has the newest attempt, which was never sent (`Delivery.has_unsent_attempt`).

    The delivery keeps only the number of the attempt before.
    """

    def _change(self, delivery: Delivery) -> Delivery:
        number = delivery.attempt_count - 1
        attempt = replace(delivery.attempt, number=number) if delivery.attempt and number else None
        return replace(delivery, state=State.WAITING, attempt=attempt, written_boottime=None)


class SendBegun(DeliveryEvent):
    """The first byte of the attempt is about to leave."""

    instant: SendInstant

    def _change(self, delivery: Delivery) -> Delivery:
        return replace(delivery, state=State.IN_FLIGHT, flight=self.instant, written_boottime=None)


class Answered(DeliveryEvent):
    """The request of the attempt is over at ``boottime``, with an answer or without an answer.

    ``verdict`` is its meaning. The delivery does not return to waiting before `AttemptEndRecorded`: a stop of
    the daemon removes the attempts without an end, except for deliveries in flight or unknown
    (`Dispatcher.discard_unsent_attempts`). A sent attempt would be lost.
    ``settle_time`` is the number of seconds in which the API may still start the run. ``back_off`` is the
    number of seconds before a next attempt.
    """

    verdict: AttemptVerdict
    end: AttemptEnd
    boottime: float
    settle_time: float
    back_off: float

    def _change(self, delivery: Delivery) -> Delivery:
        end, at = self.end, self.end.ended_at
        after = replace(delivery, place_state=PlaceState.NONE, error=end.error, unrecorded_end=end)
        match self.verdict:
            case AttemptAccepted(automation=automation):
                after = replace(after, sent=delivery.flight)
                run = Run(automation.run_id or "", automation.id, automation.run_at, RunStatus.RUNNING)
                conclusion = after.make_conclusion(Outcome.ACCEPTED, Reason.ANSWERED, at, run=run)
                return replace(after, conclusion=conclusion)
            case Rejected(error=error):
                if delivery.unknown_attempt is not None:  # an earlier attempt may have started a run
                    return replace(after, may_resend=False)
                conclusion = after.make_conclusion(Outcome.REJECTED, Reason.REFUSED, at, error=error)
                return replace(after, conclusion=conclusion)
            case MaybeStarted(retry_after=retry_after):
                return self._leave_unknown(after, retry_after)
            case Throttled() | Held():  # the circuit breaker of the target decides about the next attempt
                return after
            case _:  # NotStarted or AutomationNotFound: surely no run
                return replace(
                    after,
                    failures=delivery.failures + 1,
                    not_before=self.boottime + self.back_off,
                    must_check_list=isinstance(self.verdict, AutomationNotFound),
                )

    def _leave_unknown(self, delivery: Delivery, retry_after: float | None) -> Delivery:
        """Return the delivery as unknown, to be resent or read after ``retry_after``.

        The first resend or reading needs no other wait, and later ones back off.
        """
        back_off = 0.0 if delivery.unknown_attempt is None else self.back_off
        assert delivery.flight is not None
        return replace(
            delivery.mark_unknown(delivery.flight, ended=self.boottime, settle_time=self.settle_time),
            failures=delivery.failures + 1,
            not_before=self.boottime + max(retry_after or 0.0, back_off),
        )


class AttemptEndRecorded(DeliveryEvent):
    """The ledger has the end of the newest attempt. The daemon writes the next attempt only after this event.

    When the outcome is known with the end, the ledger gets both at once: `Concluded` comes instead.
    """

    def _change(self, delivery: Delivery) -> Delivery:
        if delivery.unrecorded_end is None:
            raise InvalidTransition("AttemptEndRecorded before the end of an attempt")
        return replace(delivery, state=delivery.state_after_attempt_end, unrecorded_end=None, flight=None)


class ListChecked(DeliveryEvent):
    """The list was read after a 404, and after the record of the attempt's end.

    ``gone``: the list does not have the automation either.
    """

    at: datetime
    gone: bool

    def _change(self, delivery: Delivery) -> Delivery:
        after = replace(delivery, must_check_list=False)
        if not self.gone:
            return after
        if delivery.unknown_attempt is not None:  # an earlier attempt may have started a run
            return replace(after, may_resend=False)
        error = delivery.error
        conclusion = after.make_conclusion(Outcome.SKIPPED, Reason.DELETED, self.at, error=error)
        return replace(after, conclusion=conclusion)


class ReadingFailed(DeliveryEvent):
    """No reading came in time."""

    error: str

    def _change(self, delivery: Delivery) -> Delivery:
        return replace(delivery, error=delivery.error or self.error)


class ReconcileBegun(DeliveryEvent):
    """Only readings can tell whether a run started. No second send is allowed."""

    def _change(self, delivery: Delivery) -> Delivery:
        return replace(delivery, may_resend=False)


class NotStartedRecorded(DeliveryEvent):
    """Readings agree that the unknown attempt started nothing, and the ledger has this result.

    In the state claimed, a resend of the attempt was written and is never sent. The daemon first writes
    another attempt.
    """

    def _change(self, delivery: Delivery) -> Delivery:
        return delivery.mark_not_started()


class LateRunDismissed(DeliveryEvent):
    """The run that appeared late belongs to another occurrence, or was started by hand."""

    def _change(self, delivery: Delivery) -> Delivery:
        return replace(delivery, unstarted_attempt=None)


class Resolved(DeliveryEvent):
    """A reading, or the lack of the automation, decided the outcome. The ledger does not have it yet."""

    conclusion: Conclusion

    def _change(self, delivery: Delivery) -> Delivery:
        return replace(delivery, conclusion=self.conclusion)


class RunRefused(DeliveryEvent):
    """The ledger refused the conclusion: the run belongs to another occurrence.

    When the answer to the attempt in flight named the run, the answer was wrong, and the attempt becomes
    unknown. When a reading showed the run, this run may hide a run of the attempt, because the API shows only
    the newest run: the outcome becomes `unresolved`. The two cases cannot be confused: no reading concludes a
    delivery in flight. ``back_off`` is the number of seconds before a resend or a reading, from the second
    such answer on.
    """

    at: datetime
    boottime: float
    settle_time: float
    back_off: float

    def _change(self, delivery: Delivery) -> Delivery:
        run = delivery.conclusion.run if delivery.conclusion else None
        run_id = "" if run is None else run.id
        end, flight = delivery.unrecorded_end, delivery.flight
        if end is None or flight is None:  # a reading showed the run
            error = f"run {run_id} belongs to another occurrence"
            conclusion = delivery.make_conclusion(Outcome.UNRESOLVED, Reason.COVERED, self.at, error=error)
            return replace(delivery, conclusion=conclusion)
        error = f"the answer named run {run_id}, which belongs to another occurrence"
        end = replace(end, result=AttemptResult.UNKNOWN, error=error)
        # The next answer may name the same run again. The first resend is immediate, later resends back off.
        back_off = 0.0 if delivery.unknown_attempt is None else self.back_off
        return replace(
            delivery.mark_unknown(flight, ended=self.boottime, settle_time=self.settle_time),
            conclusion=None,
            unrecorded_end=end,
            error=error,
            failures=delivery.failures + 1,
            not_before=self.boottime + back_off,
        )


class OlderCoalesced(DeliveryEvent):
    """An older occurrence was coalesced into this one, which inherits the longer wait."""

    waiting_since: float | None = None

    def _change(self, delivery: Delivery) -> Delivery:
        since = [each for each in (delivery.waiting_since, self.waiting_since) if each is not None]
        return replace(delivery, has_coalesced=True, waiting_since=min(since, default=None))


class Faulted(DeliveryEvent):
    """An internal error of the scheduler interrupted the delivery.

    Results that are not in the ledger yet are dropped. An attempt in flight becomes unknown: readings find
    its run, and the ledger closes the attempt as unknown.
    """

    boottime: float
    settle_time: float

    def _change(self, delivery: Delivery) -> Delivery:
        after = replace(
            delivery,
            faults=delivery.faults + 1,
            place_state=PlaceState.NONE,
            unrecorded_end=None,
            conclusion=None,
            must_check_list=False,
        )
        if delivery.state is not State.IN_FLIGHT or delivery.flight is None:
            return after
        return after.mark_unknown(delivery.flight, ended=self.boottime, settle_time=self.settle_time)


class Concluded(DeliveryEvent):
    """The ledger has the outcome: `Delivery.conclusion`, or an outcome by a policy or a deadline."""

    def _change(self, delivery: Delivery) -> Delivery:
        return replace(delivery, end=End.CONCLUDED)


class Withdrawn(DeliveryEvent):
    """The ledger has no row for the occurrence any more.

    The daemon and the ledger withdraw an occurrence only when no request can have been sent for it.
    """

    def _change(self, delivery: Delivery) -> Delivery:
        return replace(delivery, end=End.WITHDRAWN)


# ---------------------------------------------------------------- transitions


FIRST_STATES: Final[Mapping[State, str]] = {
    State.WAITING: "a claim without an attempt, a backfill, or a recovery without an unknown attempt",
    State.CLAIMED: "a claim together with the first attempt",
    State.UNKNOWN: "a recovery with an unknown attempt",
}
"""The states in which a delivery begins, and how."""

TRANSITIONS: Final[Mapping[State, Mapping[type[DeliveryEvent], frozenset[State | End]]]] = {
    State.WAITING: {
        AttemptWritten: frozenset({State.CLAIMED}),
        Concluded: frozenset({End.CONCLUDED}),
        Withdrawn: frozenset({End.WITHDRAWN}),
    },
    State.CLAIMED: {
        AttemptWritten: frozenset({State.CLAIMED}),
        AttemptDiscarded: frozenset({State.WAITING}),
        SendBegun: frozenset({State.IN_FLIGHT}),
        NotStartedRecorded: frozenset({State.WAITING}),
        Concluded: frozenset({End.CONCLUDED}),
        Withdrawn: frozenset({End.WITHDRAWN}),
    },
    State.IN_FLIGHT: {
        Answered: frozenset({State.IN_FLIGHT, State.UNKNOWN}),
        AttemptEndRecorded: frozenset({State.WAITING, State.UNKNOWN}),
        RunRefused: frozenset({State.UNKNOWN}),
        Faulted: frozenset({State.UNKNOWN}),
        Concluded: frozenset({End.CONCLUDED}),
    },
    State.UNKNOWN: {
        AttemptEndRecorded: frozenset({State.UNKNOWN}),
        AttemptWritten: frozenset({State.CLAIMED}),
        NotStartedRecorded: frozenset({State.WAITING}),
        Concluded: frozenset({End.CONCLUDED}),
    },
}
"""For each state, the events that may change this state, and the states after each event.

`DeliveryEvent.apply_to` states the rules for all other events.
"""

_ONLY_WHERE_LISTED: Final = frozenset().union(*TRANSITIONS.values()) - {Faulted, RunRefused}
