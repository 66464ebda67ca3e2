"""Sender: the shell around the state machine of a delivery.

The shell asks `scheduler.core.actions` for the next action, performs the action, and applies the resulting
event to the delivery. The shell decides nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from scheduler.core import actions
from scheduler.core.actions import Action, next_action
from scheduler.core.admission import DELETED, decide_admission
from scheduler.core.delivery import (
    Answered,
    AttemptDiscarded,
    AttemptWritten,
    Concluded,
    Delayed,
    Delivery,
    EndRecorded,
    LateRunDismissed,
    ListChecked,
    NotStartedRecorded,
    PlaceGranted,
    PlaceReleased,
    PlaceRequested,
    ReadingFailed,
    ReconcileBegun,
    Resolved,
    RunRefused,
    SendBegun,
    SendInstant,
    Withdrawn,
    find_lateness_kind,
    make_conclusion,
)
from scheduler.core.errors import UpstreamError
from scheduler.core.events import AttemptBegun, AttemptEnded, OccurrenceConcluded
from scheduler.core.identity import make_idempotency_key
from scheduler.core.model import (
    AttemptEnd,
    Conclusion,
    Outcome,
    Reason,
    Run,
    RunOrigin,
    State,
)
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.policy import CatchUp
from scheduler.core.response import AttemptAccepted, AttemptResponse, Held, NotStarted, Throttled, judge
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.automation_queue import AutomationQueue, OpenDelivery
from scheduler.daemon.back_off import back_off
from scheduler.daemon.context import Context
from scheduler.daemon.fact_collector import FactCollector
from scheduler.daemon.knowledge import TargetKnowledge
from scheduler.daemon.places import AttemptPlace, Places, Urgency
from scheduler.daemon.presence import Presence
from scheduler.daemon.reconciler import NotStartedProof, Reconciler
from scheduler.daemon.recovery import to_api_time

_T = TypeVar("_T")
_Perform = Callable[[AutomationQueue, OpenDelivery, Any], Awaitable[None]]

_UNREADABLE = "the automation could not be read, so it could not be told whether its newest run was finished"
_WAITS = (actions.Sleep, actions.ReadAutomation, actions.ConfirmPresence, actions.ReadPauses)
"""Actions during which the current wait goes on."""


class Sender:
    """Brings the deliveries of one target to their ends.

    ``started`` is called with every run of an attempt.
    """

    def __init__(
        self,
        context: Context,
        cache: AutomationCache,
        knowledge: TargetKnowledge,
        presence: Presence,
        started: Callable[[Run], None],
    ) -> None:
        self._context = context
        self._cache = cache
        self._knowledge = knowledge
        self._presence = presence
        self._on_run_start = started
        self._reconciler = Reconciler(context, cache)
        self._facts = FactCollector(context, cache, knowledge, self._reconciler)
        self.places = Places(context)
        self.in_flight: set[str] = set()  # automations with a sent attempt and no handled answer
        self.is_stopping = False  # attempts in flight end, and nothing else begins
        self._performers: Mapping[type[Action], _Perform] = {
            actions.Sleep: self._sleep,
            actions.ReadPauses: self._read_pauses,
            actions.ReadAutomation: self._read_automation,
            actions.ConfirmPresence: self._confirm_presence,
            actions.RequestPlace: self._request_place,
            actions.AwaitPlace: self._await_place,
            actions.ReleasePlace: self._release_place,
            actions.WriteAttempt: self._write_attempt,
            actions.DiscardAttempt: self._discard_attempt,
            actions.Send: self._send,
            actions.RecordEnd: self._record_end,
            actions.CheckList: self._check_list,
            actions.CheckRun: self._check_run,
            actions.Reconcile: self._reconcile,
            actions.Conclude: self._conclude,
            actions.Withdraw: self._withdraw,
        }

    async def deliver(self, queue: AutomationQueue, delivery: OpenDelivery) -> None:
        """Deliver the head of a queue until its end, or until the arrival of another head."""
        try:
            while delivery.value.end is None:
                action = self._choose(queue, delivery)
                self._end_finished_waits(delivery, action)
                if isinstance(action, actions.Stop):
                    return
                await self._performers[type(action)](queue, delivery, action)
        finally:
            self._leave_place(delivery)
            _cancel_reading(delivery)

    def _choose(self, queue: AutomationQueue, delivery: OpenDelivery) -> Action:
        if delivery.value.state is not State.IN_FLIGHT and not delivery.value.has_open_result:
            self.in_flight.discard(delivery.occurrence.automation_id)
        facts = self._facts.collect(queue, delivery, is_stopping=self.is_stopping)
        return next_action(delivery.value, facts)

    def _end_finished_waits(self, delivery: OpenDelivery, action: Action) -> None:
        """End the waits that ``action`` does not continue."""
        if not isinstance(action, _WAITS):
            delivery.waits.end()
        if not isinstance(action, actions.AwaitPlace | actions.ReadPauses):
            delivery.waits.end_place_wait()
        if not isinstance(action, actions.ConfirmPresence | actions.ReadPauses):
            _cancel_reading(delivery)

    # ------------------------------------------------------------ waits

    async def _sleep(self, queue: AutomationQueue, delivery: OpenDelivery, action: actions.Sleep) -> None:
        """Sleep, unless an older occurrence becomes the head."""
        self._note_delay(delivery, action.cause, action.detail, is_due=action.is_due)
        queue.reorder_head()
        if queue.deliveries[0] is delivery:
            await queue.alarm.sleep(action.seconds)

    def _note_delay(
        self, delivery: OpenDelivery, cause: Cause | None, detail: str | None = None, *, is_due: bool = True
    ) -> None:
        delivery.apply(Delayed(self._context.clock.boottime(), cause, is_due))
        delivery.waits.begin(cause, detail)

    async def _read_pauses(
        self, _: AutomationQueue, delivery: OpenDelivery, _action: actions.ReadPauses
    ) -> None:
        await self._knowledge.refresh_pauses(lambda: delivery.waits.begin(Cause.LEDGER))

    async def _read_automation(
        self, _: AutomationQueue, delivery: OpenDelivery, action: actions.ReadAutomation
    ) -> None:
        self._note_delay(delivery, Cause.READING)
        try:
            async with asyncio.timeout(action.seconds):
                seen = await self._cache.read(delivery.occurrence.automation_id, since=action.since)
        except TimeoutError:
            delivery.apply(ReadingFailed(_UNREADABLE))
            return
        if seen is None:
            self._resolve(delivery, Outcome.SKIPPED, Reason.DELETED, error=DELETED)

    def _resolve(
        self,
        delivery: OpenDelivery,
        outcome: Outcome,
        reason: Reason,
        *,
        error: str | None = None,
        run: Run | None = None,
    ) -> None:
        now = self._context.clock.now()
        delivery.apply(Resolved(make_conclusion(delivery.value, outcome, reason, now, error=error, run=run)))

    async def _confirm_presence(
        self, queue: AutomationQueue, delivery: OpenDelivery, action: actions.ConfirmPresence
    ) -> None:
        """Read an automation that may be gone, as long as the delivery waits for nothing but this reading.

        The reading may wait long for the request budget, and the next snapshot may answer earlier.
        """
        self._note_delay(delivery, Cause.UNCONFIRMED, action.detail)
        automation_id = delivery.occurrence.automation_id
        if delivery.reading is None and self._presence.reserve_reading(automation_id):
            delivery.reading = asyncio.create_task(self._presence.read(automation_id))
            delivery.reading.add_done_callback(lambda _: queue.alarm.ring())
        await queue.alarm.sleep(action.seconds)
        if delivery.reading is not None and delivery.reading.done():
            reading, delivery.reading = delivery.reading, None
            reading.result()

    # ------------------------------------------------------------ places

    async def _request_place(
        self, queue: AutomationQueue, delivery: OpenDelivery, _: actions.RequestPlace
    ) -> None:
        boottime, since = self._context.clock.boottime(), self._find_wait_start(delivery)
        delivery.apply(PlaceRequested(boottime, since))
        delivery.place = self._make_place(queue, delivery)
        self.places.enter(delivery.place)
        await asyncio.sleep(0)  # all due occurrences join the queue before the queue chooses
        delivery.waits.place = delivery.place

    async def _await_place(
        self, queue: AutomationQueue, delivery: OpenDelivery, action: actions.AwaitPlace
    ) -> None:
        assert delivery.place is not None
        if not delivery.place.is_granted:
            await queue.alarm.sleep(action.seconds)
        if delivery.place.is_granted:
            delivery.apply(PlaceGranted())

    async def _release_place(
        self, queue: AutomationQueue, delivery: OpenDelivery, action: actions.ReleasePlace
    ) -> None:
        error = None
        if action.conclusion is not None:
            error = self._note_unsent_end(queue, delivery, action.conclusion)
        self._leave_place(delivery)
        delivery.apply(PlaceReleased(error))

    def _note_unsent_end(
        self, queue: AutomationQueue, delivery: OpenDelivery, conclusion: Conclusion
    ) -> str | None:
        """Note that the occurrence ends while it has or awaits a place. Return the shortage as the error.

        After a coalescence, the newer occurrence takes over the wait before the place goes to another
        automation. An occurrence with an earlier send is not counted as lost for want of a place: an
        automation with nothing but failing attempts must not precede the others.
        """
        place = delivery.place
        assert place is not None
        is_expired = conclusion.outcome is Outcome.EXPIRED
        is_coalesced = conclusion.reason is Reason.COALESCED
        if not delivery.value.maybe_sent and (is_expired or is_coalesced):
            self.places.record_loss(place)
        if is_coalesced:
            heir = queue.coalesce_into_newest([delivery], self._context.clock.now())
            if heir is not None:
                self.places.hand_over(self._make_place(queue, heir))
        return place.shortage_text if is_expired and not place.is_granted else None

    def _leave_place(self, delivery: OpenDelivery) -> None:
        delivery.waits.end_place_wait()
        if delivery.place is not None:
            self._context.breaker.note_attempt_end(delivery)
            self.places.leave(delivery.place)
            delivery.place = None

    def _make_place(self, queue: AutomationQueue, delivery: OpenDelivery) -> AttemptPlace:
        """Return the place for the attempt.

        The occurrence is lost at the deadline, or when a newer occurrence comes due and coalesces the older.
        """
        clock, value = self._context.clock, delivery.value
        now, boottime = clock.now(), clock.boottime()
        deadline = value.find_deadline(self._context.settings.run_timeout)
        lost_at = min([deadline, *self._iterate_next_instants(queue, delivery, now)])
        urgency = Urgency(boottime + (lost_at - now).total_seconds(), self._find_wait_start(delivery))
        return self.places.get_place(delivery.occurrence, urgency, queue.alarm.ring)

    def _find_wait_start(self, delivery: OpenDelivery) -> float:
        clock, value = self._context.clock, delivery.value
        if value.waiting_since is not None:
            return value.waiting_since
        return clock.boottime() - max(0.0, (clock.now() - value.due).total_seconds())

    def _iterate_next_instants(
        self, queue: AutomationQueue, delivery: OpenDelivery, now: datetime
    ) -> Iterator[datetime]:
        """Yield the known due instants of newer occurrences that would coalesce this occurrence."""
        value = delivery.value
        entry = self._context.timetable.entries.get(value.occurrence.automation_id)
        if value.is_backfill or value.maybe_sent or entry is None or entry.policies.catch_up is CatchUp.ALL:
            return
        if (due := queue.find_next_due(now)) is not None:
            yield due
        following = None if entry.schedule is None else self._context.timetable.find_next(entry.schedule)
        if following is not None:
            yield following + (value.due - value.occurrence.scheduled_for)

    # ------------------------------------------------------------ attempts

    async def _write_attempt(
        self, queue: AutomationQueue, delivery: OpenDelivery, action: actions.WriteAttempt
    ) -> None:
        if not self._context.breaker.admit(delivery):
            await self._release_place(queue, delivery, actions.ReleasePlace(None))
            return
        ledger, written = self._context.ledger, self._context.clock.boottime()
        await self._persist(
            "attempt",
            delivery,
            lambda steps: ledger.write_attempt(delivery.occurrence, action.attempt, steps),
        )
        delivery.apply(AttemptWritten(action.attempt, written))

    async def _discard_attempt(
        self, _: AutomationQueue, delivery: OpenDelivery, _action: actions.DiscardAttempt
    ) -> None:
        with delivery.waits.record(Cause.LEDGER):
            await self._context.retry_write(
                "unsend", lambda: self._context.ledger.discard_attempts([delivery.occurrence])
            )
        delivery.apply(AttemptDiscarded())

    async def _send(self, queue: AutomationQueue, delivery: OpenDelivery, _: actions.Send) -> None:
        breaker, place = self._context.breaker, delivery.place
        assert place is not None
        if not breaker.admit(delivery):
            await self._release_place(queue, delivery, actions.ReleasePlace(None))
            return
        breaker.note_send(delivery)
        place.send()
        try:
            answered = await self._exchange(delivery)
        finally:
            self._leave_place(delivery)
        delivery.apply(answered)
        self._tell_target(answered)

    async def _exchange(self, delivery: OpenDelivery) -> Answered:
        """Send the attempt, and judge the answer."""
        context, attempt = self._context, delivery.value.attempt
        assert attempt is not None
        automation_id, scheduled_for = delivery.occurrence.automation_id, delivery.occurrence.scheduled_for
        key = make_idempotency_key(
            context.settings.url, context.settings.project_id, automation_id, scheduled_for
        )
        sent_at, sent = context.clock.now(), context.clock.boottime()
        delivery.apply(SendBegun(SendInstant(sent_at, sent, to_api_time(sent_at, context.clock_offset))))
        self.in_flight.add(automation_id)
        context.publish(AttemptBegun(target=context.target))
        response = await context.upstream.run(automation_id, key)
        ended = context.clock.boottime()
        verdict = judge(
            response,
            automation_id=automation_id,
            taken=lambda run_id: run_id == attempt.baseline or self._cache.is_taken(run_id),
        )
        end = AttemptEnd(
            number=attempt.number,
            result=verdict.result,
            ended_at=sent_at + timedelta(seconds=ended - sent),  # the clock may have been set since
            sent_at=None if isinstance(verdict, NotStarted) else sent_at,
            http_status=response.status if isinstance(response, AttemptResponse) else None,
            error=None if isinstance(verdict, AttemptAccepted) else verdict.error,
        )
        context.publish(
            AttemptEnded(
                occurrence=delivery.occurrence,
                automation=delivery.value.name,
                attempt=attempt.number,
                result=verdict.result,
                seconds=ended - sent,
                error=end.error,
            )
        )
        settle_time = context.settings.settle_time.total_seconds()
        return Answered(verdict, end, ended, settle_time, back_off(delivery.value.failures + 1))

    def _tell_target(self, answered: Answered) -> None:
        """Let the circuit breaker and the throttle of the target know of the answer."""
        verdict = answered.verdict
        # After an accepted attempt, the throttle ends when the outcome is durable.
        if not isinstance(verdict, AttemptAccepted | Throttled):
            self._context.throttle.end_if_over()
        if isinstance(verdict, Throttled):
            self._context.breaker.throttle(verdict.retry_after)
            self.places.ring()  # waiting attempts now wait for the API, not for the budget
        elif isinstance(verdict, Held):
            self._context.breaker.hold(verdict.error)

    async def _record_end(
        self, _: AutomationQueue, delivery: OpenDelivery, action: actions.RecordEnd
    ) -> None:
        state = delivery.value.state_after_end
        ledger = self._context.ledger
        await self._persist(
            "ended",
            delivery,
            lambda steps: ledger.end_attempt(delivery.occurrence, action.end, state, steps),
        )
        delivery.apply(EndRecorded())

    async def _check_list(
        self, _: AutomationQueue, delivery: OpenDelivery, _action: actions.CheckList
    ) -> None:
        automation_id, is_gone = delivery.occurrence.automation_id, False
        try:
            with delivery.waits.record(Cause.UNCONFIRMED):
                is_gone = await self._cache.is_gone(automation_id)
        except UpstreamError:
            pass  # the list could not be read: the next attempt tells more
        else:
            if not is_gone:
                self._context.timetable.note_denial(automation_id)
        delivery.apply(ListChecked(self._context.clock.now(), is_gone))

    # ------------------------------------------------------------ unknown attempts

    async def _check_run(self, _: AutomationQueue, delivery: OpenDelivery, action: actions.CheckRun) -> None:
        context, run = self._context, action.run
        with delivery.waits.record(Cause.LEDGER):
            origin = await context.retry_read(
                "origin",
                lambda: context.ledger.find_run_origin(
                    context.target, run.id, run.automation_id, run.started_at
                ),
            )
        if origin in {None, RunOrigin.FOREIGN}:
            self._resolve(delivery, Outcome.ACCEPTED, Reason.FOUND, run=run)
        else:
            delivery.apply(LateRunDismissed())

    async def _reconcile(
        self, queue: AutomationQueue, delivery: OpenDelivery, action: actions.Reconcile
    ) -> None:
        delivery.apply(ReconcileBegun())
        result = await self._reconciler.reconcile(delivery.value, not_before=action.not_before)
        if isinstance(result, NotStartedProof):
            others = [other for other in queue.deliveries if other is not delivery]
            await self._resolve_not_started(
                delivery, [other for other in others if self._is_not_started(other, result)]
            )
        else:
            delivery.apply(Resolved(result))

    def _is_not_started(self, delivery: OpenDelivery, proof: NotStartedProof) -> bool:
        unknown = delivery.value.unknown_attempt
        return unknown is not None and self._reconciler.is_not_started(unknown, proof)

    async def _resolve_not_started(self, delivery: OpenDelivery, others: Sequence[OpenDelivery]) -> None:
        """Resolve the unknown attempts of a delivery and of ``others`` as not started, all at once.

        A killed process can leave many unknown attempts. For ``others``, the ledger is tried once: after a
        failure the attempt stays unknown, is reconciled as the head of its queue, and the error is reported
        there.
        """
        writes = [
            self._context.retry_write("state", lambda: self._record_not_started(delivery)),
            *map(self._record_not_started, others),
        ]
        with delivery.waits.record(Cause.LEDGER):
            head, *_ = await asyncio.gather(*writes, return_exceptions=True)
        if isinstance(head, BaseException):
            raise head

    async def _record_not_started(self, delivery: OpenDelivery) -> None:
        """Record that nothing was started, and only afterwards let the occurrence wait.

        In the other order, a stop would take the attempt for an unsent attempt.
        """
        step = Step(self._context.clock.now(), Cause.NOTHING_STARTED)
        await self._persist_once(
            delivery,
            lambda steps: self._context.ledger.resolve_not_started(delivery.occurrence, (*steps, step)),
        )
        delivery.apply(NotStartedRecorded())

    # ------------------------------------------------------------ ends

    async def _withdraw(self, _: AutomationQueue, delivery: OpenDelivery, _action: actions.Withdraw) -> None:
        with delivery.waits.record(Cause.LEDGER):
            await self._context.retry_write(
                "withdraw", lambda: self._context.ledger.withdraw([delivery.occurrence])
            )
        delivery.apply(Withdrawn())

    async def _conclude(
        self, queue: AutomationQueue, delivery: OpenDelivery, action: actions.Conclude
    ) -> None:
        if action.conclusion.reason is Reason.COALESCED:
            queue.coalesce_into_newest([delivery], self._context.clock.now())
        is_recorded = await self._persist(
            "conclude", delivery, lambda steps: self._write_conclusion(delivery, action, steps)
        )
        self._finish(delivery, action.conclusion, is_recorded=is_recorded)

    def _write_conclusion(
        self, delivery: OpenDelivery, action: actions.Conclude, steps: Sequence[Step]
    ) -> Awaitable[bool]:
        return self._context.ledger.conclude(delivery.occurrence, action.conclusion, action.end, steps)

    def _finish(self, delivery: OpenDelivery, conclusion: Conclusion, *, is_recorded: bool) -> None:
        """Take note of the ledger's answer to a conclusion, and publish a durable outcome."""
        context = self._context
        if not is_recorded:
            settle_time = context.settings.settle_time.total_seconds()
            delivery.apply(RunRefused(context.clock.now(), context.clock.boottime(), settle_time))
            return
        if conclusion.run is not None:
            self._cache.note_own_run(delivery.occurrence.automation_id, conclusion.run.id)
            self._on_run_start(conclusion.run)
        delivery.apply(Concluded())
        self._publish_outcome(delivery.value, conclusion)

    def _publish_outcome(self, value: Delivery, conclusion: Conclusion) -> None:
        has_kind = conclusion.lateness is not None and not value.is_backfill
        self._context.publish(
            OccurrenceConcluded(
                occurrence=value.occurrence,
                automation=value.name,
                outcome=conclusion.outcome,
                reason=conclusion.reason,
                attempts=value.attempt_count,
                lateness=conclusion.lateness,
                kind=find_lateness_kind(value) if has_kind else None,
                run_id=conclusion.run.id if conclusion.run else None,
                error=conclusion.error,
            )
        )

    async def conclude_unsent(self, queue: AutomationQueue, behind: OpenDelivery) -> None:
        """Conclude in one transaction the first deliveries of a queue that end now without an attempt.

        ``behind`` is the delivery that they waited for. Each write is tried once. After a failed write, the
        delivery is not concluded and becomes the head of the queue. As the head, the delivery is decided
        again, and a further error is reported.
        """
        unsent = await self._find_unsent(queue)
        now = self._context.clock.now()
        for delivery, _ in unsent:
            delivery.note_turn_wait(behind, now)
        await asyncio.gather(
            *(self._conclude_once(delivery, action) for delivery, action in unsent), return_exceptions=True
        )
        for delivery, _ in unsent:
            if delivery.value.end is not None:
                queue.deliveries.remove(delivery)

    async def _find_unsent(self, queue: AutomationQueue) -> list[tuple[OpenDelivery, actions.Conclude]]:
        """Return the first deliveries of a queue that end now without an attempt.

        Stop before a backfill, an attempt that may have started a run, a run that appeared late, and pauses
        that must be read again.
        """
        if _may_not_end_unsent(queue.deliveries[0]):
            return []
        if not self._knowledge.has_fresh_pauses:
            await self._read_pauses(queue, queue.deliveries[0], actions.ReadPauses())
        unsent = list[tuple[OpenDelivery, actions.Conclude]]()
        for delivery in queue.deliveries:
            if _may_not_end_unsent(delivery):
                break
            facts = self._facts.collect(queue, delivery, is_stopping=False)
            conclusion, automation = decide_admission(delivery.value, facts), facts.automation
            is_certain = automation.is_paused is not None and automation.late_run is None
            if not isinstance(conclusion, Conclusion) or not is_certain:
                break
            unsent.append((delivery, actions.Conclude(conclusion, None)))
        coalesced = [delivery for delivery, action in unsent if _is_coalesced(action)]
        if coalesced:
            queue.coalesce_into_newest(coalesced, self._context.clock.now())
        return unsent

    async def _conclude_once(self, delivery: OpenDelivery, action: actions.Conclude) -> None:
        is_recorded = await self._persist_once(
            delivery, lambda steps: self._write_conclusion(delivery, action, steps)
        )
        self._finish(delivery, action.conclusion, is_recorded=is_recorded)

    # ------------------------------------------------------------ writes

    async def _persist(
        self, operation: str, delivery: OpenDelivery, write: Callable[[Sequence[Step]], Awaitable[_T]]
    ) -> _T:
        """Write a change of the delivery and its unrecorded steps, with retries until the write is durable.

        A wait for an unavailable ledger is among the steps.
        """
        with delivery.waits.record(Cause.LEDGER):
            return await self._context.retry_write(operation, lambda: self._persist_once(delivery, write))

    async def _persist_once(
        self, delivery: OpenDelivery, write: Callable[[Sequence[Step]], Awaitable[_T]]
    ) -> _T:
        """Write a change like `_persist`, but try once. Raise `LedgerUnavailable` when the write fails."""
        steps = delivery.waits.list_steps()
        result = await write(steps)
        if result is not False:
            delivery.waits.forget_steps(steps)
        return result


def _cancel_reading(delivery: OpenDelivery) -> None:
    if delivery.reading is not None:
        delivery.reading.cancel()
        delivery.reading = None


def _may_not_end_unsent(delivery: OpenDelivery) -> bool:
    return delivery.value.is_backfill or delivery.value.may_have_started


def _is_coalesced(action: actions.Conclude) -> bool:
    return action.conclusion.reason is Reason.COALESCED
