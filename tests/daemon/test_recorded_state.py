"""What the ledger recorded is taken up in slices, so that a target with many automations keeps nobody else
waiting while it opens.
"""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from scheduler.core import timetable
from scheduler.core.cron.schedule import Schedule
from scheduler.daemon.target_worker import TargetWorker
from tests.daemon.test_reload import without_berlin
from tests.daemon.world import World, in_world


def reload(target: TargetWorker) -> None:
    """Take up rules that refuse Europe/Berlin, as the daemon does on SIGHUP."""
    context = target.context
    now = context.clock.now()
    target.evaluate(now)
    target.reconfigure(context.settings, context.upstream, context.ledger, without_berlin, since=now)


def test_others_have_a_turn_after_each_slice() -> None:
    async def story(world: World) -> None:
        for number in range(1000):
            world.api.create(f"{number % 60} {number // 60} * * *")
        world.start()
        await world.after(30)
        world.kill()
        turns, parsed_in, is_over = [0], Counter[int](), asyncio.Event()

        def turn() -> None:
            turns[0] += 1
            if not is_over.is_set():
                asyncio.get_running_loop().call_soon(turn)

        def parse(expression: str, timezone: str) -> Schedule:
            if not parsed_in:
                turn()
            parsed_in[turns[0]] += 1
            if parsed_in.total() == 1000:
                is_over.set()
            return Schedule.parse(expression, timezone)

        world.parse = parse
        process = world.start()
        await is_over.wait()
        process.kill()
        assert max(parsed_in.values()) <= timetable._LOADED_AT_ONCE

    in_world(story)


def test_what_came_due_meanwhile_is_not_lost() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("* * * * *") for _ in range(250)]
        world.start()
        await world.until("12:01:30")
        world.kill()
        await world.until("12:02:30")
        world.start()
        await world.until("12:03:30")
        assert [world.fates(each) for each in automations] == [
            dict.fromkeys(["12:01", "12:02", "12:03"], "accepted: answered")
        ] * 250

    in_world(story)


def test_a_reload_between_two_slices_counts_for_all_automations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timetable, "_LOADED_AT_ONCE", 2)

    async def story(world: World) -> None:
        automations = [world.api.create("* * * * *", timezone="Europe/Berlin") for _ in range(5)]
        world.start()
        await world.until("12:01:30")
        world.kill()
        course: list[str] = []

        def reload_now() -> None:
            course.append("reload")
            reload(process.target)

        def parse(expression: str, timezone: str) -> Schedule:
            course.append("parse")
            if len(course) == 3:
                asyncio.get_running_loop().call_soon(reload_now)
            return Schedule.parse(expression, timezone)

        world.parse = parse
        process = world.start()
        await world.after(timedelta(seconds=5))
        assert course == ["parse"] * 4 + ["reload", "parse"], "the reload came in the middle of the load"
        assert dict(process.target.make_status().automations) == {"invalid": 5}
        await world.until("12:03:30")
        assert [world.fates(each) for each in automations] == [{"12:01": "accepted: answered"}] * 5

    in_world(story)
