"""The lock of the ledger: of several daemons, the holder of the lock fires, and others wait."""

import fcntl
import os
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final

from scheduler.core.errors import LedgerUnavailable
from scheduler.core.instants import to_text
from scheduler.database.lock_file import LockFile, locate_lock_file

_LOCKS: Final = Path("/proc/locks")  # proc_locks(5)


class LedgerLock(LockFile):
    """The right to fire and to resolve the occurrences in a ledger.

    The right lasts as long as this process lives, or until the lock is released.
    """

    mode: ClassVar = 0o644
    user: ClassVar = "the daemon's user"
    database: ClassVar = "the ledger"

    @classmethod
    def try_acquire(cls, ledger: Path, *, node: str, since: datetime) -> "LedgerLock | None":
        """Lock the ledger, as `LockFile.try_lock` does; None when another process has the lock."""
        text = f"node {node}, process {os.getpid()}, since {to_text(since)}"
        return cls.try_lock(locate_lock_file(ledger), text)


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
