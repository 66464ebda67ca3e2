"""Runs are followed to their end, and those that nobody here started are noticed."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.events import (
    AutomationRemoved,
    EarlierRunSeen,
    LedgerRestored,
    RunDoubled,
    RunFinished,
    RunForeign,
)
from scheduler.core.model import RunOrigin, RunStatus
from scheduler.core.response import MaybeStarted
from scheduler.ledger.targets import note_restoration
from tests.daemon.world import NOON, World, in_world, slow
from tests.defaults import make_policies
from tests.fakes import RESET_BEFORE, Deed


def ends(world: World) -> list[tuple[str, RunStatus]]:
    return [(event.run_id, event.status) for event in world.told(RunFinished)]


@pytest.mark.parametrize("status", ["success", "failed"])
def test_a_run_is_followed_to_its_end(status: str) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.start()
        await world.until("12:01:30")
        assert ends(world) == []
        world.api.finish(automation, status, error="why")
        await world.until("12:02:30")
        (run,) = world.api.runs
        assert ends(world) == [(run.id, RunStatus(status))]
        (event,) = world.told(RunFinished)
        assert (event.error, event.scheduled_for) == ("why", NOON + timedelta(minutes=1))
        assert event.duration == pytest.approx(50, abs=1)  # it was seen at 12:01:50
        recorded = world.ledger.runs["main", run.id]
        assert (recorded.status, recorded.origin) == (RunStatus(status), RunOrigin.OCCURRENCE)
        assert world.told(RunForeign) == []

    in_world(story)


def test_a_run_that_ended_before_anybody_looked_is_told_too() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.api.run_lasts = 0.015
        world.start()
        await world.until("12:02:30")
        assert ends(world) == [(world.row(automation, "12:01").run_id, RunStatus.SUCCESS)]

    in_world(story)


def test_a_run_that_a_newer_one_covers_is_superseded() -> None:
    async def story(world: World) -> None:
        world.api.create("1,2 12 * * *")
        world.start()
        await world.until("12:03:30")
        first, _ = world.api.runs
        assert ends(world) == [(first.id, RunStatus.SUPERSEDED)]

    in_world(story)


@pytest.mark.parametrize("restart", ["none", "before the removal", "after the removal"])
def test_a_run_of_an_automation_that_is_deleted_meanwhile_gets_one_final_status_with_and_without_a_restart(
    restart: str,
) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *", name="nightly")
        world.set(run_timeout=timedelta(hours=1))
        world.start()
        await world.until("12:01:30")
        (run,) = world.api.runs
        if restart == "before the removal":
            world.kill()
        world.api.delete(automation)
        if restart == "before the removal":
            world.start()
        while not world.told(AutomationRemoved):
            await world.after(0.01)
        if restart == "after the removal":
            world.kill()
            world.start()
        await world.until("14:30:00")
        assert ends(world) == [(run.id, RunStatus.SUPERSEDED)]
        assert [event.automation for event in world.told(RunFinished)] == ["nightly"]
        recorded = world.ledger.runs["main", run.id]
        assert (recorded.status, "deleted" in (recorded.error or "")) == (RunStatus.SUPERSEDED, True)

    in_world(story)


def test_a_run_that_an_answer_shows_after_its_automation_was_removed_gets_a_final_status() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.api.script(automation, Deed(took=25.0, starts=0.05))
        world.set(run_timeout=timedelta(hours=1), poll_interval=timedelta(seconds=4))
        world.start()
        await world.until("12:01:05")
        world.api.delete(automation)
        await world.until("14:30:00")
        (run,) = world.api.runs
        assert ends(world) == [(run.id, RunStatus.SUPERSEDED)]
        assert world.ledger.runs["main", run.id].status is RunStatus.SUPERSEDED

    in_world(story)


def test_a_run_whose_automation_is_back_after_its_removal_gets_the_status_that_a_reading_shows() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.start()
        await world.until("12:01:30")
        (run,) = world.api.runs
        shown = world.api.show(automation)
        world.api.delete(automation)
        await world.until("12:05:00")
        world.api.bring_back(shown)
        world.api.finish(automation)
        await world.until("12:08:00")
        assert ends(world)[0] == (run.id, RunStatus.SUPERSEDED)
        assert world.ledger.runs["main", run.id].status is RunStatus.SUCCESS
        assert world.told(RunForeign) == []

    in_world(story)


def test_a_run_without_an_end_is_lost_and_may_still_come_to_one() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.set(run_timeout=timedelta(hours=1))
        world.start()
        await world.until("13:02:30")
        (run,) = world.api.runs
        assert ends(world) == [(run.id, RunStatus.LOST)]
        world.api.finish(automation)
        await world.until("13:03:30")
        assert ends(world) == [(run.id, RunStatus.LOST), (run.id, RunStatus.SUCCESS)]
        lost, ended = world.told(RunFinished)
        assert lost.duration is None
        assert ended.duration == pytest.approx(3700, abs=40)
        assert world.ledger.runs["main", run.id].status is RunStatus.SUCCESS

    in_world(story)


@pytest.mark.parametrize("status", ["success", "failed"])
def test_the_result_of_a_run_from_before_is_told_to_the_metrics_alone(status: str) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 0 * * *")
        world.api.run_by_somebody(automation)
        world.api.finish(automation, status)
        world.start()
        await world.until("12:01:30")
        assert [(event.automation_id, event.status) for event in world.told(EarlierRunSeen)] == [
            (automation, RunStatus(status))
        ]
        assert ends(world) == []

    in_world(story)


def test_the_run_of_a_deleted_automation_is_told_as_of_one_that_is_gone() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.start()
        await world.until("12:01:30")
        world.api.delete(automation)
        await world.until("12:04:00")
        assert [(event.status, event.gone) for event in world.told(RunFinished)] == [
            (RunStatus.SUPERSEDED, True)
        ]

    in_world(story)


def test_an_automation_fires_while_it_is_there_enabled_and_not_paused() -> None:
    async def story(world: World) -> None:
        automation, disabled = world.api.create("1 12 * * *"), world.api.create("1 12 * * *", enabled=False)
        target = world.start().target
        await world.until("12:00:40")
        found = [target.find_details(each) for each in (automation, disabled, "nobody")]
        assert [each and each.state for each in found] == ["enabled", "disabled", None]
        world.ledger.pause(automation)
        await world.until("12:02:00")
        (paused,) = [each for each in target.iterate_details() if each.id == automation]
        assert paused.state == "paused"

    in_world(story)


def test_a_run_from_before_is_nobodys() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        before = world.api.run_by_somebody(automation)
        world.start()
        await world.until("12:00:55")
        assert world.ledger.runs["main", before].origin is RunOrigin.BEFORE
        await world.until("12:01:30")
        assert ends(world) == [(before, RunStatus.SUPERSEDED)]
        assert world.told(RunForeign) == []

    in_world(story)


def test_a_foreign_run_is_told_once() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 0 * * *")
        world.start()
        await world.until("12:01:00")
        foreign = world.api.run_by_somebody(automation)
        await world.until("12:03:00")
        world.api.finish(automation)
        await world.until("12:05:00")
        assert [(event.run_id, event.automation_id) for event in world.told(RunForeign)] == [
            (foreign, automation)
        ]
        assert world.ledger.runs["main", foreign].origin is RunOrigin.FOREIGN
        assert ends(world) == [(foreign, RunStatus.SUCCESS)]
        (event,) = world.told(RunFinished)
        assert event.scheduled_for is None
        assert event.duration == pytest.approx(135, abs=16)

    in_world(story)


@pytest.mark.parametrize(("downtime", "is_known"), [(300, True), (900, False)])
def test_the_duration_of_a_run_is_not_known_when_nobody_looked_for_long_before_its_end_was_seen(
    downtime: int, is_known: bool
) -> None:
    async def story(world: World) -> None:
        world.api.skew = 1200.0  # the begin of a run stands on the clock of the API
        automation = world.api.create("1 12 * * *")
        world.start()
        await world.until("12:01:30")
        world.kill()
        world.api.finish(automation)
        await world.after(downtime)
        world.start()
        await world.after(30)
        (event,) = world.told(RunFinished)
        assert event.scheduled_for == NOON + timedelta(minutes=1)
        assert event.duration == (pytest.approx(downtime + 30, abs=10) if is_known else None)

    in_world(story)


def test_the_duration_of_a_short_run_is_known_however_long_nobody_looked_before() -> None:
    async def story(world: World) -> None:
        world.api.create("0 13 * * *")
        world.set(poll_interval=timedelta(minutes=30), fresh_for=timedelta(minutes=45))
        world.start()
        await world.until("12:59:30")
        world.api.run_lasts = 0.015
        await world.until("13:31:00")
        (event,) = world.told(RunFinished)
        assert event.duration is not None

    in_world(story)


def test_a_foreign_run_close_to_our_own_is_told_as_a_double_schedule() -> None:
    """On the scheduler's clock: the API's is twenty minutes ahead, so its own instants are no measure."""

    async def story(world: World) -> None:
        world.api.skew = 1200.0
        automation = world.api.create("*/10 12 * * *", name="nightly")
        world.start()
        await world.until("12:10:20")
        world.api.run_by_somebody(automation)
        await world.until("12:15:00")
        world.api.run_by_somebody(automation)
        await world.until("12:17:00")
        beside, apart = world.told(RunForeign)
        assert (beside.automation, beside.scheduled_for) == ("nightly", NOON + timedelta(minutes=10))
        assert "second scheduler" in beside.hint
        assert "scheduler pause" in beside.hint
        assert apart.scheduled_for is None
        assert "scheduler automations run" in apart.hint

    in_world(story)


def test_a_run_that_was_begun_by_hand_is_not_foreign() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 0 * * *")
        world.start()
        await world.until("12:01:00")
        world.ledger.announce_run(automation, world.clock.now())
        by_hand = world.api.run_by_somebody(automation)
        await world.until("12:03:00")
        assert world.told(RunForeign) == []
        assert world.ledger.runs["main", by_hand].origin is RunOrigin.MANUAL

    in_world(story)


def test_a_run_that_begins_while_an_attempt_is_in_doubt_may_be_ours_and_is_not_told_as_foreign() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.api.script(automation, Deed(took=25.0, starts=5.0))
        world.set(poll_interval=timedelta(seconds=4))
        world.start()
        await world.until("12:05:00")
        assert world.fates(automation) == {"12:01": "accepted: answered"}
        assert world.told(RunForeign) == []

    in_world(story)


def test_a_run_shown_during_an_unknown_attempt_is_on_record_after_a_kill_and_a_deletion() -> None:
    """Nobody will see the run again, and the process that had seen it is gone."""

    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        deeds = [Deed(took=0.1, starts=each, hears=MaybeStarted("cut off")) for each in (0.05, *[None] * 99)]
        world.api.script(automation, *deeds)
        world.set(poll_interval=timedelta(seconds=4), idempotent=True)
        world.start()
        await world.until("12:01:30")
        (run,) = world.api.runs_of(automation)
        assert not world.ledger.runs
        world.kill()
        world.api.delete(automation)
        world.start()
        await world.until("12:03:00")
        assert world.fates(automation) == {"12:01": "unresolved: gone"}
        assert ("main", run.id) in world.ledger.runs

    in_world(story)


@pytest.mark.parametrize("restarts", [1, 2])
@pytest.mark.parametrize("is_shown_again", [False, True])
def test_a_run_that_was_shown_while_an_attempt_was_in_doubt_and_then_covered_survives_restarts(
    restarts: int, is_shown_again: bool
) -> None:
    """The newest run at a restart is the other one; only a note in the ledger tells of the first."""

    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        deeds = [Deed(took=0.1, starts=each, hears=MaybeStarted("cut off")) for each in (0.05, *[None] * 400)]
        world.api.script(automation, *deeds)
        world.set(poll_interval=timedelta(seconds=4), idempotent=True)
        world.start()
        await world.until("12:01:30")
        (ours,) = world.api.runs_of(automation)
        if is_shown_again:
            world.api.finish(automation)
            await world.until("12:01:40")
        others = set()
        for _ in range(restarts):
            world.kill()
            others.add(world.api.run_by_somebody(automation))
            world.start()
            await world.after(10.0)
        assert not world.ledger.runs
        assert {run_id for _, run_id in world.ledger.unattributed} == {ours.id, *others}
        world.kill()
        world.api.delete(automation)
        world.start()
        await world.until("12:05:00")
        assert world.fates(automation) == {"12:01": "unresolved: gone"}
        assert {run_id for _, run_id in world.ledger.runs} == {
            run.id for run in world.api.runs_of(automation)
        }
        row = world.ledger.runs["main", ours.id]
        assert row.status is (RunStatus.SUCCESS if is_shown_again else RunStatus.SUPERSEDED)
        assert {each.origin for each in world.ledger.runs.values()} == {RunOrigin.FOREIGN}
        assert {event.run_id for event in world.told(RunDoubled)} == {
            run.id for run in world.api.runs_of(automation)
        }
        assert not world.ledger.unattributed

    in_world(story)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_run_that_was_set_aside_is_not_from_before_when_its_automation_is_removed_and_back_at_once(
    restarted: bool,
) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.api.script(automation, *[Deed(took=0.1, starts=None, hears=MaybeStarted("cut off"))] * 400)
        world.set(poll_interval=timedelta(seconds=4), idempotent=True)
        process = world.start()
        await world.until("12:01:30")
        run_id = world.api.run_by_somebody(automation)
        await world.until("12:01:40")
        assert {each for _, each in world.ledger.unattributed} == {run_id}
        if restarted:
            world.kill()
            process = world.start()
            await world.after(5.0)
        shown = world.api.show(automation)
        world.api.delete(automation)
        while not world.told(AutomationRemoved):
            await world.after(0.01)
        world.api.bring_back(shown)
        process.target._request_poll()
        await world.until("12:05:00")
        assert (
            world.fates(automation)["12:01"] == "accepted: found"
        )  # nobody can tell the run from a late one of ours
        assert world.ledger.runs["main", run_id].origin is RunOrigin.OCCURRENCE
        assert not world.ledger.unattributed

    in_world(story)


def test_a_run_that_only_a_snapshot_before_a_kill_showed_is_noted_at_the_start() -> None:
    """The first process is killed before it can note the run, the second before the attempt in doubt has its
    outcome.
    """

    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.api.script(automation, *[Deed(took=0.1, starts=None, hears=MaybeStarted("cut off"))] * 400)
        world.set(poll_interval=timedelta(seconds=4), idempotent=True)
        world.start()
        await world.until("12:01:30")
        slow(world, "record_runs", 3600.0)
        first = world.api.run_by_somebody(automation)
        world.kills = lambda _, name: name == "after ledger.record_snapshot"
        assert world.process is not None
        assert await world.process.dies(60.0)
        world.kills = lambda *_: False
        del world.ledger.__dict__["record_runs"]
        assert not world.ledger.unattributed
        world.start()
        await world.after(0.5)
        assert world.ledger.unattributed == {("main", first)}
        world.api.run_by_somebody(automation)
        await world.after(10.0)
        world.kill()
        world.start()
        await world.after(10.0)
        world.api.delete(automation)
        await world.until("12:05:00")
        assert ("main", first) in world.ledger.runs

    in_world(story)


def test_at_a_start_no_run_is_noted_that_is_on_record() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:01:30")
        world.api.script(automation, Deed(took=0.1, starts=None, hears=MaybeStarted("cut off")))
        await world.until("12:02:01")
        assert world.row(automation, "12:02").outcome is None
        world.kill()
        before = world.ledger.written["record_runs"]
        world.start()
        await world.after(0.02)
        assert (world.ledger.unattributed, world.ledger.written["record_runs"]) == (set(), before)

    in_world(story)


def test_a_foreign_run_that_ours_covered_at_once_is_told_too() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.api.script(automation, Deed(took=0.1, starts=None, hears=RESET_BEFORE.hears))
        world.start()
        await world.until("12:00:59")
        foreign = world.api.run_by_somebody(automation)
        await world.until("12:05:00")
        assert world.told(RunForeign) == []
        assert [event.run_id for event in world.told(RunDoubled)] == [
            foreign
        ]  # so close to an attempt in doubt it may be that one's
        assert world.ledger.runs["main", foreign].status is RunStatus.SUPERSEDED

    in_world(story, policies=make_policies(start_within=timedelta(minutes=5)))


def test_runs_are_followed_across_a_restart() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.start()
        await world.until("12:01:30")
        world.kill()
        world.api.finish(automation)
        await world.until("12:02:00")
        world.start()
        await world.until("12:02:30")
        (run,) = world.api.runs
        assert ends(world) == [(run.id, RunStatus.SUCCESS)]
        assert world.told(RunForeign) == []

    in_world(story)


def test_a_foreign_run_of_the_time_in_which_nobody_ran_is_told() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.start()
        await world.until("12:01:30")
        world.kill()
        foreign = world.api.run_by_somebody(automation)
        world.start()
        await world.until("12:02:30")
        assert [event.run_id for event in world.told(RunForeign)] == [foreign]

    in_world(story)


def test_runs_between_a_backup_and_its_restoration_are_one_line_and_nobodys_double() -> None:
    async def story(world: World) -> None:
        world.api.skew = 1200.0  # the begin of a run stands on the clock of the API
        first, second, _ = (world.api.create("1 12,13 * * *") for _ in range(3))
        world.start()
        await world.until("12:01:30")
        await world.stop()
        await world.until("13:01:00")  # an instant, so that a foreign run would be a double schedule
        unrecorded = [world.api.run_by_somebody(automation) for automation in (first, second)]
        world.api.finish(first)
        await world.until("13:02:00")
        world.ledger.pause()
        restored_at = world.clock.now()
        note_restoration(world.ledger.file.connection, restored_at)
        world.events.clear()
        world.start()
        await world.until("13:05:00")
        assert [*world.told(RunForeign), *world.told(RunDoubled)] == []
        assert world.told(LedgerRestored) == [LedgerRestored(target="main", runs=2, restored_at=restored_at)]
        assert {world.ledger.runs["main", run].origin for run in unrecorded} == {RunOrigin.BEFORE}
        assert {status for _, status in ends(world)} == {RunStatus.SUPERSEDED}

        # what begins later is a foreign run again, and the next start repeats nothing
        await world.stop()
        world.start()
        await world.until("13:10:00")
        foreign = world.api.run_by_somebody(second)
        await world.until("13:15:00")
        assert [event.run_id for event in world.told(RunForeign)] == [foreign]
        assert len(world.told(LedgerRestored)) == 1

    in_world(story)


def test_a_first_run_is_nothing_from_before_only_because_the_clock_of_the_api_is_behind() -> None:
    async def story(world: World) -> None:
        world.api.skew = -3600.0
        automation = world.api.create("0 0 * * *")
        world.start()
        await world.until("12:01:30")
        world.kill()
        foreign = world.api.run_by_somebody(automation)
        world.start()
        await world.until("12:02:30")
        assert [event.run_id for event in world.told(RunForeign)] == [foreign]

    in_world(story)


def test_a_first_run_is_nothing_from_before_only_because_our_clock_was_ahead_before_a_kill() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 0 * * *")
        world.start()
        await world.until("12:01:00")
        world.clock.step(50.0)
        await world.until("12:02:30")
        world.kill()
        world.clock.step(-50.0)
        foreign = world.api.run_by_somebody(automation)
        world.start()
        await world.after(60.0)
        assert [event.run_id for event in world.told(RunForeign)] == [foreign]

    in_world(story)


def test_a_foreign_run_before_an_attempt_is_no_late_double_although_the_api_clock_is_ahead() -> None:
    async def story(world: World) -> None:
        world.api.skew = 30.0
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, RESET_BEFORE)
        world.start()
        await world.until("12:59:52")
        foreign = world.api.run_by_somebody(automation)
        await world.until("13:05:00")
        assert [event.run_id for event in world.told(RunForeign)] == [foreign]
        assert world.told(RunDoubled) == []

    in_world(
        story,
        begin=NOON + timedelta(minutes=59, seconds=20),
        policies=make_policies(start_within=timedelta(minutes=10)),
    )


def test_following_survives_a_ledger_that_fails() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 0 * * *")
        world.start()
        await world.until("12:01:00")
        foreign = world.api.run_by_somebody(automation)
        world.ledger.broken = "disk full"
        await world.until("12:03:00")
        world.ledger.broken = None
        await world.until("12:05:00")
        assert [event.run_id for event in world.told(RunForeign)] == [foreign]

    in_world(story)


async def killed_between_two_commits(world: World) -> None:
    """The snapshot that comes next is recorded, and the process dies before the runs in it are."""
    followed = world.ledger.record_runs

    async def slowly(*args: Any, **kwargs: Any) -> object:
        await asyncio.sleep(0.05)
        return await followed(*args, **kwargs)

    world.ledger.__dict__["record_runs"] = slowly
    world.kills = lambda _, name: name == "after ledger.record_snapshot"
    assert world.process is not None
    assert await world.process.dies(60.0)
    del world.ledger.__dict__["record_runs"]
    world.kills = lambda *_: False
    world.start()
    await world.after(60.0)


def test_a_run_whose_end_only_the_snapshot_before_a_kill_showed_has_its_end() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.start()
        await world.until("12:01:30")
        world.api.finish(automation, "failed", error="why")
        await killed_between_two_commits(world)
        (run,) = world.api.runs
        assert ends(world) == [(run.id, RunStatus.FAILED)]
        assert world.ledger.runs["main", run.id].status is RunStatus.FAILED
        assert world.told(RunForeign) == []

    in_world(story)


def test_a_foreign_run_that_only_the_snapshot_before_a_kill_showed_is_told() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("1 12 * * *")
        world.start()
        await world.until("12:01:30")
        foreign = world.api.run_by_somebody(automation)
        await killed_between_two_commits(world)
        assert [event.run_id for event in world.told(RunForeign)] == [foreign]
        assert world.ledger.runs["main", foreign].origin is RunOrigin.FOREIGN

    in_world(story)


def test_a_run_from_before_the_very_first_start_is_not_foreign_although_that_start_was_killed() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 0 * * *")
        before = world.api.run_by_somebody(automation)
        world.start()
        await killed_between_two_commits(world)
        assert world.told(RunForeign) == []
        assert world.ledger.runs["main", before].origin is RunOrigin.BEFORE

    in_world(story)
