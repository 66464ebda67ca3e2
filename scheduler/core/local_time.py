"""What the clock on a zone's wall shows: time cut into stretches, each with one offset from UTC.

Where one stretch ends and the next begins the clock jumps: ahead, and readings are skipped; back, and readings are shown
again. zoneinfo does not say when that happens, only the offset at an instant, so the change is searched for between two instants
with different offsets. That takes for granted that no zone changes its clock twice within a day; in all zone data so far almost four
days lie between any two changes.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, NamedTuple

DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_MIDNIGHT: Final = time()


class OffsetPeriod(NamedTuple):
    """From ``begin`` up to ``end`` (UTC) the wall clock is ``offset`` ahead of UTC.

    ``shown`` is how far the clock had come before: the reading (naive) up to which everything had been shown or skipped. It equals
    the first reading when nothing happened; is earlier when the readings between were skipped; is later when those before it are repeated.
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
        """The reading (naive) that the clock would show at the end; it is not shown any more."""
        return self.to_local(self.end)

    def to_local(self, instant: datetime) -> datetime:
        """What the clock shows (naive) at an instant of this stretch."""
        return instant.replace(tzinfo=None) + self.offset


def iterate_offset_periods(zone: tzinfo, day: date) -> Iterator[OffsetPeriod]:
    """The stretches of one UTC day. A clock that is put back by up to a day is remembered from the day before."""
    midnight = datetime.combine(day, _MIDNIGHT, UTC)
    shown = datetime.min  # noqa: DTZ901  (a reading of a wall clock has no zone)
    for begin, end, offset in (*_split_day(zone, midnight - DAY), *_split_day(zone, midnight)):
        stretch = OffsetPeriod(begin, end, offset, shown)
        if begin >= midnight:
            yield stretch
        shown = max(shown, stretch.local_end)


def _split_day(zone: tzinfo, begin: datetime) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """One day of UTC from ``begin``, cut where the offset changes."""
    end = begin + DAY
    before, after = _find_offset(zone, begin), _find_offset(zone, end)
    change = end if before == after else _find_change(zone, begin, end)
    yield begin, change, before
    if change < end:
        yield change, end, after


def _find_change(zone: tzinfo, begin: datetime, end: datetime) -> datetime:
    """The first instant with the offset of ``end``; clocks change at whole seconds."""
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
    assert offset is not None  # every zone of zoneinfo has one
    return offset
