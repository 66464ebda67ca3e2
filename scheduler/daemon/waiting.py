"""Waiting until an occurrence may be sent, or gets its outcome without being sent.

`Clearance` decides, in one look and without I/O; here is what happens between two looks: sleeping, reading the automation, asking what is
paused, and keeping in mind what was waited for.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Final

from scheduler.core.model import AttemptEnd, Outcome, Reason, Run
from scheduler.core.steps import Cause
from scheduler.daemon.clearance import Clearance, Go, NeedPresence, NeedReading, Stop, Wait, Withdraw
from scheduler.daemon.context import Context
from scheduler.daemon.lane import Carried, Lane
from scheduler.daemon.presence import Presence
from scheduler.daemon.readings import Readings

SEND_WITHIN: Final = 10.0
"""An attempt may be sent this many seconds after its durable instant; later it is written anew."""
PAUSES_HOLD: Final = 0.5
"""Seconds for which it is taken for granted what operators have paused."""


@dataclass(frozen=True, slots=True)
class Ending:
    """An outcome, with the run and the attempt's end that belong to it."""

    outcome: Outcome
    reason: Reason
    error: str | None = None
    run: Run | None = None
    end: AttemptEnd | None = None


@dataclass(frozen=True, slots=True)
class Anew:
    """To be looked at anew: another one is the head of its lane now, or its run may have turned up."""


class Waiting:
    """One target's way of waiting."""

    def __init__(self, context: Context, readings: Readings, clearance: Clearance, presence: Presence) -> None:
        self._context = context
        self._readings = readings
        self._presence = presence
        self._clearance = clearance
        self._reading_pauses = asyncio.Lock()
        self._pauses_read = float("-inf")

    async def clear(self, lane: Lane, carried: Carried) -> Ending | Withdraw | Anew | None:
        """Wait until it may be sent; what comes back otherwise is what becomes of it."""
        clock = self._context.clock
        while True:
            answer = await self.ask(lane, carried)
            match answer:
                case Wait(seconds=seconds, cause=cause, detail=detail):
                    carried.waits_for(cause, clock, detail)
                    await self._sleep(lane, carried, seconds)
                    if self._is_overtaken(lane, carried):
                        return Anew()
                    continue
                case NeedPresence(seconds=seconds):
                    denial = self._context.timetable.find_denial(carried.occurrence.automation_id)
                    carried.waits_for(Cause.UNCONFIRMED, clock, denial)
                    if self._presence.may_read(carried.occurrence.automation_id):
                        await self._read_alone(lane, carried)
                    else:
                        await lane.alarm.sleep(seconds)
                    if self._is_overtaken(lane, carried):
                        return Anew()
                    continue
                case NeedReading(since=since):
                    carried.waits_for(Cause.READING, clock)
                    if await self._read(carried, since):
                        carried.goes_on(clock)
                        return Ending(Outcome.SKIPPED, Reason.DELETED, "the automation was deleted before it could be sent")
                    continue
            carried.goes_on(clock)
            if isinstance(answer, Stop) and answer.reason is Reason.COALESCED:
                lane.heir([carried], clock.now())
            return self._stopped(answer)

    async def find_stopped(self, lane: Lane) -> list[tuple[Carried, Ending]]:
        """Look at the first occurrences of a lane. Return those that get their outcome now without an attempt, with these outcomes."""
        if lane.waiting[0].asked or lane.waiting[0].may_have_started:
            return []
        paused = await self._is_paused(lane.waiting[0])
        stopped: list[tuple[Carried, Ending]] = []
        for carried in lane.waiting:
            if carried.asked or carried.may_have_started:
                break
            answer = self._clearance.ask(carried, lane, paused=paused)
            if not isinstance(answer, Stop):
                break
            stopped.append((carried, Ending(answer.outcome, answer.reason, answer.error)))
        if coalesced := [carried for carried, ending in stopped if ending.reason is Reason.COALESCED]:
            lane.heir(coalesced, self._context.clock.now())
        return stopped

    async def _read_alone(self, lane: Lane, carried: Carried) -> None:
        """Read the absent automation, as long as the occurrence waits for that alone: the reading may wait long for the request budget."""
        reading = asyncio.create_task(self._presence.read(carried.occurrence.automation_id))
        reading.add_done_callback(lambda _: lane.alarm.ring())
        try:
            while not reading.done():
                answer = await self.ask(lane, carried)
                if not isinstance(answer, NeedPresence):
                    return
                await lane.alarm.sleep(answer.seconds)
                if self._is_overtaken(lane, carried):  # not before the sleep, else the automation would never be read
                    break
            if reading.done():
                reading.result()
        finally:
            reading.cancel()

    async def _sleep(self, lane: Lane, carried: Carried, seconds: float | None) -> None:
        """Sleep, unless an older occurrence has become the head."""
        lane.put_in_order()
        if lane.waiting[0] is carried:
            await lane.alarm.sleep(seconds)

    def _is_overtaken(self, lane: Lane, carried: Carried) -> bool:
        """Whether another one is the head of the lane now, or its own run may have turned up."""
        if lane.waiting[0] is not carried:
            carried.goes_on(self._context.clock)
            return True
        return carried.disproved is not None

    def _stopped(self, answer: Go | Stop | Withdraw) -> Ending | Withdraw | None:
        match answer:
            case Go():
                return None
            case Stop(outcome=outcome, reason=reason, error=error):
                return Ending(outcome, reason, error)
            case Withdraw():
                return answer

    async def ask(self, lane: Lane, carried: Carried) -> Go | Wait | NeedReading | NeedPresence | Stop | Withdraw:
        """Look once whether it may be sent. What was claimed a moment ago was claimed with the pauses of then."""
        paused = False if self.is_fresh(carried) else await self._is_paused(carried)
        return self._clearance.ask(carried, lane, paused=paused)

    async def _is_paused(self, carried: Carried) -> bool:
        """Return whether an operator paused it, as the ledger said at most `PAUSES_HOLD` seconds ago.

        When a target is released, thousands ask at the same time.
        """
        if not self._knows_pauses():
            async with self._reading_pauses:
                await self._read_pauses(carried)
        return self._clearance.is_paused(carried.occurrence.automation_id)

    async def _read_pauses(self, carried: Carried) -> None:
        if self._knows_pauses():
            return  # somebody else read them meanwhile
        context = self._context
        failed = partial(carried.waits_for, Cause.LEDGER, context.clock)
        self._clearance.paused = await context.readably("pauses", lambda: context.ledger.pauses(context.target), failed)
        self._pauses_read = context.clock.seconds()

    def _knows_pauses(self) -> bool:
        return self._context.clock.seconds() - self._pauses_read <= PAUSES_HOLD

    def is_fresh(self, carried: Carried) -> bool:
        """Whether its attempt may be sent on the strength of the instant that is durable."""
        return carried.written is not None and self._context.clock.seconds() - carried.written <= SEND_WITHIN

    async def _read(self, carried: Carried, since: float) -> bool:
        """Get a reading begun then or later, until the deadline; True when the automation is gone."""
        left = (self._clearance.deadline(carried) - self._context.clock.now()).total_seconds()
        try:
            async with asyncio.timeout(max(left, 0.0) + 0.001):
                return await self._readings.read(carried.occurrence.automation_id, since=since) is None
        except TimeoutError:
            carried.error = carried.error or "the automation could not be read, so it could not be told whether its newest run was finished"
            return False
