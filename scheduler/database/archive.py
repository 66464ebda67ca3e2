"""Archive: several databases in one tar file, written by `scheduler backup` and checked strictly when read.

The reader takes the 512-byte headers one by one and supports no extension of the format: no link, no sparse
file, no long name, no header that requires more than a block. Therefore a foreign archive cannot make a
restore write to another place, or read without limit.
"""

import os
import tarfile
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from scheduler.core.errors import ConfigurationError
from scheduler.core.quantities import pluralize

SQLITE_HEADER: Final = b"SQLite format 3\0"
"""First bytes of each SQLite database (https://www.sqlite.org/fileformat.html)."""
_CHUNK: Final = 2**20


def pack(part: Path, members: Sequence[tuple[str, Path]], at: datetime) -> None:
    """Write an archive of the files, in this order, each under its name. Raises OSError."""
    with part.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, path in members:
            header = tarfile.TarInfo(name)
            header.size, header.mode, header.mtime = path.stat().st_size, 0o600, int(at.timestamp())
            with path.open("rb") as content:
                archive.addfile(header, content)


def read_members(file: BinaryIO, path: Path, allowed: Collection[str]) -> Mapping[str, tarfile.TarInfo]:
    """Return the headers of an archive by name: only databases with ``allowed`` names, each name once.

    Each header has the position of the content, ``offset_data``, and the size of the content in bytes.
    Raises `ConfigurationError`, naming ``path``, for any other content.
    """
    total = os.fstat(file.fileno()).st_size
    members: dict[str, tarfile.TarInfo] = {}
    position = 0
    while (header := _read_header(file, path, position)) is not None:
        if header.name not in allowed or header.type not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            names = " and ".join(sorted(allowed, reverse=True))
            raise _make_refusal(
                path, f"it holds {header.name!r}, and only plain files called {names} are restored"
            )
        if header.name in members:
            raise _make_refusal(path, f"it holds {header.name} twice")
        if not len(SQLITE_HEADER) <= header.size <= total - header.offset_data:
            raise _make_refusal(
                path,
                f"{header.name} has {header.size} bytes there, and the archive {total}: it is cut "
                "short, or wrong",
            )
        file.seek(header.offset_data)
        if file.read(len(SQLITE_HEADER)) != SQLITE_HEADER:
            raise _make_refusal(path, f"its {header.name} is no SQLite database")
        members[header.name] = header
        position = header.offset_data + -(-header.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    if not members:
        raise _make_refusal(path, "it is empty")
    return members


def unpack(file: BinaryIO, member: tarfile.TarInfo, into: Path) -> None:
    """Write a member to a new file, for its owner alone, and make the file durable.

    Raises OSError, also when the file exists already.
    """
    descriptor = os.open(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as content:
        file.seek(member.offset_data)
        left = member.size
        while left:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                missing = pluralize(left, "byte")
                raise OSError(None, f"the archive ended {missing} before its {member.name} did")
            content.write(chunk)
            left -= len(chunk)
        content.flush()
        os.fsync(content.fileno())


def _read_header(file: BinaryIO, path: Path, position: int) -> tarfile.TarInfo | None:
    """Read one header. Return None at the end of the archive."""
    file.seek(position)
    block = file.read(tarfile.BLOCKSIZE)
    if block == bytes(tarfile.BLOCKSIZE):
        return None
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        other = "it is neither a database nor a tar file (decompress it first if it is compressed)"
        raise _make_refusal(path, "it is cut short, or wrong" if position else other) from None
    header.offset_data = position + tarfile.BLOCKSIZE
    return header


def _make_refusal(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is no backup: {why}. Nothing was changed; name a file that `scheduler backup` made"
    )
