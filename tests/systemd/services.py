"""Both services on a machine, as `make install` leaves them, with one target: the embedded API."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.operated import until
from tests.systemd.machine import PACKAGES, Machine

ROOT: Final = Path(__file__).parents[2]
DAEMON: Final = "scheduler.service"
API: Final = "scheduler-api.service"
SETTINGS: Final = "/etc/scheduler/scheduler.toml"
KEY: Final = "/etc/scheduler/posthog-api-key"
RELEASE: Final = "/opt/scheduler/releases/tested"

_UNITS: Final = "/usr/local/lib/systemd/system"
_SYSUSERS: Final = "/usr/local/lib/sysusers.d/scheduler.conf"
_PYTHON: Final = Path(sys.base_prefix) / f"bin/python3.{sys.version_info.minor}"
_TESTED: Final = f"""
set -eu
{_PYTHON} -m venv --without-pip {RELEASE}
echo {PACKAGES} >{RELEASE}/lib/python3.{sys.version_info.minor}/site-packages/tested.pth
ln -s {RELEASE} /opt/scheduler/current
systemd-sysusers {_SYSUSERS}
systemctl daemon-reload
"""
_COMMAND: Final = f"#!{RELEASE}/bin/python\nfrom scheduler.cli import main\nmain()\n"


def install(machine: Machine) -> None:
    """What `make install` does, with packages that are here already: test_install.py has the real one, which fetches them."""
    site = f"lib/python3.{sys.version_info.minor}/site-packages"
    write(machine, _SYSUSERS, (ROOT / "deploy/systemd/scheduler.sysusers.conf").read_text())
    for unit in (DAEMON, API):
        write(machine, f"{_UNITS}/{unit}", (ROOT / "deploy/systemd" / unit).read_text())
    write(machine, "/usr/local/bin/scheduler", (ROOT / "deploy/command.sh").read_text(), mode=0o755)
    machine.run("sh", "-c", _TESTED)
    shutil.copytree(ROOT / "scheduler", at(machine, f"{RELEASE}/{site}/scheduler"))
    write(machine, f"{RELEASE}/bin/scheduler", _COMMAND, mode=0o755)


def at(machine: Machine, path: str) -> Path:
    """A path of the machine, as seen from here."""
    return machine.root / path.lstrip("/")


def write(machine: Machine, path: str, text: str, mode: int = 0o644) -> None:
    """Write a file of the machine, at once: whoever reads it finds the old text or the new one."""
    file = at(machine, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    new.chmod(mode)
    new.rename(file)


@dataclass
class Services:
    """Two services that are installed, and neither run nor have ever run."""

    machine: Machine

    key: str = ""
    since: float = field(default_factory=time.time)
    """What the journal has from before does not count. (A cursor would do, but journalctl 252 leaves out the first entry after it.)"""

    # ------------------------------------------------------------ settings

    def configure(self, more: str = "", **changed: str) -> None:
        """Write the shipped example with the embedded API as its target, quick to see what changes, and ``changed`` defaults."""
        lines = (ROOT / "deploy/scheduler.toml").read_text().splitlines()
        values = {"url": '"http://127.0.0.1:8040"', "project_id": '"1"', "idempotent": "true", "poll_interval": '"500ms"'}
        write(self.machine, SETTINGS, "\n".join(_changed(lines, values | {"command": '["true"]'} | changed)) + f"\n{more}\n")

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
        body = {"name": name, "prompt": prompt, "repository": "acme/widgets", "cron_expression": cron, "timezone": "UTC"}
        return str(self.api("POST", "", body)["id"])

    def api(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        url = f"http://127.0.0.1:8040/api/projects/1/task_automations/{path}"
        given = ("--json", json.dumps(body)) if body else ()
        return json.loads(self._curl("--fail-with-body", "--request", method, "-H", f"Authorization: Bearer {self.key}", *given, url))

    def _curl(self, *arguments: str) -> str:
        return self.machine.run("curl", "--silent", "--max-time", "30", *arguments, check=False).stdout

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """The entries since these services were installed that match, such as ``UNIT=…``."""
        said = self.machine.run("journalctl", "--output=json", "--all", f"--since=@{self.since}", *matches).stdout
        return [json.loads(line) for line in said.splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The daemon's entries of this event."""
        return self.journal(f"_SYSTEMD_UNIT={DAEMON}", f"EVENT={name}")


def _changed(lines: list[str], values: dict[str, str]) -> Iterator[str]:
    """The example's lines with these values, and the headings above them taken in; each name where it comes first."""
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
