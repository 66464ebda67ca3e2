"""The wake socket beside the ledger: a command tells the daemon on the same machine that something has changed.

The daemon that holds the lock listens at ``NAME.wake``, and a command sends an empty datagram. A datagram says only "look again": the
daemon reads nothing from its content, and a lost datagram costs no more than the time until the next poll. So a command never waits for
the daemon, and never fails because of it.
"""

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

_AT_ONCE: Final = 1_000
"""Datagrams that are removed from the queue at once. The kernel queues fewer (net.unix.max_dgram_qlen), unless a sender is as quick."""


def locate_wake_file(ledger: Path) -> Path:
    """Return the path of the wake socket of this ledger."""
    return ledger.with_name(ledger.name + ".wake")


def wake(ledger: Path) -> None:
    """Wake the daemon of this ledger. Does nothing when there is none, when it may not be reached, or when its queue is full."""
    with contextlib.suppress(OSError), _make_socket() as sender, _open_address(ledger) as address:
        sender.sendto(b"", address)


class WakeSocket:
    """The daemon's end of the wake socket. Only the holder of the ledger's lock may open it."""

    def __init__(self, path: Path, receiver: socket.socket) -> None:
        self._path = path
        self._receiver = receiver
        self._made = path.lstat()

    @classmethod
    def open(cls, ledger: Path) -> Self:
        """Listen at ``NAME.wake``, with the ledger's mode and owner, in place of the socket that a killed daemon left.

        Raises OSError when this is not possible; another file under that name is left alone.
        """
        path, receiver = locate_wake_file(ledger), _make_socket()
        try:
            _remove_old(path)
            with _open_address(ledger) as address:
                receiver.bind(address)
            _copy_owner_and_mode(path, ledger.stat())
            return cls(path, receiver)
        except OSError:
            receiver.close()
            raise

    async def wait(self) -> None:
        """Wait for a datagram, and remove it and all others that have come from the queue. Raises OSError."""
        await asyncio.get_running_loop().sock_recv(self._receiver, 1)  # the kernel drops the rest of a longer datagram
        with contextlib.suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                self._receiver.recv(1)

    def close(self) -> None:
        """Listen no more, and remove the socket file, unless another daemon has replaced it."""
        self._receiver.close()
        with contextlib.suppress(OSError):
            if os.path.samestat(self._path.lstat(), self._made):
                self._path.unlink()


def _make_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    made.settimeout(0.0)
    return made


@contextmanager
def _open_address(ledger: Path) -> Iterator[str]:
    """The address of the wake socket: by its folder's descriptor, because an address has 107 bytes (unix(7)), and a path may have more."""
    folder = os.open(ledger.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{locate_wake_file(ledger).name}"
    finally:
        os.close(folder)


def _remove_old(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "another file has this name; remove it", str(path))
    path.unlink()


def _copy_owner_and_mode(path: Path, ledger: os.stat_result) -> None:
    """Give the socket file the ledger's owner and mode: whoever may write to the ledger may wake its daemon, and nobody else."""
    with contextlib.suppress(PermissionError):  # only root gives files away; a member of a group may give it to the group
        os.chown(path, ledger.st_uid, ledger.st_gid, follow_symlinks=False)
    path.chmod(stat.S_IMODE(ledger.st_mode) & 0o777)
