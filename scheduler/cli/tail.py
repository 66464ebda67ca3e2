"""A file that somebody else still writes to, read bit by bit: the output of a run.

The command that prints it may also do what it likes with the file, so nothing but an ordinary file is read, and nothing is waited for.
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
    """A file, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read_head(self, most: int) -> bytes:
        """So many bytes at most."""
        content = bytearray()
        with closing(self.read_rest()) as pieces:
            for piece in pieces:
                content += piece
                if len(content) >= most:
                    break
        return bytes(content[:most])

    def read_rest(self) -> Generator[bytes, None, None]:
        """What was written since the last time, in pieces; nothing while there is no file. One that was emptied begins anew.

        Raises `Unreachable` when it cannot be read.
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
            raise Unreachable(
                f"the output {self._path} cannot be read: {error.strerror}; ask as the user that the server runs as"
            ) from error

    def _is_readable(self, file: BinaryIO) -> bool:
        found = os.fstat(file.fileno())
        if found.st_size < self._offset:
            self._offset = 0
        return stat.S_ISREG(found.st_mode)


def _open_without_waiting(path: str, flags: int) -> int:
    """Open without waiting for whoever is at the other end of a pipe, and without following a link."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
