"""The promise with real processes and sockets: in the end the API's runs and the ledger's accepted
occurrences are the same, one to one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.e2e.proxy import Lose, Proxy, Request, answer
from tests.e2e.stand import Stand, next_minute, now, until

ZONES = (
    "UTC",
    "America/New_York",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "Europe/London",
    "Europe/Berlin",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
)
COUNT = 150
"""More than twice as many as may be in flight at once."""
LATE = 15.0  # seconds; a busy machine takes some of them
# an occurrence that waits for a list waits for ever here: the list fails until all are sent


async def create(client: httpx.AsyncClient, number: int, cron: str = "* * * * *") -> str:
    body = {
        "name": f"automation {number:03}",
        "prompt": "go",
        "repository": "acme/app",
        "cron_expression": cron,
        "timezone": ZONES[number % len(ZONES)],
    }
    response = await client.post("/", json=body)
    assert response.status_code == 201, response.text
    automation_id: str = response.json()["id"]
    return automation_id


async def sleep_until(instant: datetime) -> None:
    await asyncio.sleep(max((instant - now()).total_seconds(), 0))


async def concluded(stand: Stand, minute: datetime, *, count: int) -> bool:
    """Whether so many occurrences of the minute have their outcome and none is open."""
    rows = stand.rows("SELECT state FROM occurrence WHERE scheduled_for = ?", f"{minute:%Y-%m-%dT%H:%M:%SZ}")
    return len(rows) >= count and all(row["state"] is None for row in rows)


def accepted(stand: Stand) -> set[tuple[str, str]]:
    rows = stand.rows("SELECT automation_id, task_run_id FROM occurrence WHERE outcome = 'accepted'")
    assert len({row["task_run_id"] for row in rows}) == len(rows)
    return {(row["automation_id"], row["task_run_id"]) for row in rows}


def runs(stand: Stand) -> set[tuple[str, str]]:
    return {
        (row["automation_id"], row["id"])
        for row in stand.rows("SELECT automation_id, id FROM runs", database=stand.api_database)
    }


class Spoiler:
    """What the proxy does to the attempts of two automations: one is cut after its answer was held for a
    kill, one before it got there.
    """

    def __init__(self) -> None:
        self.hold: set[str] = set()  # carried out, but no answer until the client is gone
        self.lose_once: set[str] = set()  # never reaches the API
        self.held: set[str] = set()
        self.list_fails = False

    async def __call__(self, request: Request, forward: Callable[[], Awaitable[bytes]]) -> bytes:
        if request.is_list and self.list_fails:
            return answer(500, "Internal Server Error")
        if not request.is_run:
            return await forward()
        if request.automation_id in self.lose_once:
            self.lose_once.discard(request.automation_id)
            raise Lose
        came = await forward()
        if request.automation_id in self.hold:
            self.held.add(request.automation_id)
            await asyncio.sleep(3600)
        return came


@pytest.mark.timeout(420)
def test_many_automations_through_every_trouble_at_once_agree_one_to_one(tmp_path: Path) -> None:
    asyncio.run(_through_every_trouble(tmp_path))


async def _through_every_trouble(folder: Path) -> None:
    stand = Stand(folder, settings='[schedule]\nsettle_time = "2s"\npoll_interval = "5s"\nfresh_for = "2s"\n')
    spoiler = Spoiler()
    proxy = Proxy(stand.api_port, spoiler)
    await proxy.start()
    stand.target_port = proxy.port
    try:
        await stand.start_api()
        async with stand.client() as client:
            ids = [await create(client, number) for number in range(COUNT)]
            await stand.start_daemon()
            edited, disabled, deleted = ids[:10], ids[10:20], ids[20:30]
            minute = await _edits(client, edited, disabled, deleted)
            await _a_minute_without_a_list_and_connections(stand, spoiler, proxy, minute, len(ids) - 30)
            spoiler.hold, spoiler.lose_once = {ids[100], ids[101]}, {ids[101]}
            await _killed_twice(stand, spoiler, ids[100], ids[101], len(ids) - 30)
        assert await stand.stop("run") == 0
        assert accepted(stand) == runs(stand)
        open_ones = stand.rows("SELECT * FROM occurrence WHERE outcome IS NULL AND state != 'waiting'")
        assert not open_ones
        counts = stand.rows(
            "SELECT automation_id, scheduled_for, count(*) AS n FROM occurrence GROUP BY 1, 2 HAVING n > 1"
        )
        assert not counts
        for one in (*edited, *disabled, *deleted):
            fired = stand.rows(
                "SELECT * FROM occurrence WHERE automation_id = ? AND scheduled_for >= ? AND "
                "outcome = 'accepted'",
                one,
                _text(minute),
            )
            assert not fired, "it fired after it was edited, disabled or deleted"
        outcomes = stand.rows("SELECT outcome, reason, count(*) AS n FROM occurrence GROUP BY 1, 2")
        assert {row["reason"] for row in outcomes} <= {"answered", "found", "deleted"}, outcomes
        skipped = stand.rows("SELECT DISTINCT automation_id FROM occurrence WHERE reason = 'deleted'")
        assert {row["automation_id"] for row in skipped} <= set(deleted)
    finally:
        await stand.close()
        await proxy.close()


async def _edits(
    client: httpx.AsyncClient, edited: list[str], disabled: list[str], deleted: list[str]
) -> datetime:
    """Seconds before the next minute, so that only the poll just before it can know; that minute comes
    back.
    """
    minute = next_minute(now() + timedelta(seconds=8))
    await sleep_until(minute - timedelta(seconds=6))
    for one in edited:
        assert (await client.patch(f"/{one}/", json={"cron_expression": "0 0 29 2 *"})).status_code == 200
    for one in disabled:
        assert (await client.patch(f"/{one}/", json={"enabled": False})).status_code == 200
    for one in deleted:
        assert (await client.delete(f"/{one}/")).status_code == 204
    assert now() < minute, "this machine was too slow to make the edits in time"
    return minute


async def _a_minute_without_a_list_and_connections(
    stand: Stand, spoiler: Spoiler, proxy: Proxy, minute: datetime, count: int
) -> None:
    """The list answers 500 from just before the instant on, while run works, and the server closes every
    idle connection right before the instant.
    """
    await sleep_until(minute - timedelta(milliseconds=900))
    spoiler.list_fails = True
    await sleep_until(minute - timedelta(milliseconds=15))
    assert proxy.close_idle() > 0
    await until(
        lambda: concluded(stand, minute, count=count), what=f"the occurrences of {minute}, without a list"
    )
    spoiler.list_fails = False
    await _all_on_time(stand, minute, count)


async def _killed_twice(stand: Stand, spoiler: Spoiler, first: str, second: str, count: int) -> None:
    """Kill -9 while the answers to a first attempt and to a second one are on their way, and a restart across
    the full minute each time.
    """
    minute = next_minute(now())
    await until(lambda: _is(first in spoiler.held), seconds=90, what="the first attempt to be held")
    await until(lambda: _is(second in spoiler.held), seconds=60, what="the second attempt to be held")
    spoiler.hold = set()
    await stand.kill("run")
    await stand.start_daemon()
    await until(
        lambda: concluded(stand, minute, count=count),
        seconds=60,
        what=f"the occurrences of {minute}, after a kill",
    )
    (found,) = stand.rows(
        "SELECT reason, attempts FROM occurrence WHERE automation_id = ? AND scheduled_for = ?",
        first,
        _text(minute),
    )
    assert found == {"reason": "found", "attempts": 1}
    (found,) = stand.rows(
        "SELECT reason, attempts FROM occurrence WHERE automation_id = ? AND scheduled_for = ?",
        second,
        _text(minute),
    )
    assert found == {"reason": "found", "attempts": 2}


async def _is(true: bool) -> bool:
    return true


def _text(minute: datetime) -> str:
    return f"{minute:%Y-%m-%dT%H:%M:%SZ}"


async def _all_on_time(stand: Stand, minute: datetime, count: int) -> None:
    """All of the minute but those of deleted automations, which are asked about when they are due, and are
    not there.
    """
    rows = stand.rows(
        "SELECT * FROM occurrence WHERE scheduled_for = ? AND reason IS NOT 'deleted'", _text(minute)
    )
    assert len(rows) == count
    assert all(row["outcome"] == "accepted" for row in rows), [
        row for row in rows if row["outcome"] != "accepted"
    ]
    assert all(0 <= row["lateness_seconds"] < LATE for row in rows), sorted(
        row["lateness_seconds"] for row in rows
    )[-5:]
    steps = (
        "SELECT DISTINCT cause FROM step JOIN occurrence ON id = occurrence_id WHERE scheduled_for = ? "
        "AND reason IS NOT 'deleted'"
    )
    waited_for = {each["cause"] for each in stand.rows(steps, _text(minute))} - {
        "budget",
        "in_flight",
    }  # for a place: its turn
    assert not waited_for, waited_for
