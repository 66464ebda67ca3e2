"""The stretches of a wall clock hold together, in every zone."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from scheduler.core.cron.local_time import DAY, OffsetPeriod, iterate_offset_periods
from scheduler.core.cron.zones import load_zone, load_zone_data
from tests.core.cron.oracle import HOUR


def day_of(zone_name: str, day: date) -> list[OffsetPeriod]:
    return list(iterate_offset_periods(load_zone(zone_name), day))


def test_an_ordinary_day_is_one_stretch_that_goes_on_where_the_last_one_ended() -> None:
    (stretch,) = day_of("Asia/Kathmandu", date(2025, 6, 1))
    assert (stretch.begin, stretch.end) == (
        datetime(2025, 6, 1, tzinfo=UTC),
        datetime(2025, 6, 2, tzinfo=UTC),
    )
    assert stretch.offset == timedelta(hours=5, minutes=45)
    assert stretch.shown_until == stretch.local_begin


@pytest.mark.parametrize(
    ("zone_name", "day", "change", "shift"),
    [
        ("America/New_York", date(2025, 3, 9), "07:00", HOUR),
        ("America/New_York", date(2025, 11, 2), "06:00", -HOUR),
        ("Australia/Lord_Howe", date(2025, 4, 5), "15:00", -HOUR / 2),
        ("Antarctica/Troll", date(2025, 3, 30), "01:00", 2 * HOUR),
        ("Pacific/Apia", date(2011, 12, 30), "10:00", DAY),
        ("America/St_Johns", date(2010, 11, 7), "02:31", -HOUR),
    ],
)
def test_a_change_divides_the_day_and_is_found_to_the_second(
    zone_name: str, day: date, change: str, shift: timedelta
) -> None:
    before, after = day_of(zone_name, day)
    assert before.end == after.begin == datetime.fromisoformat(f"{day}T{change}Z")
    assert after.offset - before.offset == shift
    assert after.shown_until == before.local_end == after.local_begin - shift


@pytest.mark.parametrize(
    ("zone_name", "day", "shift"),
    [("Africa/Casablanca", date(2010, 5, 2), HOUR), ("Africa/Windhoek", date(2002, 4, 7), -HOUR)],
)
def test_a_change_at_midnight_utc_belongs_to_the_day_that_it_begins(
    zone_name: str, day: date, shift: timedelta
) -> None:
    (eve,), (morning,) = day_of(zone_name, day - DAY), day_of(zone_name, day)
    assert eve.shown_until == eve.local_begin
    assert morning.shown_until == eve.local_end == morning.local_begin - shift


def test_readings_shown_before_are_remembered_from_the_day_before() -> None:
    first, *_ = day_of(
        "Pacific/Kwajalein", date(1969, 10, 1)
    )  # put back by 23 hours at 13:00 UTC on the day before
    assert first.shown_until - first.local_begin == timedelta(hours=12)


def test_stretches_join_and_no_zone_changes_its_clock_twice_within_a_day() -> None:
    for zone_name in sorted(load_zone_data().names)[::9]:
        where = load_zone(zone_name)
        hours = [datetime(2025, 1, 1, tzinfo=UTC) + n * HOUR for n in range(0, 365 * 24, 3)]
        offsets = [(instant, instant.astimezone(where).utcoffset()) for instant in hours]
        changed = [later for (_, before), (later, after) in pairwise(offsets) if before != after]
        assert all(second - first > 2 * DAY for first, second in pairwise(changed)), zone_name
        for instant in changed:
            parts = [*day_of(zone_name, instant.date() - DAY), *day_of(zone_name, instant.date())]
            assert all(
                first.end == second.begin and second.shown_until == first.local_end
                for first, second in pairwise(parts)
            ), zone_name
