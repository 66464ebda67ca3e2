"""What the queue costs, in steps of SQLite's machine, does not depend on how many runs it has carried out, or
are cancelled.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import pytest

from scheduler.database import Database
from scheduler.localapi import early_ends, runs
from scheduler.localapi.early_ends import EarlyCause
from scheduler.localapi.runs import RunQueue
from scheduler.localapi.schema import open_database
from tests.counting import count_steps

T = TypeVar("T")

MANY: Final = 1_200
NOW: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
_INSERT: Final = """
    INSERT INTO runs (id, automation_id, project_id, task_id, name, repository, prompt, status,
        created_at, cancelled_at)
    VALUES (?, ?, 1, 't', 'n', 'r/r', 'p', ?, ?, ?)
"""


class Queue:
    """A queue of runs with the means to look at it."""

    def __init__(self, database: Database, runner: asyncio.Runner) -> None:
        self.runs = RunQueue(database, lambda: NOW)
        self.database = database
        self._runner = runner

    def do(self, verb: Awaitable[T]) -> T:
        async def main() -> T:
            return await verb

        return self._runner.run(main())

    def add(
        self,
        status: str,
        cancelled_at: str | None = None,
        *,
        count: int = MANY,
        automation: str = "a",
        created_at: str = "c",
    ) -> None:
        rows = [
            (f"{status} {automation} {cancelled_at} {number}", automation, status, created_at, cancelled_at)
            for number in range(count)
        ]
        self.do(self.database.write(lambda connection: connection.executemany(_INSERT, rows).rowcount))

    def count_steps(self, operation: Callable[[sqlite3.Connection], object]) -> int:
        return self.do(self.database.write(lambda connection: count_steps(connection, operation)))


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
    assert (
        queue.count_steps(lambda connection: runs._take(connection, command="[]", oldest="", now="n"))
        < MANY / 4
    )
    taken = queue.do(queue.runs.take(["true"]))
    assert taken is not None
    assert taken.id == "queued a None 1"


ERRORS: Final = {cause: str(cause) for cause in EarlyCause}


def end_all(queue: Queue) -> list[tuple[EarlyCause, int]]:
    """End the runs that are not to begin; the cause and the number of runs of each transaction."""
    ended = []
    while (ends := queue.do(queue.runs.end_early(ERRORS))) is not None:
        ended.append(ends)
    return ended


def test_runs_that_are_cancelled_one_by_one_end_a_few_hundred_in_a_transaction(queue: Queue) -> None:
    queue.add("queued", "cancelled")
    queue.add("queued", count=1)
    assert end_all(queue) == [(EarlyCause.CANCELLED, count) for count in (500, 500, 200)]
    listed = queue.do(queue.runs.list_runs(limit=MANY + 1))
    assert {(run["status"], run["error"]) for run in listed} == {("queued", None), ("failed", "cancelled")}


@pytest.mark.parametrize("automation", ["a", None])
def test_cancelling_a_long_queue_is_one_row_and_its_runs_end_a_few_hundred_in_a_transaction(
    queue: Queue, automation: str | None
) -> None:
    queue.add("queued")
    steps = queue.count_steps(
        lambda connection: early_ends.request_end(connection, automation, EarlyCause.DELETED, "n")
    )
    assert steps < MANY / 4
    queue.add("queued", automation="b", count=1)
    assert queue.do(queue.runs.take(["true"])) is None, "no run begins before"
    assert end_all(queue) == [(EarlyCause.DELETED, count) for count in (500, 500, 200)]
    taken = queue.do(queue.runs.take(["true"]))
    assert taken is not None
    assert taken.automation_id == "b", "accepted after the request"


def test_cancelling_all_runs_counts_them_and_marks_those_in_progress(queue: Queue) -> None:
    queue.add("queued", count=3)
    queue.add("running", count=2)
    queue.add("running", automation="b", count=1)
    cancelled = queue.do(queue.runs.cancel_all("a"))
    assert (cancelled.waiting, len(cancelled.running)) == (3, 2)
    assert sorted(queue.do(queue.runs.list_cancellations())) == sorted(cancelled.running)
    assert queue.do(queue.database.read(early_ends.count_waiting, "a", cancelled.up_to)) == 3
    assert end_all(queue) == [(EarlyCause.CANCELLED, 3)]
    assert queue.do(queue.database.read(early_ends.count_waiting, "a", cancelled.up_to)) == 0
    assert queue.do(queue.runs.count_unfinished_among(cancelled.running)) == 2


def test_a_request_whose_runs_have_ended_otherwise_keeps_nothing_waiting(queue: Queue) -> None:
    queue.add("queued", count=1)
    queue.do(queue.runs.cancel_all(None))
    queue.do(queue.runs.cancel("queued a None 0"))
    queue.add("queued", automation="b", count=1)
    assert end_all(queue) == [(EarlyCause.CANCELLED, 1), (EarlyCause.CANCELLED, 0)]
    assert queue.do(queue.runs.take(["true"])) is not None


def test_runs_that_waited_too_long_do_not_begin_and_end_a_few_hundred_in_a_transaction(queue: Queue) -> None:
    queue.add("queued", created_at="2026-11-23T00:00:00.000000Z")
    queue.add("queued", automation="b", created_at="2026-11-23T00:00:00.000001Z", count=1)
    assert queue.do(queue.runs.take(["true"])) is None
    assert end_all(queue) == [(EarlyCause.EXPIRED, count) for count in (500, 500, 200)]
    taken = queue.do(queue.runs.take(["true"]))
    assert taken is not None
    assert taken.automation_id == "b"


def test_looking_for_early_ends_costs_nothing_while_there_are_none(queue: Queue) -> None:
    queue.add("success")
    queue.add("queued")
    assert queue.count_steps(lambda connection: early_ends.has_any(connection, "")) < MANY / 4
    assert queue.do(queue.runs.list_cancellations()) == []
    assert queue.do(queue.runs.end_early(ERRORS)) is None


def test_a_start_counts_what_waits_and_fails_what_was_going_on(queue: Queue) -> None:
    queue.add("success")
    queue.add("queued", "cancelled", count=2)
    queue.add("queued", count=3)
    queue.add("running", count=1)
    (interrupted,) = queue.do(queue.runs.list_running())
    assert interrupted.id == "running a None 0"
    queue.do(queue.runs.finish(interrupted, runs.INTERRUPTED, NOW))
    assert queue.do(queue.runs.count_unfinished()) == 5
    assert queue.do(queue.runs.list_running()) == []
    assert queue.do(queue.runs.list_runs(limit=1))[0]["error"] == runs.INTERRUPTED.error
