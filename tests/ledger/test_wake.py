"""The wake socket: what a command sends arrives, and nothing that lies in its place harms either end."""

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from scheduler.ledger.wake import WakeSocket, locate_wake_file, wake
from tests.cli.conftest import DAEMON, root_only
from tests.database.support import unprivileged


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    path.touch(mode=0o640)
    return path


def listen(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    return made


def is_awake(ledger: Path, wake_socket: WakeSocket) -> bool:
    """Wake the daemon, and return whether it hears."""

    async def hear() -> bool:
        wake(ledger)
        try:
            await asyncio.wait_for(wake_socket.wait(), 5)
        except TimeoutError:
            return False
        return True

    return asyncio.run(hear())


def test_many_datagrams_are_heard_once(ledger: Path) -> None:
    async def hear(wake_socket: WakeSocket) -> None:
        for _ in range(5):
            wake(ledger)
        await asyncio.wait_for(wake_socket.wait(), 5)
        waiting = asyncio.ensure_future(wake_socket.wait())
        await asyncio.sleep(0)
        assert not waiting.done(), "the queue is empty"
        wake(ledger)
        await asyncio.wait_for(waiting, 5)

    with closing(WakeSocket.open(ledger)) as wake_socket:
        asyncio.run(hear(wake_socket))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, 0o666])
def test_the_socket_has_the_mode_of_the_ledger_whatever_the_umask(ledger: Path, mode: int) -> None:
    ledger.chmod(mode)
    before = os.umask(0o077)
    try:
        with closing(WakeSocket.open(ledger)):
            assert stat.S_IMODE(locate_wake_file(ledger).stat().st_mode) == mode
    finally:
        os.umask(before)


@root_only
def test_the_socket_has_the_owner_of_the_ledger(ledger: Path) -> None:
    os.chown(ledger, DAEMON, DAEMON)
    with closing(WakeSocket.open(ledger)):
        found = locate_wake_file(ledger).stat()
        assert (found.st_uid, found.st_gid) == (DAEMON, DAEMON)


def test_the_socket_file_goes_with_its_daemon(ledger: Path) -> None:
    WakeSocket.open(ledger).close()
    assert not locate_wake_file(ledger).exists()


def test_a_socket_that_a_killed_daemon_left_is_replaced(ledger: Path) -> None:
    listen(locate_wake_file(ledger)).close()
    wake(ledger)
    with closing(WakeSocket.open(ledger)) as wake_socket:
        assert is_awake(ledger, wake_socket)


def test_a_socket_that_somebody_else_made_is_replaced_and_the_newest_daemon_keeps_its_own(
    ledger: Path,
) -> None:
    with closing(listen(locate_wake_file(ledger))):
        first = WakeSocket.open(ledger)
        with closing(WakeSocket.open(ledger)) as second:
            first.close()
            assert is_awake(ledger, second)


def test_a_path_that_is_longer_than_an_address(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    ledger = folder / "ledger.db"
    ledger.touch()
    with closing(WakeSocket.open(ledger)) as wake_socket:
        assert is_awake(ledger, wake_socket)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_link(path: Path) -> None:
    path.with_name("elsewhere").touch()
    path.symlink_to("elsewhere")


OTHER_FILES: list[Callable[[Path], object]] = [Path.touch, make_folder, make_link, os.mkfifo]


@pytest.mark.parametrize("make", OTHER_FILES)
def test_another_file_under_its_name_is_left_alone(ledger: Path, make: Callable[[Path], object]) -> None:
    make(locate_wake_file(ledger))
    before = locate_wake_file(ledger).lstat()
    wake(ledger)
    with pytest.raises(FileExistsError, match="another file has this name; remove it"):
        WakeSocket.open(ledger)
    assert os.path.samestat(locate_wake_file(ledger).lstat(), before)


def test_a_folder_that_cannot_be_written_has_no_socket() -> None:
    with unprivileged() as folder:
        ledger = folder / "ledger.db"
        ledger.touch()
        folder.chmod(0o555)
        with pytest.raises(PermissionError):
            WakeSocket.open(ledger)
        wake(ledger)


def test_a_socket_that_may_not_be_used_is_not_used() -> None:
    with unprivileged() as folder:
        ledger = folder / "ledger.db"
        ledger.touch()
        with closing(listen(locate_wake_file(ledger))) as foreign:
            locate_wake_file(ledger).chmod(0o000)
            wake(ledger)
            foreign.settimeout(0.0)
            with pytest.raises(BlockingIOError):
                foreign.recv(1)


def test_without_a_daemon_or_a_ledger_nothing_happens(ledger: Path) -> None:
    wake(ledger)
    wake(ledger.parent / "nowhere" / "ledger.db")
    assert os.listdir(ledger.parent) == ["ledger.db"]  # noqa: PTH208  names, not paths


def test_a_full_queue_keeps_no_command_waiting(ledger: Path) -> None:
    """The queue of a daemon that is stopped, or busy, is full sooner or later (net.unix.max_dgram_qlen)."""
    queue = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    with closing(WakeSocket.open(ledger)) as wake_socket:
        for _ in range(queue + 10):
            wake(ledger)
        assert is_awake(ledger, wake_socket)


def test_a_large_datagram_is_one_datagram_and_nothing_of_it_is_kept(ledger: Path) -> None:
    async def hear(wake_socket: WakeSocket) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x" * 100_000, str(locate_wake_file(ledger)))
        await asyncio.wait_for(wake_socket.wait(), 5)
        waiting = asyncio.ensure_future(wake_socket.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()

    with closing(WakeSocket.open(ledger)) as wake_socket:
        asyncio.run(hear(wake_socket))
