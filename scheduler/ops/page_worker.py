"""Where answers are made: on another thread than the loop's, one at a time, and not while something is about to be fired.

Two that are made at once take no less time and leave the loop less of it. And however little a page takes of Python's global lock: what is
due comes first, and whoever looks can wait for a second.
"""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MAX_WAIT: Final = 5.0
"""Seconds that an answer waits at most for what is due: with something due all the time, people look all the same."""
_CHECK_INTERVAL: Final = 0.05


class PageWorker:
    """``is_busy``: whether the daemon fires or is about to; asked on the loop."""

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        self._lock = asyncio.Lock()

    async def wait_until_idle(self) -> None:
        """Wait while the daemon is busy, `MAX_WAIT` at most."""
        loop = asyncio.get_running_loop()
        until = loop.time() + MAX_WAIT
        while self._is_busy() and loop.time() < until:  # noqa: ASYNC110  nobody who fires has to think of who looks
            await asyncio.sleep(_CHECK_INTERVAL)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``work`` returns, made on another thread when nobody else's is being made."""
        async with self._lock:
            await self.wait_until_idle()
            return await asyncio.to_thread(work, *args, **kwargs)
