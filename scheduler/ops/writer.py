"""The writer of log lines: a thread of its own, so slow readers never delay the caller.

A terminal stopped with Ctrl-S, a full pipe without a reader, and a hanging disk would each stop the loop that
fires, if the loop wrote there. The thread writes all waiting lines in one call. Lines beyond the limit are
dropped and counted. The thread only copies bytes. Costly work happens before, since two busy threads take
turns of milliseconds.
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
"""Limit for waiting lines, a few megabytes."""
_PATIENCE: Final = 2.0  # seconds for a reader to read the remaining lines at the end


class LogWriter(Generic[T]):
    """A queue of lines, and the thread that writes the lines to ``out`` in order.

    ``out`` writes as many lines as possible, and returns the number of lines not written. ``lost`` makes the
    line with the number of lost lines.
    """

    def __init__(
        self, out: Callable[[Sequence[T]], int], *, lost: Callable[[int], T], limit: int = MAX_LINES
    ) -> None:
        self._out = out
        self._limit = limit
        self._make_loss_line = lost
        # an event is set when all earlier lines are written
        self._lines: SimpleQueue[T | threading.Event | None] = SimpleQueue()
        self._lost = 0
        self._count_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: T) -> None:
        """Queue one line. Never waits and never raises."""
        if self._lines.qsize() < self._limit:
            self._lines.put(line)
        else:
            self._count_lost(1)

    def flush(self, patience: float = _PATIENCE) -> None:
        """Wait until all earlier lines are written, at most ``patience`` seconds.

        More lines may follow.
        """
        written = threading.Event()
        self._lines.put(written)
        written.wait(patience)

    def close(self, patience: float = _PATIENCE) -> None:
        """Write the remaining lines, for at most ``patience`` seconds.

        A blocked reader must not keep the process from ending.
        """
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
        """Wait for lines. Return all waiting lines, and the event to set when they are written.

        The event is None when no lines follow.
        """
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
        """Write lines. Return whether the output works: at least one line was written, or none was lost.

        Without a working log the daemon continues: the ledger is the record.
        """
        try:
            lost = self._out(lines)
        except Exception:  # noqa: BLE001  a log line about the error would be lost too
            lost = len(lines)
        self._count_lost(lost)
        return lost == 0 or lost < len(lines)

    def _count_lost(self, lines: int) -> None:
        with self._count_lock:
            self._lost += lines


class StreamOutput:
    """The output of lines, given without line ends, to the file under ``stream``.

    A failed write counts as no line written.
    """

    def __init__(self, stream: TextIO) -> None:
        with contextlib.suppress(OSError):
            stream.flush()  # earlier output stays before the log
        self._file = stream.fileno()
        self._encoding = stream.encoding or "utf-8"
        self._is_torn = False  # the last line in the file has no end

    def __call__(self, lines: Sequence[str]) -> int:
        """Write lines. Return the number of lines that could not be written."""
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
            except BlockingIOError:  # another process on the same terminal has set it non-blocking
                poll = select.poll()
                poll.register(self._file, select.POLLOUT)
                poll.poll()
                continue
            self._is_torn = content[sent - 1 : sent] != b"\n"
            content = content[sent:]
