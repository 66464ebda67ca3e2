"""When the disk or another process is at fault, nothing half is in the file, everybody is told, and it works
again afterwards.
"""

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from scheduler.core.errors import LedgerUnavailable
from scheduler.database import Database
from tests.database.support import Gate, add, opened, unprivileged, words, words_in

_BIG = 2_000_000


@contextmanager
def _files_limited_to(size: int) -> Iterator[None]:
    """As on a full disk: no file grows beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_nothing_is_written_and_it_recovers(tmp_path: Path) -> None:
    path = tmp_path / "words.db"

    async def main(database: Database) -> None:
        await database.write(add("before"))
        with _files_limited_to(100_000):
            for _ in range(3):
                with pytest.raises(LedgerUnavailable, match=r"words\.db"):
                    await database.write(add("x" * _BIG))
        assert await database.read(words) == ["before"]
        await database.write(add("x" * _BIG))

    with opened(path) as database:
        asyncio.run(main(database))
    assert [word[:6] for word in words_in(path)] == ["before", "xxxxxx"]


def test_a_full_disk_that_shows_at_the_commit_fails_the_whole_group(tmp_path: Path) -> None:
    """The cache takes what the disk does not: only the commit writes the log."""
    path = tmp_path / "words.db"

    async def main(database: Database) -> list[object]:
        await database.write(add("before"))
        with _files_limited_to(40_000):
            return await asyncio.gather(
                *(database.write(add(f"{number} " + "x" * 5_000)) for number in range(20)),
                return_exceptions=True,
            )

    with opened(path) as database:
        outcomes = asyncio.run(main(database))
        written = asyncio.run(database.read(words))
    failed = [each for each in outcomes if isinstance(each, LedgerUnavailable)]
    assert failed
    assert len({id(each) for each in failed}) == len(failed), "each caller has an error of its own"
    assert len(written) == 1 + len(outcomes) - len(failed)
    assert words_in(path) == written


def test_a_fault_inside_an_operation_fails_the_whole_group(tmp_path: Path) -> None:
    """SQLite leaves the transaction open after some faults; what was written in it is not to be trusted all
    the same.
    """

    def doomed(_: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error

    async def main(database: Database) -> list[object]:
        gate = Gate()
        busy = asyncio.create_task(database.write(gate))
        await gate.entered()
        tasks = [asyncio.create_task(database.write(each)) for each in (add("innocent"), doomed)]
        await asyncio.sleep(0)
        gate.open()
        await busy
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    with opened(tmp_path / "words.db") as database:
        outcomes = asyncio.run(main(database))
        assert asyncio.run(database.write(add("afterwards"))) == 1
    assert [type(each) for each in outcomes] == [LedgerUnavailable] * 2
    assert "check its disk" in str(outcomes[0])


def test_what_is_locked_by_another_process_fails_soon_and_recovers(tmp_path: Path) -> None:
    path = tmp_path / "words.db"

    async def main(database: Database) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerUnavailable, match="another process holds it"):
                await asyncio.wait_for(database.write(add("blocked")), 10)
            assert await database.read(words) == [], "readers do not mind"
        await database.write(add("free"))

    with opened(path) as database:
        asyncio.run(main(database))
    assert words_in(path) == ["free"]


def test_a_short_lock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "words.db"

    async def main(database: Database) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(database.write(add("patient")))
            await asyncio.sleep(0)
            other.execute("COMMIT")
            assert await writing == 1

    with opened(path) as database:
        asyncio.run(main(database))


def test_a_file_that_became_read_only_is_unavailable_until_it_is_not() -> None:
    with unprivileged() as folder:
        path = folder / "words.db"

        async def main(database: Database) -> None:
            await database.write(add("before"))
            # The connection keeps the rights that it was opened with; a fault makes it open the file anew,
            # without them.
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                path.chmod(0o400)
                with pytest.raises(LedgerUnavailable):
                    await database.write(add("blocked"))
            with pytest.raises(LedgerUnavailable, match="is read-only; give the daemon's user the right"):
                await database.write(add("forbidden"))
            path.chmod(0o600)
            await database.write(add("after"))

        with opened(path) as database:
            asyncio.run(main(database))
        assert words_in(path) == ["before", "after"]


def test_a_file_that_was_moved_away_takes_no_writes_and_is_not_made_anew(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "words.db", tmp_path / "elsewhere.db"

    async def main(database: Database) -> None:
        await database.write(add("before"))
        path.rename(elsewhere)
        for _ in range(2):
            with pytest.raises(LedgerUnavailable):
                await database.write(add("nowhere"))
        assert not path.exists()
        elsewhere.rename(path)
        await database.write(add("after"))

    with opened(path) as database:
        asyncio.run(main(database))
    assert words_in(path) == ["before", "after"]


def test_a_file_that_was_put_in_its_place_is_not_written_to(tmp_path: Path) -> None:
    """The log beside it belongs to the first file: SQLite would write that into the second."""
    path, first, second = tmp_path / "words.db", tmp_path / "first.db", tmp_path / "second.db"
    with opened(second):
        pass
    content = second.read_bytes()

    async def main(database: Database) -> None:
        await database.write(add("into the first"))
        path.rename(first)
        second.rename(path)
        with pytest.raises(LedgerUnavailable, match="another file has taken the place"):
            await database.write(add("nowhere"))
        assert path.read_bytes() == content
        first.rename(path)
        await database.write(add("into the first again"))

    with opened(path) as database:
        asyncio.run(main(database))
    assert words_in(path) == ["into the first", "into the first again"]


# ---------------------------------------------------------------- kill -9

_WRITE_UNTIL_KILLED = """
import asyncio, sys
from pathlib import Path
from tests.database.support import add, opened

def pair(number):
    def operation(connection):
        add(f"{number} first")(connection)
        add(f"{number} second")(connection)
    return operation

async def main(database):
    for number in range(10**9):
        await asyncio.gather(*(database.write(pair(f"{number}.{part}")) for part in range(20)))
        print(number, flush=True)

with opened(Path(sys.argv[1])) as database:
    asyncio.run(main(database))
"""


@pytest.mark.parametrize("after", [1, 3, 20])
def test_a_killed_process_leaves_whole_transactions_and_all_that_it_was_told(
    tmp_path: Path, after: int
) -> None:
    path = tmp_path / "words.db"
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE_UNTIL_KILLED, str(path)], stdout=PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(after)]
        os.kill(process.pid, signal.SIGKILL)
        told += [int(line) for line in process.stdout]
    with opened(path) as database:
        written = asyncio.run(database.read(words))
    firsts = [word.split()[0] for word in written if word.endswith("first")]
    seconds = [word.split()[0] for word in written if word.endswith("second")]
    assert firsts == seconds
    assert {f"{number}.{part}" for number in told for part in range(20)} <= set(firsts)
