"""The instants of plain expressions in UTC, counted by hand: nothing of the product reads the expression
here.

Plain means: five fields of numbers, ``*``, ranges, steps and lists. A range that ends before it begins
continues from the last value of its field to the first one, and its step continues with it
(`docs/schedules.md`).
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

_FIELDS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_ITEM: Final = re.compile(r"(\*|\d{1,2}(?:-\d{1,2})?)(?:/(\d{1,2}))?", re.ASCII)


def list_instants(expression: str, begin: datetime, end: datetime) -> Sequence[datetime] | None:
    """Return the instants after ``begin`` and up to ``end`` in order; None for an expression that is not
    plain.
    """
    fields = expression.split(" ")
    values = [_read_field(*each) for each in zip(fields, _FIELDS, strict=False)]
    if len(fields) != len(_FIELDS) or not all(values):
        return None
    minutes, hours, *_ = values
    of_day = [time(hour, minute, tzinfo=UTC) for hour in sorted(hours) for minute in sorted(minutes)]
    days = (day for day in _days(begin.date(), end.date()) if _matches(day, fields, values))
    instants = (datetime.combine(day, at) for day in days for at in of_day)
    return tuple(instant for instant in instants if begin < instant <= end)


def _read_field(text: str, limits: tuple[int, int]) -> set[int]:
    """Return the values of a field; none when the text is not plain."""
    values: set[int] = set()
    for item in text.split(","):
        found = _ITEM.fullmatch(item)
        read = _walk(found[1], int(found[2] or 1), *limits, has_step=found[2] is not None) if found else ()
        if not read:
            return set()
        values.update(read)
    return values


def _walk(text: str, step: int, first: int, last: int, *, has_step: bool) -> Sequence[int]:
    """Walk from one end to the other on the circle of the values, and take every ``step``-th value."""
    low, _, high = (f"{first}-{last}" if text == "*" else text).partition("-")
    ends = int(low), int(high or (last if has_step else low))
    if step == 0 or not all(first <= each <= last for each in ends):
        return ()
    way = (
        range(ends[0], ends[1] + 1)
        if ends[0] <= ends[1]
        else [*range(ends[0], last + 1), *range(first, ends[1] + 1)]
    )
    return way[::step]


def _days(first: date, last: date) -> Iterator[date]:
    return (first + timedelta(days=number) for number in range((last - first).days + 1))


def _matches(day: date, fields: Sequence[str], values: Sequence[set[int]]) -> bool:
    """Whether it fires on this day: when both the date and the day of week are restricted, one of them is
    enough.
    """
    _, _, dates, months, weekdays = values
    by_date, by_weekday = day.day in dates, day.isoweekday() % 7 in weekdays
    is_either = not fields[2].startswith("*") and not fields[4].startswith("*")
    return day.month in months and (by_date or by_weekday if is_either else by_date and by_weekday)
