"""Schedules: an expression in a zone, and the instants at which the schedule fires.

The rules at clock changes are the rules of Debian's cron 3.0pl1. Two of these rules are policies:

- A schedule whose minute or hour begins with ``*`` is *wildcard*: it follows the wall clock. It fires at
  every real minute whose reading matches. It does not fire for skipped readings, and fires twice for repeated
  readings.
- Any other schedule has *fixed times*. A skipped time fires at the first minute after the gap (``dst_gap`` is
  ``after``) or not at all (``skip``). A repeated time fires in the first pass (``dst_repeat`` is ``once``) or
  in both passes (``twice``).
- Month and days are tested on the scheduled local date, also when the fire moves past midnight. Two fires at
  one instant are one fire. The size of the clock change does not matter.

croniter says which local dates and minutes match (`scheduler.core.cron.expression`). The zone data say when
the wall clock shows these dates and minutes (`scheduler.core.cron.local_time`). Schedules have no state
except bounded memos, so a process may hold any number of schedules and use them from any thread.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from importlib import metadata
from itertools import takewhile
from typing import Final, Literal, NamedTuple

from scheduler.core.cron import zones
from scheduler.core.cron.expression import BadExpression, Expression, strip_expression
from scheduler.core.cron.local_time import DAY, END, FIRST, OffsetPeriod, iterate_offset_periods
from scheduler.core.cron.ranges import RULES_VERSION
from scheduler.core.errors import SchedulerError
from scheduler.core.instants import JUST_BEFORE, to_utc

GapPolicy = Literal["after", "skip"]
RepeatPolicy = Literal["once", "twice"]
FireNote = Literal["after_gap", "first_pass", "second_pass"]


_MINUTE: Final = timedelta(minutes=1)
_MINUTES: Final = tuple(timedelta(minutes=minute) for minute in range(24 * 60))
_LOOK_BACK_SPANS: Final = tuple(timedelta(days=days) for days in (1 / 24, 1, 8, 64, 512, 4096, 50 * 365.25))


class InvalidSchedule(SchedulerError, ValueError):
    """The expression or the zone is not valid.

    ``reason`` gives the defect, its cause and the remedy.
    """

    def __init__(self, expression: object, timezone: object, reason: str) -> None:
        super().__init__(reason)
        self.expression = expression
        self.timezone = timezone
        self.reason = reason


class EvaluatorVersions(NamedTuple):
    """The versions of code and data on which an evaluation depends.

    These are croniter's version, the release of the zone data, and the source of the copy in use.
    """

    croniter: str
    tzdata: str
    source: zones.Source


@dataclass(frozen=True, slots=True)
class Schedule:
    """An expression in a zone, with the policies for clock changes, made by `parse`.

    Schedules are equal when the five public fields are equal. All instants are aware, and results are in UTC.
    A naive instant raises ValueError. The zone is looked up anew for each question, so newer zone data count.
    Newer data without the zone raise ZoneInfoNotFoundError.
    """

    expression: str
    timezone: str
    dst_gap: GapPolicy
    dst_repeat: RepeatPolicy
    rules_version: int
    _parsed_expression: Expression = field(compare=False, repr=False)

    @classmethod
    def parse(
        cls,
        expression: object,
        timezone: object,
        *,
        dst_gap: GapPolicy = "after",
        dst_repeat: RepeatPolicy = "once",
        rules_version: int = RULES_VERSION,
    ) -> "Schedule":
        """Return the schedule of an expression and a zone name. Raise InvalidSchedule.

        Equal schedules may be the same object. ``rules_version`` selects the rules that read the expression.
        Rules other than the current rules are for `audit`.
        """
        try:
            text, zone = strip_expression(expression), zones.check_zone_name(timezone)
            return _make_schedule(text, zone, dst_gap, dst_repeat, rules_version)
        except (BadExpression, zones.BadZone) as error:
            reason = _describe_errors(expression, timezone, rules_version)
            raise InvalidSchedule(expression, timezone, reason) from error

    def find_next(self, after: datetime) -> datetime | None:
        """Return the first instant strictly later than ``after``.

        Return None when the calendar ends (at the end of the year 9999) before the schedule fires again.
        """
        return next(self._iterate_fires(to_utc(after)), None)

    def iterate_between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Return an iterator of the instants later than ``after`` and not later than ``until``.

        The instants strictly increase. Each instant is computed on request.
        """
        end = to_utc(until)
        return takewhile(lambda instant: instant <= end, self._iterate_fires(to_utc(after)))

    def count(self, after: datetime, until: datetime) -> int:
        """Return the number of instants later than ``after`` and not later than ``until``, without a list.

        A UTC day around which the zone keeps its offset is counted from the values of the fields. Only the
        two ends and the days near a clock change are evaluated. The cost therefore grows with the days, not
        with the instants.
        """
        begin, end = max(to_utc(after), FIRST), min(to_utc(until), END)
        # an instant at ``begin`` itself does not count
        first, last = _find_midnight_after(begin + JUST_BEFORE), _find_midnight_after(end) - DAY
        if begin >= end or first >= last:
            return self._count_instants(begin, end)
        ends = self._count_instants(begin, first - JUST_BEFORE) + self._count_instants(
            last - JUST_BEFORE, end
        )
        return ends + self._count_days(first, last)

    def _count_instants(self, after: datetime, until: datetime) -> int:
        return sum(1 for _ in self.iterate_between(after, until))

    def _count_days(self, first: datetime, last: datetime) -> int:
        """Return the number of instants from one midnight in UTC up to but not including a later midnight."""
        zone = zones.load_zone(self.timezone)
        total, midnight = 0, first
        offsets = [(first + days * DAY).astimezone(zone).utcoffset() for days in (-1, 0, 1)]
        while midnight < last:
            if offsets[0] == offsets[1] == offsets[2] and offsets[1] is not None:
                total += self._count_plain_day(midnight.replace(tzinfo=None) + offsets[1])
            else:
                total += self._count_instants(midnight - JUST_BEFORE, midnight + DAY - JUST_BEFORE)
            midnight += DAY
            offsets = [*offsets[1:], (midnight + DAY).astimezone(zone).utcoffset()]
        return total

    def _count_plain_day(self, reading: datetime) -> int:
        """Return the number of matching readings in the 24 hours from ``reading`` on.

        The clock does not change in these hours.
        """
        begin, read = reading - datetime.combine(reading, time.min), self._parsed_expression
        passed = _count_minutes_before(read.minutes, read.hours, _to_minutes(begin))
        total = 0
        if read.find_day(reading.date()) == reading.date():
            total += len(read.minutes) * len(read.hours) - passed
        if passed and read.find_day(reading.date() + DAY) == reading.date() + DAY:
            total += passed
        return total

    def find_previous(self, before: datetime) -> datetime | None:
        """Return the last instant strictly earlier than ``before``.

        Return None when the fifty years before hold no instant. The search looks back in growing steps until
        a fire is found, and then halves the span from this fire. The search uses `find_next` alone, so the
        rules for fires are in one place only.
        """
        end = to_utc(before)
        begin, until = self._find_fire_near(end), end
        while begin is not None and until - begin > DAY:
            middle = begin + (until - begin) / 2
            fire = self.find_next(middle)
            begin, until = (fire, until) if fire is not None and fire < end else (begin, middle)
        return begin and next(iter(deque(self.iterate_between(begin, end - JUST_BEFORE), maxlen=1)), begin)

    def is_fire_time(self, instant: datetime) -> bool:
        """Return whether the schedule fires at exactly this instant."""
        return self.find_next(to_utc(instant) - JUST_BEFORE) == instant

    def find_note(self, instant: datetime) -> FireNote | None:
        """Return the note on the fire at this instant, or None for an ordinary fire or no fire.

        ``after_gap``: the fire replaces skipped times. ``first_pass``, ``second_pass``: the wall clock shows
        this time twice.
        """
        if not self.is_fire_time(instant):
            return None
        utc = to_utc(instant)
        zone = zones.load_zone(self.timezone)
        periods = iterate_offset_periods(zone, utc.date())
        if any(self._has_skipped_times(period) and _find_first_minute(period) == utc for period in periods):
            return "after_gap"
        local = utc.astimezone(zone)
        if local.utcoffset() == local.replace(fold=1 - local.fold).utcoffset():
            return None
        return "second_pass" if local.fold else "first_pass"

    def _find_fire_near(self, end: datetime) -> datetime | None:
        """Return a fire shortly before ``end``, where the search begins; None when fifty years hold none."""
        for span in _LOOK_BACK_SPANS:
            fire = self.find_next(end - span if end - FIRST > span else FIRST)
            if fire is not None and fire < end:
                return fire
        return None

    def _iterate_fires(self, after: datetime) -> Iterator[datetime]:
        latest = max(after, FIRST)
        zone = zones.load_zone(self.timezone)
        for day in self._iterate_days(latest.date()):
            for period in iterate_offset_periods(zone, day):
                for instant in self._iterate_fires_in(period, latest):
                    if instant > latest:
                        yield instant
                        latest = instant

    def _iterate_days(self, day: date) -> Iterator[date]:
        """Yield the UTC days, from ``day`` on, in which a matching local date may be shown or skipped.

        Local time is less than a day ahead or behind.
        """
        while (match := self._parsed_expression.find_day(day - DAY)) is not None:
            day = max(day, match - DAY)
            if day >= END.date():
                return
            yield day
            day += DAY

    def _iterate_fires_in(self, period: OffsetPeriod, after: datetime) -> Iterator[datetime]:
        """Yield the instants of an offset period in order. Instants up to ``after`` may be left out."""
        if self._has_skipped_times(period):
            yield _find_first_minute(period)
        begin = max(period.local_begin, period.to_local(after))
        if not self._parsed_expression.wildcard and self.dst_repeat == "once":
            begin = max(begin, period.shown_until)
        yield from self._iterate_instants(period.offset, begin, period.local_end)

    def _has_skipped_times(self, period: OffsetPeriod) -> bool:
        """Return whether fixed times were skipped just before this offset period."""
        if self._parsed_expression.wildcard or self.dst_gap == "skip":
            return False
        skipped = self._iterate_instants(period.offset, period.shown_until, period.local_begin)
        return period.shown_until < period.local_begin and any(True for _ in skipped)

    def _iterate_instants(self, offset: timedelta, begin: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the instants of matching readings from ``begin`` up to ``end`` (exclusive), at one offset."""
        day = self._parsed_expression.find_day(begin.date())
        while day is not None and (midnight := datetime.combine(day, time.min)) < end:
            origin = midnight.replace(tzinfo=UTC) - offset
            for minute in self._parsed_expression.iterate_minutes(
                _to_minutes(begin - midnight), _to_minutes(end - midnight)
            ):
                yield origin + _MINUTES[minute]
            day = self._parsed_expression.find_day(day + DAY)


def _describe_errors(expression: object, timezone: object, rules_version: int) -> str:
    """Return the error of the expression, the error of the zone, or both."""
    errors: list[str] = []
    try:
        Expression.read(strip_expression(expression), rules_version)
    except BadExpression as error:
        errors.append(str(error))
    try:
        zones.check_zone_name(timezone)
    except zones.BadZone as error:
        errors.append(str(error))
    return ". Also: ".join(errors)


def read_versions() -> EvaluatorVersions:
    """Return the versions in use by this process now."""
    data = zones.load_zone_data()
    return EvaluatorVersions(_read_croniter_version(), data.version, data.source)


@lru_cache(maxsize=16384)
def _make_schedule(
    expression: str, timezone: str, dst_gap: GapPolicy, dst_repeat: RepeatPolicy, rules_version: int
) -> Schedule:
    """Make a schedule, shared by the many automations with the same expression, zone and policies."""
    return Schedule(
        expression, timezone, dst_gap, dst_repeat, rules_version, Expression.read(expression, rules_version)
    )


@cache
def _read_croniter_version() -> str:
    return metadata.version("croniter")


def _find_first_minute(period: OffsetPeriod) -> datetime:
    """Return the first instant of an offset period whose reading is a whole minute."""
    return period.begin + -(period.local_begin - datetime.combine(period.local_begin, time.min)) % _MINUTE


def _find_midnight_after(instant: datetime) -> datetime:
    """Return the first midnight in UTC at or after the instant."""
    midnight = datetime.combine(instant, time.min, UTC)
    return midnight if midnight == instant else midnight + DAY


@lru_cache(maxsize=4096)
def _count_minutes_before(minutes: tuple[int, ...], hours: tuple[int, ...], end: int) -> int:
    """Return the number of a day's matching minutes before the minute ``end``, counted from midnight."""
    return sum(hour * 60 + minute < end for hour in hours for minute in minutes)


def _to_minutes(span: timedelta) -> int:
    """Return a span in minutes, rounded up."""
    return -(-span // _MINUTE)
