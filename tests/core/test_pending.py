"""What is scheduled but not durable yet is never forgotten, and never kept for longer."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.pending import Pending
from scheduler.core.policy import Moment
from tests.counting import count_lines

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(minute: float, *, jitter: float = 0.0) -> Moment:
    scheduled_for = NOON + minute * MINUTE
    due = scheduled_for + jitter * MINUTE
    return Moment(scheduled_for, due, due + 5 * MINUTE)


@pytest.fixture
def pending() -> Pending:
    return Pending()


def test_what_is_due_stays_until_it_is_settled(pending: Pending) -> None:
    moments = (at(1), at(2))
    pending.add("a", moments, NOON + 2 * MINUTE)
    assert pending.due(NOON + 2 * MINUTE) == {"a": moments}
    assert pending.due(NOON + 2 * MINUTE)["a"] is moments  # what automations share is kept as it is
    pending.settled("a", moments)
    assert pending.due(NOON + 2 * MINUTE) == {}
    assert not pending.holds("a")


def test_what_its_jitter_lets_wait_is_due_later(pending: Pending) -> None:
    pending.add("a", [at(1), at(2, jitter=0.5)], NOON + 2 * MINUTE)
    assert pending.due(NOON + 2 * MINUTE) == {"a": (at(1),)}
    assert pending.due(NOON + 2.5 * MINUTE) == {"a": [at(1), at(2, jitter=0.5)]}


def test_what_comes_while_something_is_being_made_durable_is_not_settled_with_it(pending: Pending) -> None:
    pending.add("a", [at(1)], NOON + MINUTE)
    planned = pending.due(NOON + MINUTE)["a"]
    pending.add("a", [at(2)], NOON + 2 * MINUTE)
    pending.settled("a", planned)
    assert pending.due(NOON + 2 * MINUTE) == {"a": [at(2)]}


def test_the_same_instant_twice_is_one(pending: Pending) -> None:
    pending.add("a", [at(2)], NOON + 3 * MINUTE)
    pending.add("a", [at(1), at(2), at(3)], NOON + 3 * MINUTE)
    assert pending.due(NOON + 3 * MINUTE) == {"a": [at(1), at(2), at(3)]}


def test_cutting_forgets_what_was_scheduled_later_whether_due_or_waiting(pending: Pending) -> None:
    pending.add("a", [at(1), at(2), at(3, jitter=0.5), at(4, jitter=0.5)], NOON + 3 * MINUTE)
    pending.add("b", [at(2), at(4, jitter=0.5)], NOON + 3 * MINUTE)
    pending.cut("a", NOON + MINUTE)
    assert pending.due(NOON + 9 * MINUTE) == {"a": [at(1)], "b": [at(2), at(4, jitter=0.5)]}
    pending.cut_all(NOON + 2 * MINUTE)
    assert pending.due(NOON + 9 * MINUTE) == {"a": [at(1)], "b": [at(2)]}
    pending.cut_all(NOON)
    assert not pending.holds("a")
    assert pending.earliest_due is None


def test_the_earliest_due_and_the_earliest_scheduled(pending: Pending) -> None:
    assert pending.earliest_due is None
    assert pending.earliest_scheduled({}) is None
    pending.add("a", [at(1, jitter=0.9)], NOON + MINUTE)
    assert pending.earliest_due == NOON + 1.9 * MINUTE
    assert pending.earliest_scheduled({}) == NOON + MINUTE
    pending.add("b", [at(1.5)], NOON + 2 * MINUTE)
    assert pending.earliest_due == NOON + 1.5 * MINUTE
    ready = dict(pending.due(NOON + 1.9 * MINUTE))
    assert pending.earliest_scheduled({"a": ready["a"]}) == NOON + 1.5 * MINUTE
    assert pending.earliest_scheduled(ready) is None


def test_nothing_is_left_of_what_is_settled(pending: Pending) -> None:
    """A daemon runs for years: what a minute leaves behind is too much."""
    for minute in range(100):
        pending.add("a", [at(minute, jitter=0.5)], NOON + minute * MINUTE)
        pending.settled("a", pending.due(NOON + (minute + 0.5) * MINUTE)["a"])
    assert all(not kept for kept in vars(pending).values() if isinstance(kept, dict | list))


@given(
    adds=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 20), st.floats(0, 3), st.integers(0, 25)),
        max_size=15,
    ),
    until=st.integers(0, 25),
)
def test_everything_added_is_due_or_waits(adds: list[tuple[str, int, float, int]], until: int) -> None:
    pending = Pending()
    added: dict[tuple[str, datetime], Moment] = {}
    for automation_id, minute, jitter, seen_at in adds:
        moment = added.setdefault((automation_id, at(minute).scheduled_for), at(minute, jitter=jitter))
        pending.add(automation_id, [moment], NOON + seen_at * MINUTE)
    held = {(each, moment.scheduled_for) for each, moments in pending.due(NOON + 60 * MINUTE).items() for moment in moments}
    assert held == added.keys()
    due = Pending()
    for (automation_id, _), moment in added.items():
        due.add(automation_id, [moment], NOON)
    ready = {(each, moment.scheduled_for) for each, moments in due.due(NOON + until * MINUTE).items() for moment in moments}
    assert ready == {key for key, moment in added.items() if moment.due <= NOON + until * MINUTE}


def test_the_first_that_wait_for_their_due_time_are_found_in_order_without_the_forgotten_ones(pending: Pending) -> None:
    numbers = [7, 3, 9, 1, 8, 2, 6, 4, 5]
    for number in numbers:
        pending.add(f"a{number}", [at(1, jitter=number)], NOON + 2 * MINUTE)
    for number in (1, 4, 9):
        pending.cut(f"a{number}", NOON)
    left = sorted(set(numbers) - {1, 4, 9})
    assert pending.first_later(100) == [(f"a{number}", at(1, jitter=number)) for number in left]
    assert pending.first_later(2) == pending.first_later(100)[:2]
    assert (pending.later_count, set(pending.later_automations)) == (6, {f"a{number}" for number in left})
    assert (pending.later_of("a5"), pending.later_of("a4")) == ((at(1, jitter=5),), ())


@pytest.mark.parametrize("many", [1_000, 10_000])
def test_the_first_that_wait_cost_nothing_for_the_others(pending: Pending, many: int) -> None:
    for number in range(many):
        pending.add(f"a{number}", [at(1, jitter=1 + number)], NOON + MINUTE)
    assert count_lines(lambda: pending.first_later(100)) < 2_000
