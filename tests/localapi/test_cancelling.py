"""Cancelling a run: one that waits, one that is carried out, one that has ended, and all over again after a restart."""

import asyncio
from pathlib import Path
from typing import Any

from tests.localapi.support import Served, alive, eventually, serving


async def run(served: Served, run_id: str) -> dict[str, Any]:
    found = await served.api.runs.run(run_id)
    assert found is not None
    return found


async def ended(served: Served, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = await eventually(lambda: run(served, run_id), lambda seen: seen["finished_at"] is not None)
    return found


def test_a_run_that_is_carried_out_is_ended_and_its_automation_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        command = ("sh", "-c", f"echo $$ > {tmp_path}/pid; echo half done; exec sleep 600")
        async with serving(tmp_path, command=command) as served:
            created = await served.create()
            run_id = (await served.start_run(created["id"]))["last_task_run_id"]
            await eventually(lambda: printed(tmp_path, run_id), bool)
            assert await served.api.runs.cancel(run_id)
            shown = await served.finished(created["id"])
            assert shown["last_run_status"] == "failed"
            assert shown["last_error"] == "The run was cancelled, and the command was ended. The last line of its output: half done"
            assert not alive(int((tmp_path / "pid").read_text()))
            ended_run = await run(served, run_id)
            assert ended_run["started_at"] < ended_run["cancelled_at"] < ended_run["finished_at"]
            assert not await served.api.runs.cancel(run_id), "it has ended"

    asyncio.run(story())


async def printed(folder: Path, run_id: str) -> bool:
    file = folder / "runs" / run_id / "output"
    return file.exists() and file.read_bytes() == b"half done\n"


def test_a_run_that_waits_never_begins_and_the_others_keep_their_order(tmp_path: Path) -> None:
    async def story() -> None:
        command = ("sh", "-c", f"cat >> {tmp_path}/log; [ -e {tmp_path}/go ] || sleep 600")
        async with serving(tmp_path, command=command, max_parallel=1) as served:
            created = [await served.create(prompt=str(number)) for number in range(4)]
            runs = [(await served.start_run(each["id"]))["last_task_run_id"] for each in created]
            await eventually(lambda: asyncio.to_thread((tmp_path / "log").exists), bool)
            assert await served.api.runs.cancel(runs[1])
            cancelled = await ended(served, runs[1])
            assert (cancelled["status"], cancelled["error"], cancelled["started_at"]) == (
                "failed",
                "The run was cancelled before it began.",
                None,
            )
            assert (await served.show(created[1]["id"]))["last_error"] == cancelled["error"]
            metrics = (await served.client.get("/metrics")).text
            assert "scheduler_api_runs_queued 2.0" in metrics
            assert 'scheduler_api_runs_total{status="failed"} 1.0' in metrics
            (tmp_path / "go").touch()
            assert await served.api.runs.cancel(runs[0])
            for each in (created[2], created[3]):
                assert (await served.finished(each["id"]))["last_run_status"] == "success"
            assert (tmp_path / "log").read_text() == "0\n2\n3\n"
            assert "scheduler_api_runs_queued 0.0" in (await served.client.get("/metrics")).text

    asyncio.run(story())


def test_what_was_cancelled_while_no_server_ran_does_not_begin_with_the_next(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, max_parallel=0) as served:
            run_id = (await served.start_run((await served.create())["id"]))["last_task_run_id"]
            assert await served.api.runs.cancel(run_id)
        async with serving(tmp_path, served.clock, command=("touch", str(tmp_path / "begun"))) as served:
            assert (await ended(served, run_id))["error"] == "The run was cancelled before it began."
            assert not (tmp_path / "begun").exists()

    asyncio.run(story())


def test_a_run_that_there_is_not_cannot_be_cancelled(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            assert not await served.api.runs.cancel("3f2b8c1e-6a54-4b0e-8a53-0c1d2e3f4a5b")

    asyncio.run(story())
