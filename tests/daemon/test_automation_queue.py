"""The order in which the occurrences of one automation are sent."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler.core.delivery import Concluded, Delivery, NotDue
from scheduler.core.model import Occurrence, State
from scheduler.daemon.automation_queue import AutomationQueue
from tests.virtual import VirtualClock, run_virtual

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def make_delivery(hour: int, **known: Any) -> Delivery:
    due = NOON + hour * HOUR
    value = Delivery(Occurrence("main", "a", due), "nightly", due, due + HOUR, State.WAITING, is_late=False)
    return replace(value, **known)


@pytest.mark.parametrize(("on_its_way", "order"), [(True, [20, 18, 19]), (False, [18, 19, 20])])
def test_a_head_that_a_clock_ahead_had_claimed_goes_behind_what_is_due_before_it(
    *, on_its_way: bool, order: list[int]
) -> None:
    """Older ones come behind it while its attempt is in doubt; once it only waits for its time, they go
    first.
    """

    async def story() -> list[int]:
        queue = AutomationQueue(VirtualClock())
        head = queue.add(make_delivery(8, due_seen=0.0))
        for hour in (6, 7):
            queue.add(make_delivery(hour))
        if not on_its_way:
            head.apply(NotDue())
        queue.reorder_head()
        return [delivery.value.due.hour for delivery in queue.deliveries]

    assert run_virtual(story()) == order


def test_a_head_in_flight_stays_the_head_also_when_the_clock_says_that_it_is_not_due() -> None:
    """Else an older one would be sent beside it."""

    async def story() -> None:
        queue = AutomationQueue(VirtualClock())
        head = queue.add(make_delivery(8, state=State.IN_FLIGHT))
        queue.add(make_delivery(6))
        assert queue.deliveries[0] is head

    run_virtual(story())


@pytest.mark.parametrize(("own", "inherited"), [(None, 100.0), (300.0, 100.0), (40.0, 40.0)])
def test_the_occurrence_that_coalesces_the_head_inherits_how_long_the_head_has_waited(
    own: float | None, inherited: float
) -> None:
    """The newest that is due, and not one that is still to come."""

    async def story() -> None:
        queue = AutomationQueue(VirtualClock())
        head, older, newest, future = (
            queue.add(make_delivery(hour, waiting_since=since))
            for hour, since in ((1, 100.0), (2, None), (3, own), (9, None))
        )
        assert queue.coalesce_into_newest([head], NOON + 4 * HOUR) is newest
        assert newest.value.waiting_since == inherited
        assert (older.value.waiting_since, future.value.waiting_since) == (None, None)

    run_virtual(story())


def test_the_occurrence_that_coalesces_several_inherits_the_longest_of_their_waits() -> None:
    async def story() -> None:
        queue = AutomationQueue(VirtualClock())
        first, second, newest = (
            queue.add(make_delivery(hour, waiting_since=since))
            for hour, since in ((1, None), (2, 5.0), (3, None))
        )
        assert queue.coalesce_into_newest([first, second], NOON + 4 * HOUR) is newest
        assert newest.value.waiting_since == 5.0

    run_virtual(story())


def test_an_older_occurrence_is_coalesced_into_one_with_an_outcome_without_an_error() -> None:
    """It stays in its queue for a moment, until others are concluded with it."""

    async def story() -> None:
        queue = AutomationQueue(VirtualClock())
        newest = queue.add(make_delivery(3))
        newest.apply(Concluded())
        queue.note_coalescence(NOON)
        assert not newest.value.has_coalesced

    run_virtual(story())
