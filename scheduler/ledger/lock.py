"""The lock file beside the ledger: of several daemons, the holder of the lock fires, and others wait.

The lock is the kernel's (flock), so that the lock is free the moment its holder has ended, however the holder
ended. The file stays. The text is for people, and names the current or the last holder of the lock.
"""

import fcntl
import os
from datetime import datetime
from pathlib import Path
from typing import Final

from scheduler.core.errors import LedgerUnavailable
from scheduler.core.instants import to_text

_LOCKS: Final = Path("/proc/locks")  # proc_locks(5)
_MOST: Final = 4096  # the largest number of bytes read from a holder's text


class LedgerLock:
    """The right to fire and to resolve the occurrences in a ledger.

    The right lasts as long as this process lives, or until the lock is released.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def try_acquire(cls, ledger: Path, *, node: str, since: datetime) -> "LedgerLock | None":
        """Lock ``NAME.lock`` beside the ledger; None when another process has the lock, see `read_holder`.

        Does not wait. Raises `LedgerUnavailable` when the lock file cannot be opened or written.
        """
        path = locate_lock_file(ledger)
        descriptor = _open_lock_file(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # removed between open and flock; the next process locks another file
            if not _is_at(path, descriptor):
                os.close(descriptor)
                return cls.try_acquire(ledger, node=node, since=since)
            os.ftruncate(descriptor, 0)
            text = f"node {node}, process {os.getpid()}, since {to_text(since)}\n"
            os.pwrite(descriptor, text.encode(), 0)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise LedgerUnavailable(
                f"{path}: {error.strerror}; put the ledger on a local disk that has room"
            ) from error
        return cls(path, descriptor)

    def is_held(self) -> bool:
        """Return whether the lock keeps other processes out: the locked file is still in place.

        While the file is in place, no other process can take the lock.
        """
        return _is_at(self._path, self._descriptor)

    def release(self) -> None:
        """Release the lock for other processes. May be called once."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def read_holder(ledger: Path) -> str:
    """Return the text written by the holder of the lock, for messages."""
    try:
        text = locate_lock_file(ledger).read_bytes()[:_MOST].decode(errors="replace").strip()
    except OSError:
        text = ""
    return text or "another process"


def is_locked(ledger: Path) -> bool:
    """Return whether some process holds the lock now. The file stays unchanged.

    Raises `LedgerUnavailable` when the lock file cannot be opened.
    """
    path = locate_lock_file(ledger)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LedgerUnavailable(
            f"{path}: {error.strerror}; run the command as the user of the daemon"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def find_holding_process(ledger: Path) -> int | None:
    """Find the id of the process with the lock, in the kernel's list, without touching the lock.

    None when no process holds the lock, or when the list cannot be read. 0 or less: a process that this
    process cannot see, for example in another container. Only the inode of an entry is compared, because the
    device of an entry is not always the device in the file's own status (overlayfs, btrfs).
    """
    try:
        inode = locate_lock_file(ledger).stat().st_ino
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return None
    # an arrow: this process only waits
    for _, kind, _, access, process, place, *_ in (line.split() for line in lines if "->" not in line):
        if (kind, access, place.rpartition(":")[2]) == ("FLOCK", "WRITE", str(inode)):
            return int(process)
    return None


def locate_lock_file(ledger: Path) -> Path:
    """Return the path of this ledger's lock file."""
    return ledger.with_name(ledger.name + ".lock")


def _open_lock_file(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LedgerUnavailable(
            f"{path}: {error.strerror}; check that its folder exists and that the daemon's user may "
            "write there"
        ) from error


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether this open file is the file at the path. An unreadable folder counts as yes."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
    except OSError:
        return True
