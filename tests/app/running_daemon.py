"""A daemon within the test's own process, against an API on a real socket, with a ledger in a file."""

import asyncio
import gc
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from scheduler.app.daemon import Daemon
from scheduler.core.events import DaemonStarted, Event
from scheduler.settings.load import Configuration, load
from tests.fault_server import FaultServer, Received, by_request, fault_server, response, until
from tests.upstream.support import AUTOMATION, ID, KEY

_E = TypeVar("_E", bound=Event)


@dataclass
class Living:
    """The daemon, what it reads, and what it told."""

    folder: Path
    server: FaultServer
    automations: list[dict[str, object]]
    targets: tuple[str, ...]
    poll_interval: str = "1s"
    events: list[Event] = field(default_factory=list)
    is_to_die: bool = False

    def __post_init__(self) -> None:
        self.write()
        self.daemon = Daemon(self.load)
        bus = self.daemon._observability.publish.__self__  # type: ignore[attr-defined]  # it is a bus's method
        bus.subscribe(self.events.append)

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.db"

    def write(self, schedule: str = "", target: str = "") -> None:
        """Write the configuration, with more settings of schedules and of each target."""
        targets = (
            f'[[target]]\nname = "{name}"\nurl = "{self.server.url}"\nproject_id = "{number}"\n{target}\n'
            for number, name in enumerate(self.targets, 1)
        )
        (self.folder / "scheduler.toml").write_text(
            (
                f'[schedule]\npoll_interval = "{self.poll_interval}"\n{schedule}\n[server]\nlisten = '
                f'""\n[ledger]\nurl = "sqlite:///{self.ledger}"\n'
            )
            + "".join(targets)
        )

    def load(self) -> Configuration:
        return load(self.folder / "scheduler.toml", {"POSTHOG_PERSONAL_API_KEY": KEY})

    def told(self, kind: type[_E]) -> list[_E]:
        return [event for event in self.events if isinstance(event, kind)]

    def states(self) -> list[dict[str, int]]:
        """How many automations each target has, by state."""
        return [dict(target.make_status().automations) for target in self.daemon._targets]

    def rows(self, sql: str) -> list[Any]:
        with sqlite3.connect(self.ledger) as connection:
            found = connection.execute(sql).fetchall()
        connection.close()
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Somebody else writes to the ledger, for as long as the block lasts."""
        connection = sqlite3.connect(self.ledger, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.close()

    async def reload(self) -> None:
        """SIGHUP, and wait until it was heard."""
        before = len(self.events)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: any(event.name == "config.reloaded" for event in self.events[before:]))


@asynccontextmanager
async def living(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    targets: tuple[str, ...] = ("main",),
    started: bool = True,
    poll_interval: str = "1s",
) -> AsyncIterator[tuple[Living, asyncio.Task[None]]]:
    """A daemon that runs; it is told to stop in the end, and has to."""
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", KEY)
    automations: list[dict[str, object]] = [AUTOMATION]

    def answer(_: Received) -> bytes:
        return response(
            200,
            {"count": len(automations), "next": None, "previous": None, "results": automations},
            headers={"Date": ""},
        )

    async with fault_server(by_request(answer)) as server:
        life = Living(folder, server, automations, targets, poll_interval)
        interval = sys.getswitchinterval()
        running = asyncio.create_task(life.daemon.run())
        try:
            if started:
                await until(lambda: running.done() or bool(life.told(DaemonStarted)))
                await until(
                    lambda: running.done() or len(life.rows("SELECT 1 FROM definition")) == len(targets)
                )
            yield life, running
        finally:
            life.daemon._service.stop("the test is over")
            if not life.is_to_die:
                await asyncio.wait_for(running, 20)
            life.daemon._observability._log.close()
            sys.setswitchinterval(interval)
            gc.unfreeze()


def another(number: int) -> dict[str, object]:
    """One more automation for the API to show."""
    return {**AUTOMATION, "id": f"{ID[:-1]}{number}", "last_task_run_id": None}
