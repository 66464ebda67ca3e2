"""The spelling of an expression: its fields, the items of their lists, and equal spellings.

`scheduler.core.cron.expression` gives the meaning of an expression. This module handles the spelling, on
which crons differ.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from scheduler.core.cron.expression import BadExpression, Days, Expression
from scheduler.core.cron.fields import DATE, FIELDS, WEEKDAY, CronField
from scheduler.core.cron.ranges import RULES_VERSION

_ITEM: Final = re.compile(
    r"(?P<low>\*|\d+|[a-z]{3})(?:-(?P<high>\d+|[a-z]{3}|l))?(?:/(?P<step>\d+))?", re.ASCII
)
_SHORTEST_RANGE: Final = 3


class FieldItem(NamedTuple):
    """One item of a field's list: a value, a name, ``*``, or a range, each with or without a step."""

    field: int
    text: str
    low: str
    high: str | None
    step: int | None

    @property
    def description(self) -> str:
        """The item and its field, for people."""
        return f"the {self.cron_field.name} {self.text.upper() if self.field == DATE else self.text}"

    @property
    def ends(self) -> tuple[int, int] | None:
        """Both ends of a range as numbers, or None for no range.

        Sunday is 0 by name, and 0 or 7 as written.
        """
        return None if self.high is None else (self.to_number(self.low), self.to_number(self.high))

    @property
    def is_one_value(self) -> bool:
        """Whether both ends of the range are the same value. Sunday as 7 and Sunday as 0 are the same."""
        low, high = self.ends or (0, 1)
        return low == high or (self.field == WEEKDAY and (low, high) == (7, 0))

    @property
    def is_seven(self) -> bool:
        """Whether the item begins with Sunday as 7."""
        return self.field == WEEKDAY and self.low.isdecimal() and int(self.low) == 7  # noqa: PLR2004 -- Sunday's other number

    @property
    def is_wrapping(self) -> bool:
        """Whether the range ends before it begins.

        Such a range goes on from the last value of its field to the first.
        """
        low, high = self.ends or (0, 0)
        return low > high and not self.is_one_value

    @property
    def is_mixed(self) -> bool:
        """Whether one end of the range is a name and the other end is a number."""
        return self.high is not None and self.field != DATE and self.low.isalpha() != self.high.isalpha()

    @property
    def is_named(self) -> bool:
        """Whether the values of the item are written as names."""
        return self.low.isalpha()

    @property
    def cron_field(self) -> CronField:
        """The field of the item, with its smallest and its largest value; the largest weekday is 6."""
        return FIELDS[self.field]

    def find_values(self, rules_version: int = RULES_VERSION) -> set[int]:
        """Return the values of the item alone, or none when it covers a whole day field or all months."""
        fields = ["0", "0", "*", "*", "*"]
        fields[self.field] = self.text
        alone = Expression.read(" ".join(fields), rules_version)
        days = alone.matching_days
        return set((alone.minutes, alone.hours, days.dates, days.months, days.weekdays)[self.field])

    def to_number(self, end: str) -> int:
        """Return the number of a value in this field: the first value for ``*``, the last value for ``L``."""
        number = self.cron_field.first if end == "*" else self.cron_field.to_number(end)
        assert number is not None, "the expression is valid"
        return number


class CronText(NamedTuple):
    """An expression, as written and as read."""

    fields: tuple[str, ...]  # in lower case
    expression: Expression

    @classmethod
    def parse(cls, expression: str) -> "CronText":
        """Return the `CronText` of a valid expression."""
        return cls(tuple(expression.lower().split()), Expression.read(expression))

    @property
    def days(self) -> Days:
        """The days on which the expression matches."""
        return self.expression.matching_days

    def format_field(self, field: int) -> str:
        """Return a field for people, with its signs in the usual form: ``L``, ``15W``."""
        text = self.fields[field]
        return (
            re.sub("[lw]", lambda sign: sign[0].upper(), text)
            if field == DATE
            else re.sub(r"l(?=\d)", "L", text)
        )

    def iterate_items(self) -> Iterator[FieldItem]:
        """Yield the items that name values. ``L``, ``15W`` and ``5#2`` are left out."""
        for field, text in enumerate(self.fields):
            for item in text.split(","):
                if match := _ITEM.fullmatch(item):
                    step = int(match["step"]) if match["step"] else None
                    yield FieldItem(field, item, match["low"], match["high"], step)

    def replace_field(self, field: int, text: str) -> str:
        """Return the expression with ``text`` in place of a field, whatever the meaning of the result."""
        return " ".join([*self.fields[:field], text, *self.fields[field + 1 :]])

    def keep_if_equal(self, expression: str) -> str | None:
        """Return ``expression`` if it has the same meaning as this expression, else None.

        The meaning includes clock changes. ``expression`` may lack a ``*`` at the beginning of a field. When
        it never fires, its meaning is another.
        """
        try:
            meaning = Expression.read(expression).meaning
        except BadExpression:
            return None
        return expression if meaning == self.expression.meaning else None

    def replace_item(self, item: FieldItem, text: str) -> str | None:
        """Return the expression with ``text`` in place of one item, or None when the meaning changes."""
        items = self.fields[item.field].split(",")
        items[items.index(item.text)] = text
        return self.keep_if_equal(self.replace_field(item.field, ",".join(items)))

    def expand_field(self, field: int) -> str | None:
        """Return the equal expression with the values of a field one by one, or None.

        The result is None when a day field has other values than numbers, or restricts nothing.
        """
        if field == WEEKDAY:
            text = _name_weekdays(self.days.weekdays)
        elif field == DATE:
            text = "" if self.days.last or self.days.nearest else _join_values(self.days.dates)
        else:
            text = _join_values((self.expression.minutes, self.expression.hours, (), self.days.months)[field])
        return self.keep_if_equal(self.replace_field(field, text)) if text else None


def _join_values(values: Sequence[int]) -> str:
    return ",".join(str(value) for value in values)


def _name_weekdays(values: Sequence[int]) -> str:
    """Return days of the week by their names, on which all crons agree.

    The result has a range only when all crons read the range in the same way.
    """
    names = list(FIELDS[WEEKDAY].value_names)
    if len(values) >= _SHORTEST_RANGE and list(values) == list(range(1, len(values) + 1)):
        return f"mon-{names[len(values)]}"
    return ",".join(names[value] for value in values)
