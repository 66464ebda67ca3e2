"""What is left of the promise when the daemon is killed at the very minute, gets another key, and is stopped
in mid-flight: all of it.

There is but one minute to wait for: automations that are paused have an occurrence of it too, which can be
made up for later.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scheduler.core.instants import to_text
from tests.e2e.stand import next_minute, now
from tests.operated import until
from tests.systemd.machine import Machine
from tests.systemd.project import ROOT, at, write
from tests.systemd.services import DAEMON, Services
from tests.systemd.slow import PORT

pytestmark = pytest.mark.timeout(300)  # the minute may be 85 s ahead
FIRED = {"nightly-report", "fired-1", "fired-2"}
FAILING = "paused-failing"
PAUSED = {"paused-key", "paused-stop", FAILING}


@dataclass
class Minute:
    """Services of which the daemon was killed at ``due``, and came back. ``folder`` is that of
    `tests.systemd.slow`, the API's proxy.
    """

    services: Services
    due: datetime
    folder: Path

    def history(self, *names: str) -> list[dict[str, Any]]:
        """What became of the occurrences at ``due``."""
        found = self.services.lines("history", f"--until={to_text(self.due + timedelta(seconds=1))}")
        return [each for each in found if each["name"] in names]

    def fire(self, name: str) -> subprocess.Popen[str]:
        """`scheduler fire`, begun: it waits for what comes of it."""
        return self.services.machine.begin("scheduler", "fire", name, to_text(self.due))


@pytest.fixture(scope="module")
def proxy(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("slow")
    process = subprocess.Popen(
        services.machine.on_its_network(sys.executable, "-m", "tests.systemd.slow", str(folder)), cwd=ROOT
    )
    until((folder / "listening").exists, "the proxy")
    yield folder
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def minute(services: Services, proxy: Path) -> Minute:
    fails = '["sh", "-c", "! grep -q fail"]'
    services.configure(
        '[[override]]\nautomation = "paused-*"\npaused = true',
        url=f'"http://127.0.0.1:{PORT}"',
        command=fails,
    )
    services.start_api()
    due = next_minute(now() + timedelta(seconds=25))
    for name in FIRED | PAUSED:  # each at that minute alone: another minute may pass meanwhile
        prompt = "Please fail." if name == FAILING else "Say hello."
        services.create(name, f"{due.minute} {due.hour} * * *", prompt)
    services.systemctl("start", DAEMON)
    services.ready()
    assert now() < due - timedelta(seconds=1), "the services are up too late for the minute"
    until(lambda: now() >= due - timedelta(milliseconds=300), "the minute", seconds=95)
    services.kill(DAEMON, "KILL")
    until(lambda: len(services.events("occurrence.accepted")) >= len(FIRED), "all of them to be accepted")
    until(lambda: len(services.events("occurrence.skipped")) >= len(PAUSED), "the paused ones to be skipped")
    until(lambda: services.show(DAEMON, "NRestarts") == "1", "it to be started again")
    return Minute(services, due, proxy)


def test_a_daemon_that_is_killed_is_started_again_and_nothing_is_lost_or_doubled(minute: Minute) -> None:
    history = minute.history(*FIRED)
    assert Counter(each["name"] for each in history) == dict.fromkeys(FIRED, 1)
    assert {each["outcome"] for each in history} == {"accepted"}
    until(
        lambda: accepted(minute.services) == runs(minute.services),
        "a run for each occurrence, and an occurrence for each run",
    )


def accepted(services: Services) -> list[str]:
    return sorted(each["task_run_id"] for each in services.lines("history") if each["outcome"] == "accepted")


def runs(services: Services) -> list[str]:
    return sorted(each["id"] for each in services.lines("runs", "list"))


def test_nothing_is_missing_in_the_audit(minute: Minute) -> None:
    audit = minute.services.machine.run(
        "scheduler", "audit", "--since=3m"
    )  # which ends with 1 where anything is
    assert "clean: missing 0, double 0, unexplained 0" in audit.stdout
    assert "the API was asked for the newest runs" in audit.stdout


EVENTS = {
    "daemon.started": {"NODE", "VERSION"},
    "occurrence.accepted": {
        "TARGET",
        "AUTOMATION_ID",
        "AUTOMATION",
        "SCHEDULED_FOR",
        "TASK_RUN_ID",
        "REASON",
    },
    "occurrence.skipped": {"TARGET", "AUTOMATION_ID", "AUTOMATION", "SCHEDULED_FOR", "REASON"},
    "run.finished": {"TARGET", "AUTOMATION_ID", "TASK_RUN_ID", "SCHEDULED_FOR", "DURATION_SECONDS"},
}


def test_the_journal_has_events_with_their_fields(minute: Minute) -> None:
    user = minute.services.machine.run("id", "--user", "scheduler").stdout.strip()
    for event, fields in EVENTS.items():
        *_, entry = until(partial(minute.services.events, event), event)
        assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"], entry["_UID"]) == ("6", "scheduler", user), (
            event
        )
        assert fields <= set(entry), event


def test_the_journal_can_be_asked_for_one_automation_and_one_time(minute: Minute) -> None:
    [accepted] = minute.history("fired-1")
    found = minute.services.journal(
        f"AUTOMATION_ID={accepted['automation_id']}", f"SCHEDULED_FOR={accepted['scheduled_for']}"
    )
    assert "occurrence.accepted" in {entry["EVENT"] for entry in found}
    assert {entry["AUTOMATION"] for entry in found} == {"fired-1"}


DOCUMENTED = re.findall(r"^(journalctl .*?)(?: -f)?$", (ROOT / "docs/monitor.md").read_text(), re.MULTILINE)
EXAMPLES = ("0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e6f", "2026-11-26T13:00:00Z")


def test_the_journal_answers_as_documented(minute: Minute) -> None:
    [accepted] = minute.history("nightly-report")
    facts = dict(zip(EXAMPLES, (accepted["automation_id"], accepted["scheduled_for"]), strict=True))
    assert len(DOCUMENTED) >= 8
    for command in DOCUMENTED:
        words = [
            f"{name}={facts.get(value, value)}" if value else name
            for name, _, value in (word.partition("=") for word in command.split())
        ]
        found = minute.services.machine.run(*words, "--no-pager", "--quiet").stdout
        assert found or "-p warning" in command, command


def test_a_key_is_exchanged_as_documented_and_nothing_is_lost(minute: Minute) -> None:
    services = minute.services
    *_, old = [each for each in services.lines("keys", "list") if not each["revoked_at"]]
    services.new_key()
    services.systemctl("restart", DAEMON)
    services.command("keys", "revoke", old["id"])
    assert minute.fire("paused-key").wait(30) == 0
    assert [(each["outcome"], each["reason"]) for each in minute.history("paused-key")] == [
        ("accepted", "manual")
    ]
    assert services.metric('scheduler_target_held{target="default"}') == 0


def test_a_stop_waits_for_what_is_in_flight(minute: Minute) -> None:
    services = minute.services
    (minute.folder / "hold").touch()
    firing = minute.fire("paused-stop")
    until((minute.folder / "held").exists, "an answer to be held back")
    services.systemctl("stop", "--no-block", DAEMON)
    until(lambda: services.show(DAEMON, "SubState") == "stop-sigterm", "the daemon to be stopping")
    (minute.folder / "hold").unlink()
    until(lambda: services.show(DAEMON, "ActiveState") == "inactive", "the daemon to have ended")
    assert services.show(DAEMON, "Result") == "success"
    assert firing.wait(30) == 0
    assert [(each["outcome"], each["reason"]) for each in minute.history("paused-stop")] == [
        ("accepted", "manual")
    ]
    services.systemctl("start", DAEMON)
    services.ready()


# ------------------------------------------------------------ timers of the documentation

BACK_UP, MONITOR = ((ROOT / "docs" / page).read_text() for page in ("back-up.md", "monitor.md"))
UNITS = "/etc/systemd/system"


def copy_from_docs(machine: Machine, page: str, heading: str, path: str, mode: int = 0o644) -> None:
    """Put the block of the page that follows the heading into a file."""
    block = page[page.index(heading) :].partition("```")[2]
    write(machine, path, block.partition("\n")[2].partition("```")[0], mode)


def let_elapse(services: Services, name: str) -> None:
    """Enable a timer as documented, and let it elapse now, and not when its time has come."""
    service, timer = f"{name}.service", f"{name}.timer"
    services.systemctl("daemon-reload")
    services.systemctl("enable", "--now", timer)
    assert services.show(timer, "NextElapseUSecRealtime"), "the timer has a next time"
    services.drop_in(timer, "[Timer]\nOnActiveSec=10ms\nAccuracySec=1ms\n")
    services.systemctl("restart", timer)
    until(lambda: services.show(service, "ExecMainExitTimestampMonotonic") != "0", f"{service} to have run")
    until(lambda: services.show(service, "ActiveState") in {"inactive", "failed"}, f"{service} to have ended")
    said = services.machine.run("journalctl", f"--unit={service}").stdout
    assert services.show(service, "Result") == "success", said
    services.systemctl("disable", "--now", timer)


def test_a_timer_backs_up_as_documented(minute: Minute) -> None:
    services, folder = minute.services, "/var/backups/scheduler"
    for kind in ("service", "timer"):
        copy_from_docs(
            services.machine,
            BACK_UP,
            f"```ini\n# scheduler-backup.{kind}",
            f"{UNITS}/scheduler-backup.{kind}",
        )
    services.machine.run("mkdir", "-p", folder)
    for days in (29, 27):
        services.machine.run("touch", f"--date={days} days ago", f"{folder}/{days}.backup")
    let_elapse(services, "scheduler-backup")
    today, kept = sorted(services.machine.run("ls", folder).stdout.split())
    assert kept == "27.backup"
    assert services.machine.run("tar", "--list", f"--file={folder}/{today}").stdout.split() == [
        "ledger.db",
        "api.db",
    ]
    assert services.machine.run("stat", "--format=%a", f"{folder}/{today}").stdout == "600\n"


def test_a_timer_tells_of_failed_runs_as_documented(minute: Minute) -> None:
    services = minute.services
    assert minute.fire(FAILING).wait(30) == 0
    until(lambda: services.lines("history", "--run-status=failed"), "the run to have failed")
    copy_from_docs(
        services.machine,
        MONITOR,
        "`/usr/local/bin/scheduler-failed-runs`, mode 0755",
        "/usr/local/bin/scheduler-failed-runs",
        0o755,
    )
    for kind in ("service", "timer"):
        copy_from_docs(
            services.machine,
            MONITOR,
            f"`{UNITS}/scheduler-failed-runs.{kind}`",
            f"{UNITS}/scheduler-failed-runs.{kind}",
        )
    write(
        services.machine,
        "/usr/local/bin/mail",
        '#!/bin/sh\nprintf "%s\\n" "$*" >/root/mail\ncat >>/root/mail\n',
        0o755,
    )
    let_elapse(services, "scheduler-failed-runs")
    subject, *runs = at(services.machine, "/root/mail").read_text().splitlines()
    assert subject.startswith("-s Failed runs on ")
    assert [(json.loads(run)["name"], json.loads(run)["run_status"]) for run in runs] == [(FAILING, "failed")]
