"""The lock file beside the ledger: of several daemons on one file, the one that holds it fires, and the others wait.

The lock is the kernel's (flock), so that it is free the moment its holder is gone, however it went. The file stays; what stands in it is
for people, and says who holds the lock or held it last.
"""

import fcntl
import os
from datetime import datetime
from pathlib import Path
from typing import Final

from scheduler.core.errors import LedgerUnavailable
from scheduler.core.instants import to_text

_LOCKS: Final = Path("/proc/locks")  # proc_locks(5)
_MOST: Final = 4096  # bytes of a holder's text that anybody reads


class LedgerLock:
    """The right to fire and to resolve what is in a ledger, for as long as this process lives or until it is released."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def try_acquire(cls, ledger: Path, *, node: str, since: datetime) -> "LedgerLock | None":
        """Take ``NAME.lock`` beside the ledger; None when another process has it, see `read_holder`. Does not wait.

        Raises `LedgerUnavailable` when the lock file cannot be opened or written.
        """
        path = locate_lock_file(ledger)
        descriptor = _open_lock_file(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(path, descriptor):  # removed between the two; whoever comes next locks another file
                os.close(descriptor)
                return cls.try_acquire(ledger, node=node, since=since)
            _sign(descriptor, f"node {node}, process {os.getpid()}, since {to_text(since)}\n")
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise LedgerUnavailable(f"{path}: {error.strerror}; put the ledger on a local disk that has room") from error
        return cls(path, descriptor)

    def is_held(self) -> bool:
        """Whether it keeps others out: the file that is locked still lies in its place. Nobody can take the lock of one that does."""
        return _is_at(self._path, self._descriptor)

    def release(self) -> None:
        """Let another process have it. Once."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def read_holder(ledger: Path) -> str:
    """Who holds the lock, as it signed; for messages."""
    try:
        text = locate_lock_file(ledger).read_bytes()[:_MOST].decode(errors="replace").strip()
    except OSError:
        text = ""
    return text or "another process"


def is_locked(ledger: Path) -> bool:
    """Whether some process holds the lock now. Leaves the file as it is. Raises `LedgerUnavailable` when nobody can tell."""
    path = locate_lock_file(ledger)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LedgerUnavailable(f"{path}: {error.strerror}; ask as the user that the daemon runs as") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def find_holding_process(ledger: Path) -> int | None:
    """The process that holds the lock, from the kernel's list, without touching the lock; None when none does, or it cannot be told.

    0 or less: one that this process cannot see, as in another container. Of an entry only the inode counts: its device is not always
    the one that the file's own status shows (overlayfs, btrfs).
    """
    try:
        inode = locate_lock_file(ledger).stat().st_ino
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return None
    for _, kind, _, access, process, place, *_ in (line.split() for line in lines if "->" not in line):  # an arrow: it only waits
        if (kind, access, place.rpartition(":")[2]) == ("FLOCK", "WRITE", str(inode)):
            return int(process)
    return None


def locate_lock_file(ledger: Path) -> Path:
    """Where the lock of this ledger lies."""
    return ledger.with_name(ledger.name + ".lock")


def _open_lock_file(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LedgerUnavailable(f"{path}: {error.strerror}; see that its folder exists and the daemon's user may write there") from error


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether this open file is the one of that name. A folder that cannot be looked into says nothing against it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _sign(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
