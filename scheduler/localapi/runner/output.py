"""The output of a command, as a file of limited size: the beginning and the end of a long output.

The beginning is in the file at once, for people who look while the file grows. The end is kept in memory, and
is written to the file when the command has ended, after a line with the number of bytes left out in between.
"""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_TAIL_SIZE: Final = 16 * 1024


class Output:
    """The output of a run; a context manager.

    ``limit`` is the number of bytes to keep, apart from a short end. Raises OSError when the file cannot be
    opened. Later write errors only lose output.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._file = path.open("ab", buffering=0)
        self._room = limit
        self._printed = 0
        self._written = 0
        self._last = b""
        self._note = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, printed: bytes) -> None:
        """Add printed bytes."""
        self._printed += len(printed)
        self._last = (self._last + printed[-_TAIL_SIZE:])[-_TAIL_SIZE:]
        if self._room > 0:
            self._append(printed[: self._room])

    @property
    def tail(self) -> bytes:
        """The end of the output so far: some thousand bytes."""
        return self._last

    def add_note(self, text: str) -> None:
        """Add a line of the runner to the end of the file, in brackets.

        The line counts neither for the limit nor as the command's last output.
        """
        line_end = "" if self._last[-1:] in {b"", b"\n"} or self._note else "\n"
        self._note += f"{line_end}[{text}]\n"

    def close(self) -> None:
        """Write the end to the file, unless written already, and the notes after the end."""
        with self._file:
            if missing := self._printed - self._written:
                tail = self._last[-missing:]
                with suppress(OSError):
                    self._file.write(b"\n[... %d bytes left out ...]\n" % (missing - len(tail)) + tail)
            if self._note:
                with suppress(OSError):
                    self._file.write(self._note.encode())

    def _append(self, part: bytes) -> None:
        try:
            written = self._file.write(part)
        except OSError:  # a full disk: the command goes on, because the run has cost money
            written = 0
        self._written += written
        self._room = self._room - written if written == len(part) else 0
