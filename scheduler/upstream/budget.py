"""The request budget of a target in operation: places for fires, and the waiting of polls and readings.

`RequestBudget` does the arithmetic and has no clock. Fires never wait here: `Budget.reserve` returns a place
or None, and the daemon chooses the next fire. Polls and readings wait in two queues, polls first, because a
poll is also a reading of every automation.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from scheduler.core.request_budget import Need, Purpose, RequestBudget
from scheduler.upstream.target import ClientClock

_LONGEST_SLEEP: Final = 30.0
"""Longest sleep before the next calculation.

A suspend stops the event loop's timers, but not `ClientClock.boottime`.
"""
_SHORTEST_SLEEP: Final = 0.001


class BudgetReservation:
    """One place in the budget for a fire.

    The place counts until it is given back. `use` marks the moment of its request.
    """

    def __init__(self, sums: RequestBudget, clock: ClientClock) -> None:
        self._sums = sums
        self._clock = clock
        self._open = True
        sums.hold()

    def use(self) -> None:
        """Send the request now."""
        assert self._open, "a place serves one request"
        self._open = False
        self._sums.use(self._clock.boottime())

    def give_back(self) -> None:
        """Give the place back, unless it was used or given back before."""
        if self._open:
            self._open = False
            self._sums.give_back()


@dataclass(slots=True)
class _Waiter:
    """A waiting request of the background. The result of ``future``: a place is held for the request.

    The request is the first of a series of ``requests``, which should follow each other without a wait.
    """

    future: asyncio.Future[None]
    requests: int


class Budget:
    """The budget of one target.

    Fires get a place at once or no place. Polls and readings wait, and a wait can be cancelled at any moment.
    """

    def __init__(self, *, per_minute: int, per_hour: int, clock: ClientClock) -> None:
        self._sums = RequestBudget(per_minute=per_minute, per_hour=per_hour)
        self._clock = clock
        self._queues: dict[Purpose, deque[_Waiter]] = {Purpose.POLL: deque(), Purpose.READING: deque()}
        self._timer: asyncio.TimerHandle | None = None

    def reserve(self) -> BudgetReservation | None:
        """Reserve a place for one fire, or return None when no place is free now."""
        self._admit_all()  # the reserve's polls and readings precede the fire
        return None if self.estimate_wait() > 0 else BudgetReservation(self._sums, self._clock)

    def estimate_wait(self) -> float:
        """Return the seconds until `reserve` may give a place; 0 when a place is free now."""
        now = self._clock.boottime()
        return max(0.0, self._sums.find_earliest_fire(now) - now)

    def expect(self, need: Need) -> None:
        """Keep a reserve for this need of polls and readings."""
        self._sums.expect(need, self._clock.boottime())
        self._admit_all()

    @property
    def blocked_until(self) -> float:
        """The instant before which no request is sent, on the clock that counts suspend."""
        return self._sums.blocked_until

    def block(self, seconds: float) -> None:
        """Send no request for ``seconds`` seconds."""
        self._sums.block(self._clock.boottime() + seconds)

    def resume_wait(self, seconds: float) -> None:
        """Send no request for ``seconds`` seconds from now on, in place of every earlier wait."""
        self._sums.blocked_until = self._clock.boottime() + seconds
        self._admit_all()

    def set_limits(self, *, per_minute: int, per_hour: int) -> None:
        """Use other limits from now on, also for waiting requests."""
        self._sums.set_limits(per_minute=per_minute, per_hour=per_hour, now=self._clock.boottime())
        self._admit_all()

    async def wait_for_place(self, purpose: Purpose, requests: int = 1) -> None:
        """Wait for the place of a poll's request or of a reading, and use the place.

        The request is the first of ``requests``, and must be sent at once.
        """
        waiter = _Waiter(asyncio.get_running_loop().create_future(), requests)
        self._queues[purpose].append(waiter)
        try:
            self._admit_all()
            await waiter.future
            self._sums.use(self._clock.boottime(), purpose, requests=requests)
        except asyncio.CancelledError:
            if not waiter.future.cancelled():
                self._sums.give_back(purpose)
            raise
        finally:
            self._admit_all()

    def _admit_all(self) -> None:
        """Admit the polls and readings whose places are free now, and set the timer for the next request."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waits = [wait for purpose in self._queues if (wait := self._admit(purpose)) is not None]
        if waits:
            self._timer = asyncio.get_running_loop().call_later(
                min(max(min(waits), _SHORTEST_SLEEP), _LONGEST_SLEEP), self._admit_all
            )

    def _admit(self, purpose: Purpose) -> float | None:
        """Admit waiting requests.

        Return the seconds until the next request may be sent, or None for an empty queue.
        """
        queue = self._queues[purpose]
        while queue:
            if queue[0].future.done():  # cancelled
                queue.popleft()
                continue
            now = self._clock.boottime()
            at = (
                self._sums.find_earliest_poll(now, queue[0].requests)
                if purpose is Purpose.POLL
                else self._sums.find_earliest_reading(now)
            )
            wait = at - now
            if wait > 0:
                return wait
            self._sums.hold(purpose)
            queue.popleft().future.set_result(None)
        return None
