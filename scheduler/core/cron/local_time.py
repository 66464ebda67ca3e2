"""The wall clock of a zone: time cut into offset periods, each with one offset from UTC.

The wall clock jumps between two offset periods. When the clock goes ahead, readings are skipped. When the
clock goes back, readings are shown again. zoneinfo gives only the offset at an instant, not the instant of a
change. The change is therefore searched for between two instants with different offsets. The search assumes
at most one clock change per day in a zone. In all zone data so far, almost four days lie between any two
changes.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, NamedTuple

DAY: Final = timedelta(days=1)
# a few days of room, since local time is up to a day ahead or behind
FIRST: Final = datetime(1, 1, 4, tzinfo=UTC)
END: Final = datetime(9999, 12, 29, tzinfo=UTC)  # later than every fire
_SECOND: Final = timedelta(seconds=1)


class OffsetPeriod(NamedTuple):
    """A period from ``begin`` up to ``end`` (UTC) in which the wall clock is ``offset`` ahead of UTC.

    ``shown_until`` is the reading (naive) up to which all readings had been shown or skipped before the
    period. ``shown_until`` equals the first reading of the period when the clock did not change. An earlier
    ``shown_until`` means skipped readings in between. A later ``shown_until`` means repeated readings before
    it.
    """

    begin: datetime
    end: datetime
    offset: timedelta
    shown_until: datetime

    @property
    def local_begin(self) -> datetime:
        """The reading (naive) at the beginning."""
        return self.to_local(self.begin)

    @property
    def local_end(self) -> datetime:
        """The reading (naive) of this clock at the end. The period itself does not show this reading."""
        return self.to_local(self.end)

    def to_local(self, instant: datetime) -> datetime:
        """Return the reading (naive) of the wall clock at an instant of this period."""
        return instant.replace(tzinfo=None) + self.offset


def iterate_offset_periods(zone: tzinfo, day: date) -> Iterator[OffsetPeriod]:
    """Yield the offset periods of one UTC day.

    A clock put back by up to a day is remembered from the day before.
    """
    midnight = datetime.combine(day, time.min, UTC)
    shown = datetime.min  # noqa: DTZ901  (a reading of a wall clock has no zone)
    for begin, end, offset in (*_split_day(zone, midnight - DAY), *_split_day(zone, midnight)):
        period = OffsetPeriod(begin, end, offset, shown)
        if begin >= midnight:
            yield period
        shown = max(shown, period.local_end)


def _split_day(zone: tzinfo, begin: datetime) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """Yield the parts of one UTC day from ``begin``, cut where the offset changes: begin, end and offset."""
    end = begin + DAY
    before, after = _find_offset(zone, begin), _find_offset(zone, end)
    change = end if before == after else _find_change(zone, begin, end)
    yield begin, change, before
    if change < end:
        yield change, end, after


def _find_change(zone: tzinfo, begin: datetime, end: datetime) -> datetime:
    """Return the first instant with the offset of ``end``. Clocks change at whole seconds."""
    later = _find_offset(zone, end)
    while end - begin > _SECOND:
        middle = begin + (end - begin) // 2 // _SECOND * _SECOND
        if _find_offset(zone, middle) == later:
            end = middle
        else:
            begin = middle
    return end


def _find_offset(zone: tzinfo, instant: datetime) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None  # every zone of zoneinfo has an offset
    return offset
