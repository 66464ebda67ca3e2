"""Time limits for the probes, also for calls that may hang.

A name server or a network disk without an answer must not block a command. Such a call is therefore made in a
daemon thread that the caller may abandon. asyncio's own threads are not suitable: asyncio joins them when the
loop ends, and a hanging thread would still block the command.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from scheduler.doctor.facts import UnknownFact

T = TypeVar("T")


async def limit_time(seconds: float, work: Awaitable[T]) -> T | UnknownFact:
    """Return the result of ``work``, or the reason why no result came within the time limit."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        return UnknownFact(f"nothing came of it within {seconds:g} s")
    except Exception as error:  # noqa: BLE001  no error may stop the other facts
        return UnknownFact(str(error) or type(error).__name__)


async def run_abandonable(call: Callable[[], T]) -> T:
    """Return the result of ``call``, or raise its exception.

    When the caller stops waiting, the thread continues alone.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error else done.set_result(value)  # type: ignore[arg-type]  # one is set

    def run() -> None:
        value, error = None, None
        try:
            value = call()
        except BaseException as raised:  # noqa: BLE001  raised again in the waiting caller
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, daemon=True).start()
    return await done
