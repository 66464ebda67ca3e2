"""What a command prints, as a file that cannot fill the disk: its beginning as it comes, and of what is too much the end.

The beginning is in the file at once, for who looks while it grows. The end is kept in memory, and stands in the file when the command has
ended, behind a line that says how much was left out between them.
"""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_TAIL_SIZE: Final = 16 * 1024


class Output:
    """The output of one run; a context manager. ``limit`` is how many bytes of it are kept, and then a few for its end.

    Raises OSError when the file cannot be opened. What cannot be written later is left out, and nobody is the worse for it.
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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def write(self, printed: bytes) -> None:
        """Take what was printed."""
        self._printed += len(printed)
        self._last = (self._last + printed[-_TAIL_SIZE:])[-_TAIL_SIZE:]
        if self._room > 0:
            self._append(printed[: self._room])

    @property
    def tail(self) -> bytes:
        """The end of what was printed so far: some thousand bytes."""
        return self._last

    def add_note(self, text: str) -> None:
        """Have a line of ours at the end of the file, in brackets. It counts neither for the limit nor as the command's last words."""
        line_end = "" if self._last[-1:] in {b"", b"\n"} or self._note else "\n"
        self._note += f"{line_end}[{text}]\n"

    def close(self) -> None:
        """Put the end into the file if it is not there yet, and the notes behind it."""
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
        except OSError:  # a full disk: the command goes on, it has cost its money
            written = 0
        self._written += written
        self._room = self._room - written if written == len(part) else 0
