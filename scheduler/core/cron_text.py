"""An expression as somebody wrote it: its fields, the items of their lists, and the same expression in other words.

What it means is for `scheduler.core.expression`; here it is the spelling that counts, on which crons differ.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from scheduler.core.expression import Days, Expression
from scheduler.core.ranges import RULES_VERSION
from scheduler.core.schedule_description import MONTHS, WEEKDAYS

FIELDS: Final = ("minute", "hour", "day of month", "month", "day of week")
MINUTE, HOUR, DATE, MONTH, WEEKDAY = range(5)

_FIRST: Final = (0, 0, 1, 1, 0)
_LAST: Final = (59, 23, 31, 12, 6)
_NAMES: Final = {MONTH: ["", *(name[:3].lower() for name in MONTHS)], WEEKDAY: [name[:3].lower() for name in WEEKDAYS]}
_ITEM: Final = re.compile(r"(?P<low>\*|\d+|[a-z]{3})(?:-(?P<high>\d+|[a-z]{3}|l))?(?:/(?P<step>\d+))?", re.ASCII)
_SHORTEST_RANGE: Final = 3


class FieldItem(NamedTuple):
    """One item of a field's list: a value, a name, ``*``, a range of them, each with or without a step."""

    field: int
    text: str
    low: str
    high: str | None
    step: int | None

    @property
    def description(self) -> str:
        """The item and its field, for people."""
        return f"the {FIELDS[self.field]} {self.text.upper() if self.field == DATE else self.text}"

    @property
    def ends(self) -> tuple[int, int] | None:
        """Both ends of a range as numbers; Sunday is 0 by its name, and as it is written by its number."""
        return None if self.high is None else (self.to_number(self.low), self.to_number(self.high))

    @property
    def is_one_value(self) -> bool:
        """Whether both ends of the range are the same value; Sunday as 7 and Sunday as 0 are."""
        low, high = self.ends or (0, 1)
        return low == high or (self.field == WEEKDAY and (low, high) == (7, 0))

    @property
    def is_seven(self) -> bool:
        """Whether the item begins with Sunday as 7."""
        return self.field == WEEKDAY and self.low.isdecimal() and int(self.low) == 7  # noqa: PLR2004 -- Sunday's other number

    @property
    def is_wrapping(self) -> bool:
        """Whether the range ends before it begins, and so goes on from the last value of its field to the first."""
        low, high = self.ends or (0, 0)
        return low > high and not self.is_one_value

    @property
    def is_mixed(self) -> bool:
        """Whether one end of the range is a name, and the other one a number."""
        return self.high is not None and self.field != DATE and self.low.isalpha() != self.high.isalpha()

    @property
    def is_named(self) -> bool:
        """Whether its values are written as names."""
        return self.low.isalpha()

    @property
    def first(self) -> int:
        """The smallest value of its field."""
        return _FIRST[self.field]

    @property
    def last(self) -> int:
        """The largest value of its field; of the day of week 6."""
        return _LAST[self.field]

    @property
    def size(self) -> int:
        """How many values its field has."""
        return self.last - self.first + 1

    def find_values(self, rules_version: int = RULES_VERSION) -> set[int]:
        """The values that the item stands for by itself; none when it stands for all values of a day field or of the month."""
        fields = ["0", "0", "*", "*", "*"]
        fields[self.field] = self.text
        alone = Expression.read(" ".join(fields), rules_version)
        return set(
            (alone.minutes, alone.hours, alone.matching_days.dates, alone.matching_days.months, alone.matching_days.weekdays)[self.field]
        )

    def to_number(self, end: str) -> int:
        """A value of this field; of ``*`` the first, of ``L`` the last."""
        if end == "*":
            return self.first
        if self.field == DATE and end == "l":
            return self.last
        return int(end) if end.isdecimal() else _NAMES[self.field].index(end)


class CronText(NamedTuple):
    """An expression, as it is written and as it is read."""

    fields: tuple[str, ...]  # in lower case
    expression: Expression

    @classmethod
    def parse(cls, expression: str) -> "CronText":
        """A valid expression."""
        return cls(tuple(expression.lower().split()), Expression.read(expression))

    @property
    def days(self) -> Days:
        """Which days it matches."""
        return self.expression.matching_days

    def format_field(self, field: int) -> str:
        """A field for people, with its signs as one writes them: ``L``, ``15W``."""
        text = self.fields[field]
        return re.sub("[lw]", lambda sign: sign[0].upper(), text) if field == DATE else re.sub(r"l(?=\d)", "L", text)

    def iterate_items(self) -> Iterator[FieldItem]:
        """Those that name values; not ``L``, ``15W`` and ``5#2``."""
        for field, text in enumerate(self.fields):
            for item in text.split(","):
                if said := _ITEM.fullmatch(item):
                    yield FieldItem(field, item, said["low"], said["high"], int(said["step"]) if said["step"] else None)

    def replace_field(self, field: int, text: str) -> str:
        """The expression with this text in place of a field, whatever that means."""
        return " ".join([*self.fields[:field], text, *self.fields[field + 1 :]])

    def keep_if_equal(self, expression: str) -> str | None:
        """This other expression if it means the same, also at clock changes; a ``*`` at the beginning of a field may be missing there."""
        other = Expression.read(expression)
        mine = self.expression
        equal = (other.minutes, other.hours, other.matching_days, other.wildcard) == (
            mine.minutes,
            mine.hours,
            mine.matching_days,
            mine.wildcard,
        )
        return expression if equal else None

    def replace_item(self, item: FieldItem, text: str) -> str | None:
        """The same with this text in place of one item."""
        items = self.fields[item.field].split(",")
        items[items.index(item.text)] = text
        return self.keep_if_equal(self.replace_field(item.field, ",".join(items)))

    def expand_field(self, field: int) -> str | None:
        """The same with the values of a field one by one; None where a day field has others than numbers, or says nothing."""
        if field == WEEKDAY:
            text = _name_weekdays(self.days.weekdays)
        elif field == DATE:
            text = "" if self.days.last or self.days.nearest else _join_values(self.days.dates)
        else:
            text = _join_values((self.expression.minutes, self.expression.hours, (), self.days.months)[field])
        return self.keep_if_equal(self.replace_field(field, text)) if text else None


def _join_values(values: Sequence[int]) -> str:
    return ",".join(str(each) for each in values)


def _name_weekdays(values: Sequence[int]) -> str:
    """Days of the week by their names, on which all crons agree; a range only where it is one everywhere."""
    if len(values) >= _SHORTEST_RANGE and list(values) == list(range(1, len(values) + 1)):
        return f"mon-{_NAMES[WEEKDAY][len(values)]}"
    return ",".join(_NAMES[WEEKDAY][each] for each in values)
