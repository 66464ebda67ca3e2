"""One daemon, one API and the proxy between them, in a folder: what faults are done to, and what can be asked
of it afterwards.
"""

import json
import re
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.proxy import Proxy
from tests.e2e.stand import Stand, plain_client, until
from tests.e2e.stand import now as true_now
from tests.faults.fault import Violation
from tests.ports import free_port

REQUEST_TIMEOUT = 3.0
LATEST = 5.0
"""Seconds after which nothing reaches the API any more.

With an API that is frozen for as long, still well within `SETTLE`.
"""
SETTLE = 12.0
DISK = 24 * 2**20
PATIENCE = 90.0
"""Seconds for what must happen in the end, on a machine that has other things to do."""

SETTINGS = f"""
drain_timeout = "5s"
[schedule]
poll_interval = "5s"
fresh_for = "2s"
settle_time = "{SETTLE:g}s"
[[override]]
automation = "all *"
catch_up = "all"
[[override]]
automation = "none *"
catch_up = "none"
[[override]]
automation = "forbid *"
concurrency = "forbid"
[[override]]
automation = "queue *"
concurrency = "queue"
[[override]]
automation = "jitter *"
jitter = "20s"
"""
TARGET = f"""
connect_timeout = "2s"
request_timeout = "{REQUEST_TIMEOUT:g}s"
idempotent = %s
"""


@dataclass
class Log:
    """The lines of all processes, each once, as they come."""

    folder: Path
    _read: dict[Path, int] = field(default_factory=dict)

    def fresh(self) -> Iterator[tuple[str, str]]:
        """The name of a log, and a line of it that nobody has had yet."""
        for file in sorted(self.folder.glob("*.log")):
            with file.open("rb") as stream:
                stream.seek(self._read.get(file, 0))
                whole, end, _ = stream.read().rpartition(b"\n")
            self._read[file] = self._read.get(file, 0) + len(whole + end)
            yield from ((file.name, line) for line in whole.decode(errors="replace").splitlines())


@dataclass(frozen=True, slots=True)
class Succession:
    """A second daemon, as long as it is the second."""

    port: int
    node: str


@dataclass
class Site(Stand):
    """``idempotent``: the daemon is told that the API honours keys; otherwise the proxy keeps them from it,
    and it ignores them.
    """

    idempotent: bool = True
    told: Counter[str] = field(default_factory=Counter)  # what faults and people did
    violations: list[str] = field(default_factory=list)
    mounted: bool = False  # whether the ledger has a disk of its own
    step: timedelta = timedelta(0)  # how far off the daemon's clock is
    starts: int = 0
    log_watch: Log = field(init=False)
    proxy: Proxy = field(init=False)

    def __post_init__(self) -> None:
        self.log_watch = Log(self.folder)
        self.proxy = Proxy(self.api_port, drops=b"" if self.idempotent else b"idempotency-key")
        self.settings = SETTINGS
        self.target_settings = TARGET % str(self.idempotent).lower()
        self.disk.mkdir()
        self._daemon_file = self.file

    @property
    def disk(self) -> Path:
        """Where the ledger lies."""
        return self.folder / "disk"

    @property
    def ledger(self) -> Path:
        return self.disk / "scheduler.db"

    def now(self) -> datetime:
        """What the daemon's clock shows."""
        return true_now() + self.step

    # ------------------------------------------------------------ coming and going

    async def open(self) -> None:
        await self.proxy.start()
        self.target_port = self.proxy.port
        await self.start_api()

    async def close(self) -> None:
        await super().close()
        if self.mounted:  # what is on it is kept, for whoever wants to look
            shutil.copytree(self.disk, self.folder / "disk.kept")
            subprocess.run(["umount", "--lazy", str(self.disk)], check=True)  # noqa: ASYNC221  nothing else is going on any more
        await self.proxy.close()

    def died(self) -> Iterator[tuple[str, str]]:
        """The processes that ended without being told to, and how."""
        for name, process in list(self.processes.items()):
            if process.returncode is not None:
                del self.processes[name]
                yield name, f"{name} ended by itself with status {process.returncode}: {self.tail()}"

    def tail(self, size: int = 2000) -> str:
        """The end of the log that was written last."""
        newest = max(self.folder.glob("*.log"), key=lambda file: file.stat().st_mtime)
        return newest.read_text(errors="replace")[-size:]

    # ------------------------------------------------------------ the daemon

    async def terminated(self, name: str = "run") -> None:
        """SIGTERM, and an exit status 0."""
        if name == "run":
            await self.up()
        status = await self.stop(name)
        if status != 0:
            raise Violation(f"{name} ended with status {status} when it was told to stop: {self.tail()}")

    async def start_daemon(self, *, ready: bool = True) -> None:
        self._daemon_file = self.file
        await super().start_daemon(ready=ready)

    def rewrite(self, more: str = "", **settings: str) -> None:
        """Write the configuration that the running daemon reads, with other ``settings`` and ``more`` at its
        end.
        """
        text = self.configuration()
        for name, value in settings.items():
            text = re.sub(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
        self._daemon_file.write_text(text + more)

    async def start_second(self) -> Succession:
        """Start another daemon on the same ledger, with a port and a name of its own."""
        self.starts += 1
        second = Succession(free_port(), f"successor-{self.starts}")
        text = self.configuration().replace(f"127.0.0.1:{self.daemon_port}", f"127.0.0.1:{second.port}")
        (self.folder / "second.toml").write_text(
            re.sub(r"^node = .*$", f'node = "{second.node}"', text, flags=re.MULTILINE)
        )
        await self.start("run", name=second.node, file=self.folder / "second.toml")
        return second

    def succeed(self, second: Succession) -> None:
        """The first one is gone; from now on the second is the daemon."""
        self.daemon_port, self.node = second.port, second.node
        self._daemon_file = self.folder / "second.toml"
        self.processes["run"] = self.processes.pop(second.node)

    # ------------------------------------------------------------ what it says

    async def found(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """What the ledger says, as soon as it can be read: it cannot while its disk is full and what SQLite
        needs beside it has no room.
        """
        rows: list[dict[str, Any]] = []

        async def is_read() -> bool:
            try:
                rows[:] = self.rows(sql, *values)
            except sqlite3.OperationalError:
                return False
            return True

        await until(is_read, seconds=PATIENCE, what="the ledger to be readable")
        return rows

    async def page(self, port: int, path: str) -> tuple[int, Any]:
        """The status and the JSON of a daemon's page; (0, None) while nobody answers."""
        try:
            async with plain_client() as client:
                page = await client.get(f"http://127.0.0.1:{port}{path}", timeout=5)
        except httpx.TransportError:
            return 0, None
        return page.status_code, json.loads(page.text)

    async def up(self) -> None:
        """Wait until the daemon listens to signals, ready or not: its pages are there then."""

        async def answers() -> bool:
            status, _ = await self.page(self.daemon_port, "/healthz")
            return status != 0

        await until(answers, seconds=PATIENCE, what="the daemon's pages")

    async def metrics(self) -> str:
        """The daemon's metrics; nothing while nobody answers."""
        try:
            return (await self.get("/metrics")).text
        except httpx.TransportError:
            return ""

    async def told_by(self, *arguments: str) -> tuple[int, str]:
        """The exit status of a command, and what it said."""
        done = await self.carry_out(*arguments)
        return done.returncode, done.stdout + done.stderr

    # ------------------------------------------------------------ the log

    def errors(self) -> Iterator[tuple[str, str]]:
        """Events at level error with their lines, and whatever is no line of a log, since this was last
        asked.
        """
        for name, line in self.log_watch.fresh():
            if not line.startswith("{"):
                if not line.startswith("serving the API at "):
                    yield "", f"{name}: {line}"
            elif (told := _parsed(line))["level"] in {"error", "critical"} or "exception" in told:
                yield told["event"], f"{name}: {line}"


def _parsed(line: str) -> dict[str, Any]:
    """A line of a log. One whose process was killed in the middle of it is followed by the next one's first,
    or by nothing.
    """
    try:
        parsed: dict[str, Any] = json.loads(line[line.rfind('{"timestamp"') :])
    except json.JSONDecodeError:
        return {"level": "torn"}
    return parsed
