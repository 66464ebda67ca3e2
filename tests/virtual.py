"""Virtual time: an event loop whose clock jumps to its next timer, and the two clocks of a machine on top of
it.

What is awaited must come from timers and from other tasks; there is no I/O. So days pass in seconds, nothing
depends on how busy the machine is, and a test that waits for what will never happen is told so at once.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

START: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
_PATIENCE: Final = 1_000
"""So many turns of the loop in a row that wait for nothing take no time.

Each further turn takes `_LEAST` seconds.
"""
_LEAST: Final = 1e-6
_STILL: Final = 200_000
"""So many turns of the loop in a row that wait for nothing are a loop that will never wait."""


class TimeStandsStill(RuntimeError):
    """Nothing will ever happen, or so much at one instant that time never goes on."""


class _Jumping(selectors.SelectSelector):
    """Selects nothing, and lets the time go by that it was asked to wait."""

    passed = 0.0
    _turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise TimeStandsStill("everybody waits, and nothing is going to happen")
        self._turns = 0 if timeout > 0 else self._turns + 1
        if self._turns > _STILL:
            raise TimeStandsStill(f"{_STILL} turns of the loop in a row that waited for nothing")
        # Whoever waits for less than the clock can tell gets there in the end, as in real time.
        self.passed += max(timeout, _LEAST if self._turns > _PATIENCE else 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which begins with it."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._jumping.passed


class VirtualClock:
    """The clocks of a machine whose loop is in virtual time. It can be set, and it can sleep."""

    def __init__(self, start: datetime = START) -> None:
        self._start = self._shown = start
        self._shown_at = 0.0  # the boot time of the instant shown last: most readings follow another at once
        self._stepped = timedelta(0)
        self._suspended = 0.0

    def now(self) -> datetime:
        """The machine's wall clock, as right or wrong as it was set."""
        return self.true_now() + self._stepped if self._stepped else self.true_now()

    def true_now(self) -> datetime:
        """What a clock on another machine shows, which nobody sets."""
        boottime = self.boottime()
        if boottime != self._shown_at:
            self._shown_at, self._shown = boottime, self._start + timedelta(seconds=boottime)
        return self._shown

    def boottime(self) -> float:
        """Since the beginning, also those that were slept through."""
        return asyncio.get_running_loop().time() + self._suspended

    def monotonic(self) -> float:
        """Since the beginning, without those."""
        return asyncio.get_running_loop().time()

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self._stepped += timedelta(seconds=seconds)

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: time passes for everybody else, while the loop's timers stand still."""
        self._suspended += seconds


def run_virtual(main: Coroutine[Any, Any, _T]) -> _T:
    """``asyncio.run`` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
