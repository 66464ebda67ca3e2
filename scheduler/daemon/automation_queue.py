"""Automation queues: the open deliveries of one automation, in the order of due.

Only the head of an automation queue is sent.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduler.core.delivery import Delayed, Delivery, DeliveryEvent, OlderCoalesced
from scheduler.core.instants import to_text_seconds
from scheduler.core.model import Occurrence, State
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.status import WaitStatus
from scheduler.daemon.clock import Alarm
from scheduler.daemon.places import AttemptPlace
from scheduler.daemon.ports import DaemonClock
from scheduler.daemon.wait_log import WaitLog


@dataclass(slots=True, eq=False)
class OpenDelivery:
    """Holder of one delivery: its present value, its waits, its place, and the reading on its behalf.

    ``value`` changes only in `apply`.
    """

    value: Delivery
    queue: "AutomationQueue"
    waits: WaitLog
    queued_at: datetime  # when the delivery joined its automation queue
    place: AttemptPlace | None = None
    reading: asyncio.Task[None] | None = None

    @property
    def occurrence(self) -> Occurrence:
        """Occurrence of the delivery."""
        return self.value.occurrence

    def apply(self, event: DeliveryEvent) -> None:
        """Replace the delivery by the delivery after ``event``."""
        self.value = event.apply_to(self.value)

    def delay(self, cause: Cause, detail: str | None = None) -> None:
        """Begin or continue a wait for ``cause``, although the occurrence is due."""
        self.apply(Delayed(self.waits.clock.boottime(), cause))
        self.waits.begin(cause, detail)

    def cancel_reading(self) -> None:
        """Cancel the reading on behalf of the delivery, if any."""
        if self.reading is not None:
            self.reading.cancel()
            self.reading = None

    def find_current_wait(self) -> WaitStatus | None:
        """Return the current wait as the head of the automation queue; None: nothing lasting delays it."""
        if (wait := self.waits.find_current()) is not None:
            return self._make_wait_status(wait.cause, wait.at, wait.detail)
        value, clock = self.value, self.waits.clock
        now = clock.now()
        if value.state is State.IN_FLIGHT:
            return self._make_wait_status(Cause.ANSWER, value.flight.at if value.flight else now)
        if value.unknown_attempt is not None:
            ended = timedelta(seconds=max(clock.boottime() - value.unknown_attempt.ended, 0.0))
            return self._make_wait_status(Cause.OUTCOME, now - ended)
        return self._make_wait_status(Cause.DUE, self.occurrence.scheduled_for) if now < value.due else None

    def find_wait_behind(self, head: "OpenDelivery", now: datetime) -> WaitStatus:
        """Return the current wait behind the head of the automation queue."""
        if now < self.value.due and not self.value.is_backfill:
            return self._make_wait_status(Cause.DUE, self.occurrence.scheduled_for)
        return self._make_wait_status(Cause.TURN, self.turn_since, _name_instant(head))

    def note_turn_wait(self, head: "OpenDelivery", now: datetime) -> None:
        """Note the wait behind the head until now."""
        self.waits.note_turn_wait(self.turn_since, now, _name_instant(head))

    @property
    def turn_since(self) -> datetime:
        """Start of the wait for the turn while another occurrence is the head.

        The wait starts when the occurrence is due and in its queue. A backfill waits from the moment it joins
        the queue.
        """
        return self.queued_at if self.value.is_backfill else max(self.value.due, self.queued_at)

    def _make_wait_status(self, cause: Cause, since: datetime, detail: str | None = None) -> WaitStatus:
        value, occurrence = self.value, self.occurrence
        automation_id, scheduled_for = occurrence.automation_id, occurrence.scheduled_for
        deadline = None if value.waits_for_run_before else value.deadline
        return WaitStatus(automation_id, value.name, scheduled_for, value.due, cause, since, detail, deadline)


def _name_instant(delivery: OpenDelivery) -> str:
    return to_text_seconds(delivery.occurrence.scheduled_for)


class AutomationQueue:
    """Open deliveries of one automation, in the order of due."""

    def __init__(self, clock: DaemonClock) -> None:
        self._clock = clock
        self.alarm = Alarm(clock)
        self.deliveries: deque[OpenDelivery] = deque()

    def add(self, value: Delivery, steps: Sequence[Step] = ()) -> OpenDelivery:
        """Add a delivery behind all deliveries with an earlier due instant, and behind a head under way.

        A delivery that is due earlier precedes a head that is not under way. Such a head may wait for hours
        when a clock that was ahead claimed it. ``steps`` are not in the ledger yet.
        """
        delivery = OpenDelivery(value, self, WaitLog(self._clock, [*steps]), self._clock.now())
        position = self._find_backfill_position() if value.is_backfill else self._find_position_by_due(value)
        self.deliveries.insert(position, delivery)
        self.alarm.ring()
        return delivery

    def iterate_waits(self) -> Iterator[tuple[OpenDelivery, WaitStatus | None]]:
        """Yield each delivery with its current wait; None: nothing lasting delays the occurrence."""
        if self.deliveries:
            head, now = self.deliveries[0], self._clock.now()
            yield head, head.find_current_wait()
            for delivery in self.deliveries:
                if delivery is not head:
                    yield delivery, delivery.find_wait_behind(head, now)

    def end_waits(self, stopped_at: datetime) -> None:
        """End every wait now, because the process ends and records the waits until now.

        A wait that the stop cut off at ``stopped_at`` or later is extended until now:
        an attempt in flight may delay a stop for long.
        """
        now = self._clock.now()
        for delivery in self.deliveries:
            delivery.waits.end()
            if delivery is self.deliveries[0]:
                delivery.waits.extend_last_step(stopped_at, now)
            else:
                delivery.note_turn_wait(self.deliveries[0], now)

    def reorder_head(self) -> None:
        """Move a head behind all deliveries with an earlier due instant, unless the head is under way.

        The head may have been claimed while the clock was ahead. Older occurrences came later, while an
        attempt of the head was unknown.
        """
        head = self.deliveries[0]
        if (
            head.value.is_under_way
            or head.value.is_backfill
            or len(self.deliveries) == 1
            or self.deliveries[1].value.due >= head.value.due
        ):
            return
        self.deliveries.popleft()
        self.deliveries.insert(self._find_position_by_due(head.value), head)

    def _find_position_by_due(self, value: Delivery) -> int:
        deliveries = self.deliveries
        at, first = len(deliveries), int(bool(deliveries) and deliveries[0].value.is_under_way)
        while at > first and deliveries[at - 1].value.due > value.due:
            at -= 1
        return at

    def _find_backfill_position(self) -> int:
        """Return the position of a backfill: behind the head, and behind earlier requests.

        The head is to be on time. A backfill precedes a head that only waits for the run before.
        """
        head = self.deliveries[0].value if self.deliveries else None
        precedes = head is None or (head.waits_for_run_before and head.unknown_attempt is None)
        for position in range(0 if precedes else 1, len(self.deliveries)):
            if not self.deliveries[position].value.is_backfill:
                return position
        return len(self.deliveries)

    def coalesce_into_newest(self, coalesced: Sequence[OpenDelivery], now: datetime) -> OpenDelivery | None:
        """Coalesce occurrences, the oldest first, into the newest due occurrence, and return the newest.

        The newest occurrence inherits the longest waiting time. Return None when no newer occurrence is due.
        """
        newer = list(self.iterate_newer_due(coalesced[0].value, now))
        heir = max(newer, key=lambda delivery: delivery.value.due, default=None)
        waits = [delivery.value.waiting_since for delivery in coalesced]
        since = min((wait for wait in waits if wait is not None), default=None)
        for delivery in newer:
            delivery.apply(OlderCoalesced(since if delivery is heir else None))
        return heir

    def note_coalescence(self, instant: datetime) -> None:
        """Note a coalescence into the newest occurrence, due or not. The older one is in no queue.

        A delivery that ended stays in the queue until the deliveries that end with it are concluded.
        """
        newest = max(self.deliveries, key=lambda delivery: delivery.occurrence.scheduled_for)
        if newest.occurrence.scheduled_for > instant and newest.value.end is None:
            newest.apply(OlderCoalesced())

    def find_next_due(self, now: datetime) -> datetime | None:
        """Return the first due instant after ``now``, without backfills."""
        values = (delivery.value for delivery in self.deliveries)
        return min((value.due for value in values if value.due > now and not value.is_backfill), default=None)

    def iterate_newer_due(self, value: Delivery, now: datetime) -> Iterator[OpenDelivery]:
        """Yield the due occurrences newer than ``value``, from the end of the queue, without backfills.

        The position in the queue does not decide: an older occurrence may be behind this one, because the
        older one was confirmed when this one was already under way.
        """
        than = value.occurrence.scheduled_for
        return (
            delivery
            for delivery in reversed(self.deliveries)
            if delivery.occurrence.scheduled_for > than
            and delivery.value.due <= now
            and not delivery.value.is_backfill
        )
