"""The whole product in a temporary folder: the embedded API and the daemon as processes of their own, as an
operator runs them.
"""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from scheduler.localapi.keys import ApiKeys, NewApiKey, Scope
from scheduler.localapi.schema import open_database
from tests.launcher import Process, carry_out_beside, start
from tests.ports import free_port

PATIENCE = 60.0


async def until(condition: Callable[[], Awaitable[Any]], *, seconds: float = PATIENCE, what: str) -> Any:
    """What ``condition`` gives as soon as that is true of it."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (found := await condition()):
        assert asyncio.get_running_loop().time() < deadline, f"waited {seconds} s for: {what}"
        await asyncio.sleep(0.05)
    return found


def plain_client(**settings: Any) -> httpx.AsyncClient:
    """A client for plain HTTP: to read the certificates that it trusts takes ten times as long as a
    request.
    """
    return httpx.AsyncClient(verify=False, **settings)


def now() -> datetime:
    return datetime.now(UTC)


def next_minute(after: datetime) -> datetime:
    return after.replace(second=0, microsecond=0) + timedelta(minutes=1)


@dataclass
class Stand:
    folder: Path
    api_port: int = field(default_factory=free_port)
    daemon_port: int = field(default_factory=free_port)
    target_port: int = 0  # where the daemon believes that the API is
    settings: str = ""  # more of the daemon's TOML
    target_settings: str = ""
    target_name: str = "main"
    node: str = ""  # the host's name when it is empty
    environments: dict[str, dict[str, str]] = field(default_factory=dict)  # by command, beside our own
    key: str = ""
    key_id: str = ""
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def ledger(self) -> Path:
        return self.folder / "scheduler.db"

    @property
    def api_database(self) -> Path:
        return self.folder / "api.db"

    @property
    def file(self) -> Path:
        return self.folder / "scheduler.toml"

    def write_configuration(self) -> Path:
        self.file.write_text(self.configuration())
        return self.file

    def configuration(self) -> str:
        return f"""
[[target]]
name = "{self.target_name}"
url = "http://127.0.0.1:{self.target_port or self.api_port}"
project_id = "1"
key_file = "{self.folder}/key"
requests_per_minute = 100000
requests_per_hour = 1000000
{self.target_settings}
[ledger]
url = "sqlite:///{self.ledger}"
[server]
listen = "127.0.0.1:{self.daemon_port}"
[log]
format = "json"
level = "debug"
[api]
listen = "127.0.0.1:{self.api_port}"
database = "sqlite:///{self.api_database}"
[api.runner]
command = ["true"]
max_parallel = 2
[daemon]
node = "{self.node}"
{self.settings}
"""

    async def command(self, *arguments: str, check: bool = True) -> str:
        done = await self.carry_out(*arguments)
        assert not check or done.returncode == 0, (
            f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout

    async def carry_out(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await carry_out_beside([*arguments, "--config", str(self.file)], _environment())

    async def start_api(self) -> None:
        self.write_configuration()
        if not self.key:
            await self.create_key()
        await self.start("serve")
        await until(lambda: self.answers(self.api_port, "/healthz"), what="the API to be healthy")

    async def create_key(self) -> str:
        """Make a key and put it where the daemon reads its own. Return its id."""
        made = await self.make_key(Scope.READ, Scope.WRITE)
        self.key, self.key_id = made.text, made.key.id
        file = self.folder / "key"
        file.touch(0o600)
        file.write_text(self.key)
        return self.key_id

    async def make_key(self, *scopes: Scope) -> NewApiKey:
        """Make a key without a process of its own.

        Not by the function behind `scheduler keys create`: that function changes the umask and the user of
        the whole process, and other stands run in other threads.
        """
        self.api_database.touch(0o600)  # for the owner only
        with closing(await asyncio.to_thread(open_database, self.api_database)) as database:
            return await ApiKeys(database, now).create(scopes)

    async def start_daemon(self, *, ready: bool = True) -> None:
        self.write_configuration()
        await self.start("run")
        if ready:
            await until(lambda: self.answers(self.daemon_port, "/readyz"), what="the daemon to be ready")

    async def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        await self.processes.pop(name).ended()

    async def stop(self, name: str) -> int:
        process = self.processes.pop(name)
        process.terminate()
        return await asyncio.wait_for(process.ended(), PATIENCE)

    async def close(self) -> None:
        """Leave nothing behind. What ended by itself is told by whoever waited for it, and not hidden here by
        another error.
        """
        for name, process in list(self.processes.items()):
            if process.returncode is None:
                await self.kill(name)

    def client(self) -> httpx.AsyncClient:
        return plain_client(
            base_url=f"http://127.0.0.1:{self.api_port}/api/projects/1/task_automations",
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=PATIENCE,
        )

    async def get(self, path: str) -> httpx.Response:
        async with plain_client() as client:
            return await client.get(f"http://127.0.0.1:{self.daemon_port}{path}")

    def rows(self, sql: str, *values: object, database: Path | None = None) -> list[dict[str, Any]]:
        connection = sqlite3.connect(f"file:{database or self.ledger}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(sql, values)]
        finally:
            connection.close()

    def log(self, name: str = "run") -> list[dict[str, Any]]:
        lines = (self.folder / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    async def start(self, command: str, *, name: str = "", file: Path | None = None) -> None:
        """Start a process that goes on, under a name of its own where there are several of a kind."""
        name = name or command
        environment = _environment() | self.environments.get(command, {})
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = start([command, "--config", str(file or self.file)], environment, log, log)

    async def answers(self, port: int, path: str) -> bool:
        for name, process in self.processes.items():
            assert process.returncode is None, (
                f"{name} ended: {(self.folder / f'{name}.log').read_text()[-3000:]}"
            )
        try:
            async with plain_client() as client:
                return (await client.get(f"http://127.0.0.1:{port}{path}", timeout=1)).status_code == 200
        except httpx.TransportError:
            return False


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SCHEDULER_")}
