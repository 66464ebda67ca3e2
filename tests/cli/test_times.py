"""Time for people."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from scheduler.cli.times import format_local_time, format_timedelta
from scheduler.core.quantities import describe_duration, describe_span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.9, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (750, "12 min 30 s"),
        (3600, "1 h"),
        (3630, "1 h"),
        (5400, "1 h 30 min"),
        (86400, "1 d"),
        (273600, "3 d 4 h"),
        (86400 * 400 + 60, "400 d"),
    ],
)
def test_a_span_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert format_timedelta(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 ms"), (0.004, "4 ms"), (1.0, "1 s"), (1.26, "1.3 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")],
)
def test_a_duration_is_told_as_exactly_as_it_is_of_use(seconds: float, text: str) -> None:
    assert describe_duration(seconds) == text


def test_a_page_that_is_shown_anew_has_minutes_without_seconds() -> None:
    assert [describe_span(seconds) for seconds in (59, 254, 7800)] == ["59 s", "4 min", "2 h 10 min"]


def test_local_time_has_its_day_and_its_zones_abbreviation() -> None:
    instant = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    assert format_local_time(instant.astimezone(ZoneInfo("Europe/Berlin"))) == "Sun 2026-03-29 03:00 CEST"
    assert format_local_time(instant.replace(second=7)) == "Sun 2026-03-29 01:00:07 UTC"
