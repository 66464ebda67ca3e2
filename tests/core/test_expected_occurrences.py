"""What should be on record, as the overdue check derives it."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from scheduler.core import expected_occurrences as expected_module
from scheduler.core.cron.schedule import Schedule
from scheduler.core.expected_occurrences import ExpectedOccurrences
from scheduler.core.model import Automation, Definition, Occurrence
from scheduler.core.policy import Policies
from scheduler.core.timetable import TimetableEntry
from tests.defaults import make_policies

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TEN_SECONDS = make_policies(start_within=timedelta(seconds=10))


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def entry(
    cron: str = "* * * * *", *, since: datetime = NOON, policies: Policies = TEN_SECONDS
) -> TimetableEntry:
    automation = Automation("a", "nightly", Definition(cron, "UTC", enabled=True))
    return TimetableEntry(automation, since, policies, Schedule.parse(cron, "UTC"))


def past(expected: ExpectedOccurrences, now: datetime, shown: TimetableEntry | None) -> list[float]:
    """The minutes after noon of what is past its time."""
    entries = {} if shown is None else {"a": shown}
    for _ in expected.derive(entries, now):
        pass
    late = [each for each, expectation in expected.find_due(now).items() if expectation.deadline < now]
    return [(each.scheduled_for - NOON).total_seconds() / 60 for each in late]


def test_what_may_not_start_any_more_is_past() -> None:
    expected = ExpectedOccurrences("main", NOON)
    assert past(expected, at(1), entry()) == []
    assert past(expected, at(1) + timedelta(seconds=10), entry()) == []
    assert past(expected, at(1) + timedelta(seconds=11), entry()) == [1]
    assert past(expected, at(3), entry()) == [1, 2]


def test_what_is_confirmed_is_past_no_more() -> None:
    expected = ExpectedOccurrences("main", NOON)
    assert past(expected, at(2.5), entry()) == [1, 2]
    expected.confirm([Occurrence("main", "a", at(1))])
    assert past(expected, at(2.6), entry()) == [2]


def test_its_jitter_counts() -> None:
    expected = ExpectedOccurrences("main", NOON)
    jittered = entry(
        "0 * * * *", policies=make_policies(start_within=timedelta(seconds=10), jitter=timedelta(minutes=20))
    )
    first = next(minute for minute in range(60, 90) if past(expected, at(minute), jittered))
    assert 60 < first <= 81


def test_a_version_that_ended_still_answers_for_what_it_had_implied() -> None:
    expected, before = ExpectedOccurrences("main", NOON), entry()
    assert past(expected, at(1.5), before) == [1]
    before.until = at(1.2)
    assert past(expected, at(2.5), entry("*/5 * * * *", since=at(1.2))) == [1]
    assert past(expected, at(5.5), entry("*/5 * * * *", since=at(1.2))) == [1, 5]


def test_of_what_is_deleted_only_the_past_is_expected() -> None:
    expected, before = ExpectedOccurrences("main", NOON), entry()
    assert past(expected, at(1.5), before) == [1]
    before.until = at(1.2)
    assert past(expected, at(6.5), None) == [1]


def test_what_an_edit_that_is_seen_late_withdrew_is_not_expected() -> None:
    expected, before = ExpectedOccurrences("main", NOON), entry()
    assert past(expected, at(3.5), before) == [1, 2, 3]
    before.until = at(0.5)
    assert past(expected, at(4.5), entry("*/2 * * * *", since=at(0.5))) == [4]


def test_after_a_step_back_it_is_derived_again() -> None:
    expected = ExpectedOccurrences("main", NOON)
    assert past(expected, at(3.5), entry()) == [1, 2, 3]
    expected.confirm([Occurrence("main", "a", at(minute)) for minute in (1, 2, 3)])
    expected.restart(at(1.5))
    assert past(expected, at(2.5), entry()) == [2]


def test_what_is_kept_is_bounded_and_goes_on_when_some_of_it_is_confirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A ledger that takes nothing for days must not fill the memory."""
    monkeypatch.setattr("scheduler.core.expected_occurrences.LOOK_BACK", timedelta(days=4))
    monkeypatch.setattr("scheduler.core.expected_occurrences.MOST_UNCONFIRMED", 3)
    expected, days = ExpectedOccurrences("main", NOON), at(3 * 24 * 60)
    assert past(expected, days, entry()) == [1, 2, 3]
    assert past(expected, days, entry()) == [1, 2, 3]
    expected.confirm([Occurrence("main", "a", at(minute)) for minute in (1, 2, 3)])
    assert past(expected, days, entry()) == [4, 5, 6]


def test_after_a_long_suspend_no_more_than_an_hour_is_looked_at() -> None:
    expected, month = ExpectedOccurrences("main", NOON), 30 * 24 * 60
    assert past(expected, at(month + 0.5), entry()) == list(range(month - 59, month + 1))
    assert past(expected, at(month + 1.5), entry())[-1] == month + 1


def test_what_is_kept_is_confirmed_however_old_it_is() -> None:
    expected, day = ExpectedOccurrences("main", NOON), 24 * 60
    assert past(expected, at(1.5), entry()) == [1]
    assert past(expected, at(day + 0.5), entry()) == [1, *range(day - 59, day + 1)]


def test_a_derivation_pauses_after_each_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, find_next = [0], Schedule.find_next

    def count(schedule: Schedule, after: datetime) -> datetime | None:
        calls[0] += 1
        return find_next(schedule, after)

    entries = {
        str(number): entry(f"{number % 60} {number // 60 % 24} {1 + number // 1440} * *")
        for number in range(3000)
    }
    monkeypatch.setattr(Schedule, "find_next", count)
    expected = ExpectedOccurrences("main", NOON)
    for now in (at(0.5), at(30.5)):
        in_slices = [calls[0], *(calls[0] for _ in expected.derive(entries, now)), calls[0]]
        assert max(after - before for before, after in pairwise(in_slices)) <= 2 * expected_module._SLICE
    assert calls[0] >= 3000


def test_when_the_clock_goes_back_between_two_slices_nothing_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(expected_module, "_SLICE", 1)
    expected = ExpectedOccurrences("main", NOON)
    for slices, _ in enumerate(expected.derive({"a": entry()}, at(3.5))):
        if slices == 1:
            expected.restart(at(0.5))
    assert past(expected, at(2.5), entry()) == [1, 2]
