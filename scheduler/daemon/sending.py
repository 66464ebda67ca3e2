"""One attempt: written down before its first byte, sent, judged, and its end written down."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from scheduler.core.errors import UpstreamError
from scheduler.core.events import AttemptBegun, AttemptEnded
from scheduler.core.identity import idempotency_key
from scheduler.core.model import Attempt, AttemptEnd, Outcome, Reason, Run, RunStatus, State
from scheduler.core.policy import CatchUp
from scheduler.core.steps import Cause, Step
from scheduler.core.verdict import Absent, Accepted, Answer, Held, NotStarted, Rejected, Throttled, Unknown, Verdict, judge
from scheduler.daemon.adoption import by_api
from scheduler.daemon.clearance import Clearance, Go, Stop, Wait
from scheduler.daemon.context import Context, back_off
from scheduler.daemon.inquiry import Inquiry
from scheduler.daemon.lane import Carried, Lane
from scheduler.daemon.places import Place, Places, Urgency
from scheduler.daemon.readings import Readings
from scheduler.daemon.waiting import Ending, Waiting

_T = TypeVar("_T")

_MOMENT: Final = timedelta(milliseconds=1)


class Sender:
    """Makes the attempts of one target, each in a place of its own."""

    def __init__(self, context: Context, readings: Readings, clearance: Clearance, waiting: Waiting, inquiry: Inquiry) -> None:
        self._context = context
        self._readings = readings
        self._clearance = clearance
        self._waiting = waiting
        self._inquiry = inquiry
        self.places = Places(context)
        self.in_flight: set[str] = set()  # automations with an attempt that was sent and not followed up

    async def attempt(self, lane: Lane, carried: Carried) -> Ending | None:
        """Make the next attempt; the outcome, or None when it is to be carried on."""
        with self._place(lane, carried) as place:
            came = await self._made(lane, carried, place)
        return None if came is None else await self._follow(carried, *came)

    async def _made(self, lane: Lane, carried: Carried, place: Place) -> tuple[Verdict, AttemptEnd] | None:
        """Wait for the place, and send; None when it was not sent."""
        try:
            if not await self._has_place(lane, carried, place) or not await self._is_ready(lane, carried):
                return None
            before = carried.sent_at, carried.sent, carried.sent_by_api
            place.send()
            verdict, end = await self._send(carried)
        finally:
            self._context.gate.ended(carried)
        if isinstance(verdict, Accepted):
            carried.disproved = None
        elif not isinstance(verdict, Unknown):
            carried.sent_at, carried.sent, carried.sent_by_api = before  # of the attempt whose run may still turn up
        return verdict, end

    def _place(self, lane: Lane, carried: Carried) -> Place:
        """The place that the attempt needs; the occurrence is lost at its deadline, or when a newer one coalesces it."""
        now, seconds = self._context.clock.now(), self._context.clock.seconds()
        if carried.waiting_since is None:
            carried.waiting_since = seconds - max(0.0, (now - carried.due).total_seconds())
        ends = [self._clearance.deadline(carried), *self._next_instants(lane, carried, now)]
        lost_at = seconds + (min(ends) - now).total_seconds()
        return self.places.place(carried, Urgency(lost_at, carried.waiting_since), lane.alarm.ring)

    def _next_instants(self, lane: Lane, carried: Carried, now: datetime) -> Iterator[datetime]:
        """When newer occurrences of the automation come due that would coalesce this one, as far as is known."""
        entry = self._context.timetable.entries.get(carried.occurrence.automation_id)
        if carried.asked or carried.maybe_sent or entry is None or entry.policies.catch_up is CatchUp.ALL:
            return
        if (due := lane.next_due(now)) is not None:
            yield due
        following = None if entry.schedule is None else self._context.timetable.next_of(entry.schedule)
        if following is not None:
            yield following + (carried.due - carried.occurrence.scheduled_for)

    async def _has_place(self, lane: Lane, carried: Carried, place: Place) -> bool:
        """Wait for the place. False when the occurrence ends, is overtaken or has to wait for something else before."""
        answer = None
        await asyncio.sleep(0)  # the queue chooses when everybody who is due has joined it
        with carried.waiting_in(place):
            while True:
                if not place.granted:
                    await lane.alarm.sleep(self._until_news(lane, carried))
                if lane.waiting[0] is not carried:
                    break
                answer = await self._waiting.ask(lane, carried)
                if isinstance(answer, Stop):
                    self._note_end(lane, carried, place, answer)
                if not isinstance(answer, Go) or place.granted:
                    break
        return place.granted and lane.waiting[0] is carried and isinstance(answer, Go)

    def _note_end(self, lane: Lane, carried: Carried, place: Place, ending: Stop) -> None:
        """The occurrence ended while it waited. One that coalesces it waits in its stead, before the place goes to anybody else.

        One that was sent before is not lost for want of a place: an automation whose attempts all fail must not precede the others.
        """
        if not carried.maybe_sent and (ending.outcome is Outcome.EXPIRED or ending.reason is Reason.COALESCED):
            self.places.note_lost(place)
        if ending.outcome is Outcome.EXPIRED:
            carried.error = carried.error or (None if place.granted else place.lack)
        elif ending.reason is Reason.COALESCED and (heir := lane.heir([carried], self._context.clock.now())) is not None:
            self.places.hand_over(self._place(lane, heir))

    def _until_news(self, lane: Lane, carried: Carried) -> float:
        """Seconds until time alone ends the wait: at the deadline, or when a newer occurrence comes due."""
        now = self._context.clock.now()
        deadline, newer = self._clearance.deadline(carried) + _MOMENT, lane.next_due(now)
        return max(0.0, ((deadline if newer is None else min(deadline, newer)) - now).total_seconds())

    async def _is_ready(self, lane: Lane, carried: Carried) -> bool:
        """Have the attempt durable, and look whether it may still be sent.

        An edit may have come to be known while the attempt was written.
        """
        gate = self._context.gate
        if not gate.admit(carried):
            return False
        if not self._waiting.is_fresh(carried) or self._is_outdated(carried):
            await self._write(carried)
            if not self._may_go(await self._waiting.ask(lane, carried)):
                return False
        if self._is_too_late(carried) or self._inquiry.turned_up(carried) is not None or not gate.admit(carried):
            return False
        gate.sending(carried)
        return True

    def _may_go(self, answer: object) -> bool:
        """Whether nothing holds it up, or only the target: the gate says whether this attempt is the probe."""
        by_target = isinstance(answer, Wait) and answer.cause in {Cause.HELD, Cause.THROTTLED}
        return by_target or isinstance(answer, Go)

    def _is_too_late(self, carried: Carried) -> bool:
        """Whether the ledger took too long for the attempt: longer than it stands for, or beyond the deadline."""
        return not self._waiting.is_fresh(carried) or self._context.clock.now() > self._clearance.deadline(carried)

    def _is_outdated(self, carried: Carried) -> bool:
        """Whether a run was seen to begin since the attempt was written: it is none of ours, and the attempt must know it."""
        assert carried.attempt is not None
        return carried.doubt is None and carried.attempt.baseline != self._readings.baseline(carried.occurrence.automation_id)

    async def _write(self, carried: Carried) -> None:
        """Make the attempt durable before its first byte."""
        number = carried.attempts if carried.state is State.CLAIMED and carried.attempt else carried.attempts + 1
        baseline = self._readings.baseline(carried.occurrence.automation_id) if carried.doubt is None else carried.doubt.baseline
        attempt = Attempt(number, self._context.clock.now(), baseline, self._context.clock_offset)
        written = self._context.clock.seconds()
        await write_down(self._context, "attempt", carried, lambda steps: self._context.ledger.attempt(carried.occurrence, attempt, steps))
        carried.attempt, carried.written, carried.state = attempt, written, State.CLAIMED

    async def _send(self, carried: Carried) -> tuple[Verdict, AttemptEnd]:
        context, automation_id = self._context, carried.occurrence.automation_id
        attempt = carried.attempt
        assert attempt is not None
        key = idempotency_key(context.settings.url, context.settings.project_id, automation_id, carried.occurrence.scheduled_for)
        carried.state, carried.written = State.IN_FLIGHT, None
        carried.sent_at, carried.sent = context.clock.now(), context.clock.seconds()
        carried.sent_by_api = by_api(carried.sent_at, context.clock_offset)
        self.in_flight.add(automation_id)
        context.publish(AttemptBegun(target=context.target))
        came_back = await context.upstream.run(automation_id, key)
        took = context.clock.seconds() - carried.sent
        verdict = judge(
            came_back, automation_id=automation_id, taken=lambda run_id: run_id == attempt.baseline or self._readings.is_taken(run_id)
        )
        end = AttemptEnd(
            number=attempt.number,
            result=verdict.result,
            ended_at=carried.sent_at + timedelta(seconds=took),  # by the clock of then, which may have been set meanwhile
            sent_at=None if isinstance(verdict, NotStarted) else carried.sent_at,
            http_status=came_back.status if isinstance(came_back, Answer) else None,
            error=None if isinstance(verdict, Accepted) else verdict.error,
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

    async def _follow(self, carried: Carried, verdict: Verdict, end: AttemptEnd) -> Ending | None:
        """Do what the verdict asks for; its outcome, or None to go on."""
        carried.error = end.error
        if not isinstance(verdict, Accepted | Throttled):  # what was accepted is told when it is durable
            self._context.throttle.end_if_over()
        match verdict:
            case Accepted(automation=automation):
                run = Run(automation.run_id or "", automation.id, automation.run_at, RunStatus.RUNNING)
                return Ending(Outcome.ACCEPTED, Reason.ANSWERED, None, run, end)
            case Rejected(error=error):
                return Ending(Outcome.REJECTED, Reason.REFUSED, error, None, end)
            case Unknown(retry_after=retry_after):
                carried.failures += 1
                again = 0.0 if carried.doubt is None else back_off(carried.failures)  # sent again at once, but once
                carried.fall_into_doubt(self._context.clock.seconds(), self._context.settings.settle_time)
                carried.not_before = self._context.clock.seconds() + max(retry_after or 0.0, again)
                await self.ended(carried, end, State.UNKNOWN)
            case Throttled(retry_after=retry_after):
                self._context.gate.throttle(retry_after)
                self.places.ring()  # those who wait there do so for the API from now on, not for the budget
                await self.ended(carried, end, State.WAITING)
            case Held(error=error):
                self._context.gate.hold(error)
                await self.ended(carried, end, State.WAITING)
            case NotStarted():
                self._back_off(carried)
                await self.ended(carried, end, State.WAITING)
            case Absent():
                self._back_off(carried)
                await self.ended(carried, end, State.WAITING)
                return await self._look_at_the_list(carried)
        return None

    async def ended(self, carried: Carried, end: AttemptEnd, state: State) -> None:
        """Record the end of an attempt that gave no outcome."""
        if carried.doubt is not None:
            state = State.UNKNOWN  # an earlier attempt still is
        await write_down(self._context, "ended", carried, lambda steps: self._context.ledger.ended(carried.occurrence, end, state, steps))
        carried.state = state  # not before: a stop in between would take the attempt for one that was only written

    def _back_off(self, carried: Carried) -> None:
        carried.failures += 1
        carried.not_before = self._context.clock.seconds() + back_off(carried.failures)

    async def _look_at_the_list(self, carried: Carried) -> Ending | None:
        try:
            with carried.waiting_for(Cause.UNCONFIRMED, self._context.clock):
                gone = await self._readings.gone(carried.occurrence.automation_id)
        except UpstreamError:
            return None
        if gone:
            return Ending(Outcome.SKIPPED, Reason.DELETED, carried.error)
        self._context.timetable.note_denial(carried.occurrence.automation_id)
        return None


async def write_down(context: Context, operation: str, carried: Carried, write: Callable[[Sequence[Step]], Awaitable[_T]]) -> _T:
    """Make durable what happened to it, and with it the steps that are not on record yet.

    The wait for a ledger that does not take the write at once is one of them.
    """
    with carried.waiting_for(Cause.LEDGER, context.clock):
        return await context.durably(operation, lambda: write_once(context, carried, write))


async def write_once(context: Context, carried: Carried, write: Callable[[Sequence[Step]], Awaitable[_T]]) -> _T:
    """Do the same, and raise `LedgerUnavailable` when the ledger does not take it."""
    steps = carried.steps_so_far(context.clock)
    done = await write(steps)
    if done is not False:
        carried.forget(steps)
    return done
