"""Ends child processes of asyncio."""

import asyncio.subprocess
import os
import signal
from contextlib import suppress


def kill_child(process: asyncio.subprocess.Process) -> None:
    """Kill a child process, unless the process has ended.

    `asyncio.subprocess.Process.kill` waits for the process first, before Python 3.12.8
    (https://github.com/python/cpython/issues/127049). When the process ends just then, asyncio's own thread
    finds no exit status, and prints "Unknown child process" on standard error.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):  # it has ended just now
            os.kill(process.pid, signal.SIGKILL)
