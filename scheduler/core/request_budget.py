"""The arithmetic of a target's request budget: how many requests may be sent, and which of them are kept for polls and readings.

Pure: instants are arguments, seconds of one clock that only goes forward. The daemon's budget and the forecast of `scheduler check` share
this module, so that the forecast is the budget's own answer.

Fires and the background (polls, and readings of single automations) share two windows. The background has a reserve: a token bucket that
fills as fast as polls and readings need requests, at most a quarter of each limit. A fire may be sent when all the requests that the
bucket may still admit fit beside the fire until the fire has left the window. So polls never starve, and tokens that nobody took are no
loss: the bucket holds one poll, and the rest of the reserve is free for fires.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final

MINUTE: Final = 60.0
HOUR: Final = 3600.0
RAREST: Final = 120.0
"""Polls are never made rarer than one in so many seconds, unless poll_interval is longer or the list takes half of the budget then."""
_PROBES: Final = 60
"""Instants within a window at which the coming need is compared with the requests that have left the window by then."""
LOOK_AGAIN: Final = 1.0
"""Seconds after which a request that is refused because of the coming need is to ask again: the need shrinks as time passes."""
_ROUNDING: Final = 1e-9
_COMPACT: Final = 1024


@dataclass(frozen=True, slots=True)
class Need:
    """The requests that polls and readings need: so many a second, of these at least ``least`` a second, and ``burst`` of them at once."""

    rate: float = 0.0
    least: float = 0.0
    burst: int = 0


def need(*, poll_interval: float, polls: float, pages: int, readings: int = 0, reading_interval: float = 5.0) -> Need:
    """Return the need of a target whose list takes ``pages`` requests.

    ``polls`` is how many polls a second are wanted, polls before due instants included. ``readings`` automations are read on their own at
    the same time, each every ``reading_interval`` seconds.
    """
    least = pages / max(poll_interval, RAREST)
    rate = max(polls, 1 / poll_interval) * pages + readings / reading_interval
    return Need(rate, min(least, rate), pages + readings)


class Window:
    """At most ``limit`` requests in any span of ``length`` seconds."""

    def __init__(self, limit: int, length: float) -> None:
        self.limit = limit
        self.length = length
        self._sent: list[float] = []
        self._first = 0  # the requests before this one have left the window

    def add(self, at: float) -> None:
        """Count a request that was sent at ``at``, not before the one added last."""
        self._sent.append(at)

    def count(self, now: float) -> int:
        """Return how many requests the window holds."""
        self._first = bisect_right(self._sent, now - self.length, lo=self._first)
        if self._first > _COMPACT and self._first > len(self._sent) // 2:
            del self._sent[: self._first]
            self._first = 0
        return len(self._sent) - self._first

    def free_at(self, now: float, held: int, usable: int) -> float:
        """Return the instant from which one more request fits into ``usable`` places, of which ``held`` are held; -inf: it fits now."""
        excess = self.count(now) + held + 1 - usable
        if excess <= 0:
            return -inf
        last = self._first + excess - 1
        return self._sent[last] + self.length if last < len(self._sent) else now + LOOK_AGAIN

    def leaves_room(self, now: float, held: int, coming: Callable[[float], int]) -> bool:
        """Return whether one more request leaves room for the ``coming(d)`` requests of each span of ``d`` seconds from now on."""
        used, most = self.count(now) + held + 1, coming(self.length)
        step = self.length / _PROBES
        for probe in range(_PROBES):
            left = bisect_right(self._sent, now + probe * step - self.length, lo=self._first) - self._first
            if used - left + most <= self.limit:
                return True
            if used - left + coming((probe + 1) * step) > self.limit:
                return False
        return True


class Reserve:
    """The token bucket of the background."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.capacity = 0.0
        self._level = 0.0
        self._at: float | None = None

    def resize(self, rate: float, capacity: float, now: float) -> None:
        """Fill at another rate, up to another capacity, from now on. A new bucket is full; one that grows gets no tokens for that."""
        self._level = min(capacity, self.level(now)) if self.rate else capacity
        self.rate, self.capacity, self._at = rate, capacity, now

    def level(self, now: float) -> float:
        """Return how many requests may be sent now."""
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        return min(self.capacity, self._level + self.rate * passed)

    def take(self, now: float) -> None:
        """Remove the token of a request."""
        self._level, self._at = max(0.0, self.level(now) - 1.0), now

    def full_at(self, now: float, tokens: float) -> float:
        """Return the instant from which the bucket holds so many tokens, or as many as it can."""
        lacking = min(tokens, self.capacity) - self.level(now)
        if not self.rate:
            return inf
        return now + lacking / self.rate if lacking > _ROUNDING else -inf


class RequestBudget:
    """The two windows of a target, the reserve of its background, and the wait that the API asked for.

    A place is *held* from its reservation until the request is sent or the place is given back.
    """

    def __init__(self, *, per_minute: int, per_hour: int) -> None:
        self._windows = (Window(per_minute, MINUTE), Window(per_hour, HOUR))
        self._need = Need()
        self._reserve = Reserve()
        self._held = 0
        self._series_at = -inf  # when the newest series of requests began
        self.blocked_until = -inf

    def set_limits(self, *, per_minute: int, per_hour: int, now: float) -> None:
        """Use other limits from now on; requests that were sent count."""
        for window, limit in zip(self._windows, (per_minute, per_hour), strict=True):
            window.limit = limit
        self.expect(self._need, now)

    def expect(self, need: Need, now: float) -> None:
        """Keep a reserve for this need from now on."""
        self._need = need
        shares = [(self._share(window), window.length) for window in self._windows]
        capacity = min(need.burst, max(1.0, min(share for share, _ in shares)))
        allowed = min(max(share - capacity, share / 2) / length for share, length in shares)
        self._reserve.resize(min(need.rate, allowed), capacity, now)

    def block(self, until: float) -> None:
        """Let nothing through before ``until``."""
        self.blocked_until = max(self.blocked_until, until)

    def fire_at(self, now: float) -> float:
        """Return the instant from which one more fire may be sent, as far as is known; not after ``now`` when it may be sent now."""
        free_at = max(self.blocked_until, *(window.free_at(now, self._held, window.limit) for window in self._windows))
        return free_at if free_at > now or self._leaves_room(now) else now + LOOK_AGAIN

    def background_at(self, now: float, requests: int = 1) -> float:
        """Return the instant from which the first of so many requests of the background may be sent.

        Either the reserve has tokens for all of them, or they leave a quarter of each limit to fires, and the reserve as it is.
        """
        free_at = max(self.blocked_until, *(window.free_at(now, self._held, window.limit) for window in self._windows))
        in_reserve_at = self._in_reserve_at(now, requests)
        if in_reserve_at <= now:
            return free_at
        spare_at = max(free_at, *(self._spare_at(window, now, requests) for window in self._windows))
        if spare_at <= now and not self._leaves_room(now):
            spare_at = now + LOOK_AGAIN
        return max(free_at, min(spare_at, in_reserve_at))

    def _in_reserve_at(self, now: float, requests: int) -> float:
        """When the reserve has tokens for a whole series; for its first request, when the series before was held up on its way."""
        whole = self._reserve.full_at(now, requests)
        if requests == 1 or not self._reserve.rate:
            return whole
        return min(whole, max(self._reserve.full_at(now, 1), self._series_at + requests / self._reserve.rate))

    def hold(self) -> None:
        """Hold one place."""
        self._held += 1

    def give_back(self) -> None:
        """Give a held place back."""
        self._held -= 1

    def use(self, now: float, *, background: bool = False, requests: int = 1) -> None:
        """Send the request of a held place now, the first of so many."""
        self._held -= 1
        for window in self._windows:
            window.add(now)
        if background:
            self._reserve.take(now)
        if requests > 1:
            self._series_at = now

    def _spare_at(self, window: Window, now: float, requests: int) -> float:
        usable = window.limit - max(window.limit // 4, min(self._need.burst, 1))
        return window.free_at(now, self._held + max(1, min(requests, usable)) - 1, usable)

    def _share(self, window: Window) -> float:
        """The largest part of a window that is kept for the background: a quarter, or what the rarest polls need, at most a half."""
        return max(window.limit / 4, min(window.limit / 2, self._need.least * window.length + self._need.burst))

    def _leaves_room(self, now: float) -> bool:
        """Whether one more request, of no reserve, leaves room for all that the reserve may still admit."""
        return all(window.leaves_room(now, self._held, self._coming(window, now)) for window in self._windows)

    def _coming(self, window: Window, now: float) -> Callable[[float], int]:
        share, level, rate = int(self._share(window)), self._reserve.level(now), self._reserve.rate
        return lambda seconds: min(share, int(level + rate * seconds + _ROUNDING))
