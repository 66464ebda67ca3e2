"""`scheduler backup` and `scheduler restore`, on a ledger in a file. `test_backup_archive` has the embedded
API's database too.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from scheduler.cli import backup_file
from scheduler.cli.commands import restore
from scheduler.core.model import ClaimPlan
from scheduler.core.pauses import EVERYTHING
from scheduler.ledger.lock import LedgerLock
from scheduler.ledger.operator_requests import read_pauses
from scheduler.ledger.schema import open_for_reading
from tests.cli.conftest import DAEMON, Scheduler, root_only
from tests.ledger.support import MAIN, Stand, at, claim, stand


@pytest.fixture
def ledger(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder / "state" / "ledger.db"
    path.parent.mkdir()
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{path}")
    monkeypatch.setenv("SCHEDULER_API__DATABASE", f"sqlite:///{folder}/absent/api.db")
    return path


@pytest.fixture
def daemon(ledger: Path) -> Iterator[Stand]:
    """Has the ledger open, and has written what lies in its write-ahead log alone."""
    with stand(ledger) as on:
        on.do(on.ledger.claim(MAIN, ClaimPlan([claim(1)], [], at(1))))
        yield on


def occurrences(file: Path) -> int:
    with closing(open_for_reading(file)) as connection:
        return int(connection.execute("SELECT count(*) FROM occurrence").fetchone()[0])


def test_a_copy_has_what_is_durable_and_nothing_that_came_later(
    scheduler: Scheduler, daemon: Stand, folder: Path
) -> None:
    done = scheduler("backup", str(folder / "copy.db"))
    assert (done.status, done.err) == (0, "")
    assert sorted(each.name for each in folder.iterdir()) == ["copy.db", "state"]
    daemon.do(daemon.ledger.claim(MAIN, ClaimPlan([claim(2)], [], at(2))))
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
    assert f"there is no ledger {ledger}, and no database" in done.err
    assert [each.name for each in folder.iterdir()] == ["state"]


def test_a_damaged_ledger_makes_no_copy(scheduler: Scheduler, ledger: Path, folder: Path) -> None:
    with stand(ledger) as on:
        on.do(on.ledger.claim(MAIN, ClaimPlan([claim(1)], [], at(1))))
    with closing(open_for_reading(ledger)) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'occurrence'"
        ).fetchone()
    with ledger.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    done = scheduler("backup", str(folder / "copy.db"))
    assert done.status == 2
    assert "damaged" in done.err
    assert [each.name for each in folder.iterdir()] == ["state"]


@pytest.mark.usefixtures("daemon")
def test_a_disk_without_room_makes_no_copy(
    scheduler: Scheduler, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        on.do(on.ledger.claim(MAIN, ClaimPlan([claim(1)], [], at(1))))
    for path in (ledger.parent, *ledger.parent.iterdir()):
        shutil.chown(path, DAEMON, DAEMON)
    private = folder / "private"
    private.mkdir(mode=0o700)
    done = scheduler("backup", str(private / "copy.db"))
    assert (done.status, done.err) == (0, "")
    assert {path.stat().st_uid for path in ledger.parent.iterdir()} == {DAEMON}
    assert (private / "copy.db").stat().st_uid == os.getuid()
    assert occurrences(private / "copy.db") == 1


def test_a_link_or_a_file_that_is_in_the_way_is_not_written_through(
    scheduler: Scheduler, daemon: Stand, folder: Path
) -> None:
    del daemon
    victim = folder / "victim"
    victim.write_text("precious")
    (folder / "copy.db").symlink_to(victim)
    (folder / "other.db").symlink_to(folder / "nowhere")
    assert [scheduler("backup", str(folder / name)).status for name in ("copy.db", "other.db")] == [2, 2]
    assert victim.read_text() == "precious"
    assert not (folder / "nowhere").exists()


@pytest.mark.usefixtures("daemon")
def test_of_many_backups_to_one_name_one_succeeds_and_is_whole(folder: Path, ledger: Path) -> None:
    program = [sys.executable, "-m", "scheduler", "backup", str(folder / "copy.db")]
    environment = os.environ | {
        "SCHEDULER_LEDGER__URL": f"sqlite:///{ledger}",
        "SCHEDULER_CONFIG": "/dev/null",
    }
    running = [subprocess.Popen(program, env=environment, stdout=-1, stderr=-1, text=True) for _ in range(4)]
    told = {process.pid: process.communicate() for process in running}
    assert sorted(process.returncode for process in running) == [0, 2, 2, 2], told
    assert all("is there already" in told[process.pid][1] for process in running if process.returncode)
    assert occurrences(folder / "copy.db") == 1
    assert not [each for each in folder.iterdir() if each.name.endswith(".part")]


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_half_a_copy_is_removed(
    scheduler: Scheduler, folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def interrupted(_ledger: object, into: sqlite3.Connection) -> None:
        into.execute("CREATE TABLE half (a)")
        raise error

    monkeypatch.setattr(backup_file, "copy_database", interrupted)
    assert scheduler("backup", str(folder / "copy.db")).status != 0
    assert [each.name for each in folder.iterdir()] == ["state"]


# ------------------------------------------------------------ restoring


@pytest.fixture
def saved(scheduler: Scheduler, ledger: Path, folder: Path) -> Path:
    """A backup with one occurrence, of a ledger that has had another since, in its write-ahead log too."""
    with stand(ledger) as on:
        on.do(on.ledger.claim(MAIN, ClaimPlan([claim(1)], [], at(1))))
        scheduler("backup", str(folder / "copy.db"))
        on.do(on.ledger.claim(MAIN, ClaimPlan([claim(2)], [], at(2))))
        shutil.copytree(ledger.parent, folder / "killed")
    shutil.rmtree(ledger.parent)
    (folder / "killed").rename(ledger.parent)  # as kill -9 would have left it
    (ledger.parent / "ledger.db.lock").unlink(missing_ok=True)
    assert (ledger.parent / "ledger.db-wal").stat().st_size > 0
    return folder / "copy.db"


def test_a_restored_ledger_is_the_backups_and_paused_and_the_one_before_is_whole_beside_it(
    scheduler: Scheduler, saved: Path, ledger: Path
) -> None:
    done = scheduler("restore", str(saved))
    assert (done.status, done.err) == (0, "")
    assert (
        "paused: all automations of main; when the daemon is ready: `scheduler resume --all --keep-single`"
        in done.out
    )
    assert occurrences(ledger) == 1
    with closing(open_for_reading(ledger)) as connection:
        assert [(each.target, each.automation_id) for each in read_pauses(connection)] == [(MAIN, EVERYTHING)]
        assert [row[0] is not None for row in connection.execute("SELECT restored_at FROM target")] == [True]
    (aside,) = ledger.parent.glob("ledger.db.before-*")
    assert f"the previous database is {aside}" in done.out
    assert occurrences(aside / "ledger.db") == 2
    assert saved.exists()


def test_it_can_be_restored_again(
    scheduler: Scheduler, saved: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scheduler("restore", str(saved)).status == 0
    with stand(ledger) as on:
        on.do(on.ledger.claim(MAIN, ClaimPlan([claim(3), claim(4)], [], at(4))))
    monkeypatch.setattr(
        restore, "now", lambda: at(600)
    )  # the folder for what was there has its name by the second
    assert scheduler("restore", str(saved)).status == 0
    assert occurrences(ledger) == 1
    assert len(list(ledger.parent.glob("ledger.db.before-*"))) == 2


def test_a_moved_ledger_is_not_paused(scheduler: Scheduler, saved: Path, ledger: Path) -> None:
    done = scheduler("restore", "--moved", str(saved))
    assert (done.status, "paused" in done.out) == (0, False)
    with closing(open_for_reading(ledger)) as connection:
        assert read_pauses(connection) == []
        assert [row[0] for row in connection.execute("SELECT restored_at FROM target")] == [None]


def test_where_no_ledger_is_a_backup_becomes_one(scheduler: Scheduler, saved: Path, ledger: Path) -> None:
    for each in ledger.parent.iterdir():
        each.unlink()
    done = scheduler("restore", str(saved))
    assert (done.status, "the previous database" in done.out) == (0, False)
    assert occurrences(ledger) == 1


@pytest.mark.parametrize(
    "content", [None, b"", b"no database at all, but some text of more than a hundred bytes" * 4]
)
def test_what_is_no_backup_changes_nothing(
    scheduler: Scheduler, saved: Path, ledger: Path, content: bytes | None
) -> None:
    saved.unlink()
    if content is not None:
        saved.write_bytes(content)
    done = scheduler("restore", str(saved))
    assert done.status == 2
    assert occurrences(ledger) == 2
    assert not list(ledger.parent.glob("*before*"))


def test_while_a_daemon_runs_nothing_is_restored(scheduler: Scheduler, saved: Path, ledger: Path) -> None:
    lock = LedgerLock.try_acquire(ledger, node="vm1", since=at(0))
    assert lock is not None
    done = scheduler("restore", str(saved))
    lock.release()
    assert done.status == 2
    assert "is in use by node vm1" in done.err
    assert occurrences(ledger) == 2


@root_only
def test_root_restores_a_backup_of_its_own_for_the_daemons_user(
    scheduler: Scheduler, saved: Path, ledger: Path, folder: Path
) -> None:
    for path in (ledger.parent, *ledger.parent.iterdir()):
        shutil.chown(path, DAEMON, DAEMON)
    private = folder / "private"
    private.mkdir(mode=0o700)
    saved.rename(private / "copy.db")
    done = scheduler("restore", str(private / "copy.db"))
    assert (done.status, done.err) == (0, "")
    assert {path.stat().st_uid for path in ledger.parent.rglob("*")} == {DAEMON}
    assert ledger.stat().st_mode & 0o777 == 0o600
    assert occurrences(ledger) == 1
