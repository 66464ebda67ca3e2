"""When it is told that automations disappeared from the list."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from scheduler.core.disappearance import DisappearanceWatch
from scheduler.core.recorded_state import Removal
from scheduler.core.status import Disappearance
from tests.counting import count_lines

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def watch(*numbers: tuple[float, int]) -> tuple[list[Disappearance], DisappearanceWatch]:
    """What was told of lists that showed so many automations at these minutes."""
    watching = DisappearanceWatch()
    told = [watching.note(at(minute), shown) for minute, shown in numbers]
    return [each for each in told if each is not None], watching


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([(0, 10), (1, 5)], []),
        ([(0, 10), (1, 4)], [(1, 6, 10)]),
        ([(0, 10), (1, 6), (3, 3)], [(3, 7, 10)]),
        ([(0, 10), (1, 6), (61.5, 4)], []),  # two thirds of the list of an hour ago are there
        ([(0, 10), (200, 4)], [(200, 6, 10)]),  # nobody looked in between
        ([(0, 4), (1, 0)], []),
        ([(0, 5), (1, 0)], [(1, 5, 5)]),
        ([(0, 0), (1, 10)], []),
        ([(0, 10), (1, 4), (2, 3), (3, 4)], [(1, 6, 10)]),
        ([(0, 10), (1, 4), (2, 10), (3, 4)], [(1, 6, 10), (3, 6, 10)]),
        ([(0, 100), (1, 40), (90, 40), (91, 15)], [(1, 60, 100), (91, 25, 40)]),
        ([(minute, 10 + minute % 2) for minute in range(300)], []),
        ([(10 * step, 100 - 9 * step) for step in range(11)], [(60, 54, 100)]),
    ],
)
def test_it_is_told_when_a_list_shows_less_than_half_of_the_most_of_the_last_hour(
    numbers: Iterable[tuple[float, int]], expected: list[tuple[float, int, int]]
) -> None:
    told, _ = watch(*numbers)
    assert told == [Disappearance(at(minute), gone, known) for minute, gone, known in expected]


def test_the_newest_one_counts_what_follows_within_the_hour() -> None:
    _, watching = watch((0, 10), (1, 4), (2, 2), (3, 3))
    assert watching.newest == Disappearance(at(1), 8, 10)


@pytest.mark.parametrize(("shown", "is_over"), [(4, False), (5, True), (9, True)])
def test_it_is_over_when_half_of_the_automations_are_shown_again(shown: int, is_over: bool) -> None:
    _, watching = watch((0, 10), (1, 4), (200, shown))
    assert (watching.newest is None) is is_over


def recall(present: int, *removals: tuple[float | None, float]) -> DisappearanceWatch:
    watching = DisappearanceWatch()
    watching.recall(
        present, [Removal(None if since is None else at(since), at(until)) for since, until in removals]
    )
    return watching


@pytest.mark.parametrize("since", [None, -5000])
def test_it_is_recalled_from_removals(since: float | None) -> None:
    watching = recall(4, *[(since, 1.0)] * 6)
    assert watching.newest == Disappearance(at(1), 6, 10)
    assert watching.note(at(5), 4) is None, "it was told before"


def test_automations_that_come_and_go_one_by_one_are_no_disappearance() -> None:
    assert recall(10, *[(5 * number, 5 * number + 4) for number in range(200)]).newest is None


def test_removals_over_many_hours_are_no_disappearance() -> None:
    assert recall(10, *[(None, 60.0 * number) for number in range(20)]).newest is None


def test_a_list_that_is_short_after_a_downtime_is_told() -> None:
    assert recall(10).note(at(3000), 4) == Disappearance(at(3000), 6, 10)


def recall_lifetimes(count: int) -> None:
    recall(10, *[(0.01 * number, 0.01 * number + 30) for number in range(count)])


def test_many_removals_within_an_hour_are_recalled_in_linear_time() -> None:
    assert count_lines(lambda: recall_lifetimes(3000)) <= 12 * count_lines(lambda: recall_lifetimes(300))
