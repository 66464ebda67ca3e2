"""Delivery of one occurrence from the claim to the outcome.

Steps: wait for admission, send, reconcile an unknown attempt, make the outcome durable.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from itertools import takewhile

from scheduler.core.events import OccurrenceConcluded
from scheduler.core.model import (
    AttemptEnd,
    AttemptResult,
    Conclusion,
    Outcome,
    Reason,
    Run,
    RunOrigin,
    RunStatus,
    State,
)
from scheduler.core.occurrence_log import Cause, Step
from scheduler.daemon.admission import Admission, Withdraw
from scheduler.daemon.admission_wait import AdmissionWait, DecideAgain, DeliveryOutcome
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.context import Context
from scheduler.daemon.delivery import AutomationQueue, Delivery
from scheduler.daemon.presence import Presence
from scheduler.daemon.reconciler import NotStartedProof, ReconciledOutcome, Reconciler
from scheduler.daemon.sender import Sender, persist, persist_once


class Deliverer:
    """Delivers the occurrences of one target. ``started`` is called with every run from an attempt."""

    def __init__(
        self,
        context: Context,
        readings: AutomationCache,
        clearance: Admission,
        presence: Presence,
        started: Callable[[Run], None],
    ) -> None:
        self._context = context
        self._cache = readings
        self._on_run_start = started
        self._admission_wait = AdmissionWait(context, readings, clearance, presence)
        self._reconciler = Reconciler(context, readings)
        self.sender = Sender(context, readings, clearance, self._admission_wait, self._reconciler)
        self.is_stopping = False  # attempts in flight end, and nothing else begins

    async def deliver(self, lane: AutomationQueue, carried: Delivery) -> None:
        """Deliver the head of a queue until its outcome, its withdrawal, or the arrival of another head."""
        while not self.is_stopping and lane.deliveries[0] is carried:
            self.sender.in_flight.discard(carried.occurrence.automation_id)
            if carried.unknown_attempt is None or self._may_resend(carried):
                ending = await self._wait_and_attempt(lane, carried)
                if ending is None or isinstance(ending, DecideAgain):
                    continue
                if isinstance(ending, Withdraw):
                    with carried.record_wait(Cause.LEDGER, self._context.clock):
                        await self._context.retry_write(
                            "withdraw", lambda: self._context.ledger.withdraw([carried.occurrence])
                        )
                    carried.is_concluded = True
                    return
                if carried.unknown_attempt is None or ending.outcome is Outcome.ACCEPTED:
                    if await self._record_outcome(carried, ending):
                        return
                    continue
                if ending.end is not None:
                    await self.sender.record_attempt_end(carried, ending.end, State.UNKNOWN)
                # No second send is allowed: only readings can tell whether a run started.
                carried.may_resend = False
            elif (found := await self._reconcile(lane, carried)) is not None and await self._record_outcome(
                carried, found
            ):
                return
        if not self.is_stopping:
            await self._discard_attempt(carried)

    async def find_unsent_outcomes(self, lane: AutomationQueue) -> Sequence[tuple[Delivery, DeliveryOutcome]]:
        """Return the first deliveries of a queue that end now without an attempt, with their outcomes.

        Stop before a delivery whose run may have appeared late.
        """
        return list(
            takewhile(
                lambda each: self._reconciler.find_late_run(each[0]) is None,
                await self._admission_wait.find_unsent_outcomes(lane),
            )
        )

    async def record_outcomes(self, stopped: Iterable[tuple[Delivery, DeliveryOutcome]]) -> None:
        """Write many outcomes at once, in one transaction.

        Each write is tried once. After a failed write, the delivery is not concluded, and becomes the head of
        the queue. As the head, the delivery is decided again, and a further error is reported.
        """
        await asyncio.gather(
            *(self._record_outcome(carried, ending, once=True) for carried, ending in stopped),
            return_exceptions=True,
        )

    async def _wait_and_attempt(
        self, lane: AutomationQueue, carried: Delivery
    ) -> DeliveryOutcome | Withdraw | DecideAgain | None:
        """Wait for admission and make an attempt. Return the outcome; None: the delivery goes on.

        When the run of an earlier attempt appears only now, return the outcome of the earlier attempt.
        `Withdraw` and `DecideAgain` come from the admission.
        """
        ending = await self._admission_wait.wait_for_permission(
            lane, carried
        ) or await self.sender.make_attempt(lane, carried)
        late = self._reconciler.find_late_run(carried)
        if late is not None and await self._is_run_known(carried, late):
            carried.unstarted_attempt = late = None
        if late is None:
            return ending
        await self._discard_attempt(carried)
        return _to_delivery_outcome(carried, late)

    async def _is_run_known(self, carried: Delivery, late: ReconciledOutcome) -> bool:
        """Return whether the ledger has the run as the run of another occurrence, or as started by hand."""
        context, of = self._context, carried.occurrence
        assert late.run_id is not None
        run_id = late.run_id
        with carried.record_wait(Cause.LEDGER, context.clock):
            origin = await context.retry_read(
                "origin",
                lambda: context.ledger.find_run_origin(of.target, run_id, of.automation_id, late.run_at),
            )
        return origin not in {None, RunOrigin.FOREIGN}

    async def _discard_attempt(self, carried: Delivery) -> None:
        """Discard a written attempt before its send: another goes first, or no attempt is needed any more.

        Otherwise the next process would recover an unknown attempt, hidden by the run of the occurrence that
        went first.
        """
        if (
            carried.attempt is None
            or carried.state is not State.CLAIMED
            or carried.unknown_attempt is not None
        ):
            return
        with carried.record_wait(Cause.LEDGER, self._context.clock):
            await self._context.retry_write(
                "unsend", lambda: self._context.ledger.discard_attempts([carried.occurrence])
            )
        number = carried.attempt.number - 1
        carried.attempt = replace(carried.attempt, number=number) if number else None
        carried.written_boottime, carried.state = None, State.WAITING

    def _may_resend(self, carried: Delivery) -> bool:
        return (
            self._context.settings.idempotent
            and carried.may_resend
            and self._context.clock.now() <= carried.deadline
        )

    async def _reconcile(self, lane: AutomationQueue, carried: Delivery) -> DeliveryOutcome | None:
        assert carried.unknown_attempt is not None
        resolved = await self._reconciler.reconcile(
            carried.occurrence.automation_id, carried.unknown_attempt, not_before=carried.not_before
        )
        if isinstance(resolved, NotStartedProof):
            await self._resolve_together(
                carried,
                [
                    each
                    for each in lane.deliveries
                    if each is not carried and self._is_not_started(each, resolved)
                ],
            )
            return None
        return _to_delivery_outcome(carried, resolved)

    def _is_not_started(self, carried: Delivery, by: NotStartedProof) -> bool:
        return carried.unknown_attempt is not None and self._reconciler.is_not_started(
            carried.unknown_attempt, by
        )

    async def _resolve_together(self, carried: Delivery, others: Sequence[Delivery]) -> None:
        """Resolve the unknown attempts of a delivery and of ``others`` as not started, all at once.

        A killed process can leave many unknown attempts. For ``others``, the ledger is tried once: after a
        failure the attempt stays unknown, is reconciled as the head of its queue, and the error is reported
        there.
        """
        settled = [
            self._context.retry_write("state", lambda: self._resolve_not_started(carried)),
            *map(self._resolve_not_started, others),
        ]
        with carried.record_wait(Cause.LEDGER, self._context.clock):
            head, *_ = await asyncio.gather(*settled, return_exceptions=True)
        if isinstance(head, BaseException):
            raise head

    async def _resolve_not_started(self, carried: Delivery) -> None:
        """Record that nothing was started, and only afterwards let the occurrence wait.

        In the other order, a stop would take the attempt for an unsent attempt.
        """
        step = Step(self._context.clock.now(), Cause.NOTHING_STARTED)
        await persist_once(
            self._context,
            carried,
            lambda steps: self._context.ledger.resolve_not_started(carried.occurrence, (*steps, step)),
        )
        carried.mark_not_started()

    async def _record_outcome(
        self, carried: Delivery, ending: DeliveryOutcome, *, once: bool = False
    ) -> bool:
        """Make the outcome durable.

        Return False when the answer named the run of another occurrence: the attempt is unknown then.
        ``once``: raise `LedgerUnavailable` when the first write fails.
        """
        # Another process sent its attempt at the due instant or later. Only the reconciler's window begins
        # with the row.
        sent_at = (
            max(carried.sent_at, carried.due)
            if carried.sent_at is not None and ending.run is not None
            else None
        )
        if carried.is_backfill and ending.run is not None:
            ending = replace(ending, reason=Reason.MANUAL)
        lateness = None if sent_at is None else max((sent_at - carried.due).total_seconds(), 0.0)
        conclusion = Conclusion(
            ending.outcome,
            ending.reason,
            self._context.clock.now(),
            sent_at,
            lateness,
            ending.error,
            ending.run,
        )

        def conclude(steps: Sequence[Step]) -> Awaitable[bool]:
            return self._context.ledger.conclude(carried.occurrence, conclusion, ending.end, steps)

        done = await (
            persist_once(self._context, carried, conclude)
            if once
            else persist(self._context, "conclude", carried, conclude)
        )
        if not done:
            return await self._handle_taken_run(carried, ending)
        if ending.run is not None:
            self._cache.note_own_run(carried.occurrence.automation_id, ending.run.id)
            self._on_run_start(ending.run)
        carried.is_concluded = True
        self._publish_outcome(carried, ending, lateness)
        return True

    async def _handle_taken_run(self, carried: Delivery, ending: DeliveryOutcome) -> bool:
        """Handle a run that the ledger has for another occurrence.

        In an answer, this run says nothing: the attempt is unknown. Found by a reading, this run hides the
        occurrence's own run.
        """
        if ending.end is None or ending.run is None:
            covered = DeliveryOutcome(
                Outcome.UNRESOLVED,
                Reason.COVERED,
                f"run {ending.run.id if ending.run else ''} belongs to another occurrence",
            )
            return await self._record_outcome(carried, covered)
        error = f"the answer named run {ending.run.id}, which belongs to another occurrence"
        end = AttemptEnd(
            ending.end.number,
            AttemptResult.UNKNOWN,
            ending.end.ended_at,
            ending.end.sent_at,
            ending.end.http_status,
            error,
        )
        carried.mark_unknown(self._context.clock.boottime(), self._context.settings.settle_time)
        carried.error = error
        await self.sender.record_attempt_end(carried, end, State.UNKNOWN)
        return False

    def _publish_outcome(self, carried: Delivery, ending: DeliveryOutcome, lateness: float | None) -> None:
        self._context.publish(
            OccurrenceConcluded(
                occurrence=carried.occurrence,
                automation=carried.name,
                outcome=ending.outcome,
                reason=ending.reason,
                attempts=carried.attempt_count,
                lateness=lateness,
                kind=None if lateness is None or carried.is_backfill else _find_lateness_kind(carried),
                run_id=ending.run.id if ending.run else None,
                error=ending.error,
            )
        )


def _to_delivery_outcome(carried: Delivery, resolved: ReconciledOutcome) -> DeliveryOutcome:
    run = None
    if resolved.run_id is not None:
        run = Run(resolved.run_id, carried.occurrence.automation_id, resolved.run_at, RunStatus.RUNNING)
    return DeliveryOutcome(resolved.outcome, resolved.reason, resolved.error, run)


def _find_lateness_kind(carried: Delivery) -> str:
    if carried.is_late:
        return "catch_up"
    return "retry" if carried.attempt_count > 1 or carried.is_held_up else "on_time"
