"""Sizes in the notation for people (``10MiB``), to bytes and back."""

import re
from typing import Final

from scheduler.settings.problems import InvalidSetting, format_value

_UNITS: Final = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
_SIZE: Final = re.compile(rf"([1-9][0-9]{{0,5}})({'|'.join(_UNITS)})")


def parse_size(value: object) -> int:
    """Parse a size in bytes, more than zero.

    Raises `InvalidSetting`, also for numbers, which have no unit.
    """
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise InvalidSetting(
            f"should be a size, not {format_value(value)}",
            f'write a whole number with its unit ({", ".join(reversed(_UNITS))}), as "10MiB"',
        )
    return int(match[1]) * _UNITS[match[2]]


def format_size(size: int) -> str:
    """Format a size from `parse_size` in the shortest notation. `parse_size` restores the value."""
    return next(f"{size // scale}{unit}" for unit, scale in _UNITS.items() if size % scale == 0)
