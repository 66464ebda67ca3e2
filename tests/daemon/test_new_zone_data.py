"""Zone data or rules that changed while no daemon ran: what is valid now begins with the start, and nothing
from before it fires.
"""

from scheduler.core.events import AutomationQuarantined
from tests.daemon.world import World, in_world


def test_one_that_became_valid_while_nobody_ran_fires_from_the_start_on() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:01:30")
        world.kill()
        for table in ("automation", "definition"):
            world.ledger.change(f"UPDATE {table} SET invalid = 'unknown time zone'")
        await world.until("12:03:30")
        world.start()
        await world.until("12:04:30")
        assert world.fates(automation) == dict.fromkeys(["12:01", "12:04"], "accepted: answered")
        valid = [version for version in world.ledger.versions() if version.invalid is None]
        assert [f"{version.effective_from:%H:%M:%S}" for version in valid] == ["12:03:30"]
        assert world.ledger.target().automations[automation].invalid is None

    in_world(story)


def test_one_that_became_invalid_while_nobody_ran_is_told_once() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(cron="61 * * * *")
        world.start()
        await world.until("12:01:30")
        world.kill()
        world.ledger.change("UPDATE automation SET invalid = NULL")
        for clock, told in (("12:02:30", 2), ("12:03:30", 2)):
            world.start()
            await world.until(clock)
            world.kill()
            assert len(world.told(AutomationQuarantined)) == told
        assert world.ledger.target().automations[automation].invalid is not None

    in_world(story)
