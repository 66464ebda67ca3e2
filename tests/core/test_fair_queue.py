"""Who is next: rounds, three by deadline and one by waiting time, hanging automations last, and losses shared."""

import heapq

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from scheduler.core.fair_queue import FairQueue, Ticket

MINUTES = 240


def choose(queue: FairQueue, now: float = 0.0) -> str:
    ticket = queue.choose()
    assert ticket is not None
    queue.note_sent(ticket, now)
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
    queue.note_answer("hung", hung=True)
    for automation_id in ("hung", "a", "b", "c", "d"):
        queue.join(automation_id, lost_at=60.0, since=0.0)
    assert [choose(queue) for _ in range(5)] == ["a", "b", "c", "d", "hung"]
    queue.join("hung", lost_at=60.0, since=-60.0)
    for number in range(8):
        queue.join(str(number), lost_at=60.0, since=0.0)
    assert "hung" in [choose(queue) for _ in range(4)]
    queue.note_answer("hung", hung=False)
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
            queue.join(str(number), lost_at=Counted((number * 7919) % size), since=Counted((number * 104729) % size))
        compared = 0
        for _ in range(size):
            queue.choose()
        return compared / size

    assert count_comparisons(10_000) < 3 * count_comparisons(100)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 100), st.floats(0, 100), st.booleans()), max_size=60))
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
    """Every occurrence counts (`catch_up=all`), one a minute; two others take a place each before it, in every round."""
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
        queue.note_lost(queue.join(str(number), lost_at=0.0, since=float(number)))
        choose(queue, now=float(number))
        queue.note_answer(str(number), hung=True)
    assert max(len(queue._sent), len(queue._hung), len(queue._lost)) <= 10


# ---------------------------------------------------------------- a shortage is shared


def lose(automations: list[tuple[int, int, int]], per_minute: int) -> list[float]:
    """Which part of its occurrences each automation loses. An automation: its period in minutes, its offset and patience in seconds."""
    queue, waiting = FairQueue(), dict[int, Ticket]()
    served, due = [0] * len(automations), [0] * len(automations)
    events = [
        (minute * 60.0 + offset, 0, number)
        for number, (period, offset, _) in enumerate(automations)
        for minute in range(0, MINUTES, period)
    ]
    events += [(place * 60.0 / per_minute, 2, -1) for place in range(MINUTES * per_minute)]
    heapq.heapify(events)
    while events:
        now, kind, number = heapq.heappop(events)
        if kind == 0:
            period, _, patience = automations[number]
            due[number] += 1
            since = now
            if (before := waiting.pop(number, None)) is not None:
                queue.leave(before)
                queue.note_lost(before)
                since = before.since
            waiting[number] = queue.join(str(number), lost_at=now + min(patience, period * 60), since=since)
            heapq.heappush(events, (now + patience, 1, number))
        elif kind == 1 and number in waiting and waiting[number].lost_at <= now:
            queue.leave(waiting[number])
            queue.note_lost(waiting.pop(number))
        elif kind == 2 and (ticket := queue.choose()) is not None:
            served[int(ticket.automation_id)] += 1
            del waiting[int(ticket.automation_id)]
            queue.note_sent(ticket, now)
    return [1 - mine / all_of_them for mine, all_of_them in zip(served, due, strict=True)]


def demand(automations: list[tuple[int, int, int]]) -> float:
    return sum(1 / period for period, _, _ in automations)


@pytest.mark.parametrize(
    "automations",
    [
        [(1, 0, 300)] * 44,
        [(1, 0, 300)] * 60,
        [(1, 0, 300)] * 30 + [(1, 0, 3600)] * 30,
        [(1, 0, 300)] * 30 + [(1, 0, 3600)] * 12,
        [(1, 0, 300)] * 4 + [(2, 0, 300)] * 80,
        [(1, 0, 300)] * 10 + [(5, 0, 300)] * 170,
    ],
    ids=lambda automations: f"{len(automations)}",
)
def test_no_automation_loses_much_more_than_the_shortage(automations: list[tuple[int, int, int]]) -> None:
    shortage = demand(automations) / 40 - 1
    assert max(lose(automations, 40)) <= shortage + 0.1


@settings(deadline=None, max_examples=10, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    automations=st.lists(
        st.tuples(st.sampled_from([1, 1, 2, 5]), st.integers(0, 59), st.sampled_from([300, 3600])), min_size=20, max_size=80
    ),
    excess=st.sampled_from([1.05, 1.1, 1.5]),
)
def test_whatever_the_schedules_a_shortage_is_shared(automations: list[tuple[int, int, int]], excess: float) -> None:
    per_minute = max(4, int(demand(automations) / excess))
    shortage = max(0.0, demand(automations) / per_minute - 1)
    assert max(lose(automations, per_minute)) <= shortage + 0.1
