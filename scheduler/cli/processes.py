"""What the commands that do not end by themselves have in common."""

import faulthandler
import os
import shlex
import shutil
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvloop

_T = TypeVar("_T")


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Carry out a process's main coroutine on the fast loop, and return its result; of several errors the first is raised alone."""
    faulthandler.enable()  # what is aborted, as by systemd's watchdog, says where all of its threads were
    os.umask(0o077)  # prompts and the hashes of keys are nobody else's business
    try:
        return uvloop.run(main)
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def program() -> str:
    """How this program was called, so that the commands that it prints work as they are printed."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m scheduler"
    if shutil.which(called.name) and Path(shutil.which(called.name) or "").resolve() == called.resolve():
        return called.name
    return shlex.quote(str(called))
