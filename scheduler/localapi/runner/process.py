"""A single command with all processes started by the command: start, output, time limit, end.

The module `runner` knows runs; this module knows only processes. `subreaper` stands between the server and
the command: no process of the command escapes, and the processes end also when the server is killed.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final

_SUBREAPER: Final = Path(__file__).with_name("subreaper.py")
_END_TIMEOUT: Final = 15.0
"""Seconds for the subreaper, beyond the command's grace, to kill the remaining processes and to report."""
_PIECE: Final = 2**16  # bytes
_POLL_INTERVAL: Final = 0.005  # seconds
_OUTPUT_TIMEOUT: Final = 1.0
"""Seconds to read the output after the end of the processes.

Reading takes longer only when a process that could not be ended holds the pipe open.
"""


class EndCause(StrEnum):
    """The cause of a command's end."""

    ITSELF = "itself"
    TIMEOUT = "timeout"
    STOP = "stop"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A command to start: an argv, never a line for a shell, with the complete environment and the limits."""

    argv: tuple[str, ...]
    environment: Mapping[str, str | bytes]
    folder: Path  # the working directory
    stdin: Path
    umask: int
    timeout: float  # seconds
    grace: float  # seconds to end after SIGTERM


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended.

    ``exit_status`` is negative for the number of the killing signal, None when nobody knows the status any
    more. ``is_clean``: none of the started processes is left. Otherwise the subreaper was ended or stopped,
    and the processes have to be searched. ``orphan_count``: the number of processes that were running after
    the command had ended by itself, and were ended afterwards; ``orphan_names`` are the names of the first
    hundred.
    """

    cause: EndCause
    exit_status: int | None
    is_clean: bool = True
    orphan_count: int = 0
    orphan_names: tuple[str, ...] = ()


async def carry_out(
    command: Invocation, interruption: "asyncio.Future[EndCause]", on_output: Callable[[bytes], None]
) -> CommandResult:
    """Run a command to the end, and end all processes started by the command.

    The command ends at the latest at its time limit or with an interruption. ``on_output`` receives
    standard output and standard error. Raises OSError when the command cannot be started.
    """
    subreaper = await _Subreaper.start(command, on_output)
    try:
        ends = subreaper.command_end, interruption
        await asyncio.wait(ends, timeout=command.timeout, return_when=asyncio.FIRST_COMPLETED)
        cause = interruption.result() if interruption.done() else EndCause.TIMEOUT
        if subreaper.command_end.done():
            cause = EndCause.ITSELF
        last_report = await subreaper.finish(command.grace + _END_TIMEOUT)
        report = await subreaper.command_end
    finally:
        await subreaper.close()
    if "errno" in report:
        raise OSError(report["errno"], os.strerror(report["errno"]))
    names = tuple(bytes.fromhex(name).decode(errors="replace") for name in last_report.get("names", ()))
    is_clean, orphan_count = last_report.get("left") == 0, last_report.get("ended", 0)
    return CommandResult(cause, report.get("exit_status"), is_clean, orphan_count, names)


class _Subreaper:
    """The process between the server and a command, with the server's ends of the socket and of the output.

    ``command_end`` is the report on the command's end; empty when the subreaper was killed.
    """

    _pipe: asyncio.BaseTransport
    _listener: asyncio.Task[None]

    def __init__(
        self, process: "subprocess.Popen[bytes]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.command_end = asyncio.create_task(self._read_report())

    @classmethod
    async def start(cls, command: Invocation, on_output: Callable[[bytes], None]) -> "_Subreaper":
        """Start the subreaper, and with the subreaper the command. Raises OSError."""
        process, server_end, pipe = _start_subreaper(command)
        subreaper = cls(process, *await asyncio.open_unix_connection(sock=server_end))
        output = asyncio.StreamReader()
        subreaper._pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), pipe
        )
        subreaper._listener = asyncio.create_task(_pass_on(output, on_output))
        return subreaper

    async def finish(self, seconds: float) -> dict[str, Any]:
        """Let the subreaper end the command, unless it has ended, and all remaining processes.

        Return the report. The report is empty when the subreaper was too late or was killed. In any case the
        subreaper has ended after this call.
        """
        report: dict[str, Any] = {}
        with suppress(ConnectionError):
            self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.wait((self.command_end,))
                report = await self._read_report()
        self._process.kill()
        return report

    async def close(self) -> None:
        """Read the rest of the output, and release all resources."""
        self._writer.close()
        await asyncio.wait({self._listener}, timeout=_OUTPUT_TIMEOUT)
        self._pipe.close()
        await self._listener
        while self._process.poll() is None:  # noqa: ASYNC110 - a thread that waits cannot be had where a run has used them all up
            await asyncio.sleep(_POLL_INTERVAL)
        self.command_end.cancel()

    async def _read_report(self) -> dict[str, Any]:
        report: dict[str, Any] = {}
        with suppress(ConnectionError):
            report = json.loads(await self._reader.readline() or b"{}")
        return report


def _start_subreaper(command: Invocation) -> "tuple[subprocess.Popen[bytes], socket.socket, BinaryIO]":
    """Start the subreaper of a command. Return the server's ends of the socket and of the output too.

    The event loop does not start the process, because implementations differ: libuv gives a file that is no
    program to a shell.
    """
    with ExitStack() as closing, ExitStack() as closing_on_error:
        server_end, subreaper_end = socket.socketpair()
        closing_on_error.enter_context(server_end)
        closing.enter_context(subreaper_end)
        read, write = os.pipe()
        pipe = closing_on_error.enter_context(os.fdopen(read, "rb"))
        stdout = closing.enter_context(os.fdopen(write, "wb"))
        descriptors = subreaper_end.fileno(), pipe.fileno()
        process = subprocess.Popen(  # noqa: S603 - to run what is configured is what this is for
            (sys.executable, "-I", "-S", _SUBREAPER, *map(str, (*descriptors, command.grace)), *command.argv),
            stdin=closing.enter_context(command.stdin.open("rb")),
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=command.folder,
            env=command.environment,
            umask=command.umask,
            pass_fds=descriptors,
            start_new_session=True,  # a terminal's Ctrl-C is for the server
        )
        closing_on_error.pop_all()
    return process, server_end, pipe


async def _pass_on(reader: asyncio.StreamReader, on_output: Callable[[bytes], None]) -> None:
    with suppress(OSError):
        while content := await reader.read(_PIECE):
            on_output(content)


def kill_child(process: asyncio.subprocess.Process) -> None:
    """Kill a child process of asyncio, unless the process has ended.

    `asyncio.subprocess.Process.kill` waits for the process first, before Python 3.12.8
    (https://github.com/python/cpython/issues/127049). When the process ends just then, asyncio's own thread
    finds no exit status, and prints "Unknown child process" on standard error.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):  # it has ended just now
            os.kill(process.pid, signal.SIGKILL)


async def end_child(process: asyncio.subprocess.Process) -> None:
    """Kill a child process, read its output to the end, and wait until asyncio knows the exit status.

    A cancellation meanwhile is raised afterwards: asyncio warns about a process whose loop ends first.
    """
    kill_child(process)
    ending = asyncio.ensure_future(process.communicate())
    cancellation: asyncio.CancelledError | None = None
    while not ending.done():
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation
