"""What the daemon asks of the embedded API for the page of an automation, and of whom it asks nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from scheduler.app.run_output import RunOutputReader
from scheduler.clock import SystemClock
from scheduler.core.status import RunOutputTail
from scheduler.localapi.keys import Scope
from scheduler.ops.http_server import HttpServer
from scheduler.settings.load import load
from scheduler.settings.models import Settings
from tests.localapi.support import Served, serving
from tests.ports import free_port

NOBODY = "0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e6f"


def settings(
    folder: Path,
    port: int,
    *,
    host: str = "127.0.0.1",
    server: str = "",
    url: str | None = None,
    key_file: Path | None = None,
) -> Settings:
    (folder / "scheduler.toml").write_text(
        f"""
        [[target]]
        url = "{url or f"http://127.0.0.1:{port}"}"
        project_id = "1"
        key_file = "{key_file or folder / "key"}"
        [api]
        listen = "{host}:{port}"
        [server]
        {server}
        """
    )
    return load(folder / "scheduler.toml", {}).settings


class Counted:
    """An application that counts its requests."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.requests = 0

    async def __call__(self, *args: Any) -> None:
        self.requests += 1
        await self._app(*args)


@asynccontextmanager
async def embedded(folder: Path, port: int, *command: str) -> AsyncIterator[tuple[Served, Counted]]:
    """The embedded API on its port, with a key for the daemon."""
    async with serving(folder, command=command) as served:
        (folder / "key").write_text((await served.api.keys.create([Scope.READ])).text)
        counted = Counted(served.api.app)
        async with HttpServer(counted, f"127.0.0.1:{port}", setting="a test"):
            yield served, counted


async def run_once(served: Served) -> str:
    created = await served.create()
    run_id: str = (await served.start_run(created["id"]))["last_task_run_id"]
    await served.finished(created["id"])
    return run_id


def test_the_output_of_a_run_is_asked_of_the_embedded_api_and_shown_again_for_a_while(tmp_path: Path) -> None:
    async def story() -> None:
        port = free_port()
        async with embedded(tmp_path, port, "echo", "done") as (served, counted):
            run_id = await run_once(served)
            outputs = RunOutputReader(settings(tmp_path, port), SystemClock())
            seen = await asyncio.gather(*(outputs.read("default", run_id) for _ in range(5)))
            assert seen == [RunOutputTail(5, "done\n")] * 5
            assert await outputs.read("default", NOBODY) is None
            assert counted.requests == 2
            assert await outputs.read("default", "no id") is None
            assert await outputs.read("other", run_id) is None
            assert counted.requests == 2

    asyncio.run(story())


def test_an_api_that_does_not_answer_is_told_and_left_alone_for_a_while(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "key").write_text("phx_key")
        outputs = RunOutputReader(settings(tmp_path, free_port()), SystemClock())
        first = await outputs.read("default", NOBODY)
        assert first is not None
        assert first.error
        assert await outputs.read("default", NOBODY.replace("0", "1")) is first

    asyncio.run(story())


def test_a_key_that_is_not_there_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        output = await RunOutputReader(
            settings(tmp_path, free_port(), key_file=tmp_path / "none"), SystemClock()
        ).read("default", NOBODY)
        assert output is not None
        assert output.error is not None
        assert "none" in output.error

    asyncio.run(story())


@pytest.mark.parametrize(
    ("server", "url", "is_asked"),
    [
        ("", None, True),
        ("", "http://127.0.0.1:1", False),
        ("", "https://us.example.com", False),
        ("run_output = false", None, False),
        ('listen = "0.0.0.0:9464"', None, False),
        ('listen = "0.0.0.0:9464"\nrun_output = true', None, True),
        ('listen = "[::1]:9464"', None, True),
        ('listen = ""', None, False),
        ("run_output = true", "https://us.example.com", False),
    ],
)
def test_only_the_embedded_api_is_asked_and_only_for_those_who_may_know(
    tmp_path: Path, server: str, url: str | None, *, is_asked: bool
) -> None:
    async def story() -> None:
        outputs = RunOutputReader(settings(tmp_path, free_port(), server=server, url=url), SystemClock())
        assert (
            await outputs.read("default", NOBODY) is not None
        ) is is_asked  # the key is not there, and that is told

    asyncio.run(story())


@pytest.mark.parametrize(
    ("host", "url", "is_asked"),
    [
        ("127.0.0.1", "http://localhost:{port}", True),
        ("localhost", "http://127.0.0.1:{port}", True),
        ("127.0.0.1", "http://127.0.0.1:{port}/api", False),
        ("0.0.0.0", "http://127.0.0.1:{port}", True),
        ("[::]", "http://localhost:{port}", True),
        ("0.0.0.0", "http://us.example.com:{port}", False),
        ("192.0.2.7", "http://192.0.2.7:{port}", True),
    ],
)
def test_the_embedded_api_is_known_by_the_address_of_this_machine(
    tmp_path: Path, host: str, url: str, *, is_asked: bool
) -> None:
    async def story() -> None:
        port = free_port()
        outputs = RunOutputReader(
            settings(tmp_path, port, host=host, url=url.format(port=port)), SystemClock()
        )
        assert (await outputs.read("default", NOBODY) is not None) is is_asked

    asyncio.run(story())


def test_an_answer_is_forgotten_when_it_is_too_old_to_be_shown_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.app.run_output._APART", 0.0)
    monkeypatch.setattr("scheduler.app.run_output._FRESH_FOR", 0.0)

    async def story() -> None:
        outputs = RunOutputReader(settings(tmp_path, free_port()), SystemClock())

        async def ask(*_: object) -> RunOutputTail:
            return RunOutputTail(1, "x")

        monkeypatch.setattr(outputs, "_ask", ask)
        for number in range(100):
            await outputs.read("default", f"{number:036}")
        assert len(outputs._answers) == 1

    asyncio.run(story())


def test_only_a_few_pages_wait_for_their_turn_and_the_others_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.app.run_output._APART", 0.0)

    async def story() -> None:
        outputs = RunOutputReader(settings(tmp_path, free_port()), SystemClock())

        async def ask(*_: object) -> RunOutputTail:
            return RunOutputTail(1, "x")

        monkeypatch.setattr(outputs, "_ask", ask)
        seen = await asyncio.gather(*(outputs.read("default", f"{number:036}") for number in range(100)))
        refused = [output.error for output in seen if output is not None and output.error]
        assert refused == ["16 pages already wait for outputs of runs; try again in some seconds"] * 84
        assert await outputs.read("default", NOBODY) == RunOutputTail(1, "x"), (
            "those that waited have made room"
        )

    asyncio.run(story())
