"""Instants and durations as people read them: local and UTC side by side, and how far away they are."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from scheduler.core.instants import to_text_seconds
from scheduler.core.zones import zone

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # whatever the locale
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_MILLISECOND: Final = 0.001


@dataclass(frozen=True, slots=True)
class When:
    """An instant, seen from ``now``. ``timezone`` is whose local time is shown beside it; None, or no zone that there is: none."""

    instant: datetime
    now: datetime
    timezone: str | None = None

    @property
    def utc(self) -> str:
        """As commands take it: ``2026-11-23T19:30:00Z``."""
        return to_text_seconds(self.instant)

    @property
    def local(self) -> str | None:
        """``Mon 23 Nov 20:30``, with the year when it is another one, and with seconds when there are any."""
        at = self._local
        if at is None:
            return None
        year = "" if at.year == self.now.year else f" {at.year}"
        return f"{day(at)}{year} {clock(at)}" + (f":{at.second:02}" if at.second else "")

    @property
    def second(self) -> str:
        """The time of day with seconds, local where the zone is known, else in UTC: ``20:37:13``, ``19:37:13Z``."""
        return f"{self.instant:%H:%M:%S}Z" if self._local is None else f"{self._local:%H:%M:%S}"

    @property
    def abbreviation(self) -> str:
        """Of the zone at that time: ``CET``, or ``+0530`` where it has none."""
        return "" if self._local is None else self._local.strftime("%Z")

    @property
    def relative(self) -> str:
        """``in 4 min``, ``2 h 10 min ago``, ``now``."""
        seconds = (self.instant - self.now).total_seconds()
        if abs(seconds) < 1:
            return "now"
        return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"

    @property
    def _local(self) -> datetime | None:
        try:
            return None if self.timezone is None else self.instant.astimezone(zone(self.timezone))
        except (KeyError, OverflowError):
            return None


def when(instant: datetime | None, now: datetime, timezone: str | None = None) -> When | None:
    """The same of what may not be there."""
    return None if instant is None else When(instant, now, timezone)


def day(at: datetime) -> str:
    """``Mon 23 Nov``."""
    return f"{_DAYS[at.weekday()]} {at.day} {_MONTHS[at.month - 1]}"


def clock(at: datetime) -> str:
    """``20:30``."""
    return f"{at.hour:02}:{at.minute:02}"


def span(seconds: float) -> str:
    """In its largest unit, and in the next one where that says much: ``45 s``, ``4 min``, ``2 h 10 min``, ``3 d 4 h``."""
    whole = max(int(seconds), 0)
    for (size, unit), (smaller, its_unit) in pairwise(_UNITS):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {its_unit}" if rest and unit != "min" else "")
    return f"{whole} s"


def lateness(seconds: float) -> str:
    """How late something was: ``4 ms``, ``1.2 s``, ``3 min``."""
    if seconds < 1:
        return f"{max(seconds, 0.0) / _MILLISECOND:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else span(seconds)  # noqa: PLR2004  a minute


def duration(value: timedelta) -> str:
    """A setting: ``30 s``, ``1 h``."""
    return span(value.total_seconds())
