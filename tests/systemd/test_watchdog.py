"""A process that lives and does nothing is killed by the watchdog, says where it was, and comes back."""

import pytest

from tests.operated import until
from tests.systemd.project import ROOT, write
from tests.systemd.services import API, DAEMON, SETTINGS, Services

QUICK = "[Service]\nWatchdogSec=2s\nRestartSec=100ms\n"
STUCK = "/var/lib/scheduler/stuck"


def killed_by_watchdog(services: Services, unit: str) -> None:
    until(lambda: services.show(unit, "NRestarts") == "1", "it to be started again")
    until(lambda: services.show(unit, "ActiveState") == "active", "it to be up again")
    said = "\n".join(str(entry["MESSAGE"]) for entry in services.journal(f"--unit={unit}"))
    assert "Watchdog timeout (limit 2s)!" in said
    assert "(most recent call first)" in said  # of a stack: what Python's faulthandler prints for each thread


@pytest.mark.parametrize("unit", [DAEMON, API])
def test_a_process_that_is_stopped_is_killed_and_comes_back(running: Services, unit: str) -> None:
    running.drop_in(unit, QUICK)
    running.systemctl("restart", unit)
    running.kill(unit, "STOP")
    killed_by_watchdog(running, unit)


def test_a_daemon_whose_planner_hangs_is_killed_and_comes_back(running: Services) -> None:
    write(running.machine, "/opt/scheduler/stuck.py", (ROOT / "tests/systemd/stuck.py").read_text())
    command = f"/opt/scheduler/current/bin/python /opt/scheduler/stuck.py {STUCK} run --config {SETTINGS}"
    running.drop_in(DAEMON, f"{QUICK}ExecStart=\nExecStart={command}\n")
    running.systemctl("restart", DAEMON)
    running.ready()
    running.machine.run("runuser", "--user", "scheduler", "--", "touch", STUCK)
    running.create("news", cron="0 0 1 1 *")  # which wakes the planner
    killed_by_watchdog(running, DAEMON)
    running.ready()
