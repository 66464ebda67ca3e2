"""Wait for admission: until an occurrence may be sent, or ends without being sent.

`Admission` makes each decision without I/O. This module acts between two decisions: sleep, read the
automation, read the pauses from the ledger, and record the waits.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Final

from scheduler.core.model import AttemptEnd, Outcome, Reason, Run
from scheduler.core.occurrence_log import Cause
from scheduler.daemon.admission import (
    Admission,
    EndUnsent,
    MaySend,
    MustWait,
    NeedPresence,
    NeedReading,
    Withdraw,
)
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.context import Context
from scheduler.daemon.delivery import AutomationQueue, Delivery
from scheduler.daemon.presence import Presence

SEND_WITHIN: Final = 10.0
"""Seconds after the durable instant of an attempt in which the attempt may be sent.

Later, the attempt is written anew.
"""
PAUSES_FRESH_FOR: Final = 0.5
"""Seconds for which the pauses last read from the ledger count."""


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """Outcome of a delivery, with its run and the end of its attempt."""

    outcome: Outcome
    reason: Reason
    error: str | None = None
    run: Run | None = None
    end: AttemptEnd | None = None


@dataclass(frozen=True, slots=True)
class DecideAgain:
    """Need of a new decision: the queue has another head, or a run of the occurrence may have appeared."""


class AdmissionWait:
    """Waits for admission of one target."""

    def __init__(
        self, context: Context, readings: AutomationCache, clearance: Admission, presence: Presence
    ) -> None:
        self._context = context
        self._cache = readings
        self._presence = presence
        self._admission = clearance
        self._pauses_lock = asyncio.Lock()
        self._pauses_read_at = float("-inf")

    async def wait_for_permission(
        self, lane: AutomationQueue, carried: Delivery
    ) -> DeliveryOutcome | Withdraw | DecideAgain | None:
        """Wait for permission to send.

        Return None when the occurrence may be sent. Otherwise return its outcome, its withdrawal, or
        `DecideAgain`.
        """
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
                        return DeliveryOutcome(
                            Outcome.SKIPPED,
                            Reason.DELETED,
                            "the automation was deleted before it could be sent",
                        )
                    continue
            carried.end_wait(clock)
            if isinstance(answer, EndUnsent) and answer.reason is Reason.COALESCED:
                lane.coalesce_into_newest([carried], clock.now())
            return self._to_outcome(answer)

    async def find_unsent_outcomes(self, lane: AutomationQueue) -> list[tuple[Delivery, DeliveryOutcome]]:
        """Return the first deliveries of a queue that end now without an attempt, with their outcomes."""
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
        """Read an automation that may be gone, as long as the occurrence waits for nothing but this reading.

        The reading may wait long for the request budget.
        """
        reading = asyncio.create_task(self._presence.read(carried.occurrence.automation_id))
        reading.add_done_callback(lambda _: lane.alarm.ring())
        try:
            while not reading.done():
                answer = await self.decide(lane, carried)
                if not isinstance(answer, NeedPresence):
                    return
                await lane.alarm.sleep(answer.seconds)
                # Check only after the sleep. With a check before the sleep, the automation might never be
                # read.
                if self._is_overtaken(lane, carried):
                    break
            if reading.done():
                reading.result()
        finally:
            reading.cancel()

    async def _sleep(self, lane: AutomationQueue, carried: Delivery, seconds: float | None) -> None:
        """Sleep, unless an older occurrence becomes the head."""
        lane.reorder_head()
        if lane.deliveries[0] is carried:
            await lane.alarm.sleep(seconds)

    def _is_overtaken(self, lane: AutomationQueue, carried: Delivery) -> bool:
        """Return whether the queue has another head, or a run of the occurrence may have appeared late."""
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
        """Decide once about the occurrence.

        With a fresh attempt, the pauses are not read again: the claim of a moment ago has considered the
        pauses.
        """
        paused = False if self.is_attempt_fresh(carried) else await self._is_paused(carried)
        return self._admission.decide(carried, lane, paused=paused)

    async def _is_paused(self, carried: Delivery) -> bool:
        """Return whether an operator paused the automation, as read at most `PAUSES_FRESH_FOR` seconds ago.

        After the release of a target, thousands of occurrences ask at the same time.
        """
        if not self._has_fresh_pauses():
            async with self._pauses_lock:
                await self._read_pauses(carried)
        return self._admission.is_paused(carried.occurrence.automation_id)

    async def _read_pauses(self, carried: Delivery) -> None:
        if self._has_fresh_pauses():
            return  # another occurrence read the pauses meanwhile
        context = self._context
        failed = partial(carried.begin_wait, Cause.LEDGER, context.clock)
        self._admission.paused_ids = await context.retry_read(
            "pauses", lambda: context.ledger.read_pauses(context.target), failed
        )
        self._pauses_read_at = context.clock.boottime()

    def _has_fresh_pauses(self) -> bool:
        return self._context.clock.boottime() - self._pauses_read_at <= PAUSES_FRESH_FOR

    def is_attempt_fresh(self, carried: Delivery) -> bool:
        """Return whether the attempt may be sent under its durable instant, within `SEND_WITHIN` seconds."""
        return (
            carried.written_boottime is not None
            and self._context.clock.boottime() - carried.written_boottime <= SEND_WITHIN
        )

    async def _wait_for_reading(self, carried: Delivery, since: float) -> bool:
        """Wait until the deadline for a reading that begins at ``since`` or later.

        Return True when the automation is gone.
        """
        left = (self._admission.find_deadline(carried) - self._context.clock.now()).total_seconds()
        try:
            async with asyncio.timeout(max(left, 0.0) + 0.001):
                return await self._cache.read(carried.occurrence.automation_id, since=since) is None
        except TimeoutError:
            carried.error = (
                carried.error
                or "the automation could not be read, so it could not be told whether its newest run was finished"
            )
            return False
