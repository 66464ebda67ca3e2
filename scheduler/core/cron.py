"""Schedules: an expression in a zone, and the instants at which it fires.

The rules are those of Debian's cron 3.0pl1 at clock changes, with two of them as policies:

- A schedule whose minute or hour begins with ``*`` is *wildcard*: it follows the clock on the wall. It fires at every real
  minute whose reading matches: not at all for readings that are skipped, twice for those that are shown twice.
- Any other has *fixed times*. One that is skipped fires at the first minute after the gap (``dst_gap`` is ``after``) or not at
  all (``skip``); one that is shown twice fires in the first pass (``dst_repeat`` is ``once``) or in both (``twice``).
- Month and days are those of the scheduled local date, also when the fire moves past midnight. Two fires at one instant are
  one. No shift of the clock is too large to be made up.

croniter says which local dates and minutes match (`scheduler.core.expression`), the zone data say when the wall clock shows them
(`scheduler.core.wallclock`). Nothing is kept between two questions but bounded memos, so any number of schedules may be
held, and asked from any thread.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from importlib import metadata
from itertools import takewhile
from typing import Final, Literal, NamedTuple

from scheduler.core import zones
from scheduler.core.errors import SchedulerError
from scheduler.core.expression import BadExpression, Expression, text_of
from scheduler.core.ranges import RULES_VERSION
from scheduler.core.wallclock import DAY, Stretch, stretches

Gap = Literal["after", "skip"]
Repeat = Literal["once", "twice"]
Note = Literal["after_gap", "first_pass", "second_pass"]


_JUST_BEFORE: Final = timedelta(microseconds=1)
_MINUTE: Final = timedelta(minutes=1)
_MINUTES: Final = tuple(timedelta(minutes=minute) for minute in range(24 * 60))
_MIDNIGHT: Final = time()
_BACK: Final = tuple(timedelta(days=days) for days in (1 / 24, 1, 8, 64, 512, 4096, 50 * 365.25))
_FIRST: Final = datetime(1, 1, 4, tzinfo=UTC)  # a few days of room, since local time is up to a day ahead or behind
_LAST: Final = date(9999, 12, 28)
_END: Final = datetime(9999, 12, 29, tzinfo=UTC)  # later than every instant that is found


class InvalidSchedule(SchedulerError, ValueError):
    """This expression in this zone is no schedule. ``reason`` says what is wrong, why, and what to do."""

    def __init__(self, expression: object, timezone: object, reason: str) -> None:
        super().__init__(reason)
        self.expression = expression
        self.timezone = timezone
        self.reason = reason


class Versions(NamedTuple):
    """What an evaluation depends on beside the schedule: croniter's version, the zone data's release, and whose copy of it is used."""

    croniter: str
    tzdata: str
    source: zones.Source


@dataclass(frozen=True, slots=True)
class Schedule:
    """An expression in a zone, with the policies for clock changes; made by `parse`. Equal when these five are equal.

    All instants are aware and come back in UTC; a naive one raises ValueError. The zone is looked up anew for each question, so that
    newer zone data count; data that lack the zone by then raise ZoneInfoNotFoundError.
    """

    expression: str
    timezone: str
    dst_gap: Gap
    dst_repeat: Repeat
    rules_version: int
    _read: Expression = field(compare=False, repr=False)

    @classmethod
    def parse(
        cls,
        expression: object,
        timezone: object,
        *,
        dst_gap: Gap = "after",
        dst_repeat: Repeat = "once",
        rules_version: int = RULES_VERSION,
    ) -> "Schedule":
        """The schedule of these two texts. Equal ones may come back as the same object. Raises InvalidSchedule.

        ``rules_version``: the rules that read the expression; others than those of now are for `audit`.
        """
        try:
            return _schedule(text_of(expression), zones.name_of(timezone), dst_gap, dst_repeat, rules_version)
        except (BadExpression, zones.BadZone) as error:
            raise InvalidSchedule(expression, timezone, _describe_errors(expression, timezone, rules_version)) from error

    def next(self, after: datetime) -> datetime | None:
        """The first instant strictly later than ``after``; None when the calendar ends (at the end of the year 9999) before it comes."""
        return next(self._fires(_utc(after)), None)

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The instants later than ``after`` and not later than ``until``, strictly increasing, each found when it is asked for."""
        end = _utc(until)
        return takewhile(lambda instant: instant <= end, self._fires(_utc(after)))

    def count(self, after: datetime, until: datetime) -> int:
        """Return how many instants lie later than ``after`` and not later than ``until``, without listing them.

        A UTC day around which the zone keeps its offset is counted from the values of the fields; only the two ends and the days near
        a clock change are evaluated. So the cost grows with the days, not with the instants.
        """
        begin, end = max(_utc(after), _FIRST), min(_utc(until), _END)
        first, last = _midnight_after(begin + _JUST_BEFORE), _midnight_after(end) - DAY  # what is at ``begin`` itself does not count
        if begin >= end or first >= last:
            return sum(1 for _ in self.between(begin, end))
        ends = sum(1 for _ in self.between(begin, first - _JUST_BEFORE)) + sum(1 for _ in self.between(last - _JUST_BEFORE, end))
        return ends + self._count_days(first, last)

    def _count_days(self, first: datetime, last: datetime) -> int:
        """The number of instants from one midnight in UTC up to but not including a later one."""
        zone = zones.zone(self.timezone)
        total, midnight = 0, first
        offsets = [(first + days * DAY).astimezone(zone).utcoffset() for days in (-1, 0, 1)]
        while midnight < last:
            if offsets[0] == offsets[1] == offsets[2] and offsets[1] is not None:
                total += self._count_plain_day(midnight.replace(tzinfo=None) + offsets[1])
            else:
                total += sum(1 for _ in self.between(midnight - _JUST_BEFORE, midnight + DAY - _JUST_BEFORE))
            midnight += DAY
            offsets = [*offsets[1:], (midnight + DAY).astimezone(zone).utcoffset()]
        return total

    def _count_plain_day(self, reading: datetime) -> int:
        """The number of matching readings in the 24 hours from this reading on, between which the clock does not change."""
        begin, read = reading - datetime.combine(reading, _MIDNIGHT), self._read
        passed = _matching_minutes(read.minutes, read.hours, _minutes(begin))
        total = 0
        if read.day_from(reading.date()) == reading.date():
            total += len(read.minutes) * len(read.hours) - passed
        if passed and read.day_from(reading.date() + DAY) == reading.date() + DAY:
            total += passed
        return total

    def previous(self, before: datetime) -> datetime | None:
        """The last instant strictly earlier than ``before``; None when the fifty years before it hold none.

        Looks back in growing steps until something fires, then halves the span from there, asking `next` alone: so that
        there is only one account of when a schedule fires.
        """
        end = _utc(before)
        begin, until = self._fire_near(end), end
        while begin is not None and until - begin > DAY:
            middle = begin + (until - begin) / 2
            fire = self.next(middle)
            begin, until = (fire, until) if fire is not None and fire < end else (begin, middle)
        return begin and next(iter(deque(self.between(begin, end - _JUST_BEFORE), maxlen=1)), begin)

    def fires_at(self, instant: datetime) -> bool:
        """Whether it fires at exactly this instant."""
        return self.next(_utc(instant) - _JUST_BEFORE) == instant

    def note(self, instant: datetime) -> Note | None:
        """What is special about the fire at this instant; None when nothing is, or when there is no fire.

        ``after_gap``: it makes up for times that were skipped. ``first_pass``, ``second_pass``: the wall clock shows this time twice.
        """
        if not self.fires_at(instant):
            return None
        utc = _utc(instant)
        zone = zones.zone(self.timezone)
        if any(self._makes_up(stretch) and _first_minute(stretch) == utc for stretch in stretches(zone, utc.date())):
            return "after_gap"
        local = utc.astimezone(zone)
        if local.utcoffset() == local.replace(fold=1 - local.fold).utcoffset():
            return None
        return "second_pass" if local.fold else "first_pass"

    def _fire_near(self, end: datetime) -> datetime | None:
        """One of the last fires before ``end``."""
        for span in _BACK:
            fire = self.next(end - span if end - _FIRST > span else _FIRST)
            if fire is not None and fire < end:
                return fire
        return None

    def _fires(self, after: datetime) -> Iterator[datetime]:
        latest = max(after, _FIRST)
        zone = zones.zone(self.timezone)
        for day in self._days(latest.date()):
            for stretch in stretches(zone, day):
                for instant in self._fires_in(stretch, latest):
                    if instant > latest:
                        yield instant
                        latest = instant

    def _days(self, day: date) -> Iterator[date]:
        """The UTC days, from this one on, in which a matching local date may be shown or skipped: local time is less than a day off."""
        while (match := self._read.day_from(day - DAY)) is not None:
            day = max(day, match - DAY)
            if day > _LAST:
                return
            yield day
            day += DAY

    def _fires_in(self, stretch: Stretch, after: datetime) -> Iterator[datetime]:
        """In order; those up to ``after`` may be left out."""
        if self._makes_up(stretch):
            yield _first_minute(stretch)
        begin = max(stretch.first, stretch.reading(after))
        if not self._read.wildcard and self.dst_repeat == "once":
            begin = max(begin, stretch.shown)
        yield from self._placed(stretch.offset, begin, stretch.last)

    def _makes_up(self, stretch: Stretch) -> bool:
        """Whether fixed times were skipped just before this stretch."""
        if self._read.wildcard or self.dst_gap == "skip" or stretch.shown >= stretch.first:
            return False
        return any(True for _ in self._placed(stretch.offset, stretch.shown, stretch.first))

    def _placed(self, offset: timedelta, begin: datetime, end: datetime) -> Iterator[datetime]:
        """The instants of the matching readings from ``begin`` up to but not including ``end``, at one offset."""
        day = self._read.day_from(begin.date())
        while day is not None and (midnight := datetime.combine(day, _MIDNIGHT)) < end:
            origin = midnight.replace(tzinfo=UTC) - offset
            for minute in self._read.minutes_between(_minutes(begin - midnight), _minutes(end - midnight)):
                yield origin + _MINUTES[minute]
            day = self._read.day_from(day + DAY)


def _describe_errors(expression: object, timezone: object, rules_version: int) -> str:
    """Return the error of the expression, the error of the zone, or both."""
    errors: list[str] = []
    try:
        Expression.read(text_of(expression), rules_version)
    except BadExpression as error:
        errors.append(str(error))
    try:
        zones.name_of(timezone)
    except zones.BadZone as error:
        errors.append(str(error))
    return ". Also: ".join(errors)


def versions() -> Versions:
    """What evaluates schedules in this process now."""
    data = zones.current()
    return Versions(_croniter_version(), data.version, data.source)


@lru_cache(maxsize=16384)
def _schedule(expression: str, timezone: str, dst_gap: Gap, dst_repeat: Repeat, rules_version: int) -> Schedule:
    """Shared by the many automations with the same schedule."""
    return Schedule(expression, timezone, dst_gap, dst_repeat, rules_version, Expression.read(expression, rules_version))


@cache
def _croniter_version() -> str:
    return metadata.version("croniter")


def _first_minute(stretch: Stretch) -> datetime:
    """The first instant of a stretch at which its reading is a whole minute."""
    return stretch.begin + -(stretch.first - datetime.combine(stretch.first, _MIDNIGHT)) % _MINUTE


def _midnight_after(instant: datetime) -> datetime:
    """The first midnight in UTC that is not earlier than the instant."""
    midnight = datetime.combine(instant, _MIDNIGHT, UTC)
    return midnight if midnight == instant else midnight + DAY


@lru_cache(maxsize=4096)
def _matching_minutes(minutes: tuple[int, ...], hours: tuple[int, ...], end: int) -> int:
    """How many of a day's matching minutes come before the minute ``end``, counted from midnight."""
    return sum(hour * 60 + minute < end for hour in hours for minute in minutes)


def _minutes(span: timedelta) -> int:
    """In minutes, rounded up."""
    return -(-span // _MINUTE)


def _utc(instant: datetime) -> datetime:
    """In UTC itself, not only in a zone that is level with it now: adding to it must not follow a wall clock."""
    if instant.utcoffset() is None:
        raise ValueError(f"the instant {instant!r} has no zone; instants are UTC throughout")
    return instant.astimezone(UTC)
