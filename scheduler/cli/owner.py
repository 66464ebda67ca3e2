"""Reading a database as its owner: ``sudo scheduler history`` must leave nothing behind that the daemon cannot open.

SQLite makes its ``-wal`` and ``-shm`` files as whoever opens the database first. Made by root, they lock the daemon's own user out.
"""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def acting_as_owner(file: Path) -> Iterator[None]:
    """Be the user to whom a file belongs, or the folder that it would be in, while inside. Does nothing for anyone but root.

    For the whole process, threads included: nothing else may go on meanwhile. Raises OSError when the nearest folder cannot be looked at.
    """
    if os.geteuid() != 0:
        yield
        return
    owner = _existing(file).stat()
    groups = os.getgroups()
    os.setgroups(_groups(owner.st_uid, owner.st_gid))
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _existing(file: Path) -> Path:
    """The file, or the nearest folder above it that is there."""
    path = file.absolute()
    while not path.exists():
        path = path.parent
    return path


def _groups(user: int, group: int) -> list[int]:
    """The groups that a user is in; a user without a name (systemd's dynamic ones) is in its own alone."""
    try:
        return os.getgrouplist(pwd.getpwuid(user).pw_name, group)
    except KeyError:
        return [group]
