"""What the units say, as systemd reads it."""

import re

import pytest

from tests.systemd.machine import Machine
from tests.systemd.project import ROOT
from tests.systemd.services import API, DAEMON

PAGE = (ROOT / "docs/run.md").read_text()


@pytest.mark.parametrize("unit", [DAEMON, API])
def test_systemd_finds_nothing_to_complain_of(machine: Machine, unit: str) -> None:
    verified = machine.run("systemd-analyze", "verify", unit)
    assert verified.stderr == ""  # an unknown key is no reason for another exit status


def exposure(machine: Machine, unit: str) -> float:
    said = machine.run(
        "systemd-analyze", "security", "--no-pager", "--offline=true", f"/usr/local/lib/systemd/system/{unit}"
    ).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+) ", said)
    assert found, said
    return float(found[1])


def test_the_daemon_is_exposed_to_little(machine: Machine) -> None:
    assert exposure(machine, DAEMON) <= 1.5


@pytest.mark.parametrize("unit", [DAEMON, API])
def test_the_exposure_is_as_documented(machine: Machine, unit: str) -> None:
    documented = re.search(rf"^\| `{re.escape(unit)}` \| ([0-9.]+) \|", PAGE, re.MULTILINE)
    assert documented, f"docs/run.md says no figure for {unit}"
    if "systemd 252" not in machine.run("systemctl", "--version").stdout:
        pytest.skip("another systemd than 252 may count differently")
    assert exposure(machine, unit) == float(documented[1])


def test_each_service_has_a_user_of_its_own(machine: Machine) -> None:
    users = {
        unit: machine.run("systemctl", "show", "--value", "--property=User", unit).stdout.strip()
        for unit in (DAEMON, API)
    }
    assert users == {DAEMON: "scheduler", API: "scheduler-api"}
    assert len({machine.run("id", "--user", user).stdout for user in users.values()} | {"0\n"}) == 3


def test_the_daemon_begins_after_the_api_and_ends_before_it(machine: Machine) -> None:
    after = machine.run("systemctl", "show", "--value", "--property=After", DAEMON).stdout.split()
    assert {API, "network-online.target", "time-sync.target"} <= set(after)
