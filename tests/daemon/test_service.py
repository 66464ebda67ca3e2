"""Targets side by side, and what a daemon tells of itself."""

from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest

from scheduler.core.errors import UpstreamError
from scheduler.core.model import State
from tests.daemon.world import NOON, Mortal, World, in_world
from tests.defaults import make_policies
from tests.fakes import LOST_REQUEST, Deed, answered

if TYPE_CHECKING:
    from scheduler.daemon.ports import Upstream


def test_it_tells_what_keeps_it_from_its_work() -> None:
    async def story(world: World) -> None:
        world.add_target("other").list_error = UpstreamError("HTTP 401: bad key", status=401, held=True)
        world.api.create()
        service = world.start().service
        await world.after(0.04)
        assert service.make_status().problems == [
            "target main has no snapshot yet",
            "target other has no snapshot yet",
        ]
        await world.until("12:00:40")
        assert service.make_status().problems == ["target other is held: HTTP 401: bad key"]
        world.ledger.broken = "disk full"
        world.clock.step(600.0)
        await world.until("12:01:30")
        service.stop("why not")
        assert service.make_status().problems == [
            "the ledger cannot be written: disk full",
            (
                "the clock stepped forward, or shows less than the ledger has seen, "
                "and no API has confirmed it yet"
            ),
            "stopping",
            "target other is held: HTTP 401: bad key",
        ]

    in_world(story)


def test_it_tells_what_is_going_on() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("0 13 * * *") for _ in range(4)]
        for automation, deed in zip(
            automations,
            [Deed(), Deed(took=20.0), LOST_REQUEST, answered(429, retry_after=3600.0)],
            strict=True,
        ):
            world.api.script(automation, deed)
        world.api.create("0 13 * * *", enabled=False)
        world.api.create("bad")
        world.own_policies[world.api.create("30 13 * * *")] = make_policies(paused=True)
        service = world.start().service
        await world.until("13:00:10")
        (status,) = service.make_status().targets
        assert status.open == {State.IN_FLIGHT: 2, State.WAITING: 1}
        assert status.in_flight == 2
        assert status.automations == {"enabled": 4, "disabled": 1, "invalid": 1, "paused": 1}
        assert status.next_fire == NOON + timedelta(minutes=90)
        assert status.clock_offset == 0.0
        assert status.overdue == []
        await world.until("13:00:40")
        assert service.make_status().targets[0].open == {State.UNKNOWN: 1, State.WAITING: 1}

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20))


def test_what_is_overdue_is_named() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *", name="nightly")
        world.api.script(automation, answered(401))
        world.set(stale_limit=timedelta(minutes=5))
        service = world.start().service
        await world.until("13:00:02")
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        world.api.deed = answered(401)
        await world.until("13:40:00")
        assert service.make_status().targets[0].overdue == ["nightly 2026-11-23T13:00:00Z (waiting)"]

    in_world(
        story,
        begin=NOON + timedelta(minutes=59, seconds=20),
        policies=make_policies(start_within=timedelta(minutes=30)),
    )


def test_every_automation_is_told_with_its_next_instant() -> None:
    async def story(world: World) -> None:
        world.api.create("0 13 * * *", timezone="Europe/Vienna", name="a")
        world.api.create("30 13 * * *", enabled=False, name="b")
        target = world.start().target
        await world.until("12:00:30")
        told = [
            (each.name, each.automation.definition.cron_expression, each.timezone, each.next_fire)
            for each in target.iterate_details()
        ]
        assert told == [
            ("a", "0 13 * * *", "Europe/Vienna", NOON + timedelta(days=1)),
            ("b", "30 13 * * *", "UTC", None),
        ]
        (first, second) = target.iterate_upcoming(timedelta(days=2))
        assert [instant for instant, _ in (first, second)] == [
            NOON + timedelta(days=1),
            NOON + timedelta(days=2),
        ]

    in_world(story)


def test_a_fault_in_one_target_ends_the_daemon_with_its_cause() -> None:
    """A supervisor starts it anew; a daemon that goes on with half of itself would be worse."""

    async def story(world: World) -> None:
        world.api.create()
        process = world.start()
        await world.until("12:00:40")

        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        process.target.context.timetable.update = broken  # type: ignore[assignment,method-assign]  # a fault of ours
        with pytest.raises(ExceptionGroup) as died:
            await world.until("12:02:00")
        assert died.group_contains(ZeroDivisionError)
        assert process._tasks == set()
        process.alive = False

    in_world(story)


def test_new_settings_take_hold_while_it_runs() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("0 13 * * *") for _ in range(4)]
        world.set(max_in_flight=1)
        world.api.deed = Deed(took=5.0)
        target = world.start().target
        await world.until("12:59:40")
        world.set(max_in_flight=4)
        context = target.context
        target.reconfigure(
            world.settings["main"],
            context.upstream,
            context.ledger,
            context.timetable.parse,
            since=world.clock.now(),
        )
        await world.until("13:00:06")
        assert {world.row(each, "13:00").fate for each in automations} == {"accepted: answered"}

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20))


@pytest.mark.parametrize("polling", [True, False])
def test_a_new_key_is_tried_at_once_whatever_became_of_the_old_one(polling: bool) -> None:
    """Also when the old one is being refused just then, or has a long time to wait."""

    async def story(world: World) -> None:
        world.set(poll_interval=timedelta(minutes=10))
        world.api.list_error = UpstreamError("HTTP 429", status=429, retry_after=3600.0)
        world.api.list_took = 2.0
        process = world.start()
        await world.after(1.5 if polling else 5.0)
        process.target.context.upstream = cast("Upstream", Mortal(world.api, "api", process))
        process.target._poller.forget_failures()
        await world.after(1.0)
        assert len(world.api.polls) == 2

    in_world(story)


def test_all_that_is_known_of_an_automation_is_told() -> None:
    async def story(world: World) -> None:
        world.api.create("0 13 * * *", timezone="Europe/Vienna", name="a")
        world.api.create("0 13 * * *", timezone="Europe/Vienna", name="b")
        world.api.create("61 * * * *", name="broken")
        target = world.start().target
        await world.until("12:00:30")
        first, second, broken = sorted(target.iterate_details(), key=lambda each: each.name)
        assert (first.state, first.target, first.next_fire) == (
            "enabled",
            target.context.target,
            NOON + timedelta(days=1),
        )
        assert (broken.state, broken.schedule, broken.next_fire) == ("invalid", None, None)
        assert "61" in (broken.invalid or "")
        assert target.find_details(first.id) == first
        assert first.parse is world.parse
        assert target.find_details("0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e6f") is None
        assert list(target.iterate_by_schedule(timedelta(days=1))) == [
            (NOON + timedelta(days=1), sorted((first, second), key=lambda each: each.id))
        ]

    in_world(story)
