"""Time for people."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import click
import pytest

from scheduler.cli.times import local_text, now, past, span_text


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


def test_the_past_is_an_instant_or_how_long_ago_it_was() -> None:
    assert past("2026-11-23T19:20:00+01:00") == datetime(2026, 11, 23, 18, 20, tzinfo=UTC)
    assert abs(now() - timedelta(hours=25) - past("1d1h")) < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["", "yesterday", "24", "2026-11-23T19:20:00", "10000w", "-1h"])
def test_what_is_neither_is_refused_with_both_ways_to_write_it(text: str) -> None:
    with pytest.raises(click.BadParameter, match="or how long ago it was, as 24h"):
        past(text)
