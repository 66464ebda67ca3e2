"""A growing file that another process writes, read piece by piece: the output of a run.

The command of the run may change the file in any way. So only a regular file is read, and reading never
waits.
"""

import os
import stat
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final

from scheduler.core.errors import Unreachable

_PIECE: Final = 64 * 1024  # bytes


class GrowingFile:
    """A growing file, which may not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read_head(self, most: int) -> bytes:
        """Read at most ``most`` bytes."""
        content = bytearray()
        with closing(self.read_rest()) as pieces:
            for piece in pieces:
                content += piece
                if len(content) >= most:
                    break
        return bytes(content[:most])

    def read_rest(self) -> Generator[bytes, None, None]:
        """Yield the bytes written since the last call, in pieces; nothing without a file.

        A truncated file is read from the beginning. Raises `Unreachable` when the file cannot be read.
        """
        try:
            with open(self._path, "rb", opener=_open_without_waiting) as file:
                if not self._is_readable(file):
                    return
                file.seek(self._offset)
                while piece := file.read(_PIECE):
                    self._offset += len(piece)
                    yield piece
        except FileNotFoundError:
            return
        except OSError as error:
            fault = f"the output {self._path} cannot be read: {error.strerror}"
            raise Unreachable(f"{fault}; run the command as the user of the server") from error

    def _is_readable(self, file: BinaryIO) -> bool:
        status = os.fstat(file.fileno())
        if status.st_size < self._offset:
            self._offset = 0
        return stat.S_ISREG(status.st_mode)


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file without waiting for the other end of a pipe, and without following a link."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
