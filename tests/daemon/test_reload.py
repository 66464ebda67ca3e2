"""Other settings, another key or newer zone data for a target that is being served."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from scheduler.core.cron import zones
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from tests.daemon.world import World, in_world
from tests.defaults import make_policies


@pytest.fixture
def zones_gone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Makes all zone data unreadable, as in the middle of an upgrade."""

    def gone() -> None:
        monkeypatch.setattr(zones, "_find_copies", list)
        zones.reload_zones()

    yield gone
    monkeypatch.undo()
    zones.reload_zones()


def test_what_a_reload_changes_holds_at_once_and_is_recorded_when_that_is_possible(
    zones_gone: Callable[[], None],
) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("* * * * *", timezone="Europe/Berlin")
        target = world.start().target
        await world.until("12:02:30")
        world.ledger.broken = "disk full"
        now, context = world.clock.now(), target.context
        target.evaluate(now)
        zones_gone()
        target.reconfigure(context.settings, context.upstream, context.ledger, Schedule.parse, since=now)
        assert dict(target.make_status().automations) == {"invalid": 1}
        recording = asyncio.create_task(target.record_changes())
        await world.until("12:03:30")
        assert not recording.done()
        world.ledger.broken = None
        await recording
        assert [version.invalid is None for version in world.ledger.versions()] == [True, False]
        assert world.fates(automation) == {"12:01": "accepted: answered", "12:02": "accepted: answered"}

    in_world(story)


def test_what_came_due_under_the_old_zone_data_is_not_lost_with_the_zone(
    zones_gone: Callable[[], None],
) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("* * * * *", timezone="Europe/Berlin")
        target = world.start().target
        await world.until("12:01:30")
        world.ledger.broken = "disk full"
        await world.until("12:03:30")
        now, context = world.clock.now(), target.context
        target.evaluate(now)
        zones_gone()
        target.reconfigure(context.settings, context.upstream, context.ledger, Schedule.parse, since=now)
        world.ledger.broken = None
        await world.until("12:05:30")
        assert list(world.fates(automation)) == ["12:01", "12:02", "12:03"]

    in_world(story, policies=make_policies())


def without_berlin(expression: object, timezone: object) -> Schedule:
    """Reads schedules by zone data that lack a zone."""
    if timezone == "Europe/Berlin":
        raise InvalidSchedule(expression, timezone, "the timezone 'Europe/Berlin' is unknown")
    return Schedule.parse(expression, timezone)


def test_what_a_reload_changed_is_on_record_before_what_is_seen_after_it() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("* * * * *", timezone="Europe/Berlin")
        target = world.start().target
        await world.until("12:01:30")
        now, context = world.clock.now(), target.context
        target.evaluate(now)
        target.reconfigure(context.settings, context.upstream, context.ledger, without_berlin, since=now)
        world.api.edit(automation, timezone="UTC")
        await world.until("12:02:30")
        await target.record_changes()
        versions = [version for version in world.ledger.versions() if version.automation_id == automation]
        assert [
            (version.definition and version.definition.timezone, version.invalid is None)
            for version in versions
        ] == [
            ("Europe/Berlin", True),
            ("Europe/Berlin", False),
            ("UTC", True),
        ]

    in_world(story)
