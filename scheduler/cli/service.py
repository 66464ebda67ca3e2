"""What the commands that do not end by themselves have in common."""

import faulthandler
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

from scheduler.cli.group import Source
from scheduler.cli.program import find_program
from scheduler.core.command_line import set_caller

_T = TypeVar("_T")


def run(main: Coroutine[Any, Any, _T], source: Source) -> _T:
    """Carry out a process's main coroutine on the fast loop, and return its result; of several errors the first is raised alone.

    Pages and logs have other readers than the terminal: commands name the absolute place of ``source``.
    """
    set_caller(find_program(absolute=True), source.find_absolute(os.environ).options)
    faulthandler.enable()  # what is aborted, as by systemd's watchdog, says where all of its threads were
    os.umask(0o077)  # prompts and the hashes of keys are nobody else's business
    try:
        return uvloop.run(main)
    except BaseExceptionGroup as group:
        raise _find_first_error(group) from group


def _find_first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _find_first_error(first) if isinstance(first, BaseExceptionGroup) else first
