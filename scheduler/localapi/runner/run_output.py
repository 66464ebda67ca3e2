"""The end of a run's output, for clients: a read of the database, and a read of the file on a thread.

The command may do anything with the output file: only an ordinary file is read, no link is followed, and only
the end is read. Anything that the command can put there could also be printed.
"""

import asyncio
import os
import sqlite3
import stat
from functools import partial
from pathlib import Path
from typing import Any, Final

from scheduler.database import Database
from scheduler.localapi.runner.workspace import Workspace

MAX_TAIL: Final = 16 * 1024
"""The largest number of bytes of an output in an answer."""


class RunOutputFiles:
    """The outputs of the runs in a database; ``folder`` holds the folders of the runs."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder

    async def read(self, project_id: int, run_id: str) -> dict[str, Any] | None:
        """Read the end of a run's output, as an answer; None when the project has no such run.

        The answer has the size of the whole output in bytes. Without an output, size and output are None.
        """
        status = await self._database.read(partial(_read_status, project_id=project_id, run_id=run_id))
        if status is None:
            return None
        end = await asyncio.to_thread(read_end, Workspace.locate(self._folder, run_id).output)
        size, text = (None, None) if end is None else (end[0], end[1].decode(errors="replace"))
        return {"id": run_id, "status": status, "size": size, "output": text}


def read_end(path: Path, most: int = MAX_TAIL) -> tuple[int, bytes] | None:
    """Return the size of a file and the last bytes, if possible from the beginning of a line on.

    None when the file cannot be read.
    """
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
    """Drop the text before the first line that begins here. Without a non-blank line, drop one byte."""
    rest = end.partition(b"\n")[2]
    return rest if rest.strip() else end[1:]


def _read_status(connection: sqlite3.Connection, *, project_id: int, run_id: str) -> str | None:
    row = connection.execute(
        "SELECT status FROM runs WHERE id = ? AND project_id = ?", (run_id, project_id)
    ).fetchone()
    return None if row is None else str(row["status"])
