"""Disks: the free space below which a check complains, and the file systems unfit for a database."""

from collections.abc import Iterator
from typing import Final

from scheduler.doctor.findings import CheckFinding, Subject

MIB: Final = 2**20
FULL: Final = 50 * MIB
"""Free bytes. With less, the write-ahead log alone may fill the disk (the log keeps 64 MB after a burst)."""
TIGHT: Final = 500 * MIB
_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs", "ceph"})


def check_filesystem(subject: Subject, filesystem: str) -> Iterator[CheckFinding]:
    """Yield a fault when a database is on a file system of another machine."""
    if filesystem in _REMOTE:
        finding = f"it lies on {filesystem}, where locks and the write-ahead log are not reliable"
        yield subject.fault(finding, "put it on a local disk")


def format_bytes(size: float) -> str:
    """Format a number of bytes with a suitable unit."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004  1024 make the next unit
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"  # noqa: PLR2004  two digits suffice
        size /= 1024
    return f"{size:.1f} TiB"
