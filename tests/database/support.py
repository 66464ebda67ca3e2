"""A small database for the tests: one table of words."""

import asyncio
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scheduler.database import Database, Migration, Schema
from scheduler.database.database import OnCommit, ignore

APPLICATION_ID = 0x54455354


MAKE_WORDS = Migration(
    "make_words", ["CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT"]
)
ADD_LANGUAGE = Migration("add_language", ["ALTER TABLE word ADD COLUMN language TEXT"])
FAIL_MIDWAY = Migration(
    "fail_midway",
    ["CREATE TABLE half_done (id INTEGER PRIMARY KEY)", "INSERT INTO nowhere VALUES (1)"],
)


@contextmanager
def opened(
    path: Path,
    migrations: Sequence[Migration] = (MAKE_WORDS,),
    on_commit: OnCommit = ignore,
) -> Iterator[Database]:
    database = Database(
        path, Schema(APPLICATION_ID, migrations, name="list of words", member="words.db"), on_commit=on_commit
    )
    try:
        yield database
    finally:
        database.close()


def add(text: str) -> Callable[[sqlite3.Connection], int]:
    """An operation that adds a word and returns its id."""

    def operation(connection: sqlite3.Connection) -> int:
        made = connection.execute("INSERT INTO word (text) VALUES (?)", (text,)).lastrowid
        assert made is not None
        return made

    return operation


def words(connection: sqlite3.Connection) -> list[str]:
    return [text for (text,) in connection.execute("SELECT text FROM word ORDER BY id")]


def words_in(path: Path) -> list[str]:
    """Read by somebody else, as they are in the file."""
    connection = sqlite3.connect(path)
    try:
        return words(connection)
    finally:
        connection.close()


class Gate:
    """An operation that keeps its thread busy until it is opened, so that others pile up behind it."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._open = threading.Event()

    def __call__(self, _: sqlite3.Connection) -> None:
        self._entered.set()
        assert self._open.wait(10)

    async def entered(self) -> None:
        """The thread is busy."""
        assert await asyncio.to_thread(self._entered.wait, 10)

    def open(self) -> None:
        self._open.set()


@contextmanager
def unprivileged() -> Iterator[Path]:
    """A folder of a user to whom permissions apply: not of root, as whom tests may run."""
    with tempfile.TemporaryDirectory() as name:
        root = os.geteuid() == 0
        if root:
            os.chown(name, _NOBODY, -1)
            os.seteuid(_NOBODY)
        try:
            yield Path(name)
        finally:
            Path(name).chmod(0o700)
            if root:
                os.seteuid(0)


_NOBODY = 65534
