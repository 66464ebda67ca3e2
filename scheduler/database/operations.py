"""Operations that wait to be carried out on another thread, and how their callers on the event loops get to know what came of them."""

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar, cast

T = TypeVar("T")
Item = TypeVar("Item")

Operation = Callable[[sqlite3.Connection, Sequence[Item]], Sequence[T | Exception]]
"""Carries out all items at once. Gives a result for each, in order; an exception as a result is raised for that item's caller."""


class PendingOperation(Generic[Item, T]):
    """An item for an operation, and the future on which somebody waits for what comes of it."""

    __slots__ = ("_future", "item", "loop", "operation", "result")

    def __init__(self, operation: Operation[Item, T], item: Item) -> None:
        self.operation = operation
        self.item = item
        self.result: T | BaseException | None = None
        self.loop = asyncio.get_running_loop()
        self._future: asyncio.Future[T] = self.loop.create_future()

    def complete(self) -> None:
        """On the loop: wake whoever waits, unless it has been cancelled."""
        if self._future.done():
            return
        if isinstance(self.result, StopIteration):
            self._future.set_exception(RuntimeError("the operation raised StopIteration, which no future takes"))
        elif isinstance(self.result, BaseException):
            self._future.set_exception(self.result)
        else:
            self._future.set_result(cast("T", self.result))

    async def wait_for_result(self) -> T:
        """What came of it."""
        return await self._future


PendingOperations = Sequence[PendingOperation[object, object]]


class SingleOperation(Generic[T]):
    """A function as an operation that is never carried out together with another."""

    def __init__(self, function: Callable[[sqlite3.Connection], T]) -> None:
        self._function = function

    def __call__(self, connection: sqlite3.Connection, items: Sequence[None], /) -> Sequence[T | Exception]:
        """What the function returns, for the one item that there is."""
        return [self._function(connection) for _ in items]


def carry_out(connection: sqlite3.Connection, requests: PendingOperations) -> None:
    """Carry out requests for the same operation, and keep what comes of each. Raises what the operation raises."""
    outcomes = requests[0].operation(connection, [request.item for request in requests])
    for request, outcome in zip(requests, outcomes, strict=True):
        request.result = outcome


def complete_all(requests: PendingOperations, afterwards: Callable[[], None] | None = None) -> None:
    """Wake each loop once, however many of its requests were done; ``afterwards`` is called on the loop of the first one."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = defaultdict(list)
    for request in requests:
        by_loop[request.loop].append(request.complete)
    if afterwards is not None:
        by_loop[requests[0].loop].append(afterwards)
    for loop, calls in by_loop.items():
        with suppress(RuntimeError):  # that loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_call_all, calls)


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()
