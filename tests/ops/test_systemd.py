"""What systemd is told, by a stand-in for its socket."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from scheduler.core.events import ConfigReloaded, ConfigReloading, DaemonStopping
from scheduler.ops.systemd import Notifier, Supervisor
from tests.virtual import run_virtual


class Systemd:
    """The socket that ``$NOTIFY_SOCKET`` names."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self.name = address.replace("\0", "@")
        self.processes: list[Process] = []

    def told(self) -> list[str]:
        """Every assignment since the last look."""
        lines: list[str] = []
        while True:
            try:
                lines += self._socket.recv(10_000).decode().split("\n")
            except BlockingIOError:
                return lines

    def close(self) -> None:
        """Close this socket, and the sockets of the processes."""
        for process in self.processes:
            process.close()
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    stand_in = Systemd(str(tmp_path / "notify"))
    yield stand_in
    stand_in.close()


@dataclass
class Process:
    """What the notifier asks, and the notifier."""

    environ: dict[str, str]
    is_up: bool = True
    is_alive: bool = True
    status: str = "serving"
    notifier: Notifier = field(init=False)

    def __post_init__(self) -> None:
        self._supervisor = Supervisor(self.environ)
        self.notifier = Notifier(
            is_up=lambda: self.is_up,
            is_alive=lambda: self.is_alive,
            status=lambda: self.status,
            supervisor=self._supervisor,
        )

    def close(self) -> None:
        self._supervisor.close()


def of(systemd: Systemd, **environ: str) -> Process:
    process = Process({"NOTIFY_SOCKET": systemd.name, **environ})
    systemd.processes.append(process)
    return process


def test_it_is_ready_once_and_not_before_it_is_up(systemd: Systemd) -> None:
    process = of(systemd)
    process.is_up, process.status = False, "not ready: the ledger is held by vm2"
    process.notifier.update()
    assert systemd.told() == ["STATUS=not ready: the ledger is held by vm2"]
    process.is_up, process.status = True, "serving"
    process.notifier.update()
    process.notifier.update()
    assert systemd.told() == ["READY=1", "STATUS=serving"]


def test_what_it_is_at_is_told_every_ten_seconds(systemd: Systemd) -> None:
    async def main() -> None:
        process = of(systemd)
        running = asyncio.create_task(process.notifier.run())
        await asyncio.sleep(35)
        running.cancel()
        assert systemd.told() == ["READY=1", *["STATUS=serving"] * 4]

    run_virtual(main())


def test_the_watchdog_is_fed_in_time_and_only_while_there_is_progress(systemd: Systemd) -> None:
    async def main() -> None:
        process = of(systemd, WATCHDOG_USEC="1000000", WATCHDOG_PID=str(os.getpid()))
        running = asyncio.create_task(process.notifier.run())
        await asyncio.sleep(1.9)
        assert systemd.told().count("WATCHDOG=1") == 4
        process.is_alive = False
        await asyncio.sleep(5)
        assert "WATCHDOG=1" not in systemd.told()
        process.is_alive = True
        await asyncio.sleep(1)
        assert "WATCHDOG=1" in systemd.told()
        running.cancel()

    run_virtual(main())


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}])
def test_a_watchdog_that_is_not_meant_for_us_is_not_fed(environ: dict[str, str], systemd: Systemd) -> None:
    process = of(systemd, **environ)
    process.notifier.update()
    assert systemd.told() == ["READY=1", "STATUS=serving"]


def test_a_reload_is_told_with_its_end(systemd: Systemd) -> None:
    process = of(systemd)
    process.notifier.update()
    systemd.told()
    process.notifier.observe(ConfigReloading())
    assert systemd.told() == ["RELOADING=1"]
    process.notifier.observe(ConfigReloaded(error=None))
    assert systemd.told() == ["READY=1"]
    process.notifier.observe(ConfigReloaded(error="no target"))
    assert systemd.told() == [
        "READY=1",
        "STATUS=the new configuration was refused, the old one stays in force: no target",
    ]


def test_a_reload_makes_nobody_ready_who_is_not(systemd: Systemd) -> None:
    process = of(systemd)
    process.notifier.observe(ConfigReloaded(error=None))
    assert "READY=1" not in systemd.told()


def test_the_end_is_told_when_it_begins(systemd: Systemd) -> None:
    process = of(systemd)
    process.status = "not ready: stopping"
    process.notifier.observe(DaemonStopping(reason="SIGTERM"))
    assert systemd.told() == ["STOPPING=1", "STATUS=not ready: stopping"]


def test_no_error_text_can_tell_systemd_anything_else(systemd: Systemd) -> None:
    process = of(systemd)
    process.status = "x\nMAINPID=1\n\udcff" + "y" * 10_000
    process.notifier.update()
    ready, status = systemd.told()
    assert ready == "READY=1"
    assert status.startswith("STATUS=x\\nMAINPID=1\\n")
    assert len(status) < 600


def test_what_systemd_waits_for_arrives_in_its_order_however_late(systemd: Systemd) -> None:
    process = of(systemd)
    fill(systemd)
    process.notifier.update()
    process.notifier.observe(ConfigReloading())
    process.notifier.observe(ConfigReloaded(error=None))
    assert set(systemd.told()) == {"X=1"}
    process.notifier.update()
    assert [line for line in systemd.told() if not line.startswith("STATUS")] == [
        "READY=1",
        "RELOADING=1",
        "READY=1",
    ]


def test_a_process_without_a_free_file_descriptor_can_still_say_that_it_is_alive(systemd: Systemd) -> None:
    process = of(systemd, WATCHDOG_USEC="1000000")
    process.notifier.update()
    systemd.told()
    with no_free_descriptor():
        process.notifier.update()
    assert systemd.told() == ["WATCHDOG=1"]


def test_a_look_that_fails_is_told_once_and_does_not_starve_the_watchdog(systemd: Systemd) -> None:
    def fail() -> str:
        raise ValueError("no idea")

    async def main(supervisor: Supervisor) -> None:
        running = asyncio.create_task(
            Notifier(is_up=lambda: True, is_alive=lambda: True, status=fail, supervisor=supervisor).run()
        )
        await asyncio.sleep(5.5)
        assert not running.done()
        running.cancel()

    environ = {"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "30000000"}
    with capture_logs() as logged, closing(Supervisor(environ)) as supervisor:
        run_virtual(main(supervisor))
    assert systemd.told().count("WATCHDOG=1") == 6
    assert [(line["event"], line["error"]) for line in logged] == [("observer.failed", "ValueError: no idea")]


def fill(systemd: Systemd) -> None:
    """Have systemd so far behind that it takes nothing more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sending.sendto(b"X=1", systemd.name)


@contextlib.contextmanager
def no_free_descriptor() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_socket_without_a_file_is_found() -> None:
    stand_in = Systemd(f"\0scheduler-test-{os.getpid()}")
    of(stand_in).notifier.update()
    assert "READY=1" in stand_in.told()
    stand_in.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/notify"}])
def test_without_systemd_nothing_is_different(environ: dict[str, str]) -> None:
    with closing(Process(environ)) as process:
        process.notifier.update()
