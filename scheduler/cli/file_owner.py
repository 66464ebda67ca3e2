"""Access to a database as its owner.

``sudo scheduler history`` must leave no file behind that the daemon cannot open. SQLite makes its ``-wal``
and ``-shm`` files as the user who opens the database first. Files made by root lock out the user of the
daemon.
"""

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scheduler.core.errors import ConfigurationError


class NotPermitted(ConfigurationError):
    """The user of a command may not use a file. The text names the permitted users and the remedy."""


@contextmanager
def act_as_owner(file: Path) -> Iterator[None]:
    """Switch to the user who owns the file, for the duration of the block.

    When the file is missing, the owner of the nearest existing folder counts. Only root switches; for other
    users, the file must be readable. The switch affects the whole process, threads included, so nothing else
    may run meanwhile. Raises `NotPermitted`, and OSError when the nearest folder cannot be examined.
    """
    if os.geteuid() != 0:
        require_access(file)
        yield
        return
    owner = _find_existing_path(file).stat()
    groups = os.getgroups()
    os.setgroups(_list_groups(owner.st_uid, owner.st_gid))
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def describe_denial(path: Path) -> str:
    """Return the error message for a file or folder that this user may not use.

    The message names the owner of the nearest visible folder or file, and the remedy.
    """
    blocked = _find_blocked_path(path) or path
    try:
        status = blocked.stat()
    except OSError:
        return f"{path}: permission denied; run the command with sudo"
    owner = _find_name(pwd.getpwuid, status.st_uid)
    needed = stat.S_IXGRP if stat.S_ISDIR(status.st_mode) else stat.S_IRGRP
    may_join = status.st_mode & needed
    join = f", or join the group {_find_name(grp.getgrgid, status.st_gid)}" if may_join else ""
    belongs = f"it belongs to the user {owner}"
    return f"{blocked}: permission denied; {belongs}. Run the command with sudo, or as {owner}{join}"


def require_access(file: Path) -> None:
    """Raise `NotPermitted` when this user may not read the file, or may not enter a folder above."""
    if _find_blocked_path(file) is not None:
        raise NotPermitted(describe_denial(file))


def _find_blocked_path(path: Path) -> Path | None:
    """Return the first folder in the path that this user may not enter, or an unreadable file.

    Return None when nothing blocks the access, also for a missing file.
    """
    absolute = path.absolute()
    for folder in reversed(absolute.parents):
        if folder.exists() and not os.access(folder, os.X_OK, effective_ids=True):
            return folder
    return absolute if absolute.exists() and not os.access(absolute, os.R_OK, effective_ids=True) else None


def _find_name(read: Callable[[int], Sequence[object]], number: int) -> str:
    """Return the name of a user or a group; the number without a name."""
    try:
        return str(read(number)[0])
    except KeyError:
        return str(number)


def _find_existing_path(file: Path) -> Path:
    """Return the file, or the nearest existing folder above."""
    path = file.absolute()
    return next(existing for existing in (path, *path.parents) if existing.exists())


def _list_groups(user: int, group: int) -> list[int]:
    """List the groups of a user; a user without a name (systemd's dynamic users) has one group."""
    try:
        return os.getgrouplist(pwd.getpwuid(user).pw_name, group)
    except KeyError:
        return [group]
