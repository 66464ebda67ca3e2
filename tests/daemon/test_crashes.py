"""A process that is killed at any moment loses nothing and starts nothing twice.

Each story is told once to list the checkpoints that it passes: calls of the API and of the ledger. Then it is
told again for each of them, and there the process is killed and another one started.
"""

import random
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import pytest

from scheduler.core.policy import CatchUp, Concurrency, Policies
from tests.daemon.world import NOON, Process, World, in_world, list_traces
from tests.defaults import make_policies
from tests.fakes import (
    GONE,
    LOST_ANSWER,
    LOST_REQUEST,
    REFUSED,
    RESET_AFTER,
    RESET_BEFORE,
    SERVED,
    Deed,
    answered,
)

BEGIN = NOON + timedelta(minutes=59, seconds=40)
LENIENT = make_policies(start_within=timedelta(minutes=30), catch_up=CatchUp.ALL)


@dataclass(frozen=True)
class Scene:
    """What the API does with two automations that are due at one o'clock, and one of them again at a minute
    past.
    """

    deeds: tuple[Deed, ...] = ()
    policies: Policies = LENIENT
    idempotent: bool = False

    def prepare(self, world: World) -> tuple[str, str]:
        first, second = world.api.create("0,1 13 * * *"), world.api.create("0 13 * * *")
        world.policies = self.policies
        world.set(idempotent=self.idempotent)
        world.api.honours_keys = self.idempotent
        world.api.run_lasts = 20.0
        world.api.script(first, *self.deeds)
        return first, second


SCENES = {
    "all goes well": Scene(),
    "an answer is lost": Scene((LOST_ANSWER,)),
    "a request is lost": Scene((LOST_REQUEST,)),
    "a reset after, then one before": Scene((RESET_AFTER, RESET_BEFORE)),
    "a reset before, then one after": Scene((RESET_BEFORE, RESET_AFTER)),
    "no connection, twice": Scene((REFUSED, REFUSED)),
    "not now": Scene((answered(429, retry_after=20.0),)),
    "no": Scene((answered(400),)),
    "bad key": Scene((answered(401),)),
    "a failure that started nothing, and one that did": Scene((answered(500), answered(500, starts=0.0))),
    "404, and listed": Scene((GONE,)),
    "a slow answer": Scene((Deed(took=8.0, starts=4.0), Deed(took=8.0, starts=4.0))),
    "queue": Scene(
        (LOST_ANSWER,), make_policies(start_within=timedelta(minutes=30), concurrency=Concurrency.QUEUE)
    ),
    "forbid": Scene(
        (SERVED, RESET_BEFORE),
        make_policies(start_within=timedelta(minutes=30), concurrency=Concurrency.FORBID),
    ),
    "jitter": Scene(
        (LOST_REQUEST,),
        make_policies(start_within=timedelta(minutes=30), catch_up=CatchUp.ALL, jitter=timedelta(seconds=20)),
    ),
    "a target that honours keys": Scene((RESET_AFTER, answered(500), RESET_BEFORE), idempotent=True),
}


@cache
def checkpoints(scene: str) -> list[int]:
    """The checkpoints that the scene passes when nobody is killed, and that leave a trace."""
    passed: list[str] = []

    async def story(world: World) -> None:
        nonlocal passed
        SCENES[scene].prepare(world)
        process = await second_life(world)
        await world.until("13:01:40")
        passed = process.checkpoints

    in_world(story, begin=BEGIN)
    return list_traces(passed)


def told(scene: str, *deaths: tuple[int, float]) -> None:
    """Tell it with so many lives more than deaths: each dies at that checkpoint of its own, and the next one
    begins so much later.
    """

    async def story(world: World) -> None:
        first, second = SCENES[scene].prepare(world)
        await second_life(world)
        for kill_at, down_for in deaths:
            if not await dies_at(world, kill_at):
                return  # it came to its end in fewer steps
            await world.after(down_for)
            world.start()
        await settled(world, first, second)
        world.assert_settled()
        assert [row.occurrence.scheduled_for.minute for row in world.ledger.of(first)] == [0, 1]
        assert [row.occurrence.scheduled_for.minute for row in world.ledger.of(second)] == [0]
        for row in (*world.ledger.of(first), *world.ledger.of(second)):
            assert row.fate in EXPECTED.get(scene, {"accepted: answered", "accepted: found"}), f"{row}"

    in_world(story, begin=BEGIN)


async def dies_at(world: World, kill_at: int) -> bool:
    """Let the process go on up to this checkpoint of it; whether it got there."""
    victim = world.process
    assert victim is not None
    world.kills = lambda process, _: process is victim and len(process.checkpoints) == kill_at
    return await victim.dies(within=120.0)


async def second_life(world: World) -> Process:
    """The automations are known already, from a process that is no more."""
    world.start()
    await world.after(5.0)
    world.kill()
    await world.after(9.0)
    return world.start()


async def settled(world: World, first: str, second: str) -> None:
    """Wait until everything that is meant has its outcome; a while longer, in case something comes to be
    doubled.
    """
    for _ in range(90):
        await world.after(10.0)
        rows = [*world.ledger.of(first), *world.ledger.of(second)]
        if len(rows) == 3 and all(row.outcome is not None for row in rows):
            break
    await world.after(45.0)


EXPECTED: dict[str, set[str]] = {
    "no": {"accepted: answered", "accepted: found", "rejected: refused"},
    "queue": {"accepted: answered", "accepted: found", "skipped: coalesced"},
    "forbid": {"accepted: answered", "accepted: found", "skipped: overlap", "skipped: coalesced"},
}


@pytest.mark.parametrize("scene", SCENES)
def test_whenever_it_is_killed_nothing_is_lost_and_nothing_doubled(scene: str) -> None:
    for turn, kill_at in enumerate(checkpoints(scene)):
        told(scene, (kill_at, 1.0 if turn % 2 else 70.0))


@pytest.mark.parametrize("seed", range(60))
def test_nor_when_it_is_killed_again_and_again(seed: int) -> None:
    draw = random.Random(seed)
    scene = draw.choice(list(SCENES))
    told(
        scene, *[(draw.randint(1, 60), draw.choice([0.0, 0.5, 5.0, 45.0])) for _ in range(draw.randint(2, 5))]
    )


@pytest.mark.parametrize("scene", ["all goes well", "an answer is lost", "a request is lost"])
def test_nor_when_several_are_caught_up_with_at_once(scene: str) -> None:
    """Both of an automation's occurrences are claimed together then, and only one of them can have been
    sent.
    """
    for kill_at in range(8, 40):
        told(scene, (1, 125.0), (kill_at, 1.0))
