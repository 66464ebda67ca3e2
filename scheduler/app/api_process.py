"""The embedded API as a child of `scheduler up`: a process of its own, so that no client of the API can delay a fire.

Parent and child hold the two ends of a socket, which is the child's standard input. The child says there that it answers. Each end closes
with its process, however that ends, kill -9 included: the child stops when its parent is gone, and the parent when its child is.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from scheduler.localapi.child_process import kill_child

_STANDARD_INPUT: Final = 0
_READY: Final = b"ready\n"
STOP_WITHIN: Final = 30.0
"""Seconds for the API to stop. Its runs have 10 s of them after SIGTERM."""
_SIGNAL_BASE: Final = 128
"""A shell adds the number of the signal that ended a process to this, for an exit status."""
_SUPERVISION: Final = frozenset({"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"})
"""Variables by which systemd talks to the parent alone."""


class Parent:
    """The process that started this one, as this one sees it."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=os.dup(_STANDARD_INPUT))
        self._socket.settimeout(0.0)
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
            os.dup2(nothing.fileno(), _STANDARD_INPUT)  # what runs start must not hold the socket
        for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to both; the parent decides what follows
            signal.signal(number, signal.SIG_IGN)

    def tell_ready(self) -> None:
        """Tell the parent that requests are answered; not when the parent is gone."""
        try:
            self._socket.send(_READY)
        except OSError:
            return

    def watch(self, gone: Callable[[], None]) -> None:
        """Call ``gone`` when the parent has ended, or wants this process to."""
        loop = asyncio.get_running_loop()

        def handle_end() -> None:
            loop.remove_reader(self._socket)
            gone()

        loop.add_reader(self._socket, handle_end)  # the parent never sends: readable means closed


class Child:
    """The embedded API's process, as its parent sees it."""

    def __init__(self, process: asyncio.subprocess.Process, ours: socket.socket) -> None:
        self._process = process
        self._socket = ours

    async def wait_ready(self) -> bool:
        """Wait until requests are answered. False when the process ended instead, having said why."""
        return await asyncio.get_running_loop().sock_recv(self._socket, len(_READY)) == _READY

    async def wait(self) -> int:
        """Wait for its end, and return its exit status as a shell reports it."""
        status = await self._process.wait()
        return status if status >= 0 else _SIGNAL_BASE - status

    async def stop(self) -> int:
        """Have it end its runs and stop, kill it when it takes too long, and return its exit status."""
        self._socket.close()
        try:
            return await asyncio.wait_for(self.wait(), STOP_WITHIN)
        except TimeoutError:
            sys.stderr.write(f"error: the embedded API has not stopped within {STOP_WITHIN:.0f} s; it is killed\n")
        kill_child(self._process)
        return await self.wait()


@asynccontextmanager
async def start_api(folder: Path) -> AsyncIterator[Child]:
    """Start `scheduler serve` for a state directory; it is stopped when the block ends."""
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
