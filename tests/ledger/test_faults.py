"""A ledger that cannot be written says so and keeps nothing half; one whose daemon was killed has all that
the daemon was told.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from scheduler.core.errors import LedgerUnavailable
from scheduler.core.model import AttemptResult, ClaimPlan, State
from tests.ledger.support import MAIN, Stand, accepted, at, attempt, claim, end, occurrence, skip, stand


@contextmanager
def _full_disk(size: int) -> Iterator[None]:
    """No file grows beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_nothing_is_claimed_and_it_goes_on_when_there_is_room(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(0)], [], at(0))))
    wanted = [claim(minute, first=attempt()) for minute in range(1, 3001)]
    size = ledger.path.with_name("ledger.db-wal").stat().st_size
    with _full_disk(size + 200_000):
        with pytest.raises(LedgerUnavailable):
            ledger.do(ledger.ledger.claim(MAIN, ClaimPlan(wanted, [skip(4000)], at(4000))))
        assert ledger.rows("SELECT count(*) FROM occurrence") == [(1,)]
        assert ledger.rows("SELECT count(*) FROM attempt") == [(0,)]
        assert ledger.rows("SELECT watermark FROM target") == [("2026-11-23T12:00:00.000000Z",)]
    assert len(ledger.do(ledger.ledger.claim(MAIN, ClaimPlan(wanted, [skip(4000)], at(4000))))) == 3001


def test_of_outcomes_that_cannot_be_written_nothing_is_kept(ledger: Stand) -> None:
    minutes = range(2000)
    ledger.do(
        ledger.ledger.claim(
            MAIN, ClaimPlan([claim(minute, first=attempt()) for minute in minutes], [], at(2000))
        )
    )

    def conclude_all() -> list[object]:
        ends = end(result=AttemptResult.ANSWERED)
        return ledger.together(
            *(ledger.ledger.conclude(occurrence(each), accepted(f"run-{each}"), ends) for each in minutes)
        )

    size = ledger.path.with_name("ledger.db-wal").stat().st_size
    with _full_disk(size + 20_000):
        outcomes = conclude_all()
    lost = sum(isinstance(each, LedgerUnavailable) for each in outcomes)
    assert lost
    found = ledger.do(ledger.ledger.read_open_occurrences(MAIN))
    assert len(found) == lost
    assert {(each.state, each.end) for each in found} == {(State.CLAIMED, None)}
    assert ledger.rows("SELECT count(*) FROM run") == [(2000 - lost,)]


_CLAIM_UNTIL_KILLED = """
import asyncio, sys
from pathlib import Path
from tests.ledger.support import MAIN, accepted, at, attempt, claim, end, occurrence, skip, stand
from scheduler.core.model import AttemptResult, ClaimPlan

with stand(Path(sys.argv[1])) as on:
    for batch in range(10**9):
        minutes = range(batch * 20, batch * 20 + 20)
        claims = [claim(each, first=attempt()) for each in minutes[:10]]
        plan = ClaimPlan(claims, [skip(*minutes[10:])], at(minutes[-1]))
        made = on.do(on.ledger.claim(MAIN, plan))
        assert len(made) == 11
        print("claimed", batch, flush=True)
        done = end(result=AttemptResult.ANSWERED)
        ends = [(occurrence(each), accepted(f"run-{each}")) for each in minutes[:5]]
        on.together(*(on.ledger.conclude(each, outcome, done) for each, outcome in ends))
        print("concluded", batch, flush=True)
"""


@pytest.mark.parametrize("words", [1, 4, 15])
def test_a_killed_daemon_leaves_whole_claims_and_whole_outcomes(tmp_path: Path, words: int) -> None:
    path = tmp_path / "ledger.db"
    with subprocess.Popen(
        [sys.executable, "-c", _CLAIM_UNTIL_KILLED, str(path)], stdout=PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().split() for _ in range(words)]
        os.kill(process.pid, signal.SIGKILL)
        told += [line.split() for line in process.stdout]
    claimed = sum(verb == "claimed" for verb, _ in told)
    finished = sum(verb == "concluded" for verb, _ in told)
    with stand(path) as on:
        (batches,) = on.rows(
            "SELECT count(*) FILTER (WHERE count = 10), count(*) FILTER (WHERE count = 1) FROM occurrence"
        )
        assert batches[0] in {claimed, claimed + 1}
        assert batches[1] == 10 * int(str(batches[0])), "claims and spans come together"
        assert on.rows("SELECT count(*) FROM occurrence WHERE attempts = 1") == on.rows(
            "SELECT count(*) FROM attempt"
        )
        (watermark,) = on.rows("SELECT watermark FROM target")
        assert watermark == on.rows("SELECT replace(max(last), 'Z', '.000000Z') FROM occurrence")[0], (
            "it moves with the rows below it"
        )
        (accepted_ones,) = on.rows("SELECT count(*) FROM occurrence WHERE outcome = 'accepted'")
        assert int(str(accepted_ones[0])) >= 5 * finished
        assert on.rows("SELECT count(*) FROM run") == [accepted_ones]
        assert on.rows("SELECT count(*) FROM attempt WHERE result = 'answered'") == [accepted_ones]
        assert all(
            each.attempt == attempt() and each.end is None
            for each in on.do(on.ledger.read_open_occurrences(MAIN))
        )
        assert on.do(on.ledger.claim(MAIN, ClaimPlan([claim(0), claim(15)], [], at(0)))) == {}, (
            "what is there is there"
        )
