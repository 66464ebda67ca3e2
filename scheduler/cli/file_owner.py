"""Reading a database as its owner: ``sudo scheduler history`` must leave nothing behind that the daemon cannot open.

SQLite makes its ``-wal`` and ``-shm`` files as whoever opens the database first. Made by root, they lock the daemon's own user out.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scheduler.core.errors import ConfigurationError


class NotPermitted(ConfigurationError):
    """The user of a command may not use a file. The text says who may, and how to run the command."""


@contextmanager
def act_as_owner(file: Path) -> Iterator[None]:
    """Be the user to whom a file belongs, or the folder that it would be in, while inside. Does nothing for anyone but root.

    For the whole process, threads included: nothing else may go on meanwhile. Raises `NotPermitted`, and OSError when the nearest folder
    cannot be looked at.
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
    """Return an error message for a file or folder that this user may not use: to whom the nearest visible one belongs, and what to do."""
    blocked = _find_blocked_path(path) or path
    try:
        status = blocked.stat()
    except OSError:
        return f"{path}: permission denied; run the command with sudo"
    owner = _find_user_name(status.st_uid)
    text = f"{blocked}: permission denied; it belongs to the user {owner}. Run the command with sudo, or as {owner}"
    needed = stat.S_IXGRP if stat.S_ISDIR(status.st_mode) else stat.S_IRGRP
    return f"{text}, or join the group {_find_group_name(status.st_gid)}" if status.st_mode & needed else text


def require_access(file: Path) -> None:
    """Raise `NotPermitted` when this user may not read the file, or may not enter a folder on the way to the file."""
    if _find_blocked_path(file) is not None:
        raise NotPermitted(describe_denial(file))


def _find_blocked_path(path: Path) -> Path | None:
    """Return the first folder on the way that this user may not enter, or the file if it may not be read; None if nothing is in the way."""
    absolute = path.absolute()
    for folder in reversed(absolute.parents):
        if folder.exists() and not os.access(folder, os.X_OK, effective_ids=True):
            return folder
    return absolute if absolute.exists() and not os.access(absolute, os.R_OK, effective_ids=True) else None


def _find_user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _find_group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _find_existing_path(file: Path) -> Path:
    """The file, or the nearest folder above it that is there."""
    path = file.absolute()
    while not path.exists():
        path = path.parent
    return path


def _list_groups(user: int, group: int) -> list[int]:
    """The groups that a user is in; a user without a name (systemd's dynamic ones) is in its own alone."""
    try:
        return os.getgrouplist(pwd.getpwuid(user).pw_name, group)
    except KeyError:
        return [group]
