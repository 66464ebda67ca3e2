"""The wake socket beside the ledger: a command wakes the daemon on the same machine after a change.

The daemon that holds the lock listens at ``NAME.wake``, and a command sends an empty datagram. The daemon
polls when a datagram comes, and never reads the content. A lost datagram costs no more than the time until
the next poll. A command never waits for the daemon, and never fails because of the daemon.
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
"""The number of datagrams that are removed from the queue at once.

The kernel queues fewer datagrams (net.unix.max_dgram_qlen), unless a sender is as fast as this loop.
"""


def locate_wake_file(ledger: Path) -> Path:
    """Return the path of the wake socket of this ledger."""
    return ledger.with_name(ledger.name + ".wake")


def wake(ledger: Path) -> None:
    """Wake the daemon of this ledger.

    Nothing happens when no daemon listens, when the socket may not be used, or when the queue is full.
    """
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
        """Listen at ``NAME.wake`` with the ledger's mode and owner.

        Replace the socket of a killed daemon. Raises OSError when this is not possible. Another kind of file
        under this name is not touched.
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
        """Wait for a datagram, and remove all datagrams from the queue. Raises OSError."""
        # The kernel drops the rest of a longer datagram.
        await asyncio.get_running_loop().sock_recv(self._receiver, 1)
        with contextlib.suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                self._receiver.recv(1)

    def close(self) -> None:
        """Stop listening, and remove the socket file, unless another daemon has replaced the file."""
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
    """Yield the address of the wake socket, by the descriptor of the folder.

    An address has at most 107 bytes (unix(7)), and a path may have more.
    """
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
    """Give the socket file the ledger's owner and mode.

    Only users with the right to write to the ledger may wake the daemon.
    """
    # only root gives files to other users; a group's member may give a file to the group
    with contextlib.suppress(PermissionError):
        os.chown(path, ledger.st_uid, ledger.st_gid, follow_symlinks=False)
    path.chmod(stat.S_IMODE(ledger.st_mode) & 0o777)
