"""What waits together becomes one transaction, and each operation answers for itself alone."""

import asyncio
import sqlite3
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path

import pytest
import uvloop

from scheduler.core.errors import LedgerUnavailable
from scheduler.database import Database
from tests.database.support import Gate, add, opened, words, words_in


async def _behind_a_gate(database: Database, *operations: Coroutine[object, object, object]) -> list[object]:
    """Let the operations pile up behind a busy writer; what comes of them."""
    gate = Gate()
    busy = asyncio.create_task(database.write(gate))
    await gate.entered()
    tasks = [asyncio.create_task(each) for each in operations]
    await asyncio.sleep(0)
    assert database._writer._queue.qsize() == len(tasks)
    gate.open()
    await busy
    return list(await asyncio.gather(*tasks, return_exceptions=True))


def test_a_thousand_that_wait_together_are_one_commit(tmp_path: Path) -> None:
    commits: list[float] = []

    async def main(database: Database) -> list[object]:
        return await _behind_a_gate(database, *(database.write(add(str(number))) for number in range(1000)))

    with opened(tmp_path / "words.db", on_commit=commits.append) as database:
        assert asyncio.run(main(database)) == list(range(1, 1001)), "in the order of the calls"
    assert len(commits) == 2, "one of the gate, one of everything behind it"
    assert words_in(tmp_path / "words.db") == [str(number) for number in range(1000)]


class _CountingLoop(asyncio.SelectorEventLoop):
    wakes = 0

    def _write_to_self(self) -> None:
        self.wakes += 1
        super()._write_to_self()  # type: ignore[misc]  # what wakes a loop from another thread, and is not in its stubs


def test_a_group_wakes_the_loop_once(tmp_path: Path) -> None:
    async def main(database: Database, loop: _CountingLoop) -> int:
        gate = Gate()
        busy = asyncio.create_task(database.write(gate))
        await gate.entered()
        before = loop.wakes
        tasks = [asyncio.create_task(database.write(lambda _: None)) for _ in range(50)]
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(busy, *tasks)
        return loop.wakes - before

    loop = _CountingLoop()
    with opened(tmp_path / "words.db") as database, asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(main(database, loop)) == 2, "of the gate, and of the fifty behind it"


def test_an_operation_that_fails_undoes_itself_alone(tmp_path: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        add("half")(connection)
        raise KeyError("half")

    async def main(database: Database) -> list[object]:
        return await _behind_a_gate(
            database,
            database.write(add("one")),
            database.write(half),
            database.write(add("one")),
            database.write(add("two")),
        )

    with opened(tmp_path / "words.db") as database:
        first, failed, double, last = asyncio.run(main(database))
    assert first == 1
    assert isinstance(failed, KeyError)
    assert isinstance(double, sqlite3.IntegrityError)
    assert last == 2
    assert words_in(tmp_path / "words.db") == ["one", "two"]


def test_an_operation_may_raise_anything(tmp_path: Path) -> None:
    def stop(_: sqlite3.Connection) -> None:
        next(iter(()))

    async def main(database: Database) -> list[object]:
        return await _behind_a_gate(database, database.write(stop), database.write(add("after")))

    with opened(tmp_path / "words.db") as database:
        stopped, after = asyncio.run(main(database))
    assert isinstance(stopped, RuntimeError), "no future takes a StopIteration"
    assert after == 1


def test_items_for_one_operation_are_carried_out_in_one_call(tmp_path: Path) -> None:
    calls = []

    def add_all(connection: sqlite3.Connection, items: Sequence[str]) -> Sequence[int | Exception]:
        calls.append(len(items))
        return [ValueError(item) if item == "bad" else add(item)(connection) for item in items]

    async def main(database: Database) -> list[object]:
        together = partial(database.write_together, add_all)
        return await _behind_a_gate(
            database, together("one"), database.write(add("between")), together("bad"), together("two")
        )

    with opened(tmp_path / "words.db") as database:
        one, between, bad, two = asyncio.run(main(database))
    assert calls == [3]
    assert (one, two, between) == (1, 2, 3), "all of them where the first one stands"
    assert isinstance(bad, ValueError)


def test_what_a_common_operation_raises_is_raised_for_all_its_items(tmp_path: Path) -> None:
    def broken(connection: sqlite3.Connection, items: Sequence[str]) -> Sequence[None]:
        add(items[0])(connection)
        raise OverflowError

    async def main(database: Database) -> list[object]:
        together = partial(database.write_together, broken)
        return await _behind_a_gate(database, together("one"), together("two"), database.write(add("three")))

    with opened(tmp_path / "words.db") as database:
        one, two, three = asyncio.run(main(database))
    assert isinstance(one, OverflowError)
    assert isinstance(two, OverflowError)
    assert three == 1
    assert words_in(tmp_path / "words.db") == ["three"]


def test_a_cancelled_caller_stops_waiting_and_the_operation_is_carried_out(tmp_path: Path) -> None:
    async def main(database: Database) -> None:
        gate = Gate()
        busy = asyncio.create_task(database.write(gate))
        await gate.entered()
        cancelled, next_one = (
            asyncio.create_task(database.write(add(text))) for text in ("cancelled", "next")
        )
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert database._writer._queue.qsize() == 2
        gate.open()
        await busy
        assert await next_one == 2

    with opened(tmp_path / "words.db") as database:
        asyncio.run(main(database))
    assert words_in(tmp_path / "words.db") == ["cancelled", "next"]


def test_reads_neither_wait_for_the_writer_nor_see_what_is_not_durable(tmp_path: Path) -> None:
    async def main(database: Database) -> None:
        await database.write(add("durable"))
        gate = Gate()

        def slow(connection: sqlite3.Connection) -> None:
            add("not yet")(connection)
            gate(connection)

        busy = asyncio.create_task(database.write(slow))
        assert await database.read(words) == ["durable"]
        gate.open()
        await busy
        assert await database.read(words) == ["durable", "not yet"]

    with opened(tmp_path / "words.db") as database:
        asyncio.run(asyncio.wait_for(main(database), 10))


def test_the_writer_does_not_wait_for_a_slow_read(tmp_path: Path) -> None:
    async def main(database: Database) -> list[str]:
        gate = Gate()

        def slow(connection: sqlite3.Connection) -> list[str]:
            before = words(connection)
            gate(connection)
            assert words(connection) == before, "one state throughout"
            return before

        reading = asyncio.create_task(database.read(slow))
        await gate.entered()
        await asyncio.wait_for(database.write(add("meanwhile")), 10)
        gate.open()
        return await reading

    with opened(tmp_path / "words.db") as database:
        assert asyncio.run(main(database)) == []


def test_a_read_changes_nothing_and_names_its_columns(tmp_path: Path) -> None:
    async def main(database: Database) -> None:
        await database.write(add("here"))
        with pytest.raises(LedgerUnavailable, match="readonly"):
            await database.read(lambda connection: connection.execute("DELETE FROM word"))
        assert (
            await database.read(
                lambda connection: connection.execute("SELECT * FROM word").fetchone()["text"]
            )
            == "here"
        )

    with opened(tmp_path / "words.db") as database:
        asyncio.run(main(database))


def test_closing_waits_for_what_is_queued_and_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "words.db"

    async def main(database: Database) -> None:
        gate = Gate()
        tasks = [asyncio.create_task(database.write(each)) for each in (gate, add("one"), add("two"))]
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(database.close))
        gate.open()
        await closing
        assert await asyncio.gather(*tasks) == [None, 1, 2]
        with pytest.raises(LedgerUnavailable, match="closed"):
            await database.write(add("late"))
        with pytest.raises(LedgerUnavailable, match="closed"):
            await database.read(words)

    with opened(path) as database:
        asyncio.run(main(database))
    assert words_in(path) == ["one", "two"]
    assert [each.name for each in tmp_path.iterdir()] == ["words.db"]


def test_it_works_on_uvloop_and_on_one_loop_after_the_other(tmp_path: Path) -> None:
    with opened(tmp_path / "words.db") as database:
        assert asyncio.run(database.write(add("one"))) == 1
        assert uvloop.run(database.write(add("two"))) == 2
        assert asyncio.run(database.read(words)) == ["one", "two"]


def test_a_loop_that_was_closed_meanwhile_hurts_nobody(tmp_path: Path) -> None:
    gate = Gate()
    with opened(tmp_path / "words.db") as database:
        loop = asyncio.new_event_loop()
        task = loop.create_task(database.write(gate))
        loop.run_until_complete(asyncio.sleep(0))
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
        gate.open()
        assert asyncio.run(database.write(add("after"))) == 1


def test_the_log_is_moved_into_the_file_when_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.database.database._IDLE_SECONDS", 0.05)
    path = tmp_path / "words.db"

    async def main(database: Database) -> None:
        empty = path.stat().st_size
        await asyncio.gather(*(database.write(add(str(number))) for number in range(2100)))
        async with asyncio.timeout(10):
            while path.stat().st_size == empty:  # noqa: ASYNC110 -- nothing tells when another thread has written a file
                await asyncio.sleep(0.01)

    with opened(path) as database:
        asyncio.run(main(database))
