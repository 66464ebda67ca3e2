"""Occurrences are sent when they are due: claimed durably before, never early, and with nothing slow in their
way.
"""

from datetime import timedelta

from scheduler.core.errors import UpstreamError
from tests.daemon.world import NOON, World, in_world
from tests.defaults import make_policies
from tests.fakes import Deed


def test_it_fires_every_minute_on_the_minute() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:03:30")
        assert world.fates(automation) == dict.fromkeys(["12:01", "12:02", "12:03"], "accepted: answered")
        assert world.runs(automation) == ["12:01:00.010", "12:02:00.010", "12:03:00.010"]
        assert {event.kind for event in world.concluded(automation)} == {"on_time"}
        assert all((event.lateness or 0.0) < 0.001 for event in world.concluded(automation))

    in_world(story)


def test_the_claim_is_durable_before_it_is_due_and_the_first_byte_leaves_when_it_is() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:58")
        assert world.fates(automation) == {}
        await world.until("12:00:59")
        await world.after(0.9)
        assert world.fates(automation) == {"12:01": "claimed"}
        assert world.row(automation, "12:01").attempts.keys() == {1}
        assert world.api.arrivals == []
        await world.until("12:01:00")
        await world.after(0.001)
        (arrival,) = world.api.arrivals
        due = NOON + timedelta(minutes=1)
        assert due <= arrival.at <= due + timedelta(milliseconds=1)

    in_world(story)


def test_nothing_is_ever_early() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create() for _ in range(20)]
        world.start()
        await world.until("12:30:30")
        for arrival in world.api.arrivals:
            assert arrival.at.second == 0
            assert arrival.at.microsecond < 500_000
        assert len(world.api.arrivals) == 20 * 30
        assert all(len(world.ledger.of(each)) == 30 for each in automations)

    in_world(story, begin=NOON + timedelta(seconds=20))


def test_a_thousand_due_together_are_one_claim() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create() for _ in range(1000)]
        world.start()
        await world.until("12:01:05")
        assert world.ledger.written["claim"] == 1
        assert world.ledger.written["write_attempt"] == 0  # their first attempts ride in it
        assert {world.row(each, "12:01").fate for each in automations} == {"accepted: answered"}

    in_world(story)


def test_no_more_are_in_flight_than_may_be() -> None:
    async def story(world: World) -> None:
        world.set(max_in_flight=3)
        world.api.deed = Deed(took=0.5)
        automations = [world.api.create() for _ in range(9)]
        world.start()
        await world.until("12:01:07")
        arrivals = [
            round(arrival.at.second + arrival.at.microsecond / 1e6, 2) for arrival in world.api.arrivals
        ]
        assert arrivals == [0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0]
        assert {world.row(each, "12:01").fate for each in automations} == {"accepted: answered"}

    in_world(story)


def test_a_list_that_answers_500_delays_nothing() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:40")
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        await world.until("12:10:30")
        assert world.runs(automation) == [f"12:{minute:02}:00.010" for minute in range(1, 11)]

    in_world(story)


def test_a_list_that_hangs_delays_nothing() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:40")
        world.api.list_took = 3600.0
        await world.until("12:10:30")
        assert world.runs(automation) == [f"12:{minute:02}:00.010" for minute in range(1, 11)]

    in_world(story)


def test_connections_are_warmed_for_what_was_claimed_and_one_that_hangs_delays_nothing() -> None:
    async def story(world: World) -> None:
        world.set(max_in_flight=2)
        world.own_policies = {
            world.api.create(): make_policies(jitter=timedelta(seconds=25)) for _ in range(4)
        }
        world.api.warm_took = 3600.0
        world.start()
        await world.until("12:02:00")
        assert world.api.warmed == [1]  # the first one hangs
        for automation in world.own_policies:
            (row,) = world.ledger.of(automation)
            assert row.lateness is not None
            assert row.lateness < 0.01

    in_world(story)


def test_an_automation_that_hangs_delays_no_other() -> None:
    async def story(world: World) -> None:
        slow, quick = world.api.create(), world.api.create()
        world.api.script(slow, Deed(took=29.0))
        world.start()
        await world.until("12:01:40")
        assert world.runs(quick) == ["12:01:00.010"]
        assert world.fates(slow) == {"12:01": "accepted: answered"}

    in_world(story)


def test_two_targets_of_which_one_is_dead_do_not_know_of_each_other() -> None:
    async def story(world: World) -> None:
        dead = world.add_target("dead")
        automation, other = world.api.create(), dead.create()
        world.start()
        await world.until("12:00:40")
        dead.list_took = dead.get_took = dead.warm_took = 3600.0
        dead.admits = False
        await world.until("12:10:30")
        assert world.runs(automation) == [f"12:{minute:02}:00.010" for minute in range(1, 11)]
        assert world.runs(other, api=dead) == []

    in_world(story)


def test_jitter_moves_the_start_by_the_same_amount_every_time() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:40:00")
        offsets = {run[4:] for run in world.runs(automation)}
        assert len(world.runs(automation)) == 3
        assert len(offsets) == 1
        assert offsets != {"0:00.010"}
        for clock in ("12:10", "12:20", "12:30"):
            row = world.row(automation, clock)
            assert row.due - row.occurrence.scheduled_for < timedelta(minutes=4)
            assert row.lateness is not None
            assert row.lateness < 0.01  # it counts from when it is due

    in_world(story, policies=make_policies(jitter=timedelta(minutes=4)))
