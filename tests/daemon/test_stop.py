"""SIGTERM: nothing new is claimed or sent; what is in flight gets its time; what was never sent simply waits
for the next start.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from scheduler.core.delivery import Delivery
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import DaemonStopped, DaemonStopping, Event, LedgerFailed, StopShortened
from scheduler.core.model import Attempt, Occurrence, State
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.policy import CatchUp
from scheduler.daemon import dispatcher as dispatching
from scheduler.daemon.automation_queue import OpenDelivery
from scheduler.daemon.dispatcher import Dispatcher
from scheduler.daemon.ledger_health import LedgerHealth
from tests.daemon.world import NOON, World, in_world
from tests.defaults import make_policies
from tests.fakes import LOST_REQUEST, RESET_BEFORE, Deed, answered
from tests.virtual import VirtualClock, run_virtual

Story = Callable[[World], Coroutine[Any, Any, None]]
HOURLY = "0 * * * *"


def before_one(story: Story, **world: Any) -> None:
    """Tell it from just before one o'clock."""
    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20), **world)


def test_it_stops_at_once_when_nothing_is_in_flight() -> None:
    async def story(world: World) -> None:
        world.api.create()
        world.start()
        await world.until("12:00:40")
        await world.stop()
        assert world.clock.now() == NOON + timedelta(seconds=40)
        assert [event.reason for event in world.told(DaemonStopping)] == ["told to"]
        assert [event.in_flight for event in world.told(DaemonStopped)] == [0]

    in_world(story)


def test_nothing_is_decided_behind_what_is_in_flight_when_it_stops() -> None:
    """Else one that waits would be coalesced into one that this process does not send."""

    async def story(world: World) -> None:
        automation = world.api.create("* 13 * * *")
        world.api.script(automation, Deed(took=270.0, starts=1.0))
        world.start()
        await world.until("13:04:25")
        await world.stop()
        fates = world.fates(automation)
        assert fates.pop("13:00") == "accepted: answered"
        assert fates == dict.fromkeys(("13:01", "13:02", "13:03", "13:04"), "waiting")

    before_one(story)


def test_an_attempt_that_started_nothing_stays_on_record_when_the_ledger_does_not_take_that() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, LOST_REQUEST)
        world.start()
        await world.until("13:00:10")
        world.kill()
        world.ledger.__dict__["resolve_not_started"] = refuse
        world.start()
        await world.until("13:02:00")
        await world.stop()
        row = world.row(automation, "13:00")
        assert (row.fate, len(row.attempts)) == ("claimed", 1)

    before_one(story)


async def refuse(*_: object) -> None:
    raise LedgerUnavailable("disk")


def test_what_is_in_flight_gets_its_time() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, Deed(took=20.0))
        world.start()
        await world.until("13:00:01")
        await world.stop()
        assert world.clock.now().second == 20
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert [event.in_flight for event in world.told(DaemonStopped)] == [0]

    before_one(story)


def test_an_attempt_that_was_made_is_not_taken_for_one_that_was_only_written() -> None:
    """Its end could not be recorded, while the ledger takes other writes."""

    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.drain_timeout = 3.0
        world.api.script(automation, answered(429, retry_after=60.0))

        async def fail(*_: object, **__: object) -> None:
            raise LedgerUnavailable("disk full")

        world.ledger.__dict__["end_attempt"] = fail
        world.start()
        await world.until("13:00:01")
        assert len(world.api.arrivals) == 1
        await world.stop()
        del world.ledger.__dict__["end_attempt"]
        assert [*world.row(automation, "13:00").attempts] == [1]
        world.start()
        await world.until("13:03:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert [attempt.result for attempt in world.row(automation, "13:00").attempts.values()] == [
            "unknown",
            "answered",
        ]

    before_one(story)


def test_what_takes_longer_is_found_out_at_the_next_start() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.drain_timeout = 10.0
        world.api.script(automation, Deed(took=20.0, starts=15.0))
        world.start()
        await world.until("13:00:01")
        await world.stop()
        assert world.clock.now().second == 11
        assert [event.in_flight for event in world.told(DaemonStopped)] == [1]
        assert world.fates(automation) == {"13:00": "claimed"}
        await world.after(2.0)
        world.start()
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}

    before_one(story)


def test_nothing_new_is_sent_while_it_drains() -> None:
    async def story(world: World) -> None:
        slow, other = world.api.create("0 13 * * *"), world.api.create("1 13 * * *")
        world.drain_timeout = 60.0
        world.api.script(slow, Deed(took=29.0))
        world.start()
        await world.until("13:00:10")
        world.api.script(slow, Deed())
        await world.until("13:00:15")
        await world.stop()
        await world.until("13:01:30")
        assert world.fates(other) == {}
        assert len(world.api.arrivals) == 1

    before_one(story)


def test_a_claim_ahead_that_was_not_sent_is_not_found_out_but_waits() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.start()
        await world.until("12:59:59")
        await world.after(0.5)
        assert world.row(automation, "13:00").attempts.keys() == {1}
        await world.stop()
        row = world.row(automation, "13:00")
        assert (row.fate, row.attempts) == ("waiting", {})
        await world.until("13:00:02")
        world.start()
        await world.until("13:00:03")
        assert world.fates(automation) == {
            "13:00": "accepted: answered"
        }  # at once: there is nothing to find out

    before_one(story)


def test_a_claim_that_is_being_made_when_it_is_told_to_stop_waits_too() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.start()
        await world.until("12:59:59")
        await world.after(0.004)  # between the beginning of the transaction and its end
        assert world.fates(automation) == {}
        await world.stop()
        row = world.row(automation, "13:00")
        assert (row.fate, row.attempts) == ("waiting", {})

    before_one(story)


def test_an_attempt_that_is_being_written_when_it_is_told_to_stop_was_not_made() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, answered(429, retry_after=20.0))
        world.start()
        await world.until("13:00:20")
        world.ledger.took = 0.5
        await world.after(0.8)  # the pauses are read, and the second attempt is being written
        stopped = world.clock.now()
        await world.stop()
        assert world.clock.now() - stopped < timedelta(seconds=2)
        row = world.row(automation, "13:00")
        assert row.fate == "waiting"
        assert row.attempts.keys() == {1}

    before_one(story)


def test_what_is_in_doubt_stays_in_doubt() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, RESET_BEFORE)
        world.start()
        await world.until("13:00:10")
        await world.stop()
        assert world.fates(automation) == {"13:00": "unknown"}
        await world.until("13:00:20")
        world.start()
        await world.until("13:00:29")
        assert len(world.api.arrivals) == 1
        await world.until("13:00:40")
        assert world.fates(automation) == {"13:00": "accepted: answered"}

    before_one(story)


def test_a_ledger_that_cannot_be_written_does_not_keep_it_from_stopping() -> None:
    async def story(world: World) -> None:
        automation, other = world.api.create(HOURLY), world.api.create(HOURLY)
        world.api.script(automation, Deed(took=5.0))
        world.api.script(other, RESET_BEFORE)
        world.start()
        await world.until("13:00:01")
        world.ledger.broken = "disk full"
        await world.stop()
        assert world.clock.now() <= NOON + timedelta(hours=1, seconds=27)
        world.ledger.broken = None
        world.start()
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert world.fates(other) == {"13:00": "accepted: answered"}

    before_one(story)


def test_a_ledger_that_hangs_does_not_keep_it_from_stopping() -> None:
    async def story(world: World) -> None:
        world.api.create(HOURLY)
        world.start()
        await world.until("12:59:50")
        world.ledger.took = 3600.0
        await world.until("13:00:01")
        await world.stop()
        assert world.clock.now() <= NOON + timedelta(hours=1, seconds=60)

    before_one(story)


def test_restarting_across_a_full_minute_loses_nothing_also_without_catching_up() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:58")
        await world.stop()
        await world.until("12:01:04")
        world.start()
        await world.until("12:02:30")
        assert world.fates(automation) == {"12:01": "accepted: answered", "12:02": "accepted: answered"}

    in_world(story, policies=make_policies(catch_up=CatchUp.NONE))


def test_the_tasks_of_a_target_that_is_cancelled_end_with_it() -> None:
    """A second SIGTERM, or a fault somewhere else."""

    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, RESET_BEFORE)
        process = world.start()
        await world.until("13:00:10")
        process.alive = False  # nobody is to wonder
        process._main.cancel()
        await world.until("13:00:11")
        assert process._tasks == set()

    before_one(story)


class SlowLedger:
    """Takes back what it is told to, in a second for each call, until it fails."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.fails_after = 1_000

    async def discard_attempts(
        self, occurrences: Sequence[Occurrence], steps: Sequence[tuple[Occurrence, Sequence[Step]]] = ()
    ) -> None:
        if len(self.calls) == self.fails_after:
            raise LedgerUnavailable("disk full")
        self.calls.append((len(occurrences), len(steps)))
        await asyncio.sleep(1.0)


def stop_with(count: int, fails_after: int = 1_000) -> tuple[SlowLedger, list[Event], float]:
    """Stop a target with so many open occurrences, of which each hundredth is in flight: the ledger, the
    events and the seconds.
    """

    async def story() -> tuple[SlowLedger, list[Event], float]:
        clock, ledger, events = VirtualClock(), SlowLedger(), list[Event]()
        ledger.fails_after = fails_after
        context: Any = SimpleNamespace(
            target="main",
            clock=clock,
            ledger=ledger,
            publish=events.append,
            health=LedgerHealth(events.append),
        )
        nothing: Any = MagicMock()
        dispatcher = Dispatcher(context, nothing, nothing)

        async def hold(head: OpenDelivery) -> None:
            with head.waits.record(Cause.HELD):
                await asyncio.sleep(3600)

        dispatcher._sender.deliver = hold  # type: ignore[assignment, method-assign]
        due, late = clock.now(), clock.now() + timedelta(hours=1)
        for number in range(count):
            state = State.CLAIMED if number % 100 else State.IN_FLIGHT
            occurrence, attempt = Occurrence("main", f"a{number:06}", due), Attempt(1, due, None)
            dispatcher.take(Delivery(occurrence, "", due, late, state, is_late=False, attempt=attempt))
        await asyncio.sleep(10.0)
        await dispatcher.drain(0.0)
        begun = clock.boottime()
        await dispatcher.discard_unsent_attempts(5.0)
        return ledger, events, clock.boottime() - begun

    return run_virtual(story())


def test_what_is_open_is_taken_back_in_parts() -> None:
    """Half a million occurrences were one transaction, which no stop had time for: so none of it was on
    record.
    """
    ledger, events, seconds = stop_with(3_000)
    assert ledger.calls == [(2_000, 0), (970, 1_030), (0, 1_970)], "first the attempts that were never sent"
    assert (events, seconds) == ([], 3.0)


def test_a_stop_with_few_open_occurrences_is_one_transaction() -> None:
    assert stop_with(100)[0].calls == [(99, 100)]
    assert stop_with(0)[0].calls == []


def test_a_stop_takes_no_longer_than_its_seconds_and_tells_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatching, "_AT_ONCE", 200)
    ledger, events, seconds = stop_with(1_000)
    assert (len(ledger.calls), seconds) == (5, 5.0)
    assert events == [StopShortened(target="main", attempts=990 - 4 * 200, waits=1_000, seconds=5.0)]
    _, events, seconds = stop_with(500)
    assert events == [StopShortened(target="main", attempts=0, waits=195, seconds=5.0)]


def test_a_stop_ends_when_the_ledger_takes_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatching, "_AT_ONCE", 200)
    ledger, events, _ = stop_with(1_000, fails_after=2)
    assert len(ledger.calls) == 2
    assert [(type(event), getattr(event, "error", None)) for event in events] == [(LedgerFailed, "disk full")]
