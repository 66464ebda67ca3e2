"""What a command on the same machine changed is taken up at once, and by no more requests than that needs."""

from datetime import timedelta

from scheduler.core.errors import UpstreamError
from scheduler.core.events import AutomationRemoved
from scheduler.daemon.presence import READINGS_PER_POLL
from tests.daemon.test_places import limit
from tests.daemon.world import NOON, World, in_world


def test_an_automation_that_is_made_between_two_polls_fires_on_its_minute() -> None:
    async def story(world: World) -> None:
        process = world.start()
        await world.until("12:00:46")
        made = world.api.create("* * * * *")
        await process.target.refresh.request()
        await world.until("12:01:10")
        assert [started[:8] for started in world.runs(made)] == ["12:01:00"]

    in_world(story)


def test_a_pause_shows_at_once() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        process = world.start()
        await world.until("12:00:40")
        world.ledger.pause(automation)
        assert process.target.make_status().automations == {"enabled": 1}
        await process.target.refresh.request()
        assert process.target.make_status().automations == {"paused": 1}
        world.ledger.resume(automation)
        await process.target.refresh.request()
        assert process.target.make_status().automations == {"enabled": 1}

    in_world(story)


def test_a_deleted_automation_is_gone_after_one_poll_and_one_reading() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        process = world.start()
        await world.until("12:00:40")
        world.api.delete(automation)
        polls = len(world.api.polls)
        await process.target.refresh.request()
        await world.after(1)
        assert [event.automation_id for event in world.told(AutomationRemoved)] == [automation]
        assert len(world.api.polls) == polls + 1
        assert [read for read, _ in world.api.readings] == [automation]

    in_world(story)


def test_a_list_that_lacks_an_automation_which_is_there_removes_nothing() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        process = world.start()
        await world.until("12:00:40")
        world.api.list_hides = {automation}
        await process.target.refresh.request()
        await world.after(1)
        assert world.told(AutomationRemoved) == []
        assert process.target.make_status().automations == {"enabled": 1}

    in_world(story)


def test_a_list_that_lacks_many_automations_is_not_asked_for_each_of_them() -> None:
    async def story(world: World) -> None:
        world.api.list_hides = {world.api.create("0 13 * * *") for _ in range(READINGS_PER_POLL + 1)}
        hidden, world.api.list_hides = world.api.list_hides, set()
        process = world.start()
        await world.until("12:00:40")
        world.api.list_hides = hidden
        await process.target.refresh.request()
        await world.after(1)
        assert process.target.make_status().absent == len(hidden)
        assert world.api.readings == []

    in_world(story)


def test_a_reading_that_waits_for_long_keeps_no_later_change_waiting() -> None:
    async def story(world: World) -> None:
        deleted = world.api.create("0 13 * * *")
        world.set(poll_interval=timedelta(minutes=10))
        process = world.start()
        await world.until("12:00:40")
        world.api.get_took = 3600.0
        world.api.delete(deleted)
        await process.target.refresh.request()
        await world.until("12:00:45")
        made = world.api.create("* * * * *")
        await process.target.refresh.request()
        await world.until("12:01:10")
        assert [started[:8] for started in world.runs(made)] == ["12:01:00"]

    in_world(story)


def test_any_number_of_requests_are_at_most_one_additional_poll_a_second() -> None:
    async def story(world: World) -> None:
        process = world.start()
        await world.until("12:00:40")
        polls = len(world.api.polls)
        while world.clock.now() < NOON + timedelta(seconds=45):
            await process.target.refresh.request()
            await world.after(0.01)
        assert len(world.api.polls) - polls <= 6

    in_world(story)


def test_refreshes_keep_to_the_request_budget_and_delay_no_fire() -> None:
    async def story(world: World) -> None:
        limit(world, 20)
        automation = world.api.create("* * * * *")
        process = world.start()
        await world.until("12:00:30")
        while world.clock.now() < NOON + timedelta(minutes=5, seconds=10):
            await process.target.refresh.request()
            await world.after(0.5)
        assert [started[:8] for started in world.runs(automation)] == [
            f"12:0{minute}:00" for minute in range(1, 6)
        ]
        requests = [*world.api.polls, *(arrival.at for arrival in world.api.arrivals)]
        assert all(
            sum(begin <= at < begin + timedelta(minutes=1) for at in requests) <= 20 for begin in requests
        )

    in_world(story)


def test_an_api_in_trouble_is_asked_no_more_for_it() -> None:
    async def story(world: World) -> None:
        process = world.start()
        await world.until("12:00:40")
        world.api.list_error = UpstreamError("too many requests", status=429, retry_after=60.0)
        await process.target.refresh.request()
        await world.after(1)
        polls = len(world.api.polls)
        for _ in range(20):
            await process.target.refresh.request()
            await world.after(1)
        assert len(world.api.polls) == polls

    in_world(story)
