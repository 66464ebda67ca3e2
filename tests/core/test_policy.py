"""What the policies decide, row by row."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.model import Reason
from scheduler.core.policy import (
    CatchUp,
    Concurrency,
    Decision,
    FireTime,
    Permission,
    Policies,
    compute_effective_from,
    compute_jitter,
    compute_start_within,
    decide,
    make_fire_time,
    permit,
)
from tests.defaults import make_policies

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
ID = "01890a5d-ac96-774b-bcce-b302099a8057"


# ---------------------------------------------------------------- start_within


@pytest.mark.parametrize(
    ("to_the_next", "expected"),
    [
        (MINUTE, 5 * MINUTE),  # at least five minutes
        (10 * MINUTE, 5 * MINUTE),
        (10 * MINUTE + 2 * SECOND, 5 * MINUTE + SECOND),  # half the time to the next
        (HOUR, 30 * MINUTE),
        (2 * HOUR, HOUR),
        (2 * HOUR + SECOND, HOUR),  # at most an hour
        (timedelta(days=365), HOUR),
        (None, HOUR),  # there is no next one
    ],
)
def test_auto_is_half_the_time_to_the_next_one_within_bounds(
    to_the_next: timedelta | None, expected: timedelta
) -> None:
    assert compute_start_within(make_policies(), to_the_next) == expected


@pytest.mark.parametrize("given_", [timedelta(0), SECOND, timedelta(days=2)])
def test_a_duration_is_taken_as_it_is(given_: timedelta) -> None:
    assert compute_start_within(make_policies(start_within=given_), MINUTE) == given_


# ---------------------------------------------------------------- jitter


def test_no_jitter_is_none() -> None:
    assert compute_jitter(make_policies(), "main", ID, MINUTE) == timedelta(0)


def test_the_same_automation_has_the_same_offset_every_time() -> None:
    policies = make_policies(jitter=10 * MINUTE)
    assert (
        compute_jitter(policies, "main", ID, HOUR)
        == compute_jitter(policies, "main", ID, HOUR)
        == compute_jitter(policies, "main", ID, 2 * HOUR)
    )


def test_automations_and_targets_are_spread_over_the_whole_of_it() -> None:
    policies = make_policies(jitter=10 * MINUTE)
    offsets = sorted(compute_jitter(policies, "main", f"{number}", HOUR) for number in range(1000))
    assert offsets[0] < 5 * SECOND
    assert offsets[-1] > 10 * MINUTE - 5 * SECOND
    assert all(later - earlier < 10 * SECOND for earlier, later in pairwise(offsets))
    assert compute_jitter(policies, "main", ID, HOUR) != compute_jitter(policies, "other", ID, HOUR)


@given(
    automation_id=st.text(max_size=40),
    wanted=st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=3)),
    to_the_next=st.timedeltas(min_value=MINUTE, max_value=timedelta(days=30)),
)
def test_an_offset_is_less_than_half_the_time_to_the_next_one(
    automation_id: str, wanted: timedelta, to_the_next: timedelta
) -> None:
    offset = compute_jitter(make_policies(jitter=wanted), "main", automation_id, to_the_next)
    assert timedelta(0) <= offset < min(wanted, to_the_next / 2)


def test_a_moment_counts_its_deadline_from_when_it_is_due() -> None:
    policies = make_policies(start_within=7 * MINUTE, jitter=10 * MINUTE)
    made = make_fire_time(policies, "main", ID, NOON, NOON + HOUR)
    offset = compute_jitter(policies, "main", ID, HOUR)
    assert made == FireTime(NOON, NOON + offset, NOON + offset + 7 * MINUTE)


# ---------------------------------------------------------------- catch-up


def every_five_minutes(count: int, *, within: timedelta = 30 * MINUTE) -> list[FireTime]:
    """The last of them at noon."""
    instants = [NOON - 5 * MINUTE * number for number in reversed(range(count))]
    return [FireTime(each, each, each + within) for each in instants]


def told(decisions: list[Decision]) -> list[str]:
    """Decisions in short: minutes before noon, and what becomes of them."""
    return [text for each in decisions for text in told_alone(each)]


def told_alone(decision: Decision) -> list[str]:
    first, last = minutes(decision.fire_times[0]), minutes(decision.fire_times[-1])
    if decision.reason is None:
        return [f"start {minutes(each)}" for each in decision.fire_times]
    return [f"{decision.reason} {first}..{last}"]


def minutes(each: FireTime) -> int:
    return int((NOON - each.scheduled_for) / MINUTE)


@pytest.mark.parametrize(
    ("policies", "late", "absent", "expected"),
    [
        # somebody ran all the time, and something held them up
        ("latest", SECOND, False, ["coalesced 10..5", "start 0"]),
        ("all", SECOND, False, ["start 10", "start 5", "start 0"]),
        ("none", SECOND, False, ["coalesced 10..5", "start 0"]),
        # nobody ran since the first of them, and for ten minutes after the last
        ("latest", 10 * MINUTE, True, ["coalesced 10..5", "start 0"]),
        ("all", 10 * MINUTE, True, ["start 10", "start 5", "start 0"]),
        ("none", 10 * MINUTE, True, ["missed 10..0"]),
        # nobody ran, and somebody does again within a minute after the last: that is a restart
        ("latest", MINUTE, True, ["coalesced 10..5", "start 0"]),
        ("all", MINUTE, True, ["start 10", "start 5", "start 0"]),
        ("none", MINUTE, True, ["missed 10..5", "start 0"]),
        ("none", MINUTE + SECOND, True, ["missed 10..0"]),
        # so long after that start_within (30 min) has passed for some, or for all
        ("latest", 25 * MINUTE, True, ["coalesced 10..5", "start 0"]),
        ("all", 25 * MINUTE, True, ["missed 10..10", "start 5", "start 0"]),
        ("latest", 31 * MINUTE, True, ["missed 10..0"]),
        ("all", 31 * MINUTE, True, ["missed 10..0"]),
        ("none", 31 * MINUTE, True, ["missed 10..0"]),
        ("latest", 31 * MINUTE, False, ["missed 10..0"]),
    ],
)
def test_catching_up(policies: str, late: timedelta, absent: bool, expected: list[str]) -> None:
    now = NOON + late
    decisions = decide(
        every_five_minutes(3),
        make_policies(catch_up=CatchUp(policies)),
        now=now,
        absent_until=now if absent else NOON - 11 * MINUTE,
    )
    assert told(decisions) == expected


def test_none_tells_what_nobody_ran_for_from_what_was_only_held_up() -> None:
    decisions = decide(
        every_five_minutes(4),
        make_policies(catch_up=CatchUp.NONE),
        now=NOON + SECOND,
        absent_until=NOON - 8 * MINUTE,
    )
    assert told(decisions) == ["missed 15..10", "coalesced 5..5", "start 0"]


def test_a_restart_is_one_also_when_the_first_reading_takes_its_time() -> None:
    back = NOON + 3 * SECOND
    decisions = decide(
        every_five_minutes(1), make_policies(catch_up=CatchUp.NONE), now=back + 5 * MINUTE, absent_until=back
    )
    assert told(decisions) == ["start 0"]


def test_the_deadline_itself_is_still_in_time() -> None:
    (only,) = every_five_minutes(1)
    assert decide([only], make_policies(), now=only.deadline, absent_until=LONG_AGO) == [
        Decision([only], None)
    ]
    assert decide([only], make_policies(), now=only.deadline + SECOND, absent_until=LONG_AGO) == [
        Decision([only], Reason.MISSED)
    ]


@pytest.mark.parametrize(
    "policies", [make_policies(paused=True), make_policies(paused=True, catch_up=CatchUp.ALL)]
)
def test_paused_is_recorded_and_not_started(policies: Policies) -> None:
    decisions = decide(every_five_minutes(3), policies, now=NOON, absent_until=LONG_AGO)
    assert told(decisions) == ["paused 10..0"]


def test_an_operator_pauses_what_the_configuration_does_not() -> None:
    decisions = decide(every_five_minutes(1), make_policies(), now=NOON, absent_until=LONG_AGO, paused=True)
    assert told(decisions) == ["paused 0..0"]


@given(
    late=st.timedeltas(min_value=timedelta(0), max_value=3 * HOUR),
    absent=st.timedeltas(min_value=timedelta(0), max_value=3 * HOUR),
    count=st.integers(1, 20),
    catch_up=st.sampled_from(CatchUp),
    within=st.timedeltas(min_value=timedelta(0), max_value=2 * HOUR),
)
def test_every_moment_is_decided_once_and_in_order(
    late: timedelta, absent: timedelta, count: int, catch_up: CatchUp, within: timedelta
) -> None:
    moments = every_five_minutes(count, within=within)
    now = NOON + late
    decisions = decide(moments, make_policies(catch_up=catch_up), now=now, absent_until=now - absent)
    flat = [each for decision in decisions for each in decision.fire_times]
    assert flat == moments
    started = [each for decision in decisions if decision.reason is None for each in decision.fire_times]
    assert all(now <= each.deadline for each in started)
    assert catch_up is CatchUp.ALL or len(started) <= 1


# ---------------------------------------------------------------- concurrency


@pytest.mark.parametrize(
    ("concurrency", "unfinished", "expected"),
    [
        ("allow", True, "go"),
        ("allow", False, "go"),
        ("allow", None, "go"),
        ("forbid", True, "overlap"),
        ("forbid", False, "go"),
        ("forbid", None, "wait"),
        ("queue", True, "wait"),
        ("queue", False, "go"),
        ("queue", None, "wait"),
    ],
)
def test_concurrency(concurrency: str, unfinished: bool | None, expected: str) -> None:
    assert permit(
        make_policies(concurrency=Concurrency(concurrency)), newest_run_unfinished=unfinished
    ) is Permission(expected)


# ---------------------------------------------------------------- from when an edit counts

BEFORE, AFTER = NOON, NOON + 30 * SECOND


@pytest.mark.parametrize(
    ("updated_at", "offset", "moved", "expected"),
    [
        (NOON + 10 * SECOND, 0.0, False, NOON + 10 * SECOND),
        (NOON + 10 * SECOND, 4.0, False, NOON + 6 * SECOND),  # the API's clock is ahead of ours
        (NOON + 10 * SECOND, -4.0, False, NOON + 14 * SECOND),  # and behind
        (NOON - HOUR, 0.0, False, BEFORE),  # the poll before would have shown it
        (NOON + HOUR, 0.0, False, AFTER),  # it was there when this one began
        (NOON + 10 * SECOND, 60.0, False, BEFORE),
        (NOON + 10 * SECOND, -60.0, False, AFTER),
        (
            NOON + 10 * SECOND,
            0.0,
            True,
            BEFORE,
        ),  # a run moves updated_at too, so that only the poll before is certain
        (None, 0.0, False, BEFORE),
    ],
)
def test_an_edit_counts_from_updated_at_between_the_two_polls(
    updated_at: datetime | None, offset: float, moved: bool, expected: datetime
) -> None:
    assert (
        compute_effective_from(
            updated_at, clock_offset=offset, previous_poll=BEFORE, this_poll=AFTER, run_moved_it=moved
        )
        == expected
    )


def test_after_a_step_back_between_the_polls_an_edit_counts_from_the_later_poll() -> None:
    """The poll before seems to lie in the future then; what is in the future would not fire."""
    counted = compute_effective_from(
        NOON - HOUR, clock_offset=0.0, previous_poll=NOON + HOUR, this_poll=NOON, run_moved_it=False
    )
    assert counted == NOON
    assert (
        compute_effective_from(
            None, clock_offset=0.0, previous_poll=NOON + HOUR, this_poll=NOON, run_moved_it=True
        )
        == NOON
    )


@pytest.mark.parametrize(
    ("catch_up", "claimed", "expected"),
    [
        (CatchUp.LATEST, 3, [Reason.COALESCED] * 2),
        (CatchUp.NONE, 3, [Reason.COALESCED] * 2),
        (CatchUp.ALL, 3, [None, None]),
        (CatchUp.LATEST, 0, [Reason.COALESCED, None]),
        (CatchUp.LATEST, None, [Reason.COALESCED, None]),
    ],
)
def test_what_was_held_up_is_coalesced_into_a_newer_one_that_was_claimed(
    catch_up: CatchUp, claimed: int | None, expected: list[Reason | None]
) -> None:
    moments = [FireTime(each, each, each + HOUR) for each in (NOON + MINUTE, NOON + 2 * MINUTE)]
    newer = None if claimed is None else NOON + claimed * MINUTE
    decisions = decide(
        moments, make_policies(catch_up=catch_up), now=NOON + 4 * MINUTE, absent_until=NOON, claimed=newer
    )
    assert [each.reason for each in decisions for _ in each.fire_times] == expected
