"""What is due for longer than its policy allows is told, whoever is to blame."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from scheduler.core.errors import UpstreamError
from scheduler.core.events import OccurrenceOverdue
from scheduler.core.model import Occurrence
from scheduler.core.policy import Concurrency
from scheduler.daemon.dispatcher import Dispatcher
from scheduler.daemon.planner import Planner, _Plan
from tests.daemon.world import World, in_world
from tests.defaults import make_policies
from tests.fakes import LOST_REQUEST, answered

SOON = make_policies(start_within=timedelta(seconds=90))


def overdue(world: World) -> list[str]:
    """What the status names."""
    assert world.process is not None
    (target,) = world.process.service.make_status().targets
    return list(target.overdue)


def test_on_time_nothing_is_overdue() -> None:
    async def story(world: World) -> None:
        world.api.create()
        world.start()
        for _ in range(20):
            await world.after(31.0)
            assert overdue(world) == []
        assert world.told(OccurrenceOverdue) == []

    in_world(story, policies=SOON)


def test_what_a_full_ledger_keeps_from_being_planned_is_told_once() -> None:
    async def story(world: World) -> None:
        world.api.create("1 12 * * *", name="nightly")
        world.start()
        await world.until("12:00:40")
        world.ledger.broken = "disk full"
        await world.until("12:02:30")
        assert overdue(world) == []
        await world.until("12:05:00")
        assert overdue(world) == ["nightly 2026-11-23T12:01:00Z (not planned)"]
        (told,) = world.told(OccurrenceOverdue)
        assert (told.automation, told.state, told.count, told.overdue) == ("nightly", "not planned", 1, 1)
        world.ledger.broken = None
        await world.until("12:07:00")
        assert overdue(world) == []
        assert world.told(OccurrenceOverdue) == [told]

    in_world(story, policies=SOON)


def test_what_the_planner_forgot_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not the planner who is asked."""
    monkeypatch.setattr(Planner, "_decide_due", lambda *_: _Plan([], []))

    async def story(world: World) -> None:
        world.api.create("1 12 * * *", name="nightly")
        world.start()
        await world.until("12:05:00")
        assert overdue(world) == ["nightly 2026-11-23T12:01:00Z (not planned)"]

    in_world(story, policies=SOON)


def test_what_the_dispatcher_forgot_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatcher, "take", lambda *_: None)

    async def story(world: World) -> None:
        world.api.create("1 12 * * *", name="nightly")
        world.start()
        await world.until("12:05:00")
        assert overdue(world) == ["nightly 2026-11-23T12:01:00Z (claimed)"]

    in_world(story, policies=SOON)


def test_with_a_snapshot_that_is_too_old_what_comes_due_is_told() -> None:
    async def story(world: World) -> None:
        world.set(stale_limit=timedelta(minutes=5))
        world.api.create("10 12 * * *", name="nightly")
        world.start()
        await world.until("12:01:00")
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        await world.until("12:14:00")
        assert overdue(world) == ["nightly 2026-11-23T12:10:00Z (not planned)"]

    in_world(story, policies=SOON)


def test_many_are_told_in_one_line_with_the_first_of_them() -> None:
    async def story(world: World) -> None:
        for number in range(5):
            world.api.create("1 12 * * *", name=f"nightly {number}")
        world.start()
        await world.until("12:00:40")
        world.ledger.broken = "disk full"
        await world.until("12:05:00")
        assert [(told.count, told.overdue) for told in world.told(OccurrenceOverdue)] == [(5, 5)]
        assert len(overdue(world)) == 5

    in_world(story, policies=SOON)


def test_what_is_being_found_out_was_sent_in_time_and_is_not_overdue() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.api.script(automation, LOST_REQUEST)
        world.start()
        await world.until("12:01:20")
        world.api.list_error = world.api.get_error = UpstreamError("HTTP 500", status=500)
        await world.until("12:10:00")
        assert world.fates(automation) == {"12:01": "unknown"}
        assert overdue(world) == []

    in_world(story, policies=SOON)


def test_what_waits_for_the_run_before_it_is_not_overdue() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1,3 12 * * *")
        world.start()
        await world.until("12:10:00")
        assert world.fates(automation) == {"12:01": "accepted: answered", "12:03": "waiting"}
        assert overdue(world) == []

    in_world(story, policies=make_policies(start_within=timedelta(seconds=90), concurrency=Concurrency.QUEUE))


def test_what_expires_is_settled_and_not_overdue() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.api.deed = answered(429, retry_after=30.0)
        world.start()
        await world.until("12:10:00")
        assert world.fates(automation) == {"12:01": "expired: not_started"}
        assert world.told(OccurrenceOverdue) == []

    in_world(story, policies=SOON)


def test_what_waits_is_told_although_the_ledger_cannot_be_read() -> None:
    """Its row was there when it came due; since then nobody can ask the ledger."""

    async def story(world: World) -> None:
        world.api.create("1 12 * * *", name="nightly")
        world.api.deed = answered(429, retry_after=30.0)
        world.start()
        await world.until("12:02:15")
        world.ledger.broken = "disk full"
        await world.until("12:05:00")
        assert overdue(world) == ["nightly 2026-11-23T12:01:00Z (waiting)"]
        (told,) = world.told(OccurrenceOverdue)
        assert (told.state, told.count) == ("waiting", 1)
        world.ledger.broken = None
        await world.until("12:07:00")
        assert overdue(world) == []

    in_world(story, policies=SOON)


def test_while_the_clock_is_in_doubt_nothing_is_called_overdue() -> None:
    async def story(world: World) -> None:
        world.api.create("1 12 * * *")
        world.start()
        await world.until("12:00:30")
        world.clock.step(3600.0)
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        await world.after(60.0)
        assert world.told(OccurrenceOverdue) == []

    in_world(story, policies=SOON)


def test_a_suspend_makes_nothing_overdue_that_is_decided_when_it_ends() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:01:30")
        world.clock.suspend(3600.0)
        await world.after(180.0)
        assert world.told(OccurrenceOverdue) == []
        assert "expired" not in str(world.fates(automation))

    in_world(story, policies=SOON)


def test_of_thousands_the_first_are_named_and_all_are_counted() -> None:
    async def story(world: World) -> None:
        for number in range(120):
            world.api.create("1 12 * * *", name=f"nightly {number:03}")
        world.start()
        await world.until("12:00:40")
        world.ledger.broken = "disk full"
        await world.until("12:05:00")
        assert world.process is not None
        (target,) = world.process.service.make_status().targets
        assert target.overdue_count == 120
        assert target.overdue == [
            f"nightly {number:03} 2026-11-23T12:01:00Z (not planned)" for number in range(100)
        ]

    in_world(story, policies=SOON)


def test_a_row_is_asked_for_once_when_it_is_due_and_not_again() -> None:
    """Else every occurrence would be kept, and asked for, as long as it may start."""

    async def story(world: World) -> None:
        world.api.create("1 12 * * *")
        world.start()
        asked: list[int] = []
        ask = world.ledger.find_missing

        async def lacking(target: str, expected: Sequence[Occurrence]) -> set[Occurrence]:
            asked.append(len(expected))
            return await ask(target, expected)

        world.ledger.__dict__["find_missing"] = lacking
        await world.until("12:20:00")
        assert asked == [1]

    in_world(story)
