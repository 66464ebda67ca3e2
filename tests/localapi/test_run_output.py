"""The end of a run's output, as the embedded API gives it away."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scheduler.localapi.keys import Scope
from scheduler.localapi.runner.output import TAIL_SIZE, read_end
from tests.localapi.support import Served, eventually, serving

PATH = "/api/projects/1/task_runs/{}/output/"


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


async def run_once(served: Served) -> str:
    """A run that has ended; its id."""
    created = await served.create()
    run_id: str = (await served.start_run(created["id"]))["last_task_run_id"]
    await served.finished(created["id"])
    return run_id


async def output(served: Served, run_id: str) -> dict[str, Any]:
    answer = await served.client.get(PATH.format(run_id))
    assert answer.status_code == 200, answer.text
    given: dict[str, Any] = answer.json()
    return given


def test_what_a_run_printed_is_given_while_it_goes_on_and_afterwards(tmp_path: Path) -> None:
    async def story() -> None:
        flag = tmp_path / "flag"
        async with serving(
            tmp_path, command=shell(f"echo one; while [ ! -e {flag} ]; do sleep 0.02; done; echo two; exit 3")
        ) as served:
            created = await served.create()
            run_id = (await served.start_run(created["id"]))["last_task_run_id"]
            seen = await eventually(lambda: output(served, run_id), lambda given: given["output"])
            assert seen == {"id": run_id, "status": "running", "size": 4, "output": "one\n"}
            flag.touch()
            await served.finished(created["id"])
            assert await output(served, run_id) == {
                "id": run_id,
                "status": "failed",
                "size": 8,
                "output": "one\ntwo\n",
            }

    asyncio.run(story())


def test_of_a_long_output_the_last_lines_are_given(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=shell("seq 100000")) as served:
            given = await output(served, await run_once(served))
            assert given["size"] == 588895
            lines = given["output"].splitlines()
            assert lines == [str(number) for number in range(int(lines[0]), 100001)]
            assert TAIL_SIZE - 10 < len(given["output"]) <= TAIL_SIZE

    asyncio.run(story())


def test_an_output_that_is_gone_or_never_was_is_null(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            given = await output(served, await run_once(served))  # without a command
            assert (given["status"], given["size"], given["output"]) == ("failed", None, None)

    asyncio.run(story())


def test_a_run_of_nobody_or_of_another_project_is_not_found(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("echo", "secret")) as served:
            run_id = await run_once(served)
            get = served.client.get
            for path in ("0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e6f", "nonsense", "%2e%2e"):
                assert (await get(PATH.format(path))).status_code == 404
            other = await served.key(Scope.READ, project_id=2)
            for project in ("1", "2", "@current"):
                assert (
                    await get(f"/api/projects/{project}/task_runs/{run_id}/output/", headers=other)
                ).status_code == 404
            assert (await get(PATH.format(run_id), headers={"Authorization": "Bearer no"})).status_code == 401
            assert (
                await get(PATH.format(run_id.replace("-", "")), headers=await served.key(Scope.READ))
            ).json()["output"] == "secret\n"
            assert (await served.client.post(PATH.format(run_id))).status_code == 405

    asyncio.run(story())


def _make_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [_make_link, _make_pipe, Path.mkdir, lambda _: None])
def test_nothing_but_an_ordinary_file_is_read_and_nothing_is_waited_for(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "output")
    assert read_end(tmp_path / "output") is None


@pytest.mark.parametrize(
    ("content", "end"),
    [
        (b"", b""),
        (b"abcd", b"abcd"),
        (b"a\nbc\n", b"bc\n"),
        (b"abcdefgh", b"efgh"),
        (b"abc\ndef\n", b"def\n"),
        (b"a\n\ncd\n", b"\ncd\n"),
        (b"abcdefgh\n", b"fgh\n"),
    ],
)
def test_an_end_begins_with_a_line_where_it_can(tmp_path: Path, content: bytes, end: bytes) -> None:
    (tmp_path / "output").write_bytes(content)
    assert read_end(tmp_path / "output", most=4) == (len(content), end)
