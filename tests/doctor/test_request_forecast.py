"""The estimate of requests, against what the daemon's own rules come to."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from scheduler.core.cron.schedule import Schedule
from scheduler.core.forecast import Polls
from scheduler.core.policy import Concurrency
from scheduler.doctor.checks.automations import RecurringAutomation
from scheduler.doctor.checks.request_forecast import RequestLoad, forecast_requests, list_hours
from scheduler.doctor.checks.shortage import MAX_OCCURRENCES, choose_stretch
from tests.defaults import make_policies

NOW = datetime(2026, 11, 23, 19, 20, 30, tzinfo=UTC)
USUAL = Polls(interval=30.0, fresh_for=10.0, pages=1)


class Needed(NamedTuple):
    """The busiest minute and hour."""

    minute: RequestLoad
    hour: RequestLoad


def of(*groups: tuple[str, int], polling: Polls = USUAL, offset: int = 0, reads: bool = False) -> Needed:
    policies = make_policies(concurrency=Concurrency.FORBID if reads else Concurrency.ALLOW)
    automations = [
        RecurringAutomation(
            str(number), "nightly", Schedule.parse(cron, "UTC"), timedelta(seconds=offset), policies
        )
        for cron, count in groups
        for number in range(count)
    ]
    minutes = forecast_requests(automations, polling, NOW)
    minute, hour = (max(loads, key=lambda load: load.requests) for loads in (minutes, list_hours(minutes)))
    return Needed(minute, hour)


def test_without_automations_only_polls_are_sent() -> None:
    needed = of()
    assert (needed.minute.fires, needed.minute.readings) == (0, 2)
    assert (needed.hour.fires, needed.hour.readings) == (0, 120)


def test_every_page_of_a_poll_is_a_request() -> None:
    assert of(polling=Polls(30.0, 10.0, 7)).hour.readings == 840


def test_the_busiest_minute_is_named_with_all_that_is_due_in_it() -> None:
    needed = of(("0 3 * * *", 5), ("0 * * * *", 2))
    assert (needed.minute.at, needed.minute.fires) == (datetime(2026, 11, 24, 3, tzinfo=UTC), 7)
    assert needed.hour.fires == 7


def test_the_poll_before_something_is_due_takes_the_place_of_a_later_one() -> None:
    assert (
        of(("* * * * *", 1)).hour.readings == 121
    )  # 2 s before the minute, and 30 s after that; and the one that the day begins with
    assert of(("0 * * * *", 1), polling=Polls(45.0, 10.0, 1)).hour.readings == 81


def test_a_snapshot_that_is_fresh_enough_is_not_read_again() -> None:
    assert of(("* * * * *", 1), polling=Polls(5.0, 10.0, 1)).hour.readings == 720


def test_jitter_moves_what_is_due() -> None:
    assert of(("0 3 * * *", 5), offset=90).minute.at == datetime(2026, 11, 24, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(("pages", "more"), [(1, 8), (20, 20)])
def test_what_waits_for_the_run_before_it_is_read_alone_or_with_the_whole_list(pages: int, more: int) -> None:
    polling = Polls(30.0, 10.0, pages)
    without, with_them = (
        of(("0 3 * * *", 50), polling=polling),
        of(("0 3 * * *", 50), polling=polling, reads=True),
    )
    assert with_them.minute.readings - without.minute.readings == more


def test_the_first_minute_of_the_day_counts_as_much_as_the_last() -> None:
    assert of(("21 19 * * *", 5)).minute.at == datetime(2026, 11, 23, 19, 21, tzinfo=UTC)
    assert of(("20 19 * * *", 5)).minute.at == datetime(2026, 11, 24, 19, 20, tzinfo=UTC)


# ---------------------------------------------------------------- which part of the day is forecast

DAY = 24 * 60


@pytest.mark.parametrize(
    ("fires", "crowded", "expected"),
    [
        ({900: MAX_OCCURRENCES}, range(900, 901), range(DAY)),
        (dict.fromkeys(range(DAY), 100), range(900, 901), range(850, 1050)),
        ({10 * minute: 400 for minute in range(DAY // 10)}, range(900, 901), range(840, 1331 + 9)),
        ({0: MAX_OCCURRENCES, 900: 5}, range(900, 901), range(840, DAY)),
        ({900: 5 * MAX_OCCURRENCES}, range(900, 901), range(840, 901)),
        ({899: MAX_OCCURRENCES, 900: 5 * MAX_OCCURRENCES, 901: 1}, range(900, 901), range(900, 901)),
        ({900: 5 * MAX_OCCURRENCES}, range(850, 910), range(840, 901)),
        ({0: 5 * MAX_OCCURRENCES, 1: 1}, range(60), range(1)),
        ({DAY - 1: 5 * MAX_OCCURRENCES}, range(DAY - 60, DAY), range(DAY - 61, DAY)),
    ],
)
def test_the_busiest_of_the_minutes_in_question_is_always_forecast(
    fires: dict[int, int], crowded: range, expected: range
) -> None:
    of_minutes = [fires.get(minute, 0) for minute in range(DAY)]
    stretch = choose_stretch(of_minutes, crowded)
    assert stretch == expected
    assert max(crowded, key=of_minutes.__getitem__) in stretch
