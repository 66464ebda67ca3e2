"""Time at the command line: parse an instant, read the present, and format both for people."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final

import click

from scheduler.clock import SystemClock
from scheduler.core.cron.local_time import iterate_offset_periods
from scheduler.core.cron.zones import load_zone
from scheduler.core.instants import from_text, to_text_seconds
from scheduler.core.quantities import describe_span

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # in any locale: columns keep their width


def now() -> datetime:
    """Return the present, in UTC. A command asks once and passes the value on."""
    return SystemClock().now()


@dataclass(frozen=True, slots=True)
class ParsedTime:
    """An instant, with a note on its interpretation where necessary.

    ``later_today`` is set when the text was only a clock time, for example ``23:00``, and was read as
    yesterday's because today's is still to come. Then ``later_today`` is today's time, for example
    ``2026-11-23T23:00``.
    """

    instant: datetime
    note: str | None = None
    later_today: str | None = None


def parse_time(text: str, timezone: str, present: datetime) -> ParsedTime:
    """Parse an instant with its offset, or a local time in a zone.

    ``2026-11-23T09:00`` is a local time. ``09:00`` is the last time that the clock showed 09:00. A time
    skipped by the clock becomes the first minute after the gap. A time shown twice becomes the first of both.
    Raises `click.BadParameter`.
    """
    try:
        return ParsedTime(from_text(text))
    except (ValueError, OverflowError):
        pass
    try:
        if ":" in text[:3] and len(text) in {4, 5, 7, 8}:
            return _read_time_of_day(time.fromisoformat(text.zfill(5)), timezone, present)
        return _resolve_local_time(datetime.fromisoformat(text), timezone)
    except (ValueError, OverflowError):
        local = "in the automation's own zone as 2026-11-23T09:00 or 09:00"
        raise click.BadParameter(
            f"{text!r} is no time; write it as 2026-11-23T09:00:00Z, or {local}"
        ) from None


def _read_time_of_day(clock: time, timezone: str, present: datetime) -> ParsedTime:
    """Return today's instant; yesterday's, with a note, while today's is still to come."""
    reading = datetime.combine(present.astimezone(load_zone(timezone)), clock)
    parsed = _resolve_local_time(reading, timezone)
    if parsed.instant <= present:
        return parsed
    yesterdays = _resolve_local_time(reading - timedelta(days=1), timezone)
    today = reading.isoformat(timespec="minutes")
    note = f"{yesterdays.note}, which was yesterday: today's is still to come, write {today} for today"
    return ParsedTime(yesterdays.instant, note, today)


def _resolve_local_time(reading: datetime, timezone: str) -> ParsedTime:
    """Return the instant at which the zone's clock showed a reading (naive)."""
    local = load_zone(timezone)
    instants = [reading.replace(tzinfo=local, fold=fold).astimezone(UTC) for fold in (0, 1)]
    said = f"read as {reading:%Y-%m-%d %H:%M} in {timezone}"
    if all(instant.astimezone(local).replace(tzinfo=None) != reading for instant in instants):
        days = {instant.date() for instant in instants}
        gaps = [
            period.begin
            for day in sorted(days)
            for period in iterate_offset_periods(local, day)
            if period.shown_until <= reading < period.local_begin
        ]
        note = f"{said}, which the clock skips that day: taken as the first minute after the gap"
        return ParsedTime(gaps[0] if gaps else instants[0], note)
    if instants[0] != instants[1]:
        later = to_text_seconds(max(instants))
        note = f"{said}, which the clock shows twice that day: taken as the first, not {later}"
        return ParsedTime(min(instants), note)
    return ParsedTime(instants[0], said)


def find_usable_zone(*timezones: str | None) -> str:
    """Return the name of the first zone known to this machine; UTC without a known zone."""
    for timezone in filter(None, timezones):
        with suppress(KeyError):
            return load_zone(timezone).key
    return "UTC"


def to_zone(instant: datetime, timezone: str | None) -> datetime:
    """Return the instant in the zone, or in UTC, see `find_usable_zone`."""
    return instant.astimezone(load_zone(find_usable_zone(timezone)))


def format_in_zone(instant: datetime, timezone: str | None, *, with_seconds: bool = False) -> str:
    """Format an instant as local time in a zone, or in UTC, see `find_usable_zone`.

    ``with_seconds``: show the seconds also when they are zero.
    """
    return format_local_time(to_zone(instant, timezone), with_seconds=with_seconds)


def format_zone_and_utc(instant: datetime, timezone: str | None, *, with_seconds: bool = False) -> str:
    """Format an instant for a sentence.

    For example: ``Tue 2026-11-24 09:00 CET in Europe/Berlin (2026-11-24T08:00:00Z)``.
    """
    zone = find_usable_zone(timezone)
    named = "" if zone == "UTC" else f" in {zone}"
    return f"{format_in_zone(instant, zone, with_seconds=with_seconds)}{named} ({to_text_seconds(instant)})"


def format_machine_and_utc(instant: datetime) -> str:
    """Format an instant for people, in this machine's zone and in UTC.

    For example: ``Tue 2026-11-24 09:00:01 CET (2026-11-24T08:00:01Z)``.
    """
    return f"{format_local_time(instant.astimezone())} ({to_text_seconds(instant)})"


def format_local_time(local: datetime, *, with_seconds: bool = False) -> str:
    """Format a local time for people, with the zone's abbreviation: ``Tue 2026-11-24 09:00 CET``."""
    length = len("2026-11-24 09:00:00" if local.second or with_seconds else "2026-11-24 09:00")
    return f"{_DAYS[local.weekday()]} {local.isoformat(' ')[:length]} {local.tzname()}"


def format_timedelta(span: timedelta) -> str:
    """Format a span of time: ``3 d 4 h``, ``12 min 30 s``; ``0 s`` also for a negative span."""
    return describe_span(span.total_seconds(), exact=True)
