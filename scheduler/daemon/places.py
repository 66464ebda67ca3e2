"""Places for attempts: one of `max_in_flight` requests together with a part of the request budget.

`FairQueue` chooses the next attempt. This module counts the places and wakes the waiting attempts. A place is
entered and left: at the end the budget gets its part back unless the request was sent, and `max_in_flight`
gets its place back in any case.

A request without an answer after a second *hangs*: the request leaves `max_in_flight` and counts against
`max_waiting`. Thus hanging automations delay no other automation. When `max_waiting` is full, the target is
saturated: further hanging requests stay in flight.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from scheduler.core.episode import Episode
from scheduler.core.events import BudgetExhausted, BudgetRecovered, TargetRelieved, TargetSaturated
from scheduler.core.fair_queue import FairQueue, Ticket
from scheduler.core.model import Occurrence
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.status import PlacesStatus
from scheduler.daemon.context import Context
from scheduler.daemon.ports import AttemptReservation
from scheduler.daemon.shortages import Shortages, WaitStart

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
_SHORTEST: Final = 0.001
_HAND_OVER_SECONDS: Final = 2.0
"""Seconds for which a handed-over place waits for its occurrence to enter."""


_ERRORS: Final[Mapping[Cause, str]] = {
    Cause.BUDGET: "the request budget of the target had no place for it",
    Cause.THROTTLED: "the API asked to send nothing until it was too late",
    Cause.IN_FLIGHT: "as many requests were under way as max_in_flight allows",
}
"""Errors of occurrences that could not be sent in time, by the cause of the shortage."""


@dataclass(frozen=True, slots=True)
class Urgency:
    """Urgency of an occurrence in the queue for places.

    Both times are seconds of the boot-time clock: when the occurrence is lost, and when its wait began.
    """

    lost_at: float
    since: float


class AttemptPlace:
    """Place of one attempt.

    The place waits in the queue until the place is granted. `Places.leave` gives back all unused parts.
    """

    def __init__(
        self, places: "Places", occurrence: Occurrence, urgency: Urgency, ring: Callable[[], None]
    ) -> None:
        self.occurrence = occurrence
        self.automation_id = occurrence.automation_id
        self.urgency = urgency
        self.is_hanging = False
        self.reservation: AttemptReservation | None = None
        self.ticket: Ticket | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.ring = ring
        self.wait_start: WaitStart | None = None
        self._places = places

    @property
    def is_granted(self) -> bool:
        """Whether the request may be sent."""
        return self.reservation is not None

    @property
    def is_sent(self) -> bool:
        """Whether the request was sent."""
        return self.timer is not None

    @property
    def shortage_text(self) -> str:
        """Present shortage, as the error of an occurrence that could not be sent."""
        return self._places.shortage_text

    def find_current_wait(self) -> Step | None:
        """Return the current wait; None when the attempt does not wait."""
        return (
            None
            if self.is_granted or self.wait_start is None
            else self._places.shortages.find_current_wait(self.wait_start)
        )

    def list_steps(self) -> list[Step]:
        """Return all waits so far as steps."""
        return [] if self.wait_start is None else self._places.shortages.list_steps(self.wait_start)

    def send(self) -> None:
        """Use the place, because the request is sent now."""
        assert self.reservation is not None, "no place was granted"
        self.reservation.use()
        self._places.record_send(self)
        self.timer = asyncio.get_running_loop().call_later(HANGS_AFTER, self._places.note_hanging, self)


class Places:
    """Places of one target."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.shortages = Shortages(context.clock)
        self._queue = FairQueue()
        self._waiting: dict[Ticket, AttemptPlace] = {}
        self._handed_over_places: dict[Occurrence, AttemptPlace] = {}
        self._in_flight = 0
        self._hanging: set[AttemptPlace] = set()  # hanging requests within max_waiting
        self._stuck: dict[AttemptPlace, None] = {}  # hanging, but still in flight: max_waiting is full
        self._serve_timer: asyncio.Handle | None = None
        self._short_since: float | None = None  # when the budget began to delay attempts
        self._end_timer: asyncio.Handle | None = None
        self._is_closed = False
        self._exhaustion = Episode(QUIET)
        self._saturation = Episode(QUIET)

    # ------------------------------------------------------------ interface of the target

    @property
    def shortage_text(self) -> str:
        """Present shortage, in words."""
        return _ERRORS[self._find_shortage()]

    @property
    def hanging_count(self) -> int:
        """Number of hanging requests."""
        return len(self._hanging) + len(self._stuck)

    def __len__(self) -> int:
        return len(self._waiting)

    def make_status(self) -> PlacesStatus:
        """Return the number of waiting attempts and of hanging requests, and the start of each shortage."""
        return PlacesStatus(len(self), self.hanging_count, self._exhaustion.since, self._saturation.since)

    def note_late_poll(self) -> None:
        """Note that a poll had to wait for the request budget."""
        self._note_exhaustion()

    def close(self) -> None:
        """Grant no more places and publish no more events, since the daemon ends."""
        self._is_closed = True
        self._cancel_timer()
        if self._end_timer is not None:
            self._end_timer.cancel()

    def ring(self) -> None:
        """Wake all waiting attempts for a new decision: something other than a place is missing now."""
        for place in self._waiting.values():
            place.ring()

    def serve(self) -> None:
        """Grant free places to waiting attempts."""
        self._cancel_timer()
        if self._is_closed:
            return
        self._release_hanging()
        upstream = self._context.upstream
        while self._waiting and self._has_room():
            reservation = upstream.reserve()
            if reservation is None:
                lack = self._find_shortage()
                self.shortages.set_cause(
                    lack, self._context.breaker.throttle_end if lack is Cause.THROTTLED else None
                )
                self._note_shortage()
                self._serve_later(min(upstream.estimate_wait(), _LOOK_AGAIN))
                return
            ticket = self._queue.choose()
            assert ticket is not None, "as many tickets as places wait"
            self._grant(self._waiting.pop(ticket), reservation)
        self.shortages.set_cause(Cause.IN_FLIGHT if self._waiting else None)
        self._short_since = None

    # ------------------------------------------------------------ interface of a place

    def get_place(self, occurrence: Occurrence, urgency: Urgency, ring: Callable[[], None]) -> AttemptPlace:
        """Return the place for an attempt of an occurrence: a handed-over place, or a new place."""
        place = self._handed_over_places.get(occurrence)
        return AttemptPlace(self, occurrence, urgency, ring) if place is None else place

    def record_send(self, place: AttemptPlace) -> None:
        """Record that the request of a place is sent."""
        assert place.ticket is not None, "a place has a ticket"
        self._queue.record_send(place.ticket, self._context.clock.boottime())

    def record_loss(self, place: AttemptPlace) -> None:
        """Record that the occurrence of a place was lost during the wait."""
        assert place.ticket is not None, "a place has a ticket"
        self._queue.record_loss(place.ticket)

    def hand_over(self, place: AttemptPlace) -> None:
        """Let the place of an occurrence wait from now on, after the occurrence coalesced a waiting one.

        The occurrence enters as soon as the outcome of the coalesced occurrence is durable. Until the entry,
        but at most `_HAND_OVER_SECONDS`, the place waits: other occurrences that come due now must not
        precede.
        """
        occurrence = place.occurrence
        if occurrence not in self._handed_over_places:
            self._handed_over_places[occurrence] = place
            self._join(place)
            asyncio.get_running_loop().call_later(_HAND_OVER_SECONDS, self._withdraw_place, place)

    def enter(self, place: AttemptPlace) -> None:
        """Begin the wait of an attempt for its place."""
        if self._handed_over_places.pop(place.occurrence, None) is None:
            self._join(place)

    def _withdraw_place(self, place: AttemptPlace) -> None:
        if self._handed_over_places.get(place.occurrence) is place:
            del self._handed_over_places[place.occurrence]
            self.leave(place)

    def _join(self, place: AttemptPlace) -> None:
        """Add a place to the queue. All occurrences of the same due instant join before the first choice."""
        urgency = place.urgency
        place.ticket = self._queue.join(place.automation_id, lost_at=urgency.lost_at, since=urgency.since)
        self._waiting[place.ticket] = place
        place.wait_start = self.shortages.join()
        if self._serve_timer is None:
            self._serve_timer = asyncio.get_running_loop().call_soon(self.serve)

    def leave(self, place: AttemptPlace) -> None:
        """Take back all parts that a place still holds."""
        if place.ticket is not None and self._waiting.pop(place.ticket, None) is not None:
            self._queue.leave(place.ticket)
            if not self._waiting:
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
        place.reservation = reservation
        self._in_flight += 1
        place.ring()

    def _free(self, place: AttemptPlace, reservation: AttemptReservation) -> None:
        reservation.give_back()
        if place.timer is not None:
            place.timer.cancel()
            self._queue.record_answer(place.automation_id, hung=place.is_hanging)
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

    def _serve_later(self, seconds: float) -> None:
        self._serve_timer = asyncio.get_running_loop().call_later(max(seconds, _SHORTEST), self.serve)

    def _cancel_timer(self) -> None:
        if self._serve_timer is not None:
            self._serve_timer.cancel()
            self._serve_timer = None

    def _find_shortage(self) -> Cause:
        """Return the cause of the present waits for a place."""
        if not self._has_room():
            return Cause.IN_FLIGHT
        return Cause.THROTTLED if self._is_blocked() else Cause.BUDGET

    def _is_blocked(self) -> bool:
        """Return whether the API asked to send nothing now. The budget is not the cause of the waits."""
        return self._context.clock.boottime() < self._context.upstream.blocked_until

    def _note_shortage(self) -> None:
        if self._is_blocked():
            self._short_since = None
            return
        now = self._context.clock.boottime()
        self._short_since = now if self._short_since is None else self._short_since
        if now - self._short_since >= MIN_SHORTAGE:
            self._note_exhaustion()

    def _note_exhaustion(self) -> None:
        context = self._context
        if self._exhaustion.see(context.clock.now(), context.clock.boottime()):
            context.publish(BudgetExhausted(target=context.target, waiting=len(self)))
        self._schedule_end()

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
