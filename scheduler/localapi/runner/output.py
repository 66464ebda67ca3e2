"""The output of a run, written and read: a file of limited size.

The file has the beginning and the end of a long output. The beginning is in the file at once, for people who
look while the file grows. The end is kept in memory, and is written to the file when the command has ended,
after a line with the number of bytes left out in between.

The command may do anything with the file. For clients only an ordinary file is read, no link is followed, and
only the end is read. Anything that the command can put there could also be printed.
"""

import asyncio
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from scheduler.database import Database
from scheduler.localapi.runner.workspace import Workspace

TAIL_SIZE: Final = 16 * 1024
"""The largest number of bytes of the end of an output, in the file and in an answer."""


class Output:
    """The output of a run, to be closed.

    ``limit`` is the number of bytes to keep, apart from a short end. Raises OSError when the file cannot be
    opened. Later write errors only lose output.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._file = path.open("ab", buffering=0)
        self._room = limit
        self._printed = 0
        self._written = 0
        self.tail = b""
        """The end of the output so far: some thousand bytes."""
        self._note = ""

    def write(self, content: bytes) -> None:
        """Add printed bytes."""
        self._printed += len(content)
        self.tail = (self.tail + content[-TAIL_SIZE:])[-TAIL_SIZE:]
        if self._room > 0:
            self._append(content[: self._room])

    def add_note(self, text: str) -> None:
        """Add a line of the runner to the end of the file, in brackets.

        The line counts neither for the limit nor as the command's last output.
        """
        line_end = "" if self.tail[-1:] in {b"", b"\n"} or self._note else "\n"
        self._note += f"{line_end}[{text}]\n"

    def close(self) -> None:
        """Write the end to the file, unless written already, and the notes after the end."""
        with self._file:
            if missing := self._printed - self._written:
                tail = self.tail[-missing:]
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


async def read_run_output(
    database: Database, folder: Path, project_id: int, run_id: str
) -> dict[str, Any] | None:
    """Read the end of a run's output, as an answer; None when the project has no such run.

    ``folder`` holds the folders of the runs. The answer has the size of the whole output in bytes. Without an
    output, size and output are None.
    """
    statement = "SELECT status FROM runs WHERE id = ? AND project_id = ?"
    rows = await database.fetch_all(statement, run_id, project_id)
    if not rows:
        return None
    end = await asyncio.to_thread(read_end, Workspace(folder / run_id).output)
    size, text = (None, None) if end is None else (end[0], end[1].decode(errors="replace"))
    return {"id": run_id, "status": rows[0]["status"], "size": size, "output": text}


def read_end(path: Path, most: int = TAIL_SIZE) -> tuple[int, bytes] | None:
    """Return a file's size and the last bytes, if possible from a line's beginning on; None if unreadable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return None
            file.seek(max(0, status.st_size - most - 1))
            end = file.read(most + 1)
    except OSError:
        return None
    return status.st_size, end if status.st_size <= most else _begin_with_line(end)


def _begin_with_line(end: bytes) -> bytes:
    """Drop the text before the first line that begins here. Without a non-blank line, drop one byte."""
    rest = end.partition(b"\n")[2]
    return rest if rest.strip() else end[1:]
