"""Places for attempts: one of `max_in_flight` requests together with a part of the request budget.

`FairQueue` chooses the next attempt. This module counts the places and wakes the deliveries that wait in the
queue. A place is entered and left: at the end the budget gets its part back unless the request was sent, and
`max_in_flight` gets its place back in any case.

A request without an answer after a second *hangs*: the request leaves `max_in_flight` and counts against
`max_waiting`, the limit for requests that wait long for their answer. Thus hanging automations delay no other
automation. When `max_waiting` is full, the target is saturated: further hanging requests stay in flight.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from scheduler.core.episode import Episode
from scheduler.core.events import BudgetExhausted, BudgetRecovered, TargetRelieved, TargetSaturated
from scheduler.core.fair_queue import FairQueue, Ticket
from scheduler.core.model import Occurrence
from scheduler.core.occurrence_log import Cause
from scheduler.core.status import PlacesStatus
from scheduler.daemon.context import Context
from scheduler.daemon.ports import AttemptReservation
from scheduler.daemon.wait_log import PlaceWait, Shortages

HANGS_AFTER: Final = 1.0
"""Seconds without an answer after which a request hangs."""
QUIET: Final = 180.0
"""Seconds without a wait after which a shortage is over: a wait every minute is a single shortage."""
_LOOK_FOR_END: Final = 60.0
"""Seconds between two checks for the end of a shortage."""
MIN_SHORTAGE: Final = 1.0
"""Seconds. A shorter wait for the budget is no shortage."""
_LOOK_AGAIN: Final = 1.0
"""Longest wait in seconds before the budget is asked again.

A suspend stops the timers of the event loop, and a poll may give a place back.
"""
_MIN_DELAY: Final = 0.001
"""Shortest delay in seconds before the budget is asked again: a delay of 0 would never let the loop rest."""
_HAND_OVER_SECONDS: Final = 2.0
"""Seconds for which a handed-over place waits for its occurrence to enter."""

_ERRORS: Final[Mapping[Cause, str]] = {
    Cause.BUDGET: "the request budget of the target had no place for it",
    Cause.THROTTLED: "the API asked to send nothing until it was too late",
    Cause.IN_FLIGHT: "as many requests were under way as max_in_flight allows",
}
"""Errors of occurrences that could not be sent in time, by the cause of the shortage."""


@dataclass(frozen=True, slots=True)
class PlaceRequest:
    """Request of a delivery for the place of its attempt. ``wake`` wakes the waiting delivery.

    Both times are seconds of the boot-time clock: when the occurrence is lost, and when its wait began.
    """

    occurrence: Occurrence
    lost_at: float
    since: float
    wake: Callable[[], None]


@dataclass(slots=True, eq=False)
class AttemptPlace:
    """Place of one attempt.

    The place waits in the queue until the place is granted. `Places.leave` gives back all unused parts.
    """

    request: PlaceRequest
    ticket: Ticket
    wait: PlaceWait
    reservation: AttemptReservation | None = None
    hang_timer: asyncio.TimerHandle | None = None  # since the request was sent
    is_hanging: bool = False

    @property
    def is_granted(self) -> bool:
        """Whether the request may be sent."""
        return self.reservation is not None


class Places:
    """Places of one target."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.shortages = Shortages(context.clock)
        self._queue = FairQueue()
        self._queued: dict[Ticket, AttemptPlace] = {}
        self._handed_over_places: dict[Occurrence, AttemptPlace] = {}
        self._in_flight = 0
        # Hanging requests, outside and inside of `_in_flight`. The second are in the order of their sends,
        # and become the first as soon as max_waiting has room.
        self._hanging: set[AttemptPlace] = set()
        self._stuck: dict[AttemptPlace, None] = {}
        self._serve_timer: asyncio.Handle | None = None
        # Since when attempts wait for the budget, on the boot-time clock. None while no attempt waits for it.
        self._budget_short_since: float | None = None
        self._end_timer: asyncio.Handle | None = None
        self._is_closed = False
        self._exhaustion = Episode(QUIET)
        self._saturation = Episode(QUIET)

    # ------------------------------------------------------------ interface of the target

    @property
    def shortage_text(self) -> str:
        """Present shortage, as the error of an occurrence that could not be sent."""
        return _ERRORS[self._find_shortage()]

    @property
    def hanging_count(self) -> int:
        """Number of hanging requests."""
        return len(self._hanging) + len(self._stuck)

    def __len__(self) -> int:
        return len(self._queued)

    def make_status(self) -> PlacesStatus:
        """Return the number of waiting attempts and of hanging requests, and the start of each shortage."""
        return PlacesStatus(len(self), self.hanging_count, self._exhaustion.since, self._saturation.since)

    def note_exhaustion(self) -> None:
        """Note that an attempt or a poll had to wait for the request budget."""
        context = self._context
        if self._exhaustion.see(context.clock.now(), context.clock.boottime()):
            context.publish(BudgetExhausted(target=context.target, waiting=len(self)))
        self._schedule_end()

    def close(self) -> None:
        """Grant no more places and publish no more events, since the daemon ends."""
        self._is_closed = True
        self._cancel_timer()
        if self._end_timer is not None:
            self._end_timer.cancel()

    def wake(self) -> None:
        """Wake all deliveries in the queue for a new decision: they lack something other than a place now."""
        for place in self._queued.values():
            place.request.wake()

    def serve(self) -> None:
        """Grant free places to waiting attempts."""
        self._cancel_timer()
        if self._is_closed:
            return
        self._release_hanging()
        upstream = self._context.upstream
        while self._queued and self._has_room():
            reservation = upstream.reserve()
            if reservation is None:
                self._note_shortage(self._find_shortage())
                seconds = max(min(upstream.estimate_wait(), _LOOK_AGAIN), _MIN_DELAY)
                self._serve_timer = asyncio.get_running_loop().call_later(seconds, self.serve)
                return
            ticket = self._queue.choose()
            assert ticket is not None, "as many tickets as places wait"
            self._grant(self._queued.pop(ticket), reservation)
        self.shortages.set_cause(Cause.IN_FLIGHT if self._queued else None)
        self._budget_short_since = None

    # ------------------------------------------------------------ interface of a place

    def enter(self, request: PlaceRequest) -> AttemptPlace:
        """Begin the wait of an attempt for its place, or go on with the wait of a handed-over place."""
        return self._handed_over_places.pop(request.occurrence, None) or self._join(request)

    def hand_over(self, request: PlaceRequest) -> None:
        """Let the place of an occurrence wait from now on, after the occurrence coalesced a waiting one.

        The occurrence enters as soon as the outcome of the coalesced occurrence is durable. Until the entry,
        but at most `_HAND_OVER_SECONDS`, the place waits: other occurrences that come due now must not
        precede.
        """
        if request.occurrence not in self._handed_over_places:
            place = self._handed_over_places[request.occurrence] = self._join(request)
            asyncio.get_running_loop().call_later(_HAND_OVER_SECONDS, self._withdraw_place, place)

    def _withdraw_place(self, place: AttemptPlace) -> None:
        if self._handed_over_places.get(place.request.occurrence) is place:
            del self._handed_over_places[place.request.occurrence]
            self.leave(place)

    def _join(self, request: PlaceRequest) -> AttemptPlace:
        """Add a place to the queue. All occurrences of the same due instant join before the first choice."""
        ticket = self._queue.join(
            request.occurrence.automation_id, lost_at=request.lost_at, since=request.since
        )
        place = self._queued[ticket] = AttemptPlace(request, ticket, self.shortages.begin_wait())
        if self._serve_timer is None:
            self._serve_timer = asyncio.get_running_loop().call_soon(self.serve)
        return place

    def send(self, place: AttemptPlace) -> None:
        """Use a granted place, because the request is sent now."""
        assert place.reservation is not None, "no place was granted"
        place.reservation.use()
        self._queue.record_send(place.ticket, self._context.clock.boottime())
        place.hang_timer = asyncio.get_running_loop().call_later(HANGS_AFTER, self.note_hanging, place)

    def record_loss(self, place: AttemptPlace) -> None:
        """Record that the occurrence of a place was lost during the wait."""
        self._queue.record_loss(place.ticket)

    def leave(self, place: AttemptPlace) -> None:
        """Take back all parts that a place still holds."""
        if self._queued.pop(place.ticket, None) is not None:
            self._queue.leave(place.ticket)
            if not self._queued:
                self.shortages.set_cause(None)
        if place.reservation is not None:
            self._free(place, place.reservation)

    def note_hanging(self, place: AttemptPlace) -> None:
        """Note that the request of a place hangs: no answer after `HANGS_AFTER` seconds."""
        place.is_hanging = True
        self._stuck[place] = None
        self._release_hanging()
        self._note_saturation()
        self._schedule_end()
        self.serve()

    # ------------------------------------------------------------ the counts

    def _has_room(self) -> bool:
        return self._in_flight < self._context.settings.max_in_flight

    def _grant(self, place: AttemptPlace, reservation: AttemptReservation) -> None:
        place.reservation, place.wait.is_over = reservation, True
        self._in_flight += 1
        place.request.wake()

    def _free(self, place: AttemptPlace, reservation: AttemptReservation) -> None:
        reservation.give_back()
        if place.hang_timer is not None:
            place.hang_timer.cancel()
            self._queue.record_answer(place.request.occurrence.automation_id, hung=place.is_hanging)
        if place in self._hanging:
            self._hanging.remove(place)
        else:
            self._stuck.pop(place, None)
            self._in_flight -= 1
        self.serve()

    def _release_hanging(self) -> None:
        """Move hanging requests out of ``max_in_flight``, as many as ``max_waiting`` allows."""
        while self._stuck and len(self._hanging) < self._context.settings.max_waiting:
            place = next(iter(self._stuck))
            del self._stuck[place]
            self._hanging.add(place)
            self._in_flight -= 1

    # ------------------------------------------------------------ timers and events

    def _cancel_timer(self) -> None:
        if self._serve_timer is not None:
            self._serve_timer.cancel()
            self._serve_timer = None

    def _find_shortage(self) -> Cause:
        """Return the cause of the present waits for a place."""
        if not self._has_room():
            return Cause.IN_FLIGHT
        is_throttled = self._context.clock.boottime() < self._context.upstream.blocked_until
        return Cause.THROTTLED if is_throttled else Cause.BUDGET

    def _note_shortage(self, cause: Cause) -> None:
        throttle_end = self._context.throttle.end_text if cause is Cause.THROTTLED else None
        self.shortages.set_cause(cause, throttle_end)
        if cause is not Cause.BUDGET:
            self._budget_short_since = None
            return
        now = self._context.clock.boottime()
        self._budget_short_since = now if self._budget_short_since is None else self._budget_short_since
        if now - self._budget_short_since >= MIN_SHORTAGE:
            self.note_exhaustion()

    def _note_saturation(self) -> None:
        context = self._context
        is_full = len(self._hanging) >= context.settings.max_waiting
        if is_full and self._saturation.see(context.clock.now(), context.clock.boottime()):
            context.publish(TargetSaturated(target=context.target, hanging=self.hanging_count))

    def _schedule_end(self) -> None:
        """Schedule a check: an episode must end even when nothing else happens."""
        if (
            not self._is_closed
            and self._end_timer is None
            and (self._exhaustion.since or self._saturation.since)
        ):
            self._end_timer = asyncio.get_running_loop().call_later(_LOOK_FOR_END, self._end_episodes)

    def _end_episodes(self) -> None:
        self._end_timer = None
        context, seconds = self._context, self._context.clock.boottime()
        self._note_saturation()
        if (since := self._exhaustion.end(seconds)) is not None:
            context.publish(BudgetRecovered(target=context.target, since=since))
        if (since := self._saturation.end(seconds)) is not None:
            context.publish(TargetRelieved(target=context.target, since=since))
        self._schedule_end()
