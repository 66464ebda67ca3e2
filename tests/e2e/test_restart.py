"""A restart across the full minute, with real processes: nothing is lost, also when nothing is to be caught
up.
"""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.stand import Stand, next_minute, now, until

COUNT = 20


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_across_the_full_minute_loses_nothing_although_nothing_is_caught_up(
    tmp_path: Path, how: str
) -> None:
    asyncio.run(_restart(tmp_path, how))


async def _restart(folder: Path, how: str) -> None:
    stand = Stand(
        folder, settings='[schedule]\ncatch_up = "none"\nsettle_time = "2s"\npoll_interval = "5s"\n'
    )
    try:
        await stand.start_api()
        async with stand.client() as client:
            for number in range(COUNT):
                body = {
                    "name": f"automation {number}",
                    "prompt": "go",
                    "repository": "acme/app",
                    "cron_expression": "* * * * *",
                }
                assert (await client.post("/", json=body)).status_code == 201
        await stand.start_daemon()
        minute = next_minute(now() + timedelta(seconds=10))
        # One second before the minute the claims are made: the process ends right after that, and is back
        # after the minute.
        await until(lambda: _claimed(stand, minute), seconds=90, what="the claims of the minute")
        await (stand.stop("run") if how == "stop" else stand.kill("run"))
        assert now() < minute, "the machine was too slow to stop the daemon before the minute"
        await asyncio.sleep((minute - now()).total_seconds() + 0.5)
        await stand.start_daemon()
        await until(
            lambda: _accepted(stand, minute),
            seconds=30,
            what="the occurrences of the minute, after a restart",
        )
        assert await stand.stop("run") == 0
        ours = {
            (row["automation_id"], row["task_run_id"])
            for row in stand.rows("SELECT * FROM occurrence WHERE outcome = 'accepted'")
        }
        theirs = {
            (row["automation_id"], row["id"])
            for row in stand.rows("SELECT automation_id, id FROM runs", database=stand.api_database)
        }
        assert ours == theirs
        late = [
            row["lateness_seconds"]
            for row in stand.rows(
                "SELECT lateness_seconds FROM occurrence WHERE scheduled_for = ?", _text(minute)
            )
        ]
        assert all(each >= 0 for each in late)
    finally:
        await stand.close()


def _text(minute: datetime) -> str:
    return f"{minute:%Y-%m-%dT%H:%M:%SZ}"


async def _claimed(stand: Stand, minute: datetime) -> bool:
    return len(stand.rows("SELECT id FROM occurrence WHERE scheduled_for = ?", _text(minute))) == COUNT


async def _accepted(stand: Stand, minute: datetime) -> bool:
    rows = stand.rows("SELECT outcome FROM occurrence WHERE scheduled_for = ?", _text(minute))
    return len(rows) == COUNT and all(row["outcome"] == "accepted" for row in rows)
