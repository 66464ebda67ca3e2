"""What was edited, disabled or deleted seconds before its time is honoured; a reading that fails or lies
stops nothing else.
"""

from datetime import datetime, timedelta

import pytest

from scheduler.core.errors import UpstreamError
from scheduler.core.events import (
    AutomationAdded,
    AutomationChanged,
    AutomationQuarantined,
    AutomationRemoved,
    DeliveryFailed,
    OccurrenceConcluded,
    SnapshotFailed,
    SnapshotTaken,
)
from scheduler.core.model import InvalidAutomation
from scheduler.core.policy import CatchUp, Concurrency
from scheduler.core.timetable import TimetableEntry
from tests.daemon.world import NOON, World, in_world
from tests.defaults import make_policies
from tests.fakes import LOST_REQUEST, REFUSED, Deed, answered

# ---------------------------------------------------------------- when it polls


def test_it_polls_every_so_often_and_before_something_is_due() -> None:
    async def story(world: World) -> None:
        world.api.create("*/5 * * * *")
        world.start()
        await world.until("12:05:30")
        polls = [f"{at:%H:%M:%S}" for at in world.api.polls]
        assert polls[:4] == ["12:00:10", "12:00:40", "12:01:10", "12:01:40"]
        assert polls[-3:] == [
            "12:04:40",
            "12:04:57",
            "12:05:27",
        ]  # early enough to end before the claims are made

    in_world(story, begin=NOON + timedelta(seconds=10))


def test_a_fresh_snapshot_is_fresh_enough() -> None:
    async def story(world: World) -> None:
        world.api.create("*/5 * * * *")
        world.set(poll_interval=timedelta(seconds=55))
        world.start()
        await world.until("12:04:51")
        assert f"{world.api.polls[-1]:%H:%M:%S}" == "12:04:50"
        await world.until("12:05:01")
        assert f"{world.api.polls[-1]:%H:%M:%S}" == "12:04:50"

    in_world(story, begin=NOON + timedelta(seconds=15))


def test_a_slow_list_is_asked_earlier() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/5 * * * *")
        world.api.list_took = 8.0
        world.set(poll_interval=timedelta(minutes=2))
        world.start()
        await world.until("12:04:44")
        world.api.edit(automation, enabled=False)
        await world.until("12:06:00")
        assert world.fates(automation) == {}

    in_world(story)


def test_without_anything_due_it_polls_at_its_interval_and_no_more() -> None:
    async def story(world: World) -> None:
        world.api.create("0 0 1 1 *")
        world.start()
        await world.until("13:00:20")
        assert len(world.api.polls) == pytest.approx(120, abs=2)

    in_world(story)


def test_a_list_that_fails_is_asked_again_with_back_off_and_told_once() -> None:
    async def story(world: World) -> None:
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        world.start()
        await world.until("12:10:00")
        assert 20 <= len(world.api.polls) <= 60
        assert [event.first for event in world.told(SnapshotFailed)].count(True) == 1
        assert world.process is not None
        assert world.process.target.make_status().error == "HTTP 500"
        world.api.list_error = None
        await world.until("12:10:40")
        assert world.process.target.make_status().error is None

    in_world(story)


# ---------------------------------------------------------------- edits


@pytest.mark.parametrize(
    "edit",
    [
        {"enabled": False},
        {"cron_expression": "30 * * * *"},
        {"timezone": "Mars/Olympus"},
        {"cron_expression": "bad"},
    ],
)
def test_an_edit_just_before_its_time_is_honoured(edit: dict[str, object]) -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:57")
        world.api.edit(automation, **edit)
        await world.until("12:02:30")
        assert world.fates(automation) == {}
        assert world.api.arrivals == []

    in_world(story, begin=NOON + timedelta(seconds=10))


def test_a_claim_ahead_is_withdrawn_when_the_automation_was_edited_before_it() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:59")
        world.api.edit(automation, cron_expression="*/2 * * * *")
        await world.after(0.3)
        assert world.fates(automation) == {"12:01": "claimed"}
        assert world.process is not None
        world.process.target._request_poll()
        await world.until("12:02:30")
        assert world.fates(automation) == {"12:02": "accepted: answered"}

    in_world(story)


def test_an_edit_that_leaves_the_instant_leaves_the_claim() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:59")
        world.api.edit(automation, cron_expression="1-59 * * * *")
        await world.after(0.3)
        assert world.process is not None
        world.process.target._request_poll()
        await world.until("12:01:30")
        assert world.fates(automation) == {"12:01": "accepted: answered"}
        assert world.runs(automation) == ["12:01:00.010"]

    in_world(story)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda world, each: world.api.edit(each, enabled=False),
            "the automation was disabled before it could be sent",
        ),
        (lambda world, each: world.api.edit(each, cron_expression="bad"), "the automation was made invalid"),
        (lambda world, each: world.api.delete(each), "the automation was deleted before it could be sent"),
    ],
)
@pytest.mark.parametrize("jitter", [timedelta(0), timedelta(minutes=20)])
def test_what_was_due_and_is_not_wanted_any_more_is_skipped(
    change: object, why: str, jitter: timedelta
) -> None:
    async def story(world: World) -> None:
        assert callable(change)
        automation = world.api.create("0 13 * * *")
        world.api.deed = answered(429, retry_after=600.0)
        world.start()
        await world.until("13:00:10")
        change(world, automation)
        world.api.deed = Deed()
        await world.until("13:30:00")
        assert world.fates(automation) == {"13:00": "skipped: deleted"}
        assert why in (world.row(automation, "13:00").error or "")
        assert world.api.runs == []

    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20), policies=make_policies(jitter=jitter))


def test_a_new_automation_fires_at_the_next_instant_after_it_was_made() -> None:
    async def story(world: World) -> None:
        world.start()
        await world.until("12:00:59")
        automation = world.api.create()
        await world.until("12:01:55")
        assert world.fates(automation) == {
            "12:01": "accepted: answered"
        }  # seen only afterwards, and made up for
        assert [event.lateness is not None and event.kind for event in world.concluded(automation)] == [
            "catch_up"
        ]
        assert [event.effective_from for event in world.told(AutomationAdded)] == [
            NOON + timedelta(seconds=59)
        ]

    in_world(story)


def test_changes_are_told_once() -> None:
    async def story(world: World) -> None:
        automation, other = world.api.create("0 0 * * *"), world.api.create("61 * * * *")
        world.start()
        await world.until("12:01:00")
        world.api.edit(automation, cron_expression="0 1 * * *")
        await world.until("12:02:00")
        world.api.delete(automation)
        await world.until("12:05:00")
        assert [event.automation_id for event in world.told(AutomationAdded)] == [automation, other]
        assert [event.automation_id for event in world.told(AutomationChanged)] == [automation]
        assert [event.automation_id for event in world.told(AutomationRemoved)] == [automation]
        assert [event.automation_id for event in world.told(AutomationQuarantined)] == [other]
        versions = [version.automation_id for version in world.ledger.versions()]
        assert versions == [automation, other, automation, automation]
        assert world.ledger.target().automations.keys() == {other}

    in_world(story)


# ---------------------------------------------------------------- contained


def test_a_broken_automation_stops_no_other() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.api.create("this is not a schedule")
        world.api.broken["bbbbbbbb-0000-4000-8000-000000000000"] = InvalidAutomation(
            "its enabled is int", automation_id=None
        )
        world.start()
        await world.until("12:05:30")
        assert world.runs(automation) == [f"12:0{minute}:00.010" for minute in range(1, 6)]
        assert len(world.told(AutomationQuarantined)) == 2
        assert world.process is not None
        assert world.process.target.make_status().automations == {"enabled": 1, "invalid": 2}

    in_world(story)


def test_a_list_whose_pages_never_agree_removes_nothing() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:40")
        world.api.list_complete = False
        world.api.list_hides.add(automation)
        await world.until("12:03:30")
        assert world.runs(automation) == [f"12:0{minute}:00.010" for minute in range(1, 4)]
        assert {event.incomplete for event in world.told(SnapshotTaken)[2:]} == {True}

    in_world(story)


# ---------------------------------------------------------------- the last good snapshot


def test_a_daemon_goes_on_from_the_last_good_snapshot_but_not_for_ever() -> None:
    async def story(world: World) -> None:
        automation = world.api.create("0 * * * *")
        world.set(stale_limit=timedelta(hours=3))
        world.start()
        await world.until("12:30:00")
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        await world.until("17:10:00")
        assert world.fates(automation) == dict.fromkeys(["13:00", "14:00", "15:00"], "accepted: answered")
        assert world.process is not None
        assert world.process.target.make_status().stale
        world.api.list_error = None
        await world.until("17:12:00")
        assert world.fates(automation) == {
            **dict.fromkeys(["13:00", "14:00", "15:00"], "accepted: answered"),
            "16:00": "skipped: coalesced",
            "17:00": "accepted: answered",
        }
        assert not world.process.target.make_status().stale

    in_world(story)


def test_a_new_process_goes_on_from_the_recorded_snapshot_for_what_comes_due_now() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:00:40")
        world.kill()
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        await world.until("12:01:40")
        world.start()
        await world.until("12:03:30")
        assert world.fates(automation) == {"12:02": "accepted: answered", "12:03": "accepted: answered"}
        world.api.list_error = None
        await world.until(
            "12:04:10"
        )  # what came due before is overtaken by the time that the API says that it is still meant
        answered = dict.fromkeys(["12:02", "12:03", "12:04"], "accepted: answered")
        assert world.fates(automation) == answered | {"12:01": "skipped: coalesced"}

    in_world(story)


def test_without_any_snapshot_nothing_is_fired() -> None:
    async def story(world: World) -> None:
        world.api.create()
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        world.start()
        await world.until("12:10:30")
        assert world.api.arrivals == []
        assert world.told(OccurrenceConcluded) == []

    in_world(story)


def _held_up(world: World, *deeds: Deed) -> str:
    """Start a world in which the list fails from 12:00:50 on, and an automation of every minute meets these
    answers.
    """
    automation = world.api.create()
    world.api.script(automation, *deeds)
    world.start()
    return automation


async def _edit_unseen(world: World, automation: str, **changes: object) -> None:
    """Edit the automation before 12:01, while nobody can read the list."""
    await world.until("12:00:51")
    world.api.list_error = UpstreamError("HTTP 503", status=503)
    await world.until("12:00:55")
    world.api.edit(automation, **changes)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ({"cron_expression": "*/5 * * * *"}, "edited with effect from before this instant"),
        ({"enabled": False}, "disabled"),
    ],
)
@pytest.mark.parametrize("deed", [answered(302), answered(429, retry_after=60.0), REFUSED, answered(503)])
def test_what_was_tried_keeps_its_row_when_an_edit_from_before_its_instant_is_seen_later(
    deed: Deed, edit: dict[str, object], why: str, restarted: bool
) -> None:
    async def story(world: World) -> None:
        automation = _held_up(world, *[deed] * 400)
        await _edit_unseen(world, automation, **edit)
        await world.until("12:01:00")
        await world.after(0.5)
        attempts = len(world.row(automation, "12:01").attempts)
        assert attempts > 0
        if restarted:
            world.kill()
            world.start()
        world.api.list_error = None
        await world.until("12:02:40")
        row = world.row(automation, "12:01")
        assert row.fate == "skipped: deleted"
        assert len(row.attempts) >= attempts
        assert row.error == f"the automation was {why}, before it could be started"
        assert world.told(DeliveryFailed) == []

    in_world(story)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("edit", [{"cron_expression": "*/5 * * * *"}, {"enabled": False}])
def test_a_second_edit_does_not_bring_back_what_the_first_took_back_while_nobody_knew_what_was_started(
    edit: dict[str, object], restarted: bool
) -> None:
    async def story(world: World) -> None:
        world.set(poll_interval=timedelta(seconds=4))
        automation = _held_up(world, LOST_REQUEST)
        await _edit_unseen(world, automation, **edit)
        await world.until("12:01:01")
        if restarted:
            world.kill()
            world.start()
            await world.after(1.0)
        world.api.list_error = None
        await world.until("12:01:28")
        assert len(world.told(AutomationChanged)) == 1
        world.api.edit(automation, cron_expression="* * * * *", enabled=True)
        await world.until("12:02:40")
        assert len(world.told(AutomationChanged)) == 2
        assert world.fates(automation) == {"12:01": "skipped: deleted", "12:02": "accepted: answered"}
        assert [attempt.result for attempt in world.row(automation, "12:01").attempts.values()] == ["unknown"]

    in_world(story)


@pytest.mark.parametrize("edit", [{"cron_expression": "*/5 * * * *"}, {"enabled": False}])
def test_an_edit_that_comes_to_be_known_while_an_attempt_is_written_counts(edit: dict[str, object]) -> None:
    async def story(world: World) -> None:
        automation = _held_up(world, answered(429, retry_after=2.0))
        await _edit_unseen(world, automation, **edit)
        await world.until("12:01:00")
        await world.after(0.5)
        world.ledger.slow["write_attempt"] = 9.0
        await world.until("12:01:04")
        world.api.list_error = None
        assert world.process is not None
        world.process.target._poller.forget_failures()
        await world.until("12:01:06")
        assert len(world.told(AutomationChanged)) == 1
        await world.until("12:02:30")
        assert world.fates(automation) == {"12:01": "skipped: deleted"}
        assert [attempt.result for attempt in world.row(automation, "12:01").attempts.values()] == [
            "throttled"
        ]
        assert len(world.api.arrivals) == 1

    in_world(story)


def test_what_was_tried_keeps_its_row_after_a_clock_that_was_ahead() -> None:
    """By the clock that was set back it is not due again when the edit is seen."""

    async def story(world: World) -> None:
        automation = _held_up(world, answered(302))
        await world.until("12:01:00")
        await world.after(0.5)
        world.api.edit(automation, cron_expression="*/5 * * * *")
        world.clock.step(-45.0)
        world.api.note_clock_step()
        world.api.edit(automation, cron_expression="*/5 * * * *")
        await world.until("12:02:00")
        assert world.fates(automation) == {"12:01": "skipped: deleted"}
        assert [attempt.result for attempt in world.row(automation, "12:01").attempts.values()] == ["held"]

    in_world(story)


def test_what_an_edit_took_back_fires_when_the_clock_goes_back_and_the_edit_is_undone() -> None:
    async def story(world: World) -> None:
        world.api.run_lasts = 100.0
        automation = _held_up(world)
        await _edit_unseen(world, automation, cron_expression="*/5 * * * *")
        await world.until("12:01:03")
        world.api.list_error = None
        await world.until("12:01:30")
        assert (world.row(automation, "12:01").fate, world.row(automation, "12:01").attempts) == (
            "skipped: deleted",
            {},
        )
        world.clock.step(-60.0)
        world.api.note_clock_step()
        world.api.edit(automation, cron_expression="* * * * *")
        await world.after(80.0)
        assert world.fates(automation) == {"12:00": "accepted: answered", "12:01": "accepted: answered"}

    in_world(story, begin=NOON - timedelta(seconds=20), policies=make_policies(concurrency=Concurrency.QUEUE))


def test_an_edit_does_not_take_back_what_may_have_been_sent() -> None:
    """An old attempt may have started it, newer ones did not; another process only knows that from the
    ledger.
    """

    async def story(world: World) -> None:
        automation = world.api.create("0 13 * * *")
        world.api.script(automation, LOST_REQUEST, *[REFUSED] * 400)
        world.start()
        await world.until("13:00:00")
        world.api.list_error = UpstreamError("HTTP 503", status=503)
        await world.until("13:03:00")
        assert [attempt.result for attempt in world.row(automation, "13:00").attempts.values()][:2] == [
            "unknown",
            "not_sent",
        ]
        assert world.row(automation, "13:00").fate == "waiting"
        await world.stop()
        world.api.edit(automation, cron_expression="5 13 * * *")
        world.ledger.announce_run(automation, world.clock.now())
        # A run by a command is no run of the old attempt, and the edit may be from any time since the last
        # snapshot.
        world.api.run_by_somebody(automation)
        world.api.list_error = None
        world.start()
        await world.until("13:40:00")
        assert world.fates(automation) == {"13:00": "skipped: deleted", "13:05": "waiting"}
        await world.until("14:10:00")
        assert world.fates(automation) == {"13:00": "skipped: deleted", "13:05": "expired: not_started"}
        assert world.told(DeliveryFailed) == []

    in_world(
        story,
        begin=NOON + timedelta(minutes=59, seconds=20),
        policies=make_policies(start_within=timedelta(hours=1)),
    )


def test_disabling_an_automation_checks_each_of_its_open_occurrences_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not each against all the newer ones: other automations are due meanwhile."""
    checks = 0
    find_decisive = TimetableEntry.find_decisive

    def count(entry: TimetableEntry, instant: datetime) -> TimetableEntry:
        nonlocal checks
        checks += 1
        return find_decisive(entry, instant)

    async def story(world: World) -> None:
        automation = world.api.create("* * * * *")
        world.api.deed = REFUSED
        world.start()
        await world.until("13:40:30")
        monkeypatch.setattr(TimetableEntry, "find_decisive", count)
        world.api.edit(automation, enabled=False)
        await world.until("13:42:00")
        assert set(world.fates(automation).values()) == {"skipped: deleted"}
        assert len(world.fates(automation)) == 100
        assert checks < 100 * 10

    in_world(story, policies=make_policies(catch_up=CatchUp.ALL, start_within=timedelta(hours=3)))
