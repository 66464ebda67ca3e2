"""Virtual time: an event loop whose clock jumps to its next timer instead of waiting for it.

What is awaited must come from timers and from other tasks; a socket that is never ready would be waited for at full speed.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

_T = TypeVar("_T")

START = datetime(2026, 11, 23, 12, tzinfo=UTC)


class _Jumping(selectors.SelectSelector):
    """Selects without waiting, and lets the time go by that it was asked to wait."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if timeout is None and not ready:
            raise RuntimeError("everybody waits, and nothing is going to happen")
        if not ready:
            self.passed += timeout or 0.0
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._jumping.passed


class VirtualClock:
    """The two clocks of a daemon on the time of the running loop. ``suspended`` seconds count on it, but not on the loop."""

    def __init__(self) -> None:
        self.suspended = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds())

    def seconds(self) -> float:
        return asyncio.get_running_loop().time() + self.suspended


def run_virtual(main: Coroutine[Any, Any, _T]) -> _T:
    """``asyncio.run`` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
