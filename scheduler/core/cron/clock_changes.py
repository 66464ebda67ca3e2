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
from typing import Final, Literal

from scheduler.core.cron import zones
from scheduler.core.cron.description import join_words
from scheduler.core.cron.expression import Expression
from scheduler.core.cron.local_time import DAY, END, FIRST, OffsetPeriod, iterate_offset_periods
from scheduler.core.cron.schedule import Schedule
from scheduler.core.instants import JUST_BEFORE

Effect = Literal["untouched", "made_up", "not_fired", "first_pass", "both_passes"]

THIRTEEN_MONTHS: Final = timedelta(days=397)
"""How far ahead clock changes are shown to people: far enough for every yearly change."""
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
    first = max(after.astimezone(UTC).date(), FIRST.date())
    last = min(until.astimezone(UTC).date(), (END - DAY).date())
    for before, period in _find_offset_changes(zone, first, last):
        if after < period.begin <= until:
            yield _describe_change(schedule, zone, before, period)


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


_ChangeEffect = tuple[Effect, tuple[datetime, ...], str]
"""The effect of a clock change on skipped or repeated times, with its fires and a sentence."""
_UNTOUCHED: Final[_ChangeEffect] = ("untouched", (), "nothing of this schedule is touched")


def _describe_change(
    schedule: Schedule, zone: tzinfo, before: OffsetPeriod, period: OffsetPeriod
) -> ClockChange:
    # the reading without the change, and the reading with the change
    old, new = before.local_end, period.local_begin
    begin, end = sorted((old, new))
    times = _find_named_times(schedule, begin, end)
    if not times:
        effect, fires, sentence = _UNTOUCHED
    elif new > old:
        effect, fires, sentence = _describe_skip(schedule, zone, period, times)
    else:
        effect, fires, sentence = _describe_repeat(schedule, period, end - begin, times)
    change = f"the clock goes {'ahead' if new > old else 'back'} to {_format_reading(new, old.date())}"
    words = f"{_format_reading(old)} {change}: {sentence}"
    return ClockChange(period.begin, before.offset, period.offset, begin, end, times, fires, effect, words)


def _find_named_times(schedule: Schedule, begin: datetime, end: datetime) -> tuple[datetime, ...]:
    """Return the readings that the schedule names, from ``begin`` up to ``end`` (exclusive).

    The readings are the fires of the same expression in a zone without clock changes.
    """
    level = Schedule.parse(schedule.expression, "UTC")
    after, until = (reading.replace(tzinfo=UTC) - JUST_BEFORE for reading in (begin, end))
    return tuple(instant.replace(tzinfo=None) for instant in level.iterate_between(after, until))


def _describe_skip(
    schedule: Schedule, zone: tzinfo, period: OffsetPeriod, times: tuple[datetime, ...]
) -> _ChangeEffect:
    one = len(times) == 1
    sentence = f"{_list_times(times)} {'does' if one else 'do'} not exist"
    fire = schedule.find_next(period.begin - JUST_BEFORE)
    if fire is None or schedule.find_note(fire) != "after_gap":
        none = "it does not fire" if one else "it fires for none of them"
        why = _explain_effect(schedule, "dst_gap is skip")
        return "not_fired", (), f"{sentence}; {none}, as {why}"
    reading = fire.astimezone(zone).replace(tzinfo=None)
    shown = _format_reading(reading, times[-1].date())
    if _find_named_times(schedule, reading, reading + JUST_BEFORE):
        ending = f"the fire at {shown} stands for {'it' if one else 'them'} too"
    else:
        ending = f"it fires {'' if one else 'once '}at {shown} instead"
    return "made_up", (fire,), f"{sentence}; {ending}"


def _describe_repeat(
    schedule: Schedule, period: OffsetPeriod, span: timedelta, times: tuple[datetime, ...]
) -> _ChangeEffect:
    sentence = f"{_list_times(times)} {'comes' if len(times) == 1 else 'come'} twice"
    change = period.begin - JUST_BEFORE
    fires = tuple(schedule.iterate_between(change - span, change + span))
    if fires[-1] < period.begin:
        return "first_pass", fires, f"{sentence}; it fires the first time only"
    why = _explain_effect(schedule, "dst_repeat is twice")
    return "both_passes", fires, f"{sentence}; it fires both times, as {why}"


def _explain_effect(schedule: Schedule, policy: str) -> str:
    return "its minute or hour begins with *" if Expression.read(schedule.expression).wildcard else policy


def _list_times(times: tuple[datetime, ...]) -> str:
    if len(times) > _MOST_LISTED:
        first, last = (_format_reading(time, times[0].date()) for time in (times[0], times[-1]))
        return f"{len(times)} times from {first} through {last}"
    return join_words([_format_reading(time, times[0].date()) for time in times])


def _format_reading(reading: datetime, on: date | None = None) -> str:
    """Return a reading for people, without its date when the date is ``on``."""
    text = reading.isoformat(" ", "seconds" if reading.second else "minutes")
    return text[11:] if reading.date() == on else text
