"""`scheduler backup`, on a ledger in a file that somebody else has open."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from scheduler.ledger.schema import open_for_reading
from tests.cli.conftest import DAEMON, Scheduler, root_only
from tests.ledger.support import MAIN, Stand, at, claim, stand


@pytest.fixture
def ledger(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder / "state" / "ledger.db"
    path.parent.mkdir()
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{path}")
    return path


@pytest.fixture
def daemon(ledger: Path) -> Iterator[Stand]:
    """Has the ledger open, and has written what lies in its write-ahead log alone."""
    with stand(ledger) as on:
        on.do(on.ledger.claim(MAIN, [claim(1)], [], at(1)))
        yield on


def occurrences(file: Path) -> int:
    with closing(open_for_reading(file)) as connection:
        return int(connection.execute("SELECT count(*) FROM occurrence").fetchone()[0])


def test_a_copy_has_what_is_durable_and_nothing_that_came_later(scheduler: Scheduler, daemon: Stand, folder: Path) -> None:
    done = scheduler("backup", str(folder / "copy.db"))
    assert (done.status, done.err) == (0, "")
    assert sorted(each.name for each in folder.iterdir()) == ["copy.db", "state"]
    daemon.do(daemon.ledger.claim(MAIN, [claim(2)], [], at(2)))
    assert occurrences(folder / "copy.db") == 1
    assert f"to {folder / 'copy.db'}, {(folder / 'copy.db').stat().st_size} bytes" in done.out


@pytest.mark.usefixtures("daemon")
def test_a_copy_is_for_its_owner_alone(scheduler: Scheduler, folder: Path) -> None:
    scheduler("backup", str(folder / "copy.db"))
    assert (folder / "copy.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("daemon")
def test_what_is_there_already_stays(scheduler: Scheduler, folder: Path) -> None:
    (folder / "copy.db").write_text("precious")
    done = scheduler("backup", str(folder / "copy.db"))
    assert done.status == 2
    assert "is there already; name another file" in done.err
    assert (folder / "copy.db").read_text() == "precious"


@pytest.mark.usefixtures("daemon")
def test_a_folder_that_is_not_there_is_told(scheduler: Scheduler, folder: Path) -> None:
    done = scheduler("backup", str(folder / "missing" / "copy.db"))
    assert (done.status, "cannot be made: No such file or directory" in done.err) == (2, True)


def test_without_a_ledger_nothing_is_left_behind(scheduler: Scheduler, ledger: Path, folder: Path) -> None:
    done = scheduler("backup", str(folder / "copy.db"))
    assert done.status == 3
    assert f"the ledger {ledger} is not there" in done.err
    assert [each.name for each in folder.iterdir()] == ["state"]


def test_a_damaged_ledger_makes_no_copy(scheduler: Scheduler, ledger: Path, folder: Path) -> None:
    with stand(ledger) as on:
        on.do(on.ledger.claim(MAIN, [claim(1)], [], at(1)))
    with closing(open_for_reading(ledger)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'occurrence'").fetchone()
    with ledger.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    done = scheduler("backup", str(folder / "copy.db"))
    assert done.status == 2
    assert "damaged" in done.err
    assert [each.name for each in folder.iterdir()] == ["state"]


@pytest.mark.usefixtures("daemon")
def test_a_disk_without_room_makes_no_copy(scheduler: Scheduler, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def small(path: object, **how: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(path, **how)  # type: ignore[call-overload]  # as it was called
        if str(path).endswith(".part"):
            connection.execute("PRAGMA max_page_count = 2")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    done = scheduler("backup", str(folder / "copy.db"))
    assert done.status == 3
    assert f"{folder / 'copy.db'}: database or disk is full; make room on its disk" in done.err
    assert [each.name for each in folder.iterdir()] == ["state"]


@root_only
def test_root_copies_to_where_the_daemons_user_may_not_even_look_and_changes_no_owner(
    scheduler: Scheduler, ledger: Path, folder: Path
) -> None:
    with stand(ledger) as on:
        on.do(on.ledger.claim(MAIN, [claim(1)], [], at(1)))
    for path in (ledger.parent, *ledger.parent.iterdir()):
        shutil.chown(path, DAEMON, DAEMON)
    private = folder / "private"
    private.mkdir(mode=0o700)
    done = scheduler("backup", str(private / "copy.db"))
    assert (done.status, done.err) == (0, "")
    assert {path.stat().st_uid for path in ledger.parent.iterdir()} == {DAEMON}
    assert (private / "copy.db").stat().st_uid == os.getuid()
    assert occurrences(private / "copy.db") == 1
