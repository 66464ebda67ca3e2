"""One observer's trouble is nobody else's."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from structlog.testing import capture_logs

from scheduler.core.events import Event, LedgerRecovered, TargetReleased
from scheduler.ops.bus import Bus
from scheduler.ops.heartbeat import Heartbeat
from tests.virtual import run_virtual

FIRST, SECOND = LedgerRecovered(), TargetReleased(target="main")


class Watching:
    def __init__(self) -> None:
        self.seen: list[Event] = []

    def observe(self, event: Event) -> None:
        self.seen.append(event)


class Faulty:
    def __init__(self) -> None:
        self.called = 0

    def observe(self, event: Event) -> None:
        self.called += 1
        raise RuntimeError(f"cannot take {type(event).__name__}")


def test_every_observer_sees_every_event_in_order() -> None:
    bus, watching = Bus(), [Watching(), Watching()]
    for each in watching:
        bus.subscribe(each.observe)
    bus.publish(FIRST)
    bus.publish(SECOND)
    assert [each.seen for each in watching] == [[FIRST, SECOND]] * 2


def test_an_observer_that_raises_stops_nobody_and_goes_on_being_told() -> None:
    bus, faulty, watching = Bus(), Faulty(), Watching()
    bus.subscribe(faulty.observe)
    bus.subscribe(watching.observe)
    with capture_logs():
        bus.publish(FIRST)
        bus.publish(SECOND)
    assert watching.seen == [FIRST, SECOND]
    assert faulty.called == 2


def test_a_failing_observer_is_reported_once_and_by_name() -> None:
    bus = Bus()
    for observer in (Faulty().observe, Faulty().observe):
        bus.subscribe(observer)
    with capture_logs() as logged:
        for _ in range(3):
            bus.publish(FIRST)
    assert [(line["event"], line["observer"], line["error"]) for line in logged] == [
        ("observer.failed", "Faulty.observe", "RuntimeError: cannot take LedgerRecovered")
    ] * 2


def test_a_log_that_is_broken_itself_does_not_stop_the_daemon() -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("no log today")

    bus, watching = Bus(), Watching()
    bus.subscribe(Faulty().observe)
    bus.subscribe(watching.observe)
    structlog.configure(processors=[broken])
    try:
        bus.publish(FIRST)
    finally:
        structlog.reset_defaults()
    assert watching.seen == [FIRST]


def test_a_cancellation_is_no_fault_and_goes_through() -> None:
    def cancelled(_: Event) -> None:
        raise asyncio.CancelledError

    bus = Bus()
    bus.subscribe(cancelled)
    with pytest.raises(asyncio.CancelledError):
        bus.publish(FIRST)


def test_a_heart_beats_as_long_as_the_loop_turns() -> None:
    start = datetime(2026, 11, 23, tzinfo=UTC)

    async def look() -> list[tuple[datetime, float]]:
        loop = asyncio.get_running_loop()
        heartbeat = Heartbeat(lambda: start + timedelta(seconds=loop.time()), loop.time)
        beating = asyncio.create_task(heartbeat.run())
        seen = []
        for stopped in (False, True):
            await asyncio.sleep(10.5)
            seen.append((heartbeat.get_last_beat(), heartbeat.get_age()))
            if not stopped:
                beating.cancel()
        return seen

    assert run_virtual(look()) == [
        (start + timedelta(seconds=10), 0.5),
        (start + timedelta(seconds=10), 11.0),
    ]
