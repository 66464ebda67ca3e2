"""How soon does the embedded API answer? ``python -m bench.api [LARGE]``.

First alone: one client, a store with a hundred automations and one with LARGE (100,000). Then under load: 300
automations are started within a second, while 20 other clients read and write; each run must be carried out
once then, in order. Twice: with clients that pause between a request and the next, and with clients that
never do, where the answers wait for each other as long as there are clients.
"""

import asyncio
import json
import random
import sqlite3
import statistics
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import uvloop

from bench import parts
from scheduler.localapi.keys import ApiKeys
from scheduler.localapi.schema import open_database

SMALL = 100
PAGE = 100
REQUESTS = 400
CLIENTS = 20
STARTS = 300
PAUSE = 0.05  # seconds
COLLECTION = "/api/projects/1/task_automations/"
NOW = "2026-11-24T06:00:00.000000Z"


class Client:
    """One connection; as little of HTTP as there can be, so that what is measured is the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        self._reader = reader
        self._writer = writer
        self._key = key

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[float, Any]:
        """The seconds until the whole answer was there, and what it says."""
        content = b"" if body is None else json.dumps(body).encode()
        began = time.perf_counter()
        self._writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 2"):
            raise SystemExit(f"{method} {path}: {head.decode()}")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answer = await self._reader.readexactly(length)
        return time.perf_counter() - began, json.loads(answer)


@asynccontextmanager
async def client(key: str) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", parts.PORT, limit=2**22)
    try:
        yield Client(reader, writer, key)
    finally:
        writer.close()


@contextmanager
def served(folder: Path, count: int) -> Iterator[tuple[str, list[str]]]:
    """The real server over so many automations: a key, and their ids."""
    key, ids = seeded(folder / "api.db", count)
    (folder / "scheduler.toml").write_text(f"""
[api]
listen = "127.0.0.1:{parts.PORT}"
database = "sqlite:///{folder}/api.db"
[api.runner]
command = ["true"]
""")
    with parts.process(
        "-m", "scheduler", "serve", "--config", str(folder / "scheduler.toml"), log=folder / "log"
    ) as server:
        parts.wait_for(f"http://127.0.0.1:{parts.PORT}/healthz", server, folder / "log")
        yield key, ids


def seeded(path: Path, count: int) -> tuple[str, list[str]]:
    async def key() -> str:
        return (await ApiKeys(database, lambda: datetime.now(UTC)).create(["task:write"])).text

    database = open_database(path)
    made = asyncio.run(key())
    database.close()
    ids = [str(uuid.uuid4()) for _ in range(count)]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO automations (id, project_id, name, prompt, repository, cron_expression, "
            "timezone, enabled, last_task_id, "
            "created_at, updated_at) VALUES (?, 1, ?, 'Tidy up', 'acme/app', '0 3 * * *', 'UTC', 1, ?, ?, ?)",
            [
                (each, f"automation {number:06}", str(uuid.uuid4()), NOW, NOW)
                for number, each in enumerate(ids)
            ],
        )
    return made, ids


async def alone(key: str, ids: list[str]) -> dict[str, list[float]]:
    """One client, one request after the other."""
    chance = random.Random(1)
    last = len(ids) - PAGE
    kinds: dict[str, tuple[str, Callable[[], str]]] = {
        "list, first page": ("GET", lambda: COLLECTION),
        "list, a page in the middle": ("GET", lambda: f"{COLLECTION}?offset={last // 2}"),
        "list, the last page": ("GET", lambda: f"{COLLECTION}?offset={last}"),
        "list, any page": ("GET", lambda: f"{COLLECTION}?offset={chance.randint(0, last)}"),
        "retrieve": ("GET", lambda: f"{COLLECTION}{chance.choice(ids)}/"),
        "run": ("POST", lambda: f"{COLLECTION}{chance.choice(ids)}/run/"),
    }
    taken: dict[str, list[float]] = defaultdict(list)
    async with client(key) as asking:
        for kind, (method, path) in kinds.items():
            for _ in range(REQUESTS):
                taken[kind].append((await asking.ask(method, path()))[0])
    return taken


async def under_load(key: str, ids: list[str], pause: float) -> tuple[dict[str, list[float]], list[str]]:
    """The seconds that each kind of request took, and the runs in the order in which they were answered."""
    taken: dict[str, list[float]] = defaultdict(list)
    started: list[str] = []
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    async def busy(number: int) -> None:
        chance = random.Random(number)
        async with client(key) as asking:
            while not done.is_set():
                automation = f"{COLLECTION}{chance.choice(ids)}/"
                kinds: dict[str, tuple[str, str, dict[str, str] | None]] = {
                    "retrieve": ("GET", automation, None),
                    "list": ("GET", COLLECTION, None),
                    "update": ("PATCH", automation, {"prompt": f"Tidy up {chance.random()}"}),
                    "create": (
                        "POST",
                        COLLECTION,
                        {"name": "new", "prompt": "p", "repository": "a/b", "cron_expression": "0 3 * * *"},
                    ),
                }
                (kind,) = chance.choices(list(kinds), weights=[4, 2, 2, 2])
                taken[kind].append((await asking.ask(*kinds[kind]))[0])
                await asyncio.sleep(chance.uniform(0, 2 * pause))

    async def start(automation: str, at: float) -> None:
        async with client(key) as asking:
            await asyncio.sleep(at - loop.time())
            seconds, shown = await asking.ask("POST", f"{COLLECTION}{automation}/run/")
            taken["run"].append(seconds)
            started.append(shown["last_task_run_id"])

    clients = [asyncio.create_task(busy(number)) for number in range(CLIENTS)]
    begin = loop.time() + 2.0
    await asyncio.gather(
        *(start(automation, begin + number / STARTS) for number, automation in enumerate(ids[:STARTS]))
    )
    await asyncio.sleep(2.0)
    done.set()
    await asyncio.gather(*clients)
    return taken, started


def ended(path: Path, started: list[str]) -> str:
    """Wait until all runs have ended, and say whether each was carried out once and in order."""
    with closing(sqlite3.connect(path)) as connection:
        while connection.execute(
            "SELECT count(*) FROM runs WHERE status IN ('queued', 'running')"
        ).fetchone()[0]:
            time.sleep(0.1)
        rows = connection.execute("SELECT id, status, started_at FROM runs ORDER BY sequence").fetchall()
    begun = [started_at for _, _, started_at in rows]
    if sorted(started) != sorted(run_id for run_id, _, _ in rows):
        return "WRONG: the runs are not those that were answered"
    if {status for _, status, _ in rows} != {"success"} or begun != sorted(begun):
        return "WRONG: not all were carried out, or not in order"
    return f"{len(rows)} runs accepted, each carried out once and in order"


def line(kind: str, *taken: list[float]) -> str:
    figures = [
        f"{statistics.median(each) * 1000:>9.2f} {parts.quantile(sorted(each), 0.99) * 1000:>9.2f}"
        for each in taken
    ]
    ratio = (
        f" {statistics.median(taken[1]) / statistics.median(taken[0]):>8.2f}"
        if len(taken) > 1
        else f" {max(taken[0]) * 1000:>9.2f}"
    )
    return f"{kind:<28}" + "".join(figures) + ratio


def main() -> None:
    large = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    found = []
    for count in (SMALL, large):
        with parts.folder() as folder, served(folder, count) as (key, ids):
            found.append(uvloop.run(alone(key, ids)))
    print(
        f"{'one client; ms':<28}{f'p50 of {SMALL}':>9} {'p99':>9}{f'of {large}':>9} {'p99':>9} "
        f"{'p50 / p50':>8}"
    )
    for kind in found[0]:
        print(line(kind, found[0][kind], found[1][kind]), flush=True)
    for pause, how in ((PAUSE, f"that pause for {PAUSE * 1000:g} ms"), (0.0, "that never pause")):
        with parts.folder() as folder, served(folder, 1000) as (key, ids):
            taken, started = uvloop.run(under_load(key, ids, pause))
            verdict = ended(folder / "api.db", started)
        print(
            f"\n{STARTS} runs in 1 s, {CLIENTS} clients {how}\n{'ms':<28}{'p50':>9} {'p99':>9} "
            f"{'most':>9}  requests"
        )
        for kind, seconds in [*sorted(taken.items()), ("all", list(chain(*taken.values())))]:
            print(f"{line(kind, seconds)} {len(seconds):>9}", flush=True)
        print(verdict)


if __name__ == "__main__":
    main()
