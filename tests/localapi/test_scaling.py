"""What the queue costs, in steps of SQLite's machine, does not depend on how many runs it has carried out, or are cancelled."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import pytest

from scheduler.database import Database
from scheduler.localapi import runs
from scheduler.localapi.endings import CANCELLED_EARLY
from scheduler.localapi.runs import RunQueue
from scheduler.localapi.schema import open_database
from tests.counting import count_steps

T = TypeVar("T")

MANY: Final = 1_200
NOW: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
_INSERT: Final = """
    INSERT INTO runs (id, automation_id, project_id, task_id, name, repository, prompt, status, created_at, cancelled_at)
    VALUES (?, 'a', 1, 't', 'n', 'r/r', 'p', ?, 'c', ?)
"""


class Queue:
    """A queue of runs with the means to look at it."""

    def __init__(self, database: Database, runner: asyncio.Runner) -> None:
        self.runs = RunQueue(database, lambda: NOW)
        self._database = database
        self._runner = runner

    def do(self, verb: Awaitable[T]) -> T:
        async def main() -> T:
            return await verb

        return self._runner.run(main())

    def add(self, status: str, cancelled_at: str | None = None, count: int = MANY) -> None:
        rows = [(f"{status} {cancelled_at} {number}", status, cancelled_at) for number in range(count)]
        self.do(self._database.write(lambda connection: connection.executemany(_INSERT, rows).rowcount))

    def count_steps(self, operation: Callable[[sqlite3.Connection], object]) -> int:
        return self.do(self._database.write(lambda connection: count_steps(connection, operation)))


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    database = open_database(tmp_path / "api.db")
    with asyncio.Runner() as runner:
        yield Queue(database, runner)
    database.close()


def test_the_next_run_is_found_behind_any_number_that_ended_or_are_cancelled(queue: Queue) -> None:
    queue.add("success")
    queue.add("queued", "cancelled")
    queue.add("queued", count=2)
    assert queue.count_steps(lambda connection: runs._take(connection, command="[]", now="n")) < MANY / 4
    taken = queue.do(queue.runs.take(["true"]))
    assert taken is not None
    assert taken.id == "queued None 1"


def test_cancelled_runs_that_wait_end_a_few_hundred_in_a_transaction(queue: Queue) -> None:
    queue.add("queued", "cancelled")
    queue.add("queued", count=1)
    ended = []
    while queue.do(queue.runs.cancellations())[1]:
        ended.append(queue.do(queue.runs.finish_cancelled(CANCELLED_EARLY)))
    assert ended == [500, 500, 200]
    assert {(run["status"], run["error"]) for run in queue.do(queue.runs.runs(limit=MANY + 1))} == {
        ("queued", None),
        ("failed", CANCELLED_EARLY.error),
    }


def test_looking_for_cancellations_costs_nothing_while_there_are_none(queue: Queue) -> None:
    queue.add("success")
    queue.add("queued")
    assert queue.count_steps(lambda connection: connection.execute(f"SELECT 1 {runs._CANCELLED} LIMIT 1").fetchall()) < MANY / 4
    assert queue.do(queue.runs.cancellations()) == ([], False)


def test_a_start_counts_what_waits_and_fails_what_was_going_on(queue: Queue) -> None:
    queue.add("success")
    queue.add("queued", "cancelled", count=2)
    queue.add("queued", count=3)
    queue.add("running", count=1)
    assert queue.do(queue.runs.left_running()) == ["running None 0"]
    assert queue.do(queue.runs.recover()) == 5
    assert queue.do(queue.runs.left_running()) == []
    assert queue.do(queue.runs.runs(limit=1))[0]["error"] == runs.LEFT_BEHIND
