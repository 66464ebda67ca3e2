"""Sender: the shell around the state machine of a delivery.

The shell asks `scheduler.core.admission` for the next action, performs the action, and applies the resulting
event to the delivery. The shell decides nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from scheduler.core import actions
from scheduler.core import delivery as state_machine
from scheduler.core.actions import AutomationFacts, DaemonFacts, DeliveryFacts, QueueFacts, SendFacts
from scheduler.core.admission import DELETED, decide_admission, is_attempt_fresh, is_in_force, next_action
from scheduler.core.clock_offset import to_api_time
from scheduler.core.delivery import Delivery, PlaceState, SendInstant
from scheduler.core.errors import UpstreamError
from scheduler.core.events import AttemptBegun, AttemptEnded, OccurrenceConcluded
from scheduler.core.model import (
    AttemptEnd,
    Conclusion,
    Outcome,
    Reason,
    Run,
    RunOrigin,
    State,
    make_idempotency_key,
)
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.policy import CatchUp
from scheduler.core.response import (
    AttemptAccepted,
    AttemptAnswer,
    AttemptResponse,
    Held,
    NotStarted,
    Throttled,
    judge,
)
from scheduler.core.timetable import TimetableEntry
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.automation_queue import AutomationQueue, OpenDelivery
from scheduler.daemon.clock import back_off
from scheduler.daemon.context import Context
from scheduler.daemon.places import PlaceRequest, Places
from scheduler.daemon.presence import Presence
from scheduler.daemon.reconciler import NotStartedProof, Reconciler

_T = TypeVar("_T")
_Perform = Callable[[OpenDelivery, Any], Awaitable[None]]

_UNREADABLE = "the automation could not be read, so it could not be told whether its newest run was finished"
_WAITS = (actions.Sleep, actions.ReadAutomation, actions.ConfirmPresence, actions.ReadPauses)
"""Actions that wait: a wait that began before goes on. Before any other action, the wait ends."""


class Sender:
    """Brings the deliveries of one target to their ends.

    ``started`` is called with every run of an attempt.
    """

    def __init__(
        self, context: Context, cache: AutomationCache, presence: Presence, started: Callable[[Run], None]
    ) -> None:
        self._context = context
        self._cache = cache
        self._presence = presence
        self._on_run_start = started
        self._reconciler = Reconciler(context, cache)
        self.places = Places(context)
        self.in_flight: set[str] = set()  # automations with a sent attempt and no handled answer
        self.is_stopping = False  # attempts in flight end, and nothing else begins
        self._performers: Mapping[type[actions.DeliveryAction], _Perform] = {
            actions.AwaitDue: self._await_due,
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

    async def deliver(self, delivery: OpenDelivery) -> None:
        """Deliver the head of a queue until its end, or until the arrival of another head."""
        try:
            while delivery.value.end is None:
                action = self._choose(delivery)
                _end_finished_waits(delivery, action)
                if isinstance(action, actions.Stop):
                    return
                await self._performers[type(action)](delivery, action)
        finally:
            self._leave_place(delivery)
            delivery.cancel_reading()

    def _choose(self, delivery: OpenDelivery) -> actions.DeliveryAction:
        """Return the next action. With a handled answer, the automation is no longer in flight."""
        if delivery.value.state is not State.IN_FLIGHT and not delivery.value.has_unrecorded_result:
            self.in_flight.discard(delivery.occurrence.automation_id)
        return next_action(delivery.value, self._collect_facts(delivery))

    # ------------------------------------------------------------ facts

    def _collect_facts(self, delivery: OpenDelivery) -> DeliveryFacts:
        """Return the present facts for a delivery. No other place gathers facts."""
        context, knowledge = self._context, self._context.knowledge
        context.watch.check()
        daemon = DaemonFacts(
            now=context.clock.now(),
            boottime=context.clock.boottime(),
            is_clock_in_doubt=context.watch.is_in_doubt,
            is_stopping=self.is_stopping,
            clock_offset=context.clock_offset,
        )
        send = SendFacts(
            is_idempotent=context.settings.idempotent,
            run_timeout=context.settings.run_timeout,
            absent_until=knowledge.absent_until,
            is_stale=knowledge.is_stale,
            breaker=context.breaker.make_facts(delivery),
        )
        automation = self._collect_automation(delivery.value, daemon)
        return DeliveryFacts(daemon, send, automation, _collect_queue(delivery, daemon, automation.entry))

    def _collect_automation(self, value: Delivery, daemon: DaemonFacts) -> AutomationFacts:
        context, automation_id = self._context, value.occurrence.automation_id
        timetable, knowledge, settings = context.timetable, context.knowledge, context.settings
        entry, unstarted = timetable.entries.get(automation_id), value.unstarted_attempt
        find_late_run = self._reconciler.find_late_run
        # A fresh attempt needs no reading of the pauses: the claim of a moment ago has considered the pauses.
        is_fresh = is_attempt_fresh(value, daemon.boottime)
        return AutomationFacts(
            entry=entry,
            policies=settings.policies(automation_id, value.name) if entry is None else entry.policies,
            is_paused=not is_fresh and knowledge.is_paused(automation_id),
            must_read_pauses=not is_fresh and not knowledge.has_fresh_pauses,
            denial=timetable.absences.find_denial(automation_id),
            needs_reading=timetable.needs_reading(automation_id),
            reading=self._cache.find_newest(automation_id),
            baseline=self._cache.find_baseline(automation_id),
            late_run=None if unstarted is None else find_late_run(automation_id, unstarted),
        )

    # ------------------------------------------------------------ waits

    async def _await_due(self, delivery: OpenDelivery, action: actions.AwaitDue) -> None:
        delivery.apply(state_machine.NotDue())
        await _sleep_as_head(delivery, action.seconds)

    async def _sleep(self, delivery: OpenDelivery, action: actions.Sleep) -> None:
        if action.is_due:
            delivery.delay(action.cause, action.detail)
        else:
            delivery.waits.begin(action.cause, action.detail)
        await _sleep_as_head(delivery, action.seconds)

    async def _read_pauses(self, delivery: OpenDelivery, _: actions.ReadPauses) -> None:
        await self._context.knowledge.refresh_pauses(lambda: delivery.waits.begin(Cause.LEDGER))

    async def _read_automation(self, delivery: OpenDelivery, action: actions.ReadAutomation) -> None:
        delivery.delay(Cause.READING)
        try:
            async with asyncio.timeout(action.seconds):
                seen = await self._cache.read(delivery.occurrence.automation_id, since=action.since)
        except TimeoutError:
            delivery.apply(state_machine.ReadingFailed(_UNREADABLE))
            return
        if seen is None:
            now = self._context.clock.now()
            conclusion = delivery.value.make_conclusion(Outcome.SKIPPED, Reason.DELETED, now, error=DELETED)
            delivery.apply(state_machine.Resolved(conclusion))

    async def _confirm_presence(self, delivery: OpenDelivery, action: actions.ConfirmPresence) -> None:
        """Wait until a reading, or the next snapshot, shows whether the automation still exists.

        The reading may wait long for the request budget. A delivery that goes on earlier cancels the reading.
        """
        delivery.delay(Cause.UNCONFIRMED, action.detail)
        automation_id, alarm = delivery.occurrence.automation_id, delivery.queue.alarm
        if delivery.reading is None and self._presence.reserve_reading(automation_id):
            delivery.reading = asyncio.create_task(self._presence.read(automation_id))
            delivery.reading.add_done_callback(lambda _: alarm.ring())
        await alarm.sleep(action.seconds)
        if delivery.reading is not None and delivery.reading.done():
            reading, delivery.reading = delivery.reading, None
            reading.result()

    # ------------------------------------------------------------ places

    async def _request_place(self, delivery: OpenDelivery, _: actions.RequestPlace) -> None:
        request = self._make_place_request(delivery)
        delivery.apply(state_machine.PlaceRequested(self._context.clock.boottime(), request.since))
        delivery.place = self.places.enter(request)
        # All due occurrences join the queue for places before the first place is given.
        await asyncio.sleep(0)
        delivery.waits.place_wait = delivery.place.wait

    async def _await_place(self, delivery: OpenDelivery, action: actions.AwaitPlace) -> None:
        assert delivery.place is not None
        if not delivery.place.is_granted:
            await delivery.queue.alarm.sleep(action.seconds)
        if delivery.place.is_granted:
            delivery.apply(state_machine.PlaceGranted())

    async def _release_place(self, delivery: OpenDelivery, action: actions.ReleasePlace) -> None:
        error = None if action.conclusion is None else self._settle_unsent_end(delivery, action.conclusion)
        self._leave_place(delivery)
        delivery.apply(state_machine.PlaceReleased(error))

    def _settle_unsent_end(self, delivery: OpenDelivery, conclusion: Conclusion) -> str | None:
        """Prepare the end of an occurrence that has or awaits a place. Return the shortage of places, if any.

        The loss counts: automations with many losses get places earlier. A loss after an earlier send does
        not count, because an automation with nothing but failing attempts must not precede the others. After
        a coalescence, the newer occurrence takes over the wait before the place goes to another automation.
        """
        place = delivery.place
        assert place is not None
        is_expired = conclusion.outcome is Outcome.EXPIRED
        is_coalesced = conclusion.reason is Reason.COALESCED
        if not delivery.value.maybe_sent and (is_expired or is_coalesced):
            self.places.record_loss(place)
        if is_coalesced:
            heir = delivery.queue.coalesce_into_newest([delivery], self._context.clock.now())
            if heir is not None:
                self.places.hand_over(self._make_place_request(heir))
        return self.places.shortage_text if is_expired and not place.is_granted else None

    def _leave_place(self, delivery: OpenDelivery) -> None:
        delivery.waits.end_place_wait()
        if delivery.place is not None:
            self._context.breaker.note_attempt_end(delivery)
            self.places.leave(delivery.place)
            delivery.place = None

    def _make_place_request(self, delivery: OpenDelivery) -> PlaceRequest:
        """Return the request for the place of the attempt.

        The occurrence is lost at the deadline, or when a newer occurrence comes due and coalesces the older.
        """
        clock, value = self._context.clock, delivery.value
        now, boottime, since = clock.now(), clock.boottime(), value.waiting_since
        if since is None:
            since = boottime - max(0.0, (now - value.due).total_seconds())
        deadline = value.find_deadline(self._context.settings.run_timeout)
        lost_at = min([deadline, *self._iterate_next_instants(delivery, now)])
        lost_in = (lost_at - now).total_seconds()
        return PlaceRequest(delivery.occurrence, boottime + lost_in, since, delivery.queue.alarm.ring)

    def _iterate_next_instants(self, delivery: OpenDelivery, now: datetime) -> Iterator[datetime]:
        """Yield the known due instants of newer occurrences that would coalesce this occurrence."""
        value, timetable = delivery.value, self._context.timetable
        entry = timetable.entries.get(value.occurrence.automation_id)
        if value.is_backfill or value.maybe_sent or entry is None or entry.policies.catch_up is CatchUp.ALL:
            return
        if (due := delivery.queue.find_next_due(now)) is not None:
            yield due
        following = None if entry.schedule is None else timetable.schedule_heap.find_next(entry.schedule)
        if following is not None:
            yield following + (value.due - value.occurrence.scheduled_for)

    # ------------------------------------------------------------ attempts

    async def _write_attempt(self, delivery: OpenDelivery, action: actions.WriteAttempt) -> None:
        if not self._context.breaker.admit(delivery):
            await self._release_place(delivery, actions.ReleasePlace())
            return
        written = self._context.clock.boottime()
        write = partial(self._context.ledger.write_attempt, delivery.occurrence, action.attempt)
        await self._persist("attempt", delivery, write)
        delivery.apply(state_machine.AttemptWritten(action.attempt, written))

    async def _discard_attempt(self, delivery: OpenDelivery, _: actions.DiscardAttempt) -> None:
        discard = partial(self._context.ledger.discard_attempts, [delivery.occurrence])
        await self._retry_write("unsend", delivery, discard)
        delivery.apply(state_machine.AttemptDiscarded())

    async def _send(self, delivery: OpenDelivery, _: actions.Send) -> None:
        breaker = self._context.breaker
        assert delivery.place is not None
        if not breaker.admit(delivery):
            await self._release_place(delivery, actions.ReleasePlace())
            return
        breaker.note_send(delivery)
        self.places.send(delivery.place)
        try:
            answered = await self._exchange(delivery)
        finally:
            self._leave_place(delivery)
        delivery.apply(answered)
        self._tell_target(answered)

    async def _exchange(self, delivery: OpenDelivery) -> state_machine.Answered:
        """Send the attempt, and judge the answer."""
        context, occurrence, now = self._context, delivery.occurrence, self._context.clock.now()
        settings, automation_id = context.settings, occurrence.automation_id
        key = make_idempotency_key(settings.url, settings.project_id, automation_id, occurrence.scheduled_for)
        sent = SendInstant(now, context.clock.boottime(), to_api_time(now, context.clock_offset))
        delivery.apply(state_machine.SendBegun(sent))
        self.in_flight.add(automation_id)
        context.publish(AttemptBegun(target=context.target))
        answer = await context.upstream.run(automation_id, key)
        return self._judge(delivery, sent, answer)

    def _judge(
        self, delivery: OpenDelivery, sent: SendInstant, answer: AttemptAnswer
    ) -> state_machine.Answered:
        """Judge the answer to an attempt, and publish the end of the attempt."""
        occurrence, attempt = delivery.occurrence, delivery.value.attempt
        assert attempt is not None
        ended = self._context.clock.boottime()
        seconds = ended - sent.boottime
        verdict = judge(
            answer,
            automation_id=occurrence.automation_id,
            taken=lambda run_id: run_id == attempt.baseline or self._cache.is_taken(run_id),
        )
        end = AttemptEnd(
            number=attempt.number,
            result=verdict.result,
            ended_at=sent.at + timedelta(seconds=seconds),  # the clock may have been set since
            sent_at=None if isinstance(verdict, NotStarted) else sent.at,
            http_status=answer.status if isinstance(answer, AttemptResponse) else None,
            error=None if isinstance(verdict, AttemptAccepted) else verdict.error,
        )
        self._context.publish(
            AttemptEnded(
                occurrence=occurrence,
                automation=delivery.value.name,
                attempt=attempt.number,
                result=verdict.result,
                seconds=seconds,
                error=end.error,
            )
        )
        settle_time = self._context.settings.settle_time.total_seconds()
        pause = back_off(delivery.value.failures + 1)
        return state_machine.Answered(verdict, end, ended, settle_time, pause)

    def _tell_target(self, answered: state_machine.Answered) -> None:
        """Let the circuit breaker and the throttle of the target know of the answer."""
        verdict = answered.verdict
        # After an accepted attempt, the throttle ends when the outcome is durable.
        if not isinstance(verdict, AttemptAccepted | Throttled):
            self._context.throttle.end_if_over()
        if isinstance(verdict, Throttled):
            self._context.breaker.throttle(verdict.retry_after)
            self.places.wake()  # waiting attempts now wait for the API, not for the budget
        elif isinstance(verdict, Held):
            self._context.breaker.hold(verdict.error)

    async def _record_end(self, delivery: OpenDelivery, _: actions.RecordEnd) -> None:
        value, ledger = delivery.value, self._context.ledger
        assert value.unrecorded_end is not None
        write = partial(
            ledger.end_attempt, value.occurrence, value.unrecorded_end, value.state_after_attempt_end
        )
        await self._persist("ended", delivery, write)
        delivery.apply(state_machine.AttemptEndRecorded())

    async def _check_list(self, delivery: OpenDelivery, _: actions.CheckList) -> None:
        """After a 404 for a run, read the list: the automation is gone, or its run is denied."""
        automation_id, is_gone = delivery.occurrence.automation_id, False
        try:
            with delivery.waits.record(Cause.UNCONFIRMED):
                is_gone = await self._cache.is_gone(automation_id)
        except UpstreamError:
            pass  # the list could not be read: the next attempt tells more
        else:
            if not is_gone:
                self._context.timetable.absences.note_denial(automation_id)
        delivery.apply(state_machine.ListChecked(self._context.clock.now(), is_gone))

    # ------------------------------------------------------------ unknown attempts

    async def _check_run(self, delivery: OpenDelivery, action: actions.CheckRun) -> None:
        """Count a late run as the run of this occurrence, unless the ledger knows another origin of the run.

        A foreign run counts too: it looks like a late execution of the attempt (`has_appeared_late`).
        """
        context, run = self._context, action.run
        with delivery.waits.record(Cause.LEDGER):
            origin = await context.find_run_origin(run)
        if origin in {None, RunOrigin.FOREIGN}:
            now = context.clock.now()
            conclusion = delivery.value.make_conclusion(Outcome.ACCEPTED, Reason.FOUND, now, run=run)
            delivery.apply(state_machine.Resolved(conclusion))
        else:
            delivery.apply(state_machine.LateRunDismissed())

    async def _reconcile(self, delivery: OpenDelivery, _: actions.Reconcile) -> None:
        delivery.apply(state_machine.ReconcileBegun())
        result = await self._reconciler.reconcile(delivery.value)
        if isinstance(result, NotStartedProof):
            others = [
                other
                for other in delivery.queue.deliveries
                if other is not delivery and self._is_not_started(other, result)
            ]
            await self._resolve_not_started(delivery, others)
        else:
            delivery.apply(state_machine.Resolved(result))

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
            self._context.health.retry_write("state", lambda: self._record_not_started(delivery)),
            *map(self._record_not_started, others),
        ]
        with delivery.waits.record(Cause.LEDGER):
            head, *_ = await asyncio.gather(*writes, return_exceptions=True)
        if isinstance(head, BaseException):
            raise head

    async def _record_not_started(self, delivery: OpenDelivery) -> None:
        """Record that the attempt started nothing. Only afterwards, the delivery returns to waiting.

        In the other order, a stop of the daemon in between would discard the attempt as never sent.
        """
        step = Step(self._context.clock.now(), Cause.NOTHING_STARTED)
        await _persist_once(
            delivery,
            lambda steps: self._context.ledger.resolve_not_started(delivery.occurrence, (*steps, step)),
        )
        delivery.apply(state_machine.NotStartedRecorded())

    # ------------------------------------------------------------ ends

    async def _withdraw(self, delivery: OpenDelivery, _: actions.Withdraw) -> None:
        withdraw = partial(self._context.ledger.withdraw, [delivery.occurrence])
        await self._retry_write("withdraw", delivery, withdraw)
        delivery.apply(state_machine.Withdrawn())

    async def _conclude(self, delivery: OpenDelivery, action: actions.Conclude) -> None:
        if action.conclusion.reason is Reason.COALESCED:
            delivery.queue.coalesce_into_newest([delivery], self._context.clock.now())
        write = self._prepare_conclusion(delivery, action.conclusion)
        is_recorded = await self._persist("conclude", delivery, write)
        self._finish(delivery, action.conclusion, is_recorded=is_recorded)

    def _prepare_conclusion(
        self, delivery: OpenDelivery, conclusion: Conclusion
    ) -> Callable[[Sequence[Step]], Awaitable[bool]]:
        return partial(
            self._context.ledger.conclude, delivery.occurrence, conclusion, delivery.value.unrecorded_end
        )

    def _finish(self, delivery: OpenDelivery, conclusion: Conclusion, *, is_recorded: bool) -> None:
        """Publish the outcome that the ledger has, or note that the ledger refused its run."""
        context = self._context
        if not is_recorded:
            now, boottime = context.clock.now(), context.clock.boottime()
            settle_time = context.settings.settle_time.total_seconds()
            pause = back_off(delivery.value.failures + 1)
            delivery.apply(state_machine.RunRefused(now, boottime, settle_time, pause))
            return
        if conclusion.run is not None:
            self._cache.note_own_run(delivery.occurrence.automation_id, conclusion.run.id)
            self._on_run_start(conclusion.run)
        delivery.apply(state_machine.Concluded())
        self._publish_outcome(delivery, conclusion)

    def _publish_outcome(self, delivery: OpenDelivery, conclusion: Conclusion) -> None:
        value = delivery.value
        has_kind = conclusion.lateness is not None and not value.is_backfill
        self._context.publish(
            OccurrenceConcluded(
                occurrence=value.occurrence,
                automation=value.name,
                outcome=conclusion.outcome,
                reason=conclusion.reason,
                attempts=value.attempt_count,
                lateness=conclusion.lateness,
                kind=value.lateness_kind if has_kind else None,
                run_id=conclusion.run.id if conclusion.run else None,
                error=conclusion.error,
            )
        )

    async def conclude_unsent(self, before: OpenDelivery) -> None:
        """Conclude the first deliveries of a queue that end now without a further attempt.

        ``before`` is the delivery that they waited for. The writes begin together, and the ledger takes them
        into one transaction. Each write is tried once. After a failed write, the delivery stays in the queue
        and becomes its head. As the head, the delivery is decided again, and a further error is reported.
        """
        unsent = await self._find_unsent(before.queue)
        now = self._context.clock.now()
        for delivery, _ in unsent:
            delivery.note_turn_wait(before, now)
        await asyncio.gather(*(self._conclude_once(*each) for each in unsent), return_exceptions=True)
        for delivery, _ in unsent:
            if delivery.value.end is not None:
                before.queue.deliveries.remove(delivery)

    async def _find_unsent(self, queue: AutomationQueue) -> list[tuple[OpenDelivery, Conclusion]]:
        """Return the first deliveries of a queue that end now without a further attempt.

        The queue has a delivery. Stop before a backfill, an attempt that may have started a run, a late run,
        and pauses that must be read again.
        """
        if _is_decided_as_head(queue.deliveries[0]):
            return []
        if not self._context.knowledge.has_fresh_pauses:
            await self._read_pauses(queue.deliveries[0], actions.ReadPauses())
        unsent = list[tuple[OpenDelivery, Conclusion]]()
        for delivery in queue.deliveries:
            if _is_decided_as_head(delivery):
                break
            facts = self._collect_facts(delivery)
            admission = decide_admission(delivery.value, facts)
            is_uncertain = facts.automation.must_read_pauses or facts.automation.late_run is not None
            if is_uncertain or not isinstance(admission, Conclusion):
                break
            unsent.append((delivery, admission))
        coalesced = [delivery for delivery, conclusion in unsent if conclusion.reason is Reason.COALESCED]
        if coalesced:
            queue.coalesce_into_newest(coalesced, self._context.clock.now())
        return unsent

    async def _conclude_once(self, delivery: OpenDelivery, conclusion: Conclusion) -> None:
        is_recorded = await _persist_once(delivery, self._prepare_conclusion(delivery, conclusion))
        self._finish(delivery, conclusion, is_recorded=is_recorded)

    # ------------------------------------------------------------ writes

    async def _persist(
        self, operation: str, delivery: OpenDelivery, write: Callable[[Sequence[Step]], Awaitable[_T]]
    ) -> _T:
        """Write a change of the delivery and its unrecorded steps. Retry until the write is durable."""
        return await self._retry_write(operation, delivery, lambda: _persist_once(delivery, write))

    async def _retry_write(
        self, operation: str, delivery: OpenDelivery, write: Callable[[], Awaitable[_T]]
    ) -> _T:
        """Write with retries until the write is durable. A wait for an unavailable ledger becomes a step."""
        with delivery.waits.record(Cause.LEDGER):
            return await self._context.health.retry_write(operation, write)


async def _persist_once(delivery: OpenDelivery, write: Callable[[Sequence[Step]], Awaitable[_T]]) -> _T:
    """Write a change of the delivery and its unrecorded steps. Raises `LedgerUnavailable`.

    The result False means that the ledger refused the change: the steps are still unrecorded.
    """
    steps = delivery.waits.list_steps()
    result = await write(steps)
    if result is not False:
        delivery.waits.forget_steps(steps)
    return result


async def _sleep_as_head(delivery: OpenDelivery, seconds: float | None) -> None:
    """Sleep, unless an older occurrence becomes the head."""
    delivery.queue.reorder_head()
    if delivery.queue.deliveries[0] is delivery:
        await delivery.queue.alarm.sleep(seconds)


def _end_finished_waits(delivery: OpenDelivery, action: actions.DeliveryAction) -> None:
    """End the waits that ``action`` does not continue."""
    if not isinstance(action, _WAITS):
        delivery.waits.end()
    if not isinstance(action, actions.AwaitPlace | actions.ReadPauses):
        delivery.waits.end_place_wait()
    if not isinstance(action, actions.ConfirmPresence | actions.ReadPauses):
        delivery.cancel_reading()


def _collect_queue(delivery: OpenDelivery, daemon: DaemonFacts, entry: TimetableEntry | None) -> QueueFacts:
    value, queue = delivery.value, delivery.queue
    newer = (other.value for other in queue.iterate_newer_due(value, daemon.now))
    waits_for_place = value.place_state is PlaceState.WAITING
    return QueueFacts(
        is_head=queue.deliveries[0] is delivery,
        # A delivery out of force is never coalesced. To check all newer deliveries for nothing takes long.
        has_newer_due=is_in_force(value, entry) and any(is_in_force(other, entry) for other in newer),
        next_due=queue.find_next_due(daemon.now) if waits_for_place else None,
    )


def _is_decided_as_head(delivery: OpenDelivery) -> bool:
    """Return whether the delivery is decided only as the head: a backfill, or a run may have started."""
    return delivery.value.is_backfill or delivery.value.may_have_started
