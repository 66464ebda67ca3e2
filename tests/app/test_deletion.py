"""A daemon and an embedded API in one process: DELETE of an automation with a run in progress and a run that
waits.
"""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from scheduler.app import daemon as app
from scheduler.clock import SystemClock
from scheduler.core.events import AutomationRemoved, Event, OccurrenceConcluded, RunFinished, SnapshotTaken
from scheduler.core.model import Reason, RunStatus
from scheduler.localapi.runner.run_results import DELETED_ERROR
from scheduler.localapi.server import LocalApi
from scheduler.settings.load import load
from scheduler.upstream.client import ApiClient
from scheduler.upstream.transport import Transport
from tests.fault_server import until
from tests.localapi.support import COLLECTION, Clock, Served, serving

CONFIGURATION = """
[[target]]
url = "http://127.0.0.1:8040"
project_id = "1"
idempotent = true
requests_per_minute = 100000
requests_per_hour = 1000000
[schedule]
poll_interval = "1s"
[server]
listen = ""
[ledger]
url = "sqlite:///{folder}/ledger.db"
"""
WAITS_FOR_A_FILE = "while [ ! -e {folder}/go ]; do sleep 0.02; done"
WHAT_MAY_BE_TOLD = {
    *(
        "daemon.started",
        "snapshot.taken",
        "automation.added",
        "occurrence.claimed",
        "clock.jumped",
        "automation.removed",
        "run.finished",
    ),
    *("daemon.stopping", "daemon.stopped", None),
}


class Ahead(Clock):
    """The machine's clock, as far ahead as the test sets it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def set_before_the_minute(self, seconds: float = 3.0) -> None:
        """Set it ahead to some seconds before a full minute. The daemon notes the change meanwhile."""
        now = self()
        self.ahead += timedelta(seconds=(60.0 - seconds - now.second - now.microsecond / 1e6) % 60.0)


class InProcess(Transport):
    """Calls the API's application, without a socket."""

    def __init__(self, api: LocalApi) -> None:
        self._application = httpx.ASGITransport(api.app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._application.handle_async_request(request)

    async def warm(self, url: str, connections: int) -> None:
        """There is nothing to open."""

    async def aclose(self) -> None:
        """There is nothing to close."""


@asynccontextmanager
async def running(
    folder: Path, served: Served, clock: Ahead, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[app.Daemon, list[Event]]]:
    """A daemon that fires at this API; in the end it stops."""
    monkeypatch.setattr(SystemClock, "now", lambda _: clock())
    monkeypatch.setattr(app, "ApiClient", partial(ApiClient, transport=InProcess(served.api)))
    (folder / "scheduler.toml").write_text(CONFIGURATION.format(folder=folder))
    key = served.client.headers["Authorization"].removeprefix("Bearer ")
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", key)
    daemon, events = app.Daemon(lambda: load(folder / "scheduler.toml", os.environ)), list[Event]()
    daemon._observability.publish.__self__.subscribe(events.append)  # type: ignore[attr-defined]  # it is a bus's method
    interval = sys.getswitchinterval()
    serving_it = asyncio.create_task(daemon.run())
    try:
        yield daemon, events
    finally:
        daemon._service.stop("the test is over")
        await asyncio.wait_for(serving_it, 20)
        daemon._observability._log.close()
        sys.setswitchinterval(interval)
        gc.unfreeze()


def told(events: list[Event], kind: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


async def runs_at_api(served: Served) -> list[tuple[str, str | None]]:
    """Status and error of each run, the oldest first."""
    return [(run["status"], run["error"]) for run in reversed(await served.api.runs.list_runs())]


def test_deleting_an_automation_ends_what_waits_and_tells_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        clock = Ahead()
        command = ("sh", "-c", WAITS_FOR_A_FILE.format(folder=tmp_path))
        async with serving(tmp_path, clock, command=command, max_parallel=1) as served:
            clock.set_before_the_minute(10.0)  # the daemon also starts meanwhile
            automation = (await served.create(cron_expression="* * * * *"))["id"]
            async with running(tmp_path, served, clock, monkeypatch) as (daemon, events):
                await until_statuses(served, ["running"])
                clock.set_before_the_minute()
                await until_statuses(served, ["running", "queued"])
                await until(lambda: len(told(events, OccurrenceConcluded)) == 2)
                assert (await served.client.delete(f"{COLLECTION}{automation}/")).status_code == 204
                await until_statuses(served, ["running", "failed"])
                assert await runs_at_api(served) == [("running", None), ("failed", DELETED_ERROR)]
                await until(
                    lambda: len(told(events, RunFinished)) == 2 and bool(told(events, AutomationRemoved))
                )
                clock.set_before_the_minute()
                polls = len(told(events, SnapshotTaken))
                await until(lambda: len(told(events, SnapshotTaken)) >= polls + 2)
                (tmp_path / "go").touch()
                await until_statuses(served, ["success", "failed"])
                assert [event.status for event in told(events, RunFinished)] == [RunStatus.SUPERSEDED] * 2
                assert [event.reason for event in told(events, OccurrenceConcluded)] == [Reason.ANSWERED] * 2
                assert daemon._targets[0].make_status().automations == {}
            assert {event.name for event in events} <= WHAT_MAY_BE_TOLD, "nobody is alarmed"

    asyncio.run(story())


async def until_statuses(served: Served, statuses: list[str]) -> None:
    """Wait until the API's runs have these statuses, the oldest first."""
    deadline = asyncio.get_running_loop().time() + 20
    while [status for status, _ in await runs_at_api(served)] != statuses:
        assert asyncio.get_running_loop().time() < deadline, await runs_at_api(served)
        await asyncio.sleep(0.02)
