"""Places under load: polls go on, throughput is the budget's, a shortage is shared, and requests that hang
keep nobody else waiting.
"""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from scheduler.core.errors import UpstreamError
from scheduler.core.events import (
    BudgetExhausted,
    BudgetRecovered,
    DaemonStopped,
    TargetRelieved,
    TargetSaturated,
)
from scheduler.core.forecast import ForecastOccurrence, Polls, make_forecast
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import CatchUp
from scheduler.core.response import AttemptResponse
from scheduler.daemon.clock import LONGEST_BACK_OFF
from scheduler.upstream.budget import Budget
from tests.daemon.world import NOON, World, in_world, slow
from tests.defaults import make_policies
from tests.fakes import RESET_BEFORE, Deed, answered

HANGS = Deed(took=29.0)


def limit(world: World, per_minute: int, per_hour: int = 100_000, *, polls: bool = True) -> None:
    """Give the target a budget; without ``polls``, its polls and readings need none of it."""
    budget = Budget(per_minute=per_minute, per_hour=per_hour, clock=world.clock)
    if polls:
        world.api.budget = budget
    else:
        world.api.__dict__.update(reserve=budget.reserve, estimate_wait=budget.estimate_wait)


def sent_by_minute(world: World, minutes: range) -> list[int]:
    sent = Counter(int((arrival.at - NOON).total_seconds() // 60) for arrival in world.api.arrivals)
    return [sent[minute] for minute in minutes]


def part_lost(world: World, automation: str) -> float:
    """Which part of its occurrences an automation lost."""
    fates = Counter(row.fate for row in world.ledger.of(automation) for _ in range(row.count))
    return 1 - fates["accepted: answered"] / fates.total()


# ---------------------------------------------------------------- polls


def test_fires_that_need_almost_the_whole_budget_do_not_starve_the_polls() -> None:
    """The proportions of 64 every-minute automations on the default budget, a tenth of its size, for six
    hours.
    """

    async def story(world: World) -> None:
        limit(world, 40, 500)
        automations = [world.api.create() for _ in range(6)]
        world.start()
        await world.until("18:00:30")
        for automation in automations:
            assert Counter(world.fates(automation).values()) == {"accepted: answered": 360}
        assert max(later - earlier for earlier, later in pairwise(world.api.polls)) <= timedelta(seconds=31)

    in_world(story)


def test_beyond_the_budget_polls_go_on_and_what_is_disabled_stops() -> None:
    async def story(world: World) -> None:
        limit(world, 40, 500)
        automations = [world.api.create() for _ in range(12)]
        world.start()
        await world.until("13:10:20")
        world.api.edit(automations[0], enabled=False)
        await world.until("13:12:30")
        fired = len(world.api.runs_of(automations[0]))
        await world.until("13:50:00")
        assert len(world.api.runs_of(automations[0])) == fired
        assert max(later - earlier for earlier, later in pairwise(world.api.polls)) <= timedelta(seconds=121)

    in_world(story)


def test_a_list_of_many_pages_is_read_more_rarely_but_never_more_rarely_than_every_two_minutes() -> None:
    async def story(world: World) -> None:
        limit(world, 400, 1000)
        world.api.pages = 12
        for _ in range(12):
            world.api.create()
        world.start()
        await world.until("13:30:00")
        gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(world.api.polls)]
        assert max(gaps) <= 125
        assert max(gaps) > 60

    in_world(story)


# ---------------------------------------------------------------- throughput and fairness


@pytest.mark.parametrize("automations", [30, 22])
def test_throughput_is_the_budget_and_the_shortage_is_shared(automations: int) -> None:
    async def story(world: World) -> None:
        limit(world, 20, polls=False)
        created = [world.api.create() for _ in range(automations)]
        world.start()
        await world.until("12:30:30")
        assert sent_by_minute(world, range(1, 30)) == [20] * 29
        shortage = automations / 20 - 1
        assert max(part_lost(world, each) for each in created) <= shortage + 0.1

    in_world(story)


@pytest.mark.parametrize("excess", [1.1, 1.5])
def test_every_occurrence_has_an_outcome_when_the_budget_binds(excess: float) -> None:
    async def story(world: World) -> None:
        limit(world, 20, 900)
        created = [world.api.create() for _ in range(int(13 * excess))]
        created += [world.api.create("*/5 * * * *") for _ in range(5)]
        world.start()
        await world.until("13:15:30")
        for automation in created:
            world.api.edit(automation, enabled=False)
        await world.after(600)
        world.assert_settled()
        fates = Counter(row.fate for row in world.ledger.rows.values())
        assert set(fates) <= {
            "accepted: answered",
            "skipped: coalesced",
            "expired: not_started",
            "skipped: deleted",
        }
        assert len(world.api.runs_by_key()) == fates["accepted: answered"]

    in_world(story)


def test_a_crowd_due_at_once_costs_the_one_that_is_due_every_minute_nothing() -> None:
    async def story(world: World) -> None:
        limit(world, 80)
        crowd = [world.api.create("5 * * * *") for _ in range(200)]
        frequent = world.api.create()
        world.start()
        await world.until("12:12:30")
        assert set(world.fates(frequent).values()) == {"accepted: answered"}
        assert {world.row(each, "12:05").fate for each in crowd} == {"accepted: answered"}
        assert max(sent_by_minute(world, range(1, 13))) <= 80

    in_world(story)


def test_a_backlog_of_one_automation_gives_way_to_the_first_occurrence_of_the_others() -> None:
    async def story(world: World) -> None:
        limit(world, 6, polls=False)
        backlog = world.api.create()
        world.own_policies[backlog] = make_policies(catch_up=CatchUp.ALL, start_within=timedelta(hours=2))
        others = [world.api.create("10 * * * *") for _ in range(5)]
        world.start()
        await world.until("12:01:30")
        world.api.deed = answered(503, took=0.01)
        world.api.list_error = UpstreamError("down")
        await world.until("12:09:30")
        world.api.deed, world.api.list_error = Deed(), None
        await world.until("12:11:00")
        assert {world.row(each, "12:10").fate for each in others} == {"accepted: answered"}

    in_world(story)


@pytest.mark.parametrize("start_within", [None, timedelta(minutes=10)])
def test_automations_that_catch_up_on_all_lose_no_more_than_the_others(
    start_within: timedelta | None,
) -> None:
    """The demand is a quarter over the budget. Occurrences that wait behind others of their automation are
    not the last for ever.
    """

    async def story(world: World) -> None:
        limit(world, 8, polls=False)
        automations = [world.api.create() for _ in range(6)] + [
            world.api.create("*/3 * * * *") for _ in range(12)
        ]
        for each in automations[:2]:
            world.own_policies[each] = make_policies(catch_up=CatchUp.ALL, start_within=start_within)
        world.start()
        await world.until("13:15:30")
        assert max(part_lost(world, each) for each in automations) <= 0.25 + 0.1

    in_world(story)


def test_an_occurrence_that_coalesces_a_waiting_one_takes_over_its_waiting_time() -> None:
    """The fourth place goes to the longest waiting. Its automation hung, so that none of the other places is
    for it.
    """

    async def story(world: World) -> None:
        limit(world, 1, polls=False)
        frequent = world.api.create()
        world.api.script(frequent, HANGS)  # the first place
        for _ in range(2):
            world.api.create("2 * * * *")  # the second and the third
        for _ in range(3):
            world.api.create("3 * * * *")  # wait for the fourth too, but since a later instant
        world.start()
        await world.until("12:04:30")
        assert world.fates(frequent) == {
            "12:01": "accepted: answered",
            "12:02": "skipped: coalesced",
            "12:03": "skipped: coalesced",
            "12:04": "accepted: answered",
        }

    in_world(story)


def test_the_waiting_time_is_taken_over_too_while_the_api_asks_to_wait() -> None:
    async def story(world: World) -> None:
        limit(world, 1, polls=False)
        frequent, throttled = world.api.create(), world.api.create("2 * * * *")
        world.api.script(frequent, HANGS)  # the first place
        world.api.script(throttled, answered(429, retry_after=90.0))  # the second place
        for _ in range(3):
            world.api.create("3 * * * *")  # the first of them gets the third place, at 12:03:30
        world.start()
        await world.until("12:03:10")
        world.api.delete(throttled)
        await world.until("12:05:00")
        assert (
            world.row(frequent, "12:03").fate == "skipped: coalesced"
        )  # at 12:04, while it waited for the budget
        assert world.row(frequent, "12:04").fate == "accepted: answered"

    in_world(story)


# ---------------------------------------------------------------- while an occurrence waits


def test_the_status_names_what_waits_and_a_newer_occurrence_ends_the_wait_at_once() -> None:
    async def story(world: World) -> None:
        limit(world, 1, 1, polls=False)
        first, second = world.api.create(name="first"), world.api.create(name="second")
        process = world.start()
        await world.until("12:01:30")
        assert process.target.make_status().places.waiting == 1
        waits = await process.target.waits.make_status()
        assert waits.causes == {Cause.BUDGET: 1}
        assert waits.first[0].scheduled_for == waits.first[0].since == NOON + timedelta(minutes=1)
        await world.until("12:02:00")
        await world.after(0.1)
        fates = [world.fates(each).get("12:01") for each in (first, second)]
        assert sorted(map(str, fates)) == ["accepted: answered", "skipped: coalesced"]
        (step,) = [
            step
            for each in (first, second)
            for step in world.row(each, "12:01").steps
            if step.cause is Cause.BUDGET
        ]
        assert step.until is not None
        assert (step.until - step.at).total_seconds() == pytest.approx(60, abs=0.1)

    in_world(story)


@pytest.mark.parametrize("ended_by", ["pause", "disable", "edit"])
def test_withdrawal_ends_the_wait_and_the_place_goes_to_another(ended_by: str) -> None:
    async def story(world: World) -> None:
        limit(world, 1, polls=False)
        waiting = [world.api.create("1 * * * *") for _ in range(3)]
        world.start()
        await world.until("12:01:20")
        left = [each for each in waiting if world.row(each, "12:01").outcome is None]
        assert len(left) == 2
        for each in left:
            if ended_by == "pause":
                world.ledger.pause(each)
            elif ended_by == "disable":
                world.api.edit(each, enabled=False)
        if ended_by == "edit":
            world.api.delete(left[0])
            world.api.delete(left[1])
        await world.until("12:03:30")
        assert {world.row(each, "12:01").fate for each in left} <= {"skipped: paused", "skipped: deleted"}
        assert len(world.api.arrivals) == 1

    in_world(story)


def test_what_has_coalesced_an_older_one_keeps_its_row_when_an_edit_from_before_its_instant_is_seen() -> None:
    """Nothing was sent for it; but without its row nothing would explain the one that it coalesced."""

    async def story(world: World) -> None:
        limit(world, 1, 1, polls=False)
        world.api.create("0 12 * * *")  # it has the only place
        automation = world.api.create("1-59 * * * *")
        world.start()
        await world.until("12:00:51")
        world.api.list_error = UpstreamError("HTTP 503", status=503)
        await world.until("12:00:55")
        world.api.edit(automation, cron_expression="*/5 * * * *")
        await world.until("12:02:01")
        assert world.fates(automation) == {"12:01": "skipped: coalesced", "12:02": "waiting"}
        world.api.list_error = None
        await world.until("12:02:40")
        assert world.fates(automation) == {"12:01": "skipped: coalesced", "12:02": "skipped: deleted"}
        assert len(world.api.arrivals) == 1

    in_world(story, begin=NOON - timedelta(seconds=20))


def test_an_occurrence_that_coalesced_an_older_one_keeps_its_row_after_the_clock_was_set_back() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.set(poll_interval=timedelta(seconds=20))
        process = world.start()
        await world.until("12:00:30")
        world.api.admits = False
        await world.until("12:01:51")
        world.api.list_error = UpstreamError("HTTP 503", status=503)
        await world.until("12:02:00")
        await world.after(0.1)
        assert world.fates(automation) == {"12:01": "skipped: coalesced", "12:02": "waiting"}
        world.clock.step(-1.0)
        world.api.edit(automation, cron_expression="*/5 * * * *")
        world.api.list_error = None
        process.target._poller.forget_failures()
        await world.after(0.3)
        assert world.clock.now() < NOON + timedelta(minutes=2)
        assert world.fates(automation) == {"12:01": "skipped: coalesced", "12:02": "skipped: deleted"}

    in_world(story)


def test_what_was_claimed_ahead_together_with_an_older_one_keeps_its_row() -> None:
    """The planner coalesced the older one before the newer one was due."""

    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("11:59:40")
        world.kill()
        await world.until("12:00:59")
        process = world.start()
        await world.after(0.1)
        assert world.fates(automation) == {"12:00": "skipped: coalesced", "12:01": "claimed"}
        world.api.edit(automation, cron_expression="*/5 * * * *")
        await world.after(0.01)
        process.target._poller.forget_failures()
        await world.after(0.2)
        assert world.clock.now() < NOON + timedelta(minutes=1)
        assert world.fates(automation) == {"12:00": "skipped: coalesced", "12:01": "skipped: deleted"}
        assert world.api.arrivals == []

    in_world(story, begin=NOON - timedelta(minutes=1))


def test_the_deadline_ends_the_wait_and_says_what_was_missing() -> None:
    async def story(world: World) -> None:
        limit(world, 1, 1, polls=False)
        world.policies = make_policies(start_within=timedelta(minutes=5))
        automations = [world.api.create("1 * * * *") for _ in range(2)]
        world.start()
        await world.until("12:06:30")
        (expired,) = [
            world.row(each, "12:01")
            for each in automations
            if world.row(each, "12:01").fate == "expired: not_started"
        ]
        assert expired.error == "the request budget of the target had no place for it"

    in_world(story)


def test_what_got_its_place_just_before_the_deadline_is_not_sent_after_it() -> None:
    """The row of the attempt takes the ledger longer than is left."""

    async def story(world: World) -> None:
        limit(world, 1, polls=False)
        world.policies = make_policies(start_within=timedelta(seconds=63))
        automations = [world.api.create("1 * * * *") for _ in range(2)]
        slow(world, "write_attempt", 5.0)
        world.start()
        await world.until("12:03:30")
        assert sorted(world.row(each, "12:01").fate for each in automations) == [
            "accepted: answered",
            "expired: not_started",
        ]
        assert len(world.api.arrivals) == 1

    in_world(story)


def test_a_place_that_is_not_used_is_given_back() -> None:
    """Its attempt could not be written in time, so it is not sent; the one place of the minute serves another
    attempt.
    """

    async def story(world: World) -> None:
        limit(world, 1, polls=False)
        automation = world.api.create("1 * * * *")
        world.api.script(automation, answered(429, retry_after=120.0))
        slow(world, "write_attempt", 11.0)  # longer than what is durable may be sent on
        world.start()
        await world.until("12:03:30")
        del world.ledger.__dict__["write_attempt"]
        await world.until("12:03:50")
        assert world.fates(automation) == {"12:01": "accepted: answered"}

    in_world(story)


def test_a_429_that_names_no_time_is_no_shortage_of_the_budget() -> None:
    """It blocks the budget for ten seconds; the target's own back-off is shorter, and so is that of polls."""

    async def story(world: World) -> None:
        limit(world, 1000)
        automations = [world.api.create("1 * * * *") for _ in range(4)]
        for each in automations:
            world.api.script(each, answered(429))
        process = world.start()
        await world.until("12:01:00")
        await world.after(0.015)
        assert world.api.budget is not None
        world.api.budget.block(10.0)  # as the client does
        process.target._request_poll()
        await world.until("12:01:08")
        assert (await process.target.waits.make_status()).causes == {Cause.THROTTLED: 4}
        await world.until("12:03:00")
        assert {world.row(each, "12:01").fate for each in automations} == {"accepted: answered"}
        assert {step.cause for each in automations for step in world.row(each, "12:01").steps} == {
            Cause.THROTTLED
        }
        assert world.told(BudgetExhausted) == []

    in_world(story)


def test_what_waits_while_the_api_asks_to_wait_does_not_wait_for_the_budget() -> None:
    async def story(world: World) -> None:
        limit(world, 1000)
        world.set(max_in_flight=2)
        automations = [world.api.create("1 * * * *") for _ in range(8)]
        for each in automations:
            world.api.script(each, Deed(took=0.05, hears=AttemptResponse(429, retry_after=90.0), starts=None))
        process = world.start()
        await world.until("12:01:00")
        await world.after(0.04)
        assert world.api.budget is not None
        world.api.budget.block(90.0)  # as the client does for a 429
        await world.until("12:02:00")
        assert (len(process.target._dispatcher.places), world.told(BudgetExhausted)) == (0, [])
        await world.until("12:10:00")
        waits = {step.cause for each in automations for step in world.row(each, "12:01").steps}
        assert waits == {Cause.THROTTLED}
        assert all(step.detail for each in automations for step in world.row(each, "12:01").steps), (
            "each step names the end"
        )
        assert {world.row(each, "12:01").fate for each in automations} == {"accepted: answered"}

    in_world(story)


def test_a_shortage_is_told_once_when_it_begins_and_once_when_it_is_over() -> None:
    async def story(world: World) -> None:
        limit(world, 3, polls=False)
        automations = [world.api.create() for _ in range(5)]
        process = world.start()
        await world.until("12:20:30")
        (begun,) = world.told(BudgetExhausted)
        assert begun.waiting == 2
        since = process.target.make_status().places.exhausted_since
        assert since is not None
        assert (since - NOON).total_seconds() == pytest.approx(61, abs=0.1)
        for each in automations[:3]:
            world.api.edit(each, enabled=False)
        await world.until("12:26:00")
        (ended,) = world.told(BudgetRecovered)
        assert (ended.since - NOON).total_seconds() == pytest.approx(61, abs=0.1)
        assert len(world.told(BudgetExhausted)) == 1
        assert process.target.make_status().places.exhausted_since is None

    in_world(story)


def test_nothing_is_told_of_a_shortage_after_the_daemon_has_stopped() -> None:
    async def story(world: World) -> None:
        limit(world, 3, polls=False)
        for _ in range(5):
            world.api.create()
        world.start()
        await world.until("12:20:30")
        assert world.told(BudgetExhausted)
        await world.stop()
        await world.after(600)
        assert isinstance(world.events[-1], DaemonStopped)

    in_world(story)


# ---------------------------------------------------------------- requests that hang


def test_automations_that_hang_make_no_other_late() -> None:
    async def story(world: World) -> None:
        hanging = [world.api.create() for _ in range(70)]
        healthy = [world.api.create() for _ in range(130)]
        for each in hanging:
            world.api.script(each, *[HANGS] * 10)
        world.start()
        await world.until("12:04:40")
        late = Counter[str]()
        for row in (row for each in healthy for row in world.ledger.of(each)):
            assert row.lateness is not None
            minute = f"{row.occurrence.scheduled_for:%H:%M}"
            late[minute] = max(late[minute], row.lateness)  # type: ignore[assignment]  # seconds
        assert late.pop("12:01") <= 1.1  # nobody knew yet which of them hang
        assert max(late.values()) < 0.2

    in_world(story)


def test_no_more_requests_hang_than_may_and_the_target_is_saturated() -> None:
    async def story(world: World) -> None:
        world.set(max_in_flight=2, max_waiting=3)
        for each in [world.api.create("1 * * * *") for _ in range(6)]:
            world.api.script(each, HANGS)
        healthy = world.api.create("1 * * * *")
        process = world.start()
        await world.until("12:01:05")
        assert (
            len(world.api.arrivals) - (1 if world.api.runs_of(healthy) else 0) == 5
        )  # three have left max_in_flight, two hold it
        places = process.target.make_status().places
        assert (places.hanging, places.saturated_since is not None) == (5, True)
        assert (await process.target.waits.make_status()).causes == {
            Cause.ANSWER: 5,
            Cause.IN_FLIGHT: places.waiting,
        }
        assert places.waiting > 0
        (saturated,) = world.told(TargetSaturated)
        assert saturated.hanging == 3
        await world.until("12:02:10")
        assert {row.fate for row in world.ledger.rows.values()} == {"accepted: answered"}
        await world.until("12:06:00")
        (relieved,) = world.told(TargetRelieved)
        assert relieved.since - NOON < timedelta(seconds=63)
        assert process.target.make_status().places.saturated_since is None

    in_world(story)


def test_a_larger_max_waiting_counts_at_once_for_what_hangs_already() -> None:
    async def story(world: World) -> None:
        world.set(max_in_flight=2, max_waiting=1)
        for each in [world.api.create("1 * * * *") for _ in range(3)]:
            world.api.script(each, Deed(took=100.0))
        healthy = world.api.create("2 * * * *")
        process = world.start()
        await world.until("12:02:05")
        assert not world.api.runs_of(healthy)
        context = process.target.context
        settings, schedule = replace(context.settings, max_waiting=3), context.timetable.parse
        process.target.reconfigure(
            settings, context.upstream, context.ledger, schedule, since=world.clock.now()
        )
        await world.until("12:02:06")
        assert world.api.runs_of(healthy)

    in_world(story)


def test_all_places_are_free_again_when_nothing_is_under_way() -> None:
    """Answers, failures, requests that hang, and tasks that are cancelled: nothing keeps a place."""

    async def story(world: World) -> None:
        world.set(max_in_flight=2, max_waiting=2)
        deeds = [Deed(), HANGS, answered(500), answered(429, retry_after=5.0), answered(403), Deed(took=3.0)]
        for number in range(30):
            world.api.script(world.api.create("1 * * * *"), deeds[number % len(deeds)])
        process = world.start()
        await world.until("12:50:00")
        places = process.target._dispatcher.places
        assert (len(places), places._in_flight, places.hanging_count) == (0, 0, 0)

    in_world(story)


# ---------------------------------------------------------------- the probe of a held target


async def hold_and_probe(world: World, *, ledger_takes: float) -> list[float]:
    """Hold the target and have the ledger take its time for the first probe, whose answer is lost. Return
    when requests arrived then.
    """
    automations = [world.api.create("1 * * * *") for _ in range(3)]
    for each in automations:
        world.api.script(each, answered(401))
    process = world.start()
    await world.until("12:01:05")
    assert (len(world.api.arrivals), process.target.context.breaker.hold_error is not None) == (3, True)
    world.api.arrivals.clear()
    world.api.deed = RESET_BEFORE
    slow(world, "write_attempt", ledger_takes)
    while process.target.context.breaker._probe is None:
        await world.after(0.1)
    begun = world.clock.boottime()
    await world.after(ledger_takes - 0.5)
    del world.ledger.__dict__["write_attempt"]
    await world.until("12:04:00")
    world.api.deed = Deed()
    await world.until("12:08:00")
    assert {world.row(each, "12:01").fate for each in automations} == {"accepted: answered"}
    return [
        (arrival.at - world.clock.now()).total_seconds() + world.clock.boottime() - begun
        for arrival in world.api.arrivals
    ]


def test_the_time_of_a_probe_begins_when_it_is_sent() -> None:
    """The ledger takes 9 s for the row of the probe. The next probe goes a minute after the first byte of the
    first one.
    """

    async def story(world: World) -> None:
        first, second, *_ = await hold_and_probe(world, ledger_takes=9.0)
        assert first == pytest.approx(9.0, abs=0.2)
        assert second - first == pytest.approx(LONGEST_BACK_OFF, abs=1.1)

    in_world(story)


def test_a_probe_that_was_never_sent_keeps_no_other_waiting() -> None:
    """The ledger takes longer for the row of the probe than an attempt may be sent on its strength."""

    async def story(world: World) -> None:
        first, *_ = await hold_and_probe(world, ledger_takes=11.0)
        assert first == pytest.approx(11.0, abs=1.1)

    in_world(story)


# ---------------------------------------------------------------- the forecast of `check`


@pytest.mark.parametrize(("automations", "per_minute"), [(12, 400), (30, 20), (22, 20)])
def test_the_forecast_is_what_comes(automations: int, per_minute: int) -> None:
    """As many fires and as many lost occurrences as the forecast says, by the same arithmetic."""
    minutes = 30
    dues = [
        ForecastOccurrence(40.0 + minute * 60.0, 100.0 + minute * 60.0, str(number))
        for minute in range(minutes)
        for number in range(automations)
    ]
    foreseen = make_forecast(dues, Polls(30.0, 10.0, 1), per_minute=per_minute, per_hour=4000)
    lost = sum(each.lost for each in foreseen.automation_forecasts.values())

    async def story(world: World) -> None:
        limit(world, per_minute, 4000)
        for _ in range(automations):
            world.api.create()
        world.start()
        await world.until("12:30:59")
        fates = Counter(row.fate for row in world.ledger.rows.values())
        assert fates["skipped: coalesced"] == pytest.approx(lost, rel=0.05, abs=automations)
        assert fates["accepted: answered"] == pytest.approx(len(dues) - lost, rel=0.05)

    in_world(story)


def test_a_wait_for_both_limits_is_a_step_of_each_however_often_they_take_turns() -> None:
    async def story(world: World) -> None:
        limit(world, 20, polls=False)
        world.set(max_in_flight=1)
        automations = [world.api.create("1 * * * *") for _ in range(60)]
        for each in automations:
            world.api.script(each, Deed(took=0.6))
        world.start()
        await world.until("12:05:00")
        steps = [world.row(each, "12:01").steps for each in automations]
        assert max(map(len, steps)) == 2
        assert {step.cause for each in steps for step in each} == {Cause.IN_FLIGHT, Cause.BUDGET}
        last = max(steps, key=lambda each: max((step.until or NOON for step in each), default=NOON))
        assert all(step.until is not None for step in last)
        assert last[-1].until - NOON > timedelta(minutes=2)  # type: ignore[operator]  # it has an end, as asserted above

    in_world(story)
