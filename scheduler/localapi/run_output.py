"""The end of what a run printed, for clients that show it: one read of the database, and one of the file on a thread.

The command may do what it likes with its own output, so nothing but an ordinary file is read, no link is followed, and no more than
the end. What the command can put there, it can print.
"""

import asyncio
import os
import sqlite3
import stat
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from scheduler.database import Database
from scheduler.localapi.workspace import Workspace

MAX_TAIL: Final = 16 * 1024
"""Bytes of an output that are given away at most."""


@dataclass(frozen=True, slots=True)
class OutputFileTail:
    """The status of a run, the size of its output in bytes, and the end of that output; None for both when there is no output."""

    status: str
    size: int | None
    text: str | None


class RunOutputFiles:
    """The outputs of the runs in one database; ``folder`` holds the folders of the runs."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder

    async def read(self, project_id: int, run_id: str) -> OutputFileTail | None:
        """Read the end of a run's output; None when the project has no such run."""
        status = await self._database.read(partial(_read_status, project_id=project_id, run_id=run_id))
        if status is None:
            return None
        end = await asyncio.to_thread(read_end, Workspace.locate(self._folder, run_id).output)
        return OutputFileTail(status, None, None) if end is None else OutputFileTail(status, end[0], end[1].decode(errors="replace"))


def read_end(path: Path, most: int = MAX_TAIL) -> tuple[int, bytes] | None:
    """Return the size of a file and its last bytes, from the begin of a line on where there is one; None when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return None
            file.seek(max(0, found.st_size - most - 1))
            end = file.read(most + 1)
    except OSError:
        return None
    return found.st_size, end if found.st_size <= most else _begin_with_line(end)


def _begin_with_line(end: bytes) -> bytes:
    """Leave out what stands before the first line that begins here, or one byte, when there is no such line with anything on it."""
    rest = end.partition(b"\n")[2]
    return rest if rest.strip() else end[1:]


def _read_status(connection: sqlite3.Connection, *, project_id: int, run_id: str) -> str | None:
    row = connection.execute("SELECT status FROM runs WHERE id = ? AND project_id = ?", (run_id, project_id)).fetchone()
    return None if row is None else str(row["status"])
