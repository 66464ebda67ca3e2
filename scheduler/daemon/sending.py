"""One attempt: written down before its first byte, sent, judged, and its end written down."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from scheduler.core.errors import UpstreamError
from scheduler.core.events import AttemptBegun, AttemptEnded
from scheduler.core.identity import idempotency_key
from scheduler.core.model import Attempt, AttemptEnd, Outcome, Reason, Run, RunStatus, State
from scheduler.core.steps import Cause, Step
from scheduler.core.verdict import Absent, Accepted, Answer, Held, NotStarted, Rejected, Throttled, Unknown, Verdict, judge
from scheduler.daemon.adoption import by_api
from scheduler.daemon.clearance import Clearance, Go
from scheduler.daemon.context import Context, back_off
from scheduler.daemon.inquiry import Inquiry
from scheduler.daemon.lane import Carried, Lane
from scheduler.daemon.readings import Readings
from scheduler.daemon.waiting import Ending, Waiting

_T = TypeVar("_T")


class Sender:
    """Makes the attempts of one target, so many at a time."""

    def __init__(self, context: Context, readings: Readings, clearance: Clearance, waiting: Waiting, inquiry: Inquiry) -> None:
        self._context = context
        self._readings = readings
        self._clearance = clearance
        self._waiting = waiting
        self._inquiry = inquiry
        self._slots = asyncio.Semaphore(context.settings.max_in_flight)
        self.in_flight: set[str] = set()  # automations with an attempt that was sent and not followed up

    def resize(self, max_in_flight: int) -> None:
        """From now on so many attempts may be in flight at once; those that are stay so."""
        self._slots = asyncio.Semaphore(max_in_flight)

    async def attempt(self, lane: Lane, carried: Carried) -> Ending | None:
        """Make the next attempt; the outcome, or None when it is to be carried on."""
        async with self._slots:
            if not await self._admitted(carried) or not isinstance(await self._waiting.ask(lane, carried), Go):
                return None
            self._context.gate.sending()
            if not self._waiting.is_fresh(carried) or self._is_outdated(carried):
                await self._write(carried)
                if not self._waiting.is_fresh(carried):
                    return None
            if self._inquiry.turned_up(carried) is not None:
                return None
            before = carried.sent_at, carried.sent, carried.sent_by_api
            verdict, end = await self._send(carried)
            if isinstance(verdict, Accepted | Unknown):
                carried.disproved = None
            else:
                carried.sent_at, carried.sent, carried.sent_by_api = before  # of the attempt whose run may still turn up
        return await self._follow(carried, verdict, end)

    def _is_outdated(self, carried: Carried) -> bool:
        """Whether a run was seen to begin since the attempt was written: it is none of ours, and the attempt must know it."""
        assert carried.attempt is not None
        return carried.doubt is None and carried.attempt.baseline != self._readings.baseline(carried.occurrence.automation_id)

    async def _admitted(self, carried: Carried) -> bool:
        """Wait for a place in the request budget; False when that took until the deadline."""
        left = (self._clearance.deadline(carried) - self._context.clock.now()).total_seconds()
        carried.waits_for(Cause.BUDGET, self._context.clock)
        try:
            async with asyncio.timeout(max(left, 0.0) + 0.001):
                await self._context.upstream.admit()
        except TimeoutError:
            carried.error = carried.error or "the request budget of the target had no place for it"
            return False
        finally:
            carried.goes_on(self._context.clock)
        return True

    async def _write(self, carried: Carried) -> None:
        """Make the attempt durable before its first byte."""
        number = carried.attempts if carried.state is State.CLAIMED and carried.attempt else carried.attempts + 1
        baseline = self._readings.baseline(carried.occurrence.automation_id) if carried.doubt is None else carried.doubt.baseline
        attempt = Attempt(number, self._context.clock.now(), baseline, self._context.clock_offset)
        written = self._context.clock.seconds()
        carried.waits_for(Cause.LEDGER, self._context.clock)
        await write_down(self._context, "attempt", carried, lambda steps: self._context.ledger.attempt(carried.occurrence, attempt, steps))
        carried.goes_on(self._context.clock)
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
        verdict = judge(
            came_back, automation_id=automation_id, taken=lambda run_id: run_id == attempt.baseline or self._readings.is_taken(run_id)
        )
        end = AttemptEnd(
            number=attempt.number,
            result=verdict.result,
            ended_at=context.clock.now(),
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
                seconds=context.clock.seconds() - carried.sent,
                error=end.error,
            )
        )
        return verdict, end

    async def _follow(self, carried: Carried, verdict: Verdict, end: AttemptEnd) -> Ending | None:
        """Do what the verdict asks for; its outcome, or None to go on."""
        carried.error = end.error
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
        carried.state = state
        await write_down(self._context, "ended", carried, lambda steps: self._context.ledger.ended(carried.occurrence, end, state, steps))

    def _back_off(self, carried: Carried) -> None:
        carried.failures += 1
        carried.not_before = self._context.clock.seconds() + back_off(carried.failures)

    async def _look_at_the_list(self, carried: Carried) -> Ending | None:
        try:
            gone = await self._readings.gone(carried.occurrence.automation_id)
        except UpstreamError:
            return None
        return Ending(Outcome.SKIPPED, Reason.DELETED, carried.error) if gone else None


async def write_down(context: Context, operation: str, carried: Carried, write: Callable[[Sequence[Step]], Awaitable[_T]]) -> _T:
    """Make durable what happened to it, and with it what did before that nobody has written down yet."""
    steps = tuple(carried.steps)
    done = await context.durably(operation, lambda: write(steps))
    if done is not False:
        del carried.steps[: len(steps)]
    return done
