"""The only place that reads a clock, and the watch over it.

The wall clock steps when somebody sets it; the boot-time clock only goes forward, and counts suspend (clock_gettime(2), CLOCK_BOOTTIME).
Their difference tells a step; the monotonic clock, which stops in a suspend, tells the two apart. (The event loop's own clock does not: it
stands still while the loop is busy.)
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from scheduler.core.events import ClockJumped
from scheduler.daemon.ports import DaemonClock, Publish

TICK: Final = 1.0
"""How often the clocks are compared, in seconds."""
MIN_CLOCK_JUMP: Final = 1.0
"""A smaller difference within one tick is slewing or a slow loop, and is not a jump. Seconds."""
MAX_TRUSTED_STEP: Final = 60.0
"""A step forward of more than this is believed only when an API agrees. Seconds."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """The wall clock: aware, UTC."""
        return datetime.now(UTC)  # noqa: TID251  this is the one place

    def boottime(self) -> float:
        """Seconds since the machine started, counting suspend."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def monotonic(self) -> float:
        """Seconds since the machine started, without those it was suspended for."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)


class Alarm:
    """What a loop sleeps on: until an instant of the wall clock, or until somebody rings."""

    def __init__(self, clock: DaemonClock) -> None:
        self._clock = clock
        self._event = asyncio.Event()
        self._wake_by = clock.boottime()  # when its loop goes on

    def measure_stall(self) -> float:
        """Seconds since its loop was to go on, and has not come back to sleep; 0 while it may sleep."""
        return max(self._clock.boottime() - self._wake_by, 0.0)

    def ring(self) -> None:
        """Wake whoever sleeps, or will."""
        self._event.set()

    async def sleep_until(self, instant: datetime | None) -> None:
        """Return at ``instant``, never before it, or as soon as it rings; None: only when it rings."""
        left = None if instant is None else (instant - self._clock.now()).total_seconds()
        await self.sleep(left)

    async def sleep(self, seconds: float | None) -> None:
        """Return after so many seconds, or as soon as it rings."""
        self._wake_by = math.inf if seconds is None else self._clock.boottime() + max(seconds, 0.0)
        if seconds is None or seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._event.wait()
            except TimeoutError:
                pass
        self._event.clear()
        self._wake_by = self._clock.boottime()


@dataclass(frozen=True, slots=True)
class _ClockReadings:
    wall: datetime
    boot: float
    awake: float


class ClockWatch:
    """Notices jumps of the wall clock and suspends, and tells everybody who sleeps by it."""

    def __init__(self, clock: DaemonClock, publish: Publish) -> None:
        self._clock = clock
        self._publish = publish
        self._listeners: list[Callable[[ClockJumped], None]] = []
        self._confirmation_listeners: list[Callable[[], None]] = []
        self._last_readings = self._read_clocks()
        self._doubted_seconds = 0.0  # seconds the clock stepped forward that no API has confirmed
        self._last_step = float("-inf")  # when the last step was

    def listen(self, listener: Callable[[ClockJumped], None]) -> None:
        """Call ``listener`` after each jump."""
        self._listeners.append(listener)

    def on_confirmation(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when the clock is believed again after it was in doubt."""
        self._confirmation_listeners.append(wake)

    @property
    def is_in_doubt(self) -> bool:
        """Whether the clock stepped so far forward, or lies so far behind the ledger, that nothing may be decided by it."""
        return self._doubted_seconds > MAX_TRUSTED_STEP

    def check_known_instant(self, known: datetime) -> None:
        """It was ``known`` before this process began. A clock that shows much less is in doubt, as after a step forward."""
        behind = (known - self._clock.now()).total_seconds()
        if behind > MAX_TRUSTED_STEP:
            self._doubted_seconds = max(self._doubted_seconds, behind)
            self._publish(ClockJumped(seconds=-behind, suspended=False))

    def has_stepped_since(self, begun: float) -> bool:
        """Whether the wall clock was set after ``begun``: instants taken from it before and after do not belong together."""
        return self._last_step > begun

    def check_offset(self, clock_offset: float, *, begun: float) -> None:
        """An API's clock is ``clock_offset`` seconds ahead of ours, as a reading from ``begun`` on says: when that is small, ours is right.

        A reading that began before a step says nothing about the clock after it.
        """
        if abs(clock_offset) <= MAX_TRUSTED_STEP and self._doubted_seconds and not self.has_stepped_since(begun):
            was_in_doubt, self._doubted_seconds = self.is_in_doubt, 0.0
            if was_in_doubt:
                for wake in self._confirmation_listeners:
                    wake()

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            await asyncio.sleep(TICK)
            self.check()

    def check(self) -> None:
        """Compare the clocks now. Who is about to decide by the wall clock looks before: it may have been set since the last tick."""
        before, after = self._last_readings, self._read_clocks()
        self._last_readings = after
        passed = after.boot - before.boot
        asleep = passed - (after.awake - before.awake)
        jump = (after.wall - before.wall).total_seconds() - passed
        if abs(jump) > MIN_CLOCK_JUMP:
            self._doubted_seconds = max(self._doubted_seconds + jump, 0.0)
            self._last_step = after.boot
            self._announce(ClockJumped(seconds=jump, suspended=False))
        if asleep > MIN_CLOCK_JUMP:  # told last: until when nobody ran is said by the clock as it is now
            self._announce(ClockJumped(seconds=asleep, suspended=True))

    def _read_clocks(self) -> _ClockReadings:
        return _ClockReadings(self._clock.now(), self._clock.boottime(), self._clock.monotonic())

    def _announce(self, event: ClockJumped) -> None:
        self._publish(event)
        for listener in self._listeners:
            listener(event)
