"""Processes of the program, quickly: a launcher has read all modules once, and each process is a fork of it.

To read the modules takes an interpreter over a second of processor time, and a fork a tenth of that. The
launcher is a process of its own without threads and connections: what it forks has the arguments, the
environment and the three streams that it is given, and nothing else. What needs a library preloaded, or has
to be another program, is started as usual.
"""

import asyncio
import atexit
import gc
import json
import os
import pkgutil
import runpy
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Final

import scheduler

PROGRAM: Final = (sys.executable, "-m", "scheduler")

_ROOT: Final = Path(__file__).parents[1]
_LARGEST: Final = 2**18
"""Bytes of a request: arguments and environment."""
_STATUS: Final = struct.Struct("i")
_OTHER_PROGRAMS: Final = ("scheduler.__main__", "scheduler.localapi.runner.subreaper")


# ------------------------------------------------------------ for tests


@dataclass
class Process:
    """A process of the program. ``_end`` can be read from when the process has ended."""

    pid: int
    _end: int
    _reap: Callable[[], int | None]
    _status: int | None = None

    @property
    def returncode(self) -> int | None:
        """As of now; negative for a signal."""
        return self.poll()

    def poll(self) -> int | None:
        if self._status is None:
            self._status = self._reap()
            if self._status is not None:
                os.close(self._end)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            if not select.select([self._end], [], [], left)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return status

    async def ended(self) -> int:
        """Wait for its end; its exit status."""
        loop = asyncio.get_running_loop()
        while (status := self.poll()) is None:
            readable = loop.create_future()
            loop.add_reader(self._end, _settle, readable)
            try:
                await readable
            finally:
                loop.remove_reader(self._end)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _settle(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)


def start(
    arguments: Sequence[str], environment: Mapping[str, str], out: IO[bytes], err: IO[bytes]
) -> Process:
    """Start the program with these arguments, nothing to read, and these files to print to."""
    with Path(os.devnull).open("rb") as nothing:
        if "LD_PRELOAD" in environment:
            return _execute(arguments, environment, nothing, out, err)
        return _launcher().fork(arguments, environment, (nothing, out, err))


def carry_out(
    arguments: Sequence[str], environment: Mapping[str, str], timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Start the program, and wait until it has ended by itself."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(arguments, environment, out, err)
        try:
            process.wait(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return _make_completed(arguments, process, out, err)


async def carry_out_beside(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """The same, while the event loop goes on."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(arguments, environment, out, err)
        try:
            await process.ended()
        except BaseException:
            process.kill()
            process.wait()
            raise
        return _make_completed(arguments, process, out, err)


def _make_completed(
    arguments: Sequence[str], process: Process, out: IO[bytes], err: IO[bytes]
) -> "subprocess.CompletedProcess[str]":
    said = []
    for each in (out, err):
        each.seek(0)
        said.append(each.read().decode())
    return subprocess.CompletedProcess([*PROGRAM, *arguments], process.wait(), *said)


def _execute(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    nothing: IO[bytes],
    out: IO[bytes],
    err: IO[bytes],
) -> Process:
    process = subprocess.Popen([*PROGRAM, *arguments], env=environment, stdin=nothing, stdout=out, stderr=err)
    return Process(process.pid, os.pidfd_open(process.pid), process.poll)


class _Launcher:
    """The launcher of this process, as seen from here."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(
                command,
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self._end)

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()

    def fork(
        self, arguments: Sequence[str], environment: Mapping[str, str], streams: Sequence[IO[bytes]]
    ) -> Process:
        end, theirs = os.pipe()
        os.set_blocking(end, False)
        request = json.dumps([[*arguments], {**environment}, str(Path.cwd())]).encode()
        descriptors = [*(each.fileno() for each in streams), theirs]
        with self._lock:
            socket.send_fds(self._socket, [request], descriptors)
            os.close(theirs)
            answer = self._socket.recv(_STATUS.size)
        assert answer, f"the launcher ended with status {self._process.wait()}"
        (process,) = _STATUS.unpack(answer)
        return Process(process, end, lambda: _read_status(end))


def _read_status(end: int) -> int | None:
    try:
        status = os.read(end, _STATUS.size)
    except BlockingIOError:
        return None
    assert status, "the launcher ended"
    (found,) = _STATUS.unpack(status)
    return int(found)


@cache
def _launcher() -> _Launcher:
    return _Launcher()


# ------------------------------------------------------------ the launcher itself


def _load() -> None:
    """Read every module of the program, and leave all of this to be shared with the forks."""
    for module in pkgutil.walk_packages(scheduler.__path__, "scheduler."):
        if module.name not in _OTHER_PROGRAMS:
            __import__(module.name)
    gc.collect()
    gc.freeze()


def _serve(requests: socket.socket) -> Sequence[str]:
    """Fork on request until the tests have ended. In a fork: return the arguments."""
    ends: dict[int, tuple[int, int]] = {}  # by the descriptor of a process: its number, where to tell its end
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd in ends:
                    selector.unregister(key.fd)
                    _tell_end(key.fd, *ends.pop(key.fd))
                    continue
                request, descriptors, _, _ = socket.recv_fds(requests, _LARGEST, 4)
                if not request:
                    for process, _ in ends.values():
                        os.kill(process, signal.SIGKILL)
                    sys.exit()
                process = os.fork()
                if process == 0:
                    selector.close()
                    return _become(request, descriptors)
                for each in descriptors[:3]:
                    os.close(each)
                descriptor = os.pidfd_open(process)
                ends[descriptor] = process, descriptors[3]
                selector.register(descriptor, selectors.EVENT_READ)
                requests.send(_STATUS.pack(process))


def _tell_end(descriptor: int, process: int, end: int) -> None:
    _, status = os.waitpid(process, 0)
    with suppress(BrokenPipeError):  # nobody asks
        os.write(end, _STATUS.pack(os.waitstatus_to_exitcode(status)))
    os.close(end)
    os.close(descriptor)


def _become(request: bytes, descriptors: Sequence[int]) -> Sequence[str]:
    """Be as a new process: nothing but what the request gives."""
    arguments, environment, folder = json.loads(request)
    for number, each in enumerate(descriptors[:3]):
        os.dup2(each, number)
    os.closerange(3, max(int(each.name) for each in Path("/proc/self/fd").iterdir()) + 1)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return [str(each) for each in arguments]


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the tests and to the forks as well
    _load()
    requests = socket.socket(fileno=int(sys.argv[1]))
    sys.argv[1:] = _serve(requests)
    requests.detach()
    runpy.run_module("scheduler", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
