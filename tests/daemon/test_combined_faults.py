"""Everything at once: faults of the API, of the ledger and of the clock, edits, deaths; in the end every
occurrence has its one outcome.

Each storm is drawn from a seed, blows over a few automations for some twenty minutes, and is followed by calm
in which all has to settle. It is told to the fake ledger and to the real one, which have to agree at every
step.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import pytest

from scheduler.core.cron.schedule import Schedule
from scheduler.core.errors import UpstreamError
from scheduler.core.model import Occurrence
from scheduler.core.policy import CatchUp, Concurrency
from scheduler.ledger.versions import RecordedVersion
from tests.daemon.world import World, in_world
from tests.defaults import make_policies
from tests.fakes import (
    GONE,
    LOST_ANSWER,
    LOST_REQUEST,
    NULL_RUN,
    REFUSED,
    RESET_AFTER,
    RESET_BEFORE,
    SERVED,
    Deed,
    answered,
)

DEEDS: Final = (
    *[SERVED] * 6,
    *[LOST_ANSWER, LOST_REQUEST, RESET_AFTER, RESET_BEFORE, REFUSED, NULL_RUN, GONE],
    *[answered(status) for status in (400, 401, 408, 500, 503)],
    *[answered(status, starts=0.01) for status in (200, 408, 502)],
    *[answered(429, retry_after=after) for after in (None, 0.0, 15.0)],
    Deed(took=20.0, starts=15.0),
)
EXPRESSIONS: Final = ("* * * * *", "*/2 * * * *", "*/5 * * * *", "1-59/3 * * * *", "nonsense")
FAILURE: Final = UpstreamError("HTTP 500", status=500)
HELD: Final = UpstreamError("HTTP 401", status=401, held=True)


@dataclass
class Storm:
    """What blows, drawn from a seed."""

    world: World
    draw: random.Random
    automations: list[str] = field(default_factory=list)
    deadly: bool = field(init=False)

    def __post_init__(self) -> None:
        # Not deaths and steps back in one: what a dead process wrote down stands on a clock that nobody
        # remembers.
        self.deadly = self.draw.random() < 0.6

    async def blow(self) -> None:
        self._prepare()
        self.world.start()
        for _ in range(self.draw.randint(10, 60)):
            await self.world.after(self.draw.expovariate(1 / 20))
            self.draw.choice(self._kinds())()
        self._mend()
        await self.world.after(
            5.0
        )  # time for a process that was just started to read what the one before it wrote
        self._calm()
        await self.world.after(timedelta(minutes=20))

    def _prepare(self) -> None:
        draw, world = self.draw, self.world
        world.set(idempotent=draw.random() < 0.2, poll_interval=timedelta(seconds=draw.choice([5, 30])))
        world.api.honours_keys = world.settings["main"].idempotent
        world.api.run_lasts = draw.choice([0.005, 30.0, 90.0])
        for _ in range(draw.randint(1, 5)):
            self._create()

    def _create(self) -> None:
        draw = self.draw
        automation = self.world.api.create(draw.choice(EXPRESSIONS))
        self.automations.append(automation)
        self.world.own_policies[automation] = make_policies(
            start_within=draw.choice([None, timedelta(minutes=2), timedelta(minutes=9)]),
            catch_up=draw.choice(list(CatchUp)),
            concurrency=draw.choice([Concurrency.ALLOW, *Concurrency]),
            jitter=draw.choice([timedelta(0), timedelta(seconds=40)]),
        )

    def _kinds(self) -> list[Callable[[], None]]:
        return [
            *[self._deed] * 8,
            self._edit,
            self._list,
            self._get,
            self._ledger,
            self._kill,
            self._pause,
            self._somebody,
            self._clock,
            self._mend,
        ]

    def _any(self) -> str:
        return self.draw.choice(self.automations)

    def _deed(self) -> None:
        self.world.api.script(self._any(), self.draw.choice(DEEDS))

    def _edit(self) -> None:
        api, automation = self.world.api, self._any()
        edits: list[dict[str, Any]] = [
            {"enabled": True},
            {"enabled": False},
            {"cron_expression": self.draw.choice(EXPRESSIONS)},
        ]
        if self.draw.random() < 0.2:
            self._create()
        elif automation in api.ids and self.draw.random() < 0.15:
            api.delete(automation)
        elif automation in api.ids:
            api.edit(automation, **self.draw.choice(edits))

    def _list(self) -> None:
        api = self.world.api
        api.list_error = self.draw.choice([None, FAILURE, HELD])
        api.list_complete = self.draw.random() < 0.7
        api.list_hides = set() if api.list_complete else {self._any()}
        api.list_took = self.draw.choice([0.05, 3.0])

    def _get(self) -> None:
        self.world.api.get_error = self.draw.choice([None, FAILURE])
        self.world.api.get_took = self.draw.choice([0.02, 4.0])

    def _ledger(self) -> None:
        self.world.ledger.broken = self.draw.choice([None, "disk full"])
        self.world.ledger.took = self.draw.choice([0.001, 0.003, 0.5])

    def _kill(self) -> None:
        if not self.deadly:
            return
        self.world.kill()
        self.world.ledger.broken = None
        self.world.start()

    def _pause(self) -> None:
        if self.world.ledger.is_bound():
            self.draw.choice([self.world.ledger.pause, self.world.ledger.resume])(
                self.draw.choice(["*", self._any()])
            )

    def _somebody(self) -> None:
        automation = self._any()
        if automation in self.world.api.ids and self.draw.random() < 0.3:
            self.world.api.run_by_somebody(automation)

    def _clock(self) -> None:
        if self.draw.random() < 0.3:
            self.world.clock.suspend(self.draw.choice([3.0, 100.0]))
        elif self.draw.random() < 0.3:
            self.world.clock.step(self.draw.choice([5.0, 50.0] if self.deadly else [-90.0, -5.0, 5.0, 50.0]))

    def _mend(self) -> None:
        self.world.api.list_error = self.world.api.get_error = self.world.ledger.broken = None

    def _calm(self) -> None:
        self._mend()
        self.world.clock.step((self.world.clock.true_now() - self.world.clock.now()).total_seconds())
        api = self.world.api
        api.list_complete, api.list_hides, api.list_took, api.get_took = True, set(), 0.05, 0.02
        for automation in api.ids:
            api.edit(automation, enabled=False)
        for automation in self.automations:
            self.world.ledger.resume(automation)
        self.world.ledger.resume()


def assert_complete(world: World, automations: list[str]) -> None:
    """Every instant that a recorded version implied while it was in force has its row."""
    for automation in automations:
        versions = [version for version in world.ledger.versions() if version.automation_id == automation]
        for version, following in pairwise(versions):
            for instant in _instants(version, following):
                assert world.ledger.covering(Occurrence("main", automation, instant)), (
                    f"{automation} at {instant}: {versions}"
                )


def _instants(version: RecordedVersion, following: RecordedVersion) -> list[datetime]:
    definition = version.definition
    if definition is None or not definition.enabled or version.invalid is not None:
        return []
    return list(
        Schedule.parse(definition.cron_expression, definition.timezone).iterate_between(
            version.effective_from, following.effective_from
        )
    )


@pytest.mark.parametrize("seed", range(40))
def test_after_the_storm_everything_has_its_outcome(seed: int) -> None:
    async def story(world: World) -> None:
        storm = Storm(world, random.Random(seed))
        await storm.blow()
        world.assert_settled()
        assert_complete(world, storm.automations)

    in_world(story)
