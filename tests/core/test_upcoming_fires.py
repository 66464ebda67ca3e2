"""What comes next, for people: the same instants as the schedules give one by one, without evaluating what
nobody asks for.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.cron.schedule import Schedule
from scheduler.core.model import Automation, Definition
from scheduler.core.recorded_state import RecordedAutomation
from scheduler.core.timetable import Timetable
from tests.counting import count_lines
from tests.defaults import make_policies

NOW = datetime(2026, 10, 24, 19, 20, tzinfo=UTC)
DAY = timedelta(days=1)


def a_timetable(*schedules: tuple[str, str], cursor: datetime = NOW) -> Timetable:
    timetable = Timetable("main", now=NOW, policies=lambda *_: make_policies(), schedule=Schedule.parse)
    automations = [
        Automation(f"id-{number}", f"n{number}", Definition(*each, enabled=True))
        for number, each in enumerate(schedules)
    ]
    list(
        timetable.load(
            {each.id: RecordedAutomation(each, NOW - 9 * DAY, None) for each in automations}, watermark=cursor
        )
    )
    return timetable


def listed(upcoming: Iterator[tuple[datetime, Any]]) -> list[tuple[datetime, str]]:
    return [(instant, entry.automation.id) for instant, entry in upcoming]


SCHEDULES = st.lists(
    st.tuples(
        st.sampled_from(
            ["0 3 * * *", "30 2 * * *", "*/7 * * * *", "15 */5 * * 1-5", "0 0 1 1 *", "59 23 31 12 *"]
        ),
        st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(schedules=SCHEDULES, behind=st.integers(0, 3000), hours=st.integers(0, 60))
def test_upcoming_is_what_each_schedule_gives_in_order_of_time(
    schedules: list[tuple[str, str]], behind: int, hours: int
) -> None:
    timetable = a_timetable(*schedules, cursor=NOW - timedelta(minutes=behind))
    until = NOW + timedelta(hours=hours)
    expected = [
        (instant, f"id-{number}")
        for number, each in enumerate(schedules)
        for instant in Schedule.parse(*each).iterate_between(NOW, until)
    ]
    found = listed(timetable.iterate_upcoming(NOW, until))
    assert sorted(found) == sorted(expected)
    assert [instant for instant, _ in found] == sorted(instant for instant, _ in expected)


def test_what_is_claimed_already_is_not_upcoming() -> None:
    timetable = a_timetable(("*/10 * * * *", "UTC"))
    timetable.collect_due(NOW + timedelta(minutes=10))
    assert listed(timetable.iterate_upcoming(NOW, NOW + timedelta(minutes=20))) == [
        (NOW + timedelta(minutes=20), "id-0")
    ]


def test_what_is_past_and_not_planned_is_due_and_not_upcoming() -> None:
    timetable = a_timetable(
        ("*/10 * * * *", "UTC"), ("50 * * * *", "UTC")
    )  # nobody could plan for 25 minutes
    begin, end = NOW + timedelta(minutes=25), NOW + timedelta(minutes=40)
    assert listed(timetable.iterate_upcoming(begin, end)) == [
        (NOW + timedelta(minutes=30), "id-0"),
        (NOW + timedelta(minutes=30), "id-1"),
        (end, "id-0"),
    ]


def test_only_those_that_are_wanted_come() -> None:
    timetable = a_timetable(("*/10 * * * *", "UTC"), ("*/10 * * * *", "UTC"), ("0 20 * * *", "UTC"))
    found = timetable.iterate_upcoming(NOW, NOW + DAY, lambda automation: automation.name == "n2")
    assert listed(found) == [(NOW + timedelta(minutes=40), "id-2")]


def test_those_that_share_a_schedule_come_together_and_are_evaluated_once() -> None:
    timetable = a_timetable(("*/30 * * * *", "UTC"), ("30 * * * *", "UTC"), ("*/30 * * * *", "UTC"))
    found = [
        (instant, schedule.expression, list(members))
        for instant, schedule, members in timetable.schedule_heap.iterate_by_schedule(NOW, NOW + DAY / 24)
    ]
    assert found == [
        (NOW + timedelta(minutes=10), "*/30 * * * *", ["id-0", "id-2"]),
        (NOW + timedelta(minutes=10), "30 * * * *", ["id-1"]),
        (NOW + timedelta(minutes=40), "*/30 * * * *", ["id-0", "id-2"]),
    ]


def test_a_removal_while_it_is_read_takes_away_what_was_still_to_come() -> None:
    timetable = a_timetable(("*/10 * * * *", "UTC"), ("*/10 * * * *", "UTC"))
    upcoming = timetable.iterate_upcoming(NOW, NOW + DAY)
    first = listed(islice(upcoming, 2))
    timetable.remove("id-1", NOW, NOW)
    assert [of for _, of in first] == ["id-0", "id-1"]
    assert {of for _, of in listed(upcoming)} == {"id-0"}


def test_schedules_that_nobody_asks_for_are_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    timetable = a_timetable(*((f"{minute} 12 * * *", "UTC") for minute in range(60)))
    asked: list[str] = []
    evaluate = Schedule._iterate_fires

    def counted(schedule: Schedule, after: datetime) -> Iterator[datetime]:
        asked.append(schedule.expression)
        return evaluate(schedule, after)

    monkeypatch.setattr(Schedule, "_iterate_fires", counted)
    assert len(list(islice(timetable.iterate_upcoming(NOW, NOW + DAY), 3))) == 3
    assert len(asked) <= 3


def test_whoever_asks_for_some_automations_waits_for_none_of_the_others() -> None:
    """The names are compared, and the schedules are gathered, where the instants are evaluated: on another
    thread than the loop's.
    """
    few, many = (
        a_timetable(*[(f"{number % 60} {number // 60} * * *", "UTC") for number in range(count)])
        for count in (10, 300)
    )
    until = NOW + DAY

    def ask(timetable: Timetable) -> Iterator[tuple[datetime, Any]]:
        return timetable.iterate_upcoming(NOW, until, lambda each: each.name == "n7")

    assert listed(ask(many)) == listed(ask(few)) == [(NOW.replace(hour=0, minute=7) + DAY, "id-7")]
    assert count_lines(lambda: ask(many)) == count_lines(lambda: ask(few))
    assert count_lines(lambda: many.iterate_upcoming(NOW, until)) == count_lines(
        lambda: few.iterate_upcoming(NOW, until)
    )
