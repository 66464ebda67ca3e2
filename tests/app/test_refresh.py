"""A running daemon takes up at once what a command on the same machine changes, by the wake socket beside its
ledger.
"""

import asyncio
from pathlib import Path

import pytest

from scheduler.cli import run
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import AutomationAdded, LedgerFailed, WakeFailed
from scheduler.ledger.wake import locate_wake_file, wake
from tests.app.running_daemon import Living, another, living
from tests.fault_server import until


async def command(life: Living, *arguments: str) -> None:
    """Carry out a command beside the daemon."""
    assert await asyncio.to_thread(run, (*arguments, "--config", str(life.folder / "scheduler.toml"))) == 0


def test_pauses_and_new_automations_show_long_before_the_next_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with living(tmp_path, monkeypatch, poll_interval="1h") as (life, _):
            await command(life, "pause", "--all")
            await until(lambda: life.states() == [{"paused": 1}])
            await command(life, "resume", "--all")
            await until(lambda: life.states() == [{"enabled": 1}])
            life.automations.append(another(2))
            wake(life.ledger)
            await until(lambda: len(life.told(AutomationAdded)) == 2)
        assert not locate_wake_file(life.ledger).exists()

    asyncio.run(main())


def test_a_daemon_without_a_wake_socket_says_so_and_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        locate_wake_file(tmp_path / "ledger.db").mkdir()
        async with living(tmp_path, monkeypatch) as (life, _):
            (failed,) = life.told(WakeFailed)
            assert failed.error.startswith(
                f"{locate_wake_file(life.ledger)}: another file has this name; remove it; "
            )
            await command(life, "pause", "--all")
            await until(lambda: life.states() == [{"paused": 1}])

    asyncio.run(main())


def test_a_target_whose_pauses_cannot_be_read_keeps_no_other_from_its_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise LedgerUnavailable("disk full")

    async def main() -> None:
        async with living(tmp_path, monkeypatch, targets=("first", "second"), poll_interval="1h") as (
            life,
            _,
        ):
            monkeypatch.setattr(life.daemon._targets[0].refresh, "request", refuse)
            life.automations.append(another(2))
            wake(life.ledger)
            await until(lambda: "second" in [event.target for event in life.told(AutomationAdded)][2:])
            assert [event.error for event in life.told(LedgerFailed)] == ["disk full"]

    asyncio.run(main())
