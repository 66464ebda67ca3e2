"""A schedule in words, for people: ``At 09:00, Monday through Friday``.

The words are made from the values of an expression, not from its text. The words therefore give the real
times of the schedule, however croniter reads the text. Two texts with the same times have the same words. The
effect of a clock change is described elsewhere (`scheduler.core.cron.clock_changes`): the words are for days
without a clock change.

This project does not use the package cron-descriptor, which puts the text itself in words. Its words are
wrong for ``*/7`` ("every 7 hours"), ``5-5`` (every minute), two day fields with one ``*`` at a beginning
("or"), and ``mon#1,fri#1``. The package raises for ``1,*``, and depends on the locale.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from scheduler.core.cron.expression import LAST, Days, Expression
from scheduler.core.cron.fields import MONTHS, WEEKDAYS
from scheduler.core.cron.schedule import Schedule

_WEEK: Final = (1, 2, 3, 4, 5, 6, 0)  # a list of days begins with Monday
_ORDINALS: Final = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", LAST: "last"}
_HOURS: Final = 24
_HOUR: Final = 60  # minutes
_DAY: Final = _HOURS * _HOUR
_MOST_LISTED: Final = 6  # a longer list of times is hard to read
_SHORTEST_SERIES: Final = 5  # a shorter list of values is clearer than a description
_SHORTEST_RUN: Final = 3


def describe_schedule(schedule: Schedule) -> str:
    """Return when the schedule fires, in English and on a 24-hour clock, without a full stop.

    The text is true on every day without a clock change. The function never raises.
    """
    read = Expression.read(schedule.expression)
    times, days = _describe_times(read.minutes, read.hours), _describe_days(read.matching_days)
    every_day = not (read.matching_days.by_date or read.matching_days.by_week)
    if every_day and times.startswith("At ") and len(read.hours) < _HOURS:
        days = [" ".join(["every day", *days])]
    return ", ".join([times, *days])


def join_words(words: Sequence[str], conjunction: str = "and") -> str:
    """Return the words as a list: ``a``, ``a and b``, ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


# ---------------------------------------------------------------- the time of day


def _describe_times(minutes: Sequence[int], hours: Sequence[int]) -> str:
    times = [hour * _HOUR + minute for hour in hours for minute in minutes]
    step = _find_step(times)
    if len(times) >= _SHORTEST_SERIES and step:
        if times[0] == 0 and times[-1] + step == _DAY:
            return f"Every {_describe_interval(step)}"
        if len(hours) < _HOURS:
            return (
                f"Every {_describe_interval(step)} from {format_clock(times[0])} through "
                f"{format_clock(times[-1])}"
            )
    if len(times) <= _MOST_LISTED:
        return f"At {join_words([format_clock(time) for time in times])}"
    return f"{_describe_minutes(minutes)} of {_describe_hours(hours)}"


def format_clock(minute: int) -> str:
    """Return a minute of the day as a clock shows it: ``09:05``."""
    return f"{minute // _HOUR:02}:{minute % _HOUR:02}"


def _describe_interval(minutes: int) -> str:
    if minutes % _HOUR:
        return "minute" if minutes == 1 else f"{minutes} minutes"
    return "hour" if minutes == _HOUR else f"{minutes // _HOUR} hours"


def _describe_minutes(values: Sequence[int]) -> str:
    step = _find_step(values)
    if step and values[0] == 0 and values[-1] + step == _HOUR:
        return f"Every {_describe_interval(step)}"
    if step and len(values) >= _SHORTEST_SERIES:
        return f"Every {_describe_interval(step)} from minute {values[0]} through {values[-1]}"
    return f"At minute{'s' * (len(values) > 1)} {join_words([str(value) for value in values])}"


def _describe_hours(values: Sequence[int]) -> str:
    if len(values) == _HOURS:
        return "every hour"
    return f"the hour{'s' * (len(values) > 1)} {_describe_numbers(values)}"


# ---------------------------------------------------------------- the days


def _describe_days(days: Days) -> list[str]:
    """Return the restrictions on the days, or nothing when all days match."""
    one_month = days.by_date and len(days.months) == 1 and not days.either  # "on day 1 of January"
    month = MONTHS[days.months[0] - 1] if one_month else "the month"
    parts = [_describe_day_fields(days, month)] if days.by_date or days.by_week else []
    if not one_month and len(days.months) < len(MONTHS):
        parts.append(_describe_months(days.months))
    return parts


def _describe_day_fields(days: Days, month: str) -> str:
    if not days.by_week:
        return f"on {_describe_dates(days, month)}"
    if not days.by_date:
        return (
            f"on {_describe_nth(days, 'and')} of the month" if days.nth else _describe_weekdays(days.weekdays)
        )
    if days.either:
        return f"on {_describe_dates(days, month)} or on {join_words(_name_weekdays(days.weekdays), 'or')}"
    return (
        f"on {_describe_dates(days, month)} if that is "
        f"{_describe_nth(days, 'or') if days.nth else 'a ' + join_words(_name_weekdays(days.weekdays), 'or')}"
    )


def _describe_dates(days: Days, month: str) -> str:
    if days.nearest is not None:
        return f"the weekday nearest to day {days.nearest} of {month}"
    dates = [f"day{'s' * (len(days.dates) > 1)} {_describe_numbers(days.dates)}"] if days.dates else []
    return join_words([*dates, *(["the last day"] if days.last else [])]) + f" of {month}"


def _describe_nth(days: Days, conjunction: str) -> str:
    """Return the weekdays of a month: ``the first Monday and the last Friday``."""
    ordered = sorted(days.nth, key=lambda one: (one[1] == LAST, one[1], _WEEK.index(one[0])))
    return join_words([f"the {_ORDINALS[number]} {WEEKDAYS[day]}" for day, number in ordered], conjunction)


def _describe_weekdays(values: Sequence[int]) -> str:
    run = _find_run(values, _WEEK)
    if run is not None:
        return f"{WEEKDAYS[run[0]]} through {WEEKDAYS[run[1]]}"
    return f"on {join_words(_name_weekdays(values))}"


def _name_weekdays(weekdays: Sequence[int]) -> list[str]:
    return [WEEKDAYS[day] for day in _WEEK if day in weekdays]


def _describe_months(values: Sequence[int]) -> str:
    run = _find_run(values, range(1, 13))
    if run is not None:
        return f"from {MONTHS[run[0] - 1]} through {MONTHS[run[1] - 1]}"
    return f"in {join_words([MONTHS[month - 1] for month in values])}"


# ---------------------------------------------------------------- values in a row


def _find_step(values: Sequence[int]) -> int | None:
    """Return the distance between neighbouring values if it is constant, else None."""
    steps = {second - first for first, second in pairwise(values)}
    return steps.pop() if len(steps) == 1 else None


def _describe_numbers(values: Sequence[int]) -> str:
    """Return numbers for people: ``5``, ``1 and 15``, ``8 through 14``, ``1, 3, 5 and so on through 31``."""
    step = _find_step(values)
    if step == 1 and len(values) >= _SHORTEST_RUN:
        return f"{values[0]} through {values[-1]}"
    if step and len(values) >= _SHORTEST_SERIES:
        return f"{values[0]}, {values[1]}, {values[2]} and so on through {values[-1]}"
    return join_words([str(value) for value in values])


def _find_run(values: Sequence[int], circle: Sequence[int]) -> tuple[int, int] | None:
    """Return the ends of a run of values on a circle.

    Return None when the values are no run or fill the circle.
    """
    starts = [
        number for number, value in enumerate(circle) if value in values and circle[number - 1] not in values
    ]
    if len(starts) != 1 or len(values) < _SHORTEST_RUN:
        return None
    return circle[starts[0]], circle[(starts[0] + len(values) - 1) % len(circle)]
