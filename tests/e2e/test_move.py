"""The recipes of docs/upgrade-and-move.md and docs/back-up.md, with real processes: no run is lost or
doubled.
"""

import asyncio
import tarfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.stand import Stand, next_minute, now, until

BODY = {"name": "each minute", "prompt": "go", "repository": "acme/app", "cron_expression": "* * * * *"}


async def _with_an_automation(stand: Stand) -> None:
    await stand.start_api()
    async with stand.client() as client:
        assert (await client.post("/", json=BODY)).status_code == 201
    await stand.start_daemon()


def _fates(stand: Stand) -> dict[str, str]:
    rows = stand.rows("SELECT scheduled_for, outcome, reason FROM occurrence WHERE outcome IS NOT NULL")
    return {row["scheduled_for"]: f"{row['outcome']}: {row['reason']}" for row in rows}


def _accepted(stand: Stand) -> list[str]:
    return [minute for minute, fate in _fates(stand).items() if fate.startswith("accepted")]


def _runs(stand: Stand) -> int:
    return len(stand.rows("SELECT 1 FROM runs", database=stand.api_database))


def _text(minute: datetime) -> str:
    return f"{minute:%Y-%m-%dT%H:%M:%SZ}"


async def _has_fate(stand: Stand, minute: datetime, fate: str) -> None:
    async def is_so() -> bool:
        return _fates(stand).get(_text(minute)) == fate

    await until(is_so, seconds=90, what=f"{minute} to be {fate}; there are {_fates(stand)}")


@pytest.mark.timeout(300)
def test_on_another_machine_it_goes_on_and_from_a_backup_nothing_is_fired_again(tmp_path: Path) -> None:
    asyncio.run(_move_and_restore(tmp_path))


async def _move_and_restore(folder: Path) -> None:
    here = Stand(folder / "here", settings='[schedule]\npoll_interval = "5s"\n', node="here")
    here.folder.mkdir()
    there = Stand(
        folder / "there", settings=here.settings, node="there", key=here.key, api_port=here.api_port
    )
    there.folder.mkdir()
    try:
        await _with_an_automation(here)
        first = next_minute(now() + timedelta(seconds=5))
        await _has_fate(here, first, "accepted: answered")

        # both to another machine: stop, copy, start there
        assert [await here.stop(process) for process in ("run", "serve")] == [0, 0]
        await here.command("backup", str(folder / "moved.backup"))
        there.key = here.key
        (there.folder / "key").write_text(here.key)
        (there.folder / "key").chmod(0o600)
        there.write_configuration()
        await there.command("restore", "--moved", str(folder / "moved.backup"))
        await there.start_api()
        await there.start_daemon()
        await there.command("backup", str(folder / "backup"))
        second = next_minute(now() + timedelta(seconds=5))
        await _has_fate(there, second, "accepted: answered")
        assert _runs(there) == len(_accepted(there))

        # the ledger from the backup, which knows nothing of that minute: stop, restore, start, resume
        assert await there.stop("run") == 0
        with tarfile.open(folder / "backup") as archive:
            archive.extract("ledger.db", folder)
        await there.command("restore", str(folder / "ledger.db"))
        runs = _runs(there)
        await there.start_daemon()
        await _has_fate(there, second, "skipped: paused")
        await there.command("resume", "--all", "--keep-single")
        third = next_minute(now() + timedelta(seconds=5))
        await _has_fate(there, third, "accepted: answered")
        assert _runs(there) == runs + len([minute for minute in _accepted(there) if minute > _text(second)])
        log = there.log("run")
        assert [line["runs"] for line in log if line["event"] == "ledger.restored"] == [1]
        assert not [line for line in log if line["event"] == "run.foreign"]
    finally:
        await there.close()
        await here.close()
