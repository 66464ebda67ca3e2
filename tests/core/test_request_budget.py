"""The sums of the request budget: no window is overdrawn, polls never starve, and fires get what polls
leave.
"""

import heapq
from bisect import bisect_right
from itertools import pairwise

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from scheduler.core.request_budget import (
    HOUR,
    MINUTE,
    RAREST_POLL_INTERVAL,
    Purpose,
    RequestBudget,
    Window,
    compute_need,
)

INF = float("inf")
USUAL = compute_need(poll_interval=30.0, polls=0.0, pages=1)


def send(budget: RequestBudget, now: float, purpose: Purpose = Purpose.FIRE, *, requests: int = 1) -> None:
    budget.hold(purpose)
    budget.use(now, purpose, requests=requests)


def fire_at(budget: RequestBudget, now: float) -> float:
    """Ask until a fire may be sent, and send it."""
    while (at := budget.find_earliest_fire(now)) > now:
        now = at
    send(budget, now)
    return now


def poll_at(budget: RequestBudget, now: float, requests: int) -> float:
    """Ask until a poll of so many requests may begin."""
    while (at := budget.find_earliest_poll(now, requests)) > now:
        now = at
    return now


# ---------------------------------------------------------------- windows


@given(limit=st.integers(1, 12), gaps=st.lists(st.floats(0, 30), max_size=60))
def test_no_span_of_the_window_ever_holds_more_than_the_limit(limit: int, gaps: list[float]) -> None:
    window, now, taken = Window(limit, MINUTE), 0.0, []
    for gap in gaps:
        now = max(now + gap, window.find_free_instant(now + gap, 0, limit))
        window.add(now)
        taken.append(now)
    for first, beyond in zip(taken, taken[limit:], strict=False):
        assert beyond >= first + MINUTE


def test_requests_that_have_left_the_window_take_no_memory() -> None:
    window = Window(100, MINUTE)
    for second in range(20_000):
        window.add(float(second))
        window.count(float(second))
    assert len(window._sent) < 3_000


def test_the_stricter_of_minute_and_hour_decides() -> None:
    budget = RequestBudget(per_minute=3, per_hour=4)
    assert [fire_at(budget, 0.0) for _ in range(5)] == [0.0, 0.0, 0.0, MINUTE, HOUR]


def test_a_block_is_never_shortened_by_a_later_one() -> None:
    budget = RequestBudget(per_minute=3, per_hour=4)
    budget.block(50.0)
    budget.block(20.0)
    assert budget.find_earliest_fire(0.0) == budget.find_earliest_poll(0.0) == 50.0


@pytest.mark.parametrize(
    ("before", "after", "free_at"), [(4, 4, -INF), (4, 3, MINUTE), (4, 2, 10.0 + MINUTE), (3, 9, -INF)]
)
def test_other_limits_count_what_was_sent(before: int, after: int, free_at: float) -> None:
    budget = RequestBudget(per_minute=before, per_hour=100)
    for at in (0.0, 10.0, 20.0):
        send(budget, at)
    budget.set_limits(per_minute=after, per_hour=100, now=20.0)
    assert budget.find_earliest_fire(20.0) == free_at


def test_a_place_that_is_held_counts_until_it_is_given_back() -> None:
    budget = RequestBudget(per_minute=2, per_hour=100)
    budget.hold()
    budget.hold()
    assert budget.find_earliest_fire(0.0) > 0.0
    assert budget.find_earliest_poll(0.0) > 0.0
    budget.give_back()
    assert budget.find_earliest_fire(0.0) <= 0.0


# ---------------------------------------------------------------- the reserve


@pytest.mark.parametrize(("limit", "spare"), [(1, 1), (3, 3), (4, 3), (8, 6), (400, 300)])
def test_without_a_known_need_the_background_leaves_a_quarter_to_the_fires(limit: int, spare: int) -> None:
    budget = RequestBudget(per_minute=limit, per_hour=10**6)
    for _ in range(spare):
        assert budget.find_earliest_poll(0.0) <= 0.0
        send(budget, 0.0, Purpose.POLL)
    assert budget.find_earliest_poll(0.0) > 0.0
    if spare < limit:
        assert budget.find_earliest_fire(0.0) <= 0.0


def test_fires_leave_what_polls_still_need_and_take_it_when_the_need_has_passed() -> None:
    budget = RequestBudget(per_minute=400, per_hour=4000)
    budget.expect(USUAL, 0.0)
    now, sent = 0.0, 0
    while now < HOUR:
        while budget.find_earliest_fire(now) <= now:
            send(budget, now)
            sent += 1
        assert sent <= 4000 - (HOUR - now) / 30
        now += 1.0
    assert sent > 3990  # no poll came: its reserve is not lost for fires


@pytest.mark.parametrize("pages", [1, 7, 10, 40])
def test_the_reserve_is_at_most_a_quarter_unless_polls_would_become_too_rare(pages: int) -> None:
    budget = RequestBudget(per_minute=400, per_hour=4000)
    budget.expect(compute_need(poll_interval=30.0, polls=0.1, pages=pages), 0.0)
    fires = 0
    for minute in range(60):
        now = minute * 60.0
        while budget.find_earliest_fire(now) <= now:
            send(budget, now)
            fires += 1
    least = pages * HOUR / RAREST_POLL_INTERVAL
    assert 4000 - fires <= max(1000, least + pages) + 60


def play(
    automations: int, pages: int, hours: float, *, per_minute: int = 400, per_hour: int = 4000
) -> tuple[list[int], list[float]]:
    """Every-minute fires without patience for more than their minute, and polls every 30 s: fires by minute,
    and when polls began.
    """
    budget = RequestBudget(per_minute=per_minute, per_hour=per_hour)
    budget.expect(compute_need(poll_interval=30.0, polls=0.0, pages=pages), 0.0)
    fires, polls, wanted, page, waiting = [0] * (int(hours * 60) + 1), list[float](), 0.0, 0, 0
    events = [(minute * 60.0, 0) for minute in range(int(hours * 60))]
    heapq.heapify(events)
    heapq.heappush(events, (0.0, 1))
    while events:
        now, kind = heapq.heappop(events)
        waiting = automations if kind == 0 else waiting
        while now >= wanted and budget.find_earliest_poll(now, pages if page == 0 else 1) <= now:
            send(budget, now, Purpose.POLL, requests=1 if page else pages)
            polls += [now] if page == 0 else []
            page = (page + 1) % pages
            wanted = max(wanted, now) if page else polls[-1] + 30.0
        while waiting and budget.find_earliest_fire(now) <= now:
            send(budget, now)
            fires[int(now // 60)] += 1
            waiting -= 1
        if kind == 1 and now < hours * HOUR:
            heapq.heappush(events, (now + 1.0, 1))
    return fires, [at for at in polls if at < hours * HOUR]


@pytest.mark.parametrize("automations", [51, 55, 64])
def test_within_the_budget_all_fires_and_all_polls_go_for_six_hours(automations: int) -> None:
    fires, polls = play(automations, 1, 6)
    assert fires[:360] == [automations] * 360
    assert len(polls) == 720
    assert max(later - earlier for earlier, later in pairwise(polls)) <= 31.0


@example(automations=235, pages=13, per_hour=600)
@settings(deadline=None, max_examples=6, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(automations=st.integers(0, 400), pages=st.integers(1, 40), per_hour=st.sampled_from([600, 2400, 4000]))
def test_polls_are_never_rarer_than_promised_and_fires_get_the_rest(
    automations: int, pages: int, per_hour: int
) -> None:
    fires, polls = play(automations, pages, 1.5, per_hour=per_hour)
    rarest = max(
        RAREST_POLL_INTERVAL, pages * HOUR / (per_hour / 2 - pages)
    )  # a list that takes half of the budget becomes rarer still
    gaps = [later - earlier for earlier, later in pairwise([*polls, 1.5 * HOUR])]
    assert max(gaps) <= rarest + pages + 2.0
    assert sum(fires) + len(polls) * pages >= min(automations * 90, per_hour - pages)


def test_a_list_of_a_hundred_pages_is_read_about_every_190_seconds_on_the_default_budget() -> None:
    """Polls that are not rarer would take more than half of the budget of an hour."""
    fires, polls = play(automations=60, pages=100, hours=1.0)
    gaps = [later - earlier for earlier, later in pairwise(polls)]
    assert sum(gaps) / len(gaps) == pytest.approx(190.0, abs=10.0)
    assert sum(fires[:60]) == pytest.approx(2000, abs=200)


@pytest.mark.parametrize("quiet", [0, 600, 1800])
def test_polls_of_a_quiet_time_take_nothing_that_fires_may_use_later(quiet: int) -> None:
    """Polls want more than their quarter of the hour. Spent in the first minutes, the quarter would be kept
    for polls once more.
    """
    budget, polls, fires = RequestBudget(per_minute=10_000, per_hour=480), list[int](), 0
    budget.expect(compute_need(poll_interval=5.0, polls=0.0, pages=1), 0.0)
    for now in range(0, 3600, 5):
        if budget.find_earliest_poll(now) <= now:
            send(budget, now, Purpose.POLL)
            polls.append(now)
        while now >= quiet and budget.find_earliest_fire(now) <= now:
            send(budget, now)
            fires += 1
    assert fires >= 480 * 3 / 4 - 2
    assert max(after - before for before, after in pairwise(polls)) <= RAREST_POLL_INTERVAL


def test_a_poll_waits_until_all_of_its_pages_may_follow_each_other() -> None:
    budget = RequestBudget(per_minute=400, per_hour=4000)
    budget.expect(compute_need(poll_interval=30.0, polls=0.0, pages=10), 0.0)
    while budget.find_earliest_fire(0.0) <= 0.0:
        send(budget, 0.0)
    for page in [*range(10), *range(10)]:  # of the rarest polls, and of the others
        assert budget.find_earliest_poll(0.0, 1) <= 0.0
        send(budget, 0.0, Purpose.POLL, requests=1 if page else 10)
    first, whole = poll_at(budget, 1.0, 1), poll_at(budget, 1.0, 10)
    assert whole > 5 * first


def play_with_readings(readings: float) -> tuple[list[float], list[float], int]:
    """80 every-minute fires and so many readings a second on the default budget, for three hours.

    Gives when polls began, when readings were sent, and the fewest fires of an hour after which another one
    had to wait, in the last hour.
    """
    budget = RequestBudget(per_minute=400, per_hour=4000)
    read, polls, fires, waiting, asked, fewest = list[float](), list[float](), list[float](), 0, 0.0, 4000
    for second in range(3 * 3600):
        now = float(second)
        waiting = 80 if second % 60 == 0 else waiting
        asked = min(asked + readings, 8.0)
        if second % 30 == 0:  # as the daemon, which counts what was sent within an hour
            rate = sum(at > now - HOUR for at in read) / HOUR
            budget.expect(
                compute_need(poll_interval=30.0, polls=1 / 30, pages=1, readings=rate, at_once=int(asked)),
                now,
            )
        if (not polls or now - polls[-1] >= 30.0) and budget.find_earliest_poll(now) <= now:
            send(budget, now, Purpose.POLL)
            polls.append(now)
        while asked >= 1.0 and budget.find_earliest_reading(now) <= now:
            send(budget, now, Purpose.READING)
            read.append(now)
            asked -= 1.0
        while waiting and budget.find_earliest_fire(now) <= now:
            send(budget, now)
            fires.append(now)
            waiting -= 1
        if second > 2 * HOUR and waiting and budget.find_earliest_fire(now) > now:
            fewest = min(fewest, len(fires) - bisect_right(fires, now - HOUR))
    return polls, read, fewest


@pytest.mark.parametrize("readings", [0.1, 0.4, 2.0])
def test_readings_take_no_more_than_their_share_and_leave_polls_theirs(readings: float) -> None:
    """They once took half of the budget while fires waited, and polls came minutes late."""
    polls, read, fewest = play_with_readings(readings)
    background = sorted([*polls, *read])
    assert all(
        later - earlier >= HOUR for earlier, later in zip(background, background[1002:], strict=False)
    )  # two polls at once
    assert sum(at > 2 * HOUR for at in read) >= 0.95 * min(readings * HOUR, 1000 - 120)
    assert max(later - earlier for earlier, later in pairwise(polls)) <= RAREST_POLL_INTERVAL + 2.0
    assert fewest >= 2960, "three quarters are for fires; what is coming is counted in groups"


def test_readings_go_on_although_polls_and_fires_want_all() -> None:
    """Polls of every second want more than the quarter; an automation that the list does not show has only
    its reading.
    """
    budget = RequestBudget(per_minute=60, per_hour=100_000)
    budget.expect(compute_need(poll_interval=1.0, polls=1.0, pages=1, at_once=4), 0.0)
    readings = 0
    for second in range(600):
        now = float(second)
        while budget.find_earliest_fire(now) <= now:
            send(budget, now)
        while budget.find_earliest_poll(now) <= now:
            send(budget, now, Purpose.POLL)
        while budget.find_earliest_reading(now) <= now:
            send(budget, now, Purpose.READING)
            readings += 1
    assert readings >= 25, "a sixteenth of the limit is 37 in ten minutes"


def test_places_beside_the_reserves_are_for_fires_while_one_waits() -> None:
    budget = RequestBudget(per_minute=4, per_hour=100)
    for _ in range(4):
        send(budget, 0.0)
    assert budget.find_earliest_fire(59.5) > 59.5
    assert budget.find_earliest_poll(60.0) > 60.0
    assert budget.find_earliest_reading(60.0) > 60.0
    assert budget.find_earliest_fire(60.0) <= 60.0
    assert budget.find_earliest_poll(61.5) <= 61.5
    assert budget.find_earliest_reading(61.5) <= 61.5


def test_a_need_that_comes_and_goes_makes_no_tokens() -> None:
    budget = RequestBudget(per_minute=400, per_hour=4000)
    budget.expect(USUAL, 0.0)
    while budget.find_earliest_fire(0.0) <= 0.0:
        send(budget, 0.0)
    for _ in range(10):
        budget.expect(compute_need(poll_interval=30.0, polls=0.0, pages=1, at_once=8), 0.0)
        budget.expect(USUAL, 0.0)
    for _ in range(2):
        assert budget.find_earliest_poll(0.0) <= 0.0
        send(budget, 0.0, Purpose.POLL)
    assert budget.find_earliest_poll(0.0) > 0.0
    assert budget.find_earliest_reading(0.0) > 0.0


@pytest.mark.parametrize("per_minute", [1, 2, 3, 5])
def test_with_a_tiny_budget_fires_and_polls_both_go_on(per_minute: int) -> None:
    fires, polls = play(10, 1, 1, per_minute=per_minute)
    assert sum(fires) >= 25
    assert len(polls) >= 12
