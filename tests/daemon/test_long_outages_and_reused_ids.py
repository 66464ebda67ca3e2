"""Long outages, runs without an end, names and ids that change hands: what operators meet once a year."""

from collections import Counter
from datetime import timedelta

import pytest

from scheduler.core.errors import UpstreamError
from scheduler.core.events import RunFinished
from scheduler.core.model import RunStatus
from scheduler.core.policy import CatchUp, Concurrency
from scheduler.upstream.budget import Budget
from tests.daemon.world import NOON, World, in_world
from tests.defaults import make_policies
from tests.fakes import REFUSED, Deed, answered

DOWN = UpstreamError("connection refused")
BEFORE_NINE = NOON - timedelta(hours=3, minutes=5)


def breaks(world: World) -> None:
    """The API is gone."""
    world.api.list_error = world.api.get_error = DOWN
    world.api.deed = REFUSED


def mends(world: World) -> None:
    """It is back."""
    world.api.list_error = world.api.get_error = None
    world.api.deed = Deed()


# ---------------------------------------------------------------- outages


@pytest.mark.parametrize("catch_up", [CatchUp.LATEST, CatchUp.ALL])
def test_after_an_api_was_down_over_full_hours_nothing_goes_faster_than_the_budget(catch_up: CatchUp) -> None:
    """Fifty hourly automations, two hours missed: each is made up for at most once, ten a minute."""

    async def story(world: World) -> None:
        world.api.budget = Budget(per_minute=10, per_hour=600, clock=world.clock)
        automations = [world.api.create("0 * * * *") for _ in range(50)]
        world.start()
        await world.until("08:57:00")
        breaks(world)
        await world.until("10:10:00")
        mends(world)
        world.api.arrivals.clear()
        await world.until("10:50:00")
        outcomes = Counter(tuple(world.fates(each).values()) for each in automations)
        nine = "expired: not_started" if catch_up is CatchUp.ALL else "skipped: coalesced"
        assert set(outcomes) <= {
            (nine, "accepted: answered"),
            (nine, "expired: not_started"),
            ("expired: not_started", "accepted: answered"),
        }
        assert len(world.api.arrivals) == len(world.api.runs) > 37
        sent = [arrival.at for arrival in world.api.arrivals]
        assert max(sum(begin <= each < begin + timedelta(minutes=1) for each in sent) for begin in sent) <= 10

    in_world(
        story,
        begin=BEFORE_NINE,
        policies=make_policies(catch_up=catch_up, start_within=timedelta(minutes=50)),
    )


def test_a_weekend_without_a_daemon_in_which_much_was_changed() -> None:
    """Nothing is paid for that the user had stopped, and a long span is one row with its count."""

    async def story(world: World) -> None:
        create = world.api.create
        kept, disabled, deleted, edited, back, made = create(), create(), create(), create(), create(), []
        world.start()
        await world.until("12:00:30")
        world.kill()
        await world.after(timedelta(days=1))
        world.api.edit(disabled, enabled=False)
        world.api.edit(back, enabled=False)
        world.api.delete(deleted)
        world.api.edit(edited, cron_expression="0 6 * * *")
        made.append(create())
        await world.after(timedelta(days=1))
        world.api.edit(back, enabled=True)
        await world.after(timedelta(minutes=10))
        world.start()
        await world.after(timedelta(seconds=20))
        a_day = 24 * 60
        rows = {
            each: [(row.fate, row.count) for row in world.ledger.of(each)]
            for each in (kept, disabled, deleted, edited, back, *made)
        }
        assert rows[kept] == [("skipped: coalesced", 2 * a_day + 9), ("accepted: answered", 1)]
        assert rows[disabled] == [("skipped: missed", a_day)]
        # Nobody can tell when it was deleted, only that it is.
        assert rows[deleted] == [("skipped: coalesced", 2 * a_day + 9), ("skipped: deleted", 1)]
        assert rows[edited] == [
            ("skipped: missed", a_day),
            ("skipped: missed", 1),
        ]  # one row for each version
        # What was switched off and on again while nobody looked shows as it was: only its newest is sent.
        assert rows[back] == [("skipped: coalesced", 2 * a_day + 9), ("accepted: answered", 1)]
        assert rows[made[0]] == [("skipped: coalesced", a_day + 9), ("accepted: answered", 1)]
        assert {run.automation_id for run in world.api.runs} == {kept, back, *made}

    in_world(story)


# ---------------------------------------------------------------- runs without an end


def test_under_forbid_a_run_that_never_ends_is_in_the_way_until_it_counts_as_lost() -> None:
    async def story(world: World) -> None:
        world.set(run_timeout=timedelta(minutes=10))
        automation = world.api.create()
        world.start()
        await world.until("12:13:30")
        fates = world.fates(automation)
        assert [clock for clock, fate in fates.items() if fate == "accepted: answered"] == ["12:01", "12:12"]
        assert set(fates.values()) == {"accepted: answered", "skipped: overlap"}
        assert [(event.status, event.run_id) for event in world.told(RunFinished)][:1] == [
            (RunStatus.LOST, world.api.runs[0].id)
        ]

    in_world(story, policies=make_policies(concurrency=Concurrency.FORBID))


def test_under_queue_a_run_that_never_ends_holds_one_until_it_counts_as_lost() -> None:
    async def story(world: World) -> None:
        world.set(run_timeout=timedelta(minutes=10))
        automation = world.api.create()
        world.start()
        await world.until("12:11:50")
        assert world.fates(automation)["12:11"] == "accepted: answered"
        fates = list(world.fates(automation).values())
        assert fates == ["accepted: answered", *["skipped: coalesced"] * 9, "accepted: answered"]

    in_world(story, policies=make_policies(concurrency=Concurrency.QUEUE))


def test_agents_that_run_longer_than_the_interval_are_superseded_and_not_lost() -> None:
    async def story(world: World) -> None:
        world.api.run_lasts = 150.0
        automation = world.api.create("1-4 12 * * *")
        world.start()
        await world.until("12:10:00")
        assert set(world.fates(automation).values()) == {"accepted: answered"}
        ends = [(event.run_id, event.status) for event in world.told(RunFinished)]
        ids = [run.id for run in world.api.runs]
        assert ends == [*((each, RunStatus.SUPERSEDED) for each in ids[:3]), (ids[3], RunStatus.SUCCESS)]

    in_world(story)


# ---------------------------------------------------------------- names and ids


def test_automations_that_share_a_name_are_two() -> None:
    async def story(world: World) -> None:
        one, two = world.api.create(name="nightly"), world.api.create(name="nightly")
        world.start()
        await world.until("12:02:30")
        world.api.edit(one, name="daily")
        world.api.edit(two, name="daily")
        await world.until("12:04:30")
        for automation in (one, two):
            assert world.fates(automation) == dict.fromkeys(
                ["12:01", "12:02", "12:03", "12:04"], "accepted: answered"
            )
            assert [row.name for row in world.ledger.of(automation)] == [
                "nightly",
                "nightly",
                "daily",
                "daily",
            ]

    in_world(story)


def test_a_new_name_brings_the_policies_of_that_name_and_fires_nothing() -> None:
    async def story(world: World) -> None:
        paused = make_policies(paused=True)
        world.set(policies=lambda _id, name: paused if name.startswith("parked") else make_policies())
        automation = world.api.create(name="nightly")
        world.start()
        await world.until("12:01:30")
        world.api.edit(automation, name="parked nightly")
        await world.until("12:02:30")
        world.api.edit(automation, name="nightly")
        await world.until("12:03:30")
        assert world.fates(automation) == {
            "12:01": "accepted: answered",
            "12:02": "skipped: paused",
            "12:03": "accepted: answered",
        }

    in_world(story)


def test_an_id_that_comes_back_goes_on_and_makes_up_for_nothing() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        shown = world.api.show(automation)
        world.start()
        await world.until("12:01:30")
        world.api.delete(automation)
        await world.until("12:04:30")
        world.api.bring_back(shown)
        await world.until("12:06:30")
        accepted = dict.fromkeys(["12:01", "12:05", "12:06"], "accepted: answered")
        assert world.fates(automation) == {**accepted, "12:02": "skipped: deleted"}, (
            "until a reading that did not have it"
        )
        assert len(world.api.runs) == 3

    in_world(story)


def test_an_id_that_comes_back_at_once_fires_no_instant_twice() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:01:02")
        shown = world.api.show(automation)
        world.api.delete(automation)
        await world.until("12:01:06")
        world.api.bring_back(shown)
        await world.until("12:03:30")
        assert world.fates(automation) == dict.fromkeys(["12:01", "12:02", "12:03"], "accepted: answered")

    in_world(story)


def test_a_project_that_disappears_holds_its_target_and_what_it_had_goes_on_when_it_is_back() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:05:00")
        world.api.list_error = UpstreamError("HTTP 404", status=404, held=True)
        world.api.get_hides = {automation}
        world.api.deed = answered(404)
        await world.until("12:12:00")
        assert world.process is not None
        (problem,) = world.process.service.make_status().problems
        assert problem == "target main is held: HTTP 404"
        assert world.fates(automation) == {"12:10": "waiting"}
        mends(world)
        world.api.get_hides = set()
        await world.until("12:14:30")
        assert world.fates(automation) == {"12:10": "accepted: answered"}
        assert world.process.service.make_status().problems == []

    in_world(story)
