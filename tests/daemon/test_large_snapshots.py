"""A snapshot with many changes goes into the ledger in parts, so that no claim waits for all of it.

A kill between two parts loses nothing.
"""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.events import AutomationAdded, AutomationChanged, Event, RunForeign
from scheduler.core.model import RunOrigin, RunUpdate, Snapshot
from scheduler.core.recorded_state import RecordedRuns
from scheduler.core.timetable import SnapshotChanges
from scheduler.daemon import planner, poller, snapshot_outbox, tracker
from tests.daemon.world import NOON, World, in_world, slow

BEGIN = NOON + timedelta(minutes=58, seconds=10)


@pytest.fixture(autouse=True)
def _two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_outbox, "_MOST_AT_ONCE", 2)
    monkeypatch.setattr(tracker, "_RUNS_AT_ONCE", 2)


def versions(world: World) -> list[str]:
    return sorted(version.automation_id for version in world.ledger.versions())


def has_snapshot(world: World) -> bool:
    return world.ledger.target().snapshot_at is not None


def test_it_counts_as_taken_with_its_last_part() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("0 13 * * *") for _ in range(5)]
        world.kills = lambda process, name: (
            name == "after ledger.record_snapshot" and process.checkpoints.count(name) == 2
        )
        world.start()
        await world.after(5)
        assert (
            versions(world) == sorted(automations)[:4]
        )  # parts go by id: neighbours in the tables are written together
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
        slow(world, "record_runs", 0.05)  # the process dies before the runs of the snapshot are recorded
        world.kills = lambda process, name: (
            name == "after ledger.record_snapshot" and process.checkpoints.count(name) == 2
        )
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
        world.kills = lambda _, name: name == "after ledger.record_snapshot" and len(versions(world)) == 7
        await world.after(120)
        assert world.process is not None
        assert not world.process.alive
        world.kills = lambda *_: False
        world.start()
        await world.after(5)
        assert [version.effective_from for version in world.ledger.versions()[5:]] == [edited_at] * 5

    in_world(story, begin=BEGIN)


def test_what_it_changed_is_told_in_slices_that_let_others_have_a_turn() -> None:
    async def story(world: World) -> None:
        for _ in range(500):
            world.api.create("0 13 * * *")
        context, turns = world.start().target.context, [0]
        told_in: Counter[int] = Counter()
        publish = context.publish

        def turn() -> None:
            turns[0] += 1
            if turns[0] < 50:
                asyncio.get_running_loop().call_soon(turn)

        def count(event: Event) -> None:
            publish(event)
            if isinstance(event, AutomationAdded):
                if not turns[0]:
                    turn()
                told_in[turns[0]] += 1

        context.publish = count
        await world.after(5)
        assert told_in.total() == 500
        assert max(told_in.values()) <= 50

    in_world(story, begin=BEGIN)


def test_what_is_due_for_many_is_planned_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "AT_ONCE", 2)

    async def story(world: World) -> None:
        automations = [world.api.create("0 13 * * *") for _ in range(5)]
        process = world.start()
        await world.until("13:00:30")
        assert [world.fates(each) for each in automations] == [{"13:00": "accepted: answered"}] * 5
        assert process.checkpoints.count("after ledger.claim") == 3

    in_world(story, begin=BEGIN)


def test_a_kill_between_two_slices_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "AT_ONCE", 2)

    async def story(world: World) -> None:
        automations = [world.api.create("0 13 * * *") for _ in range(5)]
        world.kills = lambda process, name: (
            name == "after ledger.claim" and process.checkpoints.count(name) == 2
        )
        world.start()
        await world.until("13:00:10")
        world.kills = lambda *_: False
        world.start()
        await world.until("13:03:00")
        assert [world.fates(each)["13:00"][:8] for each in automations] == ["accepted"] * 5

    in_world(story, begin=BEGIN)


def test_many_runs_are_recorded_in_parts_and_none_is_missed() -> None:
    async def story(world: World) -> None:
        runs = [world.api.run_by_somebody(world.api.create("0 13 * * *")) for _ in range(4)]
        followed, parts = world.ledger.record_runs, []

        async def counted(target: str, update: RunUpdate) -> RecordedRuns:
            parts.append(len(update.runs))
            return await followed(target, update)

        world.ledger.__dict__["record_runs"] = counted
        world.start()
        await world.after(5)
        assert parts == [2, 2]
        assert {run_id: row.origin for (_, run_id), row in world.ledger.runs.items()} == dict.fromkeys(
            runs, RunOrigin.BEFORE
        )

    in_world(story, begin=BEGIN)


def test_others_have_a_turn_while_many_automations_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "_AUTOMATIONS_AT_ONCE", 2)

    async def story(world: World) -> None:
        for _ in range(5):
            world.api.create("0 13 * * *")
        following = world.start().target._tracker
        look, looked, turns = following._track_reading, [], Counter[str]()

        async def counted(*args: Any, **known: Any) -> None:
            looked.append(turns["others"])
            await look(*args, **known)

        async def take_turns() -> None:
            while len(looked) < 5:
                turns["others"] += 1
                await asyncio.sleep(0)

        monkeypatch.setattr(following, "_track_reading", counted)
        await take_turns()
        assert [looked.count(turn) for turn in sorted(set(looked))] == [2, 2, 1]

    in_world(story, begin=BEGIN)


def test_many_changes_are_taken_up_in_parts_and_nothing_of_them_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(poller, "_CHANGES_AT_ONCE", 2)

    async def story(world: World) -> None:
        automations = [world.api.create("0 13 * * *") for _ in range(5)]
        process = world.start()
        await world.after(5)
        for number, each in enumerate(automations):
            world.api.edit(each, cron_expression=f"{number + 1} 13 * * *")
        gone = world.api.create("5 13 * * *")
        await world.after(40)
        world.api.delete(gone)
        taken: list[list[str]] = []
        update = process.target.context.timetable.update

        def counted(snapshot: Snapshot, **known: Any) -> SnapshotChanges:
            changes = update(snapshot, **known)
            taken.append([each.automation_id for each in changes.changed])
            return changes

        monkeypatch.setattr(process.target.context.timetable, "update", counted)
        for each in automations:
            world.api.edit(each, cron_expression="30 13 * * *")
        await world.until("13:31:30")
        first, second, *more = sorted(automations)
        assert [part for part in taken if part] == [[first, second], more[:2], more[2:]]
        assert [world.fates(each) for each in automations] == [{"13:30": "accepted: answered"}] * 5
        assert len(world.told(AutomationChanged)) == 10
        assert world.fates(gone) == {}

    in_world(story, begin=BEGIN)


def test_when_the_clock_is_set_between_two_parts_the_rest_is_read_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(poller, "_CHANGES_AT_ONCE", 2)

    async def story(world: World) -> None:
        automations = [world.api.create("0 13 * * *") for _ in range(5)]
        process = world.start()
        await world.after(5)
        for each in automations:
            world.api.edit(each, cron_expression="30 13 * * *")
        add, parts = process.target._outbox.add, []

        def step_back(*args: Any, **kwargs: Any) -> None:
            add(*args, **kwargs)
            parts.append(kwargs)
            if len(parts) == 1:
                world.clock.step(-20)

        monkeypatch.setattr(process.target._outbox, "add", step_back)
        await world.until("13:31:30")
        assert parts[0] == {"whole": False}
        assert [world.fates(each) for each in automations] == [{"13:30": "accepted: answered"}] * 5

    in_world(story, begin=BEGIN)
