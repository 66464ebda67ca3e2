"""Numbers with their noun, and durations, in one format for the commands, the page and the doctor.

Durations in settings have their own form (``1h30m``).
"""

from itertools import pairwise
from typing import Final

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_MINUTE: Final = 60
_MILLISECOND: Final = 0.001


def pluralize(number: int, noun: str, plural: str | None = None) -> str:
    """Return the number with its noun: ``1 run``, ``3,000 runs``.

    ``plural`` is for a plural that does not just add an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def describe_span(seconds: float, *, exact: bool = False) -> str:
    """Return the distance of an instant: ``45 s``, ``4 min``, ``2 h 10 min``, ``3 d 4 h``.

    A negative distance is ``0 s``. ``exact`` adds seconds to minutes (``4 min 14 s``), for a text without a
    refresh every few seconds.
    """
    whole = max(int(seconds), 0)
    for (size, unit), (smaller, its_unit) in pairwise(_UNITS):
        if whole >= size:
            rest = whole % size // smaller
            is_shown = rest and (exact or unit != "min")
            return f"{whole // size} {unit}" + (f" {rest} {its_unit}" if is_shown else "")
    return f"{whole} s"


def describe_duration(seconds: float) -> str:
    """Return how long an action took, or how late an action was: ``4 ms``, ``1.2 s``, ``3 min 5 s``."""
    if seconds < 1:
        return f"{max(seconds, 0.0) / _MILLISECOND:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    return describe_span(seconds, exact=True)
