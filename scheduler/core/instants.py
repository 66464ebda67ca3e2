"""Instants as text in one fixed-width form. The text sorts by time, and people can read any table."""

from datetime import UTC, datetime, timedelta
from typing import Final

JUST_BEFORE: Final = timedelta(microseconds=1)
"""The distance of two neighbouring instants: ``instant - JUST_BEFORE`` is the last instant before it."""
BEGINNING_OF_TIME: Final = datetime.min.replace(tzinfo=UTC)
END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)

_CREDIBLE: Final = range(1970, 3000)
"""Years that a clock may show.

These years are far from both limits of a datetime, so the difference of two clocks can be added without
overflow.
"""


def is_credible(instant: datetime) -> bool:
    """Return whether a clock may have shown this instant.

    Go's zero time (year 1) and the year 9999 with the meaning "never" are no readings of a clock.
    """
    return instant.year in _CREDIBLE


def to_text(instant: datetime) -> str:
    """Return ISO 8601 in UTC with microseconds and ``Z``, always 27 characters.

    A naive ``instant`` raises ValueError.
    """
    return to_utc(instant).isoformat(timespec="microseconds")[:26] + "Z"


def to_text_seconds(instant: datetime) -> str:
    """Return ISO 8601 in UTC with whole seconds and ``Z``, for scheduled instants, which have no fraction.

    A naive ``instant`` raises ValueError.
    """
    return to_utc(instant).isoformat(timespec="seconds")[:19] + "Z"


def from_text(text: str) -> datetime:
    """Read any ISO 8601 instant with an offset, and return the instant in UTC. Raise ValueError otherwise."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"the instant {text!r} names no offset; write it in UTC with a Z at its end")
    return instant.astimezone(UTC)


def to_optional_text(instant: datetime | None) -> str | None:
    """Return an instant as `to_text`, and None as None."""
    return None if instant is None else to_text(instant)


def from_optional_text(text: str | None) -> datetime | None:
    """Read an instant as `from_text`, and None as None."""
    return None if text is None else from_text(text)


def to_utc(instant: datetime) -> datetime:
    """Return the instant in UTC itself, not in a zone with the present offset of UTC.

    Additions to the result must not follow a wall clock. A naive ``instant`` raises ValueError.
    """
    if instant.utcoffset() is None:
        raise ValueError(f"the instant {instant!r} has no zone; instants are UTC throughout")
    return instant.astimezone(UTC)
