"""Processes of a run, wherever they have moved: what left the command's process group, and what a server left that was killed.

They are known by the run's output file in the environment that the command was given and its children inherit (proc(5), environ), and by
being children of such a process. That file is in the folder of one server; the id alone would also be that of a run in a copied database.
One that empties its environment and outlives its parent is out of sight; only a control group would hold it.
"""

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

RUN_VARIABLE: Final = "OUTPUT_FILE"
"""The variable that names the run's output, and so the run."""

_PROC: Final = Path("/proc")
_POLL_INTERVAL: Final = 0.05
_KILL_TIMEOUT: Final = 5.0
"""Seconds until a process that was killed is gone: longer only when it hangs in the kernel."""


def find_processes(output: Path) -> set[int]:
    """The numbers of its processes. Reads all of ``/proc``: milliseconds, on a thread."""
    mark = os.fsencode(f"{RUN_VARIABLE}={output}")
    found = {process for process in _list_processes() if mark in _read_environment(process)}
    return found | _find_descendants(found) if found else found


async def end_processes(output: Path, grace: float) -> None:
    """End whatever is left of a run: SIGTERM, and SIGKILL for what is there after ``grace`` seconds."""
    clock = asyncio.get_running_loop().time
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, _KILL_TIMEOUT)):
        left, deadline = await asyncio.to_thread(_send_signal, output, number), clock() + seconds
        while left and clock() < deadline:
            await asyncio.sleep(_POLL_INTERVAL)
            left = await asyncio.to_thread(find_processes, output)
        if not left:
            return


def _send_signal(output: Path, number: signal.Signals) -> set[int]:
    """Send a signal to all processes of a run, and to none that comes to one of their numbers meanwhile; those that there were."""
    with ExitStack() as closing:
        held = dict(_open_descriptors(find_processes(output), closing))
        for process in held.keys() & find_processes(output):
            with suppress(OSError):  # it is gone, or not ours
                signal.pidfd_send_signal(held[process], number)
        return set(held)


def _open_descriptors(processes: set[int], closing: ExitStack) -> Iterator[tuple[int, int]]:
    """Each process with a descriptor that stays its own (pidfd_open(2)), as long as there is one."""
    for process in processes:
        with suppress(OSError):
            descriptor = os.pidfd_open(process)
            closing.callback(os.close, descriptor)
            yield process, descriptor


def _list_processes() -> Iterator[int]:
    return (int(each.name) for each in _PROC.iterdir() if each.name.isdecimal() and int(each.name) != os.getpid())


def _read_environment(process: int) -> list[bytes]:
    """What it was started with; nothing of one that is gone, or another user's."""
    try:
        return (_PROC / str(process) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _find_descendants(roots: set[int]) -> set[int]:
    children: defaultdict[int, list[int]] = defaultdict(list)
    for process in _list_processes():
        children[_read_parent(process)].append(process)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def _read_parent(process: int) -> int:
    """Of a process that is gone: 0. The name before it may hold blanks and parentheses, so that only what follows the last one counts."""
    try:
        status = (_PROC / str(process) / "stat").read_text(errors="replace")
    except OSError:
        return 0
    return int(status.rpartition(")")[2].split()[1])
