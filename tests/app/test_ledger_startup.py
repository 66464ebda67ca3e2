"""A ledger that cannot be had at the start is waited for; one whose lock was taken away is let go of."""

import asyncio
from pathlib import Path

import pytest

from scheduler.app import ledger_startup as opening_module
from scheduler.app.observability import Observability
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import DaemonStarted, DaemonStopped, LedgerFailed, LedgerRecovered
from scheduler.database import lock_file
from scheduler.database.lock_file import locate_lock_file
from scheduler.ledger.sqlite import SqliteLedger
from tests.app.running_daemon import living
from tests.fault_server import until

STEPS = [
    (SqliteLedger, "record_evaluation"),
    (Observability, "recall"),
    (SqliteLedger, "bind"),
    (SqliteLedger, "read_open_occurrences"),
]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening_module, "back_off", lambda _: 0.01)
    monkeypatch.setattr(lock_file, "LOOK_EVERY", 0.01)


@pytest.mark.parametrize(("place", "step"), STEPS, ids=[step for _, step in STEPS])
def test_trouble_at_the_start_is_told_and_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: type[object], step: str
) -> None:
    real, troubles = getattr(place, step), iter(["disk full", "disk full"])

    async def troubled(*args: object, **kwargs: object) -> object:
        for trouble in troubles:
            raise LedgerUnavailable(trouble)
        return await real(*args, **kwargs)

    async def main() -> None:
        monkeypatch.setattr(place, step, troubled)
        async with living(tmp_path, monkeypatch) as (life, _):
            assert [(event.operation, event.first) for event in life.told(LedgerFailed)] == [
                ("open", True),
                ("open", False),
            ]
            assert len(life.told(LedgerRecovered)) == 1

    asyncio.run(main())


def test_trouble_at_the_start_does_not_keep_it_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise LedgerUnavailable("disk full")

    async def main() -> None:
        monkeypatch.setattr(SqliteLedger, "bind", full)
        async with living(tmp_path, monkeypatch, started=False) as (life, running):
            await until(lambda: running.done() or len(life.told(LedgerFailed)) > 1)
            assert life.daemon._service.make_status().ledger_error == "disk full"
        assert life.told(DaemonStopped)
        assert not life.told(DaemonStarted)

    asyncio.run(main())


@pytest.mark.parametrize("replaced", [False, True])
def test_a_daemon_whose_lock_file_is_taken_away_ends_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, replaced: bool
) -> None:
    async def main() -> None:
        async with living(tmp_path, monkeypatch) as (life, running):
            life.is_to_die = True
            locate_lock_file(life.ledger).unlink()
            if replaced:
                locate_lock_file(life.ledger).touch()
            with pytest.raises(ExceptionGroup) as ended:
                await asyncio.wait_for(running, 20)
            assert ended.group_contains(
                LedgerUnavailable, match="was removed or replaced while this daemon held it"
            )
            (told,) = life.told(LedgerFailed)
            assert told.operation == "lock"

    asyncio.run(main())
