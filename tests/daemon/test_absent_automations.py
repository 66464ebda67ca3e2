"""An automation that is absent from the list: what is due waits, the automation itself decides, and one empty
list removes nothing.
"""

from datetime import timedelta

import pytest

from scheduler.core.errors import UpstreamError
from scheduler.core.events import AutomationRemoved, AutomationsDisappeared, AutomationsUnidentified
from scheduler.core.model import State
from scheduler.core.occurrence_log import Cause
from scheduler.daemon.presence import READINGS_PER_POLL
from tests.daemon.world import World, in_world, look_rarely
from tests.defaults import make_policies

BEFORE_THE_LAST_POLL = "12:09:40"
"""Before the one poll that sees an absence before the occurrences of 12:10 are due."""


def hide(world: World, *automations: str) -> None:
    world.api.list_hides |= set(automations)


def test_a_list_that_is_empty_for_a_moment_removes_nothing() -> None:
    """The reading that was to confirm it once followed within milliseconds."""

    async def story(world: World) -> None:
        automations = [world.api.create("0 13 * * *") for _ in range(3)]
        process = world.start()
        await world.until("12:01:01")
        hide(world, *automations)
        polls = len(world.api.polls)
        while len(world.api.polls) == polls:
            await world.after(0.1)
        await world.after(2.5)
        assert len(world.api.polls) == polls + 1, "no second reading follows at once"
        process.target._request_poll()
        await world.after(1)
        assert len(world.api.polls) == polls + 2
        assert process.target.make_status().absent == 3
        world.api.list_hides.clear()
        await world.until("13:00:10")
        assert world.told(AutomationRemoved) == []
        for each in automations:
            assert world.fates(each) == {"13:00": "accepted: answered"}

    in_world(story)


def test_a_removal_is_confirmed_an_interval_later() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.start()
        await world.until("12:01:01")
        world.api.delete(automation)
        removed_at = None
        while removed_at is None:
            await world.after(0.1)
            if world.told(AutomationRemoved):
                removed_at = world.clock.true_now()
        first, second = [
            each for each in world.api.polls if each > world.clock.true_now() - timedelta(seconds=45)
        ][-2:]
        assert second - first >= timedelta(seconds=29.999)
        assert world.api.readings == []

    in_world(story)


def test_what_is_due_while_its_automation_is_absent_is_decided_by_the_automation_at_once() -> None:
    async def story(world: World) -> None:
        gone, there = world.api.create("*/10 * * * *"), world.api.create("*/10 * * * *")
        world.start()
        await world.until(BEFORE_THE_LAST_POLL)
        hide(world, there)
        world.api.delete(gone)
        await world.until("12:10:02")
        assert world.fates(gone) == {"12:10": "skipped: deleted"}
        assert world.fates(there) == {"12:10": "accepted: answered"}
        assert world.runs(gone) == []
        assert [each.automation_id for each in world.told(AutomationRemoved)] == [gone]

    in_world(story)


def test_an_edit_that_no_list_showed_counts_from_its_own_time_after_a_restart_too() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 0 1 1 *")
        world.start()
        await world.until("12:00:31")
        hide(world, automation)
        world.api.list_complete = False  # else it would be removed
        await world.until("12:02:30")
        world.api.edit(automation, cron_expression="* * * * *")
        await world.until("12:04:45")
        world.kill()
        world.start()
        await world.until("12:05:10")  # the first list after the restart does not show it either
        world.api.list_hides.clear()
        world.api.list_complete = True
        await world.until("12:07:00")
        assert [*world.fates(automation).items()][:2] == [
            ("12:03..12:04", "skipped: coalesced"),
            ("12:05", "accepted: answered"),
        ]

    in_world(story)


def test_without_an_answer_it_waits_for_the_next_poll_and_says_why() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until(BEFORE_THE_LAST_POLL)
        hide(world, automation)
        await world.until("12:09:55")
        world.api.get_error = UpstreamError("no answer")
        await world.until("12:10:05")
        assert world.fates(automation) == {"12:10": "waiting"}
        world.api.list_hides.clear()
        await world.until("12:10:50")
        row = world.row(automation, "12:10")
        assert row.fate == "accepted: answered"
        assert [step.cause for step in row.steps] == [Cause.UNCONFIRMED]

    in_world(story)


def test_one_that_was_switched_off_while_the_list_hides_it_is_not_fired() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until(BEFORE_THE_LAST_POLL)
        hide(world, automation)
        await world.until("12:09:55")
        world.api.edit(automation, enabled=False)
        await world.until("12:12:00")
        assert world.fates(automation) == {"12:10": "skipped: deleted"}
        assert world.runs(automation) == []

    in_world(story)


@pytest.mark.parametrize("unidentified", [[], ["Nightly: its id is not a UUID"]])
def test_between_two_polls_no_more_than_a_few_are_read_alone(unidentified: list[str]) -> None:
    async def story(world: World) -> None:
        world.api.anonymous = unidentified
        automations = [world.api.create("*/10 * * * *") for _ in range(3 * READINGS_PER_POLL)]
        world.start()
        await world.until(BEFORE_THE_LAST_POLL)
        hide(world, *automations)
        world.api.list_error = None
        await world.until("12:09:59")
        before = len(world.api.polls)
        await world.until("12:10:05")
        polls = len(world.api.polls) - before
        assert len(world.api.readings) == READINGS_PER_POLL * (1 + polls)
        assert sum(world.fates(each) == {"12:10": "accepted: answered"} for each in automations) == len(
            world.api.readings
        )
        world.api.list_hides.clear()
        await world.until("12:11:00")
        assert all(world.fates(each) == {"12:10": "accepted: answered"} for each in automations)

    in_world(story)


def test_an_absent_automation_expires_what_could_not_be_decided() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until(BEFORE_THE_LAST_POLL)
        hide(world, automation)
        await world.until("12:09:55")
        world.api.get_error = world.api.list_error = UpstreamError("no answer")
        await world.until("12:16:00")
        assert world.fates(automation) == {"12:10": "expired: not_started"}
        world.api.get_error = world.api.list_error = None
        world.api.list_hides.clear()
        await world.until("12:21:00")
        assert world.fates(automation) == {"12:10": "expired: not_started", "12:20": "accepted: answered"}

    in_world(story)


def test_a_reading_that_takes_long_holds_up_no_outcome() -> None:
    """It may wait for the request budget for an hour."""

    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until(BEFORE_THE_LAST_POLL)
        hide(world, automation)
        world.api.get_took = 3600
        await world.until("12:09:55")
        world.api.list_error = UpstreamError("no answer")
        await world.until("12:15:02")
        assert world.fates(automation) == {"12:10": "expired: not_started"}

    in_world(story)


def test_the_list_decides_when_it_is_quicker_than_the_reading() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until(BEFORE_THE_LAST_POLL)
        hide(world, automation)
        world.api.get_took = 3600
        await world.until("12:10:05")
        world.api.list_hides.clear()
        await world.until("12:10:45")
        assert world.fates(automation) == {"12:10": "accepted: answered"}
        assert len(world.runs(automation)) == 1

    in_world(story)


def test_an_object_without_an_id_does_not_keep_a_deleted_automation_alive() -> None:
    """It was sent again and again, and the list read each time, for as long as the object was there."""

    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:05:00")
        world.api.anonymous = ["Nightly: its id is not a UUID"]
        await world.until("12:06:00")
        world.api.delete(automation)
        await world.until("12:45:00")
        assert world.fates(automation) == {"12:10": "skipped: deleted"}
        assert len(world.api.readings) == 1
        assert world.api.arrivals == []
        assert [each.automation_id for each in world.told(AutomationRemoved)] == [automation]

    in_world(story)


def test_an_object_without_an_id_keeps_nothing_from_firing_that_is_not_in_the_list() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:05:00")
        world.api.anonymous = ["Nightly: its id is not a UUID"]
        hide(world, automation)
        await world.until("12:25:00")
        assert world.fates(automation) == {"12:10": "accepted: answered", "12:20": "accepted: answered"}
        assert len(world.api.readings) == 2, "the automation itself says each time that it is there"
        assert world.told(AutomationRemoved) == []

    in_world(story)


def test_an_automation_that_the_last_list_lacked_decides_itself_after_a_restart_without_a_list() -> None:
    """It was sent on the strength of the last good list, although that list had not shown it."""

    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:05:00")
        hide(world, automation)
        world.api.list_complete = False  # else it would be removed
        await world.until("12:06:00")
        world.kill()
        world.api.delete(automation)
        world.api.list_error = UpstreamError("no answer")
        world.start()
        await world.until("12:12:00")
        assert world.fates(automation) == {"12:10": "skipped: deleted"}
        assert world.api.arrivals == []

    in_world(story)


def test_what_came_due_while_nobody_ran_and_is_absent_now_is_not_fired_before_it_is_decided() -> None:
    async def story(world: World) -> None:
        gone, there = world.api.create("*/10 * * * *"), world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:05:00")
        world.kill()
        hide(world, there)
        world.api.delete(gone)
        await world.until("12:12:00")
        world.start()
        await world.until("12:12:10")
        assert world.fates(gone) == {"12:10": "skipped: deleted"}
        assert world.fates(there) == {"12:10": "accepted: answered"}
        assert world.runs(gone) == []

    in_world(story, policies=make_policies())


def test_a_removal_by_a_404_survives_a_kill_at_once() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until(BEFORE_THE_LAST_POLL)
        world.api.delete(automation)
        await world.until("12:10:01")
        world.kill()
        world.start()
        await world.until("12:31:00")
        assert world.fates(automation) == {"12:10": "skipped: deleted"}

    in_world(story)


@pytest.mark.parametrize(
    ("known", "gone", "told"), [(5, 3, True), (5, 2, False), (4, 4, False), (10, 5, False), (10, 6, True)]
)
def test_when_more_than_half_disappear_it_is_told_once(known: int, gone: int, told: bool) -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("0 0 * * *") for _ in range(known)]
        process = world.start()
        await world.until("12:01:01")
        hide(world, *automations[:gone])
        await world.until("12:01:40")
        assert process.target.make_status().absent == gone
        await world.until("12:05:00")
        events = [(each.count, each.automations) for each in world.told(AutomationsDisappeared)]
        assert events == [(gone, known)] * told
        status = process.target.make_status()
        assert status.absent == 0
        assert (status.disappeared is not None) is told
        world.api.list_hides.clear()
        await world.until("12:06:00")
        assert process.target.make_status().disappeared is None

    in_world(story)


def test_a_disappearance_is_forgotten_after_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    look_rarely(monkeypatch)

    async def story(world: World) -> None:
        world.set(poll_interval=timedelta(minutes=5))
        automations = [world.api.create("0 0 1 1 *") for _ in range(6)]
        process = world.start()
        await world.until("12:01:01")
        for each in automations:
            world.api.delete(each)
        await world.after(23 * 3600)
        assert process.target.make_status().disappeared is not None
        await world.after(2 * 3600)
        assert process.target.make_status().disappeared is None

    in_world(story)


def test_a_disappearance_in_two_waves_is_told() -> None:
    """Each wave takes at most half of the automations that are left."""

    async def story(world: World) -> None:
        automations = [world.api.create("0 0 1 1 *") for _ in range(10)]
        process = world.start()
        await world.until("12:01:01")
        hide(world, *automations[:4])
        await world.until("12:03:00")
        assert world.told(AutomationsDisappeared) == []
        hide(world, *automations[:7])
        await world.until("12:06:00")
        assert [(each.count, each.automations) for each in world.told(AutomationsDisappeared)] == [(7, 10)]
        assert process.target.make_status().disappeared is not None

    in_world(story)


def test_a_disappearance_is_told_while_the_list_has_an_object_without_an_id() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("0 0 1 1 *") for _ in range(10)]
        world.api.anonymous = ["Nightly: its id is not a UUID"]
        process = world.start()
        await world.until("12:01:01")
        hide(world, *automations)
        await world.until("12:06:00")
        assert [(each.count, each.automations) for each in world.told(AutomationsDisappeared)] == [(10, 10)]
        status = process.target.make_status()
        assert (status.absent, status.disappeared is not None) == (10, True)
        assert world.told(AutomationRemoved) == []

    in_world(story)


def test_a_disappearance_is_shown_after_a_restart_and_told_once() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("0 0 1 1 *") for _ in range(10)]
        world.start()
        await world.until("12:01:01")
        for each in automations[:6]:
            world.api.delete(each)
        await world.until("12:05:00")
        world.kill()
        process = world.start()
        await world.until("12:07:00")
        disappeared = process.target.make_status().disappeared
        assert disappeared is not None
        assert (disappeared.gone, disappeared.known) == (6, 10)
        assert len(world.told(AutomationsDisappeared)) == 1
        for _ in range(2):
            world.api.create("0 0 1 1 *")
        await world.until("12:09:00")
        assert process.target.make_status().disappeared is None

    in_world(story)


def test_a_disappearance_while_nobody_ran_is_told() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("0 0 1 1 *") for _ in range(10)]
        world.start()
        await world.until("12:01:01")
        world.kill()
        for each in automations[:6]:
            world.api.delete(each)
        await world.after(2 * 3600)
        world.start()
        await world.after(120)
        assert [(each.count, each.automations) for each in world.told(AutomationsDisappeared)] == [(6, 10)]

    in_world(story)


def test_objects_that_cannot_be_identified_are_told_once_for_each_change() -> None:
    async def story(world: World) -> None:
        world.api.create("0 13 * * *")
        process = world.start()
        await world.until("12:02:00")
        assert world.told(AutomationsUnidentified) == []
        world.api.anonymous = ["Nightly: its id is not a UUID"]
        await world.until("12:05:00")
        status = process.target.make_status()
        assert (status.unidentified, status.anonymous) == (1, ("Nightly: its id is not a UUID",))
        world.api.anonymous = []
        await world.until("12:07:00")
        assert [(each.count, each.objects) for each in world.told(AutomationsUnidentified)] == [
            (1, "Nightly: its id is not a UUID"),
            (0, None),
        ]
        assert process.target.make_status().open[State.WAITING] == 0

    in_world(story)


def test_objects_that_cannot_be_identified_are_not_told_again_when_the_rows_move() -> None:
    async def story(world: World) -> None:
        world.api.create("0 13 * * *")
        process = world.start()
        for number in range(5):
            world.api.anonymous = [f"object {number} of the list: its id is not a UUID"]
            await world.after(40)
        assert process.target.make_status().anonymous == ("object 4 of the list: its id is not a UUID",)
        assert len(world.told(AutomationsUnidentified)) == 1
        world.api.fingerprint = 2
        await world.after(40)
        assert len(world.told(AutomationsUnidentified)) == 2

    in_world(story)
