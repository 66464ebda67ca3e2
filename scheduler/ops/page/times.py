"""Instants and durations in readable form: local time, UTC, and the distance from now."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.cron.zones import load_zone
from scheduler.core.instants import to_text_seconds
from scheduler.core.quantities import describe_span

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # in any locale
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class DisplayTime:
    """An instant, seen from ``now``.

    ``timezone`` is the zone of the local time beside UTC. No local time is shown for None or an unknown zone.
    """

    instant: datetime
    now: datetime
    timezone: str | None = None

    @property
    def utc(self) -> str:
        """The instant as commands read it: ``2026-11-23T19:30:00Z``."""
        return to_text_seconds(self.instant)

    @property
    def local(self) -> str | None:
        """The local time, such as ``Mon 23 Nov 20:30``.

        The year is included when it differs from the year of ``now``, and seconds when they are not 0.
        """
        at = self._local_time
        if at is None:
            return None
        year = "" if at.year == self.now.year else f" {at.year}"
        return f"{format_day(at)}{year} {format_clock(at)}" + (f":{at.second:02}" if at.second else "")

    @property
    def time_of_day(self) -> str:
        """The time of day with seconds: local (``20:37:13``), or UTC (``19:37:13Z``) without a known zone."""
        return f"{self.instant:%H:%M:%S}Z" if self._local_time is None else f"{self._local_time:%H:%M:%S}"

    @property
    def abbreviation(self) -> str:
        """The zone's abbreviation at the instant: ``CET``, or ``+0530`` for a zone without one."""
        return "" if self._local_time is None else self._local_time.strftime("%Z")

    @property
    def relative(self) -> str:
        """The distance from now: ``in 4 min``, ``2 h 10 min ago``, ``now``."""
        seconds = (self.instant - self.now).total_seconds()
        if abs(seconds) < 1:
            return "now"
        return f"in {describe_span(seconds)}" if seconds > 0 else f"{describe_span(-seconds)} ago"

    @property
    def _local_time(self) -> datetime | None:
        try:
            return None if self.timezone is None else self.instant.astimezone(load_zone(self.timezone))
        except (KeyError, OverflowError):
            return None


def make_display_time(instant: datetime | None, now: datetime, zone: str | None = None) -> DisplayTime | None:
    """Return the instant as a `DisplayTime`, None for None."""
    return None if instant is None else DisplayTime(instant, now, zone)


def format_day(at: datetime) -> str:
    """Return the day: ``Mon 23 Nov``."""
    return f"{_DAYS[at.weekday()]} {at.day} {_MONTHS[at.month - 1]}"


def format_clock(at: datetime) -> str:
    """Return the time of day: ``20:30``."""
    return f"{at.hour:02}:{at.minute:02}"


def format_duration(value: timedelta) -> str:
    """Return the value of a setting: ``30 s``, ``1 h``."""
    return describe_span(value.total_seconds())
