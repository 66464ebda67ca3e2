"""The facts of an installation with which all is well, and pieces of those with which it is not."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from scheduler.core.cron.zones import ZoneDataCopy
from scheduler.core.model import Automation, Definition, InvalidAutomation, Snapshot
from scheduler.doctor.facts import (
    ApiFacts,
    Connectivity,
    DiskFacts,
    EmbeddedFacts,
    Facts,
    FileFacts,
    KeyFacts,
    LedgerFacts,
    ProcessFacts,
    TargetFacts,
    ZoneFacts,
)
from scheduler.ledger.schema import APPLICATION_ID, MIGRATIONS
from scheduler.ledger.summary import LedgerRecord
from scheduler.ledger.targets import LedgerTarget
from scheduler.settings.keys import KeyPlace
from scheduler.settings.load import Configuration
from scheduler.settings.models import Settings

NOW = datetime(2026, 11, 23, 19, 20, 30, tzinfo=UTC)
FILE = Path("/etc/scheduler/scheduler.toml")
LEDGER = Path("/var/lib/scheduler/scheduler.db")
URL = "https://api.example.org"
UID = 990
TARGET: dict[str, Any] = {"name": "main", "url": URL, "project_id": "1", "key_file": "/etc/scheduler/key"}
LOCKING = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def numbered(number: int) -> str:
    return f"01890a5d-ac96-774b-bcce-{number:012}"


ID = numbered(1)


def settings(*targets: dict[str, Any], **sections: Any) -> Settings:
    api = {"runner": {"command": ["agent"]}, **sections.pop("api", {})}
    return Settings.model_validate({"target": list(targets or [TARGET]), "api": api, **sections})


def file(path: Path | str, *, mode: int = 0o600, uid: int = UID, size: int = 0) -> FileFacts:
    return FileFacts(Path(path), uid, uid, {UID: "scheduler", 0: "root"}.get(uid, f"user {uid}"), mode, size)


def automation(
    number: int = 1,
    *,
    name: str = "nightly",
    cron: str = "0 3 * * *",
    timezone: str = "Europe/Vienna",
    enabled: bool = True,
    **more: Any,
) -> Automation:
    return Automation(numbered(number), name, Definition(cron, timezone, enabled), **more)


def snapshot(*automations: Automation, broken: dict[str, InvalidAutomation] | None = None) -> Snapshot:
    listed = {each.id: each for each in automations or (automation(),)}
    return Snapshot(NOW, 0.0, 1.0, listed, broken or {}, complete=True, clock_offset=0.0)


API = ApiFacts(snapshot=snapshot(), requests=1, slowest_seconds=0.2, clock_offset=(0.0, 0.5), may_write=True)
WAY = Connectivity(
    host="api.example.org",
    port=443,
    tls=True,
    addresses=("192.0.2.1",),
    expires=NOW + timedelta(days=60),
    issuer="An Authority",
)
KEY = KeyFacts(KeyPlace("key_file", Path("/etc/scheduler/key")), file("/etc/scheduler/key"), kind="phx_")
RECORD = LedgerRecord(
    occurrences=1000,
    recent=70,
    evaluation=("6.0.0", "2026a", 2),
    targets=(LedgerTarget("main", URL, "1", NOW - timedelta(seconds=20)),),
)
HELD = "node vm, process 123, since 2026-11-23T10:00:00.000000Z"
LEDGER_FACTS = LedgerFacts(
    path=LEDGER,
    folder=file(LEDGER.parent, mode=0o700),
    files=(
        file(LEDGER, size=2**20),
        file(f"{LEDGER}-wal"),
        file(f"{LEDGER}-shm"),
        file(f"{LEDGER}.lock", mode=0o644),
    ),
    filesystem="ext4",
    free=50 * 2**30,
    application_id=APPLICATION_ID,
    version=len(MIGRATIONS),
    holder=123,
    lock_text=HELD,
    record=RECORD,
)
STATUS: dict[str, Any] = {
    "node": "vm",
    "version": "1.2.3",
    "ready": True,
    "missing": [],
    "targets": [
        {
            "name": "main",
            "url": URL,
            "project_id": "1",
            "held": None,
            "error": None,
            "snapshot_at": "2026-11-23T19:20:10.000000Z",
            "overdue": {"count": 0, "occurrences": []},
        }
    ],
}
DISK = DiskFacts(Path("/var/lib/scheduler-api/api.db"), 1, 10 * 2**30, "ext4")
EMBEDDED = EmbeddedFacts(
    program="/usr/local/bin/agent",
    git="/usr/bin/git",
    server="the server, process 7",
    folder=file("/var/lib/scheduler-api", mode=0o755, uid=991),
    database=file("/var/lib/scheduler-api/api.db", uid=991),
    disk=DISK,
    runs_disk=replace(DISK, path=Path("/var/lib/scheduler-api/api.db.runs")),
)
ZONES = ZoneFacts(
    (
        ZoneDataCopy(Path("/zones"), "package", "2026a"),
        ZoneDataCopy(Path("/usr/share/zoneinfo"), "system", "2025b"),
    ),
    {},
)
HEALTHY = Facts(
    now=NOW,
    version="1.2.3",
    evaluation=("6.0.0", "2026a", 2),
    configuration=Configuration(settings(), FILE, {}),
    environment={},
    targets=(TargetFacts(settings=settings().targets[0], key=KEY, connectivity=WAY, api=API),),
    ledger=LEDGER_FACTS,
    daemon=STATUS,
    server="scheduler",
    embedded=EMBEDDED,
    embedded_process=ProcessFacts(7),
    zones=ZONES,
    synchronised=True,
)


def configured(new: Settings, **changes: Any) -> Facts:
    """The healthy one under other settings."""
    targets = tuple(replace(HEALTHY.targets[0], settings=each) for each in new.targets)
    return replace(HEALTHY, configuration=Configuration(new, FILE, {}), targets=targets, **changes)


def target(**changes: Any) -> Facts:
    """The healthy one, of whose target something is otherwise."""
    return replace(HEALTHY, targets=(replace(HEALTHY.targets[0], **changes),))


def api(**changes: Any) -> Facts:
    return target(api=replace(API, **changes))


def way(**changes: Any) -> Facts:
    return target(connectivity=replace(WAY, **changes))


def ledger(**changes: Any) -> Facts:
    return replace(HEALTHY, ledger=replace(LEDGER_FACTS, **changes))


def record(**changes: Any) -> Facts:
    return ledger(record=replace(RECORD, **changes))


def daemon(**changes: Any) -> Facts:
    return replace(HEALTHY, daemon={**STATUS, **changes})


def program(folder: Path, name: str, script: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return folder / name


@contextmanager
def serving(database: Path, **environment: str) -> Iterator[int]:
    command = (sys.executable, "-c", LOCKING, f"{database}.lock")
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield process.pid
        process.communicate()
