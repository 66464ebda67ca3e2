"""A prompt is stored once, however many runs and answers have it, also of the runs that an older version
accepted.
"""

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduler.database import Database
from scheduler.localapi import prompts, runs
from scheduler.localapi.runner import retention
from scheduler.localapi.schema import open_database
from tests.localapi.support import COLLECTION, Served, eventually, serving


async def select(served: Served, statement: str) -> list[tuple[Any, ...]]:
    return await served.api._database.read(
        lambda connection: [tuple(row) for row in connection.execute(statement)]
    )


def test_runs_and_answers_share_a_prompt_and_an_edit_changes_neither(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, max_parallel=0) as served:
            created = await served.create(prompt="first")
            answers = [
                await served.start_run(created["id"], **{"Idempotency-Key": str(number)})
                for number in range(5)
            ]
            await served.client.patch(f"{COLLECTION}{created['id']}/", json={"prompt": "second"})
            await served.start_run(created["id"])
            assert await select(served, "SELECT text FROM prompts ORDER BY id") == [("first",), ("second",)]
            assert await select(served, "SELECT DISTINCT prompt FROM runs") == [("",)]
            (bodies,) = await select(served, "SELECT group_concat(body) FROM idempotent_answers")
            assert "first" not in bodies[0]
            again = [
                await served.start_run(created["id"], **{"Idempotency-Key": str(number)})
                for number in range(5)
            ]
            assert again == answers
            assert [list(answer) for answer in again] == [list(created)] * 5, (
                "the fields are in the contract's order"
            )
            shown = [await served.api.runs.get_run(run["id"]) for run in await served.api.runs.list_runs()]
            assert [run["prompt"] for run in shown if run] == ["second", *["first"] * 5]

    asyncio.run(story())


def test_a_prompt_goes_with_the_last_run_and_answer_that_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_INTERVAL", 0.05)

    async def story() -> None:
        async with serving(
            tmp_path, command=("true",), row_retention=8 * 86400.0, retention=3600.0
        ) as served:
            created = await served.create(prompt="first")
            await served.start_run(created["id"], **{"Idempotency-Key": "k"})
            await served.finished(created["id"])
            served.clock.instant += timedelta(days=5)
            await served.start_run(created["id"])
            await served.finished(created["id"])
            await served.client.patch(f"{COLLECTION}{created['id']}/", json={"prompt": "second"})
            served.clock.instant += timedelta(days=3, minutes=1)
            await eventually(
                lambda: select(served, "SELECT count(*) FROM runs"), lambda found: found == [(1,)]
            )
            await eventually(
                lambda: select(served, "SELECT count(*) FROM idempotent_answers"),
                lambda found: found == [(0,)],
            )
            assert await select(served, "SELECT text FROM prompts") == [("first",)]
            served.clock.instant += timedelta(days=6)
            await eventually(
                lambda: select(served, "SELECT count(*) FROM runs"), lambda found: found == [(0,)]
            )
            assert await select(served, "SELECT text FROM prompts") == []
            assert (await served.show(created["id"]))["last_run_status"] == "success"

    asyncio.run(story())


def of_an_older_version(path: Path, texts: list[str]) -> None:
    """Runs that ended, each with its own prompt, as an older version has accepted them."""
    open_database(path).close()
    rows = [(f"r{number}", text) for number, text in enumerate(texts)]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO runs (id, automation_id, project_id, task_id, name, repository, prompt, "
            "status, created_at, finished_at) "
            "VALUES (?, 'a', 1, 't', 'n', 'r/r', ?, 'success', '2026-11-23T19:00:00.000000Z', "
            "'2026-11-23T19:00:00.000000Z')",
            rows,
        )


@pytest.mark.parametrize(
    ("texts", "sizes"),
    [
        ([f"prompt {number % 3}" for number in range(500)], [200, 200, 100, 0]),
        ([f"{number % 2}" * 2**20 for number in range(12)], [5, 5, 2, 0]),
    ],
    ids=["short", "long"],
)
def test_prompts_of_an_older_version_are_moved_in_transactions_of_a_bounded_size(
    tmp_path: Path, texts: list[str], sizes: list[int]
) -> None:
    of_an_older_version(tmp_path / "api.db", texts)

    async def story(database: Database) -> None:
        moved: list[int] = []
        while 0 not in moved:
            moved.append(await database.write(prompts.move_run_prompts))
        assert moved == sizes
        read = f"SELECT {prompts.RUN_PROMPT} FROM runs ORDER BY sequence"
        assert [
            row[0] for row in await database.read(lambda connection: connection.execute(read).fetchall())
        ] == texts
        stored = await database.read(
            lambda connection: connection.execute("SELECT text FROM prompts").fetchall()
        )
        assert sorted(row[0] for row in stored) == sorted(set(texts))

    database = open_database(tmp_path / "api.db")
    try:
        asyncio.run(story(database))
    finally:
        database.close()


def test_a_server_moves_the_prompts_of_an_older_version_while_it_serves(tmp_path: Path) -> None:
    of_an_older_version(tmp_path / "api.db", ["same"] * 3)

    async def story() -> None:
        async with serving(tmp_path) as served:
            await eventually(
                lambda: select(served, "SELECT DISTINCT prompt FROM runs"), lambda found: found == [("",)]
            )
            run = await served.api.runs.get_run("r1")
            assert run is not None
            assert run["prompt"] == "same"

    asyncio.run(story())


def test_a_run_without_the_text_of_its_prompt_stays_queued(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, max_parallel=0) as served:
            automation = await served.create(prompt="work")
            await served.start_run(automation["id"])
            await served.api._database.change("DELETE FROM prompts")
            with pytest.raises(LookupError, match="has no prompt for run"):
                await served.api.runs.take(["true"])
            assert await select(served, "SELECT status FROM runs") == [("queued",)]

    asyncio.run(story())


def test_the_running_runs_are_found_without_the_ended_ones(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, max_parallel=0) as served:
            statements: list[str] = []

            def trace(connection: sqlite3.Connection) -> None:
                connection.set_trace_callback(statements.append)
                runs.select_runs(connection, automation=None, status="running", limit=10)
                connection.set_trace_callback(None)

            await served.api._database.read(trace)
            plan = await select(served, f"EXPLAIN QUERY PLAN {statements[0]}")
            assert "runs_running" in plan[0][3]

    asyncio.run(story())
