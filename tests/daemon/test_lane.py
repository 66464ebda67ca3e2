"""The order in which the occurrences of one automation are sent."""

from datetime import UTC, datetime, timedelta

import pytest

from scheduler.core.model import Occurrence, State
from scheduler.daemon.clock import Alarm
from scheduler.daemon.delivery import AutomationQueue, Delivery
from tests.virtual import VirtualClock, run_virtual

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def open_occurrence(hour: int) -> Delivery:
    due = NOON + hour * HOUR
    return Delivery(
        Occurrence("main", "a", due),
        "nightly",
        due,
        due + HOUR,
        is_late=False,
        entry=None,
        state=State.WAITING,
    )


@pytest.mark.parametrize(("on_its_way", "order"), [(True, [20, 18, 19]), (False, [18, 19, 20])])
def test_a_head_that_a_clock_ahead_had_claimed_goes_behind_what_is_due_before_it(
    *, on_its_way: bool, order: list[int]
) -> None:
    """Older ones come behind it while its attempt is in doubt; once it only waits for its time, they go
    first.
    """

    async def story() -> list[int]:
        lane = AutomationQueue(Alarm(VirtualClock()))
        head = open_occurrence(8)
        head.due_seen = 0.0
        for carried in (head, open_occurrence(6), open_occurrence(7)):
            lane.add(carried)
        head.due_seen = 0.0 if on_its_way else None
        lane.reorder_head()
        return [carried.due.hour for carried in lane.deliveries]

    assert run_virtual(story()) == order


def test_a_head_in_flight_stays_the_head_also_when_the_clock_says_that_it_is_not_due() -> None:
    """Else an older one would be sent beside it."""

    async def story() -> None:
        lane = AutomationQueue(Alarm(VirtualClock()))
        head = open_occurrence(8)
        head.state = State.IN_FLIGHT
        for carried in (head, open_occurrence(6)):
            lane.add(carried)
        assert lane.deliveries[0] is head

    run_virtual(story())


@pytest.mark.parametrize(("own", "inherited"), [(None, 100.0), (300.0, 100.0), (40.0, 40.0)])
def test_the_occurrence_that_coalesces_the_head_inherits_how_long_the_head_has_waited(
    own: float | None, inherited: float
) -> None:
    """The newest that is due, and not one that is still to come."""

    async def story() -> None:
        lane = AutomationQueue(Alarm(VirtualClock()))
        head, older, newest, future = (open_occurrence(hour) for hour in (1, 2, 3, 9))
        head.waiting_since, newest.waiting_since = 100.0, own
        for carried in (head, older, newest, future):
            lane.add(carried)
        assert lane.coalesce_into_newest([head], NOON + 4 * HOUR) is newest
        assert newest.waiting_since == inherited
        assert (older.waiting_since, future.waiting_since) == (None, None)

    run_virtual(story())


def test_the_occurrence_that_coalesces_several_inherits_the_longest_of_their_waits() -> None:
    async def story() -> None:
        lane = AutomationQueue(Alarm(VirtualClock()))
        first, second, newest = (open_occurrence(hour) for hour in (1, 2, 3))
        second.waiting_since = 5.0
        for carried in (first, second, newest):
            lane.add(carried)
        assert lane.coalesce_into_newest([first, second], NOON + 4 * HOUR) is newest
        assert newest.waiting_since == 5.0

    run_virtual(story())
