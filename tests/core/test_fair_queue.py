"""Who is next: rounds, three by deadline and one by waiting time, hanging automations last, and losses
shared.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import ceil
from typing import NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from scheduler.core.fair_queue import FairQueue, Ticket
from scheduler.core.forecast import AutomationForecast, ForecastOccurrence, Polls, make_forecast

MINUTES = 120


def choose(queue: FairQueue, now: float = 0.0) -> str:
    ticket = queue.choose()
    assert ticket is not None
    queue.record_send(ticket, now)
    return ticket.automation_id


def test_of_four_places_three_go_by_deadline_and_the_fourth_to_the_one_that_has_waited_longest() -> None:
    queue = FairQueue()
    for number in range(8):
        queue.join(str(number), lost_at=100.0 + number, since=-float(number))
    assert [choose(queue) for _ in range(8)] == ["0", "1", "2", "7", "3", "4", "5", "6"]
    assert queue.choose() is None


def test_the_first_waiting_occurrence_of_each_precedes_the_second_of_any() -> None:
    queue = FairQueue()
    queue.join("backlog", lost_at=1.0, since=0.0)
    for number in range(3):
        queue.join(str(number), lost_at=100.0, since=float(number))
    assert choose(queue, now=10.0) == "backlog"
    queue.join("backlog", lost_at=2.0, since=5.0)  # was waiting behind the first one
    assert [choose(queue, now=11.0) for _ in range(4)] == ["0", "1", "2", "backlog"]


def test_what_comes_due_later_is_no_second_occurrence() -> None:
    queue = FairQueue()
    queue.join("frequent", lost_at=60.0, since=0.0)
    for number in range(3):
        queue.join(str(number), lost_at=900.0, since=0.0)
    assert choose(queue, now=1.0) == "frequent"
    queue.join("frequent", lost_at=120.0, since=60.0)
    assert choose(queue, now=60.0) == "frequent"


def test_automations_that_hung_come_last_and_do_not_starve() -> None:
    queue = FairQueue()
    queue.record_answer("hung", hung=True)
    for automation_id in ("hung", "a", "b", "c", "d"):
        queue.join(automation_id, lost_at=60.0, since=0.0)
    assert [choose(queue) for _ in range(5)] == ["a", "b", "c", "d", "hung"]
    queue.join("hung", lost_at=60.0, since=-60.0)
    for number in range(8):
        queue.join(str(number), lost_at=60.0, since=0.0)
    assert "hung" in [choose(queue) for _ in range(4)]
    queue.record_answer("hung", hung=False)
    queue.join("hung", lost_at=1.0, since=0.0)
    assert "hung" in [choose(queue) for _ in range(2)]


def test_an_occurrence_that_left_is_not_chosen_and_takes_no_memory() -> None:
    queue = FairQueue()
    queue.join("stays", lost_at=1e9, since=1e9)
    for number in range(10_000):
        queue.leave(queue.join(str(number % 7), lost_at=float(number), since=float(number)))
    assert len(queue) == 1
    assert len(queue._by_deadline._entries) + len(queue._by_waiting._entries) < 200
    assert choose(queue) == "stays"


def test_choosing_among_ten_thousand_looks_at_few() -> None:
    """Counted, not timed: the comparisons of keys per choice grow with the logarithm."""

    def count_comparisons(size: int) -> float:
        compared = 0

        class Counted(float):
            def __lt__(self, other: object) -> bool:
                nonlocal compared
                compared += 1
                return float(self) < float(other)  # type: ignore[arg-type]  # both are numbers

            __hash__ = float.__hash__

        queue = FairQueue()
        for number in range(size):
            queue.join(
                str(number), lost_at=Counted((number * 7919) % size), since=Counted((number * 104729) % size)
            )
        compared = 0
        for _ in range(size):
            queue.choose()
        return compared / size

    assert count_comparisons(10_000) < 3 * count_comparisons(100)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.floats(0, 100), st.floats(0, 100), st.booleans()), max_size=60
    )
)
def test_every_occurrence_that_waits_is_chosen_once(joined: list[tuple[str, float, float, bool]]) -> None:
    queue, waiting = FairQueue(), dict[str, Ticket]()
    for automation_id, lost_at, since, leaves in joined:
        if (before := waiting.pop(automation_id, None)) is not None:
            queue.leave(before)
        if not leaves:
            waiting[automation_id] = queue.join(automation_id, lost_at=lost_at, since=since)
    assert sorted(choose(queue) for _ in waiting) == sorted(waiting)
    assert (len(queue), queue.choose()) == (0, None)


def test_what_waited_behind_another_does_not_starve_when_newer_ones_never_cease() -> None:
    """Every occurrence counts (`catch_up=all`), one a minute; two others take a place each before it, in
    every round.
    """
    queue, chosen = FairQueue(), list[str]()
    queue.join("all", lost_at=1e9, since=0.0)
    queue.join("newest", lost_at=1e9, since=0.0)
    assert choose(queue, now=100.0) == "all"
    queue.join("all", lost_at=1e9, since=60.0)
    for minute in range(10):
        queue.join(f"new {minute}", lost_at=200.0, since=110.0 + minute)
        chosen.append(choose(queue, now=110.0 + minute))
    assert "all" in chosen


def test_of_deleted_automations_little_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.core.fair_queue._MOST_KEPT", 10)
    queue = FairQueue()
    queue.join("stays", lost_at=1e9, since=1e9)
    for number in range(100):
        queue.record_loss(queue.join(str(number), lost_at=0.0, since=float(number)))
        choose(queue, now=float(number))
        queue.record_answer(str(number), hung=True)
    assert max(len(queue._sent), len(queue._hung), len(queue._lost)) <= 10


# ---------------------------------------------------------------- a shortage is shared


class Recurring(NamedTuple):
    """An automation that is due each ``period`` minutes. ``catches_up``: on all of its occurrences (`catch_up
    = "all"`).
    """

    period: int
    offset: int = 0  # seconds
    start_within: int = 300  # seconds
    catches_up: bool = False

    @property
    def patience(self) -> int:
        """For how many seconds an occurrence may wait: `start_within`, at most until the next one coalesces
        it.
        """
        return self.start_within if self.catches_up else min(self.start_within, self.period * 60)

    def dues(self, number: int) -> Iterator[ForecastOccurrence]:
        """Yield its occurrences."""
        for at in range(30 + self.offset, MINUTES * 60, self.period * 60):
            yield ForecastOccurrence(at, at + self.patience, str(number))


def play(automations: Sequence[Recurring], per_minute: int) -> list[AutomationForecast]:
    """What comes of each automation when fires have so many places a minute."""
    dues = sorted(
        (due for number, each in enumerate(automations) for due in each.dues(number)), key=lambda due: due.at
    )
    polls = Polls(interval=30.0, fresh_for=30.0, pages=1)  # two requests a minute
    prospects = make_forecast(dues, polls, per_minute=per_minute + 2, per_hour=1_000_000).automation_forecasts
    return [prospects[str(number)] for number in range(len(automations))]


def part_lost(prospect: AutomationForecast) -> float:
    return prospect.lost / prospect.due


def average_excess(automations: Sequence[Recurring], per_minute: int) -> float:
    return sum(1 / each.period for each in automations) / per_minute - 1


def excess(automations: Sequence[Recurring], per_minute: int, patience: int) -> float:
    """By which part the demand exceeds the places, in the busiest stretch of time that is as long as an
    occurrence may wait.
    """
    instants = sorted(due.at for each in automations for due in each.dues(0))
    busiest = max(bisect_left(instants, at + patience) - bisect_left(instants, at) for at in set(instants))
    return max(0.0, busiest / (per_minute * patience / 60) - 1)


EVERY_MINUTE = Recurring(1)


@pytest.mark.parametrize(
    "automations",
    [
        [EVERY_MINUTE] * 44,
        [EVERY_MINUTE] * 60,
        [EVERY_MINUTE] * 30 + [Recurring(1, start_within=3600)] * 30,
        [EVERY_MINUTE] * 30 + [Recurring(1, start_within=3600)] * 12,
        [EVERY_MINUTE] * 4 + [Recurring(2)] * 80,
        [EVERY_MINUTE] * 10 + [Recurring(5)] * 170,
        [EVERY_MINUTE] * 20 + [Recurring(3)] * 60 + [Recurring(1, catches_up=True)] * 10,
        [EVERY_MINUTE] * 20 + [Recurring(3)] * 60 + [Recurring(1, start_within=600, catches_up=True)] * 10,
        [Recurring(5)] * 60 + [Recurring(2, catches_up=True)] * 20 + [Recurring(1, catches_up=True)] * 24,
    ],
    ids=lambda automations: f"{len(automations)}",
)
def test_no_automation_loses_much_more_than_a_shortage_that_lasts(automations: list[Recurring]) -> None:
    limit = average_excess(automations, 40) + 0.1
    assert max(map(part_lost, play(automations, 40))) <= limit


@settings(deadline=None, max_examples=10, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    automations=st.lists(
        st.builds(
            Recurring,
            period=st.sampled_from([1, 1, 2, 5, 15]),
            offset=st.integers(0, 59),
            start_within=st.sampled_from([60, 300, 450, 3600]),
            catches_up=st.booleans(),
        ),
        min_size=20,
        max_size=80,
    ),
    part=st.sampled_from([0.9, 1.05, 1.1, 1.5]),
)
def test_whatever_the_schedules_a_shortage_is_shared(automations: list[Recurring], part: float) -> None:
    """As semantics.md promises, in whole occurrences: before an automation loses one, nothing shows that its
    turn has come.
    """
    per_minute = max(4, int(sum(1 / each.period for each in automations) / part))
    excesses = {
        patience: excess(automations, per_minute, patience)
        for patience in {each.patience for each in automations}
    }
    for automation, prospect in zip(automations, play(automations, per_minute), strict=True):
        assert prospect.lost <= ceil((excesses[automation.patience] + 0.1) * prospect.due)


@pytest.mark.parametrize(
    ("automations", "per_minute"),
    [
        ([Recurring(10)] * 400, 42),
        ([Recurring(30, start_within=900)] * 300, 11),
        ([Recurring(2)] * 60, 20),
        ([EVERY_MINUTE] * 30 + [Recurring(10)] * 200, 45),
    ],
    ids=lambda value: f"{len(value)}" if isinstance(value, list) else str(value),
)
def test_automations_with_the_same_schedule_lose_alike(automations: list[Recurring], per_minute: int) -> None:
    """Also in bursts that cannot be served in the time for which an occurrence may wait."""
    lost = defaultdict[Recurring, list[int]](list)
    for automation, prospect in zip(automations, play(automations, per_minute), strict=True):
        lost[automation].append(prospect.lost)
    for automation, counts in lost.items():
        occurrences = MINUTES // automation.period
        assert max(counts) - min(counts) <= max(1, 0.1 * occurrences)
        assert min(counts) > 0.05 * occurrences


def test_within_a_step_deadlines_decide_and_the_fourth_place_goes_to_whoever_lost_more() -> None:
    queue = FairQueue()
    ticket = queue.join("lost one", lost_at=0.0, since=0.0)
    queue.leave(ticket)
    queue.record_loss(ticket)
    for _ in range(7):
        queue.record_send(ticket, 0.0)  # it lost an eighth; now less than five points
    for name in "abcd":
        queue.join(name, lost_at=60.0, since=1.0)
    queue.join("lost one", lost_at=600.0, since=1.0)
    assert [choose(queue, 1.0) for _ in range(5)] == ["a", "b", "c", "lost one", "d"]
