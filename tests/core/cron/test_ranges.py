"""Every range of every field stands for the values that one counts by hand: from its first end, in its step,
through the other one.

Set CRON_EXAMPLES above 100 to try every step also where a field has so many values that this takes minutes.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final, NamedTuple

import pytest

from scheduler.core.cron.expression import Expression
from scheduler.core.cron.ranges import CRONITERS_RULES, write_out_ranges
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from tests.core.cron.oracle import EXAMPLES


class Field(NamedTuple):
    first: int
    last: int
    steps: Sequence[int]
    names: str = ""

    @property
    def numbers(self) -> dict[str, int]:
        """Each way to write a value."""
        sunday = {"7": 7} if self.last == 6 else {}
        names = {name: self.first + place for place, name in enumerate(self.names.split())}
        return {str(number): number for number in range(self.first, self.last + 1)} | sunday | names


def _steps(last: int, *some: int) -> Sequence[int]:
    return range(1, last + 3) if EXAMPLES > 100 else some


FIELDS: Final = {
    "minute": Field(0, 59, _steps(59, 7, 25)),
    "hour": Field(0, 23, _steps(23, 1, 2, 3, 5, 7, 23, 24, 25)),
    "day of month": Field(1, 31, _steps(31, 2, 3, 7)),
    "month": Field(1, 12, _steps(12, 1, 2, 3, 5), "jan feb mar apr may jun jul aug sep oct nov dec"),
    "day of week": Field(0, 6, range(1, 9), "sun mon tue wed thu fri sat"),
}


def count(field: Field, low: int, high: int, step: int) -> set[int]:
    """Walk from one end to the other on the circle of the values, and take every ``step``-th value."""
    if low > high and (low, field.last) == (7, 6):
        low = 0  # Sunday, where the week begins
    way = (
        [*range(low, high + 1)]
        if low <= high
        else [*range(low, field.last + 1), *range(field.first, high + 1)]
    )
    return {0 if value == 7 and field.last == 6 else value for value in way[::step]}


def ranges(field: Field) -> Iterator[tuple[str, set[int]]]:
    for (low, first), (high, last), step in product(
        field.numbers.items(), field.numbers.items(), field.steps
    ):
        yield f"{low}-{high}" + (f"/{step}" if step > 1 else ""), count(field, first, last, step)


def other_forms(field: Field) -> Iterator[tuple[str, set[int]]]:
    """Values alone, steps from a value to the end, and steps through the whole field."""
    for text, number in field.numbers.items():
        yield text, count(field, number, number, 1)
        first = 0 if number > field.last else number
        yield from (
            (f"{text}/{step}", count(field, first, field.last, step)) for step in range(1, field.last + 3)
        )
    yield from (
        (f"*/{step}", count(field, field.first, field.last, step)) for step in range(1, field.last + 3)
    )


def read(name: str, text: str) -> set[int]:
    """The values of one field that stands beside ``*``."""
    place, field = list(FIELDS).index(name), FIELDS[name]
    fields = ["0", "0", "*", "*", "*"]
    fields[place] = text
    expression = Expression.read(" ".join(fields))
    days = expression.matching_days
    values = (expression.minutes, expression.hours, days.dates, days.months, days.weekdays)[place]
    return set(values) or set(range(field.first, field.last + 1))


@pytest.mark.parametrize("name", FIELDS)
def test_every_range_is_read_as_it_is_counted(name: str) -> None:
    assert {text: read(name, text) for text, _ in ranges(FIELDS[name])} == dict(ranges(FIELDS[name]))


@pytest.mark.parametrize("name", FIELDS)
def test_every_value_and_every_step_is_read_as_it_is_counted(name: str) -> None:
    assert {text: read(name, text) for text, _ in other_forms(FIELDS[name])} == dict(
        other_forms(FIELDS[name])
    )


@pytest.mark.parametrize("name", FIELDS)
def test_ranges_in_a_list_are_the_values_of_all_of_them(name: str) -> None:
    some = list(ranges(FIELDS[name]))[:: 97 if name == "minute" else 11]
    for (first, values), (second, others) in zip(some, some[len(some) // 2 :], strict=False):
        assert read(name, f"{first},{second}") == values | others, f"{first},{second}"


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("minute", "50-10/15", {50, 5}),
        ("minute", "50-10/25", {50}),
        ("hour", "23-5/4", {23, 3}),
        ("day of month", "28-3/2", {28, 30, 1, 3}),
        ("day of month", "28-3/3", {28, 31, 3}),
        ("day of month", "31-L", {31}),
        ("day of month", "31-L/2", {31}),
        ("day of month", "28-L/2", {28, 30}),
        ("month", "11-2/3", {11, 2}),
        ("month", "NOV-2/3", {11, 2}),
        ("day of week", "sat-mon/2", {6, 1}),
        ("day of week", "6-Mon/2", {6, 1}),
        ("day of week", "7-0", {0}),
        ("day of week", "7-sun", {0}),
        ("day of week", "sun-7", set(range(7))),
        ("day of week", "7-7/2", {0}),
        ("day of week", "0-7/2", {0, 2, 4, 6}),
        ("day of week", "1-7/2", {1, 3, 5, 0}),
        ("day of week", "5-0/2", {5, 0}),
        ("day of week", "sun-sat/2", {0, 2, 4, 6}),
        ("day of week", "sat-sun/2", {6}),
        ("day of week", "7/2", {0, 2, 4, 6}),
    ],
)
def test_these_are_the_values(name: str, text: str, values: set[int]) -> None:
    assert read(name, text) == values


@pytest.mark.parametrize("sign", ["#2", "#5"])
def test_a_range_of_days_with_a_number_of_the_week_wraps_too(sign: str) -> None:
    nth = Expression.read(f"0 0 * * sat-mon{sign}").matching_days.nth
    assert nth == tuple((day, int(sign[1])) for day in (0, 1, 6))


@pytest.mark.parametrize(
    "text", ["70-50/5", "50-70/5", "70-70", "0-60/2", "59-60", "50-10/0", "50-10/x", "50--10/2", "-10/2"]
)
def test_a_range_beyond_its_field_stays_invalid(text: str) -> None:
    for fields in (f"{text} * * * *", f"0 0 * {text} *", f"0 0 * * {text}"):
        with pytest.raises(InvalidSchedule, match="is not valid"):
            Schedule.parse(fields, "UTC")


@pytest.mark.parametrize(
    "field",
    [
        "*",
        "*/5",
        "5",
        "5/15",
        "10-50/7",
        "0-7",
        "1-7/2",
        "l",
        "28-l",
        "15w",
        "5#2",
        "mon-wed#2",
        "l5",
        "?",
        "1,,2",
        "",
        "x-y/2",
    ],
)
def test_whatever_croniter_reads_rightly_or_refuses_is_left_as_it_is_written(field: str) -> None:
    for place in range(5):
        assert write_out_ranges(field, place) == field


def test_the_rules_of_before_are_kept_for_the_record_of_then() -> None:
    assert Expression.read("50-10/15 23-5/4 * * *", CRONITERS_RULES).minutes == (6, 50)
    assert Expression.read("50-10/15 23-5/4 * * *", CRONITERS_RULES).hours == (4, 23)
    assert Expression.read("0 0 * * 7-0", CRONITERS_RULES).matching_days.weekdays == ()
    assert Expression.read("5-5 0 31-L * *", CRONITERS_RULES).minutes == (5,)
    assert Expression.read("5-5 0 31-L * *", CRONITERS_RULES).matching_days.dates == ()
    now, before = (Schedule.parse("50-10/15 * * * *", "UTC", rules_version=rules) for rules in (2, 1))
    assert now != before
    assert now == Schedule.parse("50-10/15 * * * *", "UTC")
