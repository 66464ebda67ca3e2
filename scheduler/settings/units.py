"""Durations (``30s``, ``1h30m``) and sizes (``10MiB``) in the notation for people, to values and back."""

import re
from datetime import timedelta
from typing import Final

from scheduler.settings.problems import InvalidSetting, format_value

_UNITS: Final = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
# Digits are bounded: no text can cost more than its length or overflow a timedelta. Each unit appears once,
# the largest first.
_DURATION: Final = re.compile(
    "".join(rf"(?:(?P<{unit}>[0-9]{{1,12}}(?:\.[0-9]{{1,6}})?){unit})?" for unit in _UNITS)
)
_DURATION_REMEDY: Final = 'write a number with its unit (ms, s, m, h, d, w), as "30s", "5m" or "1h30m"'
_LONGEST: Final = timedelta(days=36_500)
_SIZES: Final = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
_SIZE: Final = re.compile(rf"([1-9][0-9]{{0,5}})({'|'.join(_SIZES)})")
_SIZE_REMEDY: Final = f'write a whole number with its unit ({", ".join(reversed(_SIZES))}), as "10MiB"'


def parse_duration(value: object) -> timedelta:
    """Parse a duration, zero or more, at most 100 years.

    Raises `InvalidSetting`, also for numbers, which have no unit.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match or not value:
        raise InvalidSetting(f"should be a duration, not {format_value(value)}", _DURATION_REMEDY)
    try:
        total = sum(
            (float(number) * _UNITS[unit] for unit, number in match.groupdict().items() if number),
            timedelta(0),
        )
    except OverflowError:
        total = timedelta.max
    if total > _LONGEST:
        raise InvalidSetting(f"{format_value(value)} is longer than 100 years", "write a shorter duration")
    return total


def parse_positive_duration(value: object) -> timedelta:
    """Parse a duration as `parse_duration` does, but refuse zero."""
    duration = parse_duration(value)
    if not duration:
        raise InvalidSetting(
            f"should be more than nothing, not {format_value(value)}", 'write a longer duration, as "1s"'
        )
    return duration


def format_duration(duration: timedelta) -> str:
    """Format a duration that is not negative, in the shortest usual notation.

    `parse_duration` restores the value.
    """
    minutes, seconds = divmod(duration.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [
        f"{number}{unit}" for number, unit in ((duration.days, "d"), (hours, "h"), (minutes, "m")) if number
    ]
    if seconds or duration.microseconds or not parts:
        fraction = f".{duration.microseconds:06}".rstrip("0") if duration.microseconds else ""
        parts.append(f"{seconds}{fraction}s")
    return "".join(parts)


def parse_size(value: object) -> int:
    """Parse a size in bytes, more than zero.

    Raises `InvalidSetting`, also for numbers, which have no unit.
    """
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise InvalidSetting(f"should be a size, not {format_value(value)}", _SIZE_REMEDY)
    return int(match[1]) * _SIZES[match[2]]


def format_size(size: int) -> str:
    """Format a size from `parse_size` in the shortest notation. `parse_size` restores the value."""
    return next(f"{size // scale}{unit}" for unit, scale in _SIZES.items() if size % scale == 0)
