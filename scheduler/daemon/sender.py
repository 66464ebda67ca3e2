"""Sender of attempts: record an attempt before its first byte, send, judge the answer, record the end."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from scheduler.core.errors import UpstreamError
from scheduler.core.events import AttemptBegun, AttemptEnded
from scheduler.core.identity import make_idempotency_key
from scheduler.core.model import Attempt, AttemptEnd, Outcome, Reason, Run, RunStatus, State
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.policy import CatchUp
from scheduler.core.verdict import (
    AttemptAccepted,
    AttemptResponse,
    AttemptVerdict,
    AutomationNotFound,
    Held,
    MaybeStarted,
    NotStarted,
    Rejected,
    Throttled,
    judge,
)
from scheduler.daemon.admission import Admission, EndUnsent, MaySend, MustWait
from scheduler.daemon.admission_wait import AdmissionWait, DeliveryOutcome
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.context import Context, back_off
from scheduler.daemon.delivery import AutomationQueue, Delivery
from scheduler.daemon.places import AttemptPlace, Places, Urgency
from scheduler.daemon.reconciler import Reconciler
from scheduler.daemon.recovery import to_api_time

_T = TypeVar("_T")

_MOMENT: Final = timedelta(milliseconds=1)


class Sender:
    """Makes the attempts of one target, each in a separate place."""

    def __init__(
        self,
        context: Context,
        readings: AutomationCache,
        clearance: Admission,
        waiting: AdmissionWait,
        inquiry: Reconciler,
    ) -> None:
        self._context = context
        self._cache = readings
        self._admission = clearance
        self._admission_wait = waiting
        self._reconciler = inquiry
        self.places = Places(context)
        self.in_flight: set[str] = set()  # automations with a sent attempt and no handled answer

    async def make_attempt(self, lane: AutomationQueue, carried: Delivery) -> DeliveryOutcome | None:
        """Make the next attempt. Return the outcome, or None when the delivery goes on."""
        with self._make_place(lane, carried) as place:
            came = await self._wait_and_send(lane, carried, place)
        return None if came is None else await self._handle_verdict(carried, *came)

    async def _wait_and_send(
        self, lane: AutomationQueue, carried: Delivery, place: AttemptPlace
    ) -> tuple[AttemptVerdict, AttemptEnd] | None:
        """Wait for the place, and send. Return the verdict and the attempt's end; None: nothing was sent."""
        try:
            if not await self._wait_for_place(lane, carried, place) or not await self._prepare_attempt(
                lane, carried
            ):
                return None
            before = carried.sent_at, carried.sent_boottime, carried.sent_by_api
            place.send()
            verdict, end = await self._send(carried)
        finally:
            self._context.breaker.note_attempt_end(carried)
        if isinstance(verdict, AttemptAccepted):
            carried.unstarted_attempt = None
        elif not isinstance(verdict, MaybeStarted):
            # The run of the attempt before may still appear.
            carried.sent_at, carried.sent_boottime, carried.sent_by_api = before
        return verdict, end

    def _make_place(self, lane: AutomationQueue, carried: Delivery) -> AttemptPlace:
        """Return the place for the attempt.

        The occurrence is lost at the deadline, or when a newer occurrence comes due and coalesces the older.
        """
        now, seconds = self._context.clock.now(), self._context.clock.boottime()
        if carried.waiting_since is None:
            carried.waiting_since = seconds - max(0.0, (now - carried.due).total_seconds())
        ends = [self._admission.find_deadline(carried), *self._iterate_next_instants(lane, carried, now)]
        lost_at = seconds + (min(ends) - now).total_seconds()
        return self.places.get_place(carried, Urgency(lost_at, carried.waiting_since), lane.alarm.ring)

    def _iterate_next_instants(
        self, lane: AutomationQueue, carried: Delivery, now: datetime
    ) -> Iterator[datetime]:
        """Yield the known due instants of newer occurrences that would coalesce this occurrence."""
        entry = self._context.timetable.entries.get(carried.occurrence.automation_id)
        if (
            carried.is_backfill
            or carried.maybe_sent
            or entry is None
            or entry.policies.catch_up is CatchUp.ALL
        ):
            return
        if (due := lane.find_next_due(now)) is not None:
            yield due
        following = None if entry.schedule is None else self._context.timetable.find_next(entry.schedule)
        if following is not None:
            yield following + (carried.due - carried.occurrence.scheduled_for)

    async def _wait_for_place(self, lane: AutomationQueue, carried: Delivery, place: AttemptPlace) -> bool:
        """Wait for the place. Return whether the attempt may be sent.

        Return False when the occurrence ends, is no longer the head, or must first wait for something else.
        """
        answer = None
        await asyncio.sleep(0)  # all due occurrences join the queue before the queue chooses
        with carried.record_place_wait(place):
            while True:
                if not place.is_granted:
                    await lane.alarm.sleep(self._measure_sleep(lane, carried))
                if lane.deliveries[0] is not carried:
                    break
                answer = await self._admission_wait.decide(lane, carried)
                if isinstance(answer, EndUnsent):
                    self._note_unsent_end(lane, carried, place, answer)
                if not isinstance(answer, MaySend) or place.is_granted:
                    break
        return place.is_granted and lane.deliveries[0] is carried and isinstance(answer, MaySend)

    def _note_unsent_end(
        self, lane: AutomationQueue, carried: Delivery, place: AttemptPlace, ending: EndUnsent
    ) -> None:
        """Note that the occurrence ended while it waited for a place.

        After a coalescence, the newer occurrence takes over the wait before the place goes to another
        automation. An occurrence with an earlier send is not counted as lost for want of a place: an
        automation with nothing but failing attempts must not precede the others.
        """
        if not carried.maybe_sent and (
            ending.outcome is Outcome.EXPIRED or ending.reason is Reason.COALESCED
        ):
            self.places.record_loss(place)
        if ending.outcome is Outcome.EXPIRED:
            carried.error = carried.error or (None if place.is_granted else place.shortage_text)
        elif (
            ending.reason is Reason.COALESCED
            and (heir := lane.coalesce_into_newest([carried], self._context.clock.now())) is not None
        ):
            self.places.hand_over(self._make_place(lane, heir))

    def _measure_sleep(self, lane: AutomationQueue, carried: Delivery) -> float:
        """Return the seconds until time alone ends the wait: at the deadline, or when a newer fire is due."""
        now = self._context.clock.now()
        deadline, newer = self._admission.find_deadline(carried) + _MOMENT, lane.find_next_due(now)
        return max(0.0, ((deadline if newer is None else min(deadline, newer)) - now).total_seconds())

    async def _prepare_attempt(self, lane: AutomationQueue, carried: Delivery) -> bool:
        """Make the attempt durable. Return whether the attempt may still be sent.

        The daemon may have read an edit while the attempt was written.
        """
        gate = self._context.breaker
        if not gate.admit(carried):
            return False
        if not self._admission_wait.is_attempt_fresh(carried) or self._is_outdated(carried):
            await self._write_attempt(carried)
            if not self._may_send(await self._admission_wait.decide(lane, carried)):
                return False
        if (
            self._is_too_late(carried)
            or self._reconciler.find_late_run(carried) is not None
            or not gate.admit(carried)
        ):
            return False
        gate.note_send(carried)
        return True

    def _may_send(self, answer: object) -> bool:
        """Return whether nothing delays the attempt, or only the target: the breaker chooses the probe."""
        by_target = isinstance(answer, MustWait) and answer.cause in {Cause.HELD, Cause.THROTTLED}
        return by_target or isinstance(answer, MaySend)

    def _is_too_late(self, carried: Delivery) -> bool:
        """Return whether the write of the attempt took too long: beyond `SEND_WITHIN` or the deadline."""
        return not self._admission_wait.is_attempt_fresh(
            carried
        ) or self._context.clock.now() > self._admission.find_deadline(carried)

    def _is_outdated(self, carried: Delivery) -> bool:
        """Return whether the newest known run changed since the attempt was written.

        The new run is not the attempt's, and must become the baseline of the attempt.
        """
        assert carried.attempt is not None
        return carried.unknown_attempt is None and carried.attempt.baseline != self._cache.find_baseline(
            carried.occurrence.automation_id
        )

    async def _write_attempt(self, carried: Delivery) -> None:
        """Make the attempt durable before its first byte."""
        number = (
            carried.attempt_count
            if carried.state is State.CLAIMED and carried.attempt
            else carried.attempt_count + 1
        )
        baseline = (
            self._cache.find_baseline(carried.occurrence.automation_id)
            if carried.unknown_attempt is None
            else carried.unknown_attempt.baseline
        )
        attempt = Attempt(number, self._context.clock.now(), baseline, self._context.clock_offset)
        written = self._context.clock.boottime()
        await persist(
            self._context,
            "attempt",
            carried,
            lambda steps: self._context.ledger.write_attempt(carried.occurrence, attempt, steps),
        )
        carried.attempt, carried.written_boottime, carried.state = attempt, written, State.CLAIMED

    async def _send(self, carried: Delivery) -> tuple[AttemptVerdict, AttemptEnd]:
        context, automation_id = self._context, carried.occurrence.automation_id
        attempt = carried.attempt
        assert attempt is not None
        key = make_idempotency_key(
            context.settings.url, context.settings.project_id, automation_id, carried.occurrence.scheduled_for
        )
        carried.state, carried.written_boottime = State.IN_FLIGHT, None
        carried.sent_at, carried.sent_boottime = context.clock.now(), context.clock.boottime()
        carried.sent_by_api = to_api_time(carried.sent_at, context.clock_offset)
        self.in_flight.add(automation_id)
        context.publish(AttemptBegun(target=context.target))
        came_back = await context.upstream.run(automation_id, key)
        took = context.clock.boottime() - carried.sent_boottime
        verdict = judge(
            came_back,
            automation_id=automation_id,
            taken=lambda run_id: run_id == attempt.baseline or self._cache.is_taken(run_id),
        )
        end = AttemptEnd(
            number=attempt.number,
            result=verdict.result,
            ended_at=carried.sent_at + timedelta(seconds=took),  # the clock may have been set since
            sent_at=None if isinstance(verdict, NotStarted) else carried.sent_at,
            http_status=came_back.status if isinstance(came_back, AttemptResponse) else None,
            error=None if isinstance(verdict, AttemptAccepted) else verdict.error,
        )
        context.publish(
            AttemptEnded(
                occurrence=carried.occurrence,
                automation=carried.name,
                attempt=attempt.number,
                result=verdict.result,
                seconds=took,
                error=end.error,
            )
        )
        return verdict, end

    async def _handle_verdict(
        self, carried: Delivery, verdict: AttemptVerdict, end: AttemptEnd
    ) -> DeliveryOutcome | None:
        """Handle the verdict on an attempt. Return the outcome, or None when the delivery goes on."""
        carried.error = end.error
        # After an accepted attempt, the throttle ends when the outcome is durable.
        if not isinstance(verdict, AttemptAccepted | Throttled):
            self._context.throttle.end_if_over()
        match verdict:
            case AttemptAccepted(automation=automation):
                run = Run(automation.run_id or "", automation.id, automation.run_at, RunStatus.RUNNING)
                return DeliveryOutcome(Outcome.ACCEPTED, Reason.ANSWERED, None, run, end)
            case Rejected(error=error):
                return DeliveryOutcome(Outcome.REJECTED, Reason.REFUSED, error, None, end)
            case MaybeStarted(retry_after=retry_after):
                carried.failures += 1
                # The first resend is immediate. Later ones back off.
                again = 0.0 if carried.unknown_attempt is None else back_off(carried.failures)
                carried.mark_unknown(self._context.clock.boottime(), self._context.settings.settle_time)
                carried.not_before = self._context.clock.boottime() + max(retry_after or 0.0, again)
                await self.record_attempt_end(carried, end, State.UNKNOWN)
            case Throttled(retry_after=retry_after):
                self._context.breaker.throttle(retry_after)
                self.places.ring()  # waiting attempts now wait for the API, not for the budget
                await self.record_attempt_end(carried, end, State.WAITING)
            case Held(error=error):
                self._context.breaker.hold(error)
                await self.record_attempt_end(carried, end, State.WAITING)
            case NotStarted():
                self._back_off(carried)
                await self.record_attempt_end(carried, end, State.WAITING)
            case AutomationNotFound():
                self._back_off(carried)
                await self.record_attempt_end(carried, end, State.WAITING)
                return await self._check_list(carried)
        return None

    async def record_attempt_end(self, carried: Delivery, end: AttemptEnd, state: State) -> None:
        """Record the end of an attempt without an outcome."""
        if carried.unknown_attempt is not None:
            state = State.UNKNOWN  # an earlier attempt is still unknown
        await persist(
            self._context,
            "ended",
            carried,
            lambda steps: self._context.ledger.end_attempt(carried.occurrence, end, state, steps),
        )
        carried.state = state  # only now: earlier, a stop would take the attempt for unsent

    def _back_off(self, carried: Delivery) -> None:
        carried.failures += 1
        carried.not_before = self._context.clock.boottime() + back_off(carried.failures)

    async def _check_list(self, carried: Delivery) -> DeliveryOutcome | None:
        try:
            with carried.record_wait(Cause.UNCONFIRMED, self._context.clock):
                gone = await self._cache.is_gone(carried.occurrence.automation_id)
        except UpstreamError:
            return None
        if gone:
            return DeliveryOutcome(Outcome.SKIPPED, Reason.DELETED, carried.error)
        self._context.timetable.note_denial(carried.occurrence.automation_id)
        return None


async def persist(
    context: Context, operation: str, carried: Delivery, write: Callable[[Sequence[Step]], Awaitable[_T]]
) -> _T:
    """Write a change of the delivery and its unrecorded steps, with retries until the write is durable.

    A wait for an unavailable ledger is among the steps.
    """
    with carried.record_wait(Cause.LEDGER, context.clock):
        return await context.retry_write(operation, lambda: persist_once(context, carried, write))


async def persist_once(
    context: Context, carried: Delivery, write: Callable[[Sequence[Step]], Awaitable[_T]]
) -> _T:
    """Write a change like `persist`, but try once. Raise `LedgerUnavailable` when the write fails."""
    steps = carried.list_steps(context.clock)
    done = await write(steps)
    if done is not False:
        carried.forget_steps(steps)
    return done
