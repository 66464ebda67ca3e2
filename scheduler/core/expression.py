"""Five-field cron expressions: what croniter makes of them.

croniter alone judges what is valid, which values a field stands for, and which days match, ``L``, ``#`` and ``W`` included. It is
only ever given local dates without a zone: with zones it breaks the rules at clock changes, which `scheduler.core.cron` applies
instead. This room exists so that croniter's habits are known in one place:

- It has no limit of length, and takes random (``R``) and hashed (``H``) fields, six and seven fields, and aliases such as
  ``@daily``. All of these are refused first.
- It misreads ranges that wrap and ranges with equal ends. These are written out first (`scheduler.core.ranges`).
- It takes any ``*`` in a list for one that the field begins with. This is rewritten.
- It finds out only when asked for a day that there is none (``31 2``), after fifty years of looking. That is asked at once,
  and remembered.
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

from scheduler.core.plural import pluralize
from scheduler.core.ranges import RULES_VERSION, write_out_ranges

MAX_LENGTH: Final = 100  # the API's limit
LAST: Final = -1  # of a month

_FIELDS: Final = ("minute", "hour", "day of month", "month", "day of week")
_TAKES: Final = ("0-59", "0-23", "1-31, L or a day with W", "1-12 or jan-dec", "0-7 or sun-sat, with # or L")
_WHOLE: Final = ("0-59", "0-23", "1-31", "1-12", "0-6")
_ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_FIELD: Final = re.compile(r"\S+", re.ASCII)  # as croniter does: other spaces than ASCII's separate nothing
_ZONE_PREFIX: Final = re.compile(r"(?P<name>(cron_)?tz)\s*=")
_COMMENT: Final = re.compile(r"\s#")  # the fourth weekday of a month is written without a space: 5#4
_WEEKDAY_BEFORE_L: Final = re.compile(r"(?P<weekday>[0-7])l")
_MOST_NAMED: Final = 3
"""An error message names at most so many characters."""
_RANDOM_OR_HASHED: Final = re.compile(r"(?P<kind>[rh])(\(.*\))?(/.*)?")

Expanded = list[int | Literal["*", "l"]]  # a field as croniter expands it

_ANY_DAY: Final = date(2000, 1, 1)
_MIDNIGHT: Final = time()
_MINUTE: Final = timedelta(minutes=1)


class BadExpression(ValueError):
    """No five-field expression that ever fires. The text says what is wrong, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Days:
    """The days that match, as croniter comes to them: what it ignores is left out, and so is a field that names every day.

    Both the day of month and the day of week must match, unless ``either``.
    """

    months: tuple[int, ...]
    dates: tuple[int, ...] = ()
    last: bool = False  # the last day of the month
    nearest: int | None = None  # the weekday nearest to this date
    weekdays: tuple[int, ...] = ()  # from Sunday, 0
    nth: tuple[tuple[int, int], ...] = ()  # weekdays, with which one of the month; `LAST` is the last one
    either: bool = False

    @property
    def by_date(self) -> bool:
        """Whether the day of month says something."""
        return bool(self.dates) or self.last or self.nearest is not None

    @property
    def by_week(self) -> bool:
        """Whether the day of week says something."""
        return bool(self.weekdays or self.nth)


@dataclass(frozen=True, slots=True)
class Expression:
    """The values of a valid expression. ``days`` holds its three day fields as croniter is given them."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: str
    wildcard: bool  # minute or hour begins with "*"

    @classmethod
    def read(cls, text: str, rules_version: int = RULES_VERSION) -> "Expression":
        """The expression in this text, by these rules (`scheduler.core.ranges`). Raises BadExpression."""
        try:
            return cls._read(text, rules_version)
        except BadExpression as error:
            hidden = describe_hidden_characters(text)
            if hidden is None:
                raise
            raise BadExpression(hidden) from error

    @classmethod
    def _read(cls, text: str, rules_version: int) -> "Expression":
        fields = _split(text)
        _refuse_random(fields)
        minute, hour, *day_fields = (_rewrite_field(field, index, rules_version) for index, field in enumerate(fields))
        days = " ".join(day_fields)
        try:
            minutes, hours = _parse_minutes(minute), _parse_hours(hour)
            comes = _find_day(days, _ANY_DAY)
        except ValueError as error:
            raise BadExpression(_describe_invalid_fields(fields)) from error
        if comes is None:
            raise BadExpression(
                "croniter finds no day that ever matches "
                + ", ".join(f"{name} {field!r}" for name, field in _name_fields(fields)[2:])
                + "; correct one of them"
            )
        return cls(minutes, hours, days, wildcard="*" in (minute[0], hour[0]))

    @property
    def matching_days(self) -> "Days":
        """Which days match, in structure."""
        return _parse_days(self.days)

    def find_day(self, day: date) -> date | None:
        """The first matching local date on or after this one; None when the calendar ends before it comes."""
        return _find_day(self.days, day)

    def iterate_minutes(self, begin: int, end: int) -> Iterator[int]:
        """The matching minutes of a day, counted from midnight, from ``begin`` up to but not including ``end``."""
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
    """The expression without the spaces around it. Raises BadExpression when it is no text, or too long to be looked at."""
    if not isinstance(expression, str):
        raise BadExpression(f"the expression is {type(expression).__name__}, not text; write five fields, for example '0 9 * * 1-5'")
    text = expression.strip()
    if len(text) > MAX_LENGTH:
        raise BadExpression(f"the expression has {len(text)} characters, more than {MAX_LENGTH}; ranges and steps say more than lists")
    return text


def _name_fields(fields: list[str]) -> list[tuple[str, str]]:
    return list(zip(_FIELDS, fields, strict=True))


def _split(text: str) -> list[str]:
    if not text:
        raise BadExpression("the expression is empty; write five fields, for example '0 9 * * 1-5'")
    if "\0" in text:
        raise BadExpression("the expression holds a null character; remove it")
    text = text.lower()
    if zone := _ZONE_PREFIX.match(text):
        raise BadExpression(
            f"{zone['name'].upper()}= does not belong in the expression; write the zone in the automation's own field 'timezone', "
            "and only the five fields here"
        )
    if _COMMENT.search(text):
        raise BadExpression("the expression ends with a comment; remove everything from # on, and write five fields")
    if text.startswith("@"):
        raise BadExpression(f"{text!r} is an alias; write its five fields" + (f": {_ALIASES[text]}" if text in _ALIASES else ""))
    fields: list[str] = _FIELD.findall(text)
    if len(fields) != len(_FIELDS):
        raise BadExpression(
            f"the expression has {pluralize(len(fields), 'field')} instead of five ({', '.join(_FIELDS)}); "
            "there are no seconds and no years"
        )
    return fields


def _refuse_random(fields: list[str]) -> None:
    for name, field in _name_fields(fields):
        for item in field.split(","):
            drawn = _RANDOM_OR_HASHED.fullmatch(item)
            if drawn and drawn["kind"] == "r":
                raise BadExpression(f"the {name} {field!r} is random: each evaluation would draw another time; write the values")
            if drawn:
                raise BadExpression(
                    f"the {name} {field!r} is hashed: it stands for a value that another scheduler would derive; write that value"
                )


def _describe_invalid_fields(fields: list[str]) -> str:
    """Return which fields croniter refuses, and the values that these fields take."""
    wrong = [index for index, field in enumerate(fields) if not _is_valid_alone(index, field)]
    if not wrong:
        return "croniter does not take these fields together; write the standard form, for example '0 9 * * 1-5'"
    which = " and ".join(f"the {_FIELDS[index]} {fields[index]!r}" for index in wrong)
    if len(wrong) == 1:
        takes = f"is not valid; it takes {_TAKES[wrong[0]]}"
    else:
        takes = "are not valid; " + ", ".join(f"the {_FIELDS[index]} takes {_TAKES[index]}" for index in wrong)
    hint = _suggest_last_weekday(fields[-1]) if wrong[-1] == len(_FIELDS) - 1 else ""
    return f"{which} {takes}, and lists, ranges and steps of these{hint}"


def _is_valid_alone(index: int, field: str) -> bool:
    alone = ["*"] * len(_FIELDS)
    alone[index] = field
    return bool(croniter.is_valid(" ".join(alone)))


def _suggest_last_weekday(field: str) -> str:
    """Return a hint when the field has Quartz's form of the last such weekday (``5L``), otherwise nothing."""
    number = _WEEKDAY_BEFORE_L.fullmatch(field)
    return f". For the last such weekday of the month write L before the number: 'L{number['weekday']}'" if number else ""


def describe_hidden_characters(text: str) -> str | None:
    """Return an error message that names by code point what looks like another character, or like nothing; None if nothing does."""
    characters = [character for character in text if not " " <= character <= "~" and character not in "\t\n\r\f\v"]
    if not characters:
        return None
    names = [_describe_character(character) for character in dict.fromkeys(characters)]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"the expression holds {', '.join(names[:_MOST_NAMED])}{more}; write plain ASCII characters only"


def _describe_character(character: str) -> str:
    """Return the code point and the name of a character, and the ASCII character that it stands for, if there is one."""
    name = unicodedata.name(character, "control character" if character < " " else "a character without a name")
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
    """The field in words that croniter takes for what they say."""
    field = write_out_ranges(field, index, rules_version)
    if field.startswith("*"):
        return field
    items = field.split(",")  # none of them may look as if the field began with "*"
    return ",".join(_WHOLE[index] + item[1:] if item == "*" or item.startswith("*/") else item for item in items)


@lru_cache(maxsize=4096)
def _parse_minutes(field: str) -> tuple[int, ...]:
    return _to_values(croniter.expand(f"{field} * * * *")[0][0], 60)


@lru_cache(maxsize=4096)
def _parse_hours(field: str) -> tuple[int, ...]:
    return _to_values(croniter.expand(f"* {field} * * *")[0][1], 24)


def _to_values(expanded: Expanded, size: int) -> tuple[int, ...]:
    return tuple(range(size)) if "*" in expanded else _pick_integers(expanded)


@lru_cache(maxsize=1024)
def _parse_days(days: str) -> Days:
    """What croniter makes of the day fields. Beside ``#`` and ``W`` that is not what one would think: they put the other field out."""
    (_, _, dates, months, weekdays), nth = croniter.expand(f"0 0 {days}")
    nearest = next(iter(_make_calendar(days).nearest_weekday), None)
    found = Days(
        _omit_whole(months, 12) or tuple(range(1, 13)),
        _omit_whole([] if nearest else dates, 31),
        "l" in dates and not _is_whole(dates, 31),
        nearest,
        _omit_whole([] if nth else weekdays, 7),
        _make_nth(cast("dict[int, set[int | str]]", nth)),
    )
    day, _, weekday = days.split(" ")
    return found if "*" in (dates[0], weekdays[0], day[0], weekday[0]) else _match_either(found)


def _match_either(days: Days) -> Days:
    """The days of which one field is enough."""
    if days.nth:
        return replace(days, dates=(), last=False)
    if days.nearest:
        return replace(days, weekdays=())
    return replace(days, either=True) if days.by_date and days.by_week else Days(days.months)


def _omit_whole(expanded: Expanded, size: int) -> tuple[int, ...]:
    """The values of a day field or of the month; none when these are all there are."""
    return () if _is_whole(expanded, size) else _pick_integers(expanded)


def _is_whole(expanded: Expanded, size: int) -> bool:
    return "*" in expanded or len(_pick_integers(expanded)) == size


def _pick_integers(expanded: Expanded) -> tuple[int, ...]:
    return tuple(value for value in expanded if isinstance(value, int))


def _make_nth(nth: dict[int, set[int | str]]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((day, number if isinstance(number, int) else LAST) for day, numbers in nth.items() for number in numbers))


def _find_day(days: str, day: date) -> date | None:
    """Raises ValueError when croniter does not take the fields."""
    known = _get_month_memo(days, day.year, day.month)
    if day not in known:
        match = _ask_croniter(days, day)
        known |= dict.fromkeys(_list_month_days(day, match), match)
    return known[day]


@lru_cache(maxsize=2048)
def _get_month_memo(days: str, year: int, month: int) -> dict[date, date | None]:  # noqa: ARG001  (they name the memo)
    """What is known of one month so far: croniter is slow, and one answer holds for all days up to the match."""
    return {}


def _list_month_days(day: date, match: date | None) -> Iterator[date]:
    """The days from this one up to the match, at most to the end of the month."""
    last = monthrange(day.year, day.month)[1]
    if match is not None and (match.year, match.month) == (day.year, day.month):
        last = match.day
    return (day.replace(day=number) for number in range(day.day, last + 1))


def _ask_croniter(days: str, day: date) -> date | None:
    calendar = copy(_make_calendar(days))  # it keeps its position, and threads must not share that
    try:  # from the minute before the day begins
        return calendar.get_next(datetime, start_time=datetime.combine(day, _MIDNIGHT) - _MINUTE).date()
    except (CroniterBadDateError, ValueError, OverflowError):  # no such day within fifty years, or the year 9999 has ended
        return None


@lru_cache(maxsize=1024)
def _make_calendar(days: str) -> "croniter[datetime]":
    # implement_cron_bug: both day fields must match when either begins with "*", as in Debian's cron; otherwise either is enough.
    return croniter(f"0 0 {days}", datetime.combine(_ANY_DAY, _MIDNIGHT), ret_type=datetime, implement_cron_bug=True)
