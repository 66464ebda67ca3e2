"""One command with all that it starts: begun, listened to, given time, ended.

Apart from `runner`, which knows runs; here are only processes. Between us and the command stands `subreaper`, which lets nothing of it get
away, and ends it also when we are killed.
"""

import asyncio
import json
import os
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
"""Seconds that the subreaper has, beyond the command's grace, to kill what is left and to say so."""
_POLL_INTERVAL: Final = 0.005  # seconds
_OUTPUT_TIMEOUT: Final = 1.0
"""Seconds in which the output of processes that are gone has been read; longer only when one that could not be ended holds it open."""


class EndCause(StrEnum):
    """Who ended a command."""

    ITSELF = "itself"
    TIMEOUT = "timeout"
    STOP = "stop"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Invocation:
    """What is to be started: an argv, never a shell's line, with its whole environment."""

    argv: tuple[str, ...]
    environment: Mapping[str, str | bytes]
    folder: Path  # the working directory
    input: Path = Path(os.devnull)
    umask: int = 0o022


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a command may take, and how long it may take to end when it is told to; in seconds."""

    timeout: float
    grace: float


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended. ``exit_status`` is negative for the signal that killed it, None when nobody is left who knows it.

    ``is_clean``: nothing that it started is left. Otherwise somebody has ended or stopped the subreaper, and it has to be looked for.
    ``orphan_count``: how many processes were running when a command had ended by itself, and were ended then; ``orphan_names`` are those of
    the first hundred.
    """

    cause: EndCause
    exit_status: int | None
    is_clean: bool = True
    orphan_count: int = 0
    orphan_names: tuple[str, ...] = ()


async def carry_out(
    command: Invocation, limits: Limits, interruption: "asyncio.Future[EndCause]", printed: Callable[[bytes], None]
) -> CommandResult:
    """Run a command to its end, which comes at the latest with ``limits``, or when somebody interrupts, and then end what it has started.

    ``printed`` is given what it prints, on standard output and standard error. Raises OSError when it cannot be started.
    """
    subreaper = await _Subreaper.start(command, limits.grace, printed)
    try:
        await asyncio.wait((subreaper.command_end, interruption), timeout=limits.timeout, return_when=asyncio.FIRST_COMPLETED)
        by = EndCause.ITSELF if subreaper.command_end.done() else interruption.result() if interruption.done() else EndCause.TIMEOUT
        last = await subreaper.finish(limits.grace + _END_TIMEOUT)
        said = await subreaper.command_end
    finally:
        await subreaper.close()
    if "errno" in said:
        raise OSError(said["errno"], os.strerror(said["errno"]))
    names = tuple(bytes.fromhex(name).decode(errors="replace") for name in last.get("names", ()))
    return CommandResult(by, said.get("exit_status"), last.get("left") == 0, last.get("ended", 0), names)


class _Subreaper:
    """The process that stands between us and a command, at our end of its socket and of the command's output.

    ``command_end`` is what it says when the command has ended; nothing if it was killed.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._listener: _Listener | None = None
        self.command_end = asyncio.create_task(self._read_message())

    @classmethod
    async def start(cls, command: Invocation, grace: float, printed: Callable[[bytes], None]) -> "_Subreaper":
        """Start it, and with it the command. Raises OSError."""
        process, ours, heard = _start_subreaper(command, grace)
        subreaper = cls(process, *await asyncio.open_unix_connection(sock=ours))
        _, subreaper._listener = await asyncio.get_running_loop().connect_read_pipe(lambda: _Listener(printed), heard)
        return subreaper

    async def finish(self, seconds: float) -> dict[str, Any]:
        """Have it end the command, if that has not ended, and all that is left of it. Return what it says of that.

        Nothing when it has not done so in time, or was killed. In any case it has ended then.
        """
        said: dict[str, Any] = {}
        with suppress(ConnectionError):
            self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.wait((self.command_end,))
                said = await self._read_message()
        self._process.kill()
        return said

    async def close(self) -> None:
        """Take the last of the output, and leave nothing behind."""
        self._writer.close()
        if self._listener is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._listener.closed.wait(), _OUTPUT_TIMEOUT)
            self._listener.close()
            await self._listener.closed.wait()
        while self._process.poll() is None:  # noqa: ASYNC110 - a thread that waits cannot be had where a run has used them all up
            await asyncio.sleep(_POLL_INTERVAL)
        self.command_end.cancel()

    async def _read_message(self) -> dict[str, Any]:
        with suppress(ConnectionError):
            if line := await self._reader.readline():
                said: dict[str, Any] = json.loads(line)
                return said
        return {}


def _start_subreaper(command: Invocation, grace: float) -> "tuple[subprocess.Popen[bytes], socket.socket, BinaryIO]":
    """Start the subreaper of a command; our ends of its socket and of its output come with it.

    Not by the event loop, whose makers differ: libuv hands a file that is no program to a shell.
    """
    with ExitStack() as closing, ExitStack() as closing_on_error:
        ours, theirs = socket.socketpair()
        closing_on_error.enter_context(ours)
        closing.enter_context(theirs)
        read, write = os.pipe()
        heard = closing_on_error.enter_context(os.fdopen(read, "rb"))
        printing = closing.enter_context(os.fdopen(write, "wb"))
        descriptors = theirs.fileno(), heard.fileno()
        process = subprocess.Popen(  # noqa: S603 - to run what is configured is what this is for
            (sys.executable, "-I", "-S", str(_SUBREAPER), *map(str, descriptors), str(grace), *command.argv),
            stdin=closing.enter_context(command.input.open("rb")),
            stdout=printing,
            stderr=subprocess.STDOUT,
            cwd=command.folder,
            env=command.environment,
            umask=command.umask,
            pass_fds=descriptors,
            start_new_session=True,  # a terminal's Ctrl-C is for the server
        )
        closing_on_error.pop_all()
    return process, ours, heard


class _Listener(asyncio.Protocol):
    """Hands on what comes out of a pipe."""

    def __init__(self, printed: Callable[[bytes], None]) -> None:
        self._on_output = printed
        self._transport: asyncio.BaseTransport | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._on_output(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self.closed.set()

    def close(self) -> None:
        """Listen no longer."""
        if self._transport is not None:
            self._transport.close()
