"""One command as a process group of its own: started, given time, ended.

Apart from `runner`, which knows runs; here are only processes. Files, not pipes, are a command's input and output: nobody has to
pump them, a command that reads nothing blocks nobody, and what was printed is on disk whatever becomes of us.
"""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from subprocess import STDOUT, Popen


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
    group = _Group(command)
    try:
        by = await _first(group.exited, limits, stop)
        if by is not EndedBy.ITSELF:
            await _terminate(group, limits.grace)
    finally:
        exit_status = group.close()
    return Ended(by, exit_status)


class _Group:
    """A started command, as the leader of a process group. ``exited`` is set when the leader has; the others may go on.

    It is started by `subprocess`, not by the event loop, whose makers differ: libuv hands a file that is no program to a shell. Its
    end is heard of through a file descriptor of the process (pidfd_open(2)), which any loop can watch.
    """

    def __init__(self, command: Command) -> None:
        with command.input.open("rb") as given, command.output.open("ab") as printed:
            self._leader = Popen(  # noqa: S603 - to run what is configured is what this is for
                command.argv,
                stdin=given,
                stdout=printed,
                stderr=STDOUT,
                cwd=command.folder,
                env=command.environment,
                start_new_session=True,  # a process group of its own, and no terminal
            )
        self.exited = asyncio.Event()
        try:
            self._descriptor = os.pidfd_open(self._leader.pid)
        except OSError:  # no file descriptor is left: what cannot be watched must not go on
            self.signal(signal.SIGKILL)
            self._leader.wait()
            raise
        asyncio.get_running_loop().add_reader(self._descriptor, self.exited.set)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the group."""
        with suppress(ProcessLookupError):
            os.killpg(self._leader.pid, number)

    def close(self) -> int:
        """Kill whatever is left of the group, and take the leader's exit status."""
        # The leader is waited for last: until then its number is its own, and the signal can reach nobody else's group.
        self.signal(signal.SIGKILL)
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        return self._leader.wait()


async def _first(exited: asyncio.Event, limits: Limits, stop: asyncio.Event) -> EndedBy:
    """Wait for whichever comes first: the command's own end, its time limit, or ``stop``."""
    waiting = [asyncio.create_task(event.wait()) for event in (exited, stop)]
    try:
        await asyncio.wait(waiting, timeout=limits.timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    if exited.is_set():
        return EndedBy.ITSELF
    return EndedBy.STOP if stop.is_set() else EndedBy.TIMEOUT


async def _terminate(group: _Group, grace: float) -> None:
    group.signal(signal.SIGTERM)
    with suppress(TimeoutError):
        await asyncio.wait_for(group.exited.wait(), grace)
        return
    group.signal(signal.SIGKILL)
    await group.exited.wait()
