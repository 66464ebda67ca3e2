"""What the watchdog is fed by: whether the daemon has begun its work, and whether planning goes on."""

import asyncio
from datetime import timedelta

import pytest

from scheduler.core.errors import LedgerUnavailable, UpstreamError
from tests.daemon.world import World, in_world

DAYS = 1


def test_it_is_up_when_every_list_has_been_asked_for_also_without_success() -> None:
    async def story(world: World) -> None:
        other = world.add_target("other")
        other.list_error = UpstreamError("HTTP 503", status=503)
        service = world.start().service
        seen = [service.is_up]
        await world.after(5)
        seen.append(service.is_up)
        assert seen == [False, True]
        assert [target.snapshot_at is None for target in service.status().targets] == [False, True]

    in_world(story)


def test_planning_that_has_nothing_to_do_for_days_goes_on() -> None:
    async def story(world: World) -> None:
        world.api.create(cron="0 0 1 1 *")
        service = world.start().service
        await world.after(5)
        for _ in range(DAYS * 24):
            await world.after(timedelta(hours=1))
            assert service.stalled_for() < 1

    in_world(story)


def test_planning_that_hangs_is_noticed_at_the_next_occurrence_and_by_how_long() -> None:
    async def story(world: World) -> None:
        world.api.create(cron="* * * * *")
        service = world.start().service
        await world.until("12:01:30")
        world.ledger.__dict__["claim"] = lambda *_, **_more: asyncio.get_running_loop().create_future()
        await world.until("12:01:58")
        assert service.stalled_for() == 0
        await world.until("12:02:29")
        assert service.stalled_for() == pytest.approx(30, abs=0.1)

    in_world(story)


def test_a_ledger_that_fails_is_no_standstill_of_planning() -> None:
    async def story(world: World) -> None:
        world.api.create(cron="* * * * *")
        service = world.start().service
        await world.until("12:01:30")

        async def fail(*_: object, **_more: object) -> None:
            raise LedgerUnavailable("disk full")

        world.ledger.__dict__["claim"] = fail
        for _ in range(60):
            await world.after(3)
            assert service.stalled_for() < 1
        del world.ledger.__dict__["claim"]
        await world.after(180)

    in_world(story)


def test_who_stops_is_not_hurried() -> None:
    async def story(world: World) -> None:
        world.api.create(cron="* * * * *")
        process = world.start()
        await world.until("12:01:30")
        world.ledger.__dict__["claim"] = lambda *_, **_more: asyncio.get_running_loop().create_future()
        await world.until("12:02:20")
        stopping = asyncio.create_task(world.stop())
        await asyncio.sleep(1)
        assert process.service.stalled_for() == 0
        await stopping
        del world.ledger.__dict__["claim"]

    in_world(story)
