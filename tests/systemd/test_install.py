"""`make install` and `make uninstall`, on a machine that has neither service."""

import re
from collections.abc import Iterator

import pytest

from tests.systemd.machine import Machine, booted, missing
from tests.systemd.project import CHECKOUT, at, check_out, make, make_quickly, make_with_pip, releases
from tests.systemd.services import API, DAEMON, SETTINGS, Services

NO_INDEX = re.compile(
    r"Could not find a version that satisfies|NewConnectionError|Name or service not known|Could not "
    r"fetch URL"
)
LOCK = f"{CHECKOUT}/requirements-run.lock"


@pytest.fixture
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a copy of this checkout, and nothing installed from it."""
    if lack := missing():
        pytest.skip(lack)
    with booted(tmp_path_factory.mktemp("bare")) as machine:
        check_out(machine)
        yield machine


def install_quickly(machine: Machine) -> str:
    """What `make install` says."""
    done = make_quickly(machine, "install")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(300)  # it fetches packages
def test_it_installs_what_the_index_has(bare: Machine) -> None:
    done = make(bare, "install")
    if done.returncode and NO_INDEX.search(done.stderr):
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    assert "systemctl enable --now scheduler" in done.stdout
    assert bare.run("scheduler", "--version").stdout.startswith("scheduler ")
    services = Services(bare)
    services.start()
    assert services.show(DAEMON, "ActiveState") == "active"


def test_it_makes_all_that_is_needed_and_starts_nothing(bare: Machine) -> None:
    assert "systemctl enable --now scheduler" in install_quickly(bare)
    for user in ("scheduler", "scheduler-api"):
        assert bare.run("stat", "--format=%U %a", f"/var/lib/{user}").stdout == f"{user} 700\n"
    for unit in (DAEMON, API):
        shown = bare.run("systemctl", "show", "--property=LoadState,ActiveState,UnitFileState", unit).stdout
        assert set(shown.split()) == {"LoadState=loaded", "ActiveState=inactive", "UnitFileState=disabled"}
    checked = bare.run("scheduler", "config", "validate", check=False)
    assert checked.returncode == 1
    assert checked.stderr.count("target[0].") == 2  # url and project_id, which nobody can know


def test_an_upgrade_leaves_what_runs_and_what_is_kept_and_a_restart_takes_it_up(bare: Machine) -> None:
    services = Services(bare)
    install_quickly(bare)
    [old] = releases(bare)
    services.start()
    automation = services.create("yearly", cron="0 0 1 1 *")
    settings, process = at(bare, SETTINGS).read_text(), services.process(DAEMON)
    version = at(bare, f"{CHECKOUT}/scheduler/__init__.py")
    version.write_text(re.sub(r'"\d[^"]*"', '"99.9"', version.read_text()))
    assert "systemctl restart scheduler-api scheduler" in install_quickly(bare)
    assert old in releases(bare), "it runs, and loads some of its modules late"
    assert (services.process(DAEMON), services.page("/")[0]) == (process, 200)
    assert at(bare, SETTINGS).read_text() == settings
    services.systemctl("restart", API, DAEMON)
    services.ready()
    assert 'version="99.9"' in services.page("/metrics")[1]
    assert services.api("GET", f"{automation}/")["name"] == "yearly"
    install_quickly(bare)
    assert old not in releases(bare), "nobody runs it any more"


def test_an_installation_that_fails_leaves_what_was_there(bare: Machine) -> None:
    install_quickly(bare)
    before = releases(bare), at(bare, "/opt/scheduler/current").readlink()
    at(bare, f"{CHECKOUT}/scheduler/cli/__init__.py").write_text("raise SystemExit('broken')")
    failed = make_quickly(bare, "install")
    assert failed.returncode != 0
    assert "does not start" in failed.stderr
    assert (releases(bare), at(bare, "/opt/scheduler/current").readlink()) == before


def test_nothing_is_installed_whose_hash_is_another(bare: Machine) -> None:
    lock = at(bare, LOCK)
    lock.write_text(re.sub(r"(?<=sha256:)\w{8}", "00000000", lock.read_text()))
    failed = make_with_pip(bare, "install")
    assert failed.returncode != 0
    if not NO_INDEX.search(failed.stderr):
        assert "DO NOT MATCH THE HASHES" in failed.stderr
    assert releases(bare) == set()
    assert not at(bare, "/opt/scheduler/current").is_symlink()


def test_uninstalling_removes_what_was_made_and_leaves_settings_and_records(bare: Machine) -> None:
    services = Services(bare)
    install_quickly(bare)
    services.start()
    bare.run("systemctl", "enable", DAEMON, API)
    removed = make(bare, "uninstall")
    assert removed.returncode == 0, removed.stderr
    for unit in (DAEMON, API):
        assert (services.show(unit, "LoadState"), services.process(unit)) == ("not-found", 0)
    left = bare.run(
        *("find", "/etc", "/opt", "/usr/local", "/var/lib/scheduler", "-xdev", "-name", "*scheduler*")
    ).stdout.split()
    assert {each for each in left if each.startswith(("/opt/sched", "/usr/local", "/etc/systemd"))} == set()
    assert {SETTINGS, "/var/lib/scheduler/scheduler.db"} <= set(left)
    assert all(
        place in removed.stdout for place in ("/etc/scheduler", "/var/lib/scheduler", "userdel scheduler-api")
    )


def test_only_root_installs(bare: Machine) -> None:
    refused = bare.run(
        "runuser", "--user", "nobody", "--", f"{CHECKOUT}/deploy/install.sh", "install", check=False
    )
    assert (refused.returncode, refused.stderr) == (
        1,
        "install.sh: only root can do this: sudo make install\n",
    )
