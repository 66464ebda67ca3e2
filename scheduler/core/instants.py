"""Instants as text: one fixed-width form, so that text sorts as time does and a person can read it in any table."""

from datetime import UTC, datetime, timedelta

_ZERO = timedelta(0)


def to_text(instant: datetime) -> str:
    """ISO 8601 in UTC with microseconds and ``Z``, always 27 characters. A naive ``instant`` raises ValueError."""
    return _utc(instant).isoformat(timespec="microseconds")[:26] + "Z"


def to_text_seconds(instant: datetime) -> str:
    """ISO 8601 in UTC with whole seconds and ``Z``, for scheduled instants, which have no fraction. Naive raises ValueError."""
    return _utc(instant).isoformat(timespec="seconds")[:19] + "Z"


def from_text(text: str) -> datetime:
    """Read any ISO 8601 instant that names its offset; comes back in UTC. Raises ValueError for anything else."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"the instant {text!r} names no offset; write it in UTC with a Z at its end")
    return instant.astimezone(UTC)


def _utc(instant: datetime) -> datetime:
    if instant.utcoffset() is None:
        raise ValueError(f"the instant {instant!r} has no zone; instants are UTC throughout")
    return instant if instant.utcoffset() == _ZERO else instant.astimezone(UTC)
