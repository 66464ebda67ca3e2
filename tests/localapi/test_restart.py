"""What a server finds when it starts again: a run cut off by its death, runs that still wait, another server,
a wrong file.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from scheduler.core.errors import ConfigurationError, DatabaseRefused, Unreachable
from scheduler.localapi.runner import orphans
from scheduler.localapi.runner.workspace import Workspace
from scheduler.localapi.runs import INTERRUPTED
from scheduler.localapi.server import LocalApi
from tests.localapi.support import Clock, alive, configured, eventually, serving


async def doomed(folder: Path, number: int, *command: str) -> Process:
    """Start a server in a process of its own, in the same group as all that it starts is not."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.localapi.doomed_server", str(folder), str(number), *command, stdout=PIPE
    )
    assert process.stdout is not None
    while await process.stdout.readline() != b"ready\n":
        assert process.returncode is None
    return process


def test_after_a_kill_no_run_is_without_an_end_and_those_that_waited_are_carried_out(tmp_path: Path) -> None:
    async def story() -> None:
        pids = tmp_path / "pids"
        process = await doomed(tmp_path, 5, "sh", "-c", f"echo $$ >> {pids}; exec sleep 600")
        await eventually(lambda: lines(pids), lambda seen: len(seen) == 2)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await eventually(
            lambda: lines(pids), lambda seen: not any(alive(int(pid)) for pid in seen)
        )  # before any next start
        async with serving(tmp_path, command=("cat",)) as served:
            ended = await eventually(
                served.api.runs.list_runs, lambda runs: all(run["finished_at"] for run in runs)
            )
            assert Counter((run["status"], run["error"]) for run in ended) == {
                ("failed", INTERRUPTED.error): 2,
                ("success", None): 3,
            }
            assert [run["status"] for run in ended[::-1]] == [
                "failed",
                "failed",
                "success",
                "success",
                "success",
            ]
            shown = [await served.show(run["automation_id"]) for run in ended]
            assert [(one["last_run_status"], one["last_error"]) for one in shown] == [
                (run["status"], run["error"]) for run in ended
            ]

    asyncio.run(story())


def test_what_is_left_when_the_watcher_was_killed_too_ends_with_the_next_start(tmp_path: Path) -> None:
    async def story() -> None:
        pids = tmp_path / "pids"
        process = await doomed(tmp_path, 1, "sh", "-c", f"echo $PPID $$ > {pids}; exec sleep 600")
        watcher, command = map(int, await eventually(lambda: lines(pids), lambda seen: len(seen) == 2))
        process.send_signal(signal.SIGSTOP)  # so that it does not hear of it
        os.kill(watcher, signal.SIGKILL)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert alive(command)
        async with serving(tmp_path, command=("cat",), grace=0.2) as served:
            assert not alive(command), "nothing of a run goes on without its server"
            (run,) = await served.api.runs.list_runs()
            assert (run["status"], run["error"]) == ("failed", INTERRUPTED.error)

    asyncio.run(story())


@pytest.mark.timeout(120)
def test_kill_after_kill_leaves_no_process_and_no_run_without_an_end(tmp_path: Path) -> None:
    """Also none that has a session of its own, ignores SIGTERM, or was left by a parent that is gone."""
    ways = (
        "exec sleep 600",
        "setsid sleep 600 & exit 0",
        "trap '' TERM; while :; do sleep 0.1; done",
        "(setsid setsid sleep 600 &) ; sleep 600",
    )

    async def story() -> None:
        pids = tmp_path / "pids"
        for number, way in enumerate(ways):
            process = await doomed(tmp_path, 2, "sh", "-c", f"echo $$ >> {pids}; {way}")
            seen = await lines(pids)
            await eventually(lambda: lines(pids), partial(is_longer, than=seen))
            await asyncio.sleep(number * 0.05)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        async with serving(tmp_path, command=("true",), grace=0.2) as served:
            ended = await eventually(
                lambda: served.api.runs.list_runs(limit=1000),
                lambda runs: all(run["finished_at"] for run in runs),
            )
            assert len(ended) == 2 * len(ways)
            assert {run["error"] for run in ended} - {None} == {INTERRUPTED.error}
            outputs = [Workspace(tmp_path / "runs" / run["id"]).output for run in ended]
            assert [process for output in outputs for process in orphans.find_processes(output)] == []

    asyncio.run(story())


def is_longer(seen: list[str], *, than: list[str]) -> bool:
    return len(seen) > len(than)


async def lines(path: Path) -> list[str]:
    return read(path).split()


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_one_database_has_one_server_and_the_next_may_begin_when_it_is_gone(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path):
            with pytest.raises(ConfigurationError, match=rf"being served already \(process {os.getpid()}"):
                await LocalApi.start(configured(tmp_path), now=Clock())
        process = await doomed(tmp_path, 0, "true")
        with pytest.raises(ConfigurationError, match=f"process {process.pid}"):
            await LocalApi.start(configured(tmp_path), now=Clock())
        process.send_signal(signal.SIGKILL)
        await process.wait()
        async with serving(tmp_path) as served:
            assert await served.api.runs.list_runs() == []

    asyncio.run(story())


def test_a_file_that_is_no_database_of_ours_is_refused_and_leaves_nothing_held(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "api.db").write_bytes(b"something else entirely" * 100)
        with pytest.raises(DatabaseRefused):
            await LocalApi.start(configured(tmp_path), now=Clock())
        (tmp_path / "api.db").unlink()
        async with serving(tmp_path) as served:
            await served.create()

    asyncio.run(story())


def test_a_folder_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    async def story() -> None:
        with pytest.raises(Unreachable, match="check that its folder exists"):
            await LocalApi.start(configured(tmp_path / "nowhere"), now=Clock())

    asyncio.run(story())


def test_everything_is_still_there_after_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("false",)) as served:
            key = dict(served.client.headers)["authorization"]
            created = await served.create()
            await served.start_run(created["id"])
            ended = await served.finished(created["id"])
        async with serving(tmp_path) as served:
            served.client.headers["authorization"] = key
            assert await served.show(created["id"]) == ended

    asyncio.run(story())
