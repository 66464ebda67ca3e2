"""What holds for every schedule, at every instant."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.cron.schedule import GapPolicy, RepeatPolicy, Schedule
from tests.core.cron.oracle import DAY, EXAMPLES, GAPS, REPEATS, RULES, Rule, near_changes, parsed

WEEK = 7 * DAY
few = settings(
    max_examples=EXAMPLES // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Schedule, datetime]:
    """Any schedule, asked near a clock change of its zone."""
    zone, instant = draw(near_changes())
    rule: Rule = draw(RULES)
    gap: GapPolicy = draw(GAPS)
    repeat: RepeatPolicy = draw(REPEATS)
    return parsed(rule, zone, gap, repeat), instant


@few
@given(questions())
def test_instants_increase_strictly_and_lie_in_their_span(question: tuple[Schedule, datetime]) -> None:
    schedule, after = question
    found = list(islice(schedule.iterate_between(after, after + WEEK), 500))
    assert all(first < second for first, second in pairwise([after, *found]))
    assert all(instant <= after + WEEK for instant in found)


@few
@given(questions(), st.lists(st.integers(0, 3 * 24 * 3600), max_size=4))
def test_a_span_holds_the_same_however_it_is_split(
    question: tuple[Schedule, datetime], cuts: list[int]
) -> None:
    schedule, after = question
    ends = [after, *(after + timedelta(seconds=cut) for cut in sorted(cuts)), after + 3 * DAY]
    parts = [instant for begin, end in pairwise(ends) for instant in schedule.iterate_between(begin, end)]
    assert parts == list(schedule.iterate_between(after, after + 3 * DAY))


@few
@given(questions())
def test_next_is_the_first_of_the_span_and_fires_there(question: tuple[Schedule, datetime]) -> None:
    schedule, after = question
    fire = schedule.find_next(after)
    assert fire is not None
    assert fire > after
    assert fire == next(schedule.iterate_between(after, fire))
    assert schedule.is_fire_time(fire)
    assert not schedule.is_fire_time(fire + timedelta(seconds=1))


@few
@given(questions(), st.integers(0, 2 * 24 * 60))
def test_fires_at_agrees_with_the_span(question: tuple[Schedule, datetime], minutes: int) -> None:
    schedule, after = question
    minute = after.replace(second=0) + timedelta(minutes=minutes)
    assert schedule.is_fire_time(minute) == (minute in set(schedule.iterate_between(minute - DAY, minute)))


@few
@given(questions())
def test_previous_is_the_inverse_of_next(question: tuple[Schedule, datetime]) -> None:
    schedule, instant = question
    before = schedule.find_previous(instant)
    assert before is not None
    assert before < instant
    assert schedule.is_fire_time(before)
    following = schedule.find_next(before)
    assert following is not None
    assert following >= instant
    assert schedule.find_previous(following) == before


@few
@given(questions())
def test_skipping_and_firing_once_only_leave_out(question: tuple[Schedule, datetime]) -> None:
    schedule, after = question

    def instants(gap: GapPolicy, repeat: RepeatPolicy) -> set[datetime]:
        other = Schedule.parse(schedule.expression, schedule.timezone, dst_gap=gap, dst_repeat=repeat)
        return set(islice(other.iterate_between(after, after + 2 * DAY), 4000))

    assert instants("skip", "once") <= instants("after", "once") <= instants("after", "twice")
    assert instants("skip", "once") <= instants("skip", "twice") <= instants("after", "twice")


@few
@given(questions(), st.integers(0, 10 * 24 * 3600), st.integers(0, 12 * 24 * 3600))
def test_count_agrees_with_the_list_of_instants(
    question: tuple[Schedule, datetime], back: int, seconds: int
) -> None:
    schedule, instant = question
    after = instant - timedelta(seconds=back)
    until = after + timedelta(seconds=seconds)
    assert schedule.count(after, until) == sum(1 for _ in schedule.iterate_between(after, until))


def test_count_evaluates_only_the_ends_and_the_days_near_a_clock_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schedule = Schedule.parse("* * * * *", "Europe/Berlin")
    after = datetime.fromisoformat("2026-01-01T10:30:00Z")
    listed = 0
    between = Schedule.iterate_between

    def listing(self: Schedule, begin: datetime, end: datetime) -> Iterator[datetime]:
        nonlocal listed
        for found in between(self, begin, end):
            listed += 1
            yield found

    monkeypatch.setattr(Schedule, "iterate_between", listing)
    assert schedule.count(after, after + timedelta(days=365)) == 365 * 24 * 60
    assert (
        listed <= (1 + 2 * 3) * 24 * 60
    )  # two ends of one day together, and three days for each clock change


def test_count_of_a_year_follows_working_hours_through_clock_changes() -> None:
    schedule = Schedule.parse("*/5 8-17 * * 1-5", "America/New_York")
    after = datetime.fromisoformat("2026-01-01T00:00:00Z")
    assert schedule.count(after, after + timedelta(days=365)) == len(
        list(schedule.iterate_between(after, after + timedelta(days=365)))
    )


CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"),
    "America/New_York": ("2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z"),
    "Australia/Lord_Howe": ("2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z"),
    "Pacific/Apia": ("2011-12-30T10:00:00Z",),  # a day was left out
    "America/St_Johns": ("2006-04-02T03:31:00Z", "2006-10-29T02:31:00Z"),
    "Asia/Kolkata": ("2026-01-10T00:00:00Z",),
}


@pytest.mark.parametrize("dst", [("after", "once"), ("skip", "once"), ("after", "twice"), ("skip", "twice")])
@pytest.mark.parametrize(
    "expression", ["* * * * *", "*/20 2 * * *", "30 2 * * *", "0,45 0-3 * * *", "15 1,2 * * 0", "0 0 30 12 *"]
)
@pytest.mark.parametrize("zone", CHANGES)
def test_count_agrees_with_the_list_around_each_change(
    zone: str, expression: str, dst: tuple[GapPolicy, RepeatPolicy]
) -> None:
    schedule = Schedule.parse(expression, zone, dst_gap=dst[0], dst_repeat=dst[1])
    for change in map(datetime.fromisoformat, CHANGES[zone]):
        for hours in (-60, -49, -25):
            after = change + timedelta(hours=hours)
            assert schedule.count(after, after + timedelta(days=6)) == sum(
                1 for _ in schedule.iterate_between(after, after + timedelta(days=6))
            )
