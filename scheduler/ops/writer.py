"""Lines on their way out, so that whoever writes them never waits for a slow reader.

A terminal that is stopped with Ctrl-S, a pipe that nobody empties, a disk that hangs: each would stop the one loop that fires, if it wrote
there itself. So a thread of its own writes, all that waits in one call, and what exceeds the limit meanwhile is left out and counted.
It only ever copies bytes: what costs time is done before, since two busy threads take turns of milliseconds.
"""

import contextlib
import os
import select
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final, Generic, TextIO, TypeVar

T = TypeVar("T")

MAX_LINES: Final = 20_000
"""Lines that may wait, a few megabytes."""
_PATIENCE: Final = 2.0  # seconds in which a reader may take what is left at the end


class LogWriter(Generic[T]):
    """Hands lines to ``out`` in order, on its own thread. ``lost`` makes the line that says how many were left out.

    ``out`` writes as many of the lines that it gets as it can, and says how many it could not.
    """

    def __init__(self, out: Callable[[Sequence[T]], int], *, lost: Callable[[int], T], limit: int = MAX_LINES) -> None:
        self._out = out
        self._limit = limit
        self._make_loss_line = lost
        self._lines: SimpleQueue[T | threading.Event | None] = SimpleQueue()  # an event: is set when all before is written
        self._lost = 0
        self._count_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: T) -> None:
        """Take one line. Never waits and never raises."""
        if self._lines.qsize() < self._limit:
            self._lines.put(line)
        else:
            self._count_lost(1)

    def flush(self, patience: float = _PATIENCE) -> None:
        """Wait until all lines so far are written, for at most so many seconds. More lines may follow."""
        written = threading.Event()
        self._lines.put(written)
        written.wait(patience)

    def close(self, patience: float = _PATIENCE) -> None:
        """Write what is left, for at most so many seconds: a reader that does not read must not keep the process from ending."""
        self._lines.put(None)
        self._thread.join(patience)

    def _run(self) -> None:
        end: threading.Event | None = threading.Event()
        while end is not None:
            batch, end = self._take_batch()
            if self._try_write(batch) and self._lost:
                with self._count_lock:
                    lost, self._lost = self._lost, 0
                if not self._try_write([self._make_loss_line(lost)]):
                    self._count_lost(lost - 1)
            if end is not None:
                end.set()

    def _take_batch(self) -> tuple[list[T], threading.Event | None]:
        """Wait for lines. Return all that are there, and the event to set when they are written; None: nothing follows them."""
        batch: list[T] = []
        line = self._lines.get()
        try:
            while line is not None and not isinstance(line, threading.Event):
                batch.append(line)
                line = self._lines.get_nowait()
        except Empty:
            return batch, threading.Event()
        return batch, line

    def _try_write(self, lines: Sequence[T]) -> bool:
        """Whether the way out is open. The daemon goes on without its log when it must: the ledger is the record."""
        try:
            lost = self._out(lines)
        except Exception:  # noqa: BLE001  whatever it is, the next lines may get out, and to log it here is to lose it too
            lost = len(lines)
        self._count_lost(lost)
        return lost == 0 or lost < len(lines)

    def _count_lost(self, lines: int) -> None:
        with self._count_lock:
            self._lost += lines


class StreamOutput:
    """What writes lines, without their ends, to the file under ``stream``: all of them or, when that fails, none that count."""

    def __init__(self, stream: TextIO) -> None:
        with contextlib.suppress(OSError):
            stream.flush()  # what was printed before stays before
        self._file = stream.fileno()
        self._encoding = stream.encoding or "utf-8"
        self._is_torn = False  # the last line in the file has no end

    def __call__(self, lines: Sequence[str]) -> int:
        """How many could not be written."""
        content = "".join(f"{line}\n" for line in lines).encode(self._encoding, "backslashreplace")
        try:
            self._send(b"\n" + content if self._is_torn else content)
        except OSError:
            return len(lines)
        return 0

    def _send(self, content: bytes) -> None:
        while content:
            try:
                sent = os.write(self._file, content)
            except BlockingIOError:  # somebody who shares the terminal has set it so
                poll = select.poll()
                poll.register(self._file, select.POLLOUT)
                poll.poll()
                continue
            self._is_torn = content[sent - 1 : sent] != b"\n"
            content = content[sent:]
