"""What somebody asks for by hand is started once, whatever pauses, policies and deaths there are; and nothing
that may have run.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest

from scheduler.core.backfill import FireRequest
from scheduler.core.errors import LedgerUnavailable, UpstreamError
from scheduler.core.events import FireRefused, OccurrenceConcluded, OccurrenceReopened
from scheduler.core.model import Occurrence, Reason
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import CatchUp, Concurrency, Policies
from tests.daemon.world import NOON, Process, World, in_world, list_traces
from tests.defaults import make_policies
from tests.fakes import (
    LOST_ANSWER,
    LOST_REQUEST,
    REFUSED,
    RESET_AFTER,
    RESET_BEFORE,
    SERVED,
    Deed,
    answered,
)

BEGIN = NOON + timedelta(minutes=59, seconds=20)
ONE = NOON + timedelta(hours=1)
LOOKS: list[asyncio.Task[None]] = []


def started(world: World, seconds: float = 1.0) -> Process:
    """A process that looks every second, or every so many seconds, for what is asked for."""
    return look_every_second(world.start(), seconds)


def look_every_second(process: Process, seconds: float = 1.0) -> Process:
    """From now on the process looks for what is asked for."""

    async def look() -> None:
        while True:
            await asyncio.sleep(seconds)
            with contextlib.suppress(LedgerUnavailable):
                await process.target.backfill.process_requests()

    LOOKS.append(process.begin(look()))
    return process


def tell(story: Callable[[World], Coroutine[Any, Any, None]], **world: Any) -> None:
    """Tell a story, in which no look may have failed."""
    LOOKS.clear()

    async def all_of_it(world: World) -> None:
        await story(world)
        for look in LOOKS:
            if look.done() and not look.cancelled():
                look.result()

    in_world(all_of_it, begin=BEGIN, **world)


def ask(world: World, automation: str, scheduled_for: datetime = ONE) -> None:
    world.ledger.ask(FireRequest(Occurrence("main", automation, scheduled_for), world.clock.now(), "ada"))


def story_of_a_paused_one(policies: Policies, *, runs: bool = False) -> tuple[list[str], str]:
    """When the runs of an automation began that was paused at one, and is asked for at five past; and what
    came of it.
    """
    outcome: list[tuple[list[str], str]] = []

    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        started(world)
        await world.after(5.0)
        world.ledger.pause(automation)
        await world.until("13:04:30")
        assert world.fates(automation) == {"13:00": "skipped: paused"}
        if runs:
            world.api.run_by_somebody(automation)
        await world.until("13:05:00")
        ask(world, automation)
        await world.until("13:06:00")
        keyed = [run for run in world.api.runs_of(automation) if run.key is not None]
        outcome.append(([f"{run.at:%H:%M}" for run in keyed], world.fates(automation)["13:00"]))

    tell(story, policies=policies)
    return outcome[0]


@pytest.mark.parametrize(
    ("policies", "runs"),
    [
        (make_policies(), False),
        (make_policies(paused=True), False),
        (make_policies(catch_up=CatchUp.NONE), False),
        (make_policies(concurrency=Concurrency.FORBID), True),
        (make_policies(concurrency=Concurrency.QUEUE), True),
    ],
)
def test_what_is_asked_for_is_started_whatever_the_policies_say(policies: Policies, runs: bool) -> None:
    assert story_of_a_paused_one(policies, runs=runs) == (["13:05"], "accepted: manual")


def test_it_is_told_and_on_record_who_asked_and_what_it_was_before() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, answered(400, error="no such repository"))
        started(world)
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "rejected: refused"}
        ask(world, automation)
        await world.until("13:05:03")
        row = world.row(automation, "13:00")
        assert row.fate == "accepted: manual"
        assert len(row.attempts) == 2
        (step,) = row.steps
        assert (step.cause, step.detail, step.by) == (Cause.REOPENED, "rejected: refused", "ada")
        assert step.until is not None
        assert ONE < step.at < ONE + timedelta(minutes=5) < step.until
        assert [event.by for event in world.told(OccurrenceReopened)] == ["ada"]
        assert [(event.reason, event.kind) for event in world.told(OccurrenceConcluded)][-1] == (
            Reason.MANUAL,
            None,
        )

    tell(story)


def test_one_of_a_long_outage_is_taken_out_of_its_span() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.after(5.0)
        world.kill()
        await world.until("14:06:00")
        started(world)
        await world.until("14:06:30")
        assert world.fates(automation) == {"13:00..14:00": "skipped: missed"}
        ask(world, automation, ONE + timedelta(minutes=20))
        await world.until("14:07:00")
        assert world.fates(automation) == {
            "13:00..13:10": "skipped: missed",
            "13:20": "accepted: manual",
            "13:30..14:00": "skipped: missed",
        }

    tell(story)


def test_several_go_one_at_a_time_and_none_of_them_makes_another_coalesce() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.api.deed = Deed(took=5.0, starts=4.0)
        started(world)
        await world.after(5.0)
        world.ledger.pause()
        await world.until("13:41:00")
        for minutes in (20, 0, 10):
            ask(world, automation, ONE + timedelta(minutes=minutes))
        await world.until("13:42:00")
        assert [world.fates(automation)[clock] for clock in ("13:00", "13:10", "13:20")] == [
            "accepted: manual"
        ] * 3
        began = [run.at for run in world.api.runs_of(automation)]
        assert all(later - earlier >= timedelta(seconds=5) for earlier, later in itertools.pairwise(began))

    tell(story)


def test_what_is_due_is_on_time_beside_it_and_not_coalesced() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        started(world)
        await world.after(5.0)
        world.ledger.pause()
        await world.until("13:05:00")
        world.ledger.resume()
        await world.until("13:09:58")
        ask(world, automation)
        await world.until("13:11:00")
        assert world.fates(automation) == {"13:00": "accepted: manual", "13:10": "accepted: answered"}
        (told,) = [event for event in world.concluded(automation) if event.reason is Reason.ANSWERED]
        assert told.lateness is not None
        assert told.lateness < 0.05

    tell(story)


def test_what_waits_for_a_held_target_is_not_coalesced_into_it() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        started(world)
        await world.after(5.0)
        world.ledger.pause()
        await world.until("13:05:00")
        world.ledger.resume()
        world.api.deed = answered(401, error="bad key")
        await world.until("13:11:00")
        ask(world, automation)
        await world.until("13:12:00")
        world.api.deed = SERVED
        await world.until("13:14:50")
        assert world.fates(automation) == {"13:00": "accepted: manual", "13:10": "accepted: answered"}

    tell(story)


def test_it_does_not_wait_behind_one_that_waits_for_the_run_before_it() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        started(world)
        await world.after(5.0)
        world.ledger.pause()
        await world.until("13:05:00")
        world.ledger.resume()
        world.api.run_by_somebody(automation)
        await world.until("13:11:00")
        ask(world, automation)
        await world.until("13:12:00")
        assert world.fates(automation) == {"13:00": "accepted: manual", "13:10": "waiting"}
        world.api.finish(automation)
        await world.until("13:13:00")
        assert world.fates(automation) == {"13:00": "accepted: manual", "13:10": "accepted: answered"}

    tell(story, policies=make_policies(concurrency=Concurrency.QUEUE))


def test_while_a_target_is_held_it_waits_as_long_as_it_may_start() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        started(world)
        await world.after(5.0)
        world.ledger.pause()
        await world.until("13:05:00")
        world.api.deed = answered(401, error="bad key")
        ask(world, automation)
        await world.until("13:14:00")
        assert world.row(automation, "13:00").outcome is None
        await world.until("13:16:00")
        assert world.fates(automation) == {"13:00": "expired: not_started"}
        world.api.deed = SERVED
        await world.until("13:30:00")
        ask(world, automation)
        await world.until("13:31:00")
        assert world.fates(automation) == {"13:00": "accepted: manual"}
        assert [
            step.detail for step in world.row(automation, "13:00").steps if step.cause is Cause.REOPENED
        ] == [
            "skipped: paused",
            "expired: not_started",
        ]

    tell(story, policies=make_policies(start_within=timedelta(minutes=10)))


def test_what_may_not_be_made_up_for_is_refused_and_told() -> None:
    async def story(world: World) -> None:
        automation, gone = world.api.create("0 13 * * *"), world.api.create("0 13 * * *")
        started(world)
        await world.until("13:01:00")
        world.api.delete(gone)
        await world.until("13:03:00")
        ask(world, automation)
        ask(world, automation, ONE + timedelta(hours=1))
        ask(world, gone)
        await world.until("13:04:00")
        assert sorted(event.reason for event in world.told(FireRefused)) == [
            "it is accepted: answered",
            "it is still to come",
            "the automation is gone",
        ]
        assert len(world.api.runs) == 2

    tell(story)


def test_a_request_that_nobody_took_up_in_time_is_refused() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        started(world)
        await world.after(5.0)
        world.ledger.pause()
        await world.until("13:05:00")
        world.kill()
        ask(world, automation)
        await world.until("14:30:00")
        started(world)
        await world.until("14:31:00")
        (refused,) = world.told(FireRefused)
        assert refused.reason == "it was asked for longer ago than it may wait to be started; ask again"
        assert world.fates(automation) == {"13:00": "skipped: paused"}

    tell(story)


def test_an_automation_that_is_deleted_while_it_waits_is_not_paid_for() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        started(world)
        await world.after(5.0)
        world.ledger.pause()
        await world.until("13:05:00")
        world.api.script(automation, *[REFUSED] * 20)
        ask(world, automation)
        await world.until("13:05:10")
        world.api.delete(automation)
        await world.until("13:07:00")
        assert world.fates(automation) == {"13:00": "skipped: deleted"}

    tell(story)


# ---------------------------------------------------------------- deaths

SCENES: dict[str, Sequence[Deed]] = {
    "all goes well": (),
    "an answer is lost": (LOST_ANSWER,),
    "a request is lost": (LOST_REQUEST,),
    "a reset before, then one after": (RESET_BEFORE, RESET_AFTER),
    "no connection, twice": (REFUSED, REFUSED),
    "bad key": (answered(401),),
}


async def asked_for(world: World, scene: str) -> str:
    """An automation that was paused at one, and is asked for at five past; the process has not looked yet."""
    automation = world.api.create("0,10 13 * * *")
    world.start()
    await world.after(5.0)
    world.ledger.pause()
    await world.until("13:04:00")
    world.kill()
    world.api.script(automation, *SCENES[scene])
    await world.after(5.0)
    started(world, 5.0)
    await world.until("13:05:00")
    ask(world, automation)
    return automation


BESIDE = {"after ledger.record_snapshot"}
"""What goes on beside it, and has no part in it."""


@cache
def steps_of(scene: str) -> list[int]:
    """The checkpoints that a process passes from the request on, until nothing is left to do, and that leave
    a trace. The first is the reading of the request.
    """
    passed: list[int] = []

    async def story(world: World) -> None:
        await asked_for(world, scene)
        process = world.process
        assert process is not None
        before = len(process.checkpoints)
        await world.until("13:07:00")
        names = process.checkpoints[before:]
        first = names.index("after ledger.read_fire_requests") + 1
        others = [number for number in list_traces(names) if names[number - 1] not in BESIDE]
        passed.extend(before + number for number in (first, *others))

    tell(story, policies=make_policies(start_within=timedelta(minutes=30)))
    return passed


def told(scene: str, kill_at: int, down_for: float) -> None:
    async def story(world: World) -> None:
        automation = await asked_for(world, scene)
        victim = world.process
        assert victim is not None
        world.kills = lambda process, _: process is victim and len(process.checkpoints) == kill_at
        assert await victim.dies(within=180.0)
        await world.after(down_for)
        started(world, 5.0)
        await world.until("13:15:00")
        world.assert_settled()
        assert not world.ledger.requests
        assert world.fates(automation) == {"13:00": "accepted: manual", "13:10": "skipped: paused"}
        assert len(world.api.runs_of(automation)) == 1
        reopened = [step for step in world.row(automation, "13:00").steps if step.cause is Cause.REOPENED]
        assert len(reopened) == 1

    tell(story, policies=make_policies(start_within=timedelta(minutes=30)))


@pytest.mark.parametrize("scene", SCENES)
def test_whenever_it_is_killed_it_is_started_once(scene: str) -> None:
    for turn, kill_at in enumerate(steps_of(scene)):
        told(scene, kill_at, 1.0 if turn % 2 else 70.0)


# ---------------------------------------------------------------- storms

DEEDS = (
    *[SERVED] * 4,
    LOST_ANSWER,
    LOST_REQUEST,
    RESET_AFTER,
    RESET_BEFORE,
    REFUSED,
    answered(401),
    answered(400),
    answered(503),
)


class Storm:
    """Everything at once, drawn from a seed, around automations of which much is passed over and asked for
    again and again.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.draw = world, random.Random(seed)
        self.automations = [
            world.api.create(each) for each in ("*/2 * * * *", "*/3 * * * *", "1-59/4 * * * *")
        ]
        for each in self.automations:
            world.own_policies[each] = make_policies(
                start_within=timedelta(minutes=self.draw.choice([2, 9])),
                catch_up=self.draw.choice(list(CatchUp)),
                concurrency=self.draw.choice(list(Concurrency)),
            )

    async def blow(self) -> None:
        started(self.world)
        await self.world.after(5.0)
        for _ in range(60):
            await self.world.after(self.draw.expovariate(1 / 15))
            self.draw.choice(
                [*[self._ask] * 4, *[self._deed] * 4, self._pause, self._kill, self._ledger, self._list]
            )()
        self.world.ledger.broken = self.world.api.list_error = None
        self.world.ledger.resume()
        for each in self.automations:
            self.world.api.edit(each, enabled=False)
        await self.world.after(timedelta(minutes=20))

    def _ask(self) -> None:
        ledger = self.world.ledger
        over = [row.occurrence for row in ledger.rows.values() if row.outcome is not None]
        if over and (wanted := self.draw.choice(over)) not in ledger.requests:
            ledger.ask(FireRequest(wanted, self.world.clock.now(), "ada"))

    def _deed(self) -> None:
        self.world.api.script(self.draw.choice(self.automations), self.draw.choice(DEEDS))

    def _pause(self) -> None:
        self.draw.choice([self.world.ledger.pause, self.world.ledger.resume])()

    def _kill(self) -> None:
        self.world.kill()
        self.world.ledger.broken = None
        started(self.world)

    def _ledger(self) -> None:
        self.world.ledger.broken = self.draw.choice([None, "disk full"])

    def _list(self) -> None:
        self.world.api.list_error = self.draw.choice([None, UpstreamError("HTTP 500", status=500)])


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_meanwhile_nothing_is_started_twice_and_nothing_stays_open(seed: int) -> None:
    async def story(world: World) -> None:
        await Storm(world, seed).blow()
        world.assert_settled()
        assert not world.ledger.requests
        assert world.told(OccurrenceReopened)

    tell(story)
