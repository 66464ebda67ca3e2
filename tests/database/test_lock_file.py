"""The lock file of a database: one holder, and no holder of a file that is not in place."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scheduler.core.errors import ConfigurationError, LedgerUnavailable
from scheduler.database.lock_file import LockFile, locate_lock_file
from scheduler.ledger.lock import LedgerLock
from scheduler.localapi.lock import ServerLock
from tests.ledger.support import at


def lock_ledger(database: Path) -> LockFile | None:
    return LedgerLock.try_acquire(database, node="node-1", since=at(5))


def lock_api(database: Path) -> LockFile | None:
    try:
        return ServerLock.acquire(database)
    except ConfigurationError:
        return None


def count_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


Acquire = Callable[[Path], LockFile | None]
KINDS = pytest.mark.parametrize("acquire", [lock_ledger, lock_api])


@KINDS
def test_a_file_that_is_removed_before_it_can_be_locked_is_not_the_lock(
    acquire: Acquire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, real = tmp_path / "some.db", fcntl.flock
    removals = iter([True, True])

    def flock(descriptor: int, operation: int) -> None:
        if next(removals, False):
            locate_lock_file(database).unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = acquire(database)
    assert lock is not None
    assert lock.is_held()
    assert acquire(database) is None
    lock.release()


@KINDS
def test_a_file_system_without_locks_is_told_and_no_file_stays_open(
    acquire: Acquire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int, __: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    before = count_open_files()
    with pytest.raises(LedgerUnavailable, match=r"No locks available; put the \w+ on a local disk"):
        acquire(tmp_path / "some.db")
    assert count_open_files() == before


@KINDS
@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_whose_file_was_taken_away_is_not_held(
    acquire: Acquire, tmp_path: Path, *, replaced: bool
) -> None:
    database = tmp_path / "some.db"
    lock = acquire(database)
    assert lock is not None
    assert lock.is_held()
    locate_lock_file(database).unlink()
    other = acquire(database) if replaced else None
    assert not lock.is_held()
    lock.release()
    if other is not None:
        assert other.is_held()
        other.release()
