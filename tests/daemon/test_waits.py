"""What each occurrence waits for is shown while it waits, with the instant since which it does."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from scheduler.core.errors import LedgerUnavailable, UpstreamError
from scheduler.core.model import Automation, Definition, Snapshot
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import CatchUp, Concurrency, compute_due
from scheduler.core.status import WaitStatus
from scheduler.core.timetable import Timetable
from scheduler.daemon.waits import MOST_LISTED, Waits
from tests.counting import count_lines
from tests.daemon.world import NOON, World, in_world
from tests.defaults import make_policies
from tests.fakes import LOST_REQUEST, REFUSED, Deed, answered

BEGIN = NOON + timedelta(minutes=59, seconds=20)
ONE = NOON + timedelta(hours=1)
LENIENT = make_policies(start_within=timedelta(minutes=30))


async def waits(world: World) -> list[WaitStatus]:
    assert world.process is not None
    return list((await world.process.target.waits.make_status()).first)


async def causes(world: World) -> list[str]:
    """The cause of each wait by due time, with the seconds since which it lasts."""
    now = world.clock.now()
    return [f"{each.cause} {(now - each.since).total_seconds():.0f}" for each in await waits(world)]


def test_an_occurrence_between_its_instant_and_its_due_time_waits_for_that() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 * * * *", name="hourly")
        process = world.start()
        await world.until("13:00:01")
        schedule = process.target.context.timetable.entries[automation].schedule
        due = compute_due(world.policies, "main", automation, schedule, ONE)
        assert timedelta(seconds=5) < due - ONE < timedelta(minutes=20), "the id decides"
        waiting = WaitStatus(
            automation, "hourly", ONE, due, Cause.DUE, ONE, deadline=due + timedelta(minutes=30)
        )
        shown = process.target.waits
        assert (
            await waits(world),
            shown.list_for_automation(automation),
            await shown.list_not_due(),
            await shown.list_not_due(automation),
        ) == ([waiting],) * 4
        assert await shown.list_not_due(only=lambda each: each.name == "hourly") == [waiting]
        assert (
            shown.list_for_automation("another"),
            await shown.list_not_due(only=lambda each: each.name == "h*"),
        ) == ([], [])
        status = await process.target.waits.make_status()
        assert (status.causes, status.unclaimed, process.target.make_status().before_due) == (
            {Cause.DUE: 1},
            1,
            1,
        )
        assert world.fates(automation) == {}
        await world.after(due - world.clock.now() + timedelta(seconds=1))
        assert await waits(world) == []
        assert await process.target.waits.list_not_due() == []
        assert world.fates(automation) == {"13:00": "accepted: answered"}

    in_world(story, begin=BEGIN, policies=make_policies(jitter=timedelta(minutes=20)))


def test_what_an_edit_takes_back_does_not_wait_for_its_due_time_any_more() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 * * * *")
        world.start()
        await world.until("12:59:50")
        world.api.edit(automation, cron_expression="30 * * * *")
        await world.until("13:00:01")
        await world.until("13:00:40")
        assert await waits(world) == []

    in_world(story, begin=BEGIN, policies=make_policies(jitter=timedelta(minutes=20)))


def test_each_cause_is_shown_with_its_beginning() -> None:
    async def story(world: World) -> None:
        failing, asked = world.api.create("0 13 * * *", name="a"), world.api.create("0 13 * * *", name="b")
        queued, lost = world.api.create("0 13 * * *", name="c"), world.api.create("* * * * *", name="d")
        world.own_policies = {
            queued: make_policies(concurrency=Concurrency.QUEUE, start_within=timedelta(minutes=30)),
            lost: make_policies(catch_up=CatchUp.ALL),
        }
        world.api.run_lasts = 600.0
        world.api.script(failing, *[REFUSED] * 20)
        world.api.script(asked, Deed(took=29.0))
        world.api.script(lost, LOST_REQUEST)
        world.set(settle_time=timedelta(seconds=70))
        world.start()
        await world.until("12:59:50")
        run_id = world.api.run_by_somebody(queued)
        await world.until("13:00:20")
        shown = {(each.name, each.cause): each for each in await waits(world)}
        assert shown.keys() == {
            ("a", Cause.BACK_OFF),
            ("b", Cause.ANSWER),
            ("c", Cause.QUEUED),
            ("d", Cause.ANSWER),
        }
        assert shown["a", Cause.BACK_OFF].detail == "connection refused"
        assert shown["c", Cause.QUEUED].detail == run_id
        assert ONE <= shown["b", Cause.ANSWER].since < ONE + timedelta(seconds=1)
        await world.until("13:01:20")
        shown = {(each.name, each.cause): each for each in await waits(world)}
        assert shown["d", Cause.OUTCOME].scheduled_for == ONE
        turn = shown["d", Cause.TURN]
        assert (turn.since, turn.detail) == (ONE + timedelta(minutes=1), "2026-11-23T13:00:00Z")

    in_world(story, begin=BEGIN, policies=LENIENT)


def test_a_held_target_is_shown_with_its_error() -> None:
    async def story(world: World) -> None:
        world.api.create("0 13 * * *")
        world.api.deed = answered(401, error="bad key")
        world.start()
        await world.until("13:00:10")
        (held,) = await waits(world)
        assert held.cause is Cause.HELD
        assert held.detail is not None
        assert "bad key" in held.detail

    in_world(story, begin=BEGIN, policies=LENIENT)


def test_a_due_occurrence_that_the_ledger_does_not_take_is_shown_without_a_row() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *", name="nightly")
        world.start()
        await world.until("12:59:40")
        claim = world.ledger.claim

        async def refuse(*_: object, **__: object) -> object:
            raise LedgerUnavailable("disk full")

        world.ledger.__dict__["claim"] = refuse
        await world.until("13:00:30")
        (wait,) = await waits(world)
        assert (wait.name, wait.cause, wait.detail, wait.since) == ("nightly", Cause.LEDGER, "disk full", ONE)
        world.ledger.__dict__["claim"] = claim
        await world.until("13:02:00")
        assert await waits(world) == []
        assert world.fates(automation) == {"13:00": "accepted: answered"}

    in_world(story, begin=BEGIN, policies=LENIENT)


def test_what_came_due_while_nobody_ran_waits_for_the_first_good_poll() -> None:
    async def story(world: World) -> None:
        world.api.create("0 13 * * *")
        world.start()
        await world.until("12:59:50")
        world.kill()
        await world.until("13:04:00")
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        world.start()
        await world.until("13:04:30")
        assert await causes(world) == ["unconfirmed 30"]

    in_world(story, begin=BEGIN, policies=LENIENT)


def test_many_waits_are_gone_through_a_part_at_a_time() -> None:
    """A hundred thousand kept the loop for a third of a second, with each look at the page."""

    async def story(world: World) -> None:
        seen = 0

        def yield_waits() -> Iterator[tuple[None, WaitStatus]]:
            nonlocal seen
            for minute in reversed(range(5_000)):
                seen += 1
                due = NOON + timedelta(minutes=minute)
                yield None, WaitStatus("a", "a", due, due, Cause.HELD, NOON)

        context: Any = SimpleNamespace(timetable=make_timetable(0), clock=world.clock)
        planner: Any = SimpleNamespace(hindrance=None, absent_until=NOON)
        dispatcher: Any = SimpleNamespace(iterate_waits=yield_waits)
        asking = asyncio.create_task(Waits(context, planner, dispatcher).make_status())
        most = before = 0
        while not asking.done():
            await asyncio.sleep(0)
            most, before = max(most, seen - before), seen
        status = asking.result()
        assert status.causes == {Cause.HELD: 5_000}
        assert [each.due for each in status.first[:2]] == [NOON, NOON + timedelta(minutes=1)]
        assert most <= 1_000

    in_world(story)


def make_timetable(count: int) -> Timetable:
    """Return a timetable with a fire time of each of ``count`` automations, which waits for its due time."""
    timetable = Timetable("main", now=NOON, policies=lambda *_: make_policies(jitter=timedelta(minutes=20)))
    shown = [
        Automation(f"id {number}", f"a{number}", Definition("*/30 * * * *", "UTC", enabled=True))
        for number in range(count)
    ]
    snapshot = Snapshot(
        NOON, 0.0, 0.0, {each.id: each for each in shown}, {}, complete=True, clock_offset=0.0, unidentified=0
    )
    timetable.update(snapshot, previous_poll=NOON, confirm_after=30.0)
    timetable.collect_due(NOON + timedelta(minutes=30))
    return timetable


def make_waits(count: int) -> Waits:
    context: Any = SimpleNamespace(
        timetable=make_timetable(count), clock=SimpleNamespace(now=lambda: NOON + timedelta(hours=1))
    )
    planner: Any = SimpleNamespace(hindrance=None, absent_until=NOON)
    dispatcher: Any = SimpleNamespace(queues={}, iterate_waits=list)
    return Waits(context, planner, dispatcher)


def count_most_lines(work: Callable[[], Coroutine[Any, Any, object]]) -> int:
    """Return how many lines the longest stretch of the work executes in which nobody else has a turn."""
    coroutine, counts, ended = work(), list[int](), False

    def take_step() -> None:
        nonlocal ended
        try:
            coroutine.send(None)
        except StopIteration:
            ended = True

    while not ended:
        counts.append(count_lines(take_step))
    return max(counts)


def test_the_waits_of_one_automation_cost_nothing_for_the_others() -> None:
    few, many = make_waits(100), make_waits(3_000)
    assert [wait.name for wait in many.list_for_automation("id 7")] == ["a7"]
    assert count_lines(lambda: many.list_for_automation("id 7")) == count_lines(
        lambda: few.list_for_automation("id 7")
    )
    assert count_most_lines(lambda: many.list_not_due("id 7")) == count_most_lines(
        lambda: few.list_not_due("id 7")
    )


def test_waits_for_due_times_are_searched_by_name_a_part_at_a_time() -> None:
    waits = make_waits(5_000)
    half = count_most_lines(lambda: make_waits(2_500).list_not_due(only=lambda each: each.name == "a2400"))
    assert count_most_lines(lambda: waits.list_not_due(only=lambda each: each.name == "a2400")) < 1.2 * half
    (found,) = asyncio.run(waits.list_not_due(only=lambda each: each.name == "a4900"))
    assert found.automation_id == "id 4900"
    everything = asyncio.run(waits.list_not_due(only=lambda _: True))
    assert len(everything) == MOST_LISTED
    dues = [[wait.due for wait in some] for some in (everything, asyncio.run(waits.list_not_due()))]
    assert dues[0] == dues[1] == sorted(dues[0]), "the first"


def test_all_waits_without_a_row_are_gone_through_a_part_at_a_time() -> None:
    waits = make_waits(3_000)
    waits._context.timetable.collect_due(NOON + timedelta(minutes=59))
    asked = asyncio.run(waits.make_status())
    assert asked.causes == {Cause.LEDGER: 3_000}, "planned by nobody yet"
    few = make_waits(1_500)
    few._context.timetable.collect_due(NOON + timedelta(minutes=59))
    assert count_most_lines(waits.make_status) < 1.2 * count_most_lines(few.make_status)
