"""What a poll costs the event loop, in executed lines: ten times the automations are at most twelve times the
work.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import pytest

from scheduler.core.cron.schedule import Schedule
from scheduler.core.due_queue import DueQueue
from scheduler.core.model import Automation, Definition, Snapshot
from scheduler.core.policy import FireTime, Policies
from scheduler.core.timetable import Timetable
from tests.counting import count_lines
from tests.defaults import make_policies

NOON: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
FEW: Final = 200
MANY: Final = 10 * FEW
JITTER: Final = make_policies(jitter=20 * MINUTE)


def automations(count: int, cron: str, run_id: str | None = None) -> list[Automation]:
    return [
        Automation(f"automation {number}", f"a{number}", Definition(cron, "UTC", enabled=True), None, run_id)
        for number in range(count)
    ]


def poll(timetable: Timetable, at: datetime, shown: Sequence[Automation]) -> object:
    snapshot = Snapshot(
        at, 0.0, 0.0, {each.id: each for each in shown}, {}, complete=True, clock_offset=0.0, unidentified=0
    )
    return timetable.update(snapshot, previous_poll=at - MINUTE, confirm_after=30.0)


def with_moments_waiting(count: int, policies: Policies = JITTER) -> Timetable:
    """A timetable in which each automation has a moment that its jitter lets wait, or that is due."""
    timetable = Timetable("main", now=NOON, policies=lambda *_: policies)
    poll(timetable, NOON, automations(count, "*/30 * * * *"))
    timetable.collect_due(NOON + 30 * MINUTE)
    return timetable


def edit(count: int) -> Callable[[Timetable], object]:
    return lambda timetable: poll(timetable, NOON + 31 * MINUTE, automations(count, "*/20 * * * *"))


def move_runs(count: int) -> Callable[[Timetable], object]:
    return lambda timetable: poll(timetable, NOON + 31 * MINUTE, automations(count, "*/30 * * * *", "run-2"))


def disappear(_: int) -> Callable[[Timetable], object]:
    return lambda timetable: [poll(timetable, NOON + minute * MINUTE, []) for minute in (31, 32)]


def go_back(_: int) -> Callable[[Timetable], object]:
    return lambda timetable: timetable.rewind(NOON, watermark=NOON)


def ask(count: int) -> Callable[[Timetable], object]:
    """As the planner and the poller do with what is due."""

    def asked(timetable: Timetable) -> None:
        dues = timetable.collect_due(NOON + 45 * MINUTE)
        timetable.compute_watermark(NOON + 45 * MINUTE, planned=dues)
        timetable.mark_durable(dues)
        assert len(dues) > count / 4
        assert timetable.wake_at is not None

    return asked


@pytest.mark.parametrize("policies", [JITTER, make_policies()], ids=["jitter", "no jitter"])
@pytest.mark.parametrize("change", [edit, move_runs, disappear, go_back, ask])
def test_a_poll_costs_as_much_as_it_changed(
    change: Callable[[int], Callable[[Timetable], object]], policies: Policies
) -> None:
    few, many = (
        count_lines(partial(change(count), with_moments_waiting(count, policies))) for count in (FEW, MANY)
    )
    assert FEW < few < many <= 12 * few


@pytest.mark.parametrize(
    "planned_until", [NOON, NOON + 45 * MINUTE], ids=["planned before the edits", "planned beyond the edits"]
)
def test_a_bulk_edit_evaluates_each_schedule_a_few_times(
    monkeypatch: pytest.MonkeyPatch, planned_until: datetime
) -> None:
    """Each automation was edited at an instant of its own, and the new versions have overdue moments when the
    planner is ahead.
    """
    evaluations = []
    between = Schedule.iterate_between

    def counted(schedule: Schedule, begin: datetime, end: datetime) -> Iterator[datetime]:
        evaluations.append(schedule)
        return between(schedule, begin, end)

    timetable = Timetable("main", now=NOON, policies=lambda *_: make_policies())
    poll(timetable, NOON, automations(FEW, "*/30 * * * *"))
    timetable.mark_durable(timetable.collect_due(planned_until))
    monkeypatch.setattr(Schedule, "iterate_between", counted)
    edited = [
        replace(automation, updated_at=NOON + number * timedelta(seconds=1))
        for number, automation in enumerate(automations(FEW, "*/10 * * * *"))
    ]
    snapshot = Snapshot(
        NOON + 5 * MINUTE,
        0.0,
        0.0,
        {each.id: each for each in edited},
        {},
        complete=True,
        clock_offset=0.0,
        unidentified=0,
    )
    assert len(timetable.update(snapshot, previous_poll=NOON, confirm_after=30.0).changed) == FEW
    # from the poll before up to this one; each is asked whether it has many instants, and then for them
    minutes = 6
    assert len(evaluations) <= 2 * minutes
    if planned_until > NOON:
        (of_first,) = {
            tuple(each.scheduled_for for each in due.fire_times)
            for due in timetable.collect_due(planned_until)
        }
        assert of_first == tuple(NOON + minute * MINUTE for minute in (10, 20, 30, 40))


def test_one_edit_costs_the_same_however_many_moments_of_others_wait() -> None:
    def one_edit(count: int) -> int:
        pending = DueQueue()
        for number in range(count):
            pending.add(f"automation {number}", [FireTime(NOON, NOON + 5 * MINUTE, NOON + 10 * MINUTE)], NOON)
        return count_lines(lambda: pending.cut("automation 0", NOON - MINUTE))

    assert one_edit(MANY) == one_edit(FEW)


def test_moments_that_become_due_together_cost_as_much_as_they_are() -> None:
    def become_due(count: int) -> int:
        pending = DueQueue()
        moments = [
            FireTime(NOON + n * MINUTE, NOON + (n + 0.5) * MINUTE, NOON + (n + 9) * MINUTE)
            for n in range(count)
        ]
        pending.add("automation", moments, NOON)
        lines = count_lines(lambda: pending.find_due(NOON + (count + 1) * MINUTE))
        assert pending.find_due(NOON + count * MINUTE)["automation"] == moments
        return lines

    assert become_due(MANY) <= 12 * become_due(FEW)


def test_what_was_forgotten_takes_no_more_room_than_what_waits() -> None:
    pending = DueQueue()
    for edit_number in range(MANY):
        pending.add("automation", [FireTime(NOON + MINUTE, NOON + 5 * MINUTE, NOON + 10 * MINUTE)], NOON)
        if edit_number < MANY - 1:
            pending.cut("automation", NOON)
    assert pending.earliest_due == NOON + 5 * MINUTE
    assert len(pending._delayed) <= 3
