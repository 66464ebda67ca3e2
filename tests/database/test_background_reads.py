"""Somebody who goes through a whole database holds up nothing else, and is stopped."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from scheduler.core.errors import LedgerUnavailable
from scheduler.database import Database
from tests.database.support import add, opened, words


def endless(connection: sqlite3.Connection) -> object:
    return connection.execute(
        "WITH RECURSIVE more (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more) SELECT max(n) FROM more"
    ).fetchone()


def test_who_browses_sees_what_is_written(tmp_path: Path) -> None:
    async def main(database: Database) -> None:
        await database.write(add("one"))
        assert await database.browse(words) == ["one"]

    with opened(tmp_path / "words.db") as database:
        asyncio.run(main(database))


def test_what_takes_too_long_is_given_up_and_the_next_one_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.database.database.BROWSING_SECONDS", 0.05)

    async def main(database: Database) -> None:
        for _ in range(2):
            with pytest.raises(
                LedgerUnavailable,
                match=r"words\.db took more than 0\.05 s and was stopped: ask for a shorter period",
            ):
                await database.browse(endless)
            assert await database.browse(words) == []

    with opened(tmp_path / "words.db") as database:
        asyncio.run(main(database))


@pytest.mark.parametrize("verb", ["browse", "read_in_background"])
def test_neither_reads_nor_writes_wait_for_who_browses_or_for_background_work(
    tmp_path: Path, verb: str
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: sqlite3.Connection) -> bool:
        begun.set()
        return go_on.wait(20)

    async def main(database: Database) -> None:
        browsing = asyncio.create_task(getattr(database, verb)(slow))
        await asyncio.to_thread(begun.wait)
        await database.write(add("one"))
        assert await database.read(words) == ["one"]
        assert not browsing.done()
        go_on.set()
        assert await browsing

    with opened(tmp_path / "words.db") as database:
        asyncio.run(main(database))


def test_a_mistake_in_a_question_is_the_callers(tmp_path: Path) -> None:
    with (
        opened(tmp_path / "words.db") as database,
        pytest.raises(sqlite3.OperationalError, match="no such table"),
    ):
        asyncio.run(database.browse(lambda connection: connection.execute("SELECT * FROM nowhere")))
