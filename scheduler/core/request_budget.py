"""The arithmetic of a target's request budget: how many fires, polls and readings may be sent.

This module is pure. Instants are arguments, in seconds of one clock that only goes forward. The daemon and
the forecast of `scheduler check` share this module, so the forecast is the budget's own answer.

Fires and the background (polls, and readings of single automations) share two windows. The background has a
reserve of at most a quarter of each limit, or of up to half when the rarest promised polls need more. The
reserve has three levels: the rarest promised polls, the other wanted polls, and readings. Each level is a
token bucket filled at the rate of the level's need.

A request of a level may be sent only when the windows have room for this request and for all requests of
higher levels during its time in the window. A fire leaves room for all levels. Fires and readings therefore
never starve polls, and readings never take the places of fires. Unused tokens are no loss: a poll bucket
holds the tokens of one poll at most, and the rest of the reserve is free for fires.
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
"""Longest interval between polls, in seconds, when the budget is small.

The interval is longer when `poll_interval` is longer, or when polls at this interval would take more than
half of the budget.
"""
READING_INTERVAL: Final = 5.0
"""Seconds from one reading of an automation to the next while the automation has an unknown attempt."""
_READINGS_MINIMUM: Final = 1 / 4
"""Part of the background's quarter left to readings when polls and readings want more."""
_MOST_COMPARISONS: Final = 60
"""Half of the bound on comparisons between coming requests and requests leaving the window.

Fewer than twice as many coming requests are compared one by one, more requests in groups.
"""
RECHECK_INTERVAL: Final = 1.0
"""Seconds from a refusal because of the coming need until the request asks again.

The coming need shrinks as time passes. A refused fire counts as waiting for twice this time. Meanwhile the
background keeps to its reserves.
"""
_ROUNDING: Final = 1e-9
_COMPACT: Final = 1024


class Purpose(Enum):
    """The purpose of a request."""

    FIRE = "fire"
    POLL = "poll"
    READING = "reading"


@dataclass(frozen=True, slots=True)
class Need:
    """The requests per second needed by polls and readings.

    A poll takes ``pages`` requests. Polls want ``polls`` requests per second, and at least ``least`` of them.
    Readings want ``readings`` requests per second. At most ``at_once`` automations are read at the same time.
    """

    polls: float = 0.0
    least: float = 0.0
    pages: int = 0
    readings: float = 0.0
    at_once: int = 0


def compute_need(
    *, poll_interval: float, polls: float, pages: int, readings: float = 0.0, at_once: int = 0
) -> Need:
    """Return the need of a target whose list takes ``pages`` requests.

    ``polls`` is the number of polls wanted per second, including polls before due instants. ``readings`` is
    the number of readings sent per second. ``at_once`` is the number of automations that are read alone at
    the same time, each every `READING_INTERVAL` seconds.
    """
    least = pages / max(poll_interval, RAREST_POLL_INTERVAL)
    wanted = max(polls, 1 / poll_interval) * pages
    return Need(wanted, min(least, wanted), pages, max(readings, at_once / READING_INTERVAL), at_once)


@dataclass(frozen=True, slots=True)
class ComingRequests:
    """Coming requests: ``level`` now and ``rate`` per second, at most ``most``."""

    level: float
    rate: float
    most: int

    def count(self, seconds: float) -> int:
        """Return the number of requests within the next ``seconds`` seconds."""
        return min(self.most, int(self.level + self.rate * seconds + _ROUNDING))

    def compute_delay(self, number: int) -> float:
        """Return the seconds until ``number`` requests have come."""
        return max(0.0, (number - self.level) / self.rate) if self.rate else 0.0


class RecentRequests:
    """The requests of the last ``length`` seconds."""

    def __init__(self, length: float) -> None:
        self.length = length
        self._sent: list[float] = []
        self._first = 0  # index of the oldest request in the window

    def add(self, at: float) -> None:
        """Count a request that was sent at ``at``. Instants are added in ascending order."""
        self._sent.append(at)

    def count(self, now: float) -> int:
        """Return the number of requests in the last ``length`` seconds."""
        self._first = bisect_right(self._sent, now - self.length, lo=self._first)
        if self._first > _COMPACT and self._first > len(self._sent) // 2:
            del self._sent[: self._first]
            self._first = 0
        return len(self._sent) - self._first

    def find_free_instant(self, now: float, held: int, usable: int) -> float:
        """Return the instant from which one more request fits, or -inf when the request fits now.

        The window has ``usable`` places, and ``held`` of these places are held.
        """
        excess = self.count(now) + held + 1 - usable
        if excess <= 0:
            return -inf
        last = self._first + excess - 1
        return self._sent[last] + self.length if last < len(self._sent) else now + RECHECK_INTERVAL

    def has_room(self, now: float, more: int, coming: ComingRequests, usable: int) -> bool:
        """Return whether ``more`` requests now leave room in ``usable`` places for the coming requests.

        Each coming request needs its place at its own time.
        """
        used, most = self.count(now) + more, coming.count(self.length)
        if used > usable:
            return False
        step = max(1, most // _MOST_COMPARISONS)
        for number in range(max(0, usable - used), most, step):
            # number of requests that must have left the window by then
            excess = used + min(number + step, most) - usable
            last = self._first + excess - 1
            free_at = self._sent[last] + self.length if last < len(self._sent) else inf
            if free_at > now + coming.compute_delay(number + 1):
                return False
        return True


class Window(RecentRequests):
    """A limit: at most ``limit`` requests in any span of ``length`` seconds."""

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
        """Change the rate and the capacity from now on.

        A new bucket is full. A bucket whose capacity grows gets no tokens for the growth.
        """
        self._level = capacity if self._at is None else min(capacity, self.compute_level(now))
        self.rate, self.capacity, self._at = rate, capacity, now

    def compute_level(self, now: float) -> float:
        """Return the number of tokens now."""
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        return min(self.capacity, self._level + self.rate * passed)

    def take(self, now: float) -> None:
        """Remove one token."""
        self._level, self._at = max(0.0, self.compute_level(now) - 1.0), now

    def find_full_instant(self, now: float, tokens: float) -> float:
        """Return the instant from which the bucket holds ``tokens`` tokens, or its full capacity if less.

        The instant is inf when the bucket does not fill, and otherwise -inf when the tokens are there now.
        """
        lacking = min(tokens, self.capacity) - self.compute_level(now)
        if not self.rate:
            return inf
        return now + lacking / self.rate if lacking > _ROUNDING else -inf


class RequestBudget:
    """The two windows of a target, the reserves of its background, and the wait asked for by the API.

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
        self._refused_at = -inf  # when a fire was last refused
        self._series_at = -inf  # when the newest series of requests began
        self._series: Reserve | None = None  # reserve used by the first request of the series
        self.blocked_until = -inf

    def set_limits(self, *, per_minute: int, per_hour: int, now: float) -> None:
        """Use other limits from now on. Requests that were sent before still count."""
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
        """Let no request through before ``until``."""
        self.blocked_until = max(self.blocked_until, until)

    def find_earliest_fire(self, now: float) -> float:
        """Return the earliest known instant for one more fire.

        It is ``now`` or earlier when the fire may be sent.
        """
        at = self._find_free_instant(now)
        if at <= now:
            at = self._find_room_instant(now, self._reserves)
        if at > now >= self.blocked_until:
            self._refused_at = now
        return at

    def find_earliest_poll(self, now: float, requests: int = 1) -> float:
        """Return the earliest instant for the first of ``requests`` requests of a poll.

        Either a reserve has tokens for all these requests, or the requests fit beside the reserves while no
        fire waits.
        """
        free_at = self._find_free_instant(now)
        if free_at > now:
            return free_at
        return min(
            self._find_reserve_instant(self._least, now, requests),
            max(
                self._find_reserve_instant(self._polls, now, requests),
                self._find_room_instant(now, (self._least,)),
            ),
            self._find_spare_instant(now, requests),
        )

    def find_earliest_reading(self, now: float) -> float:
        """Return the earliest instant for a reading.

        A reading is sent from its reserve, or beside all reserves. Readings stay within the part of each
        window's quarter that polls leave, see `_compute_readings_maximum`.
        """
        free_at = self._find_free_instant(now)
        if free_at > now:
            return free_at
        recent = zip(self._windows, self._background[Purpose.READING], strict=True)
        held = self._held[Purpose.READING]
        within_at = max(
            each.find_free_instant(now, held, self._compute_readings_maximum(window))
            for window, each in recent
        )
        in_reserve_at = max(
            self._readings.find_full_instant(now, 1), self._find_room_instant(now, (self._least, self._polls))
        )
        spare_at = max(self._find_room_instant(now, self._reserves), self._refused_at + 2 * RECHECK_INTERVAL)
        return max(within_at, min(in_reserve_at, spare_at))

    def hold(self, purpose: Purpose = Purpose.FIRE) -> None:
        """Hold one place."""
        self._held[purpose] += 1

    def give_back(self, purpose: Purpose = Purpose.FIRE) -> None:
        """Give a held place back."""
        self._held[purpose] -= 1

    def use(self, now: float, purpose: Purpose = Purpose.FIRE, *, requests: int = 1) -> None:
        """Send the request of a held place now, as the first of ``requests`` requests."""
        self.give_back(purpose)
        for window in (*self._windows, *self._background[purpose]):
            window.add(now)
        reserve = self._choose_reserve(purpose, now, requests)
        if reserve is not None:
            reserve.take(now)
        if requests > 1:
            self._series_at, self._series = now, reserve

    def _choose_reserve(self, purpose: Purpose, now: float, requests: int) -> Reserve | None:
        """Return the reserve for a request, or None for a fire and when no reserve has tokens.

        The later pages of a poll use the reserve of the first page, as long as this reserve has tokens.
        """
        if purpose is Purpose.FIRE:
            return None
        reserves = (self._readings,) if purpose is Purpose.READING else (self._least, self._polls)
        if requests == 1 and self._series in reserves:
            reserves = (self._series, *reserves)
        whole = (each for each in reserves if each.find_full_instant(now, requests) <= now)
        return next(whole, None) or next(
            (each for each in reserves if each.find_full_instant(now, 1) <= now), None
        )

    def _find_free_instant(self, now: float) -> float:
        held = self._held.total()
        return max(
            self.blocked_until,
            *(window.find_free_instant(now, held, window.limit) for window in self._windows),
        )

    def _find_reserve_instant(self, reserve: Reserve, now: float, requests: int) -> float:
        """Return when a reserve admits the first request of a series.

        The reserve admits the request when it has tokens for the whole series. When the series before was
        held up, one token is enough, once the reserve has had the time to fill for a series since that series
        began.
        """
        whole = reserve.find_full_instant(now, requests)
        if requests == 1 or not reserve.rate:
            return whole
        return min(whole, max(reserve.find_full_instant(now, 1), self._series_at + requests / reserve.rate))

    def _find_room_instant(self, now: float, above: Sequence[Reserve]) -> float:
        """Return when to ask again for one more request, or -inf when the request may be sent now.

        The request must leave room for all coming requests of the reserves in ``above``.
        """
        more = self._held.total() + 1
        has_room = all(
            window.has_room(now, more, self._estimate_coming(window, now, above), window.limit)
            for window in self._windows
        )
        return -inf if has_room else now + RECHECK_INTERVAL

    def _find_spare_instant(self, now: float, requests: int) -> float:
        """Return when ``requests`` requests of a poll fit beside all reserves.

        No fire may wait then, and polls and readings must keep to their share. The share must also suffice
        for the coming polls of the reserves: early requests of polls would be missing later.
        """
        beside_at = max(self._find_room_instant(now, self._reserves), self._refused_at + 2 * RECHECK_INTERVAL)
        return beside_at if self._has_share(now, requests) else max(beside_at, now + RECHECK_INTERVAL)

    def _has_share(self, now: float, requests: int) -> bool:
        """Return whether the polls' share has room for ``requests`` more and for the coming polls."""
        for window, recent in zip(self._windows, self._background[Purpose.POLL], strict=True):
            usable = int(self._compute_share(window, 3 / 4) - self._compute_readings_minimum(window))
            more = self._held[Purpose.POLL] + max(1, min(requests, usable))
            coming = self._estimate_coming(window, now, (self._least, self._polls))
            if not recent.has_room(now, more, coming, usable):
                return False
        return True

    def _compute_readings_maximum(self, window: Window) -> int:
        """Return the part of the quarter left by polls, but at least the readings' minimum."""
        polls = (self._least.rate + self._polls.rate) * window.length
        return max(1, int(max(window.limit / 4 - polls, self._compute_readings_minimum(window))))

    def _compute_readings_minimum(self, window: Window) -> float:
        """Return the part left to readings when polls and readings want more than their share."""
        return min(self._need.readings * window.length, window.limit / 4 * _READINGS_MINIMUM)

    def _compute_share(self, window: Window, most: float) -> float:
        """Return the largest part of a window for the background, in requests.

        The part is a quarter of the limit, or the need of the rarest polls when the need is larger, but at
        most ``most`` of the limit.
        """
        if not self._need.pages:  # the need is unknown before the first poll
            return window.limit - window.limit // 4
        least = self._need.least * window.length + self._need.pages + self._need.at_once
        return max(window.limit / 4, min(window.limit * most, least))

    def _estimate_coming(self, window: Window, now: float, reserves: Sequence[Reserve]) -> ComingRequests:
        level, rate = sum(each.compute_level(now) for each in reserves), sum(each.rate for each in reserves)
        return ComingRequests(level, rate, int(self._compute_share(window, 1 / 2)))
