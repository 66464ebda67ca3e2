"""Disks: below how much room a check complains, and which file systems are no place for a database."""

from typing import Final

MIB: Final = 2**20
FULL: Final = 50 * MIB
"""Free bytes, below which the write-ahead log alone may fill the disk (the log keeps 64 MB after a burst)."""
TIGHT: Final = 500 * MIB
REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs", "ceph"})


def format_bytes(size: float) -> str:
    """Write a size with the unit that fits."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004  of these a unit has
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"  # noqa: PLR2004  two figures say enough
        size /= 1024
    return f"{size:.1f} TiB"
