"""`scheduler backup` and `scheduler restore` with the embedded API's database: alone, and with the ledger in
a tar.
"""

import asyncio
import gzip
import io
import os
import resource
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scheduler.app.ledger_startup import LedgerStartup
from scheduler.cli import backup_file
from scheduler.cli.backup_file import KINDS
from scheduler.cli.failures import INTERRUPTED
from scheduler.core.errors import DatabaseRefused
from scheduler.core.model import ClaimPlan
from scheduler.core.pauses import EVERYTHING
from scheduler.database import Database, backup
from scheduler.database.backup import make_staged_path, refuse_interrupted_restore
from scheduler.doctor.probes.ledger import probe_ledger
from scheduler.ledger import schema as ledger_schema
from scheduler.ledger.lock import LedgerLock
from scheduler.ledger.operator_requests import read_pauses
from scheduler.localapi.lock import ServerLock
from scheduler.localapi.runner.run_results import RESTORED_ERROR
from scheduler.localapi.runs import RunQueue
from scheduler.localapi.schema import open_database
from scheduler.localapi.server import LocalApi
from scheduler.localapi.store import AcceptedRun, AutomationRef, Store
from scheduler.settings.load import load
from tests.cli.conftest import DAEMON, Scheduler, root_only
from tests.defaults import api_config
from tests.ledger.support import MAIN, at, claim, stand

VALUES: Mapping[str, Any] = {
    "name": "Nightly",
    "prompt": "Tidy up",
    "repository": "acme/widgets",
    "github_integration": None,
    "cron_expression": "0 3 * * *",
    "timezone": "UTC",
    "template_id": None,
    "enabled": True,
}


@pytest.fixture
def ledger(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger with one occurrence."""
    path = folder / "daemon" / "scheduler.db"
    path.parent.mkdir()
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{path}")
    with stand(path) as on:
        on.do(on.ledger.claim(MAIN, ClaimPlan([claim(1)], [], at(1))))
    return path


@pytest.fixture
def api(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with an automation and two runs: the first one goes on, and the second one waits."""
    path = folder / "api" / "api.db"
    path.parent.mkdir()
    monkeypatch.setenv("SCHEDULER_API__DATABASE", f"sqlite:///{path}")

    async def make(database: Database) -> None:
        created = await Store(database, lambda: at(0)).create(1, VALUES)
        for key in ("first", "second"):
            await Store(database, lambda: at(1)).start_run(AutomationRef(1, created["id"]), key)
        await RunQueue(database, lambda: at(2)).take(["agent"])

    using(path, make)
    return path


def using(path: Path, use: Callable[[Database], Any]) -> Any:
    database = open_database(path)
    try:
        return asyncio.run(use(database))
    finally:
        database.close()


def runs(path: Path) -> list[dict[str, Any]]:
    """Return all runs, the oldest first."""
    found: list[dict[str, Any]] = using(path, lambda database: RunQueue(database, lambda: at(0)).list_runs())[
        ::-1
    ]
    return found


def request(path: Path, key: str) -> AcceptedRun | None:
    async def use(database: Database) -> AcceptedRun | None:
        (automation_id,) = await database.read(
            lambda connection: tuple(connection.execute("SELECT id FROM automations").fetchone())
        )
        return await Store(database, lambda: at(60)).start_run(AutomationRef(1, automation_id), key)

    accepted: AcceptedRun | None = using(path, use)
    return accepted


def occurrences(path: Path) -> int:
    with closing(ledger_schema.open_for_reading(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM occurrence").fetchone()[0])


def paused(path: Path) -> list[tuple[str, str]]:
    with closing(ledger_schema.open_for_reading(path)) as connection:
        return [(pause.target, pause.automation_id) for pause in read_pauses(connection)]


def content(*paths: Path) -> dict[Path, bytes]:
    """Return all files under these folders, but the locks."""
    files = [
        path for folder in paths for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    ]
    return {path: path.read_bytes() for path in files}


@pytest.fixture
def saved(scheduler: Scheduler, ledger: Path, api: Path, folder: Path) -> Path:
    """A backup of both. Since then there were another occurrence and another run."""
    done = scheduler("backup", str(folder / "saved"))
    assert (done.status, done.err) == (0, ""), done
    with stand(ledger) as on:
        on.do(on.ledger.claim(MAIN, ClaimPlan([claim(2)], [], at(2))))
    assert request(api, "third") is not None
    return folder / "saved"


# ------------------------------------------------------------ making it


def test_a_backup_of_both_is_a_tar_for_its_owner_alone(
    scheduler: Scheduler, ledger: Path, api: Path, folder: Path
) -> None:
    done = scheduler("backup", str(folder / "both"))
    assert (done.status, done.err) == (0, "")
    file = folder / "both"
    assert (
        f"backed up: {ledger} and {api} to {file}, {file.stat().st_size} bytes (a tar with ledger.db "
        "and api.db)"
    ) in done.out
    assert (
        "a plain copy of a database in use (cp, rsync) lacks its newest rows, or all of its tables"
        in done.out
    )
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in folder.iterdir()) == ["api", "both", "daemon"]
    with tarfile.open(file) as archive:
        assert [(member.name, member.isreg(), member.mode) for member in archive] == [
            ("ledger.db", True, 0o600),
            ("api.db", True, 0o600),
        ]
        for name in ("ledger.db", "api.db"):
            (folder / name).write_bytes(extracted(archive, name))
    assert occurrences(folder / "ledger.db") == 1
    assert [run["status"] for run in runs(folder / "api.db")] == ["running", "queued"]


def test_without_a_ledger_the_backup_is_the_apis_database(
    scheduler: Scheduler, api: Path, folder: Path
) -> None:
    done = scheduler("backup", str(folder / "copy.db"))
    assert (done.status, done.err) == (0, "")
    assert "tar" not in done.out.splitlines()[0]
    assert len(runs(folder / "copy.db")) == len(runs(api)) == 2


@pytest.mark.usefixtures("ledger", "api")
@pytest.mark.parametrize("failing", [1, 2])
def test_half_a_backup_is_removed(
    scheduler: Scheduler, folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    copies: list[sqlite3.Connection] = []
    copy = backup.copy_database

    def interrupted(source: sqlite3.Connection, into: sqlite3.Connection) -> None:
        copy(source, into)
        copies.append(into)
        if len(copies) == failing:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup_file, "copy_database", interrupted)
    assert scheduler("backup", str(folder / "both")).status == 3
    assert sorted(each.name for each in folder.iterdir()) == ["api", "daemon"]


def test_a_ledger_of_an_older_version_is_backed_up_as_it_is(
    scheduler: Scheduler, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "old.db"
    Database(path, replace(ledger_schema.SCHEMA, migrations=ledger_schema.MIGRATIONS[:1])).close()
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{path}")
    monkeypatch.setenv("SCHEDULER_API__DATABASE", f"sqlite:///{folder}/absent.db")
    assert scheduler("backup", str(folder / "copy.db")).status == 0
    with closing(sqlite3.connect(folder / "copy.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


# ------------------------------------------------------------ going on from it


def test_both_are_restored_and_nothing_of_the_past_starts(
    scheduler: Scheduler, saved: Path, ledger: Path, api: Path
) -> None:
    done = scheduler("restore", str(saved))
    assert (done.status, done.err) == (0, "")
    assert (occurrences(ledger), paused(ledger)) == (1, [(MAIN, EVERYTHING)])
    assert [(run["status"], run["error"]) for run in runs(api)] == [("failed", RESTORED_ERROR)] * 2
    assert using(api, lambda database: RunQueue(database, lambda: at(9)).take(["agent"])) is None
    (ledger_aside,), (api_aside,) = (
        ledger.parent.glob("scheduler.db.before-*"),
        api.parent.glob("api.db.before-*"),
    )
    assert occurrences(ledger_aside / "scheduler.db") == 2
    assert len(runs(api_aside / "api.db")) == 3
    assert (
        f"restored: {api} from {saved}\nthe previous database is {api_aside}\nended as failed: 2 "
        "runs that had not ended in the backup"
    ) in done.out
    assert "keys that were revoked and automations that were deleted since the backup exist again" in done.out
    assert {path.stat().st_mode & 0o777 for path in (ledger, api)} == {0o600}
    assert not list(ledger.parent.glob(".*"))
    assert not list(api.parent.glob(".*"))


def test_a_repeated_request_gets_the_answer_that_the_backup_knows(
    scheduler: Scheduler, saved: Path, api: Path
) -> None:
    assert scheduler("restore", str(saved)).status == 0
    accepted = request(api, "second")
    assert accepted is not None
    assert not accepted.is_new
    assert accepted.automation["last_task_run_id"] == runs(api)[1]["id"]


def test_what_was_moved_goes_on(scheduler: Scheduler, saved: Path, ledger: Path, api: Path) -> None:
    assert scheduler("restore", "--moved", str(saved)).status == 0
    assert paused(ledger) == []
    assert [run["status"] for run in runs(api)] == ["running", "queued"]


def test_a_member_can_be_restored_alone(
    scheduler: Scheduler, saved: Path, ledger: Path, api: Path, folder: Path
) -> None:
    with tarfile.open(saved) as archive:
        (folder / "api.db").write_bytes(extracted(archive, "api.db"))
    done = scheduler("restore", str(folder / "api.db"))
    told = (
        "the daemon is not paused: if deleted automations must not fire, run `scheduler pause --all` "
        "before the API starts"
    )
    assert (done.status, told in done.out) == (0, True)
    assert (occurrences(ledger), paused(ledger), len(runs(api))) == (2, [], 2)


def test_an_archive_of_one_database_restores_that_one(
    scheduler: Scheduler, saved: Path, ledger: Path, api: Path, folder: Path
) -> None:
    with tarfile.open(saved) as archive:
        member = extracted(archive, "ledger.db")
    assert scheduler("restore", str(archived(folder / "one", ("ledger.db", member)))).status == 0
    assert (occurrences(ledger), len(runs(api))) == (1, 3)


def test_databases_of_an_older_version_are_brought_up_to_date(
    scheduler: Scheduler, saved: Path, ledger: Path, api: Path
) -> None:
    members = []
    for kind in KINDS:
        old = saved.with_name("old.db")
        Database(old, replace(kind, migrations=kind.migrations[:1])).close()
        members.append((kind.member, old.read_bytes()))
        old.unlink()
    saved.unlink()
    archived(saved, *members)
    done = scheduler("restore", str(saved))
    assert (done.status, done.err) == (0, "")
    assert (occurrences(ledger), runs(api)) == (0, [])


@pytest.mark.parametrize("process", ["daemon", "server"])
def test_while_a_process_uses_one_of_them_neither_is_restored(
    scheduler: Scheduler, saved: Path, ledger: Path, api: Path, process: str
) -> None:
    before = content(ledger.parent, api.parent)
    lock = (
        LedgerLock.try_acquire(ledger, node="vm1", since=at(0))
        if process == "daemon"
        else ServerLock.acquire(api)
    )
    assert lock is not None
    done = scheduler("restore", str(saved))
    lock.release()
    assert done.status == 2
    assert ("in use by node vm1" if process == "daemon" else f"{api} is being served already") in done.err
    assert content(ledger.parent, api.parent) == before


def test_without_a_folder_for_one_of_them_neither_is_restored(
    scheduler: Scheduler, saved: Path, ledger: Path, api: Path
) -> None:
    shutil.rmtree(api.parent)
    before = content(ledger.parent)
    done = scheduler("restore", str(saved))
    assert (done.status, f"there is no folder {api.parent}" in done.err) == (2, True)
    assert content(ledger.parent) == before


def test_where_the_disk_is_too_full_for_the_pauses_nothing_is_restored(
    scheduler: Scheduler, ledger: Path, folder: Path
) -> None:
    targets = [
        (f"target {number}", str(number)) for number in range(400)
    ]  # their pauses do not fit into the pages that are there
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.executemany(
            "INSERT INTO target (name, url, project_id) VALUES (?, 'https://api.test', ?)", targets
        )
    saved = folder / "saved"
    assert scheduler("backup", str(saved)).status == 0
    before = content(ledger.parent)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (saved.stat().st_size, limits[1]))
    try:
        done = scheduler("restore", str(saved))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (done.status, done.out) == (3, "")
    assert "could not be written completely; make room on its disk. Nothing was changed" in done.err
    assert content(ledger.parent) == before


@root_only
def test_root_restores_each_for_its_own_user(
    scheduler: Scheduler, saved: Path, ledger: Path, api: Path, folder: Path
) -> None:
    owners = {ledger: DAEMON, api: DAEMON + 1}
    for path, owner in owners.items():
        for each in (path.parent, *path.parent.iterdir()):
            shutil.chown(each, owner, owner)
        path.parent.chmod(0o700)
    private = folder / "private"
    private.mkdir(mode=0o700)
    saved.rename(private / "saved")
    done = scheduler("restore", str(private / "saved"))
    assert (done.status, done.err) == (0, "")
    for path, owner in owners.items():
        assert {each.stat().st_uid for each in path.parent.rglob("*")} == {owner}
    assert (os.geteuid(), occurrences(ledger), len(runs(api))) == (0, 1, 2)
    done = scheduler("backup", str(private / "again"))
    assert (done.status, done.err) == (0, "")
    assert (private / "again").stat().st_uid == 0


# ------------------------------------------------------------ what is no backup


def extracted(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def archived(
    path: Path, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "", pax: bool = False
) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT) as archive:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, link
            header.size = len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(header, io.BytesIO(data))
    return path


def _claims_more(path: Path, good: Mapping[str, bytes]) -> None:
    header = tarfile.TarInfo("ledger.db")
    header.size = 2**40
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + good["ledger.db"])


def _cut_short(path: Path, good: Mapping[str, bytes]) -> None:
    archived(path, *good.items())
    os.truncate(path, path.stat().st_size // 2)


def _sparse(path: Path, good: Mapping[str, bytes]) -> None:
    header = tarfile.TarInfo("ledger.db")
    header.type, header.size = tarfile.GNUTYPE_SPARSE, len(good["ledger.db"])
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + good["ledger.db"] + bytes(1024))


def _newer(path: Path, good: Mapping[str, bytes]) -> None:
    newer = path.with_name("newer.db")
    newer.write_bytes(good["api.db"])
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 1000")
    archived(path, ("ledger.db", good["ledger.db"]), ("api.db", newer.read_bytes()))


def _damaged(path: Path, good: Mapping[str, bytes]) -> None:
    archived(
        path,
        ("ledger.db", good["ledger.db"]),
        ("api.db", good["api.db"][:4096] + b"\xff" * (len(good["api.db"]) - 4096)),
    )


NO_BACKUPS: Mapping[str, tuple[Callable[[Path, Mapping[str, bytes]], object], str]] = {
    "another folder": (
        lambda path, good: archived(path, ("../evil.db", good["ledger.db"])),
        "it holds '../evil.db'",
    ),
    "the root": (
        lambda path, good: archived(path, ("/etc/ledger.db", good["ledger.db"])),
        "it holds '/etc/ledger.db'",
    ),
    "one more file": (
        lambda path, good: archived(path, *good.items(), ("evil", b"x" * 100)),
        "it holds 'evil'",
    ),
    "a symbolic link": (
        lambda path, _: archived(path, ("ledger.db", b""), kind=tarfile.SYMTYPE, link="/etc/passwd"),
        "only plain files",
    ),
    "a hard link": (
        lambda path, _: archived(path, ("ledger.db", b""), kind=tarfile.LNKTYPE, link="/etc/passwd"),
        "only plain files",
    ),
    "a folder": (
        lambda path, _: archived(path, ("ledger.db", b""), kind=tarfile.DIRTYPE),
        "only plain files",
    ),
    "a device": (
        lambda path, _: archived(path, ("ledger.db", b""), kind=tarfile.CHRTYPE),
        "only plain files",
    ),
    "a sparse file": (_sparse, "only plain files"),
    "a long name": (lambda path, good: archived(path, ("x" * 200, good["ledger.db"])), "only plain files"),
    "an extended header": (
        lambda path, good: archived(path, ("é" * 120, good["ledger.db"]), pax=True),
        "only plain files",
    ),
    "the same twice": (lambda path, good: archived(path, *[("ledger.db", good["ledger.db"])] * 2), "twice"),
    "a size that is not there": (_claims_more, "ledger.db has 1099511627776 bytes there"),
    "a piece of an archive": (_cut_short, "it is cut short, or wrong"),
    "no database": (
        lambda path, _: archived(path, ("ledger.db", b"x" * 5000)),
        "its ledger.db is no SQLite database",
    ),
    "an empty member": (lambda path, _: archived(path, ("ledger.db", b"")), "ledger.db has 0 bytes there"),
    "an empty archive": (lambda path, _: archived(path), "it is empty"),
    "each under the other's name": (
        lambda path, good: archived(path, ("ledger.db", good["api.db"]), ("api.db", good["ledger.db"])),
        "its ledger.db is no ledger",
    ),
    "a newer version": (_newer, "was written by a newer version of the scheduler"),
    "a damaged database": (_damaged, "damaged"),
    "a compressed archive": (
        lambda path, good: path.write_bytes(
            gzip.compress(archived(path.with_name("t"), *good.items()).read_bytes())
        ),
        "decompress it first",
    ),
}


@pytest.mark.parametrize("named", NO_BACKUPS)
def test_what_is_no_backup_changes_nothing_anywhere(
    scheduler: Scheduler, saved: Path, folder: Path, named: str
) -> None:
    with tarfile.open(saved) as archive:
        good = {name: extracted(archive, name) for name in ("ledger.db", "api.db")}
    saved.unlink()
    make, message = NO_BACKUPS[named]
    make(saved, good)
    before = content(folder)
    for options in ((), ("--moved",)):
        done = scheduler("restore", *options, str(saved))
        assert (done.status, message in done.err, str(saved) in done.err, done.out) == (2, True, True, ""), (
            done.err
        )
    assert content(folder) == before
    assert not list(folder.rglob("*before*"))


def test_a_plain_copy_of_a_database_in_use_is_told_from_a_backup(
    scheduler: Scheduler, folder: Path, api: Path
) -> None:
    database = open_database(folder / "in-use.db")
    shutil.copy(folder / "in-use.db", folder / "copy.db")
    database.close()
    before = content(api.parent)
    done = scheduler("restore", str(folder / "copy.db"))
    assert done.status == 2
    assert (
        "has no tables: a plain copy of a database in use (cp, rsync) lacks its newest rows, or all "
        "of its tables"
    ) in done.err
    assert content(api.parent) == before


def test_a_restore_that_is_killed_between_two_databases_is_told_until_it_is_done(
    scheduler: Scheduler, saved: Path, ledger: Path, api: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def die(path: Path, target: Path) -> Path:
        if path.name == ".api.db.restored":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die)
        assert scheduler("restore", str(saved)).status == INTERRUPTED
    refuse_interrupted_restore(ledger)
    with pytest.raises(
        DatabaseRefused,
        match=r"interrupted, \.api\.db\.restored lies beside it; run `scheduler restore FILE`",
    ):
        asyncio.run(LocalApi.start(api_config(api.parent, {}), now=lambda: at(0)))
    assert scheduler("restore", str(saved)).status == 0
    refuse_interrupted_restore(api)


def test_check_tells_of_a_restore_that_was_interrupted(ledger: Path) -> None:
    make_staged_path(ledger).touch()
    facts = probe_ledger(ledger, at(0), lambda: False)
    assert facts.error is not None
    assert "a restore was interrupted" in facts.error


def test_a_daemon_does_not_open_a_ledger_that_is_being_restored(ledger: Path) -> None:
    make_staged_path(ledger).touch()
    opening = LedgerStartup(
        ledger, cast("Any", SimpleNamespace(is_stopping=False)), cast("Any", None), lambda _: None
    )
    with pytest.raises(DatabaseRefused, match="a restore was interrupted"):
        asyncio.run(opening.open_database())


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("url", "is_moved"), [("http://127.0.0.1:18040", True), ("https://posthog.example.org", False)]
)
def test_a_backup_is_tried_in_a_new_state_directory_beside_the_installation(
    scheduler: Scheduler,
    ledger: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    url: str,
    is_moved: bool,
) -> None:
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("UPDATE target SET name = 'default', url = ?, project_id = '1'", (url,))
    assert scheduler("backup", str(folder / "saved")).status == 0
    monkeypatch.delenv("SCHEDULER_LEDGER__URL")
    monkeypatch.delenv("SCHEDULER_API__DATABASE")
    before = content(folder)
    drill = folder / "drill"
    assert scheduler("restore", str(folder / "absent"), "--state-dir", str(drill)).status == 2
    assert not drill.exists(), "for no backup no state directory is made"
    done = scheduler("restore", str(folder / "saved"), "--state-dir", str(drill))
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"made: {drill}/scheduler.toml, with free ports\n")
    assert f"`scheduler resume --all --keep-single --state-dir {drill}`" in done.out
    assert (
        f"not in a backup: settings. Before you start anything, edit {drill}/scheduler.toml: copy "
        "each [[override]]"
    ) in done.out
    assert "Until then the agent's command is `cat`\n" in done.out
    assert done.out.endswith(
        f"not in a backup: outputs of runs. To keep them, copy the old api.db.runs to {drill}/api.db.runs\n"
    )
    target = load(drill / "scheduler.toml", {}).settings.targets[0]
    with closing(sqlite3.connect(drill / "scheduler.db")) as connection:
        (bound,) = connection.execute("SELECT url FROM target").fetchone()
    assert bound == (target.url if is_moved else url)
    assert (f"its embedded API is at {target.url} now, before at {url}" in done.out) is is_moved
    assert before.items() <= content(folder).items(), "the installation is left alone"
    again = scheduler("restore", str(folder / "saved"), "--state-dir", str(drill))
    assert (again.status, "not in a backup" in again.out) == (0, False), "these settings are the user's"
