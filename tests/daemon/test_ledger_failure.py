"""A ledger that cannot be written for a while: nothing is sent that is not durable, nothing is lost, and it
recovers by itself.
"""

import asyncio
from datetime import timedelta

import pytest

from scheduler.core.errors import LedgerUnavailable, TargetMismatch
from scheduler.core.events import DeliveryFailed, LedgerFailed, LedgerRecovered
from scheduler.core.policy import CatchUp
from scheduler.daemon import ledger_health, planner
from scheduler.daemon.clock import LONGEST_BACK_OFF
from scheduler.daemon.ledger_health import LedgerHealth
from tests.daemon.world import NOON, Process, World, in_world
from tests.defaults import make_policies
from tests.fakes import LOST_REQUEST, REFUSED, RESET_AFTER, RESET_BEFORE, Deed, answered
from tests.virtual import run_virtual


async def trouble(world: World, begin: str, end: str) -> None:
    """The disk is full from then to then."""
    await world.until(begin)
    world.ledger.broken = "disk full"
    await world.until(end)
    world.ledger.broken = None


def test_nothing_is_sent_that_could_not_be_claimed() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        process = world.start()
        await world.until("12:09:00")
        world.ledger.broken = "disk full"
        await world.until("12:11:00")
        assert world.api.arrivals == []
        assert process.health.error == "disk full"
        world.ledger.broken = None
        await world.until("12:12:05")
        assert world.fates(automation) == {"12:10": "accepted: answered"}
        assert process.health.error is None

    in_world(story)


def test_it_is_told_once_that_it_fails_and_once_that_it_works() -> None:
    async def story(world: World) -> None:
        world.api.create()
        world.start()
        await trouble(world, "12:00:30", "12:03:30")
        await world.until("12:06:00")
        assert [event.first for event in world.told(LedgerFailed)].count(True) == 1
        assert {event.error for event in world.told(LedgerFailed)} == {"disk full"}
        assert len(world.told(LedgerRecovered)) == 1

    in_world(story)


def test_what_waits_for_the_ledger_is_written_soon_after_it_works_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the write of another, the longest back-off would be waited to its end."""
    monkeypatch.setattr(ledger_health, "back_off", lambda _failures: LONGEST_BACK_OFF)

    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, Deed(took=5.0))
        world.start()
        await world.until("13:00:03")
        await trouble(world, "13:00:03", "13:03:20")
        await world.until("13:04:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert world.told(LedgerRecovered)
        concluded = world.row(automation, "13:00").steps[-1]
        assert concluded.until is not None
        assert concluded.until < NOON + timedelta(hours=1, minutes=3, seconds=55)

    in_world(story, begin=NOON + timedelta(minutes=58))


def test_what_could_not_be_claimed_is_claimed_with_the_next_write_that_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer to an earlier request is recorded first; no poll comes in between."""
    monkeypatch.setattr(planner, "back_off", lambda _failures: LONGEST_BACK_OFF)

    async def story(world: World) -> None:
        world.set(poll_interval=timedelta(minutes=10), fresh_for=timedelta(hours=1))
        flying, due = world.api.create("0 13 * * *"), world.api.create("1 13 * * *")
        world.api.script(flying, Deed(took=67.0))
        world.start()
        await trouble(world, "13:00:55", "13:01:05")
        await world.until("13:01:20")
        assert world.fates(flying) == {"13:00": "accepted: answered"}
        assert world.fates(due) == {"13:01": "accepted: answered"}

    in_world(story, begin=NOON + timedelta(minutes=58))


@pytest.mark.parametrize(("works_after", "waits"), [(2.0, 7.5), (20.0, 20.0), (None, 60.0)])
def test_a_retry_waits_for_the_next_write_that_works_but_an_eighth_of_its_back_off_at_least(
    works_after: float | None, waits: float
) -> None:
    async def story() -> None:
        loop, health = asyncio.get_running_loop(), LedgerHealth(lambda _: None)
        if works_after is not None:
            loop.call_later(works_after, health.note_success)
        begun = loop.time()
        await health.wait_for_retry(60.0)
        assert loop.time() - begun == pytest.approx(waits, abs=0.01)

    run_virtual(story())


def test_of_ten_thousand_retries_few_are_made_at_once() -> None:
    async def story() -> None:
        health, made = LedgerHealth(lambda _: None), 0

        async def retry() -> None:
            nonlocal made
            await health.wait_for_retry(60.0)
            made += 1

        retries = [asyncio.create_task(retry()) for _ in range(10_000)]
        await asyncio.sleep(10.0)
        health.note_success()
        await asyncio.sleep(0.1)
        assert 0 < made <= 1_000
        while made < len(retries):
            find_before = made
            health.note_success()
            await asyncio.sleep(0.1)
            assert find_before < made <= find_before + 1_000

    run_virtual(story())


def test_that_it_can_be_read_does_not_mean_that_it_works() -> None:
    async def story(world: World) -> None:
        automations = [world.api.create("0 13 * * *") for _ in range(5)]
        world.api.deed = REFUSED
        process = world.start()
        await world.until("13:00:05")
        writes = (
            "record_snapshot",
            "claim",
            "write_attempt",
            "end_attempt",
            "resolve_not_started",
            "conclude",
            "record_runs",
        )
        for write in writes:
            world.ledger.__dict__[write] = full
        read = world.ledger.written["read_pauses"]
        await world.until("13:05:00")
        assert world.ledger.written["read_pauses"] > read
        assert [event.first for event in world.told(LedgerFailed)].count(True) == 1
        assert world.told(LedgerRecovered) == []
        assert process.health.error == "disk full"
        for write in writes:
            del world.ledger.__dict__[write]
        world.api.deed = Deed()
        await world.until("13:08:00")
        assert len(world.told(LedgerRecovered)) == 1
        assert {world.row(each, "13:00").fate for each in automations} == {"accepted: answered"}

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20))


async def full(*_: object, **__: object) -> object:
    """A write for which there is no room."""
    raise LedgerUnavailable("disk full")


def test_what_came_due_meanwhile_is_decided_when_it_recovers() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await trouble(world, "12:00:30", "12:03:30")
        await world.until("12:05:10")
        fates = world.fates(automation)
        assert fates["12:01..12:02"] == "skipped: coalesced"
        assert [fates[clock] for clock in ("12:03", "12:04", "12:05")] == ["accepted: answered"] * 3

    in_world(story)


def test_what_is_claimed_ahead_is_sent_on_time_even_if_the_ledger_fails_by_then() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await trouble(world, "12:00:59", "12:00:59")
        await world.after(0.5)
        world.ledger.broken = "disk full"
        await world.until("12:01:30")
        assert world.runs(automation) == ["12:01:00.010"]  # its attempt was durable
        world.ledger.broken = None
        await world.until("12:02:30")
        assert world.fates(automation) == {"12:01": "accepted: answered", "12:02": "accepted: answered"}

    in_world(story)


def test_no_second_attempt_is_sent_that_is_not_durable() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, answered(429, retry_after=20.0))
        world.start()
        await trouble(world, "13:00:10", "13:02:00")
        assert len(world.api.arrivals) == 1
        await world.until("13:03:05")
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert world.row(automation, "13:00").attempts.keys() == {1, 2}

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20))


def test_a_slow_ledger_sends_nothing_on_the_strength_of_an_old_attempt() -> None:
    """Writing it takes longer than an attempt may wait, so it is written anew until it does not."""

    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.start()
        await world.until("12:59:58")
        world.ledger.took = 15.0
        await world.until("13:00:50")
        assert world.api.arrivals == []
        world.ledger.took = 0.003
        await world.until("13:02:00")
        row = world.row(automation, "13:00")
        assert row.fate == "accepted: answered"
        attempt = row.attempts[1]
        assert attempt.sent_at is not None
        assert attempt.sent_at - attempt.written_at < timedelta(seconds=10)

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20))


@pytest.mark.parametrize("moment", ["13:00:00.5", "13:00:20", "13:00:31", "13:01:02"])
@pytest.mark.parametrize("deed", [Deed(), RESET_AFTER, LOST_REQUEST])
def test_whenever_it_fails_nothing_is_lost_and_nothing_doubled(moment: str, deed: Deed) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0-3 13 * * *")
        world.api.script(automation, deed)
        world.start()
        await world.until("13:00:00")
        clock, _, fraction = moment.partition(".")
        await world.until(clock)
        await world.after(float(f"0.{fraction or 0}"))
        world.ledger.broken = "disk full"
        await world.after(50.0)
        world.ledger.broken = None
        await world.until("13:08:00")
        world.assert_settled()
        assert len(world.ledger.of(automation)) == 4
        assert world.told(DeliveryFailed) == []

    policies = make_policies(start_within=timedelta(minutes=20), catch_up=CatchUp.ALL)
    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20), policies=policies)


def test_a_first_poll_that_could_not_be_recorded_is_recorded_later() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:20")
        await world.after(0.04)
        world.ledger.broken = "disk full"
        await world.until("12:02:30")
        world.ledger.broken = None
        await world.until("12:05:30")
        assert [version.automation_id for version in world.ledger.versions()] == [automation]
        assert world.fates(automation)["12:05"] == "accepted: answered"

    in_world(story)


def test_edits_are_seen_and_honoured_while_nothing_can_be_recorded() -> None:
    """Nobody pays for what the user had stopped by the time that the disk had room again."""

    async def story(world: World) -> None:
        automation, other = world.api.create("*/10 * * * *"), world.api.create("*/10 * * * *")
        world.start()
        await world.until("12:05:00")
        world.ledger.broken = "disk full"
        await world.until("12:12:00")
        world.api.edit(automation, enabled=False)
        await world.until("12:14:00")
        world.api.edit(other, name="another")
        await world.until("12:16:00")
        assert 20 <= len(world.api.polls) <= 40
        world.ledger.broken = None
        await world.until("12:17:30")
        assert world.fates(automation) == {"12:10": "skipped: deleted"}
        assert world.fates(other) == {"12:10": "accepted: answered"}
        known = world.ledger.target()
        assert [version.effective_from.minute for version in world.ledger.versions()] == [0, 0, 12]
        assert known.automations[other].automation.name == "another"
        assert known.snapshot_at is not None
        assert known.snapshot_at >= NOON + timedelta(minutes=16, seconds=30)

    in_world(story, policies=make_policies(start_within=timedelta(hours=1)))


def test_a_ledger_that_is_not_there_at_the_start_can_be_tried_again() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.ledger.broken = "locked"
        world.start()
        await world.until("12:00:40")
        assert {event.operation for event in world.told(LedgerFailed)} == {"open"}
        world.ledger.broken = None
        await world.until("12:01:30")
        assert world.fates(automation) == {"12:01": "accepted: answered"}

    in_world(story)


def test_a_target_that_the_ledger_knows_under_another_url_is_refused() -> None:
    async def story(world: World) -> None:
        world.start()
        await world.after(1.0)
        world.kill()
        world.set(url="https://elsewhere.example")
        process = world.start()
        with pytest.raises(TargetMismatch):
            await world.after(1.0)
        process.kill()

    in_world(story)


def test_a_fault_of_our_own_in_one_lane_stops_no_other_and_is_found_out() -> None:
    async def story(world: World) -> None:
        automation, other = world.api.create("0 13 * * *"), world.api.create("0 13 * * *")
        process = world.start()
        fault(process, automation)
        await world.until("13:05:00")
        assert [event.occurrence.automation_id for event in world.told(DeliveryFailed)] == [automation]
        assert world.fates(other) == {"13:00": "accepted: answered"}
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert len(world.api.runs) == 2

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20))


def test_a_fault_that_does_not_go_away_blocks_its_lane_only_for_a_while() -> None:
    """What cannot be carried stays open in the ledger, for the next process to try."""

    async def story(world: World) -> None:
        automation = world.api.create("0,5 13 * * *")
        world.api.script(automation, RESET_BEFORE)
        process = world.start()
        await world.until("13:00:10")
        process.target.context.upstream.__dict__["retrieve"] = raising
        await world.until("13:20:00")
        assert world.fates(automation) == {"13:00": "unknown", "13:05": "accepted: answered"}
        assert len(world.told(DeliveryFailed)) == 5
        world.kill()
        world.start()
        await world.until("13:25:00")
        assert world.fates(automation)["13:00"] == "unresolved: covered"  # by the run of the one that went on

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20))


async def raising(_: str) -> object:
    """What no client may do."""
    raise ZeroDivisionError


def fault(process: Process, automation_id: str) -> None:
    """Make the client of this automation raise once what no client may."""
    upstream = process.target.context.upstream
    run = upstream.run
    left = [1]

    async def faulty(asked: str, key: str) -> object:
        if asked == automation_id and left:
            left.pop()
            raise ZeroDivisionError
        return await run(asked, key)

    upstream.__dict__["run"] = faulty


def test_nothing_is_planned_by_a_version_that_is_not_on_record() -> None:
    """Killed between the two, the process would have done what nobody could explain."""

    async def story(world: World) -> None:
        world.api.create()
        process = world.start()
        await world.until("12:00:57")
        edited = world.api.create()
        world.ledger.slow["record_snapshot"] = 3.0
        process.target._request_poll()
        await world.until("12:01:10")
        passed = process.checkpoints
        assert passed.index("before ledger.claim") > max(
            at for at, name in enumerate(passed) if name == "after ledger.record_snapshot"
        )
        assert world.fates(edited) == {"12:01": "accepted: answered"}

    in_world(story)
