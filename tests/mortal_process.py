"""Processes in one event loop that can be killed: a task belongs to the process that makes the task."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

OWNER: Final[ContextVar["MortalProcess | None"]] = ContextVar("OWNER", default=None)
"""The process whose code runs now."""


class MortalProcess:
    """A process: when it is killed, all its tasks stop at once."""

    def __init__(self) -> None:
        self.alive = True
        self._tasks: set[asyncio.Task[Any]] = set()

    def call(self, function: Callable[[], _T]) -> _T:
        """Call a function as the process: the tasks made meanwhile belong to the process."""
        token = OWNER.set(self)
        try:
            return function()
        finally:
            OWNER.reset(token)

    def begin(self, main: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Make the first task."""
        return self.call(lambda: asyncio.get_running_loop().create_task(main))

    def wrap(self, coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that a task of the process carries out, for a subclass to see each step."""
        return coroutine

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Add a task to the process until the task ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel_tasks(self) -> None:
        """Cancel all tasks of the process."""
        for task in self._tasks:
            task.cancel()


def make_owned_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **kwargs: Any
) -> asyncio.Task[Any]:
    """Make a task, as a task factory, for the process that runs now."""
    owner = OWNER.get()
    if owner is None:
        return asyncio.Task(coroutine, loop=loop, **kwargs)
    task = asyncio.Task(owner.wrap(coroutine), loop=loop, **kwargs)
    owner.adopt(task)
    return task


def use_owned_tasks() -> None:
    """Have each task of the running loop belong to the process that makes the task."""
    asyncio.get_running_loop().set_task_factory(make_owned_task)  # type: ignore[arg-type]  # typeshed: a factory may give any future
