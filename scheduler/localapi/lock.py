"""A single server for each database: a lock file beside the database, held while the server lives.

A second server would take the first server's runs for interrupted runs, and fail the runs. The lock is the
kernel's (flock), so that the lock is free the moment its holder has ended, however the holder ended.
"""

import fcntl
import os
from pathlib import Path

from scheduler.core.errors import ConfigurationError, LedgerUnavailable


class ServerLock:
    """The right to carry out the runs of a database."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, database: Path) -> "ServerLock":
        """Lock ``NAME.lock`` beside the database.

        Raises `ConfigurationError` naming the holder, `LedgerUnavailable` when the lock file cannot be
        opened.
        """
        path = database.with_name(database.name + ".lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerUnavailable(
                f"{path}: {error.strerror}; check that its folder exists and that the server may write there"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise ConfigurationError(
                f"{database} is being served already (process {holder}, which holds {path}); stop "
                "that one, or name another database"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Release the lock for another server."""
        os.close(self._descriptor)
