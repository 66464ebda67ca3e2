"""Ranges that croniter misreads, written out as the values that they stand for.

croniter 7 reads three kinds of ranges otherwise than `docs/schedules.md` says:

- A range that ends before it begins, with a step (``50-10/15``): each value after the last one of the field comes one too late,
  and is lost where the range ends before that.
- A range from Sunday as 7 to Sunday as 0 (``7-0``, ``7-sun``), and any range with equal ends (``5-5``, ``31-L``): croniter widens these
  to the whole field.

Such a range is replaced by its values before croniter sees the field. Every other range stays as it is written. What croniter would
refuse stays too, so that croniter alone judges what is valid.
"""

import re
from typing import Final, NamedTuple

RULES_VERSION: Final = 2
"""Which rules read expressions. Raise it whenever a valid expression comes to mean other times, and keep the old rules for `audit`.

1: only a range with equal ends is written out. 2: a range that ends before it begins and ``31-L`` are written out too.
"""
CRONITERS_RULES: Final = 1
"""The rules by which a range that ends before it begins means what croniter makes of it."""

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_RANGE: Final = re.compile(r"(?P<low>\d+|[a-z]{3})-(?P<high>\d+|[a-z]{3}|l)(/(?P<step>0*[1-9]\d*)|(?<=[a-z])(?P<nth>#\d+))?", re.ASCII)


class _Field(NamedTuple):
    """The values of a field. ``last_end``: the largest number that may end a range; it is 7 for the day of week, which is Sunday again."""

    first: int
    last: int
    last_end: int
    names: dict[str, int]

    def to_number(self, end: str) -> int | None:
        """The number of one end of a range; None when there is no such name or number in this field."""
        number = int(end) if end.isdecimal() else self.names.get(end)
        return number if number is not None and number <= self.last_end else None

    def list_values(self, low: int, high: int, step: int) -> list[int]:
        """The values from ``low`` through ``high``, in that order; after the last value of the field comes the first one."""
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
    """Return the text of a field, in lower case, with the values of each range that croniter misreads in place of that range.

    ``index`` says which of the five fields this is, from 0.
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
