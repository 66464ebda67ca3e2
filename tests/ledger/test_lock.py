"""Of several daemons on one ledger, the one that holds its lock fires."""

import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from scheduler.core.errors import LedgerUnavailable
from scheduler.database.lock_file import locate_lock_file, read_holder
from scheduler.ledger.lock import LedgerLock, find_holding_process
from tests.database.support import unprivileged
from tests.ledger.support import at

_HOLD = """
import sys
from pathlib import Path
from scheduler.ledger.lock import LedgerLock
from tests.ledger.support import at
lock = LedgerLock.try_acquire(Path(sys.argv[1]), node="other", since=at(0))
print("held" if lock else "not held", flush=True)
sys.stdin.readline()
"""


def _take(ledger: Path) -> LedgerLock | None:
    return LedgerLock.try_acquire(ledger, node="node-1", since=at(5))


def test_a_lock_is_held_by_one_and_says_by_whom(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    lock = _take(ledger)
    assert lock is not None
    assert read_holder(ledger).startswith("node node-1, process ")
    assert read_holder(ledger).endswith(", since 2026-11-23T12:05:00.000000Z")
    assert _take(ledger) is None
    lock.release()
    again = _take(ledger)
    assert again is not None
    again.release()


def test_a_holder_that_is_killed_holds_no_more(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(ledger)], stdin=PIPE, stdout=PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert _take(ledger) is None
        assert read_holder(ledger) == f"node other, process {process.pid}, since 2026-11-23T12:00:00.000000Z"
        process.kill()
    lock = _take(ledger)
    assert lock is not None
    lock.release()


def test_the_process_that_holds_it_is_told_without_the_lock_being_touched(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    assert find_holding_process(ledger) is None
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(ledger)], stdin=PIPE, stdout=PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert find_holding_process(ledger) == process.pid
        assert find_holding_process(tmp_path / "another.db") is None
        process.kill()
    assert find_holding_process(ledger) is None
    locate_lock_file(ledger).write_text("it lies there, and nobody holds it")
    assert find_holding_process(ledger) is None


def test_nobody_is_named_when_nobody_signed(tmp_path: Path) -> None:
    assert read_holder(tmp_path / "ledger.db") == "another process"
    lock = _take(tmp_path / "ledger.db")
    assert lock is not None
    lock.release()
    assert read_holder(tmp_path / "ledger.db") == "another process"
    assert locate_lock_file(tmp_path / "ledger.db").exists(), (
        "removing it would let two processes hold two files of one name"
    )


def test_a_lock_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="check that its folder exists"):
        _take(tmp_path / "nowhere" / "ledger.db")
    with unprivileged() as folder:
        folder.chmod(0o500)
        with pytest.raises(LedgerUnavailable, match="daemon's user"):
            _take(folder / "ledger.db")
