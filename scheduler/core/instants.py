"""Instants as text: one fixed-width form, so that text sorts as time does and a person can read it in any table."""

from datetime import UTC, datetime, timedelta
from typing import Final

_ZERO = timedelta(0)

_CREDIBLE: Final = range(1970, 3000)
"""Years that a clock may show. So far from both ends of what a datetime can hold that adding the difference of two clocks stays within."""


def is_credible(instant: datetime) -> bool:
    """Whether a clock may have shown this. Go's zero time, year 1, and the year 9999 that stands for "never" are nobody's clock."""
    return instant.year in _CREDIBLE


def to_text(instant: datetime) -> str:
    """ISO 8601 in UTC with microseconds and ``Z``, always 27 characters. A naive ``instant`` raises ValueError."""
    return _to_utc(instant).isoformat(timespec="microseconds")[:26] + "Z"


def to_text_seconds(instant: datetime) -> str:
    """ISO 8601 in UTC with whole seconds and ``Z``, for scheduled instants, which have no fraction. Naive raises ValueError."""
    return _to_utc(instant).isoformat(timespec="seconds")[:19] + "Z"


def from_text(text: str) -> datetime:
    """Read any ISO 8601 instant that names its offset; comes back in UTC. Raises ValueError for anything else."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"the instant {text!r} names no offset; write it in UTC with a Z at its end")
    return instant.astimezone(UTC)


def _to_utc(instant: datetime) -> datetime:
    if instant.utcoffset() is None:
        raise ValueError(f"the instant {instant!r} has no zone; instants are UTC throughout")
    return instant if instant.utcoffset() == _ZERO else instant.astimezone(UTC)
