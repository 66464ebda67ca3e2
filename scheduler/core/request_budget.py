"""The arithmetic of a target's request budget: how many requests may be sent, and which of them are kept for polls and readings.

Pure: instants are arguments, seconds of one clock that only goes forward. The daemon's budget and the forecast of `scheduler check` share
this module, so that the forecast is the budget's own answer.

Fires and the background (polls, and readings of single automations) share two windows. The background has a reserve of at most a quarter of
each limit, in three levels: the rarest polls that are promised, the other polls that are wanted, and readings. Each level is a token bucket
that fills as fast as the level needs requests. A request of a level may be sent when all the requests that the levels above it may still
admit fit beside the request until the request has left the window; a fire leaves room for all levels. So fires and readings never starve
polls, and readings never take what is meant for fires. Tokens that nobody took are no loss: a bucket holds one poll, and the rest of the
reserve is free for fires.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

MINUTE: Final = 60.0
HOUR: Final = 3600.0
RAREST_POLL_INTERVAL: Final = 120.0
"""Polls are never made rarer than one in so many seconds, unless poll_interval is longer or the list takes half of the budget then."""
READING_INTERVAL: Final = 5.0
"""Seconds from one reading of an automation to the next while an attempt is in doubt."""
_READINGS_MINIMUM: Final = 1 / 4
"""The part of their quarter that polls leave to readings when both want more."""
_MOST_COMPARISONS: Final = 60
"""So often at most the requests that are coming are compared with those that have left the window by then: one by one, or in groups."""
RECHECK_INTERVAL: Final = 1.0
"""Seconds after which a request that is refused because of the coming need is to ask again: the need shrinks as time passes.

Twice as long a fire that was refused counts as waiting, and the background keeps to its reserves.
"""
_ROUNDING: Final = 1e-9
_COMPACT: Final = 1024


class Purpose(Enum):
    """What a request is for."""

    FIRE = "fire"
    POLL = "poll"
    READING = "reading"


@dataclass(frozen=True, slots=True)
class Need:
    """The requests a second that polls and readings need.

    A poll takes ``pages`` requests. Polls want ``polls`` requests a second, of these at least ``least``. Readings want ``readings``
    requests a second, ``at_once`` of them at the same time.
    """

    polls: float = 0.0
    least: float = 0.0
    pages: int = 0
    readings: float = 0.0
    at_once: int = 0


def compute_need(*, poll_interval: float, polls: float, pages: int, readings: float = 0.0, at_once: int = 0) -> Need:
    """Return the need of a target whose list takes ``pages`` requests.

    ``polls`` is how many polls a second are wanted, polls before due instants included. ``readings`` is how many readings a second are
    sent; ``at_once`` automations are read on their own at the same time, each every `READING_INTERVAL` seconds.
    """
    least = pages / max(poll_interval, RAREST_POLL_INTERVAL)
    wanted = max(polls, 1 / poll_interval) * pages
    return Need(wanted, min(least, wanted), pages, max(readings, at_once / READING_INTERVAL), at_once)


@dataclass(frozen=True, slots=True)
class ComingRequests:
    """Requests that are still to come: ``level`` now and ``rate`` a second, at most ``most``."""

    level: float
    rate: float
    most: int

    def count(self, seconds: float) -> int:
        """Return how many come within so many seconds."""
        return min(self.most, int(self.level + self.rate * seconds + _ROUNDING))

    def compute_delay(self, number: int) -> float:
        """Return the seconds until so many have come."""
        return max(0.0, (number - self.level) / self.rate) if self.rate else 0.0


class RecentRequests:
    """The requests of the last ``length`` seconds."""

    def __init__(self, length: float) -> None:
        self.length = length
        self._sent: list[float] = []
        self._first = 0  # the requests before this one have left the window

    def add(self, at: float) -> None:
        """Count a request that was sent at ``at``, not before the one added last."""
        self._sent.append(at)

    def count(self, now: float) -> int:
        """Return how many requests there were in the last ``length`` seconds."""
        self._first = bisect_right(self._sent, now - self.length, lo=self._first)
        if self._first > _COMPACT and self._first > len(self._sent) // 2:
            del self._sent[: self._first]
            self._first = 0
        return len(self._sent) - self._first

    def find_free_instant(self, now: float, held: int, usable: int) -> float:
        """Return the instant from which one more request fits into ``usable`` places, of which ``held`` are held; -inf: it fits now."""
        excess = self.count(now) + held + 1 - usable
        if excess <= 0:
            return -inf
        last = self._first + excess - 1
        return self._sent[last] + self.length if last < len(self._sent) else now + RECHECK_INTERVAL

    def has_room(self, now: float, more: int, coming: ComingRequests, usable: int) -> bool:
        """Return whether so many more requests leave room in ``usable`` places for those that are coming, each at its time."""
        used, most = self.count(now) + more, coming.count(self.length)
        if used > usable:
            return False
        step = max(1, most // _MOST_COMPARISONS)
        for number in range(max(0, usable - used), most, step):
            excess = used + min(number + step, most) - usable  # so many must have left the window by then
            last = self._first + excess - 1
            if last >= len(self._sent) or self._sent[last] + self.length > now + coming.compute_delay(number + 1):
                return False
        return True


class Window(RecentRequests):
    """At most ``limit`` requests in any span of ``length`` seconds."""

    def __init__(self, limit: int, length: float) -> None:
        super().__init__(length)
        self.limit = limit


class Reserve:
    """The token bucket of one level of the background."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.capacity = 0.0
        self._level = 0.0
        self._at: float | None = None

    def resize(self, rate: float, capacity: float, now: float) -> None:
        """Fill at another rate, up to another capacity, from now on. A new bucket is full; one that grows gets no tokens for that."""
        self._level = capacity if self._at is None else min(capacity, self.compute_level(now))
        self.rate, self.capacity, self._at = rate, capacity, now

    def compute_level(self, now: float) -> float:
        """Return how many requests may be sent now."""
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        return min(self.capacity, self._level + self.rate * passed)

    def take(self, now: float) -> None:
        """Remove the token of a request."""
        self._level, self._at = max(0.0, self.compute_level(now) - 1.0), now

    def find_full_instant(self, now: float, tokens: float) -> float:
        """Return the instant from which the bucket holds so many tokens, or as many as it can."""
        lacking = min(tokens, self.capacity) - self.compute_level(now)
        if not self.rate:
            return inf
        return now + lacking / self.rate if lacking > _ROUNDING else -inf


class RequestBudget:
    """The two windows of a target, the reserves of its background, and the wait that the API asked for.

    A place is *held* from its reservation until the request is sent or the place is given back.
    """

    def __init__(self, *, per_minute: int, per_hour: int) -> None:
        self._need = Need()
        self._windows = (Window(per_minute, MINUTE), Window(per_hour, HOUR))
        self._background = {
            Purpose.FIRE: (),
            Purpose.POLL: (RecentRequests(MINUTE), RecentRequests(HOUR)),
            Purpose.READING: (RecentRequests(MINUTE), RecentRequests(HOUR)),
        }
        self._least, self._polls, self._readings = self._reserves = (Reserve(), Reserve(), Reserve())
        self._held = Counter[Purpose]()
        self._refused_at = -inf  # when a fire was refused last
        self._series_at = -inf  # when the newest series of requests began
        self._series: Reserve | None = None  # which reserve its first request was taken from
        self.blocked_until = -inf

    def set_limits(self, *, per_minute: int, per_hour: int, now: float) -> None:
        """Use other limits from now on; requests that were sent count."""
        for window, limit in zip(self._windows, (per_minute, per_hour), strict=True):
            window.limit = limit
        self.expect(self._need, now)

    def expect(self, need: Need, now: float) -> None:
        """Keep a reserve for this need from now on."""
        self._need = need
        shares = [(self._compute_share(window, 1 / 2), window.length) for window in self._windows]
        capacity = min(need.pages, max(1.0, min(share for share, _ in shares)))
        allowed = min(max(share - capacity, share / 2) / length for share, length in shares)
        quarter = min(window.limit / 4 / window.length for window in self._windows)
        least = min(need.least, allowed)
        wanted = max(least, min(need.polls, allowed - min(need.readings, quarter * _READINGS_MINIMUM)))
        readings = min(need.readings, max(quarter - wanted, quarter * _READINGS_MINIMUM))
        self._least.resize(least, capacity, now)
        self._polls.resize(wanted - least, capacity if wanted > least else 0.0, now)
        at_once = min(need.at_once, max(1.0, min(share for share, _ in shares) / 2))
        self._readings.resize(readings, at_once if readings else 0.0, now)

    def block(self, until: float) -> None:
        """Let nothing through before ``until``."""
        self.blocked_until = max(self.blocked_until, until)

    def find_earliest_fire(self, now: float) -> float:
        """Return the instant from which one more fire may be sent, as far as is known; not after ``now`` when it may be sent now."""
        at = self._find_free_instant(now)
        if at <= now:
            at = self._find_room_instant(now, self._reserves)
        if at > now >= self.blocked_until:
            self._refused_at = now
        return at

    def find_earliest_poll(self, now: float, requests: int = 1) -> float:
        """Return the instant from which the first of so many requests of a poll may be sent.

        Either a reserve has tokens for all of them, or they leave the reserves as they are and no fire waits.
        """
        free_at = self._find_free_instant(now)
        if free_at > now:
            return free_at
        return min(
            self._find_reserve_instant(self._least, now, requests),
            max(self._find_reserve_instant(self._polls, now, requests), self._find_room_instant(now, (self._least,))),
            self._find_spare_instant(now, requests),
        )

    def find_earliest_reading(self, now: float) -> float:
        """Return the instant from which a reading may be sent: from its reserve or beside all reserves, but no more than a quarter."""
        free_at = self._find_free_instant(now)
        if free_at > now:
            return free_at
        recent = zip(self._windows, self._background[Purpose.READING], strict=True)
        held = self._held[Purpose.READING]
        within_at = max(each.find_free_instant(now, held, self._compute_readings_maximum(window)) for window, each in recent)
        in_reserve_at = max(self._readings.find_full_instant(now, 1), self._find_room_instant(now, (self._least, self._polls)))
        spare_at = max(self._find_room_instant(now, self._reserves), self._refused_at + 2 * RECHECK_INTERVAL)
        return max(within_at, min(in_reserve_at, spare_at))

    def hold(self, purpose: Purpose = Purpose.FIRE) -> None:
        """Hold one place."""
        self._held[purpose] += 1

    def give_back(self, purpose: Purpose = Purpose.FIRE) -> None:
        """Give a held place back."""
        self._held[purpose] -= 1

    def use(self, now: float, purpose: Purpose = Purpose.FIRE, *, requests: int = 1) -> None:
        """Send the request of a held place now, the first of so many."""
        self.give_back(purpose)
        for window in (*self._windows, *self._background[purpose]):
            window.add(now)
        reserve = self._choose_reserve(purpose, now, requests)
        if reserve is not None:
            reserve.take(now)
        if requests > 1:
            self._series_at, self._series = now, reserve

    def _choose_reserve(self, purpose: Purpose, now: float, requests: int) -> Reserve | None:
        """The reserve that a request is taken from: of a poll the one that admitted its first page, as long as it has tokens."""
        if purpose is Purpose.FIRE:
            return None
        reserves = (self._readings,) if purpose is Purpose.READING else (self._least, self._polls)
        if requests == 1 and self._series in reserves:
            reserves = (self._series, *reserves)
        whole = (each for each in reserves if each.find_full_instant(now, requests) <= now)
        return next(whole, None) or next((each for each in reserves if each.find_full_instant(now, 1) <= now), None)

    def _find_free_instant(self, now: float) -> float:
        held = self._held.total()
        return max(self.blocked_until, *(window.find_free_instant(now, held, window.limit) for window in self._windows))

    def _find_reserve_instant(self, reserve: Reserve, now: float, requests: int) -> float:
        """When a reserve has tokens for a whole series; for its first request, when the series before was held up on its way."""
        whole = reserve.find_full_instant(now, requests)
        if requests == 1 or not reserve.rate:
            return whole
        return min(whole, max(reserve.find_full_instant(now, 1), self._series_at + requests / reserve.rate))

    def _find_room_instant(self, now: float, above: Sequence[Reserve]) -> float:
        """When to ask for one more request that leaves room for all that these reserves may still admit; -inf: now."""
        return -inf if self._has_room(now, above) else now + RECHECK_INTERVAL

    def _find_spare_instant(self, now: float, requests: int) -> float:
        """When so many requests of a poll fit beside all reserves, no fire waits, and polls and readings keep to their share.

        The share has to suffice for the polls of the reserves too, which are still to come: what polls spend early would be missing later.
        """
        beside_at = max(self._find_room_instant(now, self._reserves), self._refused_at + 2 * RECHECK_INTERVAL)
        return beside_at if self._has_share(now, requests) else max(beside_at, now + RECHECK_INTERVAL)

    def _has_share(self, now: float, requests: int) -> bool:
        """Whether so many more requests leave what polls may use to the polls of the reserves."""
        for window, recent in zip(self._windows, self._background[Purpose.POLL], strict=True):
            usable = int(self._compute_share(window, 3 / 4) - self._compute_readings_minimum(window))
            more = self._held[Purpose.POLL] + max(1, min(requests, usable))
            if not recent.has_room(now, more, self._estimate_coming(window, now, (self._least, self._polls)), usable):
                return False
        return True

    def _compute_readings_maximum(self, window: Window) -> int:
        """What polls leave of the quarter, and not less than a part of the quarter."""
        polls = (self._least.rate + self._polls.rate) * window.length
        return max(1, int(max(window.limit / 4 - polls, self._compute_readings_minimum(window))))

    def _compute_readings_minimum(self, window: Window) -> float:
        """What polls leave to readings when both want more than their share."""
        return min(self._need.readings * window.length, window.limit / 4 * _READINGS_MINIMUM)

    def _compute_share(self, window: Window, most: float) -> float:
        """The largest part of a window for the background: a quarter, or what the rarest polls need, at most the part ``most``."""
        if not self._need.pages:  # before the first poll nobody knows
            return window.limit - window.limit // 4
        least = self._need.least * window.length + self._need.pages + self._need.at_once
        return max(window.limit / 4, min(window.limit * most, least))

    def _has_room(self, now: float, reserves: Sequence[Reserve]) -> bool:
        """Whether one more request leaves room for all that these reserves may still admit."""
        more = self._held.total() + 1
        return all(window.has_room(now, more, self._estimate_coming(window, now, reserves), window.limit) for window in self._windows)

    def _estimate_coming(self, window: Window, now: float, reserves: Sequence[Reserve]) -> ComingRequests:
        level, rate = sum(each.compute_level(now) for each in reserves), sum(each.rate for each in reserves)
        return ComingRequests(level, rate, int(self._compute_share(window, 1 / 2)))
