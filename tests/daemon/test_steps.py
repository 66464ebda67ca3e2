"""What held an occurrence up is on record with it, and of one that was on time there is nothing to tell."""

from datetime import datetime, time, timedelta
from unittest import mock

import pytest

from scheduler.core.errors import UpstreamError
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import CatchUp, Concurrency
from scheduler.daemon import breaker
from tests.daemon.world import NOON, World, in_world
from tests.defaults import make_policies
from tests.fakes import LOST_ANSWER, LOST_REQUEST, REFUSED, SERVED, Deed, answered

BEGIN = NOON + timedelta(minutes=59, seconds=20)
LENIENT = make_policies(start_within=timedelta(minutes=30))


def at(clock: str) -> datetime:
    """Return the instant of this time of the day that the stories play on."""
    return datetime.combine(NOON.date(), time.fromisoformat(clock), NOON.tzinfo)


def told(world: World, automation: str, clock: str) -> list[str]:
    """The causes of its steps, each with how long it lasted, in whole seconds."""
    steps = world.row(automation, clock).steps
    return [
        each.cause if each.until is None else f"{each.cause} {(each.until - each.at).total_seconds():.0f}"
        for each in steps
    ]


def test_what_is_on_time_has_no_steps() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("0 13 * * *") for _ in range(3)]
        world.own_policies = {
            automations[1]: make_policies(concurrency=Concurrency.FORBID),
            automations[2]: make_policies(concurrency=Concurrency.QUEUE),
        }
        world.start()
        await world.until("13:01:00")
        assert [told(world, each, "13:00") for each in automations] == [[], [], []]

    in_world(story, begin=BEGIN)


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

    in_world(story, begin=BEGIN, policies=LENIENT)


def test_a_failure_of_its_own_is_told_as_what_it_waited_after() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, *[REFUSED] * 4)
        world.start()
        await world.until("13:02:00")
        steps = world.row(automation, "13:00").steps
        assert {each.cause for each in steps} == {Cause.BACK_OFF}
        assert {each.detail for each in steps} == {"connection refused"}

    in_world(story, begin=BEGIN, policies=LENIENT)


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

    in_world(story, begin=BEGIN, policies=make_policies(catch_up=CatchUp.ALL))


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

    in_world(story, begin=BEGIN, policies=make_policies(concurrency=Concurrency.QUEUE))


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
        causes = [each.cause for each in world.row(automation, "13:00").steps]
        assert causes == [Cause.ABSENT, Cause.UNCONFIRMED, Cause.ADOPTED]

    in_world(story, begin=BEGIN, policies=LENIENT)


def test_a_start_whose_polls_fail_records_the_wait_for_the_first_good_poll() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.start()
        await world.until("12:59:50")
        world.kill()
        await world.until("13:04:00")
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        world.start()
        await world.until("13:09:00")
        world.api.list_error = None
        await world.until("13:20:00")
        steps = world.row(automation, "13:00").steps
        assert [step.cause for step in steps] == [Cause.ABSENT, Cause.UNCONFIRMED]
        assert steps[0].until == steps[1].at == at("13:04:00")
        assert steps[1].until is not None
        assert steps[1].until >= at("13:09:00")

    in_world(story, begin=BEGIN, policies=LENIENT)


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

    in_world(story, begin=BEGIN, policies=LENIENT)


# ---------------------------------------------------------------- while a wait lasts, and when its process
# ends


def test_a_wait_is_on_record_while_it_lasts_in_one_write_for_all() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("0 13 * * *") for _ in range(20)]
        world.api.deed = answered(401, error="bad key")
        process = world.start()
        await world.until("13:00:04")
        assert not any(world.row(each, "13:00").steps for each in automations)
        await world.until("13:00:12")
        lasting = [world.row(each, "13:00").steps[-1] for each in automations]
        assert {(each.cause, each.until) for each in lasting} == {(Cause.HELD, None)}
        noted = [each for each in process.checkpoints if each == "after ledger.record_steps"]
        assert len(noted) <= 2
        world.api.deed = SERVED
        await world.until("13:06:00")
        for automation in automations:
            assert world.row(automation, "13:00").fate == "accepted: answered"
            assert all(each.until is not None for each in world.row(automation, "13:00").steps)

    in_world(story, begin=BEGIN, policies=LENIENT)


def test_a_process_that_is_killed_leaves_the_wait_on_record_without_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breaker, "back_off", lambda _failures: 60.0)

    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.deed = answered(401, error="bad key")
        world.start()
        await world.until("13:00:30")
        world.kill()
        left = list(world.row(automation, "13:00").steps)
        assert [(each.cause, each.until) for each in left if each.until is None] == [(Cause.HELD, None)]
        await world.until("13:02:00")
        world.start()
        await world.until("13:02:15")
        steps = world.row(automation, "13:00").steps
        assert steps[: len(left)] == left, "nobody knows when that wait ended"
        assert Cause.ADOPTED in {each.cause for each in steps[len(left) :]}

    in_world(story, begin=BEGIN, policies=LENIENT)


def test_a_stop_in_good_order_records_what_every_open_occurrence_waited_for() -> None:
    async def story(world: World) -> None:
        held, budget = world.api.create("0 13 * * *"), [world.api.create("1 13 * * *") for _ in range(3)]
        queued, turns = world.api.create("0 13 * * *"), world.api.create("* * * * *")
        world.own_policies = {
            held: LENIENT,
            queued: make_policies(concurrency=Concurrency.QUEUE),
            turns: make_policies(catch_up=CatchUp.ALL, start_within=timedelta(minutes=30)),
        }
        world.api.run_lasts = 900.0
        world.api.script(held, *[REFUSED] * 50)
        world.api.script(turns, *[REFUSED] * 50)
        world.start()
        await world.until("12:59:50")
        world.api.run_by_somebody(queued)
        await world.until("13:00:58")
        world.api.reserve = lambda: None  # type: ignore[method-assign]  # the budget is used up
        world.api.estimate_wait = lambda: 60.0  # type: ignore[method-assign]
        await world.until("13:01:03")
        await world.stop()
        causes = {
            each: {step.cause for step in world.row(each, "13:00").steps} for each in (held, queued, turns)
        }
        assert causes[queued] == {Cause.QUEUED}
        assert {Cause.BACK_OFF} <= causes[held] <= {Cause.BACK_OFF, Cause.BUDGET}
        assert [told(world, each, "13:01") for each in budget] == [["budget 3"]] * 3
        assert told(world, turns, "13:01") == ["turn 3"]
        assert all(step.until is not None for row in world.ledger.rows.values() for step in row.steps)

    in_world(story, begin=BEGIN, policies=LENIENT)


def test_a_stop_that_waits_for_an_answer_records_the_waits_until_its_end() -> None:
    async def story(world: World) -> None:
        flying, held = world.api.create("* 13 * * *"), world.api.create("0 13 * * *")
        world.own_policies = {flying: make_policies(catch_up=CatchUp.ALL, start_within=timedelta(minutes=30))}
        world.drain_timeout = 25.0
        world.api.script(held, *[REFUSED] * 50)
        world.api.script(flying, Deed(took=200.0, starts=150.0))
        world.start()
        await world.until("13:01:10")
        await world.stop()
        ended = world.clock.now()
        assert ended >= at("13:01:35")
        for automation, instant in ((flying, "13:01"), (held, "13:00")):
            until = world.row(automation, instant).steps[-1].until
            assert until is not None
            assert ended - until < timedelta(seconds=1)

    in_world(story, begin=BEGIN, policies=LENIENT)


def test_a_ledger_that_does_not_take_an_outcome_is_a_step_of_that_outcome() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, Deed(took=5.0))
        world.start()
        await world.until("13:00:03")
        world.ledger.broken = "disk full"
        await world.until("13:00:40")
        world.ledger.broken = None
        await world.until("13:02:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        (step,) = world.row(automation, "13:00").steps
        assert step.cause is Cause.LEDGER
        assert step.until is not None
        assert timedelta(seconds=30) < step.until - step.at < timedelta(seconds=100)

    in_world(story, begin=BEGIN, policies=LENIENT)


def test_a_fault_of_the_daemon_is_what_the_occurrence_waits_after() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        process = world.start()
        await world.until("12:59:50")

        async def fail(*_: object) -> None:
            raise ValueError("a fault")

        sender = process.target._dispatcher._sender
        with mock.patch.object(sender, "_exchange", fail):
            await world.until("13:00:30")
        (wait,) = (await process.target.waits.make_status()).first
        assert wait.cause is Cause.BACK_OFF
        assert wait.detail is not None
        assert "occurrence.faulted" in wait.detail
        await world.until("13:02:00")
        assert world.row(automation, "13:00").fate == "accepted: answered"
        assert told(world, automation, "13:00") == ["back_off 60"]

    in_world(story, begin=BEGIN, policies=LENIENT)


def test_a_fault_after_the_outcome_costs_the_next_occurrence_nothing() -> None:
    """The outcome is durable, and its event fails."""

    async def story(world: World) -> None:
        automation = world.api.create("* * * * *")
        process = world.start()
        await world.until("12:59:50")
        sender = process.target._dispatcher._sender
        with mock.patch.object(sender, "_publish_outcome", side_effect=ValueError("a fault")):
            await world.until("13:00:10")
        await world.until("13:01:10")
        assert world.row(automation, "13:00").fate == "accepted: answered"
        assert world.row(automation, "13:01").fate == "accepted: answered"

    in_world(story, begin=BEGIN, policies=LENIENT)


def test_each_hindrance_of_planning_is_told_one_after_the_other() -> None:
    async def story(world: World) -> None:
        world.set(stale_limit=timedelta(minutes=2))
        automation = world.api.create("0 13 * * *")
        world.start()
        await world.until("12:57:50")
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        await world.until("13:00:30")
        world.ledger.broken = "disk full"
        world.api.list_error = None
        await world.until("13:02:00")
        world.ledger.broken = None
        await world.until("13:04:00")
        steps = world.row(automation, "13:00").steps
        assert [each.cause for each in steps] == [Cause.STALE, Cause.LEDGER]
        assert steps[0].until == steps[1].at
        assert steps[1].detail == "disk full"

    in_world(story, begin=NOON + timedelta(minutes=56, seconds=20), policies=LENIENT)
