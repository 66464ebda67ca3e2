"""Reads the words of a schedule back into what they claim: which minutes of a day, and which days.

It knows English and the calendar, and nothing of cron.
"""

import re
from calendar import monthrange
from collections.abc import Callable
from datetime import date, timedelta

MONTHS = (
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
WEEKDAYS = (
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
)  # as date.weekday counts
NTH = ("first", "second", "third", "fourth", "fifth")

Claim = Callable[[date], bool]

_NUMBERS = r"\d+(?:(?:, | and | and so on through | through )\d+)*"
_CLOCK = r"\d\d:\d\d"
_SPAN = r"(?:minute|hour|\d+ minutes|\d+ hours)"
_TIMES = re.compile(
    rf"At (?P<list>{_CLOCK}(?:(?:, | and ){_CLOCK})*)"
    rf"|(?:At minutes? (?P<minutes>{_NUMBERS})|Every (?P<step>{_SPAN})(?: from minute (?P<low>\d+) "
    r"through (?P<high>\d+))?)"
    rf" of (?:every hour|the hours? (?P<of>{_NUMBERS}))"
    rf"|Every (?P<span>{_SPAN})(?: from (?P<first>{_CLOCK}) through (?P<last>{_CLOCK}))?"
)
_WEEKDAY = f"(?:{'|'.join(WEEKDAYS)})"
_MONTH = f"(?:{'|'.join(MONTHS)})"
_DATES = (
    r"on (?:the weekday nearest to day (?P<nearest>\d+)"
    rf"|days? (?P<dates>{_NUMBERS})(?P<also> and the last day)?|(?P<last>the last day))"
    rf" of (?:the month|(?P<only>{_MONTH}))"
)
_NAMED = rf"{_WEEKDAY}(?:(?:, | and | or ){_WEEKDAY})*"
_WHICH = rf"the (?:{'|'.join(NTH)}|last) {_WEEKDAY}"
_DAYS = re.compile(
    rf"(?:every day|{_DATES}"
    rf"(?: or on (?P<either>{_NAMED})| if that is (?:a (?P<both>{_NAMED})|(?P<that>{_WHICH}(?:(?:, | "
    rf"or ){_WHICH})*)))?"
    rf"|on (?P<on>{_NAMED})|(?P<from>{_WEEKDAY}) through (?P<to>{_WEEKDAY})"
    rf"|on (?P<nth>{_WHICH}(?:(?:, | and ){_WHICH})*) of the month)?"
    rf"(?:^|, | |$)(?:in (?P<months>{_MONTH}(?:(?:, | and ){_MONTH})*)|from (?P<begin>{_MONTH}) "
    rf"through (?P<end>{_MONTH}))?"
)


def minutes_of(words: str) -> set[int]:
    """The minutes of a day at which it is said to fire."""
    said = _TIMES.match(words)
    assert said, words
    if said["list"]:
        return {_minute(each) for each in re.findall(_CLOCK, said["list"])}
    if said["span"]:
        first, last = (_minute(said["first"]), _minute(said["last"])) if said["first"] else (0, 1439)
        return set(range(first, last + 1, _length(said["span"])))
    hours = range(24) if said["of"] is None else _numbers(said["of"])
    if said["step"]:
        minutes = set(range(int(said["low"] or 0), int(said["high"] or 59) + 1, _length(said["step"])))
    else:
        minutes = _numbers(said["minutes"])
    return {hour * 60 + minute for hour in hours for minute in minutes}


def days_of(words: str) -> Claim:
    """Whether it is said to fire on a date."""
    times = _TIMES.match(words)
    assert times, words
    said = _DAYS.fullmatch(words[times.end() :].removeprefix(", "))
    assert said, words
    part = said.groupdict()
    months = _months(part)
    by_date, by_week = _by_date(part), _by_week(part)
    if part["either"]:
        return lambda day: day.month in months and (by_date(day) or by_week(day))
    return lambda day: day.month in months and by_date(day) and by_week(day)


def _months(part: dict[str, str | None]) -> set[int]:
    names = part["only"] or part["months"]
    if names:
        return {MONTHS.index(name) + 1 for name in re.findall(_MONTH, names)}
    if part["begin"]:
        return {number + 1 for number in _round(part["begin"], str(part["end"]), MONTHS)}
    return set(range(1, 13))


def _by_date(part: dict[str, str | None]) -> Claim:
    if part["nearest"]:
        return lambda day: day == _nearest(day, int(str(part["nearest"])))
    dates = _numbers(part["dates"]) if part["dates"] else set()
    last = part["last"] or part["also"]
    if not dates and not last:
        return lambda _: True
    return lambda day: day.day in dates or bool(last and day.day == monthrange(day.year, day.month)[1])


def _by_week(part: dict[str, str | None]) -> Claim:
    names = part["either"] or part["both"] or part["on"]
    if names:
        return lambda day: WEEKDAYS[day.weekday()] in names
    if part["from"]:
        run = _round(part["from"], str(part["to"]), WEEKDAYS)
        return lambda day: day.weekday() in run
    if which := part["nth"] or part["that"]:
        return lambda day: any(
            re.search(rf"the {name} {WEEKDAYS[day.weekday()]}", which) for name in _names_of(day)
        )
    return lambda _: True


def _names_of(day: date) -> list[str]:
    """Which one of its weekday in its month a date is."""
    last = ["last"] if (day + timedelta(days=7)).month != day.month else []
    return [NTH[(day.day - 1) // 7], *last]


def _nearest(day: date, number: int) -> date:
    """The weekday nearest to a day of the month, within the month."""
    length = monthrange(day.year, day.month)[1]
    working = [each for each in range(1, length + 1) if day.replace(day=each).weekday() < 5]
    return day.replace(day=min(working, key=lambda each: abs(each - min(number, length))))


def _round(first: str, last: str, circle: tuple[str, ...]) -> set[int]:
    begin, end = circle.index(first), circle.index(last)
    return {
        number % len(circle) for number in range(begin, end + 1 if end >= begin else end + 1 + len(circle))
    }


def _numbers(text: str) -> set[int]:
    if "so on" in text:
        first, second, *_, last = (int(each) for each in re.findall(r"\d+", text))
        return set(range(first, last + 1, second - first))
    if "through" in text:
        first, last = (int(each) for each in text.split(" through "))
        return set(range(first, last + 1))
    return {int(each) for each in re.findall(r"\d+", text)}


def _minute(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


def _length(span: str) -> int:
    number = re.match(r"\d+", span)
    return (int(number[0]) if number else 1) * (60 if "hour" in span else 1)
