"""How many requests a target may be sent: so many in any minute and so many in any hour, and none while it has told us to wait.

`Allowance` does the sums and knows no clock; `Budget` does the waiting. Fires go first: the background (polls, readings, edits) leaves a
quarter of each limit to them and waits while any of them waits; among themselves both are served in the order of arrival.
"""

import asyncio
from collections import deque
from typing import Final

from scheduler.upstream.target import Clock

MINUTE: Final = 60.0
HOUR: Final = 3600.0
_LOOK_AGAIN: Final = 30.0
"""The longest sleep before the sums are done again: a suspend stops the event loop's timers, but not `Clock.seconds`."""
_SHORTEST: Final = 0.001


class Window:
    """At most ``limit`` requests in any span of ``length`` seconds, by the instants of the last ones."""

    def __init__(self, limit: int, length: float) -> None:
        self._limit = limit
        self._length = length
        self._taken: deque[float] = deque(maxlen=limit)

    def free_at(self, *, background: bool) -> float:
        """The instant from which one more request fits; in the past, or minus infinity, when one fits now."""
        usable = self._limit - self._limit // 4 if background else self._limit
        return self._taken[-usable] + self._length if len(self._taken) >= usable else -float("inf")

    def take(self, at: float) -> None:
        """One request is sent at ``at``."""
        self._taken.append(at)

    def give_back(self) -> None:
        """The newest request was not sent after all."""
        self._taken.pop()

    def limited(self, limit: int) -> "Window":
        """The same requests under another limit."""
        window = Window(limit, self._length)
        window._taken.extend(self._taken)
        return window


class Allowance:
    """The windows of a target, and the wait that it asked for. Instants are seconds of one clock."""

    def __init__(self, *, per_minute: int, per_hour: int) -> None:
        self._windows = (Window(per_minute, MINUTE), Window(per_hour, HOUR))
        self._blocked_until = -float("inf")

    def free_at(self, *, background: bool) -> float:
        """The instant from which one more request may be sent."""
        return max(self._blocked_until, *(window.free_at(background=background) for window in self._windows))

    def take(self, at: float) -> None:
        """One request is sent at ``at``."""
        for window in self._windows:
            window.take(at)

    def give_back(self) -> None:
        """The newest request was not sent after all."""
        for window in self._windows:
            window.give_back()

    def limit(self, *, per_minute: int, per_hour: int) -> None:
        """Other limits from now on; what was sent counts."""
        minute, hour = self._windows
        self._windows = (minute.limited(per_minute), hour.limited(per_hour))

    def block(self, until: float) -> None:
        """Nothing may be sent before ``until``."""
        self._blocked_until = max(self._blocked_until, until)


class Budget:
    """Waits until a request may be sent. A wait can be cancelled at any moment and costs nothing then."""

    def __init__(self, allowance: Allowance, clock: Clock) -> None:
        self._allowance = allowance
        self._clock = clock
        self._fires: deque[asyncio.Future[None]] = deque()
        self._background: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def fire(self) -> None:
        """Return when a fire may be sent; it counts as sent."""
        await self._admission(self._fires)

    async def background(self) -> None:
        """Return when a request may be sent that no fire waits for; it counts as sent."""
        await self._admission(self._background)

    def block(self, seconds: float) -> None:
        """Let nothing through for so many seconds."""
        self._allowance.block(self._clock.seconds() + seconds)

    def limit(self, *, per_minute: int, per_hour: int) -> None:
        """Other limits from now on, also for those who wait."""
        self._allowance.limit(per_minute=per_minute, per_hour=per_hour)
        self._serve()

    async def _admission(self, queue: deque[asyncio.Future[None]]) -> None:
        place = asyncio.get_running_loop().create_future()
        queue.append(place)
        self._serve()
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # admitted, but its caller was cancelled before it could hear of it
                self._allowance.give_back()
            self._serve()
            raise

    def _serve(self) -> None:
        """Admit whoever may go now, and set the timer for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for queue, background in ((self._fires, False), (self._background, True)):
            wait = self._admit(queue, background=background)
            if wait is not None:
                self._timer = asyncio.get_running_loop().call_later(min(max(wait, _SHORTEST), _LOOK_AGAIN), self._serve)
                return

    def _admit(self, queue: deque[asyncio.Future[None]], *, background: bool) -> float | None:
        """Seconds until the first that had to stay may go; None when the queue is empty."""
        while queue:
            if queue[0].done():  # cancelled
                queue.popleft()
                continue
            now = self._clock.seconds()
            wait = self._allowance.free_at(background=background) - now
            if wait > 0:
                return wait
            self._allowance.take(now)
            queue.popleft().set_result(None)
        return None
