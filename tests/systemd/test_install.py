"""`make install` and `make uninstall`, with the packages from where pip finds them, on a machine that has neither."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.systemd.machine import Machine, booted, missing
from tests.systemd.services import API, DAEMON, ROOT, SETTINGS, Services, at

CHECKOUT = "/srv/scheduler"
RELEASES = "/opt/scheduler/releases"
NO_INDEX = re.compile(r"Could not find a version that satisfies|NewConnectionError|Name or service not known|Could not fetch URL")


def make(machine: Machine, target: str) -> CompletedProcess[str]:
    return machine.run_with_our_network("make", "--silent", f"--directory={CHECKOUT}", target)


def releases(machine: Machine) -> set[str]:
    return {each.name for each in at(machine, RELEASES).iterdir()}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a copy of this checkout, and nothing installed from it."""
    if lack := missing():
        pytest.skip(lack)
    with booted(tmp_path_factory.mktemp("bare")) as machine:
        checkout = at(machine, CHECKOUT)
        checkout.mkdir(parents=True)
        for each in ("Makefile", "README.md", "LICENSE", "pyproject.toml", "requirements.lock", "requirements-run.lock"):
            shutil.copy(ROOT / each, checkout)
        for each in ("deploy", "docs", "scheduler"):
            shutil.copytree(ROOT / each, checkout / each, ignore=shutil.ignore_patterns("__pycache__"))
        yield machine


@pytest.mark.timeout(300)  # it fetches packages, twice
def test_the_services_are_installed_upgraded_and_removed(bare: Machine) -> None:
    services = Services(bare)
    first = installed(bare)
    assert "systemctl enable --now scheduler" in first.stdout
    [release] = releases(bare)
    for user in ("scheduler", "scheduler-api"):
        assert bare.run("stat", "--format=%U %a", f"/var/lib/{user}").stdout == f"{user} 700\n"
    assert not bare.run("systemctl", "is-active", DAEMON, check=False).stdout.startswith("active")
    assert bare.run("scheduler", "config", "validate", check=False).returncode == 1  # two things are to be set

    services.start()
    automation = services.create("yearly", cron="0 0 1 1 *")
    bare.run("systemctl", "enable", DAEMON, API)
    settings = at(bare, SETTINGS).read_text()
    process = services.process(DAEMON)

    version = at(bare, f"{CHECKOUT}/scheduler/__init__.py")
    version.write_text(re.sub(r'"\d[^"]*"', '"99.9"', version.read_text()))
    second = installed(bare)
    assert "systemctl restart scheduler-api scheduler" in second.stdout
    assert release in releases(bare), "what runs is left alone"
    assert len(releases(bare)) == 2
    assert services.process(DAEMON) == process
    assert services.page("/")[0] == 200
    assert at(bare, SETTINGS).read_text() == settings
    services.systemctl("restart", API, DAEMON)
    services.ready()
    assert 'version="99.9"' in services.page("/metrics")[1]
    assert services.api("GET", f"{automation}/")["name"] == "yearly"

    removed = make(bare, "uninstall")
    assert removed.returncode == 0, removed.stderr
    for unit in (DAEMON, API):
        assert services.show(unit, "LoadState") == "not-found"
        assert services.process(unit) == 0
    gone = ("/opt/scheduler", "/usr/local/bin/scheduler", "/usr/local/lib/sysusers.d/scheduler.conf")
    assert [each for each in gone if at(bare, each).exists()] == []
    kept = ("/var/lib/scheduler/scheduler.db", "/var/lib/scheduler-api/api.db", SETTINGS)
    assert [each for each in kept if not at(bare, each).exists()] == []
    assert all(place in removed.stdout for place in ("/etc/scheduler", "/var/lib/scheduler", "userdel scheduler-api"))


def installed(machine: Machine) -> CompletedProcess[str]:
    """What `make install` has said. Skips where it cannot get the packages."""
    done = make(machine, "install")
    if done.returncode and NO_INDEX.search(done.stderr):
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_an_installation_that_fails_leaves_what_was_there(bare: Machine) -> None:
    lock = at(bare, f"{CHECKOUT}/requirements-run.lock")
    text = lock.read_text()
    lock.write_text("click==0\n" + text)  # it has no hash
    at(bare, f"{RELEASES}/working/bin").mkdir(parents=True)
    current = at(bare, "/opt/scheduler/current")
    current.symlink_to(f"{RELEASES}/working")
    try:
        failed = make(bare, "install")
        assert failed.returncode != 0
        assert "click" in failed.stderr
        assert releases(bare) == {"working"}
        assert current.readlink() == Path(f"{RELEASES}/working")
    finally:
        lock.write_text(text)
        make(bare, "uninstall")
