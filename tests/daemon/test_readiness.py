"""What readiness and the watchdog rest on: whether the daemon has begun its work, and whether planning makes
progress.
"""

import asyncio
from datetime import timedelta

import pytest

from scheduler.core.errors import LedgerUnavailable, UpstreamError
from scheduler.core.status import STALLED_AFTER, TargetStatus
from scheduler.daemon.context import TargetKnowledge
from scheduler.daemon.planner import Planner
from tests.daemon.world import World, in_world, look_rarely
from tests.fakes.api import carried_out_after

DAYS = 1


def test_it_is_up_when_every_list_has_been_asked_for_also_without_success() -> None:
    async def story(world: World) -> None:
        other = world.add_target("other")
        other.list_error = UpstreamError("HTTP 503", status=503)
        service = world.start().service
        seen = [service.is_up]
        await world.after(5)
        seen.append(service.is_up)
        assert seen == [False, True]
        assert [target.snapshot_at is None for target in service.make_status().targets] == [False, True]

    in_world(story)


def test_planning_that_has_nothing_to_do_for_days_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    look_rarely(monkeypatch)

    async def story(world: World) -> None:
        world.set(poll_interval=timedelta(minutes=5))
        world.api.create(cron="0 0 1 1 *")
        service = world.start().service
        await world.after(5)
        for _ in range(DAYS * 24):
            await world.after(timedelta(hours=1))
            assert service.measure_stall() < 1

    in_world(story)


def test_planning_that_hangs_is_noticed_at_the_next_occurrence_and_by_how_long() -> None:
    async def story(world: World) -> None:
        world.api.create(cron="* * * * *")
        service = world.start().service
        await world.until("12:01:30")
        world.ledger.__dict__["claim"] = lambda *_, **__: asyncio.get_running_loop().create_future()
        await world.until("12:01:58")
        assert service.measure_stall() == 0
        await world.until("12:02:29")
        assert service.measure_stall() == pytest.approx(30, abs=0.1)

    in_world(story)


def test_a_ledger_that_fails_is_no_standstill_of_planning() -> None:
    async def story(world: World) -> None:
        world.api.create(cron="* * * * *")
        service = world.start().service
        await world.until("12:01:30")

        async def fail(*_: object, **__: object) -> None:
            raise LedgerUnavailable("disk full")

        world.ledger.__dict__["claim"] = fail
        for _ in range(60):
            await world.after(3)
            assert service.measure_stall() < 1
        del world.ledger.__dict__["claim"]
        await world.after(180)

    in_world(story)


def test_who_stops_is_not_hurried() -> None:
    async def story(world: World) -> None:
        world.api.create(cron="* * * * *")
        process = world.start()
        await world.until("12:01:30")
        world.ledger.__dict__["claim"] = lambda *_, **__: asyncio.get_running_loop().create_future()
        await world.until("12:02:20")
        stopping = asyncio.create_task(world.stop())
        await asyncio.sleep(1)
        assert process.service.measure_stall() == 0
        await stopping
        del world.ledger.__dict__["claim"]

    in_world(story)


# ------------------------------------------------------------ ready means able to fire


def hang(world: World, verb: str) -> None:
    """The ledger takes this and never answers."""
    world.ledger.__dict__[verb] = lambda *_, **__: asyncio.get_running_loop().create_future()


def status(world: World) -> TargetStatus:
    assert world.process is not None
    (target,) = world.process.service.make_status().targets
    return target


def unready(world: World) -> list[str]:
    assert world.process is not None
    return world.process.service.make_status().problems


def test_a_claim_that_never_ends_fails_readiness_and_shows_what_is_due_as_overdue() -> None:
    async def story(world: World) -> None:
        world.api.create("2 * * * *", name="nightly")
        service = world.start().service
        await world.until("12:01:30")
        hang(world, "claim")
        await world.until("12:02:13")
        assert unready(world) == []
        await world.until("12:02:30")
        assert unready(world) == ["target main has planned nothing for 31 s although something is due"]
        assert service.measure_stall() > STALLED_AFTER
        await world.until("12:03:30")
        assert status(world).overdue == ["nightly 2026-11-23T12:02:00Z (not planned)"]
        assert status(world).overdue_count == 1

    in_world(story)


@pytest.mark.parametrize("verb", ["read_pauses", "record_snapshot"])
def test_so_does_any_other_call_of_the_ledger_that_planning_waits_for(verb: str) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("2 * * * *", name="nightly")
        world.start()
        await world.until("12:01:00")
        world.api.edit(automation, cron_expression="2,3 * * * *")  # so that there is a version to be recorded
        hang(world, verb)
        await world.until("12:02:30")
        assert [each for each in unready(world) if "planned nothing" in each]
        await world.until("12:03:30")
        assert "nightly 2026-11-23T12:02:00Z (not planned)" in status(world).overdue

    in_world(story)


def test_a_planner_that_sleeps_on_is_noticed_by_what_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        world.api.create("2 * * * *", name="nightly")
        service = world.start().service
        await world.until("12:01:00")
        monkeypatch.setattr(Planner, "_find_wake_time", lambda _: None)
        await world.until("12:01:55")  # polls have rung it by now, and ring it no more
        world.process.target._poller.end_listeners.clear()  # type: ignore[union-attr]
        await world.until("12:02:40")
        assert service.measure_stall() == pytest.approx(40)
        assert unready(world) == ["target main has planned nothing for 40 s although something is due"]

    in_world(story)


def test_a_ledger_whose_answers_do_not_come_keeps_nothing_from_being_overdue() -> None:
    async def story(world: World) -> None:
        world.api.create("2 * * * *", name="nightly")
        world.start()
        await world.until("12:01:30")
        for verb in ("read_pauses", "claim", "find_missing", "read_late_occurrences"):
            hang(world, verb)
        await world.until("12:04:00")
        assert status(world).overdue == ["nightly 2026-11-23T12:02:00Z (not planned)"]

    in_world(story)


def test_it_is_ready_when_what_is_due_has_been_planned_and_not_before() -> None:
    async def story(world: World) -> None:
        world.api.create("* * * * *")
        hang(world, "record_snapshot")  # the first snapshot, on its way into the ledger
        service = world.start().service
        await world.after(10)
        assert status(world).snapshot_at is not None
        assert unready(world) == ["target main has not planned yet what is due"]
        assert not service.is_up
        await world.until("12:01:30")
        assert unready(world) == ["target main has planned nothing for 30 s although something is due"]
        assert service.measure_stall() > STALLED_AFTER

    in_world(story)


def test_a_suspend_is_no_standstill() -> None:
    async def story(world: World) -> None:
        world.api.create("* * * * *")
        service = world.start().service
        await world.until("12:01:30")
        world.clock.suspend(3600.0)
        assert service.measure_stall() < 1
        assert unready(world) == []
        await world.after(5)

    in_world(story)


def test_a_snapshot_that_is_fresh_again_after_hours_is_no_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        world.set(stale_limit=timedelta(minutes=5))
        world.api.create("* * * * *")
        service = world.start().service
        await world.until("12:01:30")
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        await world.until("14:00:00")
        seen: list[float] = []
        confirmed = TargetKnowledge.note_good_poll

        def look(*args: object) -> None:
            confirmed(*args)  # type: ignore[arg-type]
            seen.append(service.measure_stall())

        monkeypatch.setattr("scheduler.daemon.context.TargetKnowledge.note_good_poll", look)
        world.api.list_error = None
        await world.after(180)
        assert seen
        assert max(seen) < 1

    in_world(story)


def test_it_is_busy_around_what_is_due_and_at_no_other_time() -> None:
    async def story(world: World) -> None:
        world.api.create("2 * * * *")
        service = world.start().service
        busy: dict[str, bool] = {}
        for clock in ("12:01:30", "12:01:57", "12:01:59", "12:02:00", "12:02:03", "12:02:30"):
            await world.until(clock)
            busy[clock[3:]] = service.is_busy()
        assert busy == {
            "01:30": False,
            "01:57": False,
            "01:59": True,
            "02:00": True,
            "02:03": False,
            "02:30": False,
        }

    in_world(story)


def test_an_attempt_that_hangs_keeps_nobody_from_looking_for_long() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("2 * * * *")
        world.api.script(automation, carried_out_after(25.0))
        service = world.start().service
        await world.until("12:02:05")
        assert service.is_busy()
        await world.until("12:02:12")
        assert not service.is_busy()

    in_world(story)
