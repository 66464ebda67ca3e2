"""Time at the command line: reading an instant, telling the present, and writing both for people."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final

import click

from scheduler.core.duration import describe_span
from scheduler.core.instants import from_text, to_text_seconds

END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)
"""Later than any fire."""

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # whatever the locale: columns stay columns


def now() -> datetime:
    """The present, in UTC. A command asks once and hands it on."""
    return datetime.now(UTC)  # noqa: TID251 -- no daemon here whose clock could be asked; commands read the time nowhere else


@dataclass(frozen=True, slots=True)
class ParsedTime:
    """An instant, and how it was understood, where that needs saying.

    ``later_today`` is set where the text was only a time of the clock, as ``23:00``, and means yesterday's
    because today's is still to come:
    then it is today's, as ``2026-11-23T23:00``.
    """

    instant: datetime
    note: str | None = None
    later_today: str | None = None


def parse_time(text: str, timezone: str, present: datetime) -> ParsedTime:
    """An instant with its offset, or a local time in a zone: ``2026-11-23T09:00``, or ``09:00`` for the last time that the clock showed it.

    A time that the clock skips is the first minute after the gap; of one that it shows twice, the first. Raises `click.BadParameter`.
    """
    try:
        return ParsedTime(from_text(text))
    except (ValueError, OverflowError):
        pass
    from scheduler.core.zones import load_zone

    today = present.astimezone(load_zone(timezone)).date()
    try:
        if ":" in text[:3] and len(text) in {4, 5, 7, 8}:
            time_of_day = time.fromisoformat(text.zfill(5))
            reading = datetime.combine(today, time_of_day)
            found = _resolve_local_time(reading, timezone)
            return found if found.instant <= present else _read_as_yesterdays(reading, timezone)
        return _resolve_local_time(datetime.fromisoformat(text), timezone)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no time; write it as 2026-11-23T09:00:00Z, or in the automation's own zone as 2026-11-23T09:00 or 09:00"
        ) from None


def _read_as_yesterdays(reading: datetime, timezone: str) -> ParsedTime:
    """Return yesterday's instant for a time of the clock that is still to come today, and say so."""
    yesterdays, today = _resolve_local_time(reading - timedelta(days=1), timezone), reading.isoformat(timespec="minutes")
    return ParsedTime(yesterdays.instant, f"{yesterdays.note}, which was yesterday: today's is still to come, write {today} for it", today)


def _resolve_local_time(reading: datetime, timezone: str) -> ParsedTime:
    """The instant at which the zone's clock showed a reading (naive)."""
    from scheduler.core.local_time import iterate_offset_periods
    from scheduler.core.zones import load_zone

    local = load_zone(timezone)
    instants = [reading.replace(tzinfo=local, fold=fold).astimezone(UTC) for fold in (0, 1)]
    said = f"read as {reading:%Y-%m-%d %H:%M} in {timezone}"
    if all(each.astimezone(local).replace(tzinfo=None) != reading for each in instants):
        days = {each.date() for each in instants}
        gaps = [
            each.begin
            for day in sorted(days)
            for each in iterate_offset_periods(local, day)
            if each.shown_until <= reading < each.local_begin
        ]
        return ParsedTime(gaps[0] if gaps else instants[0], f"{said}, which the clock skips that day: taken as the first minute after")
    if instants[0] != instants[1]:
        return ParsedTime(
            min(instants), f"{said}, which the clock shows twice that day: taken as the first, not {to_text_seconds(max(instants))}"
        )
    return ParsedTime(instants[0], said)


def find_usable_zone(timezone: str | None) -> str:
    """Return the name of the zone; UTC when an automation has none, or none that this machine knows."""
    from scheduler.core.zones import load_zone

    try:
        return load_zone(timezone or "UTC").key
    except KeyError:
        return "UTC"


def format_in_zone(instant: datetime, timezone: str, *, with_seconds: bool = False) -> str:
    """Return an instant for people as local time in a `find_usable_zone`. ``with_seconds``: also when there are none."""
    from scheduler.core.zones import load_zone

    return format_local_time(instant.astimezone(load_zone(timezone)), with_seconds=with_seconds)


def format_zone_and_utc(instant: datetime, timezone: str, *, with_seconds: bool = False) -> str:
    """Return an instant for a sentence: ``Tue 2026-11-24 09:00 CET in Europe/Berlin (2026-11-24T08:00:00Z)``."""
    named = "" if timezone == "UTC" else f" in {timezone}"
    return f"{format_in_zone(instant, timezone, with_seconds=with_seconds)}{named} ({to_text_seconds(instant)})"


def format_machine_and_utc(instant: datetime) -> str:
    """An instant for people, in this machine's zone and in UTC: ``Tue 2026-11-24 09:00:01 CET (2026-11-24T08:00:01Z)``."""
    return f"{format_local_time(instant.astimezone())} ({to_text_seconds(instant)})"


def format_local_time(local: datetime, *, with_seconds: bool = False) -> str:
    """Return a local time for people, with the zone's abbreviation at that time: ``Tue 2026-11-24 09:00 CET``."""
    seconds = ":%S" if local.second or with_seconds else ""
    return f"{_DAYS[local.weekday()]} {local.isoformat(' ', 'minutes')[:16]}{local.strftime(seconds)} {local.tzname()}"


def format_timedelta(span: timedelta) -> str:
    """Return how far away something is: ``3 d 4 h``, ``12 min 30 s``, ``0 s``; that too for less than nothing."""
    return describe_span(span.total_seconds(), exact=True)
