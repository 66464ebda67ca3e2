"""A wall clock that is set, and a machine that sleeps: nothing fires twice, nothing early, and nothing is
decided by a clock in doubt.
"""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from scheduler.clock import SystemClock
from scheduler.core.errors import LedgerUnavailable, UpstreamError
from scheduler.core.events import ClockJumped, Event, RunDoubled, RunForeign
from scheduler.core.model import AttemptResult, Automation, ClaimPlan, Occurrence, Reason
from scheduler.core.policy import CatchUp, Concurrency
from scheduler.daemon.clock import Alarm, ClockWatch
from tests.daemon.world import NOON, World, in_world, slow
from tests.defaults import make_policies
from tests.fakes import (
    LOST_ANSWER,
    LOST_REQUEST,
    NULL_RUN,
    REFUSED,
    RESET_BEFORE,
    Deed,
    answered,
    carried_out_after,
)
from tests.virtual import VirtualClock, run_virtual

# ---------------------------------------------------------------- the watch and the alarm


def watched(*happens: tuple[str, float]) -> tuple[list[tuple[float, bool]], bool]:
    """What a watch tells when these happen, two seconds apart; and whether it is in doubt in the end."""

    async def main() -> tuple[list[tuple[float, bool]], bool]:
        clock, told = VirtualClock(), list[Event]()
        watch = ClockWatch(clock, told.append)
        watching = asyncio.ensure_future(watch.run())
        for what, seconds in happens:
            if what == "confirm":
                watch.check_offset(0.3, begun=clock.boottime())
            else:
                getattr(clock, what)(seconds)
            await asyncio.sleep(2.0)
        watching.cancel()
        jumps = [event for event in told if isinstance(event, ClockJumped)]
        return [(round(jump.seconds, 3), jump.suspended) for jump in jumps], watch.is_in_doubt

    return run_virtual(main())


@pytest.mark.parametrize(
    ("happens", "jumps", "in_doubt"),
    [
        ([], [], False),
        ([("step", 0.5), ("step", -0.5)], [], False),
        ([("step", 5.0)], [(5.0, False)], False),
        ([("step", -3600.0)], [(-3600.0, False)], False),
        ([("suspend", 3600.0)], [(3600.0, True)], False),
        ([("step", 60.5)], [(60.5, False)], True),
        ([("step", 40.0), ("step", 40.0)], [(40.0, False)] * 2, True),
        ([("step", 3600.0), ("step", -3600.0)], [(3600.0, False), (-3600.0, False)], False),
        ([("step", 3600.0), ("confirm", 0.0)], [(3600.0, False)], False),
        ([("step", 3600.0), ("suspend", 10.0)], [(3600.0, False), (10.0, True)], True),
    ],
)
def test_the_watch_tells_steps_from_suspends_and_doubts_long_steps_ahead(
    happens: list[tuple[str, float]], jumps: list[tuple[float, bool]], in_doubt: bool
) -> None:
    assert watched(*happens) == (jumps, in_doubt)


def test_a_step_and_a_suspend_at_once_are_both_told() -> None:
    async def main() -> None:
        clock, told = VirtualClock(), list[Event]()
        watch = ClockWatch(clock, told.append)
        clock.suspend(100.0)
        clock.step(30.0)
        watch.check()
        assert [(event.seconds, event.suspended) for event in told if isinstance(event, ClockJumped)] == [
            (30.0, False),
            (100.0, True),
        ]

    run_virtual(main())


def test_an_answer_to_a_request_from_before_a_step_does_not_confirm_it() -> None:
    async def main() -> None:
        clock = VirtualClock()
        watch = ClockWatch(clock, lambda _: None)
        begun = clock.boottime()
        await asyncio.sleep(1.0)
        clock.step(3600.0)
        watch.check()
        watch.check_offset(0.0, begun=begun)
        assert watch.is_in_doubt
        watch.check_offset(-3600.0, begun=clock.boottime())  # the API says otherwise
        assert watch.is_in_doubt
        watch.check_offset(0.0, begun=clock.boottime())
        assert not watch.is_in_doubt

    run_virtual(main())


def test_an_alarm_wakes_when_it_rings_and_remembers_that_it_rang() -> None:
    async def main() -> None:
        clock = VirtualClock()
        alarm = Alarm(clock)
        await alarm.sleep_until(clock.now() + timedelta(seconds=7))
        assert clock.boottime() == pytest.approx(7.0)
        asyncio.get_running_loop().call_later(3.0, alarm.ring)
        await alarm.sleep(None)
        assert clock.boottime() == pytest.approx(10.0)
        alarm.ring()
        await alarm.sleep(100.0)
        await alarm.sleep_until(clock.now() - timedelta(hours=1))
        assert clock.boottime() == pytest.approx(10.0)

    run_virtual(main())


def test_a_loop_stalls_from_when_it_was_to_go_on_until_it_sleeps_again() -> None:
    async def main() -> None:
        alarm = Alarm(VirtualClock())
        stalled: list[float] = []

        async def look() -> None:
            for _ in range(6):
                await asyncio.sleep(3.0)
                stalled.append(alarm.measure_stall())

        looking = asyncio.create_task(look())
        await alarm.sleep(5.0)
        await asyncio.sleep(6.0)  # it is busy from 5 to 11, and sleeps until somebody rings
        asyncio.get_running_loop().call_later(5.0, alarm.ring)
        await alarm.sleep(None)
        await looking
        assert stalled == pytest.approx([0.0, 1.0, 4.0, 0.0, 0.0, 2.0])

    run_virtual(main())


def test_the_systems_clocks() -> None:
    clock = SystemClock()
    assert clock.now().utcoffset() == timedelta(0)
    awake = clock.monotonic()
    assert clock.boottime() >= awake > 0


# ---------------------------------------------------------------- steps back


def test_after_a_step_back_nothing_fires_twice() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:05:20")
        world.clock.step(-150.0)
        await world.after(timedelta(minutes=5))
        fates = world.fates(automation)
        assert fates == dict.fromkeys([f"12:{minute:02}" for minute in range(1, 8)], "accepted: answered")
        assert len(world.api.runs) == 7

    in_world(story)


def test_after_a_step_back_what_was_passed_over_ahead_of_the_present_is_decided_anew() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.ledger.took = 0.001
        world.start()
        await world.until("12:01:30")
        world.ledger.pause(automation)
        await world.until("12:04:30")
        world.ledger.resume(automation)
        world.clock.step(-120.0)
        await world.after(timedelta(minutes=3))
        assert world.fates(automation) == {
            "12:01": "accepted: answered",
            "12:02": "skipped: paused",
            "12:03": "accepted: answered",
            "12:04": "accepted: answered",
            "12:05": "accepted: answered",
        }

    in_world(story)


@pytest.mark.parametrize("step", [-2.0, -20.0])
def test_a_small_step_back_starts_nothing_that_a_newer_one_has_coalesced(step: float) -> None:
    """The ledger does not take the past yet, and the newest occurrence was sent already."""

    async def story(world: World) -> None:
        automation = world.api.create("* * * * *")
        world.start()
        await world.until("12:03:30")
        world.kill()
        await world.until("13:00:10")
        claim, refused = world.ledger.claim, [LedgerUnavailable("disk")]

        async def faulty(target: str, plan: ClaimPlan) -> Any:
            if plan.spans and refused:
                raise refused[0]
            return await claim(target, plan)

        world.ledger.__dict__["claim"] = faulty
        world.start()
        await world.after(20.0)
        assert world.fates(automation)["13:00"] == "accepted: answered"
        world.clock.step(step)
        await world.after(10.0)
        refused.clear()
        await world.after(80.0)
        assert world.fates(automation) == {
            **dict.fromkeys(("12:01", "12:02", "12:03", "13:00", "13:01"), "accepted: answered"),
            "12:04..12:58": "skipped: coalesced",
            "12:59": "skipped: coalesced",
        }

    in_world(story, policies=make_policies(start_within=timedelta(minutes=10)))


def test_decisions_of_a_clock_ahead_that_the_ledger_did_not_take_are_made_again() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("* * * * *")
        world.set(settle_time=timedelta(minutes=8, seconds=25))
        await world.until("12:01:30")
        world.clock.step(3600.0)
        world.start()
        world.api.script(automation, LOST_REQUEST)
        conclude = world.ledger.conclude

        async def until_the_first(occurrence: Occurrence, *more: Any) -> bool:
            concluded = await conclude(occurrence, *more)
            world.ledger.broken = "disk"
            return concluded

        world.ledger.__dict__["conclude"] = until_the_first
        while world.ledger.broken is None:
            await world.after(1.0)
        world.ledger.__dict__["conclude"] = conclude
        assert list(world.fates(automation).values()).count("waiting") > 5
        await world.after(20.0)
        world.clock.step(-3600.0)
        await world.after(20.0)
        world.ledger.broken = None
        await world.after(4500.0)
        fates = world.fates(automation)
        assert {fates[f"13:{minute:02}"] for minute in range(4, 20)} == {"accepted: answered"}

    in_world(story)


def test_a_clock_that_is_set_back_before_the_first_good_poll_loses_nothing_that_lies_ahead() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:40")
        world.kill()
        await world.until("12:10:00")
        world.clock.step(1800.0)  # unseen: nobody runs
        world.api.list_error = UpstreamError("down")
        world.start()
        await world.after(8)
        world.clock.step(-1800.0)
        await world.after(3)
        world.api.list_error = None
        await world.until("12:13:30")
        assert world.fates(automation) == {
            "12:01..12:09": "skipped: coalesced",
            **dict.fromkeys(["12:10", "12:11", "12:12", "12:13"], "accepted: answered"),
        }

    in_world(story)


def test_a_claim_ahead_waits_for_its_time_when_the_clock_steps_back() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:59")
        await world.after(0.5)
        assert world.fates(automation) == {"12:01": "claimed"}
        world.clock.step(-30.0)
        await world.after(29.0)
        assert world.api.arrivals == []
        await world.after(3.0)
        assert world.fates(automation) == {"12:01": "accepted: answered"}
        assert world.api.arrivals[0].at >= NOON + timedelta(minutes=1)

    in_world(story)


def test_what_was_seen_under_a_clock_that_was_ahead_is_on_record_as_it_is_evaluated() -> None:
    """The ledger is full while the clock goes back, so that what was seen before is recorded after."""

    async def story(world: World) -> None:
        world.start()
        await world.until("12:05:20")
        world.ledger.broken = "disk full"
        automation = world.api.create()
        await world.until("12:06:00")
        world.clock.step(-150.0)
        await world.after(60.0)
        world.ledger.broken = None
        await world.after(180.0)
        (version,) = world.ledger.versions()
        assert version.effective_from < NOON + timedelta(minutes=4)
        assert world.fates(automation) == dict.fromkeys(
            [f"12:0{minute}" for minute in range(4, 8)], "accepted: answered"
        )

    in_world(story)


def test_a_clock_that_went_back_while_nobody_ran_is_noticed_at_the_start() -> None:
    """What was passed over ahead of the new present is decided anew, and nothing fires twice."""

    async def story(world: World) -> None:
        automation = world.api.create()
        world.ledger.took = 0.001
        world.start()
        await world.until("12:01:30")
        world.ledger.pause(automation)
        await world.until("12:04:30")
        await world.stop()
        world.ledger.resume(automation)
        world.clock.step(-50.0)
        world.start()
        await world.after(70.0)
        assert world.fates(automation) == {
            "12:01": "accepted: answered",
            **dict.fromkeys(["12:02", "12:03"], "skipped: paused"),
            "12:04": "accepted: answered",
        }

    in_world(story)


def test_a_start_with_a_clock_from_long_ago_fires_nothing_until_an_api_agrees() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:02:30")
        await world.stop()
        world.clock.step(-365 * 86400.0)
        process = world.start()
        await world.after(timedelta(minutes=3))
        assert len(world.api.runs) == 2
        assert process.service.make_status().problems == [
            (
                "the clock stepped forward, or shows less than the ledger has seen, "
                "and no API has confirmed it yet"
            )
        ]
        assert [jump.seconds < -364 * 86400 for jump in world.told(ClockJumped)] == [True]
        world.clock.step(365 * 86400.0)
        await world.after(timedelta(minutes=2))
        assert world.fates(automation) == {
            "12:01": "accepted: answered",
            "12:02": "accepted: answered",
            "12:03..12:04": "skipped: coalesced",
            **dict.fromkeys(["12:05", "12:06", "12:07"], "accepted: answered"),
        }

    in_world(story)


@pytest.mark.parametrize("concurrency", Concurrency)
def test_nothing_is_sent_that_is_not_due_any_more_when_its_attempt_is_durable(
    concurrency: Concurrency,
) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        slow(world, "write_attempt", 4.0)
        process = world.start()
        await world.until("12:59:59")
        process.target.context.breaker.throttle(5.0)  # so that the attempt is not written with the claim
        await world.until("13:00:07")
        world.clock.step(-600.0)
        await world.after(580.0)
        assert world.api.runs == []
        await world.after(100.0)
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert len(world.api.runs) == 1

    in_world(
        story, begin=NOON + timedelta(minutes=59, seconds=20), policies=make_policies(concurrency=concurrency)
    )


def test_a_machine_that_starts_with_its_clock_ahead_fires_when_it_is_set_right() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.clock.step(3600.0)
        world.start()
        await world.after(10.0)
        world.clock.step(-3600.0)
        await world.until("12:03:30")
        assert world.runs(automation) == ["12:01:00.010", "12:02:00.010", "12:03:00.010"]

    in_world(story, policies=make_policies(catch_up=CatchUp.NONE))


def test_what_was_claimed_under_a_clock_that_was_ahead_keeps_nothing_of_the_present_waiting() -> None:
    """The API's clock is set along with ours, so that the time ahead is believed; what waits of it is due in
    half an hour again.
    """

    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:01:10")
        world.api.script(automation, Deed(took=20.0, starts=1.0))
        for step in (1800.0, -1800.0):
            world.clock.step(step)
            world.api.skew += step
            await world.after(15.0)
        await world.until("12:05:30")
        assert world.fates(automation)["12:31"] == "waiting"
        assert [fate for when, fate in world.fates(automation).items() if when < "12:06"] == [
            "accepted: answered"
        ] * 5
        assert [each[:8] for each in world.runs(automation)[-3:]] == ["12:03:00", "12:04:00", "12:05:00"]

    in_world(story, policies=make_policies(catch_up=CatchUp.ALL))


def test_an_attempt_that_was_written_for_a_time_that_lies_ahead_again_has_not_been_made() -> None:
    """It is not sent before something of the present, whose run would hide from the next process that it
    started none.
    """

    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:01:30")
        for step in (1800.0, -1800.0):
            world.clock.step(step)
            world.api.skew += step
            await world.after(29.5 if step > 0 else 0.1)
            assert world.row(automation, "12:32").attempts
        await world.until("12:02:02")
        world.kill()
        world.start()
        await world.until("12:04:30")
        assert [world.row(automation, f"12:0{minute}").fate for minute in (2, 3, 4)] == [
            "accepted: answered"
        ] * 3
        assert world.row(automation, "12:32").fate == "waiting"
        await world.until("12:32:30")
        assert world.row(automation, "12:32").fate == "accepted: answered"
        assert world.row(automation, "12:32").attempts.keys() == {1}

    in_world(story)


def test_what_a_killed_process_left_in_doubt_comes_first_also_when_it_is_due_ahead_again() -> None:
    """Else the run of what is due now would be the newest one, and hide whether the other one has started its
    own.
    """

    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:01:40")
        world.api.script(automation, LOST_ANSWER)
        for step in (1800.0, -1800.0):
            world.clock.step(step)
            world.api.skew += step
            await world.after(3.0)
        await world.until("12:02:02")
        assert world.fates(automation)["12:02"] == "waiting"
        world.kill()
        world.start()
        await world.until("12:05:30")
        fates = {when: fate for when, fate in world.fates(automation).items() if fate != "waiting"}
        assert fates == {f"12:0{minute}": "accepted: answered" for minute in range(1, 6)} | {
            "12:27": "accepted: found"
        }
        assert len(world.api.runs) == 6

    in_world(story, policies=make_policies(catch_up=CatchUp.ALL))


def test_what_is_in_doubt_and_due_ahead_again_is_found_out_now_also_when_it_could_be_sent_again() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.honours_keys = True
        world.set(idempotent=True)
        world.api.script(automation, LOST_ANSWER)
        world.start()
        await world.until("13:00:05")
        world.clock.step(-1800.0)
        await world.after(60.0)
        assert world.fates(automation) == {"13:00": "accepted: found"}

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20))


# ---------------------------------------------------------------- steps forward


def test_a_long_step_forward_is_not_believed_until_the_api_agrees() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:01:30")
        world.clock.step(7200.0)
        await world.until("12:10:00")
        assert len(world.api.runs) == 1
        world.clock.step(-7200.0)  # it was a mistake
        await world.until("12:12:30")
        assert world.fates(automation) == {
            "12:01": "accepted: answered",
            "12:02..12:09": "skipped: coalesced",
            "12:10": "accepted: answered",
            "12:11": "accepted: answered",
            "12:12": "accepted: answered",
        }

    in_world(story)


def test_a_clock_that_was_behind_and_is_set_right_is_believed_when_the_api_agrees() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.clock.step(-7200.0)
        world.start()
        await world.after(30.0)
        world.clock.step(7200.0)
        await world.until("12:20:30")
        assert world.runs(automation)[-2:] == ["12:10:00.010", "12:20:00.010"]

    in_world(story)


def test_a_clock_that_one_target_confirms_is_believed_by_all_at_once() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        other = world.add_target("other")
        world.clock.step(-7200.0)
        world.start()
        await world.after(10.0)
        world.api.list_error = UpstreamError("HTTP 503", status=503, retry_after=3600.0)
        world.api.shows_date = False
        other.list_took = 1.0  # so it answers after the first one has failed
        world.clock.step(7200.0)
        await world.until("12:20:30")
        assert world.runs(automation)[-2:] == ["12:10:00.010", "12:20:00.010"]

    in_world(story)


def test_nothing_is_fired_between_a_step_and_its_being_noticed() -> None:
    """Between two ticks of the watch something comes due: whoever decides looks at the clock first."""

    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:58")
        await world.after(0.95)  # the planner wakes 50 ms later
        world.clock.step(1800.0)
        await world.after(0.5)
        assert world.fates(automation) == {}
        await world.after(60.0)
        assert world.api.arrivals == []

    in_world(story)


def test_a_short_step_forward_makes_late_what_it_passes_over() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:40")
        world.clock.step(30.0)
        await world.after(10.0)
        assert world.fates(automation) == {"12:01": "accepted: answered"}
        assert [event.kind for event in world.concluded(automation)] == ["catch_up"]

    in_world(story)


@pytest.mark.parametrize(
    ("step", "deed", "expected"),
    [
        (-1800.0, LOST_ANSWER, "accepted: found"),
        (-45.0, LOST_ANSWER, "accepted: found"),
        (45.0, LOST_ANSWER, "accepted: found"),
        (1800.0, LOST_ANSWER, "accepted: found"),  # to find out, no wall clock is needed
        (-1800.0, RESET_BEFORE, "waiting"),  # it is half past twelve again
        (-45.0, RESET_BEFORE, "accepted: answered"),
        (45.0, RESET_BEFORE, "accepted: answered"),
        (1800.0, RESET_BEFORE, "waiting"),  # nobody can tell whether there is still time
    ],
)
def test_an_attempt_in_doubt_is_found_out_rightly_whatever_the_clock_is_set_to(
    step: float, deed: Deed, expected: str
) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, deed)
        world.start()
        await world.until("13:00:05")
        world.clock.step(step)
        await world.after(180.0)
        assert world.fates(automation) == {"13:00": expected}
        assert len(world.api.runs) == (expected != "waiting")

    in_world(
        story,
        begin=NOON + timedelta(minutes=59, seconds=20),
        policies=make_policies(start_within=timedelta(hours=1)),
    )


def test_what_was_sent_again_under_its_key_is_placed_by_its_first_attempt() -> None:
    """The clock went back after the first one, which started the run; the newest one was written under the
    clock of then.
    """

    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.api.honours_keys = True
        world.set(idempotent=True)
        world.api.script(automation, NULL_RUN)
        world.start()
        await world.until("12:01:05")
        world.clock.step(-40.0)
        await world.until("12:01:50")
        world.kill()
        world.start()
        await world.until("12:06:00")
        assert world.fates(automation) == {"12:01": "accepted: found"}
        assert len(world.api.runs) == 1

    in_world(story, policies=make_policies(start_within=timedelta(minutes=2)))


def test_an_attempt_is_not_placed_by_what_was_known_of_the_clocks_before_ours_was_set() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:01:10")
        assert world.row(automation, "12:01").attempts[1].clock_offset == 0.0
        world.api.list_took = 120.0  # no answer shows the API's clock before the next attempt is written
        world.clock.step(-20.0)
        await world.until("12:02:19")
        await world.after(0.5)
        assert world.row(automation, "12:02").attempts[1].clock_offset is None

    in_world(story)


@pytest.mark.parametrize("step", [-1200.0, 1200.0])
def test_a_reading_after_which_the_clock_was_set_says_nothing_of_an_attempt_in_doubt(
    monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.api.script(automation, LOST_ANSWER)
        world.api.shows_date = False  # so that the attempt has no place on the API's clock
        steps = iter([step])
        retrieve = world.api.retrieve

        async def set_right_then(automation_id: str) -> Automation | None:
            found = await retrieve(automation_id)
            world.clock.step(next(steps, 0.0))
            return found

        monkeypatch.setattr(world.api, "retrieve", set_right_then)
        world.start()
        await world.until("12:01:20")
        world.api.shows_date = True
        await world.after(50.0)
        assert world.row(automation, "12:01").fate == "accepted: found"

    in_world(story)


@pytest.mark.parametrize("step", [-1800.0, -45.0, 45.0, 1800.0])
def test_a_run_in_doubt_is_found_also_when_the_clock_of_the_api_is_set_along_with_ours(step: float) -> None:
    """As on one machine: the run began by a clock that shows something else since."""

    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, LOST_ANSWER)
        world.start()
        await world.until("13:00:05")
        world.clock.step(step)
        world.api.skew += step
        await world.after(180.0)
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert len(world.api.runs) == 1

    in_world(
        story,
        begin=NOON + timedelta(minutes=59, seconds=20),
        policies=make_policies(start_within=timedelta(hours=1)),
    )


@pytest.mark.parametrize("step", [-1800.0, -45.0, 45.0, 1800.0])
@pytest.mark.parametrize("along", [False, True], ids=["ours alone", "the API's along with it"])
def test_a_run_in_doubt_is_found_by_the_next_process_also_when_the_clock_was_set_in_between(
    step: float, *, along: bool
) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, LOST_ANSWER)
        world.start()
        await world.until("13:00:02")
        world.kill()
        world.clock.step(step)
        world.api.skew += step * along
        world.start()
        await world.after(180.0)
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert len(world.api.runs) == 1

    in_world(
        story,
        begin=NOON + timedelta(minutes=59, seconds=20),
        policies=make_policies(start_within=timedelta(hours=1)),
    )


@pytest.mark.parametrize("step", [-1800.0, -45.0, -20.0, 45.0, 1800.0])
@pytest.mark.parametrize("set_right", [False, True])
def test_a_run_in_doubt_is_found_by_the_next_process_when_the_clock_was_set_during_the_request(
    step: float, *, set_right: bool
) -> None:
    """The attempt ended so long after it was sent as it took, whatever the clock showed then."""

    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, carried_out_after(40.0))
        world.start()
        await world.until("13:00:02")
        world.clock.step(step)
        await world.after(31.0)
        (attempt,) = world.row(automation, "13:00").attempts.values()
        assert attempt.result == AttemptResult.UNKNOWN
        world.kill()
        if set_right:
            world.clock.step(-step)
        await world.after(10.0)
        world.start()
        await world.after(180.0)
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert len(world.api.runs) == 1

    in_world(
        story,
        begin=NOON + timedelta(minutes=59, seconds=20),
        policies=make_policies(start_within=timedelta(hours=1)),
    )


@pytest.mark.parametrize("set_right", [False, True])
def test_a_run_is_found_by_the_next_process_also_when_the_clock_was_set_between_its_claim_and_its_first_byte(
    *, set_right: bool
) -> None:
    """What was known of the API's clock when the attempt was written says nothing of the clock by which it
    was sent.
    """

    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, answered(502, starts=0.01))
        world.start()
        await world.until("12:59:59")
        await world.after(0.4)
        world.api.list_error = world.api.get_error = UpstreamError("HTTP 500", status=500)
        world.clock.step(21.0)
        await world.after(1.0)
        world.kill()
        world.api.list_error = world.api.get_error = None
        assert len(world.api.runs) == 1
        if set_right:
            world.clock.step(-21.0)
        await world.after(21.0)
        world.start()
        await world.after(180.0)
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert len(world.api.runs) == 1

    in_world(
        story,
        begin=NOON + timedelta(minutes=59, seconds=20),
        policies=make_policies(start_within=timedelta(hours=1)),
    )


def test_the_next_process_finds_a_run_that_a_clock_ahead_sent_before_all_clocks_were_set_back() -> None:
    """The run seems to begin half an hour from now, and nobody knows what the clock of the API showed when
    the attempt was sent.
    """

    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, LOST_ANSWER)
        world.api.shows_date = False
        world.clock.step(1800.0)
        world.api.skew += 1800.0
        world.start()
        await world.after(45.0)
        assert len(world.api.runs) == 1
        world.kill()
        world.clock.step(-1800.0)
        world.api.skew -= 1800.0
        world.api.shows_date = True
        world.start()
        await world.after(2400.0)
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert len(world.api.runs) == 1

    in_world(
        story,
        begin=NOON + timedelta(minutes=29, seconds=20),
        policies=make_policies(start_within=timedelta(hours=1)),
    )


@pytest.mark.parametrize(
    ("first", "then", "down", "reason"),
    [
        (40.0, -40.0, 90.0, Reason.FOUND),
        (40.0, -40.0, 45.0, Reason.FOUND),  # at the start, the attempt seems to be some seconds old
        (40.0, 0.0, 90.0, Reason.FOUND),
        (-50.0, 20.0, 90.0, Reason.FOUND),
        # the run seems to begin minutes later, as the run of a person does
        (-430.0, 560.0, 90.0, Reason.COVERED),
        (-430.0, 430.0, 90.0, Reason.COVERED),
    ],
)
def test_a_run_sent_by_a_clock_that_nobody_could_compare_is_found_when_it_begins_near_the_recorded_end(
    first: float, then: float, down: float, reason: Reason
) -> None:
    """The list could not be read since the clock was set, and the clock is set again before the next start,
    ``down`` seconds later.
    """

    async def story(world: World) -> None:
        automation = world.api.create("* * * * *")
        world.start()
        await world.until("12:01:10")
        world.api.script(automation, LOST_ANSWER)
        world.api.list_error = world.api.get_error = UpstreamError("HTTP 500", status=500)
        world.api.shows_date = False
        world.clock.step(first)
        while len(world.api.runs) == 1:
            await world.after(1.0)
        await world.after(2.0)
        world.kill()
        world.clock.step(then)
        world.api.list_error = world.api.get_error = None
        world.api.shows_date = True
        await world.after(down)
        world.start()
        await world.after(20.0)
        run = world.api.runs[1]
        (row,) = [row for row in world.ledger.rows.values() if row.reason in {Reason.FOUND, Reason.COVERED}]
        is_found = reason is Reason.FOUND
        assert (row.reason, row.run_id) == (reason, run.id if is_found else None)
        assert [doubled.run_id for doubled in world.told(RunDoubled)] == ([] if is_found else [run.id])
        assert len({run.key for run in world.api.runs}) == len(world.api.runs)
        assert world.told(RunForeign) == []

    in_world(story, policies=make_policies(start_within=timedelta(hours=1)))


def test_what_a_killed_process_sent_settles_also_when_the_clock_went_ahead_in_between() -> None:
    """By the wall clock it settled long ago; by the clock that counts, the request is still on its way."""

    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, carried_out_after(15.0))
        world.start()
        await world.until("13:00:02")
        world.kill()
        world.clock.step(1800.0)
        world.start()
        await world.after(10.0)
        world.clock.step(-1800.0)
        await world.after(180.0)
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert len(world.api.runs) == 1

    in_world(
        story,
        begin=NOON + timedelta(minutes=59, seconds=20),
        policies=make_policies(start_within=timedelta(hours=1)),
    )


def test_what_the_clock_did_before_a_target_began_is_no_news_to_it() -> None:
    """A daemon that waits for the lock of another one watches nothing; when it takes over, nothing of the
    coming hour is missed.
    """

    async def story(world: World) -> None:
        automation = world.api.create("*/5 * * * *")
        world.clock.step(-3000.0)
        watch = ClockWatch(world.clock, world.events.append)
        world.clock.step(3000.0)
        world.start(watch)
        await world.until("12:11:00")
        assert [jump.seconds for jump in world.told(ClockJumped)] == [3000.0]
        assert world.fates(automation) == {"12:05": "accepted: answered", "12:10": "accepted: answered"}

    in_world(story, policies=make_policies(catch_up=CatchUp.NONE))


# ---------------------------------------------------------------- suspends


@pytest.mark.parametrize("step", [-40.0, -5.0, 5.0, 40.0])
@pytest.mark.parametrize("deed", [LOST_ANSWER, RESET_BEFORE, Deed(took=30.0, starts=25.0)])
def test_nor_does_it_matter_what_the_clock_is_set_to_while_nobody_runs(step: float, deed: Deed) -> None:
    """What a dead process left stands on the wall clock of then; the API's clock says where that was."""

    async def story(world: World) -> None:
        automation = world.api.create("1,6 12 * * *")
        world.api.script(automation, deed)
        world.start()
        await world.until("12:01:05")
        world.kill()
        world.clock.step(step)
        await world.after(2.0)
        world.start()
        await world.until("12:05:00")
        started = "answered" if deed is RESET_BEFORE else "found"
        assert world.fates(automation) == {"12:01": f"accepted: {started}"}
        assert len(world.api.runs) == 1

    in_world(story)


@pytest.mark.parametrize("step", [-3600.0, -50.0, -10.0, 10.0, 50.0])
@pytest.mark.parametrize(("killed", "starts"), [(False, 0.5), (False, 20.0), (True, 0.5)])
def test_nor_that_the_clock_of_the_api_is_set_with_it(step: float, killed: bool, starts: float) -> None:
    """Both on one machine: the run began on one side of the step or on the other."""

    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.api.script(automation, Deed(took=30.0, starts=starts, hears=LOST_ANSWER.hears))
        world.start()
        await world.until("12:01:05")
        if killed:
            world.kill()
        world.clock.step(step)
        world.api.skew = step
        await world.after(2.0)
        if killed:
            world.start()
        await world.until("12:04:00")
        assert world.fates(automation) == {"12:01": "accepted: found"}
        assert len(world.api.runs) == 1

    in_world(story)


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("latest", {"12:10..12:20": "skipped: coalesced", "12:30": "accepted: answered"}),
        ("none", {"12:10..12:30": "skipped: missed"}),
    ],
)
def test_a_suspend_is_late_time_under_the_policies(catch_up: str, expected: dict[str, str]) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:05:00")
        world.clock.suspend(28 * 60.0)
        await world.after(30.0)
        assert world.fates(automation) == expected

    in_world(story, policies=make_policies(catch_up=CatchUp(catch_up)))


def test_an_attempt_that_was_written_before_a_suspend_is_written_anew() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:59")
        await world.after(0.5)
        assert world.fates(automation) == {"12:01": "claimed"}
        world.clock.suspend(30.0)
        await world.after(5.0)
        row = world.row(automation, "12:01")
        assert row.fate == "accepted: answered"
        assert row.attempts.keys() == {1}
        assert row.attempts[1].written_at >= NOON + timedelta(seconds=89)

    in_world(story)


def test_a_clock_that_is_set_right_after_a_suspend_misses_no_occurrence_that_comes_due_later() -> None:
    """A virtual machine that is resumed has its clock set at once: nobody ran until then, by the clock as it
    is now.
    """

    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:02:30")
        world.clock.step(-3700.0)
        await world.after(10.0)
        world.clock.suspend(600.0)
        world.clock.step(3700.0)
        await world.until("12:15:30")
        fates = world.fates(automation)
        assert [fates[minute] for minute in ("12:14", "12:15")] == ["accepted: answered"] * 2

    in_world(story, policies=make_policies(catch_up=CatchUp.NONE))


def test_what_is_disabled_while_the_machine_sleeps_is_not_sent() -> None:
    """The attempt in the claim is too old by then, so policy is asked again; and a poll comes with the
    awakening.
    """

    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.start()
        await world.until("12:59:59")
        await world.after(0.5)
        world.clock.suspend(1800.0)
        world.ledger.pause(automation)
        await world.after(5.0)
        assert world.fates(automation) == {"13:00": "skipped: paused"}

    in_world(
        story,
        begin=NOON + timedelta(minutes=59, seconds=20),
        policies=make_policies(start_within=timedelta(hours=1)),
    )


def test_the_api_going_down_with_the_clock_in_doubt_stops_everything_until_it_is_back() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:30")
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        world.api.shows_date = False
        world.clock.step(120.0)
        await world.until("12:05:00")
        assert world.api.arrivals == []
        world.clock.step(-120.0)
        world.api.list_error = None
        world.api.shows_date = True
        await world.until("12:06:30")
        assert world.fates(automation)["12:06"] == "accepted: answered"

    in_world(story)


def test_no_plan_is_made_by_a_clock_that_was_set_while_it_was_prepared() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:50")
        world.ledger.slow["read_pauses"] = 0.2
        await world.until("12:00:59")
        await world.after(0.1)
        world.clock.step(7200.0)
        await world.after(0.4)
        world.clock.step(-7200.0)
        await world.until("12:03:30")
        assert world.fates(automation) == dict.fromkeys(["12:01", "12:02", "12:03"], "accepted: answered")

    in_world(story, policies=make_policies(catch_up=CatchUp.ALL))


def test_one_that_was_claimed_by_a_clock_that_was_ahead_holds_up_none_that_is_due_before() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.clock.step(3600.0)
        world.start()
        await world.until("12:00:59")
        await world.after(0.5)
        world.clock.step(-3600.0)
        await world.until("12:03:30")
        fates = world.fates(automation)
        assert fates.pop("13:01") == "waiting"
        assert fates == dict.fromkeys(
            ["12:02", "12:03"], "accepted: answered"
        )  # what it is was known from 12:01 on
        await world.until("13:01:30")
        assert world.fates(automation)["13:01"] == "accepted: answered"

    in_world(story)


def test_nor_does_one_that_was_due_by_that_clock() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.clock.step(3600.0)
        world.api.deed = REFUSED
        world.start()
        await world.until("12:01:30")
        world.clock.step(-3600.0)
        world.api.deed = Deed()
        await world.until("12:04:30")
        fates = world.fates(automation)
        assert fates.pop("13:01") == "waiting"
        assert fates == dict.fromkeys(["12:02", "12:03", "12:04"], "accepted: answered")

    in_world(story)
