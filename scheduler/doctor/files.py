"""Whose files are they, and where do they lie: what the file system says without a file being opened."""

import os
import pwd
import stat
from pathlib import Path
from typing import Final

from scheduler.doctor.facts import DiskFacts, FileFacts

_MOUNTS: Final = Path("/proc/self/mounts")


def read_file_facts(path: Path) -> FileFacts | None:
    """The file as it is now; None when it is not there. Raises OSError when nobody can tell."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return FileFacts(path, found.st_uid, found.st_gid, _find_user_name(found.st_uid), stat.S_IMODE(found.st_mode), found.st_size)


def get_free_bytes(folder: Path) -> int:
    """What an ordinary user may still write there. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def find_disk(path: Path) -> DiskFacts | None:
    """Return the disk of the nearest folder that is there, for a path that may not be there yet; None when nobody can tell."""
    try:
        nearest = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
        return DiskFacts(path, nearest.stat().st_dev, get_free_bytes(nearest), find_filesystem(nearest))
    except OSError:
        return None


def find_filesystem(path: Path) -> str:
    """The type of the file system that it lies on (``ext4``, ``nfs4``); empty when it cannot be told."""
    try:
        mounts = [line.split()[1:3] for line in _MOUNTS.read_text().splitlines()]
    except OSError:
        return ""
    here = path.absolute()
    over = [(Path(point.encode().decode("unicode_escape")), kind) for point, kind in mounts]
    return max(((len(point.parts), kind) for point, kind in over if here.is_relative_to(point)), default=(0, ""))[1]


def _find_user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
