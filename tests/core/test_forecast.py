"""The forecast says what the budget does: compared with the daemon itself in tests/daemon/test_places.py."""

import pytest

from scheduler.core.forecast import ForecastOccurrence, Polls, find_losers, make_forecast, predict_polls

USUAL = Polls(interval=30.0, fresh_for=10.0, pages=1)


def every_minute(automations: int, minutes: int = 120) -> list[ForecastOccurrence]:
    return [
        ForecastOccurrence(minute * 60.0, minute * 60.0 + 60.0, str(number))
        for minute in range(1, minutes + 1)
        for number in range(automations)
    ]


@pytest.mark.parametrize("automations", [51, 55, 64])
def test_within_the_budget_nobody_waits(automations: int) -> None:
    result = make_forecast(every_minute(automations), USUAL, per_minute=400, per_hour=4000)
    assert (result.binds_at, find_losers(result), result.longest_gap) == (None, {}, 30.0)
    assert {(each.due, each.lost, each.longest_wait) for each in result.automation_forecasts.values()} == {
        (120, 0, 0.0)
    }


def test_beyond_the_budget_it_names_who_loses_how_much_and_from_when_on() -> None:
    result = make_forecast(every_minute(60), USUAL, per_minute=40, per_hour=10**6)
    assert result.binds_at == 60.0
    lost = [each.lost / each.due for each in find_losers(result).values()]
    assert sum(each.due - each.lost for each in result.automation_forecasts.values()) == pytest.approx(
        38 * 120, rel=0.02
    )
    assert max(lost) <= 60 / 38 - 1 + 0.1
    assert lost == sorted(lost, reverse=True)


def test_a_crowd_waits_and_loses_nothing() -> None:
    crowd = [ForecastOccurrence(60.0, 1860.0, str(number)) for number in range(1000)]
    result = make_forecast(crowd, USUAL, per_minute=400, per_hour=4000)
    assert find_losers(result) == {}
    assert max(each.longest_wait for each in result.automation_forecasts.values()) == pytest.approx(
        120.0, abs=2.0
    )


def test_what_is_not_started_by_its_deadline_is_lost() -> None:
    result = make_forecast(
        [ForecastOccurrence(60.0, 90.0, str(number)) for number in range(10)],
        USUAL,
        per_minute=5,
        per_hour=100,
    )
    assert 3 <= sum(each.due - each.lost for each in result.automation_forecasts.values()) <= 5


def test_polls_of_many_pages_become_rarer() -> None:
    result = make_forecast(every_minute(60), Polls(30.0, 10.0, 40), per_minute=400, per_hour=4000)
    assert 60.0 < result.longest_gap <= 165.0


def test_polls_are_wanted_at_the_interval_and_before_something_is_due() -> None:
    assert list(predict_polls([60.0, 120.0], USUAL, 150.0)) == [0.0, 30.0, 58.0, 88.0, 118.0]


def test_an_automation_that_catches_up_on_all_waits_and_loses_nothing() -> None:
    """Its occurrences are lost at their deadlines alone; the next one waits behind."""
    patient = [ForecastOccurrence(60.0 * minute, 60.0 * minute + 3600, "patient") for minute in range(1, 5)]
    crowd = [ForecastOccurrence(60.0, 360.0, str(number)) for number in range(150)]
    result = make_forecast([*crowd, *patient], USUAL, per_minute=40, per_hour=10**6)
    assert not find_losers(result)
    assert (
        result.automation_forecasts["patient"].due,
        result.automation_forecasts["patient"].longest_wait > 60,
    ) == (4, True)
