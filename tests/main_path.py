"""The code that one accepted occurrence executes, from `Planner.run` to its committed outcome and its event.

``python -m tests.main_path`` plays one occurrence in the simulation, with the real planner, dispatcher,
ledger and client. For each module of the package, the list has the lines of the executed functions, and all
lines. Settings, commands and pages are left out, and the work of other tasks, such as polls, too.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import scheduler
from scheduler.core.events import OccurrenceConcluded
from tests.simulation.judging import play_script
from tests.simulation.stories import plan_every, write_script
from tests.simulation.world import World

_PACKAGE: Final = Path(scheduler.__file__).parent
_LEFT_OUT: Final = ("settings", "cli", "app", "ops/page")
_TASKS: Final = ("Planner.run", "Dispatcher._deliver_queue")
_SPAN: Final = 200.0
"""Seconds from the start at 11:58:20, for one fire at noon."""


@dataclass(frozen=True)
class Module:
    """An executed module. ``executed`` is the number of lines of its executed functions."""

    path: str
    executed: int
    lines: int


def list_modules() -> list[Module]:
    """Return the executed modules in the order of their paths."""
    functions: set[CodeType] = set()
    with _record_functions(functions):
        world = play_script(write_script(_SPAN, plan_every("0 12 * * *", 1)))
    assert world is not None
    assert _count_conclusions(world) == 1
    executed = Counter[str]()
    for function in functions:
        executed[Path(function.co_filename).relative_to(_PACKAGE).as_posix()] += _measure(function)
    return [
        Module(path, lines, len((_PACKAGE / path).read_text().splitlines()))
        for path, lines in sorted(executed.items())
        if not path.startswith(_LEFT_OUT)
    ]


def _measure(function: CodeType) -> int:
    last = max((line for _, _, line in function.co_lines() if line), default=function.co_firstlineno)
    return last - function.co_firstlineno + 1


def _count_conclusions(world: World) -> int:
    return sum(isinstance(told.event, OccurrenceConcluded) for told in world.events)


@contextmanager
def _record_functions(functions: set[CodeType]) -> Iterator[None]:
    """Record the functions of the package that run in the block, in the tasks of the main path."""

    def note(frame: FrameType, event: str, _: object) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(str(_PACKAGE)) and _is_on_the_path(frame):
            functions.add(frame.f_code)

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def _is_on_the_path(frame: FrameType) -> bool:
    if frame.f_code.co_name == "<module>":
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    coroutine: Any = None if task is None else task.get_coro()
    return getattr(getattr(coroutine, "_inner", coroutine), "__qualname__", None) in _TASKS


if __name__ == "__main__":
    modules = list_modules()
    for module in modules:
        print(f"{module.executed:5} of {module.lines:5}  {module.path}")
    executed, lines = sum(module.executed for module in modules), sum(module.lines for module in modules)
    print(f"{executed:5} of {lines:5}  lines in {len(modules)} files")
