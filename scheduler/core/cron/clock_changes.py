"""The clock changes ahead of a schedule, and the effect of each change on the schedule.

This module decides nothing. The offset periods of the zone give the skipped and repeated readings. The
schedule itself gives its fires. The module is separate from `scheduler.core.cron.schedule` because firing
does not need it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import chain, pairwise
from typing import Final, Literal, NamedTuple

from scheduler.core.cron import zones
from scheduler.core.cron.description import join_words
from scheduler.core.cron.expression import Expression
from scheduler.core.cron.local_time import DAY, OffsetPeriod, iterate_offset_periods
from scheduler.core.cron.schedule import Schedule
from scheduler.core.instants import JUST_BEFORE

Effect = Literal["untouched", "made_up", "not_fired", "first_pass", "both_passes"]

THIRTEEN_MONTHS: Final = timedelta(days=397)
"""How far ahead clock changes are shown to people: far enough for every yearly change."""
# a few days of room, since local time is up to a day ahead or behind
_FIRST, _LAST = date(1, 1, 4), date(9999, 12, 28)
_MOST_LISTED: Final = 4  # more times than this are shown as a number


@dataclass(frozen=True, slots=True)
class ClockChange:
    """A change of a zone's clock, and its effect on a schedule in that zone.

    The readings from ``begin`` up to but not including ``end`` (naive, local) do not exist when the clock
    goes ahead, and are shown twice when the clock goes back. ``times`` are the readings among these that the
    schedule names. ``fires`` are the instants (UTC) at which the schedule fires for ``times``.
    """

    at: datetime  # the first instant with the new offset, in UTC
    before: timedelta  # offset from UTC before the change; ``after``: afterwards
    after: timedelta
    abbreviations: tuple[str, str]  # of the zone, before and after
    begin: datetime
    end: datetime
    times: tuple[datetime, ...]
    fires: tuple[datetime, ...]
    effect: Effect
    words: str

    @property
    def is_ahead(self) -> bool:
        """Whether the clock goes ahead; otherwise the clock goes back."""
        return self.after > self.before


def find_clock_changes(schedule: Schedule, after: datetime, until: datetime) -> Iterator[ClockChange]:
    """Yield the changes of the zone's clock later than ``after`` and not later than ``until``, in order.

    Both instants are aware.
    """
    zone = zones.load_zone(schedule.timezone)
    first, last = max(after.astimezone(UTC).date(), _FIRST), min(until.astimezone(UTC).date(), _LAST)
    for before, stretch in _find_offset_changes(zone, first, last):
        if after < stretch.begin <= until:
            yield _describe_change(schedule, zone, before, stretch)


@lru_cache(maxsize=64)
def _find_offset_changes(
    zone: tzinfo, first: date, last: date
) -> tuple[tuple[OffsetPeriod, OffsetPeriod], ...]:
    """Return the offset periods before and after each change on these UTC days.

    The results are cached, since many schedules share few zones and are described together.
    """
    days = (first + number * DAY for number in range((last - first).days + 1))
    every = chain.from_iterable(iterate_offset_periods(zone, day) for day in days)
    return tuple((before, after) for before, after in pairwise(every) if before.offset != after.offset)


class _ChangeEffect(NamedTuple):
    """The effect of a clock change on skipped or repeated times."""

    effect: Effect
    fires: tuple[datetime, ...]
    sentence: str


def _describe_change(
    schedule: Schedule, zone: tzinfo, before: OffsetPeriod, stretch: OffsetPeriod
) -> ClockChange:
    # the reading without the change, and the reading with the change
    old, new = before.local_end, stretch.local_begin
    begin, end = sorted((old, new))
    times = _find_named_times(schedule, begin, end)
    outcome = _ChangeEffect("untouched", (), "nothing of this schedule is touched")
    if times:
        outcome = (
            _describe_skip(schedule, zone, stretch, times)
            if new > old
            else _describe_repeat(schedule, stretch, end - begin, times)
        )
    names = [(stretch.begin - back).astimezone(zone).tzname() or "" for back in (JUST_BEFORE, timedelta())]
    return ClockChange(
        stretch.begin,
        before.offset,
        stretch.offset,
        (names[0], names[1]),
        begin,
        end,
        times,
        outcome.fires,
        outcome.effect,
        f"{_format_reading(old)} the clock goes {'ahead' if new > old else 'back'} "
        f"to {_format_reading(new, old.date())}: {outcome.sentence}",
    )


def _find_named_times(schedule: Schedule, begin: datetime, end: datetime) -> tuple[datetime, ...]:
    """Return the readings that the schedule names, from ``begin`` up to ``end`` (exclusive).

    The readings are the fires of the same expression in a zone without clock changes.
    """
    level = Schedule.parse(schedule.expression, "UTC")
    after, until = (reading.replace(tzinfo=UTC) - JUST_BEFORE for reading in (begin, end))
    return tuple(instant.replace(tzinfo=None) for instant in level.iterate_between(after, until))


def _describe_skip(
    schedule: Schedule, zone: tzinfo, stretch: OffsetPeriod, times: tuple[datetime, ...]
) -> _ChangeEffect:
    one = len(times) == 1
    told = f"{_list_times(times)} {'does' if one else 'do'} not exist"
    fire = schedule.find_next(stretch.begin - JUST_BEFORE)
    if fire is None or schedule.find_note(fire) != "after_gap":
        none = "it does not fire" if one else "it fires for none of them"
        return _ChangeEffect(
            "not_fired", (), f"{told}; {none}, as {_explain_effect(schedule, 'dst_gap is skip')}"
        )
    reading = fire.astimezone(zone).replace(tzinfo=None)
    shown = _format_reading(reading, times[-1].date())
    if _find_named_times(schedule, reading, reading + JUST_BEFORE):
        return _ChangeEffect(
            "made_up", (fire,), f"{told}; the fire at {shown} stands for {'it' if one else 'them'} too"
        )
    return _ChangeEffect("made_up", (fire,), f"{told}; it fires {'' if one else 'once '}at {shown} instead")


def _describe_repeat(
    schedule: Schedule, stretch: OffsetPeriod, span: timedelta, times: tuple[datetime, ...]
) -> _ChangeEffect:
    told = f"{_list_times(times)} {'comes' if len(times) == 1 else 'come'} twice"
    fires = tuple(
        schedule.iterate_between(stretch.begin - span - JUST_BEFORE, stretch.begin + span - JUST_BEFORE)
    )
    if fires[-1] < stretch.begin:
        return _ChangeEffect("first_pass", fires, f"{told}; it fires the first time only")
    return _ChangeEffect(
        "both_passes",
        fires,
        f"{told}; it fires both times, as {_explain_effect(schedule, 'dst_repeat is twice')}",
    )


def _explain_effect(schedule: Schedule, policy: str) -> str:
    return "its minute or hour begins with *" if Expression.read(schedule.expression).wildcard else policy


def _list_times(times: tuple[datetime, ...]) -> str:
    if len(times) > _MOST_LISTED:
        return (
            f"{len(times)} times from {_format_reading(times[0], times[0].date())} through "
            f"{_format_reading(times[-1], times[0].date())}"
        )
    return join_words([_format_reading(each, times[0].date()) for each in times])


def _format_reading(reading: datetime, on: date | None = None) -> str:
    """Return a reading for people, without its date when the date is ``on``."""
    text = reading.isoformat(" ", "seconds" if reading.second else "minutes")
    return text[11:] if reading.date() == on else text
