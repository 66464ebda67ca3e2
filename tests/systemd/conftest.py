"""One machine for all of these tests, and services on it that are new for each file."""

from collections.abc import Iterator

import pytest

from tests.systemd.machine import Machine, booted, missing
from tests.systemd.project import check_out, make_quickly
from tests.systemd.services import Services, installed


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with the project installed. That it does not boot where it could is a failure."""
    if lack := missing():
        pytest.skip(lack)
    with booted(tmp_path_factory.mktemp("machine")) as up:
        check_out(up)
        done = make_quickly(up, "install")
        assert done.returncode == 0, done.stderr
        yield up


@pytest.fixture(scope="module")
def services(machine: Machine) -> Iterator[Services]:
    """Services that nobody has started."""
    with installed(machine) as new:
        yield new


@pytest.fixture(scope="module")
def running(services: Services) -> Services:
    """Services of which the daemon is ready."""
    services.start()
    return services


@pytest.fixture
def well(running: Services) -> Services:
    """The same, whatever the test before has done to them; what the journal has from before does not
    count.
    """
    running.settle()
    return running
