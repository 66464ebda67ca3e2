"""Cancelling a run: one that waits, one that is carried out, one that has ended, and all over again after a
restart.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from scheduler.localapi.runs import QueuedRun
from tests.localapi.support import COLLECTION, Served, alive, eventually, serving


async def run(served: Served, run_id: str) -> dict[str, Any]:
    found = await served.api.runs.get_run(run_id)
    assert found is not None
    return found


async def ended(served: Served, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = await eventually(
        lambda: run(served, run_id), lambda seen: seen["finished_at"] is not None
    )
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
            assert (
                shown["last_error"]
                == "The run was cancelled, and the command was ended. The last line of its output: half done"
            )
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
            assert 'scheduler_api_runs_total{status="cancelled"} 1.0' in metrics
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


async def statuses(served: Served) -> dict[str, str | None]:
    return {run["id"]: run["error"] for run in await served.api.runs.list_runs() if run["finished_at"]}


def test_deleting_an_automation_ends_its_runs_that_wait_and_no_other_and_not_the_run_in_progress(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        command = (
            "sh",
            "-c",
            f"echo $AUTOMATION_NAME >> {tmp_path}/log; until [ -e {tmp_path}/go ]; do sleep 0.02; done",
        )
        async with serving(tmp_path, command=command, max_parallel=1) as served:
            doomed, other = await served.create(name="doomed"), await served.create(name="other")
            first, *waiting = [(await served.start_run(doomed["id"]))["last_task_run_id"] for _ in range(3)]
            await served.start_run(other["id"])
            await eventually(lambda: asyncio.to_thread((tmp_path / "log").exists), bool)
            with capture_logs() as logged:
                assert (await served.client.delete(f"{COLLECTION}{doomed['id']}/")).status_code == 204
                ends = await eventually(lambda: statuses(served), lambda ends: len(ends) == 2)
                metrics = await eventually(
                    lambda: text_of_metrics(served), lambda text: "scheduler_api_runs_queued 1.0" in text
                )
            assert ends == dict.fromkeys(waiting, "The automation was deleted before the run began.")
            assert 'scheduler_api_runs_total{status="cancelled"} 2.0' in metrics
            assert 'scheduler_api_runs_total{status="failed"} 0.0' in metrics
            (line,) = [entry for entry in logged if entry["event"] == "runs.dropped"]
            assert (line["log_level"], line["reason"], line["count"]) == ("info", "deleted", 2)
            (tmp_path / "go").touch()
            assert (await served.finished(other["id"]))["last_run_status"] == "success"
            assert (await run(served, first))["status"] == "success"
            assert (tmp_path / "log").read_text() == "doomed\nother\n"

    asyncio.run(story())


async def text_of_metrics(served: Served) -> str:
    return (await served.client.get("/metrics")).text


def test_what_was_deleted_shortly_before_the_server_ended_does_not_begin_with_the_next(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with serving(tmp_path, max_parallel=0) as served:
            (watch,) = (task for task in served.api._runner._tasks if task.get_name() == "runner-cancelling")
            watch.cancel()
            created = await served.create()
            run_id = (await served.start_run(created["id"]))["last_task_run_id"]
            await served.client.delete(f"{COLLECTION}{created['id']}/")
            assert (await run(served, run_id))["status"] == "queued"
        async with serving(tmp_path, served.clock, command=("touch", str(tmp_path / "begun"))) as served:
            assert (await ended(served, run_id))[
                "error"
            ] == "The automation was deleted before the run began."
            assert not (tmp_path / "begun").exists()

    asyncio.run(story())


def test_a_run_that_waits_longer_than_the_limit_fails_and_says_so_and_later_ones_begin(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with serving(tmp_path, max_parallel=0) as served:
            old = (await served.start_run((await served.create())["id"]))["last_task_run_id"]
        served.clock.instant += timedelta(hours=1)
        with capture_logs() as logged:
            async with serving(tmp_path, served.clock, command=("true",), queue_timeout=3600.0) as served:
                created = await served.create()
                await served.start_run(created["id"])
                assert (await served.finished(created["id"]))["last_run_status"] == "success"
                failed = await run(served, old)
                metrics = await text_of_metrics(served)
        expected = "The run waited for its turn for 1 h, the limit of `queue_timeout`, and did not begin."
        assert (failed["status"], failed["started_at"], failed["error"]) == ("failed", None, expected)
        assert 'scheduler_api_runs_total{status="failed"} 1.0' in metrics
        (line,) = [entry for entry in logged if entry["event"] == "runs.dropped"]
        assert (line["log_level"], line["reason"], line["count"]) == ("warning", "expired", 1)

    asyncio.run(story())


def test_a_run_that_looked_too_old_for_a_moment_begins(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("true",), max_parallel=1, queue_timeout=3600.0) as served:
            take = served.api.runs.take
            looks = 0

            async def take_while_the_clock_is_ahead(command: Sequence[str]) -> QueuedRun | None:
                nonlocal looks
                looks += 1
                if looks > 1:
                    return await take(command)
                served.clock.instant += timedelta(hours=2)
                taking = asyncio.create_task(take(command))
                await asyncio.sleep(0)  # the age is known now
                served.clock.instant -= timedelta(hours=2)
                return await taking

            created = await served.create()
            served.api.runs.take = take_while_the_clock_is_ahead  # type: ignore[method-assign]
            await served.start_run(created["id"])
            assert (await served.finished(created["id"]))["last_run_status"] == "success"
            assert looks > 1

    asyncio.run(story())
