"""A lock file beside a database: the right of one process, as long as the process lives.

The lock is the kernel's (flock), so that the lock is free the moment its holder has ended, however the holder
ended. The file stays. Its text is for people, and names the holder. A released lock has no text, and a killed
holder leaves its text.
"""

import asyncio
import fcntl
import os
from pathlib import Path
from typing import ClassVar, Final, Self

from scheduler.core.errors import LedgerUnavailable

LOOK_EVERY: Final = 2.0
"""Seconds between two looks at the file of a held lock."""
_MOST: Final = 4096  # the largest number of bytes read from a holder's text


class LockFile:
    """A held lock. Subclasses name the file, its ``mode``, and for messages its ``user`` and ``database``."""

    mode: ClassVar[int]
    user: ClassVar[str]
    database: ClassVar[str]

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def try_lock(cls, path: Path, text: str) -> Self | None:
        """Lock the file and write ``text``; None when another process has the lock, see `read_holder`.

        Does not wait. Raises `LedgerUnavailable` when the file cannot be opened, locked or written.
        """
        descriptor = cls._open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # removed between open and flock; the next process locks another file
            if not _is_at(path, descriptor):
                os.close(descriptor)
                return cls.try_lock(path, text)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{text}\n".encode(), 0)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            remedy = f"put {cls.database} on a local disk that has room"
            raise LedgerUnavailable(f"{path}: {error.strerror}; {remedy}") from error
        return cls(path, descriptor)

    @classmethod
    def _open(cls, path: Path) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, cls.mode)
        except OSError as error:
            remedy = f"check that its folder exists and that {cls.user} may write there"
            raise LedgerUnavailable(f"{path}: {error.strerror}; {remedy}") from error

    def is_held(self) -> bool:
        """Return whether the lock keeps other processes out: the locked file is still in place.

        While the file is in place, no other process can take the lock.
        """
        return _is_at(self.path, self._descriptor)

    async def wait_until_lost(self) -> None:
        """Return when the file was removed or replaced, and another process may have the lock too."""
        while True:
            if not self.is_held():
                return
            await asyncio.sleep(LOOK_EVERY)

    def release(self) -> None:
        """Release the lock for other processes. May be called once."""
        try:
            os.ftruncate(self._descriptor, 0)
        finally:
            os.close(self._descriptor)


def locate_lock_file(database: Path) -> Path:
    """Return the path of a database's lock file, ``NAME.lock``."""
    return database.with_name(database.name + ".lock")


def read_holder(database: Path) -> str:
    """Return the text written by the holder of a database's lock, for messages."""
    try:
        with locate_lock_file(database).open("rb") as file:
            text = file.read(_MOST).decode(errors="replace").strip()
    except OSError:
        text = ""
    return text or "another process"


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether this open file is the file at the path. An unreadable folder counts as yes."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
    except OSError:
        return True
