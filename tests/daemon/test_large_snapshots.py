"""A snapshot with many changes goes into the ledger in parts, so that no claim waits for all of it.

A kill between two parts loses nothing.
"""

import asyncio
from datetime import timedelta

import pytest

from scheduler.core.events import AutomationAdded, RunForeign
from scheduler.core.model import RunOrigin
from scheduler.daemon import record
from tests.daemon.world import NOON, World, in_world, slow

BEGIN = NOON + timedelta(minutes=58, seconds=10)


@pytest.fixture(autouse=True)
def _two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_MOST_AT_ONCE", 2)


def versions(world: World) -> list[str]:
    return sorted(version.automation_id for version in world.ledger.targets["main"].versions)


def has_snapshot(world: World) -> bool:
    return world.ledger.targets["main"].snapshot_at is not None


def test_it_counts_as_taken_with_its_last_part() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("0 13 * * *") for _ in range(5)]
        world.kills = lambda process, name: name == "after ledger.observe" and process.checkpoints.count(name) == 2
        world.start()
        await world.after(5)
        assert len(versions(world)) == 4
        assert not has_snapshot(world)
        world.kills = lambda *_: False
        world.start()
        await world.after(5)
        assert versions(world) == sorted(automations)
        assert has_snapshot(world)
        await world.until("13:00:30")
        assert [world.fates(each) for each in automations] == [{"13:00": "accepted: answered"}] * 5

    in_world(story, begin=BEGIN)


def test_runs_of_a_snapshot_that_was_recorded_in_part_are_not_foreign() -> None:
    async def story(world: World) -> None:
        world.api.run_lasts = 3600.0
        automations = [world.api.create("0 13 * * *") for _ in range(5)]
        await world.after(5)
        runs = [world.api.run_by_somebody(each) for each in automations]
        slow(world, "followed", 0.05)  # the process dies before the runs of the snapshot are recorded
        world.kills = lambda process, name: name == "after ledger.observe" and process.checkpoints.count(name) == 2
        world.start()
        await world.after(5)
        world.kills = lambda *_: False
        world.start()
        await world.after(30)
        assert world.told(RunForeign) == []
        assert [world.ledger.runs["main", each].origin for each in runs] == [RunOrigin.BEFORE] * 5

    in_world(story, begin=BEGIN)


def test_an_edit_that_the_second_part_would_have_told_counts_from_when_it_was_made() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("0 14 * * *") for _ in range(5)]
        world.start()
        await world.until("12:59:00")
        for each in automations:
            world.api.edit(each, cron_expression="0,1 14 * * *")
        edited_at = world.clock.now()
        world.kills = lambda _, name: name == "after ledger.observe" and len(versions(world)) == 7
        await world.after(120)
        assert world.process is not None
        assert not world.process.alive
        world.kills = lambda *_: False
        world.start()
        await world.after(5)
        assert [version.effective_from for version in world.ledger.targets["main"].versions[5:]] == [edited_at] * 5

    in_world(story, begin=BEGIN)


def test_what_it_changed_is_told_in_slices_that_let_others_have_a_turn() -> None:
    async def story(world: World) -> None:
        for _ in range(500):
            world.api.create("0 13 * * *")
        told_in_a_turn: list[int] = []

        async def watch() -> None:
            while not told_in_a_turn or sum(told_in_a_turn) < 500:
                before = len(world.told(AutomationAdded))
                await asyncio.sleep(0 if before else 0.001)
                if newly := len(world.told(AutomationAdded)) - before:
                    told_in_a_turn.append(newly)

        watching = asyncio.create_task(watch())
        world.start()
        await world.after(5)
        await watching
        assert max(told_in_a_turn) <= 50

    in_world(story, begin=BEGIN)
