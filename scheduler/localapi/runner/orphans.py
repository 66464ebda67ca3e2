"""Processes of a run, also outside the command's process group or after the server was killed.

The processes have the run's output file in the environment, which the command receives and children inherit
(proc(5), environ), or are children of such a process. The output file is in the folder of a single server;
the id alone could also belong to a run in a copied database. A process that empties the environment and
outlives the parent is invisible; only a control group would hold this process.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from scheduler.localapi.runner.subreaper import list_children

RUN_VARIABLE: Final = "OUTPUT_FILE"
"""The variable that names the run's output, and thereby the run."""

_PROC: Final = Path("/proc")
_POLL_INTERVAL: Final = 0.05
_KILL_TIMEOUT: Final = 5.0
"""Seconds until a killed process is gone: longer only for a process that hangs in the kernel."""


def find_processes(output: Path) -> set[int]:
    """Find the process ids of a run. Reads all of ``/proc``: milliseconds, on a thread."""
    mark = os.fsencode(f"{RUN_VARIABLE}={output}")
    numbers = {int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()}
    processes = {number for number in numbers - {os.getpid()} if mark in _read_environment(number)}
    waiting = list(processes)
    while waiting:
        children = set(list_children(waiting.pop())) - processes - {os.getpid()}
        processes |= children
        waiting += children
    return processes


async def end_processes(output: Path, grace: float) -> None:
    """End the remaining processes of a run: SIGTERM, and SIGKILL after ``grace`` seconds."""
    clock = asyncio.get_running_loop().time
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, _KILL_TIMEOUT)):
        remaining, deadline = await asyncio.to_thread(_send_signal, output, number), clock() + seconds
        while remaining and clock() < deadline:
            await asyncio.sleep(_POLL_INTERVAL)
            remaining = await asyncio.to_thread(find_processes, output)
        if not remaining:
            return


def _send_signal(output: Path, number: signal.Signals) -> set[int]:
    """Send a signal to all processes of a run. Return the processes found.

    A process that receives a reused process id meanwhile gets no signal.
    """
    with ExitStack() as closing:
        descriptors = dict(_open_descriptors(find_processes(output), closing))
        for process in descriptors.keys() & find_processes(output):
            with suppress(OSError):  # the process is gone, or belongs to another user
                signal.pidfd_send_signal(descriptors[process], number)
        return set(descriptors)


def _open_descriptors(processes: set[int], closing: ExitStack) -> Iterator[tuple[int, int]]:
    """Yield each existing process with a descriptor that always means this process (pidfd_open(2))."""
    for process in processes:
        with suppress(OSError):
            descriptor = os.pidfd_open(process)
            closing.callback(os.close, descriptor)
            yield process, descriptor


def _read_environment(process: int) -> list[bytes]:
    """Read the initial environment of a process; nothing for an ended process or another user's process."""
    try:
        return (_PROC / str(process) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
