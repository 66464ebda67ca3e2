"""A look at what waits: it keeps the loop for a moment only, however much waits, and is not put off for
ever.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from scheduler.core.delivery import Delivery
from scheduler.core.model import Occurrence, State
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.status import WaitStatus
from scheduler.daemon.automation_queue import AutomationQueue, OpenDelivery
from scheduler.daemon.waits import AT_ONCE, MAX_POSTPONEMENT, RECORD_INTERVAL, WaitRecorder
from tests.daemon.world import NOON, World, in_world
from tests.virtual import VirtualClock


class Queue:
    """A lane with occurrences that have waited for a minute."""

    def __init__(self, clock: VirtualClock, number: int) -> None:
        self.seen = 0  # waits that were looked at
        now = clock.now()
        self._wait = WaitStatus("a", "a", NOON, NOON, Cause.HELD, now - timedelta(minutes=1))
        queue = AutomationQueue(clock)
        self._waiting = [
            queue.add(
                Delivery(
                    Occurrence("main", "a", NOON + timedelta(minutes=minute)),
                    "a",
                    NOON,
                    NOON,
                    State.WAITING,
                    is_late=False,
                )
            )
            for minute in range(number)
        ]

    def iterate_waits(self) -> Iterator[tuple[OpenDelivery, WaitStatus]]:
        for delivery in self._waiting:
            self.seen += 1
            yield delivery, self._wait


class Notes(list[int]):
    """The part of the ledger that takes notes: how many came in each transaction."""

    async def record_steps(self, steps: Sequence[tuple[Occurrence, Sequence[Step]]]) -> None:
        self.append(len(steps))
        await asyncio.sleep(0)


def make_record(world: World, lanes: list[Queue], *, is_due_soon: bool) -> tuple[WaitRecorder, Notes]:
    context: Any = SimpleNamespace(clock=world.clock, ledger=(notes := Notes()))
    dispatcher: Any = SimpleNamespace(queues=dict(enumerate(lanes)), abandoned_deliveries=[])
    return WaitRecorder(context, dispatcher, lambda: is_due_soon), notes


@pytest.mark.parametrize("number", [1, 60])
def test_a_look_goes_through_few_occurrences_at_once(number: int) -> None:
    """Five hundred automations with an hour of minutes each kept the loop for a quarter of a second."""

    async def story(world: World) -> None:
        lanes = [Queue(world.clock, number) for _ in range(2 * AT_ONCE)]
        record, notes = make_record(world, lanes, is_due_soon=False)
        looking = asyncio.create_task(record.record_waits())
        most = before = 0
        while not looking.done():
            await asyncio.sleep(0)
            seen = sum(lane.seen for lane in lanes)
            most, before = max(most, seen - before), seen
        assert sum(notes) == 2 * AT_ONCE * number
        assert most < AT_ONCE + number

    in_world(story)


def test_with_something_due_all_the_time_waits_are_recorded_all_the_same() -> None:
    async def story(world: World) -> None:
        record, notes = make_record(world, [Queue(world.clock, 3)], is_due_soon=True)
        running = asyncio.create_task(record.run())
        await world.after(MAX_POSTPONEMENT - 1)
        assert notes == []
        await world.after(RECORD_INTERVAL)
        assert notes == [3]
        running.cancel()

    in_world(story)
