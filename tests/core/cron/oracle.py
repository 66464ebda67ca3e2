"""A second account of when a schedule fires: slow, minute by minute, straight from the rules, and without a
line of the product's.

It draws its expressions from values instead of parsing them, so that it cannot misread one in the same way as
croniter or the product.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache

from hypothesis import assume
from hypothesis import strategies as st

from scheduler.core.cron.schedule import GapPolicy, InvalidSchedule, RepeatPolicy, Schedule
from scheduler.core.cron.zones import load_zone

EXAMPLES = int(os.environ.get("CRON_EXAMPLES", "100"))  # more of them: a longer search

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

ZONES = (
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Chatham",
)


@dataclass(frozen=True)
class Field:
    """A field as text, and the values that it was written from."""

    text: str
    values: frozenset[int]


@dataclass(frozen=True)
class Rule:
    """An expression as text, and what it means."""

    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    @property
    def text(self) -> str:
        return " ".join(field.text for field in (self.minute, self.hour, self.day, self.month, self.weekday))

    @property
    def wildcard(self) -> bool:
        return "*" in (self.minute.text[0], self.hour.text[0])

    def on(self, day: date) -> bool:
        in_month, in_week = day.day in self.day.values, day.isoweekday() % 7 in self.weekday.values
        both = "*" in (self.day.text[0], self.weekday.text[0])
        return day.month in self.month.values and (in_month and in_week if both else in_month or in_week)

    def at(self, reading: datetime) -> bool:
        return (
            reading.minute in self.minute.values
            and reading.hour in self.hour.values
            and self.on(reading.date())
        )


def fires(
    rule: Rule, zone_name: str, after: datetime, until: datetime, *, gap: GapPolicy, repeat: RepeatPolicy
) -> list[datetime]:
    """Every instant in (after, until] at which the rule fires."""
    where = load_zone(zone_name)
    found = (
        _wildcard(rule, where, after, until)
        if rule.wildcard
        else _fixed(rule, where, (after, until), gap, repeat)
    )
    return sorted({instant for instant in found if after < instant <= until})


def _wildcard(rule: Rule, where: tzinfo, after: datetime, until: datetime) -> Iterator[datetime]:
    instant = after.replace(second=0, microsecond=0)
    while instant <= until:
        if rule.at(instant.astimezone(where)):
            yield instant
        instant += MINUTE


def _fixed(
    rule: Rule, where: tzinfo, span: tuple[datetime, datetime], gap: GapPolicy, repeat: RepeatPolicy
) -> Iterator[datetime]:
    reading = span[0].replace(tzinfo=None, second=0, microsecond=0) - 2 * DAY
    while reading <= span[1].replace(tzinfo=None) + 2 * DAY:
        if rule.at(reading):
            real = sorted(_real(reading, where))
            if real:
                yield from real if repeat == "twice" else real[:1]
            elif gap == "after":
                yield _after_gap(reading, where)
        reading += MINUTE


def _real(reading: datetime, where: tzinfo) -> set[datetime]:
    """The instants at which the clock on the wall shows this: none, one or two."""
    instants = (reading.replace(tzinfo=where, fold=fold).astimezone(UTC) for fold in (0, 1))
    return {
        instant for instant in instants if instant.astimezone(where).replace(tzinfo=None, fold=0) == reading
    }


def _after_gap(reading: datetime, where: tzinfo) -> datetime:
    """The first minute at which the clock on the wall shows something later."""
    instant = reading.replace(tzinfo=UTC) - 26 * HOUR
    while instant.astimezone(where).replace(tzinfo=None) < reading:
        instant += MINUTE
    return instant


@cache
def changes(zone_name: str, year: int) -> tuple[datetime, ...]:
    """The instants of this year at which the zone's offset changes, found hour by hour and then minute by
    minute.
    """
    where = load_zone(zone_name)
    instants = [datetime(year, 1, 1, tzinfo=UTC) + hours * HOUR for hours in range(365 * 24)]
    hours = [
        each
        for each in instants
        if each.astimezone(where).utcoffset() != (each + HOUR).astimezone(where).utcoffset()
    ]
    minutes = [each + n * MINUTE for each in hours for n in range(60)]
    return tuple(
        each + MINUTE
        for each in minutes
        if each.astimezone(where).utcoffset() != (each + MINUTE).astimezone(where).utcoffset()
    )


# ------------------------------------------------------------ what to try


def _field(
    low: int, high: int, names: tuple[str, ...] = (), *, wraps: bool = True
) -> st.SearchStrategy[Field]:
    value = st.integers(low, high)
    rising = (
        st.tuples(value, value)
        .filter(lambda ends: ends[0] != ends[1])
        .map(lambda ends: (min(ends), max(ends)))
    )
    ends = st.tuples(value, value) if wraps else rising

    def written(number: int) -> str:
        return names[number - low] if names else str(number)

    def stepped(step: int) -> Field:
        return Field(f"*/{step}", frozenset(range(low, high + 1, step)))

    def ranged(between: tuple[int, int], step: int, named: tuple[bool, bool]) -> Field:
        first, last = (
            written(end) if by_name else str(end) for end, by_name in zip(between, named, strict=True)
        )
        begin, end = between
        way = (
            [*range(begin, end + 1)] if begin <= end else [*range(begin, high + 1), *range(low, end + 1)]
        )  # past the last value
        return Field(f"{first}-{last}" + (f"/{step}" if step > 1 else ""), frozenset(way[::step]))

    ranges = st.builds(ranged, ends, st.integers(1, 5), st.tuples(st.booleans(), st.booleans()))

    return st.one_of(
        st.just(Field("*", frozenset(range(low, high + 1)))),
        st.integers(2, high).map(stepped),
        value.map(lambda number: Field(written(number), frozenset({number}))),
        st.lists(value, min_size=2, max_size=4).map(
            lambda some: Field(",".join(map(written, some)), frozenset(some))
        ),
        ranges,
        st.tuples(ranges, ranges).map(
            lambda two: Field(f"{two[0].text},{two[1].text}", two[0].values | two[1].values)
        ),
        value.map(lambda number: Field(f"{written(number)},*", frozenset(range(low, high + 1)))),
        st.tuples(value, st.integers(2, high)).map(
            lambda pair: Field(f"{pair[0]},*/{pair[1]}", frozenset({pair[0], *stepped(pair[1]).values}))
        ),
    )


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_EVERY_DAY = Field("*", frozenset(range(1, 32)))
_EVERY_MONTH = Field("*", frozenset(range(1, 13)))
_EVERY_WEEKDAY = Field("*", frozenset(range(7)))
_NIGHT_HOURS = st.sampled_from(
    [
        Field(text, frozenset(values))
        for text, values in (("0", [0]), ("1-3", [1, 2, 3]), ("2", [2]), ("23", [23]))
    ]
)


def rules(*, wraps: bool = True) -> st.SearchStrategy[Rule]:
    """Rules of all kinds; those without ``wraps`` have no range that ends before it begins, or where it
    begins.
    """
    return st.builds(
        Rule,
        minute=_field(0, 59, wraps=wraps),
        hour=st.one_of(_NIGHT_HOURS, _field(0, 23, wraps=wraps)),
        day=st.one_of(st.just(_EVERY_DAY), _field(1, 31, wraps=wraps)),
        month=st.one_of(st.just(_EVERY_MONTH), st.just(_EVERY_MONTH), _field(1, 12, _MONTHS, wraps=wraps)),
        weekday=st.one_of(st.just(_EVERY_WEEKDAY), _field(0, 6, _WEEKDAYS, wraps=wraps)),
    )


RULES = rules()
GAPS: st.SearchStrategy[GapPolicy] = st.sampled_from(["after", "skip"])
REPEATS: st.SearchStrategy[RepeatPolicy] = st.sampled_from(["once", "twice"])


@st.composite
def near_changes(draw: st.DrawFn, zones: tuple[str, ...] = ZONES) -> tuple[str, datetime]:
    """A zone, and an instant within two days of one of its clock changes."""
    zone_name = draw(st.sampled_from(zones))
    found = changes(zone_name, draw(st.sampled_from((2009, 2011, 2021, 2025, 2026, 2031)))) or (
        datetime(2025, 7, 1, tzinfo=UTC),
    )
    return zone_name, draw(st.sampled_from(found)) + timedelta(
        minutes=draw(st.integers(-2 * 24 * 60, 24 * 60)), seconds=draw(st.sampled_from((0, 0, 1, 59)))
    )


def parsed(rule: Rule, zone_name: str, gap: GapPolicy, repeat: RepeatPolicy) -> Schedule:
    """The rule as a schedule; a rule that never fires is no example."""
    try:
        return Schedule.parse(rule.text, zone_name, dst_gap=gap, dst_repeat=repeat)
    except InvalidSchedule as error:
        assume("croniter finds no day" not in error.reason)
        raise
