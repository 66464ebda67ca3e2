"""The thread for the pages: makes one answer at a time, and none while an occurrence is about to be sent.

Two answers in parallel take as long as in sequence, and leave less time for the loop. Any page needs Python's
global lock, and a due occurrence has priority over a reader, who can wait for a second.
"""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MAX_WAIT: Final = 5.0
"""Limit in seconds for which an answer waits for due occurrences.

Pages stay available when occurrences are due all the time.
"""
_CHECK_INTERVAL: Final = 0.05


class PageWorker:
    """The worker that makes pages on another thread, one at a time.

    ``is_busy`` returns whether the daemon fires or is about to fire. It is called on the loop.
    """

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        self._lock = asyncio.Lock()

    async def wait_until_idle(self) -> None:
        """Wait while the daemon is busy, at most `MAX_WAIT` seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + MAX_WAIT
        while self._is_busy() and loop.time() < until:  # noqa: ASYNC110  deliveries notify no pages
            await asyncio.sleep(_CHECK_INTERVAL)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work`` on another thread, after earlier work, and return its result."""
        async with self._lock:
            await self.wait_until_idle()
            return await asyncio.to_thread(work, *args, **kwargs)
