"""Five-field cron expressions, as croniter reads them.

croniter alone decides which expressions are valid, which values a field has, and which days match, including
``L``, ``#`` and ``W``. croniter is only given local dates without a zone. With zones, croniter breaks the
rules at clock changes, so `scheduler.core.cron.schedule` applies these rules. This module keeps the knowledge
of croniter's habits in one place:

- croniter has no limit of length. It accepts random (``R``) and hashed (``H``) fields, six and seven fields,
  and aliases such as ``@daily``. This module refuses all these forms first.
- croniter misreads ranges that wrap and ranges with equal ends. This module writes such ranges out first
  (`scheduler.core.cron.ranges`).
- croniter treats any ``*`` in a list as a ``*`` at the beginning of the field. This module rewrites such a
  ``*``.
- croniter detects a date that never comes (``31 2``) only when asked for a day, after a search through fifty
  years. This module asks for a day at once, and remembers the answer.
"""

import re
import unicodedata
from calendar import monthrange
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Literal, cast

from croniter import CroniterBadDateError, croniter  # noqa: TID251  (the one place that asks croniter)

from scheduler.core.cron.fields import FIELDS, HOUR, MINUTE, WEEKDAY
from scheduler.core.cron.ranges import RULES_VERSION, write_out_ranges
from scheduler.core.quantities import pluralize

MAX_LENGTH: Final = 100  # the API's limit
LAST: Final = -1  # the last such weekday of a month

_ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_FIELD: Final = re.compile(r"\S+", re.ASCII)  # as in croniter: only ASCII spaces separate fields
_ZONE_PREFIX: Final = re.compile(r"(?P<name>(cron_)?tz)\s*=")
_COMMENT: Final = re.compile(r"\s#")  # the fourth weekday of a month is written without a space: 5#4
_WEEKDAY_BEFORE_L: Final = re.compile(r"(?P<weekday>[0-7])l")
_WRITE_FIVE: Final = "write five fields, for example '0 9 * * 1-5'"
_MOST_NAMED: Final = 3
"""Largest number of characters named in an error message."""
_RANDOM_OR_HASHED: Final = re.compile(r"(?P<kind>[rh])(\(.*\))?(/.*)?")

_NOT_FIXED: Final = {
    "r": "random: each evaluation would draw another time; write the values",
    "h": "hashed: it stands for a value that another scheduler would derive; write that value",
}

Expanded = list[int | Literal["*", "l"]]  # a field as croniter expands it

_ANY_DAY: Final = date(2000, 1, 1)
_MINUTE: Final = timedelta(minutes=1)


class BadExpression(ValueError):
    """The text is not a five-field expression with at least one fire.

    The message gives the defect, its cause and the remedy.
    """


@dataclass(frozen=True, slots=True)
class Days:
    """The matching days, according to croniter.

    Values ignored by croniter are left out, and so is a field with every day. Both the day of month and the
    day of week must match, unless ``either`` is set.
    """

    months: tuple[int, ...]
    dates: tuple[int, ...] = ()
    last: bool = False  # the last day of the month
    nearest: int | None = None  # the weekday nearest to this date
    weekdays: tuple[int, ...] = ()  # 0 is Sunday
    nth: tuple[tuple[int, int], ...] = ()  # weekday and its number within the month; `LAST` is the last
    either: bool = False

    @property
    def by_date(self) -> bool:
        """Whether the day of month restricts the days."""
        return bool(self.dates) or self.last or self.nearest is not None

    @property
    def by_week(self) -> bool:
        """Whether the day of week restricts the days."""
        return bool(self.weekdays or self.nth)


@dataclass(frozen=True, slots=True)
class Expression:
    """The values of a valid expression. ``days`` holds the three day fields in the form given to croniter."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: str
    wildcard: bool  # minute or hour begins with "*"

    @classmethod
    def read(cls, text: str, rules_version: int = RULES_VERSION) -> "Expression":
        """Return the expression in ``text``. Raise BadExpression.

        ``rules_version`` selects the rules for ranges (`scheduler.core.cron.ranges`).
        """
        try:
            return cls._read(text, rules_version)
        except BadExpression as error:
            raise BadExpression(_describe_hidden_characters(text) or str(error)) from error

    @classmethod
    def _read(cls, text: str, rules_version: int) -> "Expression":
        fields = _split(text)
        _refuse_random(fields)
        minute, hour, *day_fields = (
            _rewrite_field(field, index, rules_version) for index, field in enumerate(fields)
        )
        days = " ".join(day_fields)
        try:
            minutes, hours = _parse_time_field(MINUTE, minute), _parse_time_field(HOUR, hour)
            comes = _find_day(days, _ANY_DAY)
        except ValueError as error:
            raise BadExpression(_describe_invalid_fields(fields)) from error
        if comes is None:
            restrictions = ", ".join(f"{name} {field!r}" for name, field in _name_fields(fields)[2:])
            raise BadExpression(
                f"croniter finds no day that ever matches {restrictions}; correct one of them"
            )
        return cls(minutes, hours, days, wildcard="*" in (minute[0], hour[0]))

    @property
    def meaning(self) -> tuple[object, ...]:
        """The values that decide when the expression matches; equal for texts with the same meaning."""
        return self.minutes, self.hours, self.matching_days, self.wildcard

    @property
    def matching_days(self) -> "Days":
        """The matching days, as a structure."""
        return _parse_days(self.days)

    def find_day(self, day: date) -> date | None:
        """Return the first matching local date on or after ``day``, or None when the calendar ends first."""
        return _find_day(self.days, day)

    def iterate_minutes(self, begin: int, end: int) -> Iterator[int]:
        """Yield the matching minutes of a day from ``begin`` up to ``end`` (exclusive).

        Minutes count from midnight.
        """
        for hour in self.hours:
            top = hour * 60
            if top + 60 <= begin:
                continue
            for minute in self.minutes:
                if top + minute >= end:
                    return
                if top + minute >= begin:
                    yield top + minute


def strip_expression(expression: object) -> str:
    """Return the expression without the spaces around it.

    Raise BadExpression when the expression is no text, or is too long to be read.
    """
    if not isinstance(expression, str):
        raise BadExpression(f"the expression is {type(expression).__name__}, not text; {_WRITE_FIVE}")
    text = expression.strip()
    if len(text) > MAX_LENGTH:
        raise BadExpression(
            f"the expression has {len(text)} characters, more than {MAX_LENGTH}; ranges and steps "
            "say more than lists"
        )
    return text


def _name_fields(fields: list[str]) -> list[tuple[str, str]]:
    return [(FIELDS[index].name, field) for index, field in enumerate(fields)]


def _split(text: str) -> list[str]:
    if not text:
        raise BadExpression(f"the expression is empty; {_WRITE_FIVE}")
    if "\0" in text:
        raise BadExpression("the expression holds a null character; remove it")
    text = text.lower()
    if zone := _ZONE_PREFIX.match(text):
        raise BadExpression(
            f"{zone['name'].upper()}= does not belong in the expression; write the zone in the automation's "
            "own field 'timezone', and only the five fields here"
        )
    if _COMMENT.search(text):
        raise BadExpression(
            "the expression ends with a comment; remove everything from # on, and write five fields"
        )
    if text.startswith("@"):
        known = f": {_ALIASES[text]}" if text in _ALIASES else ""
        raise BadExpression(f"{text!r} is an alias; write its five fields{known}")
    fields: list[str] = _FIELD.findall(text)
    if len(fields) != len(FIELDS):
        names = ", ".join(field.name for field in FIELDS)
        raise BadExpression(
            f"the expression has {pluralize(len(fields), 'field')} instead of five ({names}); "
            "there are no seconds and no years"
        )
    return fields


def _refuse_random(fields: list[str]) -> None:
    for name, field in _name_fields(fields):
        for item in field.split(","):
            if match := _RANDOM_OR_HASHED.fullmatch(item):
                raise BadExpression(f"the {name} {field!r} is {_NOT_FIXED[match['kind']]}")


def _describe_invalid_fields(fields: list[str]) -> str:
    """Return an error message with the fields that croniter refuses and their valid values."""
    wrong = [index for index, field in enumerate(fields) if not croniter.is_valid(_isolate(index, field))]
    if not wrong:
        return (
            "croniter does not take these fields together; write the standard form, for example '0 9 * * 1-5'"
        )
    which = " and ".join(f"the {FIELDS[index].name} {fields[index]!r}" for index in wrong)
    takes = f"is not valid; it takes {FIELDS[wrong[0]].takes}"
    if len(wrong) > 1:
        valid = ", ".join(f"the {FIELDS[index].name} takes {FIELDS[index].takes}" for index in wrong)
        takes = f"are not valid; {valid}"
    hint = _suggest_last_weekday(fields[-1]) if wrong[-1] == WEEKDAY else ""
    return f"{which} {takes}, and lists, ranges and steps of these{hint}"


def _suggest_last_weekday(field: str) -> str:
    """Return a hint when the field has Quartz's form of the last such weekday (``5L``), otherwise nothing."""
    if not (match := _WEEKDAY_BEFORE_L.fullmatch(field)):
        return ""
    return f". For the last such weekday of the month write L before the number: 'L{match['weekday']}'"


def _describe_hidden_characters(text: str) -> str | None:
    """Return an error message about invisible and misleading characters, or None when there are none.

    Such a character looks like another character or like nothing. The message gives its code point.
    """
    characters = [
        character for character in text if not " " <= character <= "~" and character not in "\t\n\r\f\v"
    ]
    if not characters:
        return None
    names = [_describe_character(character) for character in dict.fromkeys(characters)]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"the expression holds {', '.join(names[:_MOST_NAMED])}{more}; write plain ASCII characters only"


def _describe_character(character: str) -> str:
    """Return the code point and name of a character, and its ASCII equivalent, if any."""
    name = unicodedata.name(
        character, "control character" if character < " " else "a character without a name"
    )
    text = f"U+{ord(character):04X} {name}"
    if unicodedata.category(character) == "Pd" or character == "\N{MINUS SIGN}":
        return f"{text} (write '-')"
    if unicodedata.category(character) == "Zs":
        return f"{text} (write a plain space)"
    plain = unicodedata.normalize("NFKC", character)
    if plain != character and plain.isascii() and plain.isprintable():
        return f"{text} (write '{plain}')"
    return f"{text} (remove it)"


def _rewrite_field(field: str, index: int, rules_version: int) -> str:
    """Return the field in a form without croniter's misreadings."""
    field = write_out_ranges(field, index, rules_version)
    if field.startswith("*"):
        return field
    items = field.split(",")  # no item may look like a "*" at the beginning of the field
    whole = f"{FIELDS[index].first}-{FIELDS[index].last}"
    return ",".join(whole + item[1:] if item == "*" or item.startswith("*/") else item for item in items)


@lru_cache(maxsize=8192)
def _parse_time_field(index: int, field: str) -> tuple[int, ...]:
    """Return the values of the minute or the hour."""
    expanded = croniter.expand(_isolate(index, field))[0][index]
    return tuple(range(FIELDS[index].size)) if "*" in expanded else _pick_integers(expanded)


def _isolate(index: int, field: str) -> str:
    """Return an expression with this field, and ``*`` in every other field."""
    return " ".join([*["*"] * index, field, *["*"] * (len(FIELDS) - index - 1)])


@lru_cache(maxsize=1024)
def _parse_days(days: str) -> Days:
    """Return the days as croniter reads the day fields.

    With ``#`` or ``W`` in a day field, croniter ignores the other day field when a match of one field would
    be enough.
    """
    (_, _, dates, months, weekdays), nth = croniter.expand(f"0 0 {days}")
    nearest = next(iter(_make_calendar(days).nearest_weekday), None)
    parsed = Days(
        _omit_whole(months, 12) or tuple(range(1, 13)),
        _omit_whole([] if nearest else dates, 31),
        "l" in dates and not _is_whole(dates, 31),
        nearest,
        _omit_whole([] if nth else weekdays, 7),
        _make_nth(cast("dict[int, set[int | str]]", nth)),
    )
    day, _, weekday = days.split(" ")
    return parsed if "*" in (dates[0], weekdays[0], day[0], weekday[0]) else _match_either(parsed)


def _match_either(days: Days) -> Days:
    """Return the days when either day field is enough."""
    if days.nth:
        return replace(days, dates=(), last=False)
    if days.nearest:
        return replace(days, weekdays=())
    return replace(days, either=True) if days.by_date and days.by_week else Days(days.months)


def _omit_whole(expanded: Expanded, size: int) -> tuple[int, ...]:
    """Return the values of a day field or of the month, or no values when the field names all values."""
    return () if _is_whole(expanded, size) else _pick_integers(expanded)


def _is_whole(expanded: Expanded, size: int) -> bool:
    return "*" in expanded or len(_pick_integers(expanded)) == size


def _pick_integers(expanded: Expanded) -> tuple[int, ...]:
    return tuple(value for value in expanded if isinstance(value, int))


def _make_nth(nth: dict[int, set[int | str]]) -> tuple[tuple[int, int], ...]:
    pairs = ((day, number) for day, numbers in nth.items() for number in numbers)
    return tuple(sorted((day, number if isinstance(number, int) else LAST) for day, number in pairs))


def _find_day(days: str, day: date) -> date | None:
    """Find the first matching date on or after ``day``. Raise ValueError when croniter refuses the fields."""
    known = _get_month_memo(days, day.year, day.month)
    if day not in known:
        match = _ask_croniter(days, day)
        known |= dict.fromkeys(_list_month_days(day, match), match)
    return known[day]


@lru_cache(maxsize=2048)
def _get_month_memo(days: str, year: int, month: int) -> dict[date, date | None]:  # noqa: ARG001  (they name the memo)
    """Return the known answers for one month.

    croniter is slow, and one answer holds for all days up to the match.
    """
    return {}


def _list_month_days(day: date, match: date | None) -> Iterator[date]:
    """Yield the days from ``day`` up to the match, at most to the end of the month."""
    last = monthrange(day.year, day.month)[1]
    if match is not None and (match.year, match.month) == (day.year, day.month):
        last = match.day
    return (day.replace(day=number) for number in range(day.day, last + 1))


def _ask_croniter(days: str, day: date) -> date | None:
    # the calendar keeps its position, and threads must not share a position
    calendar = copy(_make_calendar(days))
    try:  # from the minute before the day begins
        return calendar.get_next(datetime, start_time=datetime.combine(day, time.min) - _MINUTE).date()
    # no such day within fifty years, or the year 9999 has ended
    except (CroniterBadDateError, ValueError, OverflowError):
        return None


@lru_cache(maxsize=1024)
def _make_calendar(days: str) -> "croniter[datetime]":
    # implement_cron_bug: both day fields must match when either begins with "*", as in Debian's cron;
    # otherwise either is enough.
    return croniter(
        f"0 0 {days}", datetime.combine(_ANY_DAY, time.min), ret_type=datetime, implement_cron_bug=True
    )
