"""The common part of the commands that run until a signal."""

import faulthandler
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

from scheduler.cli.group import Source, find_program
from scheduler.core.command_line import set_caller

_T = TypeVar("_T")


def run(main: Coroutine[Any, Any, _T], source: Source) -> _T:
    """Run the main coroutine of a process on uvloop, and return the result.

    Of several errors, only the first error is raised. Pages and logs have other readers than the terminal. So
    printed commands name the absolute place of ``source``.
    """
    set_caller(find_program(absolute=True), source.find_absolute(os.environ).options)
    faulthandler.enable()  # after an abort, as by systemd's watchdog, all stacks are printed
    os.umask(0o077)  # prompts and the hashes of keys are for the owner only
    try:
        return uvloop.run(main)
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from group
