"""The embedded API in the test's own process: a clock that the test holds, a client for its application,
waiting for a condition.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from scheduler.localapi.config import ApiConfig
from scheduler.localapi.keys import Scope
from scheduler.localapi.server import LocalApi
from tests.defaults import api_config

BOTH = (Scope.READ, Scope.WRITE)
COLLECTION = "/api/projects/1/task_automations/"
VALID = {"name": "Nightly", "prompt": "Tidy up", "repository": "acme/widgets", "cron_expression": "0 3 * * *"}
DEADLINE = 20.0  # seconds


class Clock:
    """A clock that moves by a millisecond each time that it is read, so that no two instants are the same."""

    def __init__(self) -> None:
        self.instant = datetime(2026, 11, 23, 19, 20, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.instant += timedelta(milliseconds=1)
        return self.instant


@dataclass
class Served:
    """A running API, with a client that holds a key for everything."""

    api: LocalApi
    client: httpx.AsyncClient
    clock: Clock

    async def create(self, **values: object) -> dict[str, Any]:
        answer = await self.client.post(COLLECTION, json={**VALID, **values})
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    async def start_run(self, automation_id: str, **headers: str) -> dict[str, Any]:
        answer = await self.client.post(f"{COLLECTION}{automation_id}/run/", headers=headers)
        assert answer.status_code == 200, answer.text
        started: dict[str, Any] = answer.json()
        return started

    async def show(self, automation_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = (await self.client.get(f"{COLLECTION}{automation_id}/")).json()
        return shown

    async def finished(self, automation_id: str) -> dict[str, Any]:
        """The automation, once its newest run has ended."""
        shown: dict[str, Any] = await eventually(
            lambda: self.show(automation_id), lambda shown: shown["last_run_status"] in {"success", "failed"}
        )
        return shown

    async def key(self, *scopes: Scope, project_id: int = 1) -> dict[str, str]:
        """The header of a new key."""
        new = await self.api.keys.create(scopes, project_id)
        return {"Authorization": f"Bearer {new.text}"}


async def eventually(look: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
    """What ``look`` sees once it is ``good``; fails after a while."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + DEADLINE
    while not good(seen := await look()):
        assert clock() < deadline, f"still not so after {DEADLINE} s; last seen: {seen}"
        await asyncio.sleep(0.01)
    return seen


def configured(
    folder: Path,
    *,
    github_integrations: frozenset[int] = frozenset({7}),
    requests_per_minute: int = 0,
    public_url: str = "",
    max_page: int = 10_000,
    **runner: Any,
) -> ApiConfig:
    return api_config(
        folder,
        runner=runner,
        github_integrations=github_integrations,
        requests_per_minute=requests_per_minute,
        public_url=public_url,
        max_page=max_page,
    )


@asynccontextmanager
async def serving(folder: Path, clock: Clock | None = None, **config: Any) -> AsyncIterator[Served]:
    """The API over a database in ``folder``; what is in it already stays."""
    clock = clock or Clock()
    api = await LocalApi.start(configured(folder, **config), now=clock)
    try:
        headers = {"Authorization": f"Bearer {(await api.keys.create(BOTH)).text}"}
        transport = httpx.ASGITransport(api.app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://api.test", headers=headers
        ) as client:
            yield Served(api, client, clock)
    finally:
        await api.close()


def alive(pid: int) -> bool:
    """Whether the process is there; one that only waits to be reaped is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
