"""Operations for another thread, and the return of their results to the callers on the event loops."""

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar, cast

T = TypeVar("T")
Item = TypeVar("Item")

Operation = Callable[[sqlite3.Connection, Sequence[Item]], Sequence[T | Exception]]
"""Function that carries out all items at once and returns one result for each item, in order.

An exception as a result is raised for the caller of this item.
"""


class PendingOperation(Generic[Item, T]):
    """Item for an operation, with the future on which the caller waits for the result."""

    __slots__ = ("future", "item", "loop", "operation", "result")

    def __init__(self, operation: Operation[Item, T], item: Item) -> None:
        self.operation = operation
        self.item = item
        self.result: T | BaseException | None = None
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self.loop.create_future()

    def complete(self) -> None:
        """Wake the caller with the result, unless the caller was cancelled. Called on the loop."""
        if self.future.done():
            return
        if isinstance(self.result, StopIteration):
            self.future.set_exception(
                RuntimeError("the operation raised StopIteration, which no future takes")
            )
        elif isinstance(self.result, BaseException):
            self.future.set_exception(self.result)
        else:
            self.future.set_result(cast("T", self.result))


PendingOperations = Sequence[PendingOperation[object, object]]


def carry_out(connection: sqlite3.Connection, requests: PendingOperations) -> None:
    """Carry out requests for the same operation, and store the result of each request.

    Raises the exceptions of the operation.
    """
    outcomes = requests[0].operation(connection, [request.item for request in requests])
    for request, outcome in zip(requests, outcomes, strict=True):
        request.result = outcome


def complete_all(requests: PendingOperations, afterwards: Callable[[], None] | None = None) -> None:
    """Wake each loop once, for all of its completed requests.

    ``afterwards`` is called on the loop of the first request.
    """
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = defaultdict(list)
    for request in requests:
        by_loop[request.loop].append(request.complete)
    if afterwards is not None:
        by_loop[requests[0].loop].append(afterwards)
    for loop, calls in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: no caller waits any more
            loop.call_soon_threadsafe(_call_all, calls)


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()
