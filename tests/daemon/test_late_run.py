"""A request that is carried out long after it was taken for not started: when its run turns up before it is
sent again, that is its run.
"""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.events import OccurrenceConcluded, RunDoubled, RunForeign
from scheduler.core.policy import Concurrency, Policies
from scheduler.core.response import AttemptResponse, MaybeStarted, NotStarted
from tests.daemon.test_backfill import ask, look_every_second, started, tell
from tests.daemon.world import NOON, World, in_world, look_rarely, slow
from tests.defaults import make_policies
from tests.fakes import LOST_ANSWER, LOST_REQUEST, RESET_BEFORE, answered, carried_out_after

AFTER_70_SECONDS = carried_out_after(70.0, given_up_after=30.0)
"""Settled at 13:01:00, when two readings have shown nothing; carried out at 13:01:10."""
QUEUE = make_policies(start_within=timedelta(minutes=10), concurrency=Concurrency.QUEUE)
Story = Callable[[World], Coroutine[Any, Any, None]]


def told(story: Story, policies: Policies | None = None) -> None:
    """Tell it from just before one o'clock."""
    in_world(
        story,
        begin=NOON + timedelta(minutes=59, seconds=20),
        policies=policies or make_policies(start_within=timedelta(minutes=10)),
    )


def hourly(world: World) -> str:
    automation = world.api.create("0 * * * *")
    world.api.script(automation, AFTER_70_SECONDS)
    return automation


def is_found(world: World, automation: str) -> None:
    """It has the first run, was sent once, and nothing else is told of that run."""
    assert world.fates(automation) == {"13:00": "accepted: found"}
    assert world.row(automation, "13:00").run_id == world.api.runs[0].id
    assert len(world.api.arrivals) == 1
    assert world.told(RunDoubled) == []
    assert [event.run_id for event in world.told(RunForeign)] == [
        run.id for run in world.api.runs[1:] if run.key is None
    ]


def test_it_is_found_when_the_ledger_takes_long_to_note_that_nothing_was_started() -> None:
    async def story(world: World) -> None:
        automation = hourly(world)
        slow(world, "resolve_not_started", 30.0)
        world.start()
        await world.until("13:05:00")
        is_found(world, automation)

    told(story)


def test_it_is_found_by_the_next_process() -> None:
    async def story(world: World) -> None:
        automation = hourly(world)
        slow(world, "write_attempt", 30.0)
        world.start()
        await world.until("13:01:06")
        world.kill()
        await world.until("13:01:15")
        world.start()
        await world.until("13:05:00")
        is_found(world, automation)

    told(story)


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_run_of_the_first_attempt_is_found_while_the_second_is_in_doubt(*, is_killed: bool) -> None:
    """No reading showed the run in time: a replica of the API lagged behind."""

    async def story(world: World) -> None:
        automation = world.api.create("0 * * * *")
        before = world.api.show(automation)
        world.api.script(automation, LOST_ANSWER, LOST_REQUEST)
        world.start()
        await world.until("13:00:05")
        shown = world.api.show(automation)
        assert shown.run_id == world.api.runs[0].id
        world.api.bring_back(before)
        await world.until("13:01:10")
        assert len(world.api.arrivals) == 2
        if is_killed:
            world.kill()
        world.api.bring_back(shown)
        if is_killed:
            await world.until("13:01:15")
            world.start()
        await world.until("13:06:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert world.row(automation, "13:00").run_id == world.api.runs[0].id
        assert len(world.api.arrivals) == 2
        assert world.told(RunDoubled) == []

    told(story)


def test_the_run_of_the_first_attempt_is_found_by_the_next_process_after_the_second_was_throttled() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 * * * *")
        before = world.api.show(automation)
        world.api.script(automation, LOST_ANSWER, answered(429, retry_after=60.0))
        world.start()
        await world.until("13:00:05")
        shown = world.api.show(automation)
        world.api.bring_back(before)
        await world.until("13:01:20")
        assert [each.result for each in world.row(automation, "13:00").attempts.values()] == [
            "unknown",
            "throttled",
        ]
        world.kill()
        world.api.bring_back(shown)
        world.start()
        await world.until("13:06:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert len(world.api.runs) == 1
        assert world.told(RunDoubled) == []

    told(story)


def test_an_attempt_that_was_written_meanwhile_and_not_sent_is_none() -> None:
    """Else what somebody starts in the next hours would count as that attempt, carried out late."""

    async def story(world: World) -> None:
        automation = hourly(world)
        slow(world, "write_attempt", 30.0)
        world.start()
        await world.until("13:05:00")
        world.api.run_by_somebody(automation)
        await world.until("13:20:00")
        is_found(world, automation)
        assert len(world.row(automation, "13:00").attempts) == 1

    told(story)


def test_it_is_found_when_the_target_was_throttled() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 * * * *")
        world.api.script(automation, AFTER_70_SECONDS, answered(429))
        run = world.api.run

        async def for_long(automation_id: str, key: str) -> AttemptResponse | NotStarted | MaybeStarted:
            came_back = await run(automation_id, key)
            throttled = isinstance(came_back, AttemptResponse) and came_back.status == 429
            return (
                replace(came_back, retry_after=90.0)
                if isinstance(came_back, AttemptResponse) and throttled
                else came_back
            )

        world.api.__dict__["run"] = for_long
        world.start()
        await world.until("13:10:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert len(world.api.runs) == 1
        (concluded,) = world.told(OccurrenceConcluded)
        assert concluded.lateness == 0.0, "that of the attempt which started it"
        assert world.told(RunDoubled) == []

    told(story)


def test_it_is_found_though_the_attempt_after_it_is_refused() -> None:
    """A poll shows it while the attempt after it waits for its answer."""

    async def story(world: World) -> None:
        automation = world.api.create("0 * * * *")
        world.api.script(automation, AFTER_70_SECONDS, answered(400, took=40.0))
        world.start()
        await world.until("13:10:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert world.row(automation, "13:00").run_id == world.api.runs[0].id
        attempts = world.row(automation, "13:00").attempts.values()
        assert [attempt.result for attempt in attempts] == ["unknown", "refused"]

    told(story)


def test_it_does_not_queue_behind_its_own_run() -> None:
    async def story(world: World) -> None:
        automation = hourly(world)
        slow(world, "resolve_not_started", 30.0)
        world.start()
        await world.until("13:05:00")
        is_found(world, automation)

    told(story, QUEUE)


@pytest.mark.parametrize("by_hand", [True, False])
def test_it_is_found_before_a_newer_run_hides_it(*, by_hand: bool) -> None:
    async def story(world: World) -> None:
        automation = hourly(world)
        slow(world, "resolve_not_started", 30.0)
        world.start()
        await world.until("13:05:00")
        if by_hand:
            world.ledger.announce_run(automation, world.clock.now())
        world.api.run_by_somebody(automation)
        await world.until("13:09:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert world.row(automation, "13:00").run_id == world.api.runs[0].id

    told(story, QUEUE)


def test_it_is_found_before_the_automation_is_deleted() -> None:
    async def story(world: World) -> None:
        automation = hourly(world)
        slow(world, "resolve_not_started", 30.0)
        world.start()
        await world.until("13:05:00")
        world.api.delete(automation)
        await world.until("13:09:00")
        is_found(world, automation)

    told(story, QUEUE)


def test_a_run_begun_by_hand_is_not_its_own() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 * * * *")
        world.api.script(automation, LOST_REQUEST)
        slow(world, "resolve_not_started", 30.0)
        world.start()
        await world.until("13:01:10")
        world.ledger.announce_run(automation, world.clock.now())
        by_hand = world.api.run_by_somebody(automation)
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert world.row(automation, "13:00").run_id != by_hand

    told(story)


def test_a_run_from_before_is_not_its_own_though_the_clock_was_set_back_since() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 * * * *")
        world.api.script(automation, RESET_BEFORE)
        slow(world, "write_attempt", 30.0)
        world.start()
        await world.until("12:59:55")
        older = world.api.run_by_somebody(automation)
        await world.until("13:00:35")
        world.kill()
        world.clock.step(-50.0)
        world.start()
        await world.after(300.0)
        assert world.row(automation, "13:00").run_id != older

    told(story)


def test_what_is_asked_for_by_hand_is_not_what_somebody_started_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It expired a day ago; the process that reopens it dies before it sends it."""
    look_rarely(monkeypatch)

    async def story(world: World) -> None:
        world.set(poll_interval=timedelta(minutes=5))
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, LOST_REQUEST)
        process = world.start()
        await world.until("13:05:00")
        await world.after(timedelta(hours=24, minutes=25))
        foreign = world.api.run_by_somebody(automation)
        await world.after(120.0)
        world.kills = lambda _, name: name == "after ledger.reopen"
        ask(world, automation)
        assert await look_every_second(process).dies(30.0)
        world.kills = lambda *_: False
        started(world)
        await world.after(300.0)
        first = min(world.ledger.of(automation), key=lambda row: row.occurrence.scheduled_for)
        assert first.fate == "accepted: manual"
        assert first.run_id != foreign

    tell(story, policies=make_policies(start_within=timedelta(seconds=20)))
