"""The wait that the API asks for with a 429: who waits, until when, and what a restart or a clock step makes
of the wait.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from scheduler.core.errors import UpstreamError
from scheduler.core.events import Event, SnapshotTaken, TargetThrottled
from scheduler.core.instants import to_text_seconds
from scheduler.core.occurrence_log import Cause
from scheduler.core.recorded_state import ThrottleSpan
from scheduler.daemon.breaker import LONG_WAIT, TargetThrottle
from scheduler.daemon.clock import ClockWatch
from scheduler.upstream.budget import Budget
from tests.daemon.world import NOON, World, in_world
from tests.fakes import LOST_REQUEST, RESET_BEFORE, SERVED, Deed, answered
from tests.virtual import VirtualClock

HOUR = 3600.0
DAY = 24 * HOUR


class Told(list[Event]):
    """The events of a throttle without a daemon."""

    def __call__(self, event: Event) -> None:
        self.append(event)


def make_throttle() -> tuple[TargetThrottle, VirtualClock, Told]:
    clock, told = VirtualClock(NOON), Told()
    return TargetThrottle("main", clock, told), clock, told


def limit(world: World) -> None:
    """Have a budget, which blocks polls too."""
    world.api.budget = Budget(per_minute=1000, per_hour=10_000, clock=world.clock)


def refuse(world: World, automation: str, seconds: float) -> None:
    """Answer the next run with a 429, and block the budget as the real client does."""
    world.api.script(automation, answered(429, retry_after=seconds))


async def be_refused(world: World, seconds: float) -> None:
    """Let the occurrence of 12:01 meet a 429."""
    await world.until("12:01:01")
    assert world.api.budget is not None
    world.api.budget.block(seconds - 1)  # as the real client does


# ---------------------------------------------------------------- the wait alone


def test_a_wait_is_published_once_and_again_when_its_end_moves_far() -> None:
    async def story(_: World) -> None:
        throttle, _clock, told = make_throttle()
        for seconds in (HOUR, HOUR + 0.5, HOUR + 30, HOUR, 5.0):
            throttle.begin(seconds)
        assert [(each.until, each.seconds) for each in told if isinstance(each, TargetThrottled)] == [
            (NOON + timedelta(hours=1), HOUR)
        ]
        assert throttle.until == NOON + timedelta(hours=1, seconds=30)
        throttle.begin(2 * HOUR)
        assert len(told) == 2

    in_world(story)


def test_a_short_wait_is_shown_and_neither_published_nor_probed() -> None:
    async def story(world: World) -> None:
        throttle = TargetThrottle("main", world.clock, told := Told())
        throttle.begin(LONG_WAIT)
        assert throttle.until == world.clock.now() + timedelta(seconds=LONG_WAIT)
        assert (told, throttle.needs_probe) == ([], False)
        await world.after(LONG_WAIT)
        assert throttle.until is None

    in_world(story)


@pytest.mark.parametrize(
    ("clock", "left"),
    [
        (timedelta(0), HOUR),  # the moment of the answer
        (timedelta(minutes=20), 40 * 60.0),
        (timedelta(hours=1), 0.0),
        (timedelta(days=9), 0.0),
        (timedelta(days=-9), HOUR),  # a clock that is behind: all of the wait, and no more
    ],
)
def test_of_a_recalled_wait_the_wall_clock_tells_how_much_is_left(clock: timedelta, left: float) -> None:
    async def story(world: World) -> None:
        now = world.clock.now()
        throttle = TargetThrottle("main", world.clock, told := Told())
        throttle.recall(ThrottleSpan(now - clock, now - clock + timedelta(hours=1)))
        assert throttle.seconds_left == left
        assert throttle.until == (now + timedelta(seconds=left) if left else None)
        assert len(told) == throttle.needs_probe == bool(left)

    in_world(story)


def test_a_clock_step_moves_the_end_of_a_recalled_wait_and_no_other() -> None:
    async def story(world: World) -> None:
        now = world.clock.now()
        recalled, own = (TargetThrottle("main", world.clock, Told()) for _ in range(2))
        recalled.recall(ThrottleSpan(now, now + timedelta(hours=1)))
        own.begin(HOUR)
        world.clock.step(1200)
        assert (recalled.note_clock_step(1200), own.note_clock_step(1200)) == (True, False)
        assert (recalled.seconds_left, own.seconds_left) == (HOUR - 1200, HOUR)
        assert recalled.until == now + timedelta(hours=1)
        assert own.until == now + timedelta(hours=1, seconds=1200)
        world.clock.step(-90_000)
        recalled.note_clock_step(-90_000)
        assert recalled.seconds_left == HOUR, "never more than the API asked for"

    in_world(story)


# ---------------------------------------------------------------- with a daemon around it


def test_a_long_wait_is_shown_recorded_and_told_once() -> None:
    async def story(world: World) -> None:
        limit(world)
        automations, hourly = [world.api.create() for _ in range(5)], world.api.create("5 * * * *")
        for automation in automations:
            refuse(world, automation, DAY)
        process = world.start()
        await be_refused(world, DAY)
        (told,) = world.told(TargetThrottled)
        assert process.target.make_status().throttled_until == told.until
        assert abs(told.until - NOON - timedelta(days=1, minutes=1)) < timedelta(seconds=1)
        assert world.ledger.written["record_throttle"] == 1
        kept = world.ledger.target().throttled
        assert kept is not None
        assert kept.until == told.until
        await world.after(HOUR)
        assert len(world.told(TargetThrottled)) == 1
        assert len(world.api.arrivals) == 5
        row = world.row(hourly, "12:05")
        assert (row.fate, row.error) == (
            "expired: not_started",
            f"the API asked to send nothing until {to_text_seconds(told.until)}",
        )

    in_world(story)


def test_each_wait_for_a_throttled_target_names_the_end_and_stays_one_step_when_the_end_moves() -> None:
    async def story(world: World) -> None:
        limit(world)
        refused, later = world.api.create("1 * * * *"), world.api.create("2 * * * *")
        refuse(world, refused, 300.0)
        process = world.start()
        await be_refused(world, 300.0)
        first = process.target.make_status().throttled_until
        await world.until("12:02:10")
        process.target.context.breaker.throttle(400.0)
        last = process.target.make_status().throttled_until
        assert first is not None
        assert last is not None
        assert last > first
        world.api.budget.block(400.0)  # type: ignore[union-attr]
        await world.until("12:06:10")  # each looks again at the first end
        end = f"until {to_text_seconds(last)}"
        waits = (await process.target.waits.make_status()).first
        assert {(wait.cause, wait.detail) for wait in waits if wait.due < world.clock.now()} == {
            (Cause.THROTTLED, end)
        }
        (open_step,) = world.row(refused, "12:01").steps
        assert (open_step.until, open_step.detail) == (None, end)
        await world.until("12:15:00")
        for automation, instant in ((refused, "12:01"), (later, "12:02")):
            assert [(step.cause, step.detail) for step in world.row(automation, instant).steps] == [
                (Cause.THROTTLED, end)
            ]

    in_world(story)


@pytest.mark.parametrize("ends", ["kill", "stop"])
def test_a_restart_goes_on_with_the_wait(ends: str) -> None:
    async def story(world: World) -> None:
        limit(world)
        automation = world.api.create()
        refuse(world, automation, HOUR)
        world.start()
        await be_refused(world, HOUR)
        if ends == "kill":
            world.kill()
        else:
            await world.stop()
        polls = len(world.api.polls)
        limit(world)  # the budget of the process is gone with it
        await world.until("12:10:00")
        process = world.start()
        await world.until("12:10:30")
        assert process.target.is_up, "systemd waits for that"
        status = process.target.make_status()
        assert status.throttled_until is not None
        assert f"{status.throttled_until:%H:%M:%S}" == "13:01:00"
        await world.until("13:00:59")
        assert (len(world.api.arrivals), len(world.api.polls)) == (1, polls)
        await world.until("13:02:10")
        assert len(world.api.polls) > polls
        assert world.fates(automation)["13:02"] == "accepted: answered"
        assert process.target.make_status().throttled_until is None
        assert world.ledger.target().throttled is None, (
            "a clock that is set back later must not bring the wait back"
        )
        assert len(world.told(TargetThrottled)) == 2, "each process says it once"

    in_world(story)


def test_a_wait_that_began_as_the_ledger_failed_is_recorded_later() -> None:
    async def story(world: World) -> None:
        limit(world)
        automation = world.api.create()
        refuse(world, automation, HOUR)
        world.start()
        await world.until("12:01:00")
        world.ledger.broken = "disk full"
        await world.until("12:02:00")
        assert world.ledger.target().throttled is None
        world.ledger.broken = None
        await world.until("12:04:00")
        assert world.ledger.target().throttled is not None

    in_world(story)


@pytest.mark.parametrize("who", ["poll", "reading", "inquiry"])
def test_a_429_to_a_poll_or_a_reading_stops_the_target_as_one_to_a_fire_does(who: str) -> None:
    async def story(world: World) -> None:
        limit(world)
        automation = world.api.create("*/10 * * * *")
        process = world.start()
        await world.until("12:09:40")
        refused = UpstreamError("HTTP 429", status=429, retry_after=HOUR)
        if who == "poll":
            world.api.list_error = refused
        elif who == "inquiry":
            world.api.script(automation, RESET_BEFORE)
            world.api.get_error = refused
        else:
            world.api.list_hides.add(automation)
            world.api.get_error = refused
        await world.until("12:10:10")
        assert process.target.make_status().throttled_until is not None
        assert len(world.told(TargetThrottled)) == 1
        assert len(world.api.arrivals) == (who == "inquiry")

    in_world(story)


@pytest.mark.parametrize(
    ("answer", "sent"),
    [(SERVED, 5), (answered(429, retry_after=HOUR), 1), (answered(400), 5), (RESET_BEFORE, 5)],
)
def test_after_a_long_wait_one_attempt_goes_first(answer: Deed, sent: int) -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("1 * * * *") for _ in range(5)]
        for automation in automations:
            refuse(world, automation, 120.0)
            world.api.script(automation, replace(answer, took=0.5))
        world.start()
        await world.until("12:01:02")
        assert len(world.api.arrivals) == 5
        world.api.list_error = UpstreamError("no answer")  # a good poll would do as well
        await world.until("12:03:00")
        await world.after(0.3)
        assert len(world.api.arrivals) == 6
        await world.until("12:03:04")
        assert len(world.api.arrivals) == 5 + sent

    in_world(story)


@pytest.mark.parametrize("ends", ["poll", "probe"])
def test_a_good_poll_lets_the_others_go_while_the_probe_hangs(ends: str) -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("1 * * * *") for _ in range(5)]
        for automation in automations:
            refuse(world, automation, 120.0)
            world.api.script(automation, LOST_REQUEST)
        world.start()
        await world.until("12:01:02")
        world.api.list_error = UpstreamError("no answer")
        await world.until("12:03:02")
        assert len(world.api.arrivals) == 6
        if ends == "poll":
            world.api.list_error = None
        await world.until("12:03:25")
        assert len(world.api.arrivals) == (10 if ends == "poll" else 6)
        await world.until("12:03:40")
        assert len(world.api.arrivals) == 10

    in_world(story)


def test_a_clock_that_steps_while_nobody_runs_makes_the_wait_no_longer() -> None:
    async def story(world: World) -> None:
        limit(world)
        automation = world.api.create()
        refuse(world, automation, HOUR)
        world.start()
        await be_refused(world, HOUR)
        world.kill()
        world.clock.step(-5 * HOUR)
        limit(world)
        process = world.start(ClockWatch(world.clock, world.events.append))
        await world.after(60)
        assert 0 < process.target.context.throttle.seconds_left <= HOUR
        world.clock.step(5 * HOUR)
        await world.after(60)
        assert abs(process.target.context.throttle.seconds_left - (HOUR - 121)) < 5
        await world.after(HOUR)
        assert world.told(SnapshotTaken)[-1] is not None
        assert process.target.context.throttle.seconds_left == 0

    in_world(story)
