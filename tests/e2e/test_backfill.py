"""A missed occurrence is made up for with a real daemon, once, and everything about it can be told
afterwards.
"""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest

from tests.e2e.stand import Stand, next_minute, now, until


@pytest.mark.timeout(240)
def test_what_was_paused_is_made_up_for_once_and_the_proof_is_clean(tmp_path: Path) -> None:
    asyncio.run(_paused_and_made_up_for(tmp_path))


async def _paused_and_made_up_for(folder: Path) -> None:
    stand = Stand(folder, settings='[schedule]\npoll_interval = "2s"\n')
    try:
        await stand.start_api()
        async with stand.client() as client:
            body = {"name": "often", "prompt": "go", "repository": "acme/app", "cron_expression": "* * * * *"}
            assert (await client.post("/", json=body)).status_code == 201
        await stand.start_daemon()
        await until(lambda: _rows(stand, "SELECT 1 FROM automation"), what="the automation to be known")
        await stand.command("pause", "often")
        begin = now()  # on a slow machine, a minute may have fired before the pause
        at = next_minute(begin + timedelta(seconds=2))  # claims are made a second ahead
        minute = f"{at:%Y-%m-%dT%H:%M:%SZ}"
        paused = f"SELECT 1 FROM occurrence WHERE reason = 'paused' AND scheduled_for = '{minute}'"
        await until(lambda: _rows(stand, paused), seconds=90, what=f"{minute} to be passed over")
        await until(lambda: _is(now() > at), what=f"{minute}, since it is passed over a second ahead")
        assert (await stand.command("fire", "often", minute)).startswith("accepted: manual  run ")
        assert await stand.command("fire", "often", minute, check=False) == ""
        told = json.loads(await stand.command("why", "often", minute, "--json"))
        assert (told["outcome"], told["reason"]) == ("accepted", "manual")
        assert any("skipped: paused; then " in step["text"] for step in told["steps"])
        (run,) = told["runs"]
        ended = f"SELECT 1 FROM run WHERE run_id = '{run['run_id']}' AND status = 'success'"
        await until(lambda: _rows(stand, ended), what="the run to end")
        out = await stand.command("audit", "--since", f"{begin:%Y-%m-%dT%H:%M:%SZ}")
        assert "clean: missing 0, double 0, unexplained 0" in out
        assert "the API was asked for the newest runs, 1 of which was compared" in out
        since_begin = f"SELECT id FROM runs WHERE created_at >= '{begin:%Y-%m-%dT%H:%M:%S.%f}'"
        runs = stand.rows(since_begin, database=stand.api_database)
        assert [row["id"] for row in runs] == [run["run_id"]]
        assert await stand.stop("run") == 0
    finally:
        await stand.close()


async def _rows(stand: Stand, sql: str) -> list[dict[str, object]]:
    return stand.rows(sql)


async def _is(true: bool) -> bool:
    return true
