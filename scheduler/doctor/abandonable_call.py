"""Calls that may hang, each in a thread that nobody waits for: a name server or a network disk that never answers must not keep a command.

asyncio's own threads are joined when its loop ends, so that one that hangs would hold up everything after all.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def run_abandonable(call: Callable[[], T]) -> T:
    """What ``call`` returns or raises. Whoever stops waiting leaves it to itself."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error else done.set_result(value)  # type: ignore[arg-type]  # one of the two is there

    def run() -> None:
        value, error = None, None
        try:
            value = call()
        except BaseException as raised:  # noqa: BLE001  it is raised again where it is waited for
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, daemon=True).start()
    return await done
