"""Durations and sizes as text."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.settings.problems import InvalidSetting
from scheduler.settings.units import (
    format_duration,
    format_size,
    parse_duration,
    parse_positive_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0s", timedelta(0)),
        ("250ms", timedelta(milliseconds=250)),
        ("30s", timedelta(seconds=30)),
        ("0.5s", timedelta(milliseconds=500)),
        ("5m", timedelta(minutes=5)),
        ("1h", timedelta(hours=1)),
        ("90m", timedelta(minutes=90)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1d12h", timedelta(days=1, hours=12)),
        ("2w", timedelta(days=14)),
        ("180d", timedelta(days=180)),
        ("36500d", timedelta(days=36500)),
    ],
)
def test_a_duration_is_a_number_and_its_unit(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "30",
        "s",
        "30 s",
        "30S",
        "-5s",
        "+5s",
        "1m1h",
        "1h1h",
        "1.5.5s",
        "5min",
        "auto",
        "30s\n",
        "٣s",
        "1e3s",
        0,
        30,
        1.5,
        True,
        None,
        ["30s"],
    ],
)
def test_what_has_no_unit_or_no_sense_is_refused(value: object) -> None:
    with pytest.raises(InvalidSetting, match="should be a duration"):
        parse_duration(value)


@pytest.mark.parametrize("text", ["36501d", "999999999999w", "100000w1ms"])
def test_a_duration_has_an_end(text: str) -> None:
    with pytest.raises(InvalidSetting, match="longer than 100 years"):
        parse_duration(text)


def test_a_positive_duration_is_more_than_nothing() -> None:
    assert parse_positive_duration("1ms") == timedelta(milliseconds=1)
    with pytest.raises(InvalidSetting, match="more than nothing"):
        parse_positive_duration("0s")


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(microseconds=1), "0.000001s"),
        (timedelta(seconds=1.5), "1.5s"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(hours=24), "1d"),
        (timedelta(days=180), "180d"),
    ],
)
def test_a_duration_is_written_as_people_do(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36500)))
def test_what_is_written_is_read_back_the_same(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "size"), [("1KiB", 1024), ("10MiB", 10 * 1024**2), ("999999GiB", 999_999 * 1024**3)]
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value",
    [
        "",
        "10",
        "10MB",
        "10mib",
        "0MiB",
        "-1MiB",
        "1.5MiB",
        " 1MiB",
        "1MiB ",
        "1000000GiB",
        "\u0661MiB",
        10,
        1.5,
        True,
        None,
    ],
)
def test_what_is_no_size_is_refused_with_a_remedy(value: object) -> None:
    with pytest.raises(InvalidSetting, match="should be a size") as raised:
        parse_size(value)
    assert '"10MiB"' in raised.value.remedy


@given(st.integers(1, 999_999), st.sampled_from(["KiB", "MiB", "GiB"]))
def test_a_written_size_is_read_back_to_the_same(number: int, unit: str) -> None:
    size = parse_size(f"{number}{unit}")
    assert parse_size(format_size(size)) == size
