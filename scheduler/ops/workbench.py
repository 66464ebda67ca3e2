"""Where answers are made: on another thread than the loop's, one at a time, and not while something is about to be fired.

Two that are made at once take no less time and leave the loop less of it. And however little a page takes of Python's global lock: what is
due comes first, and whoever looks can wait for a second.
"""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LONGEST: Final = 5.0
"""Seconds that an answer waits at most for what is due: with something due all the time, people look all the same."""
_LOOK_EVERY: Final = 0.05


class Workbench:
    """``is_busy``: whether the daemon fires or is about to; asked on the loop."""

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        self._free = asyncio.Lock()

    async def wait(self) -> None:
        """Wait while the daemon is busy, `LONGEST` at most."""
        loop = asyncio.get_running_loop()
        until = loop.time() + LONGEST
        while self._is_busy() and loop.time() < until:  # noqa: ASYNC110  nobody who fires has to think of who looks
            await asyncio.sleep(_LOOK_EVERY)

    async def make(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``work`` returns, made on another thread when nobody else's is being made."""
        async with self._free:
            await self.wait()
            return await asyncio.to_thread(work, *args, **kwargs)
