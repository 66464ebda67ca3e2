"""Time at the command line: reading an instant, telling the present, and writing both for people."""

from datetime import UTC, datetime, timedelta
from typing import Final

import click

from scheduler.core.instants import from_text

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
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(f"{error}; write it as 2026-11-23T19:20:00Z") from None


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
