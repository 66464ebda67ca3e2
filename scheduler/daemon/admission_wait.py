"""Waiting until an occurrence may be sent, or gets its outcome without being sent.

`Admission` decides, in one look and without I/O; here is what happens between two looks: sleeping, reading the automation, asking what is
paused, and keeping in mind what was waited for.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Final

from scheduler.core.model import AttemptEnd, Outcome, Reason, Run
from scheduler.core.occurrence_log import Cause
from scheduler.daemon.admission import Admission, EndUnsent, MaySend, MustWait, NeedPresence, NeedReading, Withdraw
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.context import Context
from scheduler.daemon.delivery import AutomationQueue, Delivery
from scheduler.daemon.presence import Presence

SEND_WITHIN: Final = 10.0
"""An attempt may be sent this many seconds after its durable instant; later it is written anew."""
PAUSES_FRESH_FOR: Final = 0.5
"""Seconds for which it is taken for granted what operators have paused."""


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """An outcome, with the run and the attempt's end that belong to it."""

    outcome: Outcome
    reason: Reason
    error: str | None = None
    run: Run | None = None
    end: AttemptEnd | None = None


@dataclass(frozen=True, slots=True)
class DecideAgain:
    """To be looked at anew: another one is the head of its lane now, or its run may have turned up."""


class AdmissionWait:
    """One target's way of waiting."""

    def __init__(self, context: Context, readings: AutomationCache, clearance: Admission, presence: Presence) -> None:
        self._context = context
        self._cache = readings
        self._presence = presence
        self._admission = clearance
        self._pauses_lock = asyncio.Lock()
        self._pauses_read_at = float("-inf")

    async def wait_for_permission(self, lane: AutomationQueue, carried: Delivery) -> DeliveryOutcome | Withdraw | DecideAgain | None:
        """Wait until it may be sent; what comes back otherwise is what becomes of it."""
        clock = self._context.clock
        while True:
            answer = await self.decide(lane, carried)
            match answer:
                case MustWait(seconds=seconds, cause=cause, detail=detail):
                    carried.begin_wait(cause, clock, detail)
                    await self._sleep(lane, carried, seconds)
                    if self._is_overtaken(lane, carried):
                        return DecideAgain()
                    continue
                case NeedPresence(seconds=seconds):
                    denial = self._context.timetable.find_denial(carried.occurrence.automation_id)
                    carried.begin_wait(Cause.UNCONFIRMED, clock, denial)
                    if self._presence.reserve_reading(carried.occurrence.automation_id):
                        await self._read_alone(lane, carried)
                    else:
                        await lane.alarm.sleep(seconds)
                    if self._is_overtaken(lane, carried):
                        return DecideAgain()
                    continue
                case NeedReading(since=since):
                    carried.begin_wait(Cause.READING, clock)
                    if await self._wait_for_reading(carried, since):
                        carried.end_wait(clock)
                        return DeliveryOutcome(Outcome.SKIPPED, Reason.DELETED, "the automation was deleted before it could be sent")
                    continue
            carried.end_wait(clock)
            if isinstance(answer, EndUnsent) and answer.reason is Reason.COALESCED:
                lane.coalesce_into_newest([carried], clock.now())
            return self._to_outcome(answer)

    async def find_unsent_outcomes(self, lane: AutomationQueue) -> list[tuple[Delivery, DeliveryOutcome]]:
        """Look at the first occurrences of a lane. Return those that get their outcome now without an attempt, with these outcomes."""
        if lane.deliveries[0].is_backfill or lane.deliveries[0].may_have_started:
            return []
        paused = await self._is_paused(lane.deliveries[0])
        stopped: list[tuple[Delivery, DeliveryOutcome]] = []
        for carried in lane.deliveries:
            if carried.is_backfill or carried.may_have_started:
                break
            answer = self._admission.decide(carried, lane, paused=paused)
            if not isinstance(answer, EndUnsent):
                break
            stopped.append((carried, DeliveryOutcome(answer.outcome, answer.reason, answer.error)))
        if coalesced := [carried for carried, ending in stopped if ending.reason is Reason.COALESCED]:
            lane.coalesce_into_newest(coalesced, self._context.clock.now())
        return stopped

    async def _read_alone(self, lane: AutomationQueue, carried: Delivery) -> None:
        """Read the absent automation, as long as the occurrence waits for that alone: the reading may wait long for the request budget."""
        reading = asyncio.create_task(self._presence.read(carried.occurrence.automation_id))
        reading.add_done_callback(lambda _: lane.alarm.ring())
        try:
            while not reading.done():
                answer = await self.decide(lane, carried)
                if not isinstance(answer, NeedPresence):
                    return
                await lane.alarm.sleep(answer.seconds)
                if self._is_overtaken(lane, carried):  # not before the sleep, else the automation would never be read
                    break
            if reading.done():
                reading.result()
        finally:
            reading.cancel()

    async def _sleep(self, lane: AutomationQueue, carried: Delivery, seconds: float | None) -> None:
        """Sleep, unless an older occurrence has become the head."""
        lane.reorder_head()
        if lane.deliveries[0] is carried:
            await lane.alarm.sleep(seconds)

    def _is_overtaken(self, lane: AutomationQueue, carried: Delivery) -> bool:
        """Whether another one is the head of the lane now, or its own run may have turned up."""
        if lane.deliveries[0] is not carried:
            carried.end_wait(self._context.clock)
            return True
        return carried.unstarted_attempt is not None

    def _to_outcome(self, answer: MaySend | EndUnsent | Withdraw) -> DeliveryOutcome | Withdraw | None:
        match answer:
            case MaySend():
                return None
            case EndUnsent(outcome=outcome, reason=reason, error=error):
                return DeliveryOutcome(outcome, reason, error)
            case Withdraw():
                return answer

    async def decide(
        self, lane: AutomationQueue, carried: Delivery
    ) -> MaySend | MustWait | NeedReading | NeedPresence | EndUnsent | Withdraw:
        """Look once whether it may be sent. What was claimed a moment ago was claimed with the pauses of then."""
        paused = False if self.is_attempt_fresh(carried) else await self._is_paused(carried)
        return self._admission.decide(carried, lane, paused=paused)

    async def _is_paused(self, carried: Delivery) -> bool:
        """Return whether an operator paused it, as the ledger said at most `PAUSES_FRESH_FOR` seconds ago.

        When a target is released, thousands ask at the same time.
        """
        if not self._has_fresh_pauses():
            async with self._pauses_lock:
                await self._read_pauses(carried)
        return self._admission.is_paused(carried.occurrence.automation_id)

    async def _read_pauses(self, carried: Delivery) -> None:
        if self._has_fresh_pauses():
            return  # somebody else read them meanwhile
        context = self._context
        failed = partial(carried.begin_wait, Cause.LEDGER, context.clock)
        self._admission.paused_ids = await context.retry_read("pauses", lambda: context.ledger.read_pauses(context.target), failed)
        self._pauses_read_at = context.clock.boottime()

    def _has_fresh_pauses(self) -> bool:
        return self._context.clock.boottime() - self._pauses_read_at <= PAUSES_FRESH_FOR

    def is_attempt_fresh(self, carried: Delivery) -> bool:
        """Whether its attempt may be sent on the strength of the instant that is durable."""
        return carried.written_boottime is not None and self._context.clock.boottime() - carried.written_boottime <= SEND_WITHIN

    async def _wait_for_reading(self, carried: Delivery, since: float) -> bool:
        """Get a reading begun then or later, until the deadline; True when the automation is gone."""
        left = (self._admission.find_deadline(carried) - self._context.clock.now()).total_seconds()
        try:
            async with asyncio.timeout(max(left, 0.0) + 0.001):
                return await self._cache.read(carried.occurrence.automation_id, since=since) is None
        except TimeoutError:
            carried.error = carried.error or "the automation could not be read, so it could not be told whether its newest run was finished"
            return False
