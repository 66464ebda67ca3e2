"""What the policies make of it, in a whole daemon: catching up, one beside another, pauses."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.errors import UpstreamError
from scheduler.core.instants import to_text
from scheduler.core.policy import CatchUp, Concurrency, Policies
from scheduler.daemon.context import TargetKnowledge
from tests.daemon.world import NOON, World, in_world
from tests.defaults import make_policies
from tests.fakes import REFUSED, Deed, answered

Story = Callable[[World], Coroutine[Any, Any, None]]
FORBID = make_policies(concurrency=Concurrency.FORBID)
QUEUE = make_policies(concurrency=Concurrency.QUEUE)


async def an_outage(world: World, since: str, until: str) -> None:
    """Nobody runs."""
    if world.process is None:
        world.start()
    await world.until(since)
    world.kill()
    await world.until(until)
    world.start()


# ---------------------------------------------------------------- catching up


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("latest", {"12:10..12:20": "skipped: coalesced", "12:30": "accepted: answered"}),
        ("all", {"12:10": "skipped: missed", "12:20": "accepted: answered", "12:30": "accepted: answered"}),
        ("none", {"12:10..12:30": "skipped: missed"}),
    ],
)
def test_after_an_outage(catch_up: str, expected: dict[str, str]) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        await an_outage(world, "12:05:00", "12:33:00")
        await world.until("12:39:00")
        assert world.fates(automation) == expected
        assert {event.kind for event in world.concluded(automation)} <= {"catch_up", None}

    in_world(story, policies=make_policies(catch_up=CatchUp(catch_up), start_within=timedelta(minutes=15)))


def test_after_a_short_outage_none_makes_up_for_the_last_minute_only() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        await an_outage(world, "12:00:40", "12:03:50")
        await world.until("12:04:30")
        assert world.fates(automation) == {
            "12:01..12:02": "skipped: missed",
            "12:03": "accepted: answered",
            "12:04": "accepted: answered",
        }

    in_world(story, policies=make_policies(catch_up=CatchUp.NONE))


def test_a_weekend_is_one_row() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:30")
        world.kill()
        await world.after(timedelta(days=2))
        world.start()
        await world.after(20.0)
        span, last = world.ledger.of(automation)
        assert (span.fate, span.count, last.fate) == (
            "skipped: coalesced",
            2 * 24 * 60 - 1,
            "accepted: answered",
        )

    in_world(story)


def test_nothing_from_an_outage_is_sent_that_the_user_had_stopped() -> None:
    async def story(world: World) -> None:
        disabled, edited, deleted = (world.api.create("*/10 * * * *") for _ in range(3))
        world.start()
        await world.until("12:05:00")
        world.kill()
        await world.until("12:15:00")
        world.api.edit(disabled, enabled=False)
        world.api.edit(edited, cron_expression="0 0 * * *")
        world.api.delete(deleted)
        await world.until("12:22:00")
        world.start()
        await world.until("12:25:00")
        assert world.fates(disabled) == {"12:10": "skipped: deleted"}
        assert world.fates(edited) == {"12:10": "accepted: answered"}
        assert world.fates(deleted) == {"12:10": "skipped: coalesced", "12:20": "skipped: deleted"}
        assert [run.automation_id for run in world.api.runs] == [edited]

    in_world(story, policies=make_policies(start_within=timedelta(hours=1)))


def test_nothing_is_caught_up_with_before_the_api_said_that_it_is_still_meant() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:05:00")
        world.kill()
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        await world.until("12:11:00")
        world.start()
        await world.until("12:14:00")
        assert world.fates(automation) == {}
        world.api.list_error = None
        await world.until("12:15:00")
        assert world.fates(automation) == {"12:10": "accepted: answered"}

    in_world(story, policies=make_policies(start_within=timedelta(hours=1)))


def test_open_claims_from_before_wait_for_it_too() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.api.deed = REFUSED
        world.start()
        await world.until("12:10:30")
        assert world.fates(automation) == {"12:10": "waiting"}
        world.kill()
        world.api.edit(automation, enabled=False)
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        world.api.deed = Deed()
        world.start()
        await world.until("12:12:00")
        assert world.fates(automation) == {"12:10": "waiting"}
        world.api.list_error = None
        await world.until("12:13:00")
        assert world.fates(automation) == {"12:10": "skipped: deleted"}

    in_world(story, policies=make_policies(start_within=timedelta(hours=1)))


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        (
            "latest",
            {"12:01": "skipped: coalesced", "12:02": "skipped: coalesced", "12:03": "accepted: answered"},
        ),
        (
            "none",
            {"12:01": "skipped: coalesced", "12:02": "skipped: coalesced", "12:03": "accepted: answered"},
        ),
        ("all", dict.fromkeys(["12:01", "12:02", "12:03"], "accepted: answered")),
    ],
)
def test_what_an_api_that_was_down_held_up(catch_up: str, expected: dict[str, str]) -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.api.deed = REFUSED
        world.start()
        await world.until("12:03:10")
        world.api.deed = Deed()
        await world.until("12:03:59")
        assert world.fates(automation) == expected
        assert world.runs(automation) == sorted(world.runs(automation))

    in_world(story, policies=make_policies(catch_up=CatchUp(catch_up)))


# ---------------------------------------------------------------- one beside another


def test_allow_starts_beside_a_run_that_is_not_finished() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:03:30")
        assert len(world.api.runs) == 3
        assert set(world.fates(automation).values()) == {"accepted: answered"}
        assert world.api.readings == []

    in_world(story)


def test_forbid_skips_while_the_newest_run_is_not_finished() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.api.run_lasts = 90.0
        world.start()
        await world.until("12:05:30")
        assert world.fates(automation) == {
            "12:01": "accepted: answered",
            "12:02": "skipped: overlap",
            "12:03": "accepted: answered",
            "12:04": "skipped: overlap",
            "12:05": "accepted: answered",
        }

    in_world(story, policies=FORBID)


def test_it_is_decided_on_a_reading_begun_after_it_was_due() -> None:
    """The run ended just before the instant, and began again just before another: no snapshot knew."""

    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:01:59")
        world.api.finish(automation)
        await world.until("12:02:59")
        world.api.finish(automation)
        world.api.run_by_somebody(automation)
        await world.until("12:03:30")
        assert world.fates(automation) == {
            "12:01": "accepted: answered",
            "12:02": "accepted: answered",
            "12:03": "skipped: overlap",
        }
        for _, at in world.api.readings:
            assert at.second == 0

    in_world(story, policies=FORBID)


def test_a_snapshot_tells_of_the_run_before_when_a_reading_waits_for_long() -> None:
    """A reading that the request budget kept waiting was waited for until the occurrence was lost, though
    every list showed the run.
    """

    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:09:59")
        world.api.get_took = 3600
        await world.until("12:11:00")
        assert world.fates(automation) == {"12:10": "accepted: answered"}

    in_world(story, policies=FORBID)


@pytest.mark.parametrize("policies", [FORBID, QUEUE])
def test_without_such_a_reading_it_waits_and_then_expires(policies: Policies) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.start()
        await world.until("12:59:40")
        world.api.get_error = world.api.list_error = UpstreamError("HTTP 500", status=500)
        await world.until("13:04:00")
        assert world.fates(automation) == {"13:00": "waiting"}
        await world.until("13:06:00")
        assert world.fates(automation) == {"13:00": "expired: not_started"}
        assert "could not be read" in (world.row(automation, "13:00").error or "")

    in_world(
        story,
        begin=NOON + timedelta(minutes=59, seconds=20),
        policies=replace(policies, start_within=timedelta(minutes=5)),
    )


def test_queue_keeps_one_waiting_until_the_run_ends() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0-2 13 * * *")
        world.start()
        await world.until("13:20:00")  # longer than any of them may wait otherwise
        assert world.fates(automation) == {
            "13:00": "accepted: answered",
            "13:01": "skipped: coalesced",
            "13:02": "waiting",
        }
        world.api.finish(automation)
        await world.until("13:20:35")
        assert world.fates(automation)["13:02"] == "accepted: answered"
        assert len(world.api.runs) == 2

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20), policies=QUEUE)


def test_queue_waits_no_longer_than_a_run_may_take() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0-1 13 * * *")
        world.set(run_timeout=timedelta(hours=2))
        world.start()
        await world.until("14:59:00")
        assert world.fates(automation) == {"13:00": "accepted: answered", "13:01": "waiting"}
        await world.until("15:02:00")  # the run counts as lost, and is in nobody's way any more
        assert world.fates(automation) == {"13:00": "accepted: answered", "13:01": "accepted: answered"}

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20), policies=QUEUE)


def test_what_queues_goes_on_queueing_after_a_restart() -> None:
    async def story(world: World) -> None:
        sent, lost = world.api.create("0 13 * * *"), world.api.create("0 13 * * *")
        world.set(run_timeout=timedelta(hours=3))
        world.api.run_by_somebody(sent)
        world.start()
        await world.until("12:59:50")
        world.api.run_by_somebody(lost)
        await an_outage(world, "14:30:00", "14:40:00")  # longer after its time than anything else may start
        await world.until("14:50:00")
        assert world.fates(sent) == world.fates(lost) == {"13:00": "waiting"}
        world.api.finish(sent)
        await world.until("14:51:00")
        assert world.fates(sent) == {"13:00": "accepted: answered"}
        await world.stop()
        await world.until("16:01:00")
        world.start()
        await world.until("16:02:00")
        assert world.fates(lost) == {"13:00": "expired: not_started"}

    in_world(story, begin=NOON + timedelta(minutes=30), policies=QUEUE)


def test_what_had_nothing_to_queue_for_has_no_longer_to_start() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.start()
        await world.until("12:59:59")
        await world.after(0.5)
        assert world.fates(automation) == {"13:00": "waiting"}
        world.kill()
        await world.until("14:30:00")
        world.start()
        await world.until("14:31:00")
        assert world.fates(automation) == {"13:00": "expired: not_started"}
        assert world.api.arrivals == []

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20), policies=QUEUE)


def test_what_queues_longer_than_others_may_wait_still_reads_in_peace() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.run_by_somebody(automation)
        world.start()
        await world.until("14:30:00")
        world.api.list_complete, world.api.list_hides = False, {automation}
        before = len(world.api.readings)
        await world.until("14:35:00")
        assert len(world.api.readings) - before < 12
        assert world.fates(automation) == {"13:00": "waiting"}
        world.api.list_complete, world.api.list_hides = True, set()
        world.api.finish(automation)
        await world.until("14:36:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20), policies=QUEUE)


def test_forbid_is_not_in_the_way_of_what_an_outage_coalesces() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.api.run_lasts = 30.0
        await an_outage(world, "12:01:30", "12:05:20")
        await world.until("12:05:50")
        assert world.fates(automation) == {
            "12:01": "accepted: answered",
            "12:02..12:04": "skipped: coalesced",
            "12:05": "accepted: answered",
        }

    in_world(story, policies=FORBID)


# ---------------------------------------------------------------- pauses


@pytest.mark.parametrize("everything", [True, False])
def test_an_operator_pauses_and_resumes(everything: bool) -> None:
    async def story(world: World) -> None:
        automation, other = world.api.create(), world.api.create()
        world.start()
        await world.until("12:01:30")
        world.ledger.pause("*" if everything else automation)
        await world.until("12:03:30")
        world.ledger.resume("*" if everything else automation)
        await world.until("12:04:30")
        assert world.fates(automation) == {
            "12:01": "accepted: answered",
            "12:02": "skipped: paused",
            "12:03": "skipped: paused",
            "12:04": "accepted: answered",
        }
        assert (world.fates(other) == world.fates(automation)) is everything

    in_world(story)


def test_what_is_paused_in_the_configuration_is_recorded_and_not_fired() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:02:30")
        assert world.fates(automation) == dict.fromkeys(["12:01", "12:02"], "skipped: paused")
        assert world.api.arrivals == []

    in_world(story, policies=make_policies(paused=True))


def test_what_waits_when_it_is_paused_is_not_sent() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.api.script(automation, *[REFUSED] * 3)
        world.start()
        await world.until("12:01:00")
        await world.after(0.01)
        world.ledger.pause(automation)
        await world.until("12:01:30")
        assert world.fates(automation) == {"12:01": "skipped: paused"}

    in_world(story)


def test_many_that_wait_ask_once_for_all_what_is_paused() -> None:
    async def story(world: World) -> None:
        for _ in range(200):
            world.api.create("0 13 * * *")
        world.api.deed = answered(401)
        world.start()
        await world.until("13:01:00")
        before = world.ledger.written["read_pauses"]
        await world.until("13:06:00")
        assert world.ledger.written["read_pauses"] - before < 100

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20))


def test_what_is_paused_is_not_decided_by_pauses_that_are_out_of_date(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pauses are out of date again after each look, as when it looks at very many."""
    is_fresh = False
    read = TargetKnowledge.refresh_pauses

    async def refresh(knowledge: TargetKnowledge, failed: Callable[[], None]) -> None:
        nonlocal is_fresh
        await read(knowledge, failed)
        is_fresh = True

    def look(_: TargetKnowledge) -> bool:
        nonlocal is_fresh
        before, is_fresh = is_fresh, False
        return before

    async def story(world: World) -> None:
        automation = world.api.create()
        world.api.deed = REFUSED
        world.start()
        await world.until("12:08:30")
        monkeypatch.setattr(TargetKnowledge, "has_fresh_pauses", property(look))
        monkeypatch.setattr(TargetKnowledge, "refresh_pauses", refresh)
        world.ledger.pause(automation)
        world.clock.suspend(1200.0)
        await world.until("12:29:55")
        open_before = {f"12:0{minute}" for minute in range(1, 9)}
        assert {world.fates(automation)[each] for each in open_before} == {"skipped: paused"}

    in_world(story, policies=make_policies(catch_up=CatchUp.ALL, start_within=timedelta(minutes=10)))


def test_other_policies_may_be_given_while_it_runs() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        process = world.start()
        await world.until("12:01:30")
        world.policies = make_policies(paused=True)
        context = process.target.context
        process.target.reconfigure(
            context.settings,
            context.upstream,
            context.ledger,
            context.timetable.parse,
            since=world.clock.now(),
        )
        await world.until("12:02:30")
        assert world.fates(automation) == {"12:01": "accepted: answered", "12:02": "skipped: paused"}

    in_world(story)


def test_what_waited_for_a_poll_is_coalesced_into_a_newer_one_that_did_not() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(cron="*/10 * * * *")
        world.start()
        await world.until("12:11:00")
        world.kill()
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        await world.until("12:25:00")
        world.start()
        await world.until("12:42:00")
        world.api.list_error = None
        await world.until("12:51:00")
        answered = dict.fromkeys(["12:10", "12:30", "12:40", "12:50"], "accepted: answered")
        assert world.fates(automation) == answered | {"12:20": "skipped: coalesced"}

    in_world(story, policies=make_policies(start_within=timedelta(hours=6)))


def test_what_queues_is_not_coalesced_into_an_older_one_that_was_confirmed_later() -> None:
    """The list could not be read since the start, so what came due before had to wait; what is due now does
    not.
    """

    async def story(world: World) -> None:
        automation = world.api.create("*/5 * * * *")
        world.start()
        await world.until("12:06:00")
        world.kill()
        await world.until("12:24:30")
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        world.api.run_by_somebody(automation)
        world.start()
        await world.until("12:25:30")
        world.api.list_error = None
        await world.until("12:26:30")
        assert world.fates(automation)["12:25"] == "waiting"
        world.api.finish(automation)
        await world.until("12:28:00")
        assert world.fates(automation)["12:25"] == "accepted: answered"

    in_world(
        story,
        policies=make_policies(
            concurrency=Concurrency.QUEUE, catch_up=CatchUp.ALL, start_within=timedelta(minutes=30)
        ),
    )


def test_what_is_told_of_those_passed_over_leaves_out_what_had_its_row() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:01:30")
        world.kill()
        # an edit that counts from noon was recorded, and the process killed before the process planned
        world.ledger.change("UPDATE target SET watermark = ?", to_text(NOON))
        await world.until("12:30:30")
        world.start()
        await world.until("12:31:30")
        passed_over = [
            (event.occurrence.scheduled_for, event.count)
            for event in world.concluded(automation)
            if event.run_id is None
        ]
        assert passed_over == [(NOON + timedelta(minutes=2), 28)]

    in_world(story)


def test_nothing_is_coalesced_into_one_that_an_edit_takes_back() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/2 * * * *")
        world.start()
        await world.until("12:01:30")
        world.api.get_took, world.api.list_error = 400.0, UpstreamError("HTTP 500", status=500)
        await world.until("12:03:50")
        world.api.edit(automation, cron_expression="*/30 * * * *")
        await world.until("12:05:00")
        world.api.get_took, world.api.list_error = 0.02, None
        await world.until("12:06:00")
        assert world.fates(automation) == {"12:02": "accepted: answered", "12:04": "skipped: deleted"}

    in_world(story, policies=FORBID)
