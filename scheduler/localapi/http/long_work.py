"""Long work outside the event loop: large bodies are parsed and large pages are encoded on a separate thread.

Only one task runs at a time: two simultaneous tasks take no less time, and leave the loop less time.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_T = TypeVar("_T")

SMALL: Final = 16 * 1024
"""Bytes or characters.

Smaller work takes about a millisecond in the loop, as long as a change of threads may take.
"""


class LongWork:
    """The thread for long work."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="long-work")

    async def carry_out(self, function: Callable[[], _T], *, size: int) -> _T:
        """Call the function, and return or raise the function's result. ``size`` is the size of the work.

        The unit of ``size`` is bytes or characters.
        """
        if size <= SMALL:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def close(self) -> None:
        """Begin no further work. Work in progress comes to an end, and nobody waits for the end."""
        self._thread.shutdown(wait=False, cancel_futures=True)
