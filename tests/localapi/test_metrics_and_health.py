"""`/metrics` and `/healthz` of the embedded API."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from scheduler.localapi.runner.start_failure import find_fault
from scheduler.localapi.runs import INTERRUPTED
from tests.localapi.support import COLLECTION, Served, eventually, serving


async def samples(served: Served) -> dict[str, float]:
    text = (await served.client.get("/metrics")).text
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    }


def requests(route: str, method: str, code: int) -> str:
    return f'scheduler_api_requests_total{{code="{code}",method="{method}",route="{route}"}}'


def test_requests_are_counted_by_route_method_and_code(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create()
            await served.client.get(f"{COLLECTION}{created['id']}/")
            await served.client.get(f"{COLLECTION}nonsense/")
            await served.client.get(COLLECTION, headers={"Authorization": ""})
            await served.client.request("SOMETHING", COLLECTION)
            await served.client.get(f"/nowhere/{created['id']}")
            seen = await samples(served)
            base = "/api/projects/:project_id/task_automations/"
            for expected in (
                requests(base, "POST", 201),
                requests(f"{base}:id/", "GET", 200),
                requests(f"{base}:id/", "GET", 404),
                requests(base, "GET", 401),
                requests(base, "other", 405),
                requests("unmatched", "GET", 404),
            ):
                assert seen[expected] == 1
            assert seen[f'scheduler_api_request_duration_seconds_count{{route="{base}:id/"}}'] == 2

    asyncio.run(story())


def test_runs_are_shown_while_they_wait_while_they_go_on_and_when_they_have_ended(tmp_path: Path) -> None:
    async def story() -> None:
        flag = tmp_path / "flag"
        command = ("sh", "-c", f'while [ ! -e {flag} ]; do sleep 0.02; done; test "$(cat)" = good')
        async with serving(tmp_path, command=command, max_parallel=2) as served:
            names = ("queued", "in_progress")
            ended = [f'scheduler_api_runs_total{{status="{status}"}}' for status in ("success", "failed")]
            seen = await samples(served)
            assert [seen[name] for name in [*(f"scheduler_api_runs_{name}" for name in names), *ended]] == [
                0,
                0,
                0,
                0,
            ]
            for prompt in ("good", "bad", "good"):
                await served.start_run((await served.create(prompt=prompt))["id"])

            async def going() -> list[float]:
                seen = await samples(served)
                return [seen[f"scheduler_api_runs_{name}"] for name in names]

            await eventually(going, lambda values: values == [1, 2])
            flag.touch()
            seen = await eventually(
                lambda: samples(served), lambda seen: [seen[name] for name in ended] == [2, 1]
            )
            assert await going() == [0, 0]
            measured = [
                seen[f'scheduler_api_run_duration_seconds_{part}{{status="success"}}']
                for part in ("count", "sum")
            ]
            assert measured[0] == 2
            assert measured[1] > 0

    asyncio.run(story())


def test_a_run_that_never_began_has_no_duration(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, max_parallel=0) as served:
            started = await served.start_run((await served.create())["id"])
            await served.api.runs.cancel(started["last_task_run_id"])
            ended = 'scheduler_api_runs_total{status="cancelled"}'
            seen = await eventually(lambda: samples(served), lambda seen: seen[ended] == 1)
            assert seen['scheduler_api_run_duration_seconds_count{status="cancelled"}'] == 0

    asyncio.run(story())


def test_the_line_of_a_run_that_failed_is_a_warning_with_its_error_and_its_duration(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(
            tmp_path,
            command=("sh", "-c", 'read word; test "$word" = good || { echo no such model; exit 3; }'),
        ) as served:
            for prompt in ("good", "bad"):
                created = await served.create(prompt=prompt + "\n.")
                await served.start_run(created["id"])
                await served.finished(created["id"])

    with capture_logs() as lines:
        asyncio.run(story())
    good, bad = (line for line in lines if line["event"] == "command.finished")
    assert (good["log_level"], good["status"], good["exit_status"]) == ("info", "success", 0)
    assert "error" not in good
    assert (bad["log_level"], bad["status"], bad["exit_status"]) == ("warning", "failed", 3)
    assert bad["error"].endswith("no such model")
    assert all(0 < line["duration_seconds"] < 20 for line in (good, bad))


def test_a_run_that_a_dead_server_left_is_counted_and_logged_by_the_next(tmp_path: Path) -> None:
    async def story() -> str:
        async with serving(tmp_path, max_parallel=0) as served:
            run_id: str = (await served.start_run((await served.create())["id"]))["last_task_run_id"]
            await served.start_run((await served.create())["id"])
            taken = await served.api.runs.take(
                ["agent"]
            )  # by a server that is dead before the run has an end
            assert taken is not None
            assert taken.id == run_id
        async with serving(tmp_path, max_parallel=0) as served:
            seen = await samples(served)
            assert seen['scheduler_api_runs_total{status="failed"}'] == 1
            assert seen['scheduler_api_run_duration_seconds_count{status="failed"}'] == 0
            assert seen["scheduler_api_runs_queued"] == 1
            return run_id

    with capture_logs() as lines:
        run_id = asyncio.run(story())
    (line,) = (line for line in lines if line["event"] == "command.finished")
    assert (line["log_level"], line["task_run_id"], line["automation"], line["error"]) == (
        "warning",
        run_id,
        "Nightly",
        INTERRUPTED.error,
    )
    assert "duration_seconds" not in line


def test_a_repeated_request_is_not_counted_as_a_run_that_waits(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, max_parallel=0) as served:
            created = await served.create()
            for _ in range(2):
                await served.start_run(created["id"], **{"Idempotency-Key": "k"})
            assert (await samples(served))["scheduler_api_runs_queued"] == 1

    asyncio.run(story())


def test_openmetrics_is_answered_to_whoever_asks_for_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            answer = await served.client.get(
                "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
            )
            assert answer.headers["content-type"].startswith("application/openmetrics-text")
            assert answer.text.endswith("# EOF\n")

    asyncio.run(story())


def test_it_is_healthy_while_it_can_read_and_its_workers_work(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            answer = await served.client.get("/healthz")
            assert (answer.status_code, answer.json()) == (200, {"database": True, "runner": True})
            worker = served.api._runner._tasks[-1]
            worker.cancel()
            await asyncio.wait({worker})
            answer = await served.client.get("/healthz")
            assert (answer.status_code, answer.json()) == (503, {"database": True, "runner": False})
            served.api._runner._tasks.remove(worker)

    asyncio.run(story())


def test_it_is_not_healthy_when_its_database_cannot_be_read(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            served.api._database.close()
            answer = await served.client.get("/healthz")
            assert (answer.status_code, answer.json()) == (503, {"database": False, "runner": True})

    asyncio.run(story())


@pytest.mark.parametrize(
    ("environment", "command", "expected"),
    [
        (
            ("PATH", "AGENT_KEY", "HOME", "AGENT_URL"),
            ("true",),
            [("warning", ["AGENT_KEY", "HOME", "AGENT_URL"])],
        ),
        (("PATH", "HOME"), ("true",), [("info", ["HOME"])]),
        (("PATH",), ("true",), []),
        (("AGENT_KEY",), (), []),
    ],
)
def test_the_start_lists_the_variables_that_commands_may_see_and_the_server_lacks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: tuple[str, ...],
    command: tuple[str, ...],
    expected: list[tuple[str, list[str]]],
) -> None:
    monkeypatch.delenv("HOME")

    async def story() -> None:
        async with serving(tmp_path, command=command, environment=environment):
            pass

    with capture_logs() as lines:
        asyncio.run(story())
    assert [
        (line["log_level"], line["variables"]) for line in lines if line["event"] == "variables.unset"
    ] == expected


@pytest.mark.parametrize(
    ("command", "clone_url", "error"),
    [
        (
            ("agnet",),
            "",
            (
                "'agnet' is in no folder of the server's PATH, /usr/bin:/bin: correct it, or write its "
                "absolute path."
            ),
        ),
        (("/opt/agnet", "--yes"), "", "'/opt/agnet' is not there: correct it."),
        (
            ("bin/agent",),
            "",
            (
                "'bin/agent' is looked for in each run's working directory, which is empty: write its "
                "absolute path."
            ),
        ),
        (("bin/agent",), "https://example.org/{repository}.git", None),
        ((), "", "there is no command: set it to your agent."),
        (("cat",), "", None),
    ],
)
def test_the_start_tells_why_every_run_will_fail(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    clone_url: str,
    error: str | None,
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    async def story() -> None:
        async with serving(tmp_path, command=command, clone_url=clone_url):
            pass

    with capture_logs() as lines:
        asyncio.run(story())
    told = [(line["log_level"], line["error"]) for line in lines if line["event"] == "command.missing"]
    assert told == ([] if error is None else [("warning", error)])


def test_a_clone_needs_git(tmp_path: Path) -> None:
    assert find_fault(["/bin/cat"], {"PATH": str(tmp_path)}, clones=True) == (
        f"'git' is in no folder of the server's PATH, {tmp_path}: correct it, or write its absolute path."
    )
