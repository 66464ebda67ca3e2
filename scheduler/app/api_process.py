"""The embedded API as a child process of `scheduler up`.

The API has a separate process, so that no client of the API can delay a fire. Parent and child hold the two
ends of a socket. The child's end is its standard input. The child reports there when requests are answered.
Each end closes with its process, however the process ends, kill -9 included. The child stops when the parent
is gone, and the parent stops when the child is gone.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from scheduler.localapi.runner.process import kill_child

_STANDARD_INPUT: Final = 0
_READY: Final = b"ready\n"
STOP_WITHIN: Final = 30.0
"""Seconds for the API to stop. The runs of the API have 10 s of this time after SIGTERM."""
_SIGNAL_BASE: Final = 128
"""The offset in the exit status of a shell for a process ended by a signal.

A shell adds the number of the signal.
"""
_SUPERVISION: Final = frozenset({"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"})
"""Variables of systemd for the parent only."""


class Parent:
    """The parent process, as this process sees the parent."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=os.dup(_STANDARD_INPUT))
        self._socket.settimeout(0.0)
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
            os.dup2(nothing.fileno(), _STANDARD_INPUT)  # the children of runs must not hold the socket
        for number in (signal.SIGINT, signal.SIGHUP):  # a terminal signals both processes; the parent decides
            signal.signal(number, signal.SIG_IGN)

    def tell_ready(self) -> None:
        """Tell the parent that requests are answered. Do nothing when the parent is gone."""
        with suppress(OSError):
            self._socket.send(_READY)

    def watch(self, gone: Callable[[], None]) -> None:
        """Call ``gone`` when the parent has ended, or wants this process to end."""
        loop = asyncio.get_running_loop()

        def handle_end() -> None:
            loop.remove_reader(self._socket)
            gone()

        loop.add_reader(self._socket, handle_end)  # the parent never sends: readable means closed


class Child:
    """The process of the embedded API, as its parent sees the process."""

    def __init__(self, process: asyncio.subprocess.Process, ours: socket.socket) -> None:
        self._process = process
        self._socket = ours

    async def wait_ready(self) -> bool:
        """Wait until requests are answered. Return False when the process ended instead.

        The process has then printed the reason.
        """
        return await asyncio.get_running_loop().sock_recv(self._socket, len(_READY)) == _READY

    async def wait(self) -> int:
        """Wait for the end of the process, and return the exit status as a shell reports the status."""
        status = await self._process.wait()
        return status if status >= 0 else _SIGNAL_BASE - status

    async def stop(self) -> int:
        """Stop the process and its runs, and return the exit status.

        A process that does not stop within `STOP_WITHIN` is killed.
        """
        self._socket.close()
        try:
            return await asyncio.wait_for(self.wait(), STOP_WITHIN)
        except TimeoutError:
            error = f"the embedded API has not stopped within {STOP_WITHIN:.0f} s; it is killed"
            sys.stderr.write(f"error: {error}\n")
        kill_child(self._process)
        return await self.wait()


@asynccontextmanager
async def start_api(folder: Path) -> AsyncIterator[Child]:
    """Start `scheduler serve` for a state directory, and stop the process at the end of the block."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0.0)
    environment = {name: value for name, value in os.environ.items() if name not in _SUPERVISION}
    command = (sys.executable, "-m", "scheduler", "serve", "--with-parent", "--state-dir", str(folder))
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(*command, stdin=theirs.fileno(), env=environment)
    except BaseException:
        ours.close()
        raise
    child = Child(process, ours)
    try:
        yield child
    finally:
        await child.stop()
