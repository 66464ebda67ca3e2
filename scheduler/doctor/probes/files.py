"""The owners, permissions and disks of files, as the file system shows them without opening a file."""

import os
import pwd
import stat
from pathlib import Path
from typing import Final

from scheduler.doctor.facts import DiskFacts, FileFacts

_MOUNTS: Final = Path("/proc/self/mounts")


def read_file_facts(path: Path) -> FileFacts | None:
    """Return the present facts of a file; None when the file does not exist.

    Raises OSError when the file cannot be examined.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    user, mode = _find_user_name(status.st_uid), stat.S_IMODE(status.st_mode)
    return FileFacts(path, status.st_uid, status.st_gid, user, mode, status.st_size)


def get_free_bytes(folder: Path) -> int:
    """Return the bytes that an ordinary user may still write on the folder's disk. Raises OSError."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def find_disk(path: Path) -> DiskFacts | None:
    """Return the disk of the nearest existing folder at or above a path; None when unknown.

    The path itself need not exist yet.
    """
    try:
        nearest = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
        return DiskFacts(path, nearest.stat().st_dev, get_free_bytes(nearest), find_filesystem(nearest))
    except OSError:
        return None


def find_filesystem(path: Path) -> str:
    """Return the type of the file system under a path (``ext4``, ``nfs4``); empty when unknown."""
    try:
        mounts = [line.split()[1:3] for line in _MOUNTS.read_text().splitlines()]
    except OSError:
        return ""
    points = [(Path(point.encode().decode("unicode_escape")), kind) for point, kind in mounts]
    above = [(len(point.parts), kind) for point, kind in points if path.absolute().is_relative_to(point)]
    return max(above, default=(0, ""))[1]


def _find_user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
