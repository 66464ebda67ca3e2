"""The ledger as the doctor sees it: real files, in all the states that one may find them in; and as they were
afterwards.
"""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scheduler.core.instants import to_text
from scheduler.core.model import RunStatus
from scheduler.core.status import NONE_FAILING, FailingAutomations, FinishedRun
from scheduler.doctor.facts import LedgerFacts
from scheduler.doctor.probes.ledger import probe_ledger
from scheduler.ledger.lock import LedgerLock, find_holding_process
from scheduler.ledger.schema import APPLICATION_ID, MIGRATIONS, open_ledger
from scheduler.ledger.targets import LedgerTarget

NOW = datetime(2026, 11, 23, 19, 20, tzinfo=UTC)
ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scheduler.db"


def never() -> bool:
    return False


def made(path: Path) -> None:
    """A ledger in which something stands, closed again."""
    database = open_ledger(path)

    def write(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO target (name, url, project_id, snapshot_at) VALUES ('main', 'https://a', '1', ?)",
            (to_text(NOW),),
        )
        values = ("main", ID, "nightly", "0 3 * * *", "UTC", 1, to_text(NOW), "run-2", to_text(NOW))
        columns = (
            "target, automation_id, name, cron_expression, timezone, enabled, effective_from, run_id, run_at"
        )
        connection.execute(
            f"INSERT INTO automation ({columns}) VALUES ({', '.join('?' * len(values))})", values
        )
        for number, (origin, days) in enumerate(
            [("foreign", 1), ("foreign", 2), ("foreign", 9), ("before", 1)]
        ):
            run = ("main", f"run-{number}", ID, origin, "success", to_text(NOW - timedelta(days=days)))
            connection.execute(
                "INSERT INTO run (target, run_id, automation_id, origin, status, started_at) VALUES "
                "(?, ?, ?, ?, ?, ?)",
                run,
            )
        failed = ("main", "run-9", ID, "foreign", "failed", to_text(NOW), to_text(NOW), "Traceback\nno room")
        connection.execute(
            "INSERT INTO run VALUES (?1, ?2, ?3, NULL, ?4, ?5, ?6, ?7, ?8, NULL, NULL)", failed
        )
        connection.execute("INSERT INTO pause VALUES ('main', '*', ?, 'me')", (to_text(NOW),))
        connection.execute(
            "INSERT INTO evaluation (since, croniter, tzdata, dst_gap, dst_repeat) VALUES (?, '6', "
            "'2026a', '', '')",
            (to_text(NOW),),
        )

    asyncio.run(database.write(write))
    database.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    before = contents(folder)
    yield
    assert contents(folder) == before


def test_what_stands_in_it_is_told_and_no_trace_is_left(path: Path) -> None:
    made(path)
    with unchanged(path.parent):
        facts = probe_ledger(path, NOW, never)
    assert (facts.error, facts.application_id, facts.version, facts.has_wal, facts.damage) == (
        None,
        APPLICATION_ID,
        len(MIGRATIONS),
        True,
        (),
    )
    assert facts.writable
    assert facts.free > 0
    assert facts.filesystem
    record = facts.record
    assert record is not None
    assert record.targets == (LedgerTarget("main", "https://a", "1", NOW),)
    assert [(each.name, each.cron_expression, each.run_id) for each in record.automations] == [
        ("nightly", "0 3 * * *", "run-2")
    ]
    assert [(each.count, each.newest) for each in record.foreign_runs] == [(3, NOW)]
    assert record.newest_runs == {ID: NOW}
    failed = FinishedRun("main", ID, "nightly", "run-9", RunStatus.FAILED, NOW, 1, "no room")
    assert record.failing == FailingAutomations({"main": 1}, [failed])
    assert (record.paused, record.evaluation) == (frozenset({("main", "*")}), ("6", "2026a", 1))


def test_what_a_killed_daemon_left_in_the_log_counts_too_and_stays_there(path: Path) -> None:
    made(path)
    with closing(sqlite3.connect(path)) as holding:
        holding.execute("UPDATE target SET url = 'https://b'")
        holding.commit()
        left = {name: content for name, content in contents(path.parent).items() if not name.endswith("-shm")}
    for name, content in left.items():
        (path.parent / name).write_bytes(content)
    facts = probe_ledger(path, NOW, never)
    assert facts.record is not None
    assert facts.record.targets[0].url == "https://b"
    assert {
        name: content for name, content in contents(path.parent).items() if not name.endswith("-shm")
    } == left


def test_it_is_looked_at_beside_a_daemon_that_writes(path: Path) -> None:
    made(path)
    database = open_ledger(path)
    try:
        asyncio.run(
            database.write(lambda connection: connection.execute("UPDATE target SET url = 'https://c'"))
        )
        facts = probe_ledger(path, NOW, never)
        assert facts.record is not None
        assert facts.record.targets[0].url == "https://c"
    finally:
        database.close()


def test_one_that_is_not_there_is_not_made(path: Path) -> None:
    with unchanged(path.parent):
        facts = probe_ledger(path, NOW, never)
        assert (facts.file, facts.error) == (None, None)
        assert facts.folder is not None
        assert probe_ledger(path.parent / "missing" / "x.db", NOW, never).folder is None


@pytest.mark.parametrize("content", [b"", b"x", b"no database" * 100], ids=["empty", "a byte", "garbage"])
def test_what_is_no_database_is_told_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with unchanged(path.parent):
        facts = probe_ledger(path, NOW, never)
    assert facts.error is not None or facts.application_id != APPLICATION_ID


def test_a_folder_in_its_place_is_told(path: Path) -> None:
    path.mkdir()
    assert probe_ledger(path, NOW, never).error is not None


def damaged(path: Path) -> None:
    """Overwrite a page in the middle."""
    made(path)
    content = bytearray(path.read_bytes())
    content[8192:12288] = b"\xff" * 4096
    path.write_bytes(content)


def test_damage_is_told(path: Path) -> None:
    damaged(path)
    facts = probe_ledger(path, NOW, never)
    assert facts.damage or facts.error


def test_a_file_too_large_for_the_time_there_is_is_read_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.database.files._STEPS", 1)
    made(path)
    facts = probe_ledger(path, NOW, lambda: True)
    assert facts.damage is None
    assert facts.record is not None


def of(path: Path, version: int) -> LedgerFacts:
    made(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    return probe_ledger(path, NOW, never)


def test_another_version_is_told(path: Path) -> None:
    assert of(path, 99).version == 99


def test_a_ledger_of_an_older_version_has_no_failing_automations(path: Path) -> None:
    record = of(path, 5).record
    assert record is not None
    assert record.failing == NONE_FAILING


def test_who_holds_the_lock_is_told_without_the_lock_being_touched(path: Path) -> None:
    made(path)
    assert probe_ledger(path, NOW, never).holder is None
    lock = LedgerLock.try_acquire(path, node="vm", since=NOW)
    assert lock is not None
    try:
        with unchanged(path.parent):
            facts = probe_ledger(path, NOW, never)
        assert facts.holder == find_holding_process(path) == os.getpid()
        assert facts.lock_text.startswith("node vm, process")
    finally:
        lock.release()
    assert find_holding_process(path) is None
