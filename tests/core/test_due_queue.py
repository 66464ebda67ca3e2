"""What is scheduled but not durable yet is never forgotten, and never kept for longer."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.due_queue import DueQueue
from scheduler.core.policy import FireTime
from tests.counting import count_lines

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(minute: float, *, jitter: float = 0.0) -> FireTime:
    scheduled_for = NOON + minute * MINUTE
    due = scheduled_for + jitter * MINUTE
    return FireTime(scheduled_for, due, due + 5 * MINUTE)


@pytest.fixture
def pending() -> DueQueue:
    return DueQueue()


def test_what_is_due_stays_until_it_is_settled(pending: DueQueue) -> None:
    moments = (at(1), at(2))
    pending.add("a", moments, NOON + 2 * MINUTE)
    assert pending.find_due(NOON + 2 * MINUTE) == {"a": moments}
    assert pending.find_due(NOON + 2 * MINUTE)["a"] is moments  # what automations share is kept as it is
    pending.discard("a", moments)
    assert pending.find_due(NOON + 2 * MINUTE) == {}
    assert not pending.has_automation("a")


def test_what_its_jitter_lets_wait_is_due_later(pending: DueQueue) -> None:
    pending.add("a", [at(1), at(2, jitter=0.5)], NOON + 2 * MINUTE)
    assert pending.find_due(NOON + 2 * MINUTE) == {"a": (at(1),)}
    assert pending.find_due(NOON + 2.5 * MINUTE) == {"a": [at(1), at(2, jitter=0.5)]}


def test_what_is_confirmed_after_a_step_back_waits_for_its_due_time(pending: DueQueue) -> None:
    pending.recall("a", [at(1, jitter=2)], NOON + 4 * MINUTE)
    pending.confirm_all(NOON + 2 * MINUTE)
    assert pending.find_due(NOON + 2 * MINUTE) == {}
    assert pending.find_due(NOON + 3 * MINUTE) == {"a": [at(1, jitter=2)]}


def test_what_comes_while_something_is_being_made_durable_is_not_settled_with_it(pending: DueQueue) -> None:
    pending.add("a", [at(1)], NOON + MINUTE)
    planned = pending.find_due(NOON + MINUTE)["a"]
    pending.add("a", [at(2)], NOON + 2 * MINUTE)
    pending.discard("a", planned)
    assert pending.find_due(NOON + 2 * MINUTE) == {"a": [at(2)]}


def test_the_same_instant_with_another_jitter_is_one_and_the_later_addition_wins(pending: DueQueue) -> None:
    """An automation is renamed, so that other policies apply, and the clock is set back."""
    pending.add("a", [at(1, jitter=0.5)], NOON + MINUTE)
    pending.add("a", [at(1, jitter=0.2)], NOON + MINUTE)
    assert pending.delayed_count == 1
    assert pending.find_due(NOON + 2 * MINUTE) == {"a": [at(1, jitter=0.2)]}
    assert pending.find_earliest_scheduled({}) == at(1).scheduled_for


def test_what_was_due_by_a_clock_ahead_waits_again_when_it_is_added_again(pending: DueQueue) -> None:
    pending.add("a", [at(1, jitter=0.5)], NOON + 2 * MINUTE)
    pending.recall("b", [at(1, jitter=0.5)], NOON + 2 * MINUTE)
    for each in ("a", "b"):
        pending.add(each, [at(1, jitter=0.5)], NOON + MINUTE)
    assert pending.find_due(NOON + MINUTE) == {}
    assert not pending.unconfirmed
    assert pending.find_due(NOON + 1.5 * MINUTE) == {"a": [at(1, jitter=0.5)], "b": [at(1, jitter=0.5)]}


def test_what_waits_and_is_due_when_it_is_added_again_is_due_once(pending: DueQueue) -> None:
    pending.add("a", [at(1, jitter=0.5)], NOON + MINUTE)
    pending.add("a", [at(1)], NOON + MINUTE)
    pending.discard("a", pending.find_due(NOON + MINUTE)["a"])
    assert pending.find_due(NOON + 2 * MINUTE) == {}
    assert pending.delayed_count == 0


def test_the_same_instant_twice_is_one(pending: DueQueue) -> None:
    pending.add("a", [at(2)], NOON + 3 * MINUTE)
    pending.add("a", [at(1), at(2), at(3)], NOON + 3 * MINUTE)
    assert pending.find_due(NOON + 3 * MINUTE) == {"a": [at(1), at(2), at(3)]}


def test_cutting_forgets_what_was_scheduled_later_whether_due_or_waiting(pending: DueQueue) -> None:
    pending.add("a", [at(1), at(2), at(3, jitter=0.5), at(4, jitter=0.5)], NOON + 3 * MINUTE)
    pending.add("b", [at(2), at(4, jitter=0.5)], NOON + 3 * MINUTE)
    pending.cut("a", NOON + MINUTE)
    assert pending.find_due(NOON + 9 * MINUTE) == {"a": [at(1)], "b": [at(2), at(4, jitter=0.5)]}
    pending.cut_all(NOON + 2 * MINUTE)
    assert pending.find_due(NOON + 9 * MINUTE) == {"a": [at(1)], "b": [at(2)]}
    pending.cut_all(NOON)
    assert not pending.has_automation("a")
    assert pending.earliest_due is None


def test_the_earliest_due_and_the_earliest_scheduled(pending: DueQueue) -> None:
    assert pending.earliest_due is None
    assert pending.find_earliest_scheduled({}) is None
    pending.add("a", [at(1, jitter=0.9)], NOON + MINUTE)
    assert pending.earliest_due == NOON + 1.9 * MINUTE
    assert pending.find_earliest_scheduled({}) == NOON + MINUTE
    pending.add("b", [at(1.5)], NOON + 2 * MINUTE)
    assert pending.earliest_due == NOON + 1.5 * MINUTE
    ready = dict(pending.find_due(NOON + 1.9 * MINUTE))
    assert pending.find_earliest_scheduled({"a": ready["a"]}) == NOON + 1.5 * MINUTE
    assert pending.find_earliest_scheduled(ready) is None


def test_nothing_is_left_of_what_is_settled(pending: DueQueue) -> None:
    """A daemon runs for years: what a minute leaves behind is too much."""
    for minute in range(100):
        pending.add("a", [at(minute, jitter=0.5)], NOON + minute * MINUTE)
        pending.discard("a", pending.find_due(NOON + (minute + 0.5) * MINUTE)["a"])
    assert all(not kept for kept in vars(pending).values() if isinstance(kept, dict | list))


@given(
    adds=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 20), st.floats(0, 3), st.integers(0, 25)),
        max_size=15,
    ),
    until=st.integers(0, 25),
)
def test_everything_added_is_due_or_waits(adds: list[tuple[str, int, float, int]], until: int) -> None:
    pending = DueQueue()
    added: dict[tuple[str, datetime], FireTime] = {}
    for automation_id, minute, jitter, seen_at in adds:
        moment = added.setdefault((automation_id, at(minute).scheduled_for), at(minute, jitter=jitter))
        pending.add(automation_id, [moment], NOON + seen_at * MINUTE)
    held = {
        (each, moment.scheduled_for)
        for each, moments in pending.find_due(NOON + 60 * MINUTE).items()
        for moment in moments
    }
    assert held == added.keys()
    due = DueQueue()
    for (automation_id, _), moment in added.items():
        due.add(automation_id, [moment], NOON)
    ready = {
        (each, moment.scheduled_for)
        for each, moments in due.find_due(NOON + until * MINUTE).items()
        for moment in moments
    }
    assert ready == {key for key, moment in added.items() if moment.due <= NOON + until * MINUTE}


def test_the_first_that_wait_for_their_due_time_are_found_in_order_without_the_forgotten_ones(
    pending: DueQueue,
) -> None:
    numbers = [7, 3, 9, 1, 8, 2, 6, 4, 5]
    for number in numbers:
        pending.add(f"a{number}", [at(1, jitter=number)], NOON + 2 * MINUTE)
    for number in (1, 4, 9):
        pending.cut(f"a{number}", NOON)
    left = sorted(set(numbers) - {1, 4, 9})
    assert pending.list_first_delayed(100) == [(f"a{number}", at(1, jitter=number)) for number in left]
    assert pending.list_first_delayed(2) == pending.list_first_delayed(100)[:2]
    assert (pending.delayed_count, set(pending.delayed)) == (6, {f"a{number}" for number in left})
    assert (list(pending.delayed["a5"]), pending.delayed.get("a4")) == ([at(1, jitter=5)], None)


@pytest.mark.parametrize("many", [1_000, 10_000])
def test_the_first_that_wait_cost_nothing_for_the_others(pending: DueQueue, many: int) -> None:
    for number in range(many):
        pending.add(f"a{number}", [at(1, jitter=1 + number)], NOON + MINUTE)
    assert count_lines(lambda: pending.list_first_delayed(100)) < 2_000
