"""A list that cannot be trusted: since when, and what becomes of an automation that the list shows and that
answers 404 itself.
"""

from datetime import timedelta

import pytest

from scheduler.core.errors import UpstreamError
from scheduler.core.events import AutomationRemoved, ListAgreed, ListDisagreed
from scheduler.core.occurrence_log import Cause
from scheduler.core.status import Inconsistency
from tests.daemon.world import World, in_world
from tests.defaults import make_policies
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
        (told,) = world.told(ListDisagreed)
        assert told.reason == "it shows automation 1, whose run and GET answer 404" or not complete

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


def test_a_denied_automation_that_is_disabled_makes_the_list_suspect_no_longer() -> None:
    """Nothing of it comes due, so it was never read again, and the list was distrusted for ever."""

    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        process = world.start()
        await world.until("12:05:00")
        deny(world, automation)
        await world.until("12:16:00")
        assert process.target.make_status().inconsistent is not None
        world.api.edit(automation, enabled=False)
        await world.until("12:17:00")
        assert process.target.make_status().inconsistent is None
        assert len(world.told(ListAgreed)) == 1

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


def test_a_list_whose_pages_never_agree_is_told_once_with_its_beginning() -> None:
    async def story(world: World) -> None:
        world.api.create("0 13 * * *")
        process = world.start()
        await world.until("12:05:00")
        world.api.list_complete = False
        polls = len(world.api.polls)
        while len(world.api.polls) == polls:
            await world.after(0.1)
        await world.after(1.0)
        begun = world.api.polls[-1]
        assert process.target.make_status().inconsistent is None, (
            "somebody may have created one while the list was read"
        )
        await world.until("12:15:00")
        assert process.target.make_status().inconsistent == Inconsistency(begun, "its count is wrong")
        assert [(each.since, each.reason) for each in world.told(ListDisagreed)] == [
            (begun, "its count is wrong")
        ]
        assert world.told(ListAgreed) == []
        world.api.list_complete = True
        await world.until("12:16:00")
        assert process.target.make_status().inconsistent is None
        assert [each.since for each in world.told(ListAgreed)] == [begun]

    in_world(story)


def test_a_list_that_disagrees_now_and_then_is_not_told() -> None:
    async def story(world: World) -> None:
        world.api.create("0 13 * * *")
        world.start()
        polls = 0
        while polls < 12:
            if len(world.api.polls) > polls:
                polls = len(world.api.polls)
                world.api.list_complete = bool(polls % 2)
            await world.after(1.0)
        assert world.told(ListDisagreed) == []

    in_world(story)


@pytest.mark.parametrize("complete", [True, False])
def test_a_denial_of_long_ago_removes_nothing(complete: bool) -> None:
    """The API was out of order for a while, and much later a page that shifted hides the automation from one
    list.
    """

    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:05:00")
        world.api.get_hides.add(automation)
        world.api.script(automation, GONE)
        await world.until("12:15:01")
        assert world.fates(automation) == {"12:10": "expired: not_started"}
        world.api.get_hides.clear()
        await world.until("12:18:00")
        world.api.list_hides.add(automation)
        world.api.list_complete = complete
        polls = len(world.api.polls)
        while len(world.api.polls) == polls:
            await world.after(0.1)
        world.api.list_hides.clear()
        world.api.list_complete = True
        await world.until("12:21:00")
        assert world.told(AutomationRemoved) == []
        assert world.fates(automation)["12:20"] == "accepted: answered"

    in_world(story)


@pytest.mark.parametrize("edited", [False, True])
def test_a_list_is_trusted_again_as_soon_as_the_automation_answers(edited: bool) -> None:
    """It was read again at its next occurrence only, which may be months away."""

    async def story(world: World) -> None:
        automation = world.api.create("10 12 23 11 *")
        process = world.start()
        await world.until("12:05:00")
        deny(world, automation)
        await world.until("12:45:00")
        assert world.fates(automation) == {"12:10": "expired: not_started"}
        assert process.target.make_status().inconsistent is not None
        polls, readings = len(world.api.polls), readings_of(world, automation)
        await world.until("12:55:00")
        assert readings_of(world, automation) - readings == len(world.api.polls) - polls, (
            "it is read once for each poll"
        )
        world.api.get_hides.clear()
        if edited:
            world.api.edit(automation, cron_expression="20 12 23 11 *")
        await world.after(2 * process.target.context.settings.poll_interval)
        assert process.target.make_status().inconsistent is None
        assert len(world.told(ListAgreed)) == 1
        await world.after(process.target.context.settings.poll_interval)
        readings = readings_of(world, automation)
        await world.after(timedelta(minutes=10))
        assert readings_of(world, automation) == readings, "nobody doubts it any more"

    in_world(story, policies=make_policies(start_within=timedelta(minutes=10)))


def test_of_many_denied_automations_one_is_read_for_each_poll_in_turn() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("10 12 23 11 *") for _ in range(5)]
        process = world.start()
        await world.until("12:05:00")
        for automation in automations:
            deny(world, automation)
        await world.until("12:45:00")
        world.api.edit(automations[0], enabled=False)
        world.api.get_hides.discard(automations[1])
        await world.until("12:48:00")
        before, polls = [readings_of(world, each) for each in automations], len(world.api.polls)
        await world.until("12:58:00")
        readings = [readings_of(world, each) - count for each, count in zip(automations, before, strict=True)]
        assert readings[:2] == [0, 0], "one is disabled, and one has answered"
        assert sum(readings) == len(world.api.polls) - polls
        assert max(readings) - min(readings[2:]) <= 1
        assert process.target.make_status().inconsistent is not None
        for automation in automations[2:]:
            world.api.delete(automation)
        await world.until("13:00:00")
        assert process.target.make_status().inconsistent is None
        assert {each.automation_id for each in world.told(AutomationRemoved)} == set(automations[2:])

    in_world(story, policies=make_policies(start_within=timedelta(minutes=10)))


def test_what_waits_fires_when_another_reading_shows_the_automation() -> None:
    """The reading between two polls was another one's, and so nobody told the occurrence."""

    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        process = world.start()
        await world.until("12:05:00")
        world.api.get_hides.add(automation)
        world.api.script(automation, GONE)
        await world.until("12:10:20")
        assert world.fates(automation) == {"12:10": "waiting"}
        world.api.get_hides.clear()
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        await process.target._presence.read(automation)
        await world.after(1)
        assert world.fates(automation) == {"12:10": "accepted: answered"}

    in_world(story)
