"""Time for people."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from scheduler.cli.times import local_text, span_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (60, "1m"),
        (750, "12m 30s"),
        (3600, "1h"),
        (3630, "1h"),
        (5400, "1h 30m"),
        (86400, "1d"),
        (273600, "3d 4h"),
        (86400 * 400 + 60, "400d"),
    ],
)
def test_a_span_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert span_text(timedelta(seconds=seconds)) == text


def test_local_time_has_its_day_and_its_zones_abbreviation() -> None:
    instant = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    assert local_text(instant.astimezone(ZoneInfo("Europe/Berlin"))) == "Sun 2026-03-29 03:00 CEST"
    assert local_text(instant.replace(second=7)) == "Sun 2026-03-29 01:00:07 UTC"
