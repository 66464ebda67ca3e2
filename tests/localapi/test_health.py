"""The embedded API knows when its database cannot be written, says so once, and knows when the database works
again.
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from structlog.testing import capture_logs

from scheduler.core.errors import LedgerUnavailable
from scheduler.localapi.health import DatabaseHealth
from scheduler.localapi.runner.retention import Retention
from tests.localapi.support import COLLECTION, VALID, Served, eventually, serving

_DATABASE = 'scheduler_api_healthy{part="database"}'


@pytest.fixture(autouse=True)
def _nobody_else_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention writes when a server starts: its write may fail too, with another cause."""

    async def nothing(_: Retention) -> None:
        return

    monkeypatch.setattr(Retention, "_remove_old", nothing)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """As on a full disk: no file grows beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def create(served: Served, prompt: str = "Tidy up") -> int:
    return (await served.client.post(COLLECTION, json={**VALID, "prompt": prompt})).status_code


async def health(served: Served) -> tuple[int, Any]:
    answer = await served.client.get("/healthz")
    return answer.status_code, answer.json()


def events(logged: list[Any]) -> list[str]:
    return [entry["event"] for entry in logged if entry["event"].startswith("database.")]


def test_a_full_disk_shows_until_there_is_room_also_when_nobody_writes(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            with capture_logs() as logged:
                with files_limited_to(1):
                    assert [await create(served) for _ in range(5)] == [503] * 5
                    assert await health(served) == (503, {"database": False, "runner": True})
                    assert f"{_DATABASE} 0.0" in (await served.client.get("/metrics")).text
                    assert "the database does not work" in served.api.describe_state()
                    assert events(logged) == ["database.unavailable"]
                assert await eventually(lambda: health(served), lambda seen: seen[0] == 200)
                assert f"{_DATABASE} 1.0" in (await served.client.get("/metrics")).text
                assert await create(served) == 201
            assert events(logged) == ["database.unavailable", "database.recovered"]
            assert "api.db" in logged[0]["error"]
            assert logged[0]["log_level"] == "error"

    asyncio.run(story())


def test_a_small_write_that_finds_room_does_not_end_the_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.localapi.health._PROBE_EVERY", 0.02)

    async def story() -> None:
        async with serving(tmp_path) as served:
            await served.create()
            with (
                capture_logs() as logged,
                files_limited_to((tmp_path / "api.db-wal").stat().st_size + 200_000),
            ):
                probed = asyncio.Event()
                probe = served.api._database_health._probe
                served.api._database_health._probe = lambda database: (probed.set(), probe(database))[1]  # type: ignore[method-assign,func-returns-value]
                assert await create(served, "p" * 500_000) == 503
                assert await create(served) == 201
                await probed.wait()
                probed.clear()
                await probed.wait()
                assert (await health(served))[0] == 503
                assert events(logged) == ["database.unavailable"]
            assert await eventually(lambda: health(served), lambda seen: seen[0] == 200)

    asyncio.run(story())


def test_causes_that_take_turns_are_logged_once_each(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            with capture_logs() as logged:
                with files_limited_to(1):
                    assert await create(served) == 503
                    (tmp_path / "api.db").rename(tmp_path / "moved.db")
                    assert await create(served) == 503
                    (tmp_path / "moved.db").rename(tmp_path / "api.db")
                    assert await create(served) == 503
                await eventually(lambda: health(served), lambda seen: seen[0] == 200)
            assert events(logged) == ["database.unavailable", "database.unavailable", "database.recovered"]

    asyncio.run(story())


@pytest.mark.parametrize("turns", range(4))
def test_a_write_as_the_server_ends_does_not_keep_the_server_from_ending(tmp_path: Path, turns: int) -> None:
    async def story() -> None:
        health = DatabaseHealth(tmp_path)
        health.note_fault(LedgerUnavailable("the disk is full"))
        prober = asyncio.create_task(health.probe_while_failed(AsyncMock()))
        await take_turns(10)  # it waits for a write
        health.note_commit(0.0)
        await take_turns(turns)
        prober.cancel()
        await take_turns(10)
        assert prober.cancelled()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scheduler.localapi.health._PROBE_NOT_BEFORE", 0)
        asyncio.run(story())


def test_a_probe_that_gets_no_thread_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.localapi.health._PROBE_EVERY", 0.01)

    async def story() -> None:
        refused = Mock(side_effect=[RuntimeError("can't start new thread"), None])
        monkeypatch.setattr("scheduler.localapi.health._require_room", refused)
        async with serving(tmp_path) as served:
            with files_limited_to(1):
                assert await create(served) == 503
            assert await eventually(lambda: health(served), lambda seen: seen[0] == 200)
            assert refused.call_count == 2

    asyncio.run(story())


async def take_turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_read_that_fails_shows_too(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            with capture_logs() as logged:
                served.api._database._reader._drop_connection()
                (tmp_path / "api.db").rename(tmp_path / "moved.db")
                assert await health(served) == (503, {"database": False, "runner": True})
                (tmp_path / "moved.db").rename(tmp_path / "api.db")
                await eventually(lambda: health(served), lambda seen: seen[0] == 200)
            assert events(logged) == ["database.unavailable", "database.recovered"]

    asyncio.run(story())


def test_a_fault_of_the_runner_is_logged_once_until_it_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.localapi.runner.runner._RETRY_AFTER", 0.01)
    monkeypatch.setattr("scheduler.localapi.runner.runner._CANCEL_WITHIN", 0.01)
    tries: Counter[str] = Counter()

    async def story() -> None:
        async with serving(tmp_path, command=("true",), max_parallel=1) as served:
            created = await served.create()
            with capture_logs() as logged:
                with monkeypatch.context() as broken:
                    for name in ("take", "list_cancellations"):
                        broken.setattr(served.api.runs, name, partial(fail, name))
                    await served.start_run(created["id"])
                    await eventually(
                        tried, lambda counts: counts["take"] > 3 and counts["list_cancellations"] > 3
                    )
                assert (await served.finished(created["id"]))["last_run_status"] == "success"
            assert [entry["event"] for entry in logged].count("runner.failed") == 2

    async def fail(name: str, *_: object) -> None:
        tries[name] += 1
        raise RuntimeError(f"no {name}")

    async def tried() -> Counter[str]:
        return tries

    asyncio.run(story())
