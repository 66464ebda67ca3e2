"""How long one client's request holds up another's: `scheduler serve` as a process, costly requests, and
somebody who asks for its health.

``python -m bench.clients``. For each costly request: how long it took, the slowest answer of ``/healthz``
meanwhile, and the memory that the server had at most by then. Run it with ``PYTHONPATH`` set to another
version's folder to compare.
"""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import httpx

from tests.ports import free_port

_AUTOMATIONS: Final = 50_000
_PROJECT: Final = 2  # whose automations are many; the costly writes are project 1's
_AT_ONCE: Final = 4
_MEBIBYTE: Final = 2**20
_COLUMNS: Final = (
    "id, project_id, name, prompt, repository, cron_expression, timezone, enabled, last_task_id, "
    "created_at, updated_at"
)
_NOW: Final = "2026-11-23T19:00:00.000000Z"

Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


def _scheduler(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "scheduler", *arguments, "--config", str(folder / "scheduler.toml")]


def _create_key(folder: Path, scopes: str, project: int) -> str:
    command = _scheduler(folder, "keys", "create", "--scopes", scopes, "--project", str(project), "--json")
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    return str(json.loads(made.stdout)["key"])


def _fill(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(
            f"INSERT INTO automations ({_COLUMNS}) VALUES (?, ?, ?, ?, 'a/b', '* * * * *', 'UTC', "
            "1, ?, ?, ?)",
            (
                (
                    str(uuid.uuid4()),
                    _PROJECT,
                    f"automation {number:06}",
                    "p" * 500,
                    str(uuid.uuid4()),
                    _NOW,
                    _NOW,
                )
                for number in range(_AUTOMATIONS)
            ),
        )


def _asks(writer: str, reader: str) -> dict[str, Ask]:
    """The costly requests by name."""

    def post(content: bytes, content_type: str) -> Ask:
        headers = {"Authorization": f"Bearer {writer}", "Content-Type": content_type}
        return lambda client: client.post(
            "/api/projects/1/task_automations/", content=content, headers=headers
        )

    def page(limit: int) -> Ask:
        headers = {"Authorization": f"Bearer {reader}"}
        return lambda client: client.get(
            f"/api/projects/{_PROJECT}/task_automations/?limit={limit}", headers=headers
        )

    form = "application/x-www-form-urlencoded"
    return {
        "Content-Type of 60 kB": post(b"{}", "application/json" + ';"' * 30_000),
        "charset=punycode, 600 kB": post(b"a" * 600_000, "application/json; charset=punycode"),
        "10 MB of [],": post(b"[" + b"[]," * 3_333_333 + b"[]]", "application/json"),
        "JSON, a prompt of 10 MB": post(b'{"prompt": "' + b"a" * 10_000_000 + b'"}', "application/json"),
        "a form of escapes, 2.5 MB": post(b"a=" + b"%41" * 830_000, form),
        "?limit=1000000": page(1_000_000),
        "?limit=1000": page(1000),
    }


async def _slowest_health(client: httpx.AsyncClient, done: asyncio.Event) -> float:
    slowest = 0.0
    while not done.is_set():
        began = time.perf_counter()
        (await client.get("/healthz")).raise_for_status()
        slowest = max(slowest, time.perf_counter() - began)
        await asyncio.sleep(0.002)
    return slowest


async def _measure(client: httpx.AsyncClient, ask: Ask, times: int) -> tuple[float, float, str]:
    done = asyncio.Event()
    async with httpx.AsyncClient(base_url=client.base_url, timeout=120) as other:
        await other.get("/healthz")
        watching = asyncio.create_task(_slowest_health(other, done))
        await asyncio.sleep(0.05)
        began = time.perf_counter()
        answers = await asyncio.gather(*(ask(client) for _ in range(times)), return_exceptions=True)
        took = time.perf_counter() - began
        await asyncio.sleep(0.05)
        done.set()
        statuses = {
            str(each.status_code) if isinstance(each, httpx.Response) else type(each).__name__
            for each in answers
        }
        return took, await watching, ", ".join(sorted(statuses))


def _memory(pid: int) -> int:
    """The most memory that a process had so far, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


async def _ask_all(url: str, pid: int, asks: dict[str, Ask]) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        while True:
            try:
                (await client.get("/healthz")).raise_for_status()
                break
            except httpx.TransportError:
                await asyncio.sleep(0.05)
        print(
            f"{'request':28} {'at once':>7} {'took':>9} {'/serve_health took at most':>22} "
            f"{'memory':>8}  answer"
        )
        for name, ask in asks.items():
            for times in (1, _AT_ONCE):
                took, slowest, answered = await _measure(client, ask, times)
                memory = _memory(pid) / _MEBIBYTE
                print(
                    f"{name:28} {times:7} {took:7.2f} s {slowest:20.3f} s {memory:4.0f} MiB  {answered}",
                    flush=True,
                )


def main() -> None:
    """Measure each costly request, once and four at once."""
    with tempfile.TemporaryDirectory() as made:
        folder, port = Path(made), free_port()
        (folder / "scheduler.toml").write_text(
            f'[api]\nlisten = "127.0.0.1:{port}"\ndatabase = '
            f'"sqlite:///{folder}/api.db"\n[api.runner]\ncommand = ["true"]\n'
        )
        writer, reader = _create_key(folder, "task:write", 1), _create_key(folder, "task:read", _PROJECT)
        _fill(folder / "api.db")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SCHEDULER_")}
        with subprocess.Popen(
            _scheduler(folder, "serve"), env=environment, stdout=subprocess.DEVNULL
        ) as server:
            try:
                asyncio.run(_ask_all(f"http://127.0.0.1:{port}", server.pid, _asks(writer, reader)))
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
