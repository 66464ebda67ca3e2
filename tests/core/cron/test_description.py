"""The words of a schedule say what fires, and nothing else."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from scheduler.core.cron.description import describe_schedule
from scheduler.core.cron.expression import Expression
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from tests.core.cron.description_reader import days_of, minutes_of
from tests.core.cron.oracle import EXAMPLES, RULES, Rule

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())["cases"]

TABLE = {
    "0 9 * * 1-5": "At 09:00, Monday through Friday",
    "* * * * *": "Every minute",
    "*/15 * * * *": "Every 15 minutes",
    "0 * * * *": "Every hour",
    "0 0-23 * * *": "Every hour",
    "0 1,* * * *": "Every hour",
    "30 * * * *": "At minute 30 of every hour",
    "5-5 9 * * *": "At 09:05, every day",
    "5/15 * * * *": "At minutes 5, 20, 35 and 50 of every hour",
    "59/5 * * * *": "At minute 59 of every hour",
    "*/7 * * * *": "Every 7 minutes from minute 0 through 56 of every hour",
    "*/40 * * * *": "At minutes 0 and 40 of every hour",
    "0 */2 * * *": "Every 2 hours",
    "0 */5 * * *": "Every 5 hours from 00:00 through 20:00",
    "0 */7 * * *": "At 00:00, 07:00, 14:00 and 21:00, every day",
    "0 9-17 * * *": "Every hour from 09:00 through 17:00",
    "*/5 9-17 * * mon-fri": "Every 5 minutes from 09:00 through 17:55, Monday through Friday",
    "* 9 * * *": "Every minute from 09:00 through 09:59",
    "* 9,12 * * *": "Every minute of the hours 9 and 12",
    "*/15 */2 * * *": "Every 15 minutes of the hours 0, 2, 4 and so on through 22",
    "0 22-2 * * *": "At 00:00, 01:00, 02:00, 22:00 and 23:00, every day",
    "0 00,012 * * *": "At 00:00 and 12:00, every day",
    "1,2,3 4,5 * * *": "At 04:01, 04:02, 04:03, 05:01, 05:02 and 05:03, every day",
    "7,8 1-5,9 * * *": "At minutes 7 and 8 of the hours 1, 2, 3, 4, 5 and 9, every day",
    "0 9 * * 7": "At 09:00, on Sunday",
    "0 9 * * MON,Wed": "At 09:00, on Monday and Wednesday",
    "0 9 * * fri-sun": "At 09:00, Friday through Sunday",
    "0 9 * * sat-mon": "At 09:00, Saturday through Monday",
    "0 9 * * 0,6": "At 09:00, on Saturday and Sunday",
    "0 9 * * 1-7": "At 09:00, every day",
    "0 9 ? * ?": "At 09:00, every day",
    "0 9 * jan-mar *": "At 09:00, every day from January through March",
    "0 9 * nov-feb *": "At 09:00, every day from November through February",
    "0 9 * 6 *": "At 09:00, every day in June",
    "*/5 * * 6 *": "Every 5 minutes, in June",
    "0 0 1 1 *": "At 00:00, on day 1 of January",
    "0 0 29 2 *": "At 00:00, on day 29 of February",
    "0 0 31 2,3 *": "At 00:00, on day 31 of the month, in February and March",
    "0 9 1,15 */3 *": "At 09:00, on days 1 and 15 of the month, in January, April, July and October",
    "0 0 */100 * *": "At 00:00, on day 1 of the month",
    "0 0 L * *": "At 00:00, on the last day of the month",
    "0 0 L,15 * *": "At 00:00, on day 15 and the last day of the month",
    "0 0 2-31,L * *": "At 00:00, every day",
    "0 0 15W * *": "At 00:00, on the weekday nearest to day 15 of the month",
    "0 0 W1 3 *": "At 00:00, on the weekday nearest to day 1 of March",
    "0 0 * * 5#2": "At 00:00, on the second Friday of the month",
    "0 0 * * 5#2,1#3": "At 00:00, on the second Friday and the third Monday of the month",
    "0 0 * 3 L5": "At 00:00, on the last Friday of the month, in March",
    # both day fields
    "0 9 13 * 5": "At 09:00, on day 13 of the month or on Friday",
    "0 9 L * 6,0": "At 09:00, on the last day of the month or on Saturday or Sunday",
    "0 9 13 6 5": "At 09:00, on day 13 of the month or on Friday, in June",
    "0 9 */2 * 5": "At 09:00, on days 1, 3, 5 and so on through 31 of the month if that is a Friday",
    "0 9 1-7 * */7": "At 09:00, on days 1 through 7 of the month if that is a Sunday",
    "0 9 13 * */2": "At 09:00, on day 13 of the month if that is a Tuesday, Thursday, Saturday or Sunday",
    "0 9 1-31 * 5": "At 09:00, every day",
    "0 9 5,* * 5": "At 09:00, every day",
    "0 9 *,5 * 5": "At 09:00, on Friday",
    "0 9 *,L * *": "At 09:00, every day",
    "0 9 13 * 5#2": "At 09:00, on the second Friday of the month",
    "0 9 15W * 5": "At 09:00, on the weekday nearest to day 15 of the month",
    "0 9 15W 3 5#2,5#3": (
        "At 09:00, on the weekday nearest to day 15 of March if that is the second Friday or the third Friday"
    ),
    "0 9 */2 * L5": "At 09:00, on days 1, 3, 5 and so on through 31 of the month if that is the last Friday",
}
"""Some that fire alike have the same words, however they are written."""

_WEEKDAY = st.sampled_from(("0", "1", "5", "7", "mon", "fri", "sat-mon", "1-5", "5-7"))
_NTH = st.builds("{}#{}".format, st.sampled_from(("0", "1", "5", "mon", "fri-sun")), st.integers(1, 5))
_LAST = st.builds("L{}".format, st.integers(0, 7))
_UNUSUAL_DATE = st.one_of(
    st.sampled_from(("*", "?", "L", "13", "1-31", "*/2", "*,5", "5,*", "2-31,L", "28-31", "*,L", "1-31,L")),
    st.builds("{}W".format, st.integers(1, 31)),
    st.builds("{},L".format, st.integers(1, 31)),
    st.builds("{}-{}".format, st.integers(1, 31), st.integers(1, 31)),
)
_UNUSUAL_WEEKDAY = st.one_of(
    st.sampled_from(("*", "?", "*/2", "*,5#2", "0-7")),
    st.lists(st.one_of(_NTH, _LAST), min_size=1, max_size=3).map(",".join),
    st.lists(_WEEKDAY, min_size=1, max_size=3).map(",".join),
)
_UNUSUAL = st.builds(
    "0 9 {} {} {}".format, _UNUSUAL_DATE, st.sampled_from(("*", "2", "jan,jul", "nov-feb")), _UNUSUAL_WEEKDAY
)


def parsed(expression: str) -> Schedule:
    """A refused expression is no example."""
    try:
        return Schedule.parse(expression, "UTC")
    except InvalidSchedule:
        assume(condition=False)
        raise


def days_from(schedule: Schedule, first: date, last: date) -> Iterator[date]:
    """The days on which it fires."""
    read = Expression.read(schedule.expression)
    day = read.find_day(first)
    while day is not None and day <= last:
        yield day
        day = read.find_day(day + timedelta(days=1))


def check(schedule: Schedule, first: date, length: int) -> None:
    """What the words claim is what fires: in a day, and on the days from ``first``."""
    words = describe_schedule(schedule)
    read = Expression.read(schedule.expression)
    assert minutes_of(words) == {hour * 60 + minute for hour in read.hours for minute in read.minutes}, words
    days = [first + timedelta(days=number) for number in range(length)]
    assert [day for day in days if days_of(words)(day)] == list(days_from(schedule, days[0], days[-1])), words


@pytest.mark.parametrize(("expression", "words"), TABLE.items())
def test_these_are_the_words(expression: str, words: str) -> None:
    assert describe_schedule(Schedule.parse(expression, "Europe/Berlin")) == words


@pytest.mark.parametrize("expression", TABLE)
def test_the_words_of_the_table_are_true_for_over_a_year(expression: str) -> None:
    check(Schedule.parse(expression, "UTC"), date(2027, 1, 1), 400)


@pytest.mark.parametrize("expression", sorted({case["cron"] for case in GOLDEN}))
def test_the_words_of_the_golden_cases_are_true(expression: str) -> None:
    check(Schedule.parse(expression, "UTC"), date(2028, 1, 1), 366)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(RULES, st.integers(0, 3000))
def test_the_words_of_any_rule_are_true(rule: Rule, day: int) -> None:
    check(parsed(rule.text), date(2024, 1, 1) + timedelta(days=day), 70)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(_UNUSUAL, st.integers(0, 3000))
def test_the_words_of_unusual_day_fields_are_true(expression: str, day: int) -> None:
    check(parsed(expression), date(2024, 1, 1) + timedelta(days=day), 70)
