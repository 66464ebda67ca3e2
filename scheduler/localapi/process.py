"""One command as a process group of its own: started, given time, ended.

Apart from `runner`, which knows runs; here are only processes. Files, not pipes, are a command's input and output: nobody has to
pump them, a command that reads nothing blocks nobody, and what was printed is on disk whatever becomes of us.
"""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class EndedBy(StrEnum):
    """Who ended a command."""

    ITSELF = "itself"
    TIMEOUT = "timeout"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Command:
    """What is to be started: an argv, never a shell's line, with its whole environment."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path  # the working directory
    input: Path
    output: Path  # standard output and standard error


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a command may take, and how long it may take to end when it is told to; in seconds."""

    timeout: float
    grace: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. ``exit_status`` is negative for the signal that killed it."""

    by: EndedBy
    exit_status: int


async def carry_out(command: Command, limits: Limits, stop: asyncio.Event) -> Ended:
    """Run a command to its end, which comes at the latest with ``limits``, or when ``stop`` is set. Nothing of its group is left.

    Raises OSError when it cannot be started.
    """
    process = await _started(command)
    try:
        by = await _first(process, limits, stop)
        if by is not EndedBy.ITSELF:
            await _terminate(process, limits.grace)
        return Ended(by, await process.wait())
    finally:
        # What the command left in the background too. A group that still has members keeps its number, so this can hit no other;
        # an empty one's number is free again, but is not given out anew within this instant.
        _signal(process, signal.SIGKILL)


async def _started(command: Command) -> Process:
    with command.input.open("rb") as given, command.output.open("ab") as printed:
        return await asyncio.create_subprocess_exec(
            *command.argv,
            stdin=given,
            stdout=printed,
            stderr=asyncio.subprocess.STDOUT,
            cwd=command.folder,
            env=command.environment,
            start_new_session=True,  # a process group of its own, and no terminal
        )


async def _first(process: Process, limits: Limits, stop: asyncio.Event) -> EndedBy:
    """Wait for whichever comes first: the command's own end, its time limit, or ``stop``."""
    ended, stopped = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({ended, stopped}, timeout=limits.timeout, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return EndedBy.ITSELF
        return EndedBy.STOP if stopped.done() else EndedBy.TIMEOUT
    finally:
        ended.cancel()
        stopped.cancel()


async def _terminate(process: Process, grace: float) -> None:
    _signal(process, signal.SIGTERM)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), grace)
        return
    _signal(process, signal.SIGKILL)


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
