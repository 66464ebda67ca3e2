"""Durations for people, in one format for the commands, the page and the doctor. A setting is written in its own form (``1h30m``)."""

from itertools import pairwise
from typing import Final

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_MINUTE: Final = 60
_MILLISECOND: Final = 0.001


def describe_span(seconds: float, *, exact: bool = False) -> str:
    """Return how far away something is: ``45 s``, ``4 min``, ``2 h 10 min``, ``3 d 4 h``; ``0 s`` for less than nothing.

    ``exact``: minutes have their seconds too (``4 min 14 s``), for a text that is not shown anew every few seconds.
    """
    whole = max(int(seconds), 0)
    for (size, unit), (smaller, its_unit) in pairwise(_UNITS):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {its_unit}" if rest and (exact or unit != "min") else "")
    return f"{whole} s"


def describe_duration(seconds: float) -> str:
    """Return how long something took, or how late something was: ``4 ms``, ``1.2 s``, ``3 min 5 s``."""
    if seconds < 1:
        return f"{max(seconds, 0.0) / _MILLISECOND:.0f} ms"
    return f"{seconds:.1f}".removesuffix(".0") + " s" if seconds < _MINUTE else describe_span(seconds, exact=True)
