"""After a long downtime the present is planned first, and the rest is recorded in slices, each of them
durable.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest

from scheduler.core.cron.schedule import Schedule
from scheduler.core.errors import LedgerUnavailable, UpstreamError
from scheduler.core.events import Event, OccurrenceConcluded
from scheduler.core.model import Outcome
from scheduler.core.policy import CatchUp, Policies
from scheduler.core.timetable import Timetable
from scheduler.daemon import planner
from tests.daemon.world import NOON, Process, World, in_world
from tests.defaults import make_policies

DAY = timedelta(days=1)
CRONS = ("* * * * *", "* * * * *", "*/2 * * * *", "1-59/3 * * * *", "*/5 * * * *", "17 * * * *")


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many slices that something can happen between two of them: each holds what one automation missed."""
    monkeypatch.setattr(planner, "FIRST_SLICE", 1)
    monkeypatch.setattr(planner, "LARGEST_SLICE", 1)


async def served_and_killed(
    world: World, crons: Sequence[str] = CRONS, down_for: timedelta = DAY
) -> list[str]:
    """Automations that a daemon knew before it was killed; then so much time passes."""
    automations = [world.api.create(cron) for cron in crons]
    world.start()
    await world.until("12:00:40")
    world.kill()
    await world.after(down_for)
    return automations


def covered(world: World, automation_id: str) -> list[datetime]:
    """Every instant of an automation that has a row, once for each row."""
    covered: list[datetime] = []
    for row in world.ledger.of(automation_id):
        instants = world.ledger.list_instants(row)
        assert all(row.scheduled_for <= instant <= row.last for instant in instants)
        assert row.count == len(instants), f"a row for {row.count} occurrences stands for {len(instants)}"
        covered += instants
    return sorted(covered)


def assert_complete(world: World, automations: Sequence[str], crons: Sequence[str], until: datetime) -> None:
    """Each instant has its one row."""
    for automation_id, cron in zip(automations, crons, strict=True):
        meant = list(Schedule.parse(cron, "UTC").iterate_between(NOON + timedelta(seconds=40), until))
        assert [
            each for each in covered(world, automation_id) if NOON + timedelta(seconds=40) < each <= until
        ] == meant


def test_the_newest_is_sent_before_the_rest_is_recorded() -> None:
    async def story(world: World) -> None:
        gaps: list[int] = []
        claim = world.ledger.claim

        async def claiming(*args: Any, **more: Any) -> Any:
            made = await claim(*args, **more)
            gaps.append(len(world.ledger.target().gaps))
            if len(gaps) == 1:
                assert len(args[1].claims) == 6
                assert not args[1].spans
                assert world.clock.now() - (world.ledger.target().watermark or NOON) < timedelta(seconds=1)
            return made

        automations = await served_and_killed(world, down_for=DAY + timedelta(minutes=25, seconds=5))
        world.ledger.__dict__["claim"] = claiming
        world.start()
        await world.after(20)
        assert len(gaps) > 5
        assert gaps[0] == 1
        assert gaps[-1] == 0
        rows = {each: [(row.fate, row.count) for row in world.ledger.of(each)] for each in automations}
        assert rows[automations[0]] == [("skipped: coalesced", 1440 + 24), *[("accepted: answered", 1)] * 2]
        assert rows[automations[5]] == [("skipped: coalesced", 24), ("accepted: answered", 1)]
        assert_complete(world, automations, CRONS, world.clock.now())
        told = Counter[str]()
        for each in world.told(OccurrenceConcluded):
            told[each.occurrence.automation_id] += each.count
        assert [told[each] for each in automations] == [len(covered(world, each)) for each in automations]

    in_world(story)


@cache
def slices() -> int:
    """How often the ledger is written between the start after a downtime and the end of the recovery."""
    passed = 0

    async def story(world: World) -> None:
        nonlocal passed
        await served_and_killed(world)
        process = world.start()
        await world.after(20)
        passed = sum(name == "after ledger.claim" for name in process.checkpoints)

    in_world(story)
    return passed


@pytest.mark.parametrize("where", ["before ledger.claim", "after ledger.claim"])
@pytest.mark.parametrize("number", range(1, 9))
def test_a_kill_at_any_slice_loses_nothing_and_doubles_nothing(where: str, number: int) -> None:
    assert slices() >= 6
    deaths = 0

    def kills(process: Process, name: str) -> bool:
        nonlocal deaths
        dies = deaths == 0 and name == where and process.checkpoints.count(where) == number
        deaths += dies
        return dies

    async def story(world: World) -> None:
        automations = await served_and_killed(world)
        world.kills = kills
        process = world.start()
        if not await process.dies(within=30):
            assert number > slices()
            return
        await world.after(45)
        world.start()
        await world.after(30)
        world.assert_settled()
        assert not world.ledger.target().gaps
        assert_complete(world, automations, CRONS, world.clock.now() - timedelta(seconds=20))
        fates = Counter(row.fate for each in automations for row in world.ledger.of(each) if row.count > 1)
        assert set(fates) <= {"skipped: coalesced", "skipped: missed"}

    in_world(story)


def test_a_daemon_that_is_killed_again_and_again_gets_on() -> None:
    """Each life records one slice, and the next one goes on behind it."""

    async def story(world: World) -> None:
        automations = await served_and_killed(world)
        for life in range(40):
            world.kills = lambda process, name: (
                name == "after ledger.claim" and process.checkpoints.count(name) == 2
            )
            process = world.start()
            if not await process.dies(within=8):
                process.kill()
                if life and not world.ledger.target().gaps:
                    break
            await world.after(1)
        assert not world.ledger.target().gaps
        world.kills = lambda *_: False
        world.start()
        await world.after(10)
        assert_complete(world, automations, CRONS, world.clock.now() - timedelta(seconds=20))

    in_world(story)


@pytest.mark.parametrize(
    ("policies", "fates"),
    [
        (make_policies(catch_up=CatchUp.NONE), {"skipped: missed"}),
        (make_policies(paused=True), {"skipped: paused"}),
        (make_policies(catch_up=CatchUp.ALL, start_within=timedelta(minutes=10)), {"skipped: missed"}),
        (make_policies(jitter=timedelta(minutes=10)), {"skipped: coalesced"}),
    ],
    ids=["none", "paused", "all", "jitter"],
)
def test_every_policy_decides_the_past(policies: Policies, fates: set[str]) -> None:
    async def story(world: World) -> None:
        automations = await served_and_killed(world, CRONS[:5])
        world.start()
        await world.after(40)
        assert {row.fate for each in automations for row in world.ledger.of(each) if row.count > 16} == fates
        assert_complete(world, automations, CRONS[:5], world.clock.now() - timedelta(minutes=2))
        assert not world.ledger.target().gaps

    in_world(story, policies=policies)


def test_under_all_what_may_still_start_is_sent_in_order() -> None:
    async def story(world: World) -> None:
        (automation,) = await served_and_killed(world, ["* * * * *"])
        world.start()
        await world.after(30)
        sent = [
            row
            for row in world.ledger.of(automation)
            if row.fate == "accepted: answered" and row.occurrence.scheduled_for > NOON + DAY / 2
        ]
        assert len(sent) >= 10
        runs = sorted((run.at, run.id) for run in world.api.runs_of(automation))
        assert [run for _, run in runs][-len(sent) :] == [row.run_id for row in sent]

    in_world(story, policies=make_policies(catch_up=CatchUp.ALL, start_within=timedelta(minutes=10)))


@pytest.mark.parametrize("reads", [False, True], ids=["nothing works", "it can be read"])
def test_a_ledger_that_cannot_be_written_for_hours_fills_no_memory(
    monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    most = 0

    async def fail(*_: object, **_more: object) -> None:
        raise LedgerUnavailable("disk full")

    due = Timetable.collect_due

    def watching(self: Timetable, *args: Any, **more: Any) -> Any:
        nonlocal most
        found = due(self, *args, **more)
        most = max([most, *(len(each.fire_times) for each in found)])
        return found

    monkeypatch.setattr(Timetable, "collect_due", watching)

    async def story(world: World) -> None:
        automations = [world.api.create(cron) for cron in CRONS]
        world.start()
        await world.until("12:00:40")
        if reads:
            world.ledger.__dict__["claim"] = fail
        else:
            world.ledger.broken = "disk full"
        await world.until("14:00:40")
        world.ledger.broken = None
        world.ledger.__dict__.pop("claim", None)
        await world.after(90)
        assert most <= 20
        assert_complete(world, automations, CRONS, world.clock.now() - timedelta(seconds=20))
        (longest,) = (row for row in world.ledger.of(automations[0]) if row.count > 100)
        assert longest.fate == "skipped: coalesced"
        assert not world.ledger.target().gaps

    in_world(story)


def test_an_edit_that_counts_from_hours_ago_is_recovered_too() -> None:
    """The list could not be read for hours, and then it shows that an automation has been another one
    since.
    """

    async def story(world: World) -> None:
        world.set(stale_limit=timedelta(hours=24))
        paused, edited = world.api.create("0 0 1 1 *"), world.api.create("17 * * * *")
        world.start()
        await world.until("12:00:40")
        world.api.list_error = UpstreamError("down")
        await world.until("12:05:00")
        world.api.edit(edited, cron_expression="* * * * *")
        since = world.clock.now()
        await world.until("17:05:00")
        world.api.list_error = None
        await world.after(120)
        assert not world.ledger.target().gaps
        meant = set(
            Schedule.parse("* * * * *", "UTC").iterate_between(
                since, world.clock.now() - timedelta(seconds=20)
            )
        )
        assert meant <= set(covered(world, edited))
        assert not [each for each in covered(world, paused) if each > since]

    in_world(story)


def test_an_edit_between_two_slices_changes_nothing_of_what_is_recorded_for_the_past() -> None:
    """The newest overdue occurrence was claimed before the edit, and the older ones are coalesced into it."""

    async def story(world: World) -> None:
        automations = await served_and_killed(world, down_for=DAY + timedelta(minutes=25))
        claim, claims = world.ledger.claim, [0]

        async def claiming(*args: Any, **more: Any) -> Any:
            claims[0] += 1
            if claims[0] == 2:
                for each in automations:
                    world.api.edit(each, cron_expression="3 3 * * *")
                await asyncio.sleep(40)
            return await claim(*args, **more)

        world.ledger.__dict__["claim"] = claiming
        world.start()
        await world.after(120)
        assert claims[0] > len(automations)
        for each in automations:
            assert Counter(row.fate for row in world.ledger.of(each)) == {
                "skipped: coalesced": 1,
                "accepted: answered": 1,
            }

    in_world(story)


def test_a_slice_that_takes_long_makes_the_next_one_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """What falls due meanwhile waits for one slice at most."""
    monkeypatch.setattr(planner, "FIRST_SLICE", 24)
    monkeypatch.setattr(planner, "LARGEST_SLICE", 24)
    sizes: list[int] = []

    async def story(world: World) -> None:
        await served_and_killed(world, ["* * * * *"] * 60)
        claim = world.ledger.claim

        async def claiming(*args: Any, **more: Any) -> Any:
            if spans := args[1].spans:
                sizes.append(len(spans))
                await asyncio.sleep(0.02 * len(spans))
            return await claim(*args, **more)

        world.ledger.__dict__["claim"] = claiming
        world.start()
        await world.after(20)
        assert sum(sizes) == 60
        assert sizes[:4] == [24, 12, 6, 3]

    in_world(story)


@pytest.mark.parametrize("paused", [False, True], ids=["the past", "the present"])
def test_what_was_passed_over_is_told_in_slices_that_let_others_have_a_turn(
    monkeypatch: pytest.MonkeyPatch, *, paused: bool
) -> None:
    monkeypatch.setattr(planner, "FIRST_SLICE", 500)
    monkeypatch.setattr(planner, "LARGEST_SLICE", 500)

    async def story(world: World) -> None:
        world.policies = make_policies(paused=paused)
        await served_and_killed(world, ["* * * * *"] * 120, timedelta(hours=1))
        world.events.clear()
        context, told, in_a_row, most = world.start().target.context, [0], [0], [0]
        publish = context.publish

        def turn() -> None:
            in_a_row[0] = 0

        def count(event: Event) -> None:
            publish(event)
            if isinstance(event, OccurrenceConcluded) and event.outcome is Outcome.SKIPPED:
                if not in_a_row[0]:
                    asyncio.get_running_loop().call_soon(turn)
                told[0] += 1
                in_a_row[0] += 1
                most[0] = max(most[0], in_a_row[0])

        context.publish = count
        await world.after(5)
        assert told[0] >= 120
        assert most[0] <= 50

    in_world(story)
