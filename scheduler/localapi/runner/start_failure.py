"""Reasons why a program cannot be started, from the program's file.

The system's messages name neither an interpreter nor a line end. The module `run_results` is pure; this
module reads a file, and the runner calls the functions on a thread.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_MAX_LINE: Final = 256
"""The bytes of a first line that Linux reads (execve(2))."""
_DEFAULT_PATH: Final = "/bin:/usr/bin"
"""The search path for programs without ``PATH`` (posix_spawn(3))."""


def find_fault(command: Sequence[str], environment: Mapping[str, str], *, clones: bool) -> str | None:
    """Return why every run will fail, as far as known before the first run; None without a known reason.

    ``environment`` is the environment of a run. ``clones``: runs begin in a clone, made by git, and the clone
    may hold the program.
    """
    if not command:
        return "there is no command: set it to your agent."
    if clones and (fault := _find_program_fault("git", environment)) is not None:
        return fault
    program = command[0]
    if "/" not in program or program.startswith("/"):
        return _find_program_fault(program, environment)
    if clones:
        return None
    return (
        f"{program!r} is looked for in each run's working directory, which is empty: write its absolute path."
    )


def _find_program_fault(program: str, environment: Mapping[str, str]) -> str | None:
    if _find_program(program, environment, Path("/")) is not None:
        return explain_start_failure(program, environment, Path("/"))
    if "/" in program:
        return f"{program!r} is not there: correct it."
    return (
        f"{program!r} is in no folder of the server's PATH, "
        f"{environment.get('PATH', _DEFAULT_PATH)}: correct it, or write its absolute path."
    )


def explain_start_failure(program: str, environment: Mapping[str, str | bytes], folder: Path) -> str | None:
    """Explain by the program's file why a program could not be started in ``folder``, or return None."""
    path = _find_program(program, environment, folder)
    if path is None:
        return None
    try:
        if not _is_executable(path):
            return f"{str(path)!r} is not executable: chmod +x."
        line = _read_first_line(path)
    except OSError:
        return None
    if line is None:
        return None
    if not line.startswith(b"#!"):
        return (
            f"{str(path)!r} is no program for this machine, and its first line names no interpreter, "
            "such as #!/bin/sh."
        )
    return _explain_line_end(path, line) or _explain_interpreter(path, _name_interpreter(line), folder)


def explain_line_end(program: str, environment: Mapping[str, str | bytes], folder: Path) -> str | None:
    """Return a sentence for a script with CR LF at the end of the first line; None otherwise.

    ``#!/usr/bin/env NAME`` starts, and env does not find the NAME.
    """
    path = _find_program(program, environment, folder)
    with suppress(OSError):
        if path is not None and (line := _read_first_line(path)) is not None:
            return _explain_line_end(path, line)
    return None


def _find_program(program: str, environment: Mapping[str, str | bytes], folder: Path) -> Path | None:
    if "/" in program:
        return folder / program if (folder / program).is_file() else None
    searched = os.fsdecode(environment.get("PATH", _DEFAULT_PATH)).split(":")
    return next((path for entry in searched if (path := folder / entry / program).is_file()), None)


def _is_executable(path: Path) -> bool:
    return bool(path.stat().st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH))


def _read_first_line(path: Path) -> bytes | None:
    """Read the first line of an ordinary file, without LF; None for a program in ELF. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # no wait, whatever the file has become meanwhile
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        begin = file.read(_MAX_LINE)
    return None if begin.startswith(b"\x7fELF") else begin.partition(b"\n")[0]


def _name_interpreter(line: bytes) -> str:
    words = line[2:].replace(b"\t", b" ").split(b" ")
    return next((os.fsdecode(word) for word in words if word), "")


def _explain_line_end(path: Path, line: bytes) -> str | None:
    if not line.startswith(b"#!") or not line.endswith(b"\r"):
        return None
    return (
        f"The first line of {str(path)!r} ends with CR LF, as on Windows: save the file with LF at the "
        "ends of lines."
    )


def _explain_interpreter(path: Path, interpreter: str, folder: Path) -> str | None:
    subject = f"The interpreter {interpreter!r}, which the first line of {str(path)!r} names,"
    try:
        is_executable = _is_executable(folder / interpreter)
    except (OSError, ValueError):  # a NUL cannot be in a path
        return f"{subject} is not there."
    return None if is_executable else f"{subject} is not executable."
