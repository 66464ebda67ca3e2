"""After an attempt whose outcome is unknown the daemon reads until it knows; it never sends again without
knowing.
"""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.errors import LedgerUnavailable, UpstreamError
from scheduler.core.events import DeliveryFailed, LedgerFailed, RunDoubled, RunForeign
from scheduler.core.model import AttemptResult, InvalidAutomation, Occurrence
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import Concurrency
from scheduler.core.reconcile import RunReading, UnknownAttempt
from scheduler.core.response import AttemptResponse, MaybeStarted
from scheduler.daemon import ledger_health
from scheduler.daemon.reconciler import NotStartedProof, Reconciler
from tests.daemon.world import NOON, World, in_world, look_rarely, slow
from tests.defaults import make_policies
from tests.fakes import (
    LOST_ANSWER,
    LOST_REQUEST,
    NULL_RUN,
    RESET_AFTER,
    RESET_BEFORE,
    Deed,
    answered,
    carried_out_after,
)

HOURLY = "0 * * * *"
Story = Callable[[World], Coroutine[Any, Any, None]]
UNKNOWN, ANSWERED = AttemptResult.UNKNOWN, AttemptResult.ANSWERED


def before_one(story: Story, **world: Any) -> None:
    """Tell it from just before one o'clock."""
    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20), **world)


def results(world: World, automation: str) -> list[str | None]:
    return [attempt.result for attempt in world.row(automation, "13:00").attempts.values()]


# ---------------------------------------------------------------- found


@pytest.mark.parametrize(
    "deed",
    [
        LOST_ANSWER,
        RESET_AFTER,
        NULL_RUN,
        answered(500, starts=0.01),
        answered(502, starts=10.0),
        answered(408, starts=0.01),
        answered(425, starts=0.01),
        answered(200, starts=0.01),  # without the automation
        Deed(hears=AttemptResponse(200, None)),
        carried_out_after(45.0),  # while it settles
        Deed(took=0.02, starts=29.0, hears=MaybeStarted("reset")),
    ],
)
def test_a_run_that_was_started_is_found_and_nothing_is_sent_again(deed: Deed) -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, deed)
        world.start()
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert results(world, automation) == [UNKNOWN]
        assert len(world.api.arrivals) == 1
        (run,) = world.api.runs
        assert world.row(automation, "13:00").run_id == run.id
        (told,) = world.concluded(automation)
        assert told.lateness is not None
        assert told.lateness < 0.01  # its first byte was on time, however long it took to find out
        assert world.told(RunForeign) == []

    before_one(story)


def test_what_is_found_is_found_soon() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, RESET_AFTER)
        world.start()
        await world.until("13:00:01")
        assert world.fates(automation) == {"13:00": "accepted: found"}

    before_one(story)


# ---------------------------------------------------------------- not started


@pytest.mark.parametrize(
    "deed", [LOST_REQUEST, RESET_BEFORE, answered(500), answered(503), answered(408), Deed(starts=None)]
)
def test_what_started_nothing_is_sent_again_when_it_has_settled(deed: Deed) -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.run_by_somebody(automation)
        world.api.script(automation, deed)
        world.start()
        ended = NOON + timedelta(hours=1, seconds=deed.took)
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert results(world, automation) == [UNKNOWN, ANSWERED]
        second = world.row(automation, "13:00").attempts[2].written_at
        assert ended + timedelta(seconds=30) <= second <= ended + timedelta(seconds=32)
        readings = [at for automation_id, at in world.api.readings if automation_id == automation]
        assert len(readings) <= 10

    before_one(story)


def test_the_baseline_at_a_start_is_the_newest_run_of_the_earlier_process_without_a_snapshot_of_it() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:01:01")
        world.kill()
        world.api.list_took = 60.0
        world.start()
        await world.until("12:01:59")
        await world.after(0.5)
        (run,) = world.api.runs
        assert world.row(automation, "12:02").attempts[1].baseline == run.id

    in_world(story)


def test_settle_time_counts_from_the_end_of_the_attempt() -> None:
    """A request that hung for 30 s and is carried out 29 s after it was given up: found, because nothing was
    sent before 30 s.
    """

    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, carried_out_after(59.0, given_up_after=30.0))
        world.start()
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}

    before_one(story)


def test_one_reading_is_not_enough_and_none_before_the_attempt_counts() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, RESET_BEFORE)
        world.start()
        await world.until("12:59:59")
        before = len(world.api.readings)
        await world.until("13:00:31")
        assert len(world.api.readings) - before >= 2
        assert len(world.api.arrivals) == 2

    before_one(story)


def test_after_a_second_unknown_attempt_it_is_found_out_again() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, RESET_BEFORE, answered(500), RESET_AFTER)
        world.start()
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert results(world, automation) == [UNKNOWN] * 3

    before_one(story)


def test_what_was_not_started_in_time_expires_when_that_is_known() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.deed = answered(500)
        world.start()
        await world.until("13:31:00")
        assert world.fates(automation) == {"13:00": "expired: not_started"}
        assert len(world.api.arrivals) > 30

    before_one(story)


def test_retry_after_is_waited_out_before_asking_and_before_sending() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.set(poll_interval=timedelta(hours=1))
        world.api.script(automation, answered(503, retry_after=200.0))
        world.start()
        await world.until("13:03:19")
        assert world.api.readings == []
        assert len(world.api.arrivals) == 1
        await world.until("13:03:30")
        assert world.fates(automation) == {"13:00": "accepted: answered"}

    before_one(story)


# ---------------------------------------------------------------- runs of others


def test_a_run_that_somebody_started_before_ours_is_not_taken_for_it() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, RESET_BEFORE)
        world.start()
        await world.until("12:59:30")
        world.api.list_error = UpstreamError(
            "HTTP 500", status=500
        )  # or the poll that goes before would show it
        await world.until("12:59:50")
        foreign = world.api.run_by_somebody(automation)
        await world.until("13:02:00")
        world.api.list_error = None
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert results(world, automation) == [UNKNOWN, ANSWERED]
        assert [event.run_id for event in world.told(RunForeign)] == [foreign]

    before_one(story)


def test_a_run_that_began_after_ours_could_have_hides_it() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.get_error = UpstreamError("HTTP 500", status=500)
        world.api.script(automation, RESET_AFTER)
        world.start()
        await world.until("12:59:59")
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        await world.until("13:02:00")
        world.api.run_by_somebody(automation)
        world.api.get_error = world.api.list_error = None
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "unresolved: covered"}
        assert len(world.api.arrivals) == 1

    before_one(story)


async def lose_a_request_by_an_unknown_clock(world: World) -> str:
    """The request of 13:00 is lost, its process is killed, and no answer has shown the API's clock."""
    automation = world.api.create(HOURLY)
    world.api.shows_date = False
    world.api.script(automation, LOST_REQUEST)
    world.start()
    await world.until("13:00:01")
    world.kill()
    return automation


def test_a_run_hours_after_an_attempt_of_a_killed_process_hides_it_though_the_apis_clock_was_unknown() -> (
    None
):
    async def story(world: World) -> None:
        automation = await lose_a_request_by_an_unknown_clock(world)
        await world.until("16:30:00")
        world.api.run_by_somebody(automation)
        world.api.shows_date = True
        await world.until("16:40:00")
        world.start()
        await world.until("16:45:00")
        assert world.row(automation, "13:00").attempts[1].clock_offset is None
        assert world.fates(automation)["13:00"] == "unresolved: covered"
        assert len(world.api.arrivals) == 1

    before_one(story)


def test_nor_does_a_run_between_two_readings_count_when_the_apis_clock_was_unknown() -> None:
    """The first reading shows no run; a person starts one while the settle time lasts."""

    async def story(world: World) -> None:
        automation = await lose_a_request_by_an_unknown_clock(world)
        world.api.shows_date = True
        await world.until("16:40:00")
        world.start()
        await world.until("16:40:11")
        world.api.run_by_somebody(automation)
        await world.until("16:45:00")
        assert world.row(automation, "13:00").attempts[1].clock_offset is None
        assert world.fates(automation)["13:00"] == "unresolved: covered"
        assert len(world.api.arrivals) == 1

    before_one(story)


def test_an_answer_that_names_the_run_from_before_is_found_out() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        stale = world.api.run_by_somebody(automation)
        world.api.script(automation, Deed(shows_run=stale), Deed(starts=None, shows_run=stale))
        world.start()
        await world.until("14:05:00")
        assert world.fates(automation) == {"13:00": "accepted: found", "14:00": "accepted: answered"}

    before_one(story)


def test_an_answer_that_names_another_occurrences_run_is_found_out() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0,1 * * * *")
        world.start()
        await world.until("13:00:30")
        first = world.row(automation, "13:00").run_id
        world.api.run_by_somebody(automation)
        await world.until("13:00:58")
        world.api.script(automation, Deed(shows_run=first))
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "accepted: answered", "13:01": "accepted: found"}

    before_one(story)


def test_a_run_seen_between_the_claim_and_the_first_byte_is_not_ours() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.start()
        await world.until("12:59:59")
        await world.after(0.2)
        assert world.fates(automation) == {"13:00": "claimed"}
        foreign = world.api.run_by_somebody(automation)
        assert world.process is not None
        world.process.target._request_poll()
        world.api.script(automation, Deed(starts=None, shows_run=foreign))
        await world.until("13:05:00")
        row = world.row(automation, "13:00")
        assert row.attempts[1].baseline == foreign
        assert row.fate == "accepted: answered"
        assert results(world, automation) == [UNKNOWN, ANSWERED]

    before_one(story)


# ---------------------------------------------------------------- what cannot be found out


def test_what_cannot_be_read_for_24_hours_is_unresolved(monkeypatch: pytest.MonkeyPatch) -> None:
    look_rarely(monkeypatch)

    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, RESET_AFTER)
        world.start()
        await world.until("12:59:59")
        world.api.get_error = world.api.list_error = UpstreamError("HTTP 500", status=500)
        await world.after(timedelta(hours=23, minutes=59))
        assert world.fates(automation) == {"13:00": "unknown"}
        await world.after(timedelta(minutes=2))
        assert world.fates(automation)["13:00"] == "unresolved: unreadable"
        assert len(world.api.arrivals) == 1

    before_one(story)


def test_what_was_deleted_before_it_was_found_out_is_unresolved() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, LOST_ANSWER)
        world.start()
        await world.until("13:00:10")
        world.api.delete(automation)
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "unresolved: gone"}

    before_one(story)


def test_a_single_404_does_not_make_it_gone() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, LOST_ANSWER)
        world.api.get_hides.add(automation)
        world.start()
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}  # the list shows it

    before_one(story)


@pytest.mark.parametrize("how", ["incomplete", "broken"])
def test_a_snapshot_without_it_says_nothing_about_its_run(how: str) -> None:
    """Two of them are not the two readings that agree."""

    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.set(poll_interval=timedelta(seconds=3))
        world.api.script(automation, LOST_ANSWER)
        world.start()
        await world.until("13:00:01")
        world.api.get_error = UpstreamError("HTTP 500", status=500)
        if how == "incomplete":
            world.api.list_hides.add(automation)
            world.api.list_complete = False
        else:
            world.api.broken[automation] = InvalidAutomation("its enabled is int", automation_id=automation)
        await world.until("13:10:00")
        assert world.fates(automation) == {"13:00": "unknown"}
        assert len(world.api.arrivals) == 1
        world.api.get_error = None
        world.api.list_hides.clear()
        world.api.broken.clear()
        world.api.list_complete = True
        await world.until("13:11:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}

    before_one(story)


def test_a_404_while_the_list_shows_it_broken_is_asked_again_with_pauses() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, LOST_ANSWER)
        world.start()
        await world.until("13:00:01")
        world.api.get_hides.add(automation)
        world.api.broken[automation] = InvalidAutomation("its enabled is int", automation_id=automation)
        polls = len(world.api.polls)
        await world.until("13:10:00")
        assert world.fates(automation) == {"13:00": "unknown"}
        assert len(world.api.polls) - polls < 150

    before_one(story)


def test_many_unknown_at_once_are_found_out_by_the_list() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create(HOURLY) for _ in range(200)]
        world.api.deed = RESET_BEFORE
        world.api.get_took = 1.0
        world.start()
        await world.until("13:00:10")
        world.api.deed = Deed()
        await world.until("13:02:00")
        assert {world.row(each, "13:00").fate for each in automations} == {"accepted: answered"}
        assert len(world.api.readings) < 400

    before_one(story)


@pytest.mark.parametrize(
    "how", ["the list fails too", "the list does not show them", "the list shows them broken"]
)
def test_many_unknown_at_an_api_in_trouble_are_no_storm_of_requests(how: str) -> None:
    async def story(world: World) -> None:
        api = world.api
        automations = [api.create(HOURLY) for _ in range(12)]
        for automation in automations:
            api.script(automation, answered(500))
        world.start()
        await world.until("13:00:00")
        api.get_error = UpstreamError("HTTP 503", status=503, retry_after=20.0)
        match how:
            case "the list fails too":
                api.list_error = UpstreamError("HTTP 503", status=503, retry_after=60.0)
            case "the list does not show them":
                api.list_complete, api.list_hides = False, set(automations)
            case _:
                api.broken = {each: InvalidAutomation("no name", automation_id=each) for each in automations}
        await world.until("13:00:05")
        polls, readings = len(api.polls), len(api.readings)
        await world.until("13:02:05")
        assert len(api.polls) - polls <= (3 if api.list_error else 24)
        assert len(api.readings) - readings <= 12 * 6
        api.get_error, api.list_error, api.list_complete, api.list_hides, api.broken = (
            None,
            None,
            True,
            set(),
            {},
        )
        await world.until("13:10:00")
        assert {world.row(each, "13:00").fate for each in automations} == {"accepted: answered"}

    before_one(story)


# ---------------------------------------------------------------- one at a time


def test_while_one_is_unknown_the_next_one_waits() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0,1,2 * * * *")
        world.api.script(automation, LOST_REQUEST)
        world.start()
        await world.until("13:00:59")
        await world.after(0.9)
        assert world.fates(automation) == {"13:00": "unknown", "13:01": "waiting"}
        await world.until("13:05:00")
        assert set(world.fates(automation).values()) == {"accepted: answered"}
        starts = world.runs(automation)
        assert starts == sorted(starts)
        assert starts[0].startswith("13:01:0")  # half a minute to give up, half a minute to settle
        keys = [arrival.key for arrival in world.api.arrivals]
        assert keys[0] == keys[1]
        assert len(set(keys)) == 3

    before_one(story, policies=make_policies(start_within=timedelta(minutes=10)))


def test_only_what_was_never_sent_is_coalesced() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0,1,2 * * * *")
        world.api.script(automation, Deed(took=150.0, starts=None, hears=MaybeStarted("no answer")))
        world.start()
        await world.until("13:05:00")
        assert world.fates(automation) == {
            "13:00": "accepted: answered",
            "13:01": "skipped: coalesced",
            "13:02": "accepted: answered",
        }

    before_one(story, policies=make_policies(start_within=timedelta(minutes=10)))


def test_what_is_over_when_that_is_known_ends_at_once_and_the_newest_goes_on_time() -> None:
    """Each commit takes half a second: one after the other they would keep the newest waiting."""

    async def story(world: World) -> None:
        automation = world.api.create("* 13 * * *")
        world.api.script(automation, LOST_REQUEST)
        world.set(settle_time=timedelta(minutes=8, seconds=30))
        slow(world, "conclude", 0.5)
        world.start()
        await world.until("13:12:50")
        coalesced = [f"13:{minute:02}" for minute in range(1, 9)]
        assert world.fates(automation) == {
            "13:00": "expired: not_started",
            **dict.fromkeys(coalesced, "skipped: coalesced"),
            **dict.fromkeys(("13:09", "13:10", "13:11", "13:12"), "accepted: answered"),
        }
        rows = [world.row(automation, each) for each in coalesced]
        assert len({each.finished_at for each in rows}) == 1
        assert [[step.cause for step in each.steps] for each in rows] == [[Cause.TURN]] * 8
        assert {step.detail for each in rows for step in each.steps} == {"2026-11-23T13:00:00Z"}
        assert world.runs(automation)[0] < "13:09:03"

    before_one(story, policies=make_policies(start_within=timedelta(minutes=5)))


@pytest.mark.parametrize("outage", [2.0, 30.0])
def test_when_the_ledger_fails_then_one_of_them_tries_again_and_the_newest_goes_when_it_recovers(
    outage: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not each with a back-off of its own, of which the longest counts."""
    monkeypatch.setattr(ledger_health, "back_off", lambda failures: outage / 4 * failures)

    async def story(world: World) -> None:
        automation = world.api.create("0-39 13 * * *")
        world.api.script(automation, LOST_REQUEST)
        world.set(settle_time=timedelta(minutes=39, seconds=25))
        conclude, recovers = world.ledger.conclude, NOON + timedelta(hours=1, minutes=39, seconds=57 + outage)

        async def faulty(occurrence: Occurrence, *more: Any) -> bool:
            if occurrence.scheduled_for > NOON + timedelta(hours=1) and world.clock.now() < recovers:
                raise LedgerUnavailable("disk")
            return await conclude(occurrence, *more)

        world.ledger.__dict__["conclude"] = faulty
        world.start()
        await world.until("13:45:00")
        newest = world.row(automation, "13:39")
        (attempt,) = newest.attempts.values()
        assert attempt.sent_at is not None
        assert attempt.sent_at - recovers < timedelta(seconds=outage)
        assert [
            attempt.sent_at - each.until < timedelta(seconds=1)
            for each in newest.steps
            if each.until is not None
        ] == [True]
        assert len(world.told(LedgerFailed)) < 10

    before_one(story, policies=make_policies(start_within=timedelta(minutes=60)))


def test_one_whose_outcome_is_not_taken_keeps_none_of_those_behind_it_from_theirs() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("* 13 * * *")
        world.api.script(automation, LOST_REQUEST)
        world.set(settle_time=timedelta(minutes=8, seconds=30))
        conclude = world.ledger.conclude

        async def faulty(occurrence: Occurrence, *more: Any) -> bool:
            if f"{occurrence.scheduled_for:%H:%M}" == "13:03":
                raise ZeroDivisionError
            return await conclude(occurrence, *more)

        world.ledger.__dict__["conclude"] = faulty
        world.start()
        await world.until("13:09:59")
        fates = world.fates(automation)
        assert fates.pop("13:03") == "waiting"
        assert all(
            [step.cause for step in row.steps].count(Cause.TURN) < 2 for row in world.ledger.of(automation)
        )
        assert [fates[f"13:{minute:02}"] for minute in (1, 2, 4, 5, 6, 7, 8)] == ["skipped: coalesced"] * 7
        await world.until("13:20:00")
        assert world.fates(automation)["13:19"] == "accepted: answered"
        assert [f"{each.occurrence.scheduled_for:%H:%M}" for each in world.told(DeliveryFailed)] == [
            "13:03"
        ] * 5

    before_one(story, policies=make_policies(start_within=timedelta(minutes=5)))


def test_readings_of_one_attempt_clear_no_attempt_that_ended_after_the_first_of_them() -> None:
    async def story(world: World) -> None:
        process = world.start()
        await world.after(30.0)
        inquiry = Reconciler(process.target.context, process.target._cache)
        now = world.clock.boottime()
        cleared = NotStartedProof(RunReading(now, None, None), RunReading(now + 60.0, None, None), 2.0)
        assert inquiry.is_not_started(UnknownAttempt(None, now - 40.0, now - 1.0, 30.0), cleared)
        assert not inquiry.is_not_started(
            UnknownAttempt(None, now - 40.0, now + 1.0, 30.0), cleared
        )  # the first came too early
        assert not inquiry.is_not_started(
            UnknownAttempt(None, now - 40.0, now - 1.0, 90.0), cleared
        )  # it had not settled

    before_one(story)


# ---------------------------------------------------------------- late doubles


def test_an_attempt_that_is_carried_out_long_after_is_told_as_a_late_double() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, carried_out_after(100.0, given_up_after=30.0))
        world.start()
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        (double,) = world.told(RunDoubled)
        assert double.scheduled_for == NOON + timedelta(hours=1)
        assert world.told(RunForeign) == []
        assert len(world.api.runs) == 2
        world.api.runs.clear()  # what the API was made to do here is what no client can prevent
        world.forgive_doubles()

    before_one(story)


def test_a_reading_that_began_before_a_snapshot_does_not_take_its_place() -> None:
    """The run in the way ends after a slow reading looked and before the snapshot did, which is the quicker
    of the two.
    """

    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.run_by_somebody(automation)
        world.api.get_took = 3.0
        world.set(poll_interval=timedelta(seconds=6))  # snapshots begin at 12:59:56 and 13:00:02
        world.start()
        await world.until("13:00:01")
        await world.after(0.8)
        world.api.finish(automation)
        await world.until("13:00:30")
        assert world.fates(automation) == {"13:00": "accepted: answered"}

    before_one(story, policies=make_policies(concurrency=Concurrency.FORBID))


# ---------------------------------------------------------------- idempotent targets


def test_an_idempotent_target_is_sent_to_again_at_once_under_the_same_key() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.set(idempotent=True)
        world.api.honours_keys = True
        world.api.script(automation, RESET_AFTER)
        world.start()
        await world.until("13:00:01")
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert results(world, automation) == [UNKNOWN, ANSWERED]
        first, second = world.api.arrivals
        assert first.key == second.key
        assert len(world.api.runs) == 1
        assert world.api.readings == []

    before_one(story)


def test_an_idempotent_target_that_stays_silent_is_sent_to_with_back_off() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.set(idempotent=True)
        world.api.honours_keys = True
        world.api.deed = answered(500)
        world.start()
        await world.until("13:10:00")
        assert 5 < len(world.api.arrivals) < 60
        world.api.deed = Deed()
        await world.until("13:12:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}

    before_one(story)


def test_the_run_of_an_attempt_in_doubt_is_nobody_elses_when_another_attempt_is_written_and_not_sent() -> (
    None
):
    """The ledger takes so long for it that the time to send is over; then it is found out, and that is
    recorded slowly too.
    """

    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.set(idempotent=True)
        world.api.honours_keys = True
        world.api.script(automation, RESET_AFTER)
        slow(world, "write_attempt", 30.0)
        slow(world, "conclude", 1.0)
        world.start()
        await world.until("13:01:30")
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert len(results(world, automation)) == 2, "another attempt was written"
        assert len(world.api.arrivals) == 1, "and not sent"
        assert world.told(RunForeign) == []
        assert world.told(RunDoubled) == []

    before_one(story, policies=make_policies(start_within=timedelta(seconds=15)))


def test_a_refusal_after_an_unknown_attempt_leaves_it_to_the_readings() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.set(idempotent=True)
        world.api.script(automation, RESET_AFTER, answered(409, error="busy"))
        world.start()
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert results(world, automation) == [UNKNOWN, AttemptResult.REFUSED]

    before_one(story)


def test_past_its_time_an_idempotent_attempt_is_found_out_and_not_sent_again() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.set(idempotent=True)
        world.api.deed = answered(500)
        world.start()
        await world.until("13:32:00")
        assert world.fates(automation) == {"13:00": "expired: not_started"}
        assert world.api.arrivals[-1].at <= NOON + timedelta(minutes=90)

    before_one(story)


@pytest.mark.parametrize("concurrency", [Concurrency.QUEUE, Concurrency.FORBID])
def test_what_is_sent_again_under_its_key_does_not_wait_for_its_own_run(concurrency: Concurrency) -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.set(idempotent=True)
        world.api.honours_keys = True
        world.api.script(automation, LOST_ANSWER)
        world.start()
        await world.until("13:00:31")
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert len(world.api.runs) == 1

    before_one(story, policies=make_policies(concurrency=concurrency))


def test_what_had_to_queue_is_not_sent_again_after_its_time_either() -> None:
    """While it queued it had until the run before it counts as lost; in doubt it has no more time than any
    other.
    """

    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.set(idempotent=True)
        world.api.run_by_somebody(automation)
        world.api.script(automation, LOST_ANSWER, answered(429, retry_after=7200.0))
        world.start()
        await world.until("13:10:00")
        world.api.finish(automation)
        await world.until("13:31:00")
        assert world.fates(automation) == {"13:00": "accepted: found"}
        assert len(world.api.arrivals) == 2

    before_one(story, policies=make_policies(concurrency=Concurrency.QUEUE))
