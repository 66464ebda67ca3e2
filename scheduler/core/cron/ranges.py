"""Ranges misread by croniter, written out as their values.

croniter 7 reads three kinds of ranges differently from `docs/schedules.md`:

- A range that ends before it begins, with a step (``50-10/15``): croniter reads each value after the wrap one
  too late. A value is lost when the range ends before this later value.
- A range from Sunday as 7 to Sunday as 0 (``7-0``, ``7-sun``), and any range with equal ends (``5-5``,
  ``31-L``): croniter widens these ranges to the whole field.

Such a range is replaced by its values before croniter reads the field. Every other range stays as written.
Invalid ranges stay too, so croniter alone decides on valid expressions.
"""

import re
from typing import Final, NamedTuple

RULES_VERSION: Final = 2
"""The version of the rules for reading expressions.

Raise the version whenever a valid expression gets other times, and keep the old rules for `audit`. Version 1
writes out only ranges with equal ends. Version 2 also writes out wrapping ranges (with the end before the
beginning), and ``31-L``.
"""
CRONITERS_RULES: Final = 1
"""The version of the rules that left a wrapping range to croniter."""

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_RANGE: Final = re.compile(
    r"(?P<low>\d+|[a-z]{3})-(?P<high>\d+|[a-z]{3}|l)(/(?P<step>0*[1-9]\d*)|(?<=[a-z])(?P<nth>#\d+))?",
    re.ASCII,
)


class _Field(NamedTuple):
    """The values of a field.

    ``last_end`` is the largest number at the end of a range: 7 for the day of week, where 7 is Sunday again.
    """

    first: int
    last: int
    last_end: int
    names: dict[str, int]

    def to_number(self, end: str) -> int | None:
        """Return the number of one end of a range, or None when this field has no such name or number."""
        number = int(end) if end.isdecimal() else self.names.get(end)
        return number if number is not None and number <= self.last_end else None

    def list_values(self, low: int, high: int, step: int) -> list[int]:
        """Return the values from ``low`` through ``high``, in this order.

        The first value of the field follows the last value of the field.
        """
        size = self.last - self.first + 1
        end = high if low <= high else high + size
        return [value if value <= self.last_end else value - size for value in range(low, end + 1, step)]


_FIELDS: Final = (
    _Field(0, 59, 59, {}),
    _Field(0, 23, 23, {}),
    _Field(1, 31, 31, {"l": 31}),
    _Field(1, 12, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Field(0, 6, 7, {name: number for number, name in enumerate(_WEEKDAYS)}),
)


def write_out_ranges(field: str, index: int, rules_version: int = RULES_VERSION) -> str:
    """Return the text of a field, in lower case, with each misread range written out.

    ``index`` is the position of the field, from 0 to 4.
    """
    return ",".join(_write_out(item, _FIELDS[index], rules_version) for item in field.split(","))


def _write_out(item: str, field: _Field, rules_version: int) -> str:
    written = _RANGE.fullmatch(item)
    if written is None:
        return item
    low, high = field.to_number(written["low"]), field.to_number(written["high"])
    if low is None or high is None or low < high:
        return item
    if rules_version == CRONITERS_RULES and (low > high or written["high"] == "l"):
        return item
    values = field.list_values(low, high, int(written["step"] or 1))
    return ",".join(f"{value}{written['nth'] or ''}" for value in values)
