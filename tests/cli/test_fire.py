"""`fire` as a command: with nobody there, with a daemon that does not look, and with one that refuses."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scheduler.cli import backfill
from scheduler.core.model import AttemptResult, ClaimPlan, SnapshotUpdate
from scheduler.ledger.lock import LedgerLock
from tests.cli.conftest import Scheduler
from tests.ledger.support import (
    MAIN,
    NIGHTLY,
    Stand,
    accepted,
    at,
    attempt,
    automation,
    claim,
    end,
    occurrence,
    skip,
    stand,
    version,
)

AT_2 = "2026-11-23T12:02:00Z"


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The nightly report is due each minute in Berlin; 1 is accepted, 2 to 4 are missed; nothing has been
    decided after that.
    """
    path = tmp_path / "ledger.db"
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{path}")
    with stand(path) as on:
        _fill(on)
    return path


def _fill(on: Stand) -> None:
    each_minute = automation(cron="* * * * *")
    on.do(on.ledger.record_snapshot(MAIN, SnapshotUpdate(at(0), [version(each_minute)], [each_minute], [])))
    on.do(on.ledger.claim(MAIN, ClaimPlan([claim(1, first=attempt())], [skip(2, 3, 4)], at(4.5))))
    on.do(on.ledger.conclude(occurrence(1), accepted("run-1"), end(result=AttemptResult.ANSWERED)))


@contextmanager
def daemon(
    ledger: Path, does: Callable[[sqlite3.Connection], object] = lambda _: None, *, goes: bool = False
) -> Iterator[None]:
    """Somebody holds the lock, does something when the request is there, and ``goes`` then, or stays."""
    lock = LedgerLock.try_acquire(ledger, node="n", since=datetime(2026, 11, 23, tzinfo=UTC))
    assert lock is not None
    over = threading.Event()

    def watch() -> None:
        with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
            while not over.wait(0.02):
                if connection.execute("SELECT 1 FROM fire_request WHERE refused IS NULL").fetchone():
                    does(connection)
                    if goes:
                        break
            lock.release()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def requests(ledger: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(ledger)) as connection:
        return connection.execute("SELECT automation_id, scheduled_for, refused FROM fire_request").fetchall()


def test_with_no_daemon_there_nothing_is_asked_and_it_exits_with_3(
    scheduler: Scheduler, ledger: Path
) -> None:
    done = scheduler("fire", "nightly report", AT_2)
    assert (done.status, done.out) == (3, "")
    assert f"no daemon runs on the ledger {ledger}; start `scheduler run`" in done.err
    assert requests(ledger) == []


def test_a_time_that_is_still_to_come_today_is_refused_and_not_taken_for_yesterdays(
    scheduler: Scheduler, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.cli.commands.fire.now", lambda: at(3))
    with daemon(ledger):
        done = scheduler("fire", "nightly report", "13:04", "--no-wait")
        assert (done.status, done.out, requests(ledger)) == (2, "", [])
        assert (
            "2026-11-23T13:04 is still to come in Europe/Berlin; for Sun 2026-11-22 13:04 CET, give "
            "the date too"
        ) in done.err
        assert scheduler("fire", "nightly report", "13:02", "--no-wait").status == 0
    assert requests(ledger) == [(NIGHTLY, AT_2, None)]


def test_without_waiting_the_request_is_left_with_the_daemon(scheduler: Scheduler, ledger: Path) -> None:
    with daemon(ledger):
        done = scheduler("fire", "nightly report", AT_2, "--no-wait")
    assert (done.status, done.out) == (0, "")
    assert " CET in Europe/Berlin (2026-11-23T12:02:00Z)" in done.err
    assert requests(ledger) == [(NIGHTLY, AT_2, None)]


def test_a_daemon_that_does_not_look_is_not_asked_for_ever(
    scheduler: Scheduler, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "PATIENCE", 0.2)
    with daemon(ledger):
        done = scheduler("fire", "nightly report", AT_2)
    assert done.status == 1
    assert "and the request is withdrawn; see `scheduler status`" in done.err
    assert requests(ledger) == []


def test_what_the_daemon_refuses_is_told(scheduler: Scheduler, ledger: Path) -> None:
    with daemon(
        ledger,
        lambda connection: connection.execute("UPDATE fire_request SET refused = 'the automation is gone'"),
    ):
        done = scheduler("fire", "nightly report", AT_2)
    assert (done.status, done.out) == (1, "")
    assert done.err.endswith("error: the automation is gone\n")


def _concludes(outcome: str) -> Callable[[sqlite3.Connection], object]:
    def does(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE occurrence SET count = 1, last = scheduled_for WHERE count > 1")
        connection.execute(f"UPDATE occurrence SET {outcome} WHERE scheduled_for = ?", (AT_2,))
        connection.execute("DELETE FROM fire_request")

    return does


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (
            "outcome = 'accepted', reason = 'manual', task_run_id = 'run-2'",
            (0, "accepted: manual  run run-2\n"),
        ),
        (
            "outcome = 'expired', reason = 'not_started', error = 'no connection'",
            (1, "expired: not_started  no connection\n"),
        ),
    ],
)
def test_what_comes_of_it_is_told(
    scheduler: Scheduler, ledger: Path, outcome: str, expected: tuple[int, str]
) -> None:
    with daemon(ledger, _concludes(outcome)):
        done = scheduler("fire", "nightly report", AT_2)
    assert (done.status, done.out) == expected
    assert done.err.endswith("the daemon has taken up the request; Ctrl-C ends only the waiting\n")


def test_a_daemon_that_goes_is_not_waited_for(scheduler: Scheduler, ledger: Path) -> None:
    with daemon(ledger, _concludes("outcome = NULL, reason = NULL, state = 'waiting'"), goes=True):
        done = scheduler("fire", "nightly report", AT_2)
    assert done.status == 3
    assert "the daemon ended while the occurrence was open; the next daemon goes on with it" in done.err


@pytest.mark.parametrize(
    ("time", "why"),
    [
        ("2026-11-23T12:01:00Z", "it was accepted already (answered), as run run-1"),
        ("2026-11-23T12:01:30Z", "nothing was scheduled for it then; see `scheduler why"),
        ("2999-01-01T00:00:00Z", "it is still to come"),
    ],
)
def test_what_may_not_be_made_up_for_is_not_asked_for(
    scheduler: Scheduler, ledger: Path, time: str, why: str
) -> None:
    with daemon(ledger):
        done = scheduler("fire", "nightly report", time)
    assert (done.status, done.out) == (1, "")
    assert why in done.err
    assert requests(ledger) == []
