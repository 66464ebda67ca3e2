"""The five fields of an expression: their names and values. Source: `docs/schedules.md`."""

from typing import Final, NamedTuple

MINUTE, HOUR, DATE, MONTH, WEEKDAY = range(5)
"""The positions of the fields."""
MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
WEEKDAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


class CronField(NamedTuple):
    """A field.

    ``last_end`` is the largest number at the end of a range: 7 for the day of week, where 7 is Sunday again.
    ``takes`` describes the valid values, for people.
    """

    name: str
    first: int
    last: int
    last_end: int
    takes: str
    value_names: dict[str, int]

    @property
    def size(self) -> int:
        """The number of values."""
        return self.last - self.first + 1

    def to_number(self, end: str) -> int | None:
        """Return the number of one end of a range, or None when this field has no such name or number."""
        number = int(end) if end.isdecimal() else self.value_names.get(end)
        return number if number is not None and number <= self.last_end else None


def _shorten(names: tuple[str, ...], first: int) -> dict[str, int]:
    """Return the numbers of the values by their names of three letters."""
    return {name[:3].lower(): number for number, name in enumerate(names, first)}


FIELDS: Final = (
    CronField("minute", 0, 59, 59, "0-59", {}),
    CronField("hour", 0, 23, 23, "0-23", {}),
    CronField("day of month", 1, 31, 31, "1-31, L or a day with W", {"l": 31}),
    CronField("month", 1, 12, 12, "1-12 or jan-dec", _shorten(MONTHS, 1)),
    CronField("day of week", 0, 6, 7, "0-7 or sun-sat, with # or L", _shorten(WEEKDAYS, 0)),
)
