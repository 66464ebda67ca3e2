"""Time at the command line: reading an instant, telling the present, and writing both for people."""

from datetime import UTC, datetime, timedelta
from typing import Final

import click

from scheduler.core.instants import from_text, to_text_seconds
from scheduler.core.model import InvalidAutomation, canonical_id

LAST: Final = datetime.max.replace(tzinfo=UTC)
"""Later than any fire."""

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # whatever the locale: columns stay columns


def now() -> datetime:
    """The present, in UTC. A command asks once and hands it on."""
    return datetime.now(UTC)  # noqa: TID251 -- no daemon here whose clock could be asked; commands read the time nowhere else


def instant(text: str) -> datetime:
    """The type of an option whose value is an instant: ISO 8601 with its offset. Comes out in UTC."""
    try:
        return from_text(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is no instant with its offset from UTC; write it as 2026-11-23T19:20:00Z") from None


def past(text: str) -> datetime:
    """The type of an option whose value is an instant, or how long ago it was: ``24h``. Comes out in UTC."""
    from scheduler.settings.durations import parse_duration
    from scheduler.settings.problems import Wrong

    try:
        return now() - parse_duration(text)
    except (Wrong, OverflowError):
        pass
    try:
        return instant(text)
    except click.BadParameter as error:
        raise click.BadParameter(f"{error.message}, or how long ago it was, as 24h") from None


def uuid_text(text: str) -> str:
    """The type of an option whose value is an automation's or a run's id; comes out in its usual form."""
    try:
        return canonical_id(text)
    except InvalidAutomation:
        raise click.BadParameter(f"{text!r} is no id; write a UUID, as 0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e6f") from None


def zoned_text(instant: datetime) -> str:
    """An instant for people, in this machine's zone and in UTC: ``Tue 2026-11-24 09:00:01 CET (2026-11-24T08:00:01Z)``."""
    return f"{local_text(instant.astimezone())} ({to_text_seconds(instant)})"


def local_text(local: datetime) -> str:
    """A local time for people, with the zone's abbreviation at that time: ``Tue 2026-11-24 09:00 CET``."""
    seconds = ":%S" if local.second else ""
    return f"{_DAYS[local.weekday()]} {local.isoformat(' ', 'minutes')[:16]}{local.strftime(seconds)} {local.tzname()}"


def span_text(span: timedelta) -> str:
    """How far away something is, in its two largest units: ``3d 4h``, ``12m 30s``, ``0s``."""
    seconds = int(span.total_seconds())
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    first = next((index for index, (number, _) in enumerate(parts) if number), len(parts) - 1)
    return " ".join(f"{number}{unit}" for number, unit in parts[first : first + 2] if number) or "0s"
