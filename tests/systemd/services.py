"""Both services on a machine, as `make install` leaves them, with one target: the embedded API."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tests.operated import until
from tests.systemd.machine import Machine
from tests.systemd.project import ROOT, write

DAEMON: Final = "scheduler.service"
API: Final = "scheduler-api.service"
SETTINGS: Final = "/etc/scheduler/scheduler.toml"
KEY: Final = "/etc/scheduler/posthog-api-key"


@dataclass
class Services:
    """Two services of a machine that are installed and have not run yet."""

    machine: Machine
    key: str = ""
    since: float = field(default_factory=time.time)
    """What the journal has from before does not count.

    (A cursor would do, but journalctl 252 leaves out the first entry after it.)
    """

    # ------------------------------------------------------------ settings

    def configure(self, more: str = "", **changed: str) -> None:
        """Write the shipped example with the embedded API as its target, quick to see what changes, and
        ``changed`` defaults.
        """
        lines = (ROOT / "deploy/scheduler.toml").read_text().splitlines()
        values = {
            "url": '"http://127.0.0.1:8040"',
            "project_id": '"1"',
            "idempotent": "true",
            "poll_interval": '"500ms"',
        }
        write(
            self.machine,
            SETTINGS,
            "\n".join(_changed(lines, values | {"command": '["true"]'} | changed)) + f"\n{more}\n",
        )

    def drop_in(self, unit: str, text: str) -> None:
        """Change a unit as `systemctl edit` does."""
        write(self.machine, f"/etc/systemd/system/{unit}.d/override.conf", text)
        self.systemctl("daemon-reload")

    # ------------------------------------------------------------ services

    def systemctl(self, *arguments: str) -> str:
        return self.machine.run("systemctl", *arguments).stdout

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", "--value", f"--property={name}", unit).strip()

    def settle(self) -> None:
        """Have the daemon running with the usual settings again, and count the journal from now on."""
        self.configure()
        self.systemctl("reload-or-restart", DAEMON)  # which starts one that does not run
        self.ready()
        self.since = time.time()

    def start_api(self) -> None:
        """Start it, and make the key that the daemon will have."""
        self.systemctl("start", API)
        self.new_key()

    def new_key(self) -> dict[str, Any]:
        """A new key, put where the daemon's credential comes from; what `keys create` said."""
        made: dict[str, Any] = json.loads(self.command("keys", "create", "--json"))
        self.key = made["key"]
        write(self.machine, KEY, self.key + "\n", mode=0o600)
        return made

    def start(self) -> None:
        """Start both, and wait until the daemon has a snapshot."""
        self.configure()
        self.start_api()
        self.systemctl("start", DAEMON)
        self.ready()

    def ready(self) -> None:
        until(lambda: self.page("/readyz")[0] == 200, "the daemon to be ready")

    def process(self, unit: str) -> int:
        """The number that its main process has there; 0 for none."""
        return int(self.show(unit, "MainPID"))

    def kill(self, unit: str, number: str) -> None:
        self.systemctl("kill", "--kill-whom=main", f"--signal={number}", unit)

    # ------------------------------------------------------------ what they say

    def command(self, *arguments: str, check: bool = True) -> str:
        """What a command of the operator's prints, who is root."""
        return self.machine.run("scheduler", *arguments, check=check).stdout

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.command(*arguments, "--json").splitlines()]

    def page(self, path: str, port: int = 9464) -> tuple[int, str]:
        """The status and the text of a page; 0 while nobody answers."""
        done = self._curl("--write-out", "\n%{http_code}", f"http://127.0.0.1:{port}{path}")
        text, _, status = done.rpartition("\n")
        return int(status), text

    def metric(self, name: str) -> float:
        found = [line for line in self.page("/metrics")[1].splitlines() if line.startswith(f"{name} ")]
        return float(found[0].split()[1])

    def create(self, name: str, cron: str = "* * * * *", prompt: str = "Say hello.") -> str:
        """A new automation; its id."""
        body = {
            "name": name,
            "prompt": prompt,
            "repository": "acme/widgets",
            "cron_expression": cron,
            "timezone": "UTC",
        }
        return str(self.api("POST", "", body)["id"])

    def api(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        url = f"http://127.0.0.1:8040/api/projects/1/task_automations/{path}"
        given = ("--json", json.dumps(body)) if body else ()
        return json.loads(
            self._curl(
                "--fail-with-body",
                "--request",
                method,
                "-H",
                f"Authorization: Bearer {self.key}",
                *given,
                url,
            )
        )

    def _curl(self, *arguments: str) -> str:
        return self.machine.run("curl", "--silent", "--max-time", "30", *arguments, check=False).stdout

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """The entries since these services were installed that match, such as ``UNIT=…``."""
        said = self.machine.run(
            "journalctl", "--output=json", "--all", f"--since=@{self.since}", *matches
        ).stdout
        return [json.loads(line) for line in said.splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The daemon's entries of this event."""
        return self.journal(f"_SYSTEMD_UNIT={DAEMON}", f"EVENT={name}")


def _changed(lines: list[str], values: dict[str, str]) -> Iterator[str]:
    """The example's lines with these values, and the headings above them taken in; each name where it comes
    first.
    """
    left = dict(values)
    for line in lines:
        name = line.lstrip("#").partition(" = ")[0]
        if name in left:
            yield f"{name} = {left.pop(name)}"
        else:
            yield line.removeprefix("#") if line.startswith("#[") and not line.startswith("#[[") else line
    assert not left, f"no such settings: {left}"


@contextmanager
def installed(machine: Machine) -> Iterator[Services]:
    """Services that have never run; they are stopped afterwards, and everything is as it was before."""
    services = Services(machine)
    try:
        yield services
    finally:
        machine.run("sh", "-c", _CLEAN)


_CLEAN: Final = f"""
systemctl kill --signal=KILL {DAEMON} {API}
systemctl stop {DAEMON} {API}
systemctl reset-failed
rm -rf /etc/systemd/system/scheduler*.d /etc/scheduler /var/lib/scheduler /var/lib/scheduler-api
systemctl daemon-reload
"""
