"""What takes long, outside the event loop: a large body is parsed and a large page is encoded on a thread of its own.

One such work at a time: two at once take no less time, and leave the loop less of it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_T = TypeVar("_T")

SMALL: Final = 16 * 1024
"""Bytes or characters: less is done within the loop in about a millisecond, which is what a change of threads may take."""


class LongWork:
    """The thread for long work."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="long-work")

    async def carry_out(self, function: Callable[[], _T], *, size: int) -> _T:
        """Return what the function returns, or raise what it raises. ``size`` is how much it goes through, in bytes or characters."""
        if size <= SMALL:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def close(self) -> None:
        """Begin nothing more. What is under way comes to its end, and nobody waits for it."""
        self._thread.shutdown(wait=False, cancel_futures=True)
