"""How much of the disk the runs take is measured by processes, within a bounded time, and shown."""

import asyncio
import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from scheduler.localapi.runner import retention
from scheduler.localapi.runner.process import end_child, kill_child
from scheduler.localapi.runner.sizes import RunSize, measure
from scheduler.localapi.runner.workspace import Workspace
from tests.defaults import runner_config
from tests.localapi.support import Served, alive, eventually, serving
from tests.localapi.test_metrics_and_health import samples

KIB = 1024


def fill(root: Path, run_id: str, *, output: int, work: int) -> None:
    workspace = Workspace(root / run_id)
    workspace.prepare("p")
    workspace.output.write_bytes(bytes(output))
    (workspace.work / "deep").mkdir()
    (workspace.work / "deep" / "file").write_bytes(bytes(work))


def test_outputs_and_working_directories_are_told_apart_and_what_is_not_there_is_left_out(
    tmp_path: Path,
) -> None:
    fill(tmp_path, "first", output=100 * KIB, work=1000 * KIB)
    fill(tmp_path, "second", output=300 * KIB, work=0)
    asyncio.run(Workspace(tmp_path / "second").remove_work())
    sizes = asyncio.run(measure(tmp_path, ["first", "missing", "second"], 30.0))
    assert sizes.keys() == {"first", "second"}
    assert 100 <= sizes["first"].outputs / KIB < 130
    assert 1000 <= sizes["first"].clones / KIB < 1030
    assert 300 <= sizes["second"].outputs / KIB < 330
    assert sizes["second"].clones == 0


def test_measuring_ends_in_time_with_what_it_has_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "du").write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid\nprintf "
        "'5\\tfirst/work\\n7\\tfirst\\n9\\tsecond/work\\n'\nexec sleep 600\n"
    )
    (programs / "du").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    assert asyncio.run(measure(tmp_path, ["first", "second"], 1.0)) == {"first": RunSize(7, 5)}
    assert not alive(int((tmp_path / "pid").read_text()))


def test_asyncio_alone_waits_for_the_processes_that_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`check` printed "Unknown child process" when the exit status was taken from asyncio's thread by
    `Process.kill`.
    """
    polled: list[int] = []
    monkeypatch.setattr(subprocess.Popen, "poll", lambda process: polled.append(process.pid))
    fill(tmp_path, "first", output=KIB, work=KIB)
    assert asyncio.run(measure(tmp_path, ["first"], 30.0)).keys() == {"first"}

    async def kill_running() -> int:
        process = await asyncio.create_subprocess_exec("sleep", "600")
        kill_child(process)
        await process.wait()
        kill_child(process)  # which has ended
        return await process.wait()

    assert asyncio.run(kill_running()) == -signal.SIGKILL
    assert polled == []
    assert caplog.messages == []


def test_a_child_has_ended_however_often_its_end_is_cancelled() -> None:
    """Otherwise asyncio warned about a process that still ran when the loop of the server was closed."""

    async def end_and_cancel() -> int | None:
        process = await asyncio.create_subprocess_exec("sleep", "600", stdout=subprocess.PIPE)
        ending = asyncio.create_task(end_child(process))
        for _ in range(3):
            await asyncio.sleep(0)
            ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        return process.returncode

    assert asyncio.run(end_and_cancel()) == -signal.SIGKILL


def test_the_metrics_follow_what_runs_leave_and_what_retention_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_INTERVAL", 0.05)

    async def shown(served: Served) -> tuple[float, float]:
        seen = await samples(served)
        return tuple(
            seen[f'scheduler_api_size_bytes{{part="{part}"}}'] / KIB for part in ("outputs", "clones")
        )  # type: ignore[return-value]

    async def run(served: Served, size: str) -> dict[str, Any]:
        created = await served.create(prompt=size)
        await served.start_run(created["id"])
        return await served.finished(created["id"])

    async def story() -> None:
        script = 'head -c "$(cat)" /dev/zero > file; head -c 200K /dev/zero'
        async with serving(tmp_path, command=("sh", "-c", script), retention=3600.0) as served:
            assert (await samples(served))['scheduler_api_size_bytes{part="database"}'] > 4096
            await run(served, "1000K")
            await eventually(
                lambda: shown(served), lambda sizes: 200 <= sizes[0] < 250 and 1000 <= sizes[1] < 1050
            )
            served.clock.instant += timedelta(minutes=40)
            await run(served, "500K")
            await eventually(
                lambda: shown(served), lambda sizes: 400 <= sizes[0] < 450 and 1500 <= sizes[1] < 1550
            )
            served.clock.instant += timedelta(minutes=40)
            await eventually(
                lambda: shown(served), lambda sizes: 200 <= sizes[0] < 250 and 500 <= sizes[1] < 550
            )
        async with serving(tmp_path, served.clock, command=("true",)) as served:
            await eventually(
                lambda: shown(served), lambda sizes: 200 <= sizes[0] < 250 and 500 <= sizes[1] < 550
            )

    asyncio.run(story())


def test_a_run_that_is_measured_while_old_runs_are_looked_for_stays_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = retention.Retention(runner_config(tmp_path), Mock(), Mock())
    for name in ("_measure", "_remove_rows", "_repeat_until_done"):
        monkeypatch.setattr(kept, name, AsyncMock())
    monkeypatch.setattr(kept, "_now", lambda: datetime(2026, 11, 23, tzinfo=UTC))
    kept._note_size("gone", RunSize(1, 2))

    def list_names(_: Path) -> list[str]:
        kept._note_size("late", RunSize(3, 4))
        return []

    monkeypatch.setattr(Workspace, "list_names", list_names)
    asyncio.run(kept._remove_old())
    assert kept.size == RunSize(3, 4)
