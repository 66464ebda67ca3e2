"""What is decided for a whole stretch of the past is what would be decided for each of its instants."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.backlog import Backlog, BacklogInterval, merge_gaps
from scheduler.core.backlog_decisions import (
    Examiner,
    decide_late,
    find_last_instant,
    measure_extent,
)
from scheduler.core.cron.schedule import Schedule
from scheduler.core.instants import JUST_BEFORE
from scheduler.core.model import Definition, Gap, Reason
from scheduler.core.policy import (
    CatchUp,
    Decision,
    FireTime,
    Policies,
    decide,
    make_fire_time,
)
from tests.defaults import make_policies

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)  # the clocks of Berlin were put forward in the night
MINUTE = timedelta(minutes=1)
EXPRESSIONS = ("* * * * *", "*/7 * * * *", "0,59 * * * *", "17 */3 * * *", "0 9 * * 1-5", "30 2 * * *")


def stretch_of(expression: str, begin: datetime, end: datetime, automation_id: str = "a") -> BacklogInterval:
    schedule = Schedule.parse(expression, "Europe/Berlin")
    definition = Definition(expression, "Europe/Berlin", enabled=True)
    return BacklogInterval(automation_id, definition, schedule, begin, end)


def one_by_one(
    stretches: Sequence[BacklogInterval],
    policies: Policies,
    now: datetime,
    until: datetime,
    absent: datetime,
    *,
    paused: bool,
) -> dict[datetime, str]:
    """The fate of each instant, as `decide` tells it of all of them together."""
    moments: list[FireTime] = []
    for stretch in stretches:
        instants = list(stretch.schedule.iterate_between(stretch.begin, stretch.end))
        followings = [*instants[1:], stretch.schedule.find_next(instants[-1])] if instants else []
        moments += [
            make_fire_time(policies, "main", "a", each, then)
            for each, then in zip(instants, followings, strict=True)
        ]
    due = [each for each in moments if each.due <= until]
    return fates(decide(due, policies, now=now, absent_until=absent, paused=paused)) | {
        each.scheduled_for: "not due" for each in moments if each.due > until
    }


def fates(decisions: Sequence[Decision]) -> dict[datetime, str]:
    return {
        moment.scheduled_for: "start" if each.reason is None else str(each.reason)
        for each in decisions
        for moment in each.fire_times
    }


def together(
    stretches: Sequence[BacklogInterval],
    policies: Policies,
    now: datetime,
    until: datetime,
    absent: datetime,
    *,
    paused: bool,
) -> dict[datetime, str]:
    """The fate of each instant, by stretches."""
    told: dict[datetime, str] = {}
    left, claimed = list(stretches), None
    late: list[BacklogInterval] = []
    while left:
        examined = Examiner("main", now=now, until=until, absent_until=absent).examine(policies, left)
        due = [each for each in examined.fire_times if each.due <= until]
        decisions = decide(due, policies, now=now, absent_until=absent, paused=paused, claimed=claimed)
        told |= fates(decisions) | {
            each.scheduled_for: "not due" for each in examined.fire_times if each.due > until
        }
        claimed = max(
            [each.fire_times[-1].scheduled_for for each in decisions if each.reason is None],
            default=claimed,
        )
        late += examined.late
        left = list(examined.unexamined)
    for stretch in late:
        for extent, reason in decide_late(stretch, policies, paused=paused, claimed=claimed):
            instants = list(stretch.schedule.iterate_between(extent.first - JUST_BEFORE, extent.last))
            assert (instants[0], instants[-1], len(instants)) == (
                extent.first,
                extent.last,
                extent.count,
            )
            assert not told.keys() & set(instants)
            told |= dict.fromkeys(instants, str(reason))
    return told


POLICIES = st.builds(
    Policies,
    start_within=st.sampled_from([None, None, 3 * MINUTE, 40 * MINUTE, 300 * MINUTE]),
    catch_up=st.sampled_from(CatchUp),
    jitter=st.sampled_from([timedelta(0), 10 * MINUTE, 50 * MINUTE]),
)


@settings(max_examples=250, deadline=None)
@given(
    policies=POLICIES,
    expressions=st.lists(st.sampled_from(EXPRESSIONS), min_size=1, max_size=3),
    lengths=st.lists(st.integers(1, 30 * 60), min_size=3, max_size=3),
    seconds=st.integers(0, 90 * 60) | st.integers(0, 90).map(lambda minutes: minutes * 60),
    absent_and_paused=st.tuples(st.integers(0, 90), st.booleans()),
)
def test_a_stretch_is_decided_as_its_instants_would_be(
    policies: Policies,
    expressions: list[str],
    lengths: list[int],
    seconds: int,
    absent_and_paused: tuple[int, bool],
) -> None:
    absent, paused = absent_and_paused
    begin, stretches = NOON - timedelta(minutes=sum(lengths[: len(expressions)])), []
    for expression, length in zip(expressions, lengths, strict=False):
        stretches.append(stretch_of(expression, begin, begin + length * MINUTE))
        begin += length * MINUTE
    now = NOON + timedelta(seconds=seconds)
    question = (stretches, policies, now, now + timedelta(seconds=1), now - absent * MINUTE)
    assert together(*question, paused=paused) == one_by_one(*question, paused=paused)


def test_under_all_what_may_start_comes_in_order_and_not_too_much_at_once() -> None:
    policies = make_policies(catch_up=CatchUp.ALL, start_within=timedelta(days=1))
    stretch = stretch_of("* * * * *", NOON - timedelta(days=3), NOON)
    examined = Examiner("main", now=NOON, until=NOON, absent_until=None).examine(policies, [stretch])
    assert len(examined.fire_times) == 500
    assert examined.fire_times[0].scheduled_for == NOON - timedelta(days=1)
    (behind,) = examined.unexamined
    assert (behind.begin, behind.end) == (examined.fire_times[-1].scheduled_for, NOON)
    (late,) = examined.late
    assert late.end < examined.fire_times[0].scheduled_for


def test_the_newest_instant_is_found_however_long_ago() -> None:
    schedule = Schedule.parse("0 9 1 * *", "UTC")
    assert find_last_instant(schedule, NOON - timedelta(days=60), NOON) == datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert find_last_instant(schedule, NOON - timedelta(days=20), NOON) is None
    assert measure_extent(schedule, NOON - timedelta(days=20), NOON) is None


# ---------------------------------------------------------------- the backlog


def test_stretches_that_continue_each_other_are_one() -> None:
    backlog = Backlog()
    for minutes in range(0, 600, 10):
        backlog.add_late(stretch_of("* * * * *", NOON + minutes * MINUTE, NOON + (minutes + 10) * MINUTE))
    assert [(each.begin, each.end) for each in backlog.iterate_late()] == [(NOON, NOON + 600 * MINUTE)]
    assert backlog.find_gaps() == (Gap(NOON, NOON + 600 * MINUTE, "a"),)


def test_a_very_long_stretch_is_divided_so_that_its_evaluation_is_bounded() -> None:
    backlog = Backlog()
    backlog.add_late(stretch_of("* * * * *", NOON - timedelta(days=400), NOON))
    parts = list(backlog.iterate_late())
    assert [each.begin for each in parts[1:]] == [each.end for each in parts[:-1]]
    assert max(each.end - each.begin for each in parts) <= timedelta(days=180)


def test_there_is_a_gap_until_the_last_stretch_is_recovered() -> None:
    backlog = Backlog()
    backlog.add_late(stretch_of("* * * * *", NOON, NOON + 60 * MINUTE))
    backlog.add_late(stretch_of("* * * * *", NOON, NOON + 60 * MINUTE, "b"))
    first, second = backlog.iterate_late()
    assert backlog.find_gaps() == (Gap(NOON, NOON + 60 * MINUTE, "a"),)
    assert backlog.find_gaps([first]) == (Gap(NOON, NOON + 60 * MINUTE, "b"),)
    backlog.discard([first])
    assert backlog.find_gaps([second]) == ()
    backlog.discard([second])
    assert not backlog
    assert backlog.find_gaps() == ()


def test_what_was_cut_while_it_was_written_stays_as_far_as_it_is_left() -> None:
    backlog = Backlog()
    backlog.add_late(stretch_of("* * * * *", NOON, NOON + 60 * MINUTE))
    written = list(backlog.iterate_late())
    backlog.cut("a", NOON + 10 * MINUTE)
    backlog.discard(written)
    assert [(each.begin, each.end) for each in backlog.iterate_late()] == [(NOON, NOON + 10 * MINUTE)]


def test_what_is_added_again_is_not_in_the_backlog_twice() -> None:
    backlog = Backlog()
    backlog.add_late(stretch_of("* * * * *", NOON, NOON + 60 * MINUTE))
    backlog.add_late(stretch_of("*/2 * * * *", NOON, NOON + 60 * MINUTE))
    backlog.add(stretch_of("* * * * *", NOON + 20 * MINUTE, NOON + 40 * MINUTE))
    left = [(each.schedule.expression, each.begin, each.end) for each in backlog.iterate_late()]
    assert sorted(left) == [
        ("* * * * *", NOON, NOON + 20 * MINUTE),
        ("* * * * *", NOON + 40 * MINUTE, NOON + 60 * MINUTE),
        ("*/2 * * * *", NOON, NOON + 60 * MINUTE),
    ]
    assert [(each.begin, each.end) for each in backlog.pop_unexamined_intervals("a")] == [
        (NOON + 20 * MINUTE, NOON + 40 * MINUTE)
    ]


def test_a_time_that_is_derived_twice_is_unexamined_once() -> None:
    """By the evaluation that it was added with first."""
    backlog = Backlog()
    backlog.add(stretch_of("* * * * *", NOON + 20 * MINUTE, NOON + 30 * MINUTE))
    backlog.add(stretch_of("*/2 * * * *", NOON + 40 * MINUTE, NOON + 50 * MINUTE))
    backlog.add(stretch_of("*/2 * * * *", NOON, NOON + 60 * MINUTE))
    assert [
        (each.schedule.expression, each.begin, each.end) for each in backlog.pop_unexamined_intervals("a")
    ] == [
        ("*/2 * * * *", NOON, NOON + 20 * MINUTE),
        ("* * * * *", NOON + 20 * MINUTE, NOON + 30 * MINUTE),
        ("*/2 * * * *", NOON + 30 * MINUTE, NOON + 40 * MINUTE),
        ("*/2 * * * *", NOON + 40 * MINUTE, NOON + 60 * MINUTE),
    ]


def test_what_a_clock_ahead_found_late_is_examined_again() -> None:
    backlog = Backlog()
    backlog.add_late(stretch_of("* * * * *", NOON, NOON + 60 * MINUTE))
    backlog.add(stretch_of("* * * * *", NOON, NOON + 60 * MINUTE, "b"))
    backlog.reopen_late()
    assert (list(backlog.iterate_late()), sorted(backlog.unexamined)) == ([], ["a", "b"])
    assert backlog.find_gaps() == (Gap(NOON, NOON + 60 * MINUTE, "a"),)


def test_what_cannot_be_evaluated_keeps_its_gap_and_is_tried_again() -> None:
    backlog = Backlog()
    backlog.add(stretch_of("* * * * *", NOON, NOON + 60 * MINUTE))
    for stretch in backlog.pop_unexamined_intervals("a"):
        backlog.postpone(stretch)
    assert not backlog
    assert backlog.has_automation("a")
    assert backlog.find_gaps() == (Gap(NOON, NOON + 60 * MINUTE, "a"),)
    backlog.cut("a", NOON + 30 * MINUTE)  # an edit counts from then
    backlog.resume_postponed_intervals()
    assert backlog.unexamined == ["a"]
    assert [(each.begin, each.end) for each in backlog.pop_unexamined_intervals("a")] == [
        (NOON, NOON + 30 * MINUTE)
    ]


@pytest.mark.parametrize(
    ("gaps", "merged"),
    [
        ([(0, 5), (5, 9)], [(0, 9)]),
        ([(6, 9), (0, 5)], [(0, 5), (6, 9)]),
        ([(0, 9), (2, 3)], [(0, 9)]),
        ([], []),
    ],
)
def test_gaps_that_touch_are_one(gaps: list[tuple[int, int]], merged: list[tuple[int, int]]) -> None:
    made = merge_gaps(Gap(NOON + since * MINUTE, NOON + until * MINUTE) for since, until in gaps)
    assert made == [Gap(NOON + since * MINUTE, NOON + until * MINUTE) for since, until in merged]


def test_reasons_are_those_of_skipped_occurrences() -> None:
    stretch = stretch_of("* * * * *", NOON, NOON + 60 * MINUTE)
    (paused,) = decide_late(stretch, make_policies(paused=True), paused=False, claimed=None)
    assert paused[1] is Reason.PAUSED
    older, newer = decide_late(stretch, make_policies(), paused=False, claimed=NOON + 30 * MINUTE)
    assert (older[1], older[0].count) == (Reason.COALESCED, 29)
    assert (newer[1], newer[0].count) == (Reason.MISSED, 31)
