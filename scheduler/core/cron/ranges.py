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
from typing import Final

from scheduler.core.cron.fields import FIELDS, CronField

RULES_VERSION: Final = 2
"""The version of the rules for reading expressions.

Raise the version whenever a valid expression gets other times, and keep the old rules for `audit`. Version 1
writes out only ranges with equal ends. Version 2 also writes out wrapping ranges (with the end before the
beginning), and ``31-L``.
"""
CRONITERS_RULES: Final = 1
"""The version of the rules that left a wrapping range to croniter."""

_RANGE: Final = re.compile(
    r"(?P<low>\d+|[a-z]{3})-(?P<high>\d+|[a-z]{3}|l)(/(?P<step>0*[1-9]\d*)|(?<=[a-z])(?P<nth>#\d+))?",
    re.ASCII,
)


def write_out_ranges(field: str, index: int, rules_version: int = RULES_VERSION) -> str:
    """Return the text of a field, in lower case, with each misread range written out.

    ``index`` is the position of the field, from 0 to 4.
    """
    return ",".join(_write_out(item, FIELDS[index], rules_version) for item in field.split(","))


def _write_out(item: str, field: CronField, rules_version: int) -> str:
    written = _RANGE.fullmatch(item)
    if written is None:
        return item
    low, high = field.to_number(written["low"]), field.to_number(written["high"])
    if low is None or high is None or low < high:
        return item
    if rules_version == CRONITERS_RULES and (low > high or written["high"] == "l"):
        return item
    # The first value of the field follows the last value of the field.
    end = high if low <= high else high + field.size
    values = range(low, end + 1, int(written["step"] or 1))
    numbers = (value if value <= field.last_end else value - field.size for value in values)
    return ",".join(f"{number}{written['nth'] or ''}" for number in numbers)
