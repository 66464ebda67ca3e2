"""A file is taken for ours only when it is, and one that is not is left byte for byte as it was."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from subprocess import PIPE

import pytest

from scheduler.core.errors import DatabaseRefused, LedgerUnavailable
from scheduler.database import Migration, Schema, open_for_reading
from tests.database.support import (
    ADD_LANGUAGE,
    APPLICATION_ID,
    FAIL_MIDWAY,
    MAKE_WORDS,
    add,
    opened,
    unprivileged,
    words,
)

_OURS: Sequence[Migration] = (MAKE_WORDS,)
_NEWER: Sequence[Migration] = (MAKE_WORDS, ADD_LANGUAGE)


def _contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


def _pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _make(path: Path, migrations: Sequence[Migration] = _OURS) -> None:
    with opened(path, migrations) as database:
        asyncio.run(database.write(add("kept")))


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")


def _foreign_with_a_mark(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 4711")


def _foreign_with_a_log(path: Path) -> None:
    """As a crash of its owner leaves it."""
    _foreign(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO theirs VALUES (1)")
        connection.commit()
        contents = _contents(path.parent)
    for name, content in contents.items():
        if not name.endswith("-shm"):
            (path.parent / name).write_bytes(content)


def _newer(path: Path) -> None:
    _make(path, _NEWER)


def _text(path: Path) -> None:
    path.write_text("[[target]]\nurl = 'https://us.posthog.com'\n")


def _one_byte(path: Path) -> None:
    path.write_bytes(b"S")


def _cut(path: Path) -> None:
    _make(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _scribbled_over(path: Path) -> None:
    _make(path)
    content = bytearray(path.read_bytes())
    content[4096 : 4096 + 512] = os.urandom(512)
    path.write_bytes(content)


_REFUSED: Sequence[tuple[Callable[[Path], None], str]] = (
    (_foreign, "another program"),
    (_foreign_with_a_mark, "another program"),
    (_foreign_with_a_log, "another program"),
    (_newer, "newer version"),
    (_text, "no SQLite database"),
    (_one_byte, "no SQLite database"),
    (_cut, "damaged"),
    (_scribbled_over, "damaged"),
)


@pytest.mark.parametrize(("make", "why"), _REFUSED, ids=[make.__name__.strip("_") for make, _ in _REFUSED])
def test_what_is_not_ours_is_refused_and_left_as_it_is(
    tmp_path: Path, make: Callable[[Path], None], why: str
) -> None:
    path = tmp_path / "words.db"
    make(path)
    before = _contents(tmp_path)
    with pytest.raises(DatabaseRefused, match=why) as refused, opened(path):
        pass
    assert str(path) in str(refused.value)
    after = _contents(tmp_path)
    after.pop("words.db-shm", None)  # SQLite's notes on the log, if it had to look into one
    assert after == before


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatabaseRefused, match="is a folder"), opened(tmp_path):
        pass


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with (
        pytest.raises(LedgerUnavailable, match="check that its folder exists"),
        opened(tmp_path / "nowhere" / "words.db"),
    ):
        pass
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_may_not_be_written_is_unavailable() -> None:
    with unprivileged() as folder:
        folder.chmod(0o500)
        with pytest.raises(LedgerUnavailable, match="daemon's user"), opened(folder / "words.db"):
            pass


def test_a_database_that_another_process_is_making_is_unavailable_for_now(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerUnavailable, match="another process holds it"), opened(path):
            pass
        other.execute("ROLLBACK")
    with opened(path):
        pass


@pytest.mark.parametrize("empty", [False, True])
def test_a_new_file_says_whose_it_is(tmp_path: Path, empty: bool) -> None:
    path = tmp_path / "words.db"
    if empty:
        path.touch()
    with opened(path, _NEWER):
        pass
    assert _pragma(path, "application_id") == APPLICATION_ID
    assert _pragma(path, "user_version") == 2
    assert _pragma(path, "journal_mode") == "wal"


@pytest.mark.parametrize(
    ("pragma", "value"), [("synchronous", 2), ("foreign_keys", 1), ("journal_mode", "wal")]
)
def test_what_is_written_is_on_the_disk_and_consistent(tmp_path: Path, pragma: str, value: object) -> None:
    def setting(connection: sqlite3.Connection) -> object:
        return connection.execute(f"PRAGMA {pragma}").fetchone()[0]

    with opened(tmp_path / "words.db") as database:
        assert asyncio.run(database.write(setting)) == value


def test_an_older_file_is_migrated_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    _make(path)
    with opened(path, _NEWER) as database:
        rows = asyncio.run(
            database.read(lambda connection: connection.execute("SELECT text, language FROM word").fetchall())
        )
    assert [tuple(row) for row in rows] == [("kept", None)]
    assert _pragma(path, "user_version") == 2


def test_a_migration_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    _make(path)
    before = path.read_bytes()
    with pytest.raises(LedgerUnavailable), opened(path, (MAKE_WORDS, ADD_LANGUAGE, FAIL_MIDWAY)):
        pass
    assert path.read_bytes() == before
    with opened(path) as database:
        assert asyncio.run(database.read(words)) == ["kept"]


_OPEN_AT_ONCE = """
import sys, time
from pathlib import Path
from scheduler.database import Migration
from tests.database.support import ADD_LANGUAGE, MAKE_WORDS, opened

class Dawdle(Migration):
    def __call__(self, tables):
        time.sleep(0.3)  # long enough for all of them to arrive

print("ready", flush=True)
sys.stdin.readline()
with opened(Path(sys.argv[1]), (Dawdle("dawdle", []), MAKE_WORDS, ADD_LANGUAGE)):
    print("opened")
"""


def test_several_processes_that_make_the_same_file_make_it_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _OPEN_AT_ONCE, str(tmp_path / "words.db")]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True))
            for _ in range(3)
        ]
        for each in processes:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in processes:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        assert [each.communicate()[0] for each in processes] == ["opened\n"] * 3
    assert _pragma(tmp_path / "words.db", "user_version") == 3


# ---------------------------------------------------------------- reading


def _reading(path: Path, migrations: Sequence[Migration] = _OURS) -> sqlite3.Connection:
    return open_for_reading(path, Schema(APPLICATION_ID, migrations, name="list of words", member="words.db"))


def test_a_reader_sees_what_a_daemon_is_writing(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    with opened(path) as database, closing(_reading(path)) as connection:
        asyncio.run(database.write(add("fresh")))
        assert words(connection) == ["fresh"]
        assert connection.execute("SELECT text FROM word").fetchone()["text"] == "fresh"


def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    _make(path)
    before = path.read_bytes()
    with closing(_reading(path)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM word")
        assert words(connection) == ["kept"]
    assert path.read_bytes() == before


def test_a_reader_finds_no_file_and_makes_none(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="does not exist"):
        _reading(tmp_path / "words.db")
    assert _contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("made", "known", "why"), [(_OURS, _NEWER, "older version"), (_NEWER, _OURS, "newer version")]
)
def test_a_reader_refuses_other_versions(
    tmp_path: Path, made: Sequence[Migration], known: Sequence[Migration], why: str
) -> None:
    path = tmp_path / "words.db"
    _make(path, made)
    before = path.read_bytes()
    with pytest.raises(DatabaseRefused, match=why):
        _reading(path, known)
    assert path.read_bytes() == before


@pytest.mark.parametrize("make", [_foreign, _text])
def test_a_reader_refuses_what_is_not_ours(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "words.db")
    with pytest.raises(DatabaseRefused):
        _reading(tmp_path / "words.db")
