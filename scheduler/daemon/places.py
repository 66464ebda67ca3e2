"""Places for attempts: each needs one of `max_in_flight` requests under way and one place of the request budget, at the same time.

`FairQueue` decides who is next; here is the counting of places and the waking of those who wait. A place is asked for as a context: it is
given back at the end of the context unless its request was sent, and its part of `max_in_flight` in any case.

A request without an answer after a second *hangs*: it leaves `max_in_flight` and counts against `max_waiting`, so that automations that
hang keep nobody else waiting. When `max_waiting` is full, the target is saturated: further requests that hang stay in flight.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from scheduler.core.episode import Episode
from scheduler.core.events import BudgetExhausted, BudgetRecovered, TargetRelieved, TargetSaturated
from scheduler.core.fair_queue import FairQueue, Ticket
from scheduler.core.status import PlacesStatus
from scheduler.core.steps import Cause, Step
from scheduler.daemon.context import Context
from scheduler.daemon.lane import Carried
from scheduler.daemon.ports import Reservation
from scheduler.daemon.shortages import Joined, Shortages

if TYPE_CHECKING:
    from scheduler.core.model import Occurrence

HANGS_AFTER: Final = 1.0
"""Seconds without an answer after which a request hangs."""
QUIET: Final = 180.0
"""A shortage is over when nothing has waited for so many seconds: one that comes back every minute is one shortage."""
_LOOK_FOR_END: Final = 60.0
"""Seconds between two looks whether a shortage is over."""
NOTABLE: Final = 1.0
"""A shorter wait for the budget is no shortage. Seconds."""
_LOOK_AGAIN: Final = 1.0
"""The longest wait before the budget is asked again: a suspend stops the event loop's timers, and a poll may give a place back."""
_SHORTEST: Final = 0.001
_HANDED_OVER_FOR: Final = 2.0
"""Seconds for which a place waits for an occurrence that has not entered yet."""


_ERRORS: Final[Mapping[Cause, str]] = {
    Cause.BUDGET: "the request budget of the target had no place for it",
    Cause.THROTTLED: "the API asked to send nothing until it was too late",
    Cause.IN_FLIGHT: "as many requests were under way as max_in_flight allows",
}
"""Why an occurrence could not be sent in time, by what was short."""


@dataclass(frozen=True, slots=True)
class Urgency:
    """What decides when an occurrence gets its place: when it is lost, and since when it waits, on the clock that counts suspend."""

    lost_at: float
    since: float


class Place:
    """The place of one attempt, as a context: waits in the queue until it is ``granted``, and gives back all that was not used."""

    def __init__(self, places: "Places", carried: Carried, urgency: Urgency, ring: Callable[[], None]) -> None:
        self.carried = carried
        self.automation_id = carried.occurrence.automation_id
        self.urgency = urgency
        self.hangs = False
        self.reservation: Reservation | None = None
        self.ticket: Ticket | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.ring = ring
        self.joined: Joined | None = None
        self._places = places

    def __enter__(self) -> Self:
        self._places.enter(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._places.leave(self)

    @property
    def granted(self) -> bool:
        """Whether the request may be sent."""
        return self.reservation is not None

    @property
    def sent(self) -> bool:
        """Whether the request was sent."""
        return self.timer is not None

    @property
    def lack(self) -> str:
        """What is short, in words for what could not be sent for it."""
        return self._places.lack

    def current_wait(self) -> Step | None:
        """Return what it waits for now; None when it does not wait."""
        return None if self.granted or self.joined is None else self._places.shortages.current(self.joined)

    def steps(self) -> list[Step]:
        """Return what it has waited for so far."""
        return [] if self.joined is None else self._places.shortages.steps(self.joined)

    def send(self) -> None:
        """Use the place: the request is sent now."""
        assert self.reservation is not None, "no place was granted"
        self.reservation.use()
        self._places.note_sent(self)
        self.timer = asyncio.get_running_loop().call_later(HANGS_AFTER, self._places.note_hanging, self)


class Places:
    """The places of one target."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.shortages = Shortages(context.clock)
        self._queue = FairQueue()
        self._waiting: dict[Ticket, Place] = {}
        self._handed_over: dict[Occurrence, Place] = {}
        self._in_flight = 0
        self._hanging: set[Place] = set()  # these count against max_waiting
        self._stuck: dict[Place, None] = {}  # these hang too and stay in flight, since max_waiting is full
        self._next_look: asyncio.Handle | None = None
        self._short_since: float | None = None  # when the budget began to keep somebody waiting
        self._quiet: asyncio.Handle | None = None
        self._is_closed = False
        self._exhausted = Episode(QUIET)
        self._saturated = Episode(QUIET)

    # ------------------------------------------------------------ what others ask

    @property
    def lack(self) -> str:
        """What is short now, in words."""
        return _ERRORS[self._find_lack()]

    @property
    def hanging(self) -> int:
        """How many requests hang."""
        return len(self._hanging) + len(self._stuck)

    def __len__(self) -> int:
        return len(self._waiting)

    def status(self) -> PlacesStatus:
        """Return how many wait, and what is short."""
        return PlacesStatus(len(self), self.hanging, self._exhausted.since, self._saturated.since)

    def note_late_poll(self) -> None:
        """A poll had to wait for the request budget."""
        self._note_exhaustion()

    def close(self) -> None:
        """Give no more places, and tell nothing more: the daemon ends."""
        self._is_closed = True
        self._stop_looking()
        if self._quiet is not None:
            self._quiet.cancel()

    def ring(self) -> None:
        """Have those who wait look again: something else than a place is missing now."""
        for place in self._waiting.values():
            place.ring()

    def serve(self) -> None:
        """Give places to those who wait, as far as there are any."""
        self._stop_looking()
        if self._is_closed:
            return
        self._move()
        upstream = self._context.upstream
        while self._waiting and self._has_room():
            reservation = upstream.reserve()
            if reservation is None:
                lack = self._find_lack()
                self.shortages.see(lack, self._context.gate.throttle_end if lack is Cause.THROTTLED else None)
                self._note_shortage()
                self._look_in(min(upstream.place_in(), _LOOK_AGAIN))
                return
            ticket = self._queue.choose()
            assert ticket is not None, "as many tickets as places wait"
            self._grant(self._waiting.pop(ticket), reservation)
        self.shortages.see(Cause.IN_FLIGHT if self._waiting else None)
        self._short_since = None

    # ------------------------------------------------------------ what a place does

    def place(self, carried: Carried, urgency: Urgency, ring: Callable[[], None]) -> Place:
        """Return the place for an attempt of an occurrence: the one that was handed over to it, or a new one."""
        place = self._handed_over.get(carried.occurrence)
        return Place(self, carried, urgency, ring) if place is None else place

    def note_sent(self, place: Place) -> None:
        """The request of a place is sent."""
        assert place.ticket is not None, "a place has a ticket"
        self._queue.note_sent(place.ticket, self._context.clock.seconds())

    def note_lost(self, place: Place) -> None:
        """The occurrence of a place got its outcome while it waited."""
        assert place.ticket is not None, "a place has a ticket"
        self._queue.note_lost(place.ticket)

    def hand_over(self, place: Place) -> None:
        """Let the place of an occurrence wait from now on, since it has coalesced one that waited here.

        The occurrence enters as soon as the outcome of the coalesced one is durable. Until then, but not for long, its place waits, so that
        others that come due now do not precede it.
        """
        occurrence = place.carried.occurrence
        if occurrence not in self._handed_over:
            self._handed_over[occurrence] = place
            self._join(place)
            asyncio.get_running_loop().call_later(_HANDED_OVER_FOR, self._take_back, place)

    def enter(self, place: Place) -> None:
        """The attempt for which the place is begins to wait."""
        if self._handed_over.pop(place.carried.occurrence, None) is None:
            self._join(place)

    def _take_back(self, place: Place) -> None:
        if self._handed_over.get(place.carried.occurrence) is place:
            del self._handed_over[place.carried.occurrence]
            self.leave(place)

    def _join(self, place: Place) -> None:
        """Add a place to the queue. Whoever is due at the same instant joins before anybody is chosen."""
        urgency = place.urgency
        place.ticket = self._queue.join(place.automation_id, lost_at=urgency.lost_at, since=urgency.since)
        self._waiting[place.ticket] = place
        place.joined = self.shortages.join()
        if self._next_look is None:
            self._next_look = asyncio.get_running_loop().call_soon(self.serve)

    def leave(self, place: Place) -> None:
        """Take back all that a place still holds."""
        if place.ticket is not None and self._waiting.pop(place.ticket, None) is not None:
            self._queue.leave(place.ticket)
            if not self._waiting:
                self.shortages.see(None)
        if place.reservation is not None:
            self._free(place, place.reservation)

    def note_hanging(self, place: Place) -> None:
        """The request of a place has no answer yet."""
        place.hangs = True
        self._stuck[place] = None
        self._move()
        self._note_saturation()
        self._end_later()
        self.serve()

    # ------------------------------------------------------------ the counts

    def _has_room(self) -> bool:
        return self._in_flight < self._context.settings.max_in_flight

    def _grant(self, place: Place, reservation: Reservation) -> None:
        place.reservation = reservation
        self._in_flight += 1
        place.ring()

    def _free(self, place: Place, reservation: Reservation) -> None:
        reservation.give_back()
        if place.timer is not None:
            place.timer.cancel()
            self._queue.note_answer(place.automation_id, hung=place.hangs)
        if place in self._hanging:
            self._hanging.remove(place)
        else:
            self._stuck.pop(place, None)
            self._in_flight -= 1
        self.serve()

    def _move(self) -> None:
        """Let requests that hang leave ``max_in_flight``, as many as ``max_waiting`` allows."""
        while self._stuck and len(self._hanging) < self._context.settings.max_waiting:
            place = next(iter(self._stuck))
            del self._stuck[place]
            self._hanging.add(place)
            self._in_flight -= 1

    # ------------------------------------------------------------ looking again, and telling

    def _look_in(self, seconds: float) -> None:
        self._next_look = asyncio.get_running_loop().call_later(max(seconds, _SHORTEST), self.serve)

    def _stop_looking(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None

    def _find_lack(self) -> Cause:
        """Return what those who wait for a place wait for."""
        if not self._has_room():
            return Cause.IN_FLIGHT
        return Cause.THROTTLED if self._is_blocked() else Cause.BUDGET

    def _is_blocked(self) -> bool:
        """Whether the API asked to send nothing now: the budget is not to blame."""
        return self._context.clock.seconds() < self._context.upstream.blocked_until

    def _note_shortage(self) -> None:
        if self._is_blocked():
            self._short_since = None
            return
        now = self._context.clock.seconds()
        self._short_since = now if self._short_since is None else self._short_since
        if now - self._short_since >= NOTABLE:
            self._note_exhaustion()

    def _note_exhaustion(self) -> None:
        context = self._context
        if self._exhausted.see(context.clock.now(), context.clock.seconds()):
            context.publish(BudgetExhausted(target=context.target, waiting=len(self)))
        self._end_later()

    def _note_saturation(self) -> None:
        context = self._context
        is_full = len(self._hanging) >= context.settings.max_waiting
        if is_full and self._saturated.see(context.clock.now(), context.clock.seconds()):
            context.publish(TargetSaturated(target=context.target, hanging=self.hanging))

    def _end_later(self) -> None:
        """See to it that an episode ends when nothing happens any more."""
        if not self._is_closed and self._quiet is None and (self._exhausted.since or self._saturated.since):
            self._quiet = asyncio.get_running_loop().call_later(_LOOK_FOR_END, self._end)

    def _end(self) -> None:
        self._quiet = None
        context, seconds = self._context, self._context.clock.seconds()
        self._note_saturation()
        if (since := self._exhausted.end(seconds)) is not None:
            context.publish(BudgetRecovered(target=context.target, since=since))
        if (since := self._saturated.end(seconds)) is not None:
            context.publish(TargetRelieved(target=context.target, since=since))
        self._end_later()
