"""A single server for each database of the embedded API.

A second server would take the first server's runs for interrupted runs, and fail the runs.
"""

import os
from pathlib import Path
from typing import ClassVar

from scheduler.core.errors import ConfigurationError
from scheduler.database.lock_file import LockFile, locate_lock_file, read_holder


class ServerLock(LockFile):
    """The right to carry out the runs of a database."""

    mode: ClassVar = 0o600
    user: ClassVar = "the server"
    database: ClassVar = "the database"

    @classmethod
    def acquire(cls, database: Path) -> "ServerLock":
        """Lock the database.

        Raises `ConfigurationError` naming the present holder, and `LedgerUnavailable` as `LockFile.try_lock`.
        """
        path = locate_lock_file(database)
        lock = cls.try_lock(path, f"process {os.getpid()}")
        if lock is None:
            fault = f"{database} is being served already ({read_holder(database)}, which holds {path})"
            raise ConfigurationError(f"{fault}; stop that one, or name another database")
        return lock
