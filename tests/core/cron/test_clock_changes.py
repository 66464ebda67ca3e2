"""The clock changes that are told are those of the zone, and what is told of each is what the schedule
does.
"""

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.cron.clock_changes import ClockChange, find_clock_changes
from scheduler.core.cron.schedule import GapPolicy, RepeatPolicy, Schedule
from scheduler.core.cron.zones import load_zone
from tests.core.cron.oracle import (
    DAY,
    EXAMPLES,
    GAPS,
    HOUR,
    REPEATS,
    RULES,
    ZONES,
    Rule,
    changes,
    fires,
    parsed,
)

BEGIN = datetime(2024, 11, 26, tzinfo=UTC)
MONTHS = timedelta(days=396)


def told(
    expression: str,
    timezone: str,
    begin: datetime = BEGIN,
    *,
    gap: GapPolicy = "after",
    repeat: RepeatPolicy = "once",
) -> list[ClockChange]:
    return list(
        find_clock_changes(
            Schedule.parse(expression, timezone, dst_gap=gap, dst_repeat=repeat), begin, begin + MONTHS
        )
    )


AHEAD, BACK = (
    "2025-03-30 02:00 the clock goes ahead to 03:00: ",
    "2025-10-26 03:00 the clock goes back to 02:00: ",
)
BERLIN = [
    (
        "30 2 * * *",
        "02:30 does not exist; it fires at 03:00 instead",
        "02:30 comes twice; it fires the first time only",
    ),
    (
        "0,30 2 * * *",
        "02:00 and 02:30 do not exist; it fires once at 03:00 instead",
        "02:00 and 02:30 come twice; it fires the first time only",
    ),
    (
        "0 2,3 * * *",
        "02:00 does not exist; the fire at 03:00 stands for it too",
        "02:00 comes twice; it fires the first time only",
    ),
    (
        "*/30 2 * * *",
        "02:00 and 02:30 do not exist; it fires for none of them, as its minute or hour begins with *",
        "02:00 and 02:30 come twice; it fires both times, as its minute or hour begins with *",
    ),
    (
        "* * * * *",
        (
            "60 times from 02:00 through 02:59 do not exist; it fires for none of them, as its minute "
            "or hour begins with *"
        ),
        (
            "60 times from 02:00 through 02:59 come twice; it fires both times, as its minute or hour "
            "begins with *"
        ),
    ),
    ("0 9 * * *", "nothing of this schedule is touched", "nothing of this schedule is touched"),
    ("30 2 * * 1", "nothing of this schedule is touched", "nothing of this schedule is touched"),
]


@pytest.mark.parametrize(("expression", "ahead", "back"), BERLIN)
def test_each_change_is_told_in_words(expression: str, ahead: str, back: str) -> None:
    assert [each.words for each in told(expression, "Europe/Berlin")] == [AHEAD + ahead, BACK + back]


def test_the_policies_count_and_are_named() -> None:
    ahead, back = told("30 2 * * *", "Europe/Berlin", gap="skip", repeat="twice")
    assert ahead.words == AHEAD + "02:30 does not exist; it does not fire, as dst_gap is skip"
    assert back.words == BACK + "02:30 comes twice; it fires both times, as dst_repeat is twice"
    assert (ahead.effect, ahead.fires) == ("not_fired", ())
    assert (back.effect, back.fires) == ("both_passes", (back.at - HOUR / 2, back.at + HOUR / 2))


@pytest.mark.parametrize(
    ("expression", "timezone", "begin", "words"),
    [
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            BEGIN,
            [
                "2025-04-06 02:00 the clock goes back to 01:30: nothing of this schedule is touched",
                (
                    "2025-10-05 02:00 the clock goes ahead to 02:30: 02:15 does not exist; it fires at "
                    "02:30 instead"
                ),
            ],
        ),
        (
            "30 1,2 * * *",
            "Antarctica/Troll",
            BEGIN,
            [
                (
                    "2025-03-30 01:00 the clock goes ahead to 03:00: 01:30 and 02:30 do not exist; it "
                    "fires once at 03:00 instead"
                ),
                (
                    "2025-10-26 03:00 the clock goes back to 01:00: 01:30 and 02:30 come twice; it "
                    "fires the first time only"
                ),
            ],
        ),
        (
            "0 3 * * *",
            "Pacific/Chatham",
            BEGIN,
            [
                (
                    "2025-04-06 03:45 the clock goes back to 02:45: 03:00 comes twice; it fires the "
                    "first time only"
                ),
                (
                    "2025-09-28 02:45 the clock goes ahead to 03:45: 03:00 does not exist; it fires at "
                    "03:45 instead"
                ),
            ],
        ),
        (  # the night before, and a date that the fire leaves
            "30 23 * * *",
            "America/Nuuk",
            BEGIN,
            [
                (
                    "2025-03-29 23:00 the clock goes ahead to 2025-03-30 00:00: 23:30 does not exist; "
                    "it fires at 2025-03-30 00:00 instead"
                ),
                (
                    "2025-10-26 00:00 the clock goes back to 2025-10-25 23:00: 23:30 comes twice; it "
                    "fires the first time only"
                ),
            ],
        ),
        (
            "0 0 * * *",
            "Asia/Beirut",
            BEGIN,
            [
                (
                    "2025-03-30 00:00 the clock goes ahead to 01:00: 00:00 does not exist; it fires at "
                    "01:00 instead"
                ),
                (
                    "2025-10-26 00:00 the clock goes back to 2025-10-25 23:00: nothing of this schedule "
                    "is touched"
                ),
            ],
        ),
        (  # a whole day
            "0 12 * * *",
            "Pacific/Apia",
            datetime(2011, 10, 1, tzinfo=UTC),
            [
                (
                    "2011-12-30 00:00 the clock goes ahead to 2011-12-31 00:00: 12:00 does not exist; "
                    "it fires at 2011-12-31 00:00 instead"
                ),
                "2012-04-01 04:00 the clock goes back to 03:00: nothing of this schedule is touched",
                "2012-09-30 03:00 the clock goes ahead to 04:00: nothing of this schedule is touched",
            ],
        ),
        (  # at midnight UTC; summer time was taken back in Ramadan
            "30 2 * * *",
            "Africa/Casablanca",
            datetime(2025, 1, 1, tzinfo=UTC),
            [
                (
                    "2025-02-23 03:00 the clock goes back to 02:00: 02:30 comes twice; it fires the "
                    "first time only"
                ),
                (
                    "2025-04-06 02:00 the clock goes ahead to 03:00: 02:30 does not exist; it fires at "
                    "03:00 instead"
                ),
            ],
        ),
        ("30 2 * * *", "Asia/Tokyo", BEGIN, []),
        ("* * * * *", "UTC", BEGIN, []),
    ],
)
def test_odd_zones_are_told_too(expression: str, timezone: str, begin: datetime, words: list[str]) -> None:
    assert [each.words for each in told(expression, timezone, begin)] == words


def test_a_change_says_what_the_clock_does() -> None:
    ahead, back = told("30 2 * * *", "Europe/Dublin")
    assert (ahead.is_ahead, ahead.before, ahead.after) == (True, timedelta(), HOUR)
    assert (ahead.begin, ahead.end) == (datetime(2025, 3, 30, 1), datetime(2025, 3, 30, 2))  # noqa: DTZ001 -- local readings
    assert (back.is_ahead, back.before, back.after) == (False, HOUR, timedelta())
    assert (back.begin, back.end) == (datetime(2025, 10, 26, 1), datetime(2025, 10, 26, 2))  # noqa: DTZ001


def test_the_span_begins_after_its_first_instant_and_ends_with_its_last() -> None:
    schedule = Schedule.parse("0 9 * * *", "Europe/Berlin")
    at = datetime(2025, 3, 30, 1, tzinfo=UTC)
    assert [each.at for each in find_clock_changes(schedule, at - HOUR, at)] == [at]
    assert not list(find_clock_changes(schedule, at, at + HOUR))


@pytest.mark.parametrize("timezone", ZONES)
@pytest.mark.parametrize("year", [2011, 2026])
def test_every_change_of_the_zone_is_told(timezone: str, year: int) -> None:
    begin = datetime(year, 1, 1, tzinfo=UTC)
    found = find_clock_changes(Schedule.parse("0 0 1 1 *", timezone), begin, begin + 365 * DAY)
    assert tuple(each.at for each in found) == changes(timezone, year)


@settings(
    max_examples=EXAMPLES // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(RULES, st.sampled_from(ZONES), st.sampled_from((2011, 2025, 2031)), GAPS, REPEATS)
def test_what_is_told_is_what_fires(
    rule: Rule, timezone: str, year: int, gap: GapPolicy, repeat: RepeatPolicy
) -> None:
    schedule = parsed(rule, timezone, gap, repeat)
    where = load_zone(timezone)
    for at in changes(timezone, year):
        (change,) = find_clock_changes(schedule, at - HOUR, at)
        assert change.times == tuple(reading for reading in minutes(change) if rule.at(reading))
        span = change.end - change.begin
        real = fires(rule, timezone, at - span - DAY, at + span + DAY, gap=gap, repeat=repeat)
        if not change.is_ahead:
            assert list(change.fires) == [
                each
                for each in real
                if change.begin <= each.astimezone(where).replace(tzinfo=None) < change.end
            ]
        elif change.effect == "made_up":
            assert change.fires[0] in real
            assert change.times
        else:
            assert change.fires == ()
            assert not change.times or gap == "skip" or rule.wildcard


def minutes(change: ClockChange) -> list[datetime]:
    """The readings that are skipped or repeated, at whole minutes."""
    return [
        change.begin + timedelta(minutes=number)
        for number in range(int((change.end - change.begin).total_seconds()) // 60)
    ]


def test_thirteen_months_of_every_minute_are_told_in_no_time() -> None:
    begun = time.thread_time()
    assert len(told("* * * * *", "Antarctica/Troll")) == 2
    assert time.thread_time() - begun < 0.25
