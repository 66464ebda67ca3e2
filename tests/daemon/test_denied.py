"""An automation that the list shows and that answers 404 itself: one reading for each poll, and the first list without it removes it."""

import pytest

from scheduler.core.errors import UpstreamError
from scheduler.core.events import AutomationRemoved
from scheduler.core.steps import Cause
from tests.daemon.world import World, in_world
from tests.fakes import GONE


def deny(world: World, automation: str) -> None:
    """Let run and GET of the automation answer 404, whatever the list shows."""
    world.api.get_hides.add(automation)
    for _ in range(100):
        world.api.script(automation, GONE)


def readings_of(world: World, automation: str) -> int:
    return sum(automation_id == automation for automation_id, _ in world.api.readings)


@pytest.mark.parametrize("complete", [True, False])
def test_it_is_asked_once_for_each_poll(complete: bool) -> None:
    """Run was tried again and again, and the list read each time."""

    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:05:00")
        world.api.list_complete = complete
        deny(world, automation)
        await world.until("12:10:20")
        assert (len(world.api.arrivals), readings_of(world, automation)) == (1, 1)
        polls = len(world.api.polls)
        await world.until("12:14:59")
        assert len(world.api.polls) - polls <= 10, "no more than without it"
        assert readings_of(world, automation) - 1 <= len(world.api.polls) - polls
        assert len(world.api.arrivals) == 1
        await world.until("12:26:00")
        first, second = world.row(automation, "12:10"), world.row(automation, "12:20")
        says = "run and GET of the automation answer 404, although the list shows the automation"
        assert [(row.fate, row.error) for row in (first, second)] == [("expired: not_started", says)] * 2
        assert [(step.cause, step.detail) for step in second.steps] == [(Cause.UNCONFIRMED, says)]
        assert len(world.api.arrivals) == 1
        assert world.told(AutomationRemoved) == []

    in_world(story)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("stranger", [True, False])
def test_the_first_list_without_it_removes_it(complete: bool, stranger: bool) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:05:00")
        world.api.list_complete = complete
        world.api.anonymous = ["Nightly: its id is not a UUID"] if stranger else []
        deny(world, automation)
        await world.until("12:11:00")
        world.api.delete(automation)
        polls = len(world.api.polls)
        while len(world.api.polls) == polls:
            await world.after(0.1)
        await world.after(1)
        assert [each.automation_id for each in world.told(AutomationRemoved)] == [automation]
        assert world.fates(automation) == {"12:10": "skipped: deleted"}
        world.kill()
        world.start()
        await world.until("12:21:00")
        assert world.fates(automation) == {"12:10": "skipped: deleted"}, "the removal is on record"

    in_world(story)


def test_it_fires_when_it_answers_again() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:05:00")
        world.api.get_hides.add(automation)
        world.api.script(automation, GONE)
        await world.until("12:11:00")
        assert world.fates(automation) == {"12:10": "waiting"}
        world.api.get_hides.clear()
        await world.until("12:11:40")
        assert world.fates(automation) == {"12:10": "accepted: answered"}
        await world.until("12:20:01")
        assert world.fates(automation)["12:20"] == "accepted: answered"

    in_world(story)


def test_a_run_alone_that_answers_404_removes_nothing() -> None:
    """Only the list, twice, or a reading of the automation can."""

    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:05:00")
        world.api.list_complete = False
        world.api.get_error = UpstreamError("no answer")
        world.api.script(automation, GONE)
        await world.until("12:11:00")
        world.api.list_hides.add(automation)
        await world.until("12:14:00")
        assert world.told(AutomationRemoved) == []
        world.api.get_error = None
        world.api.list_hides.clear()
        await world.until("12:14:50")
        assert world.fates(automation) == {"12:10": "accepted: answered"}

    in_world(story)
