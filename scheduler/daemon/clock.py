"""The back-off between two tries, the alarm of a sleeping loop, and the watch for clock steps and suspends.

The wall clock steps when somebody sets it. The boot-time clock only goes forward and counts suspend
(clock_gettime(2), CLOCK_BOOTTIME). A change of the difference between these clocks shows a clock step. The
monotonic clock stops in a suspend, and so tells a step from a suspend. The event loop's own clock cannot do
this: it stands still while the loop is busy.
"""

import asyncio
import math
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from scheduler.core.events import ClockJumped
from scheduler.daemon.ports import DaemonClock, Publish

TICK: Final = 1.0
"""Interval of the clock comparison, in seconds."""
MIN_CLOCK_JUMP: Final = 1.0
"""Smallest jump, in seconds. A smaller difference within one tick is slewing or a slow loop."""
MAX_TRUSTED_STEP: Final = 60.0
"""Largest step forward that is trusted without confirmation by an API, in seconds."""

FIRST_BACK_OFF: Final = 1.0
LONGEST_BACK_OFF: Final = 60.0


def back_off(failures: int, draw: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after ``failures`` failures in a row.

    The back-off is exponential with full jitter (Exponential Backoff And Jitter, AWS, 2015).
    """
    return max(0.1, draw() * min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2.0 ** min(failures, 10)))


class Alarm:
    """Alarm of one loop: the loop sleeps until an instant of the wall clock, or until the alarm rings."""

    def __init__(self, clock: DaemonClock) -> None:
        self._clock = clock
        self._event = asyncio.Event()
        self._wake_by = clock.boottime()  # planned wake-up of the loop

    def measure_stall(self) -> float:
        """Return the seconds since the planned wake-up, while the loop has not come back to sleep; else 0."""
        return max(self._clock.boottime() - self._wake_by, 0.0)

    def ring(self) -> None:
        """Wake the sleeping loop. A loop that is awake does not sleep the next time."""
        self._event.set()

    async def sleep_until(self, instant: datetime | None) -> None:
        """Return at ``instant``, never earlier, or when the alarm rings. None: only when the alarm rings."""
        left = None if instant is None else (instant - self._clock.now()).total_seconds()
        await self.sleep(left)

    async def sleep(self, seconds: float | None) -> None:
        """Return after ``seconds``, or as soon as the alarm rings. None: only when the alarm rings."""
        self._wake_by = math.inf if seconds is None else self._clock.boottime() + max(seconds, 0.0)
        if seconds is None or seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._event.wait()
        self._event.clear()
        self._wake_by = self._clock.boottime()


@dataclass(frozen=True, slots=True)
class _ClockReadings:
    wall: datetime
    boot: float
    awake: float


class ClockWatch:
    """Watch for clock steps and suspends, with listeners for parts that sleep by the wall clock."""

    def __init__(self, clock: DaemonClock, publish: Publish) -> None:
        self._clock = clock
        self._publish = publish
        self.jump_listeners: list[Callable[[ClockJumped], None]] = []  # after a clock step or a suspend
        self.confirmation_listeners: list[Callable[[], None]] = []  # after the end of a doubt
        self._last_readings = self._read_clocks()
        self._doubted_seconds = 0.0  # size of the forward steps that no API has confirmed, in seconds
        self._last_step = float("-inf")  # time of the last step

    @property
    def is_in_doubt(self) -> bool:
        """Whether the clock is in doubt, so that nothing may be decided by the wall clock.

        The clock is in doubt after a large step forward, or when the clock is far behind the ledger.
        """
        return self._doubted_seconds > MAX_TRUSTED_STEP

    def check_known_instant(self, known: datetime) -> None:
        """Check the clock against ``known``, an instant that had passed before this process began.

        A clock that is more than `MAX_TRUSTED_STEP` behind ``known`` is in doubt, as after a step forward.
        """
        behind = (known - self._clock.now()).total_seconds()
        if behind > MAX_TRUSTED_STEP:
            self._doubted_seconds = max(self._doubted_seconds, behind)
            self._publish(ClockJumped(seconds=-behind, suspended=False))

    def has_stepped_since(self, begun: float) -> bool:
        """Return whether the wall clock was set after ``begun``, an instant of the clock that counts suspend.

        Instants of the wall clock from before and after the step do not fit together.
        """
        return self._last_step > begun

    def check_offset(self, clock_offset: float, *, begun: float) -> None:
        """Check the clock against the clock offset of a reading begun at ``begun``.

        A small clock offset confirms the local clock. A reading begun before a step says nothing about the
        clock after the step.
        """
        if (
            abs(clock_offset) <= MAX_TRUSTED_STEP
            and self._doubted_seconds
            and not self.has_stepped_since(begun)
        ):
            was_in_doubt, self._doubted_seconds = self.is_in_doubt, 0.0
            if was_in_doubt:
                for wake in self.confirmation_listeners:
                    wake()

    async def run(self) -> None:
        """Watch the clocks forever."""
        while True:
            await asyncio.sleep(TICK)
            self.check()

    def check(self) -> None:
        """Compare the clocks now.

        Every decision by the wall clock calls this method before: the clock may have been set since the last
        tick.
        """
        before, after = self._last_readings, self._read_clocks()
        self._last_readings = after
        passed = after.boot - before.boot
        asleep = passed - (after.awake - before.awake)
        jump = (after.wall - before.wall).total_seconds() - passed
        if abs(jump) > MIN_CLOCK_JUMP:
            self._doubted_seconds = max(self._doubted_seconds + jump, 0.0)
            self._last_step = after.boot
            self._announce(ClockJumped(seconds=jump, suspended=False))
        # announced last, because listeners read the end of the suspend from the current clock
        if asleep > MIN_CLOCK_JUMP:
            self._announce(ClockJumped(seconds=asleep, suspended=True))

    def _read_clocks(self) -> _ClockReadings:
        return _ClockReadings(self._clock.now(), self._clock.boottime(), self._clock.monotonic())

    def _announce(self, event: ClockJumped) -> None:
        self._publish(event)
        for listener in self.jump_listeners:
            listener(event)
