"""What held an occurrence up is on record with it, and of one that was on time there is nothing to tell."""

from datetime import timedelta

from scheduler.core.errors import UpstreamError
from scheduler.core.policy import CatchUp, Concurrency, Policies
from scheduler.core.steps import Cause
from tests.daemon.world import NOON, World, in_world
from tests.fakes import LOST_ANSWER, LOST_REQUEST, REFUSED, SERVED, answered
from tests.fakes.twin import TwinLedger

BEGIN = NOON + timedelta(minutes=59, seconds=20)
LENIENT = Policies(start_within=timedelta(minutes=30))


def told(world: World, automation: str, clock: str) -> list[str]:
    """The causes of its steps, each with how long it lasted, in whole seconds."""
    steps = world.row(automation, clock).steps
    return [each.cause if each.until is None else f"{each.cause} {(each.until - each.at).total_seconds():.0f}" for each in steps]


def test_what_is_on_time_has_no_steps() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("0 13 * * *") for _ in range(3)]
        world.own_policies = {
            automations[1]: Policies(concurrency=Concurrency.FORBID),
            automations[2]: Policies(concurrency=Concurrency.QUEUE),
        }
        world.start()
        await world.until("13:01:00")
        assert [told(world, each, "13:00") for each in automations] == [[], [], []]

    in_world(story, begin=BEGIN, ledger=TwinLedger())


def test_a_held_target_is_told_with_its_error() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.deed = answered(401, error="bad key")
        world.start()
        await world.until("13:00:30")
        world.api.deed = SERVED
        await world.until("13:08:00")
        (*_, held) = [each for each in world.row(automation, "13:00").steps if each.cause is Cause.HELD]
        assert held.detail is not None
        assert "bad key" in held.detail
        assert held.until is not None
        assert held.until - held.at > timedelta(seconds=1)

    in_world(story, begin=BEGIN, policies=LENIENT, ledger=TwinLedger())


def test_a_failure_of_its_own_is_told_as_what_it_waited_after() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, *[REFUSED] * 4)
        world.start()
        await world.until("13:02:00")
        steps = world.row(automation, "13:00").steps
        assert {each.cause for each in steps} == {Cause.BACK_OFF}
        assert {each.detail for each in steps} == {"connection refused"}

    in_world(story, begin=BEGIN, policies=LENIENT, ledger=TwinLedger())


def test_that_nothing_had_been_started_is_told_and_so_is_who_waited_for_that() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("* * * * *")
        world.api.script(automation, LOST_REQUEST)
        world.set(settle_time=timedelta(seconds=50))
        world.start()
        await world.until("13:03:00")
        assert Cause.NOTHING_STARTED in told(world, automation, "13:00")
        assert [each[:5] for each in told(world, automation, "13:01")] == ["turn "]
        assert world.row(automation, "13:01").steps[0].detail == "2026-11-23T13:00:00Z"
        assert told(world, automation, "13:02") == []

    in_world(story, begin=BEGIN, policies=Policies(catch_up=CatchUp.ALL), ledger=TwinLedger())


def test_a_run_that_is_queued_for_is_told() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.run_lasts = 300.0
        world.start()
        await world.until("12:59:50")
        world.api.run_by_somebody(automation)
        await world.until("13:06:00")
        (step,) = world.row(automation, "13:00").steps
        assert step.cause is Cause.QUEUED
        assert step.until is not None
        assert timedelta(seconds=280) < step.until - step.at < timedelta(seconds=330)

    in_world(story, begin=BEGIN, policies=Policies(concurrency=Concurrency.QUEUE), ledger=TwinLedger())


def test_a_ledger_that_could_not_be_written_is_told() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.start()
        await world.until("12:59:40")
        world.ledger.broken = "disk full"
        await world.until("13:00:30")
        world.ledger.broken = None
        await world.until("13:02:00")
        (step,) = world.row(automation, "13:00").steps
        assert (step.cause, step.detail) == (Cause.LEDGER, "disk full")
        assert step.until is not None
        assert step.until - step.at > timedelta(seconds=29)

    in_world(story, begin=BEGIN)


def test_it_is_told_that_another_process_took_it_up() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.start()
        await world.until("12:59:50")
        world.kill()
        await world.until("13:04:00")
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        world.api.script(automation, LOST_ANSWER)
        world.start()
        await world.until("13:04:30")
        world.api.list_error = None
        await world.until("13:05:02")
        world.kill()
        await world.after(1.0)
        world.start()
        await world.until("13:07:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert [each.cause for each in world.row(automation, "13:00").steps] == [Cause.ADOPTED]

    in_world(story, begin=BEGIN, policies=LENIENT, ledger=TwinLedger())


def test_a_weekend_without_a_daemon_is_told_of_what_was_caught_up_with() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.start()
        await world.until("12:59:50")
        world.kill()
        await world.until("13:20:00")
        world.start()
        await world.until("13:21:00")
        assert told(world, automation, "13:00") == ["absent 1200"]

    in_world(story, begin=BEGIN, policies=LENIENT, ledger=TwinLedger())
