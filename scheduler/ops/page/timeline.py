"""The coming fires as a drawing: the present at the left, and a bar for each stretch of time with fires.

A few automations have a row each. With more automations, each target has a row, and the height of a bar shows
its number of fires. Thirty fires a day are then distinguishable, and three thousand show their distribution.
Paused fires are drawn too, on top and hollow. Horizontal positions are in percent of the width: the drawing
fits any window, and its text keeps its size.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from scheduler.core.quantities import pluralize
from scheduler.core.status import AutomationDetails
from scheduler.ops.page.renderer import iterate_with_pauses
from scheduler.ops.page.times import format_clock, format_day

Fires = Sequence[tuple[datetime, Sequence[AutomationDetails]]]
"""The fires at each instant, in order. Automations with the same schedule are together."""

MAX_ROWS: Final = 8
_FULL_WIDTH: Final = 100.0
_GAP: Final = 0.22  # percent, between two bars
_LABEL_HEIGHT: Final = 16  # a height, like the next five constants
_LOW_ROW: Final = 18  # a row of one automation
_HIGH_ROW: Final = 44  # a row of many automations
_ROW_GAP: Final = 8
_AXIS_HEIGHT: Final = 24
_MIN_BAR: Final = 3.0
_EDGE: Final = 11.0  # percent from an edge: a tick nearer to the edge has no room for its time
_PHONE_EDGE: Final = 17.0


@dataclass(frozen=True, slots=True)
class Scale:
    """The time span of a drawing, the number of its bars, and the distances of its ticks.

    ``tick`` is the distance of all ticks, ``major`` the distance of the ticks for which a phone has room too.
    """

    words: str
    span: timedelta
    bars: int
    tick: timedelta
    major: timedelta

    @property
    def bar(self) -> timedelta:
        """The length of time of one bar."""
        return self.span / self.bars


HOUR: Final = Scale("coming hour", timedelta(hours=1), 60, timedelta(minutes=10), timedelta(minutes=20))
DAY: Final = Scale("coming day", timedelta(days=1), 96, timedelta(hours=3), timedelta(hours=6))


@dataclass(frozen=True, slots=True)
class Bar:
    """The fires of one stretch of time. ``paused`` fires are recorded and not fired."""

    x: float
    y: float
    width: float
    height: float
    count: int
    paused: bool
    title: str


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One row of bars, with the same information as text.

    ``parts`` contains stretches of time with the number of fires in each.
    """

    label: str
    automation: AutomationDetails | None  # None: all automations of a target, or of all targets
    y: float
    base: float
    bars: Sequence[Bar]
    parts: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Tick:
    """A time on the axis, in UTC. A phone has no room for a ``minor`` tick."""

    x: float
    label: str
    minor: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """The drawing.

    ``count`` is the number of fires, and ``paused`` the number of paused fires, which are recorded and not
    fired. ``most`` is the largest number of both in one bar. ``cut`` is the instant after which nothing is
    drawn, because the limit of instants is reached.
    """

    scale: Scale
    height: float
    rows: Sequence[TimelineRow]
    ticks: Sequence[Tick]
    count: int
    paused: int
    automations: int
    most: int
    cut: datetime | None

    @property
    def description(self) -> str:
        """The whole drawing in one to three sentences."""
        if not self.count + self.paused:
            return f"Nothing is scheduled in the {self.scale.words}."
        fires, those = pluralize(self.count, "fire"), pluralize(self.automations, "automation")
        minutes = self.scale.bar // timedelta(minutes=1)
        unit = "a minute" if minutes == 1 else f"{minutes} minutes"
        left_out = "UTC are left out: there are too many."
        cut = f" Fires after {format_clock(self.cut)} {left_out}" if self.cut else ""
        paused = f" {self.paused:,} more {'is' if self.paused == 1 else 'are'} paused." if self.paused else ""
        return f"{fires} of {those}, at most {self.most:,} in {unit}.{paused}{cut}"


def make_timeline(fires: Fires, scale: Scale, now: datetime, cut: datetime | None) -> Timeline:
    """Draw the fires within the scale.

    ``cut`` is the end of ``fires`` when more fires exist than the caller asked for.
    """
    begin = now.astimezone(UTC).replace(second=0, microsecond=0)
    shown = [fire for fire in fires if fire[0] < begin + scale.span]
    # each automation has one schedule
    automations = [
        automation for group in {id(group): group for _, group in shown}.values() for automation in group
    ]
    counted = _count_fires(shown, _make_row_key(automations), begin, scale)
    most = max((count for counts in counted.values() for count in counts.total.values()), default=0)
    rows = list(_make_rows(counted, begin, scale, most))
    height = (rows[-1].base + _ROW_GAP if rows else _HIGH_ROW) + _AXIS_HEIGHT
    active = sum(counts.active.total() for counts in counted.values())
    paused = sum(counts.paused.total() for counts in counted.values())
    ticks = list(_make_ticks(begin, scale))
    seen_cut = cut if cut is not None and cut < begin + scale.span else None
    return Timeline(scale, height, rows, ticks, active, paused, len(automations), most, seen_cut)


_RowKey = AutomationDetails | str


@dataclass(slots=True)
class _Counts:
    """The counts of one row: fires and paused fires by bar number, and all fires by the tick before."""

    active: Counter[int] = field(default_factory=Counter)
    paused: Counter[int] = field(default_factory=Counter)
    parts: Counter[datetime] = field(default_factory=Counter)

    @property
    def total(self) -> Counter[int]:
        """All fires by bar number."""
        return self.active + self.paused


def _make_row_key(automations: Sequence[AutomationDetails]) -> Callable[[AutomationDetails], _RowKey]:
    """Return the key function of the rows: each automation, each target, or all together."""
    if len(automations) <= MAX_ROWS:
        return lambda automation: automation
    if len({automation.target for automation in automations}) <= MAX_ROWS:
        return lambda automation: automation.target
    return lambda _: "all targets"


def _count_fires(
    fires: Fires, key: Callable[[AutomationDetails], _RowKey], begin: datetime, scale: Scale
) -> Mapping[_RowKey, _Counts]:
    """Return the fires by row.

    The automations of a schedule are divided into rows once, however often the schedule fires.
    """
    divided: dict[int, Mapping[_RowKey, tuple[int, int]]] = {}
    counted: defaultdict[_RowKey, _Counts] = defaultdict(_Counts)
    bar, tick = scale.bar, scale.tick
    for instant, group in iterate_with_pauses(fires):
        if id(group) not in divided:
            divided[id(group)] = _divide_group(group, key)
        number, part = (instant - begin) // bar, instant - (instant - _MIDNIGHT) % tick
        for row, (active, paused) in divided[id(group)].items():
            counts = counted[row]
            counts.active[number] += active
            counts.paused[number] += paused
            counts.parts[part] += active + paused
    return counted


def _divide_group(
    group: Sequence[AutomationDetails], key: Callable[[AutomationDetails], _RowKey]
) -> Mapping[_RowKey, tuple[int, int]]:
    numbers = Counter((key(automation), automation.state == "paused") for automation in group)
    return {
        row: (numbers[row, False], numbers[row, True]) for row in dict.fromkeys(row for row, _ in numbers)
    }


def _make_rows(
    counted: Mapping[_RowKey, _Counts], begin: datetime, scale: Scale, most: int
) -> Iterator[TimelineRow]:
    y = 0.0
    for key in sorted(counted, key=_get_sort_text):
        counts, automation = counted[key], None if isinstance(key, str) else key
        total = counts.total
        height, full = (_HIGH_ROW, most) if automation is None else (_LOW_ROW, max(total.values()))
        base = y + _LABEL_HEIGHT + height
        label = key if isinstance(key, str) else key.name
        bars = list(_make_bars(counts, base, height / full, begin, scale))
        parts = _make_parts(counts.parts, begin, scale)
        yield TimelineRow(label, automation, y + _LABEL_HEIGHT - 5, base, bars, parts)
        y = base + _ROW_GAP


def _get_sort_text(key: _RowKey) -> str:
    return key if isinstance(key, str) else f"{key.name}\0{key.target}\0{key.id}"


def _make_bars(counts: _Counts, base: float, unit: float, begin: datetime, scale: Scale) -> Iterator[Bar]:
    width = _FULL_WIDTH / scale.bars
    for number, total in sorted(counts.total.items()):
        x, y = round(number * width, 3), base
        title = f"{format_clock(begin + number * scale.bar)} UTC: {pluralize(total, 'fire')}"
        for count, is_paused in ((counts.active[number], False), (counts.paused[number], True)):
            if count:
                height = max(count * unit, _MIN_BAR)
                y -= height
                size = round(width - _GAP, 3), round(height, 1)
                yield Bar(x, round(y, 1), *size, count, is_paused, title)


def _make_ticks(begin: datetime, scale: Scale) -> Iterator[Tick]:
    at = begin - (begin - _MIDNIGHT) % scale.tick + scale.tick
    while at < begin + scale.span:
        x = (at - begin) / scale.span * _FULL_WIDTH
        if _EDGE < x < _FULL_WIDTH - _EDGE / 3:
            is_midnight = not (at - _MIDNIGHT) % timedelta(days=1)
            minor = bool((at - _MIDNIGHT) % scale.major) or x < _PHONE_EDGE
            yield Tick(round(x, 3), format_day(at)[4:] if is_midnight else format_clock(at), minor)
        at += scale.tick


_MIDNIGHT: Final = datetime(2000, 1, 1, tzinfo=UTC)


def _make_parts(parts: Mapping[datetime, int], begin: datetime, scale: Scale) -> Sequence[tuple[str, int]]:
    """Return the stretches between two ticks with at least one fire, and their number of fires."""
    end = begin + scale.span
    return [
        (f"{format_clock(max(at, begin))} to {format_clock(min(at + scale.tick, end))}", parts[at])
        for at in sorted(parts)
    ]


def flatten(
    fires: Iterable[tuple[datetime, Sequence[AutomationDetails]]],
) -> Iterator[tuple[datetime, AutomationDetails]]:
    """Yield the fires one by one."""
    return ((instant, automation) for instant, group in fires for automation in group)
