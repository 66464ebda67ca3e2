"""Spans: rows that stand for several consecutive occurrences of one automation with the same fate.

A span knows exactly which instants it stands for, in one of two ways. A span of few instants lists the seconds between one and the next:
``[[60, 2879]]`` is every minute of two days. A span of many refers to the definition version that implied it and to the evaluation in
force: it stands for all instants of that schedule from its first to its last. An edit that is seen late can imply instants that lie in
between; then the span is divided there, so that they can have rows of their own.
"""

import json
import sqlite3
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from typing import Final, cast

from scheduler.core.backlog_decisions import measure_extent
from scheduler.core.cron import GapPolicy, InvalidSchedule, RepeatPolicy, Schedule
from scheduler.core.instants import from_text
from scheduler.core.model import Occurrence
from scheduler.core.ranges import RULES_VERSION
from scheduler.ledger.sql_batch import to_identity, to_text, to_text_seconds

SPAN_COLUMNS: Final = """
    span.id, span.automation_id, span.scheduled_for, span.last, span.count, span.due, span.intervals,
    definition.cron_expression, definition.timezone, evaluation.dst_gap, evaluation.dst_repeat, evaluation.rules_version
"""
SPAN_TABLES: Final = """
    occurrence AS span LEFT JOIN definition ON definition.id = span.definition_id
    LEFT JOIN evaluation ON evaluation.id = span.evaluation_id
"""
_SELECT_AROUND: Final = f"""
    SELECT {SPAN_COLUMNS} FROM {SPAN_TABLES}
    WHERE span.count > 1 AND span.target = ?1 AND span.automation_id IN (SELECT value FROM json_each(?2))
        AND span.last > ?3 AND span.scheduled_for < ?4
"""  # noqa: S608 -- literals of this module
_SELECT_OVER: Final = f"""
    SELECT {SPAN_COLUMNS} FROM {SPAN_TABLES}
    WHERE span.count > 1 AND span.target = ?1 AND span.automation_id = ?2 AND span.last >= ?3 AND span.scheduled_for <= ?3
"""  # noqa: S608 -- literals of this module
_SHORTEN: Final = """
    UPDATE occurrence SET last = ?2, count = ?3, intervals = ?4, definition_id = iif(?5, definition_id, NULL),
        evaluation_id = iif(?5, evaluation_id, NULL) WHERE id = ?1
"""
_REPEAT: Final = """
    INSERT INTO occurrence (scheduled_for, last, count, intervals, due, definition_id, evaluation_id,
        target, automation_id, name, outcome, reason, finished_at, error, node)
    SELECT ?2, ?3, ?4, ?5, ?6, iif(?7, definition_id, NULL), iif(?7, evaluation_id, NULL),
        target, automation_id, name, outcome, reason, finished_at, error, node FROM occurrence WHERE id = ?1
"""
_JUST_BEFORE: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class SpanPart:
    """Consecutive instants of a span; ``listed`` None: all that the span's schedule has between the bounds, both included."""

    first: datetime
    last: datetime
    count: int
    instants: Sequence[datetime] | None = None

    @property
    def extent(self) -> tuple[str, str, int, str | None]:
        """First and last instant, count and intervals, as they stand in the table."""
        return to_text_seconds(self.first), to_text_seconds(self.last), self.count, encode_intervals(self.instants or ())

    @property
    def is_by_schedule(self) -> bool:
        """Whether its row has to name the definition."""
        return self.instants is None and self.count > 1


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A row for several occurrences. It knows its instants by its ``schedule``, or by ``listed``, or (of the first version) not at all."""

    id: int
    automation_id: str
    first: datetime
    last: datetime
    count: int
    jitter: timedelta
    schedule: Schedule | None
    instants: Sequence[datetime] | None

    @classmethod
    def from_row(cls, row: Sequence[str | int | None], known: Sequence[datetime] | None = None) -> "SpanRow":
        """The span in a row of `SPAN_COLUMNS`. ``known``: the instants of a span that does not know its own."""
        row_id, automation_id, scheduled_for, last, count, due, text, *by = row
        first = from_text(str(scheduled_for))
        listed = known if text is None else list(decode_intervals(first, str(text)))
        jitter = from_text(str(due)) - first
        return cls(int(row_id or 0), str(automation_id), first, from_text(str(last)), int(count or 0), jitter, _parse_schedule(*by), listed)

    @property
    def has_instants(self) -> bool:
        """Whether it knows which instants it stands for."""
        return self.schedule is not None or self.instants is not None

    def select_own_instants(self, instants: Sequence[datetime]) -> set[datetime]:
        """Those of the instants that it stands for."""
        if self.instants is not None:
            return set(self.instants) & set(instants)
        within = [instant for instant in instants if self.first <= instant <= self.last]
        if self.schedule is None:
            return set(within)
        if len(within) > _FEW:
            return set(self.schedule.iterate_between(min(within) - _JUST_BEFORE, max(within))) & set(within)
        return {instant for instant in within if self.schedule.is_fire_time(instant)}

    def divide_around(self, strangers: Sequence[datetime]) -> list[SpanPart]:
        """What is left of it when it is divided at ``strangers``: instants within its bounds, in order, that it does not stand for."""
        if self.instants is not None:
            return _make_parts(self.instants, strangers)
        assert self.schedule is not None
        head = make_part(self.schedule, self.first - _JUST_BEFORE, strangers[0] - _JUST_BEFORE)
        tail = make_part(self.schedule, strangers[-1], self.last)
        between = _make_parts(list(self.schedule.iterate_between(strangers[0], strangers[-1])), strangers)
        return [*([] if head is None else [head]), *between, *([] if tail is None else [tail])]

    def split_at(self, instant: datetime) -> list[SpanPart]:
        """What is before one of its instants, the instant itself, and what is after it."""
        own = SpanPart(instant, instant, 1)
        if self.instants is not None:
            at = self.instants.index(instant)
            return [*_make_parts(self.instants[:at], ()), own, *_make_parts(self.instants[at + 1 :], ())]
        assert self.schedule is not None
        head = make_part(self.schedule, self.first - _JUST_BEFORE, instant - _JUST_BEFORE)
        tail = make_part(self.schedule, instant, self.last)
        return [*([] if head is None else [head]), own, *([] if tail is None else [tail])]


_FEW: Final = 8
"""So many instants are asked for one by one."""


def _parse_schedule(*by: str | int | None) -> Schedule | None:
    """The schedule of a definition and its evaluation; None when there is none, or the zone data lack its zone by now."""
    expression, timezone, gap, repeat, rules_version = by
    if expression is None:
        return None
    rules = cast("GapPolicy", gap or "after"), cast("RepeatPolicy", repeat or "once")
    try:
        return Schedule.parse(
            expression, timezone, dst_gap=rules[0], dst_repeat=rules[1], rules_version=int(rules_version or RULES_VERSION)
        )
    except InvalidSchedule:
        return None


def make_part(schedule: Schedule, begin: datetime, end: datetime) -> SpanPart | None:
    """The instants of a schedule after ``begin`` and up to ``end``; None when there are none."""
    extent = measure_extent(schedule, begin, end) if begin < end else None
    return None if extent is None else SpanPart(extent.first, extent.last, extent.count)


def _make_parts(instants: Sequence[datetime], strangers: Sequence[datetime]) -> list[SpanPart]:
    groups = [list(group) for _, group in groupby(instants, key=lambda instant: bisect_left(strangers, instant))]
    return [SpanPart(group[0], group[-1], len(group), group) for group in groups]


def encode_intervals(instants: Sequence[datetime]) -> str | None:
    """How the instants of a row follow each other, for its column: runs of ``[seconds, times]``. None for a single one."""
    steps = (int((later - earlier).total_seconds()) for earlier, later in pairwise(instants))
    runs = [[seconds, len(list(run))] for seconds, run in groupby(steps)]
    return json.dumps(runs, separators=(",", ":")) if runs else None


def decode_intervals(first: datetime, text: str) -> Iterator[datetime]:
    """The instants of a span that begins with ``first``."""
    yield first
    for seconds, times in json.loads(text):
        for _ in range(times):
            first += timedelta(seconds=seconds)
            yield first


def read_spans_around(
    connection: sqlite3.Connection, target: str, automations: Collection[str], begin: datetime, end: datetime
) -> list[SpanRow]:
    """The spans of these automations that reach into the time between two instants."""
    bounds = to_text_seconds(begin), to_text_seconds(end)
    return [
        SpanRow.from_row(row) for row in connection.execute(_SELECT_AROUND, (target, json.dumps(list(automations)), *bounds)).fetchall()
    ]


def divide_spans(connection: sqlite3.Connection, target: str, wanted: Mapping[str, Sequence[datetime]]) -> bool:
    """Divide the target's spans around the ``wanted`` instants, by automation, that lie within and are none of theirs; whether any was."""
    if not wanted:
        return False
    begin, end = min(map(min, wanted.values())), max(map(max, wanted.values()))
    return (
        sum(divide_span(connection, span, wanted[span.automation_id]) for span in read_spans_around(connection, target, wanted, begin, end))
        > 0
    )


def find_span_id(connection: sqlite3.Connection, occurrence: Occurrence) -> int | None:
    """The id of the span that stands for the occurrence; None when there is none. A span that does not know may stand for it."""
    spans = (SpanRow.from_row(row) for row in connection.execute(_SELECT_OVER, to_identity(occurrence)))
    return next((span.id for span in spans if span.select_own_instants([occurrence.scheduled_for])), None)


def take_out(connection: sqlite3.Connection, occurrence: Occurrence, instants: Sequence[datetime] = ()) -> bool:
    """Give an occurrence that lies in a span a row of its own, with the same fate; what is before and after it stays together.

    ``instants`` are those of a span that does not know its own, as one of the ledger's first version. False when there is no such span.
    """
    found = connection.execute(_SELECT_OVER, to_identity(occurrence)).fetchone()
    span = None if found is None else _add_instants(SpanRow.from_row(found), instants)
    if span is None or not span.has_instants or occurrence.scheduled_for not in span.select_own_instants([occurrence.scheduled_for]):
        return False
    _write_parts(connection, span, span.split_at(occurrence.scheduled_for))
    return True


def _add_instants(span: SpanRow, instants: Sequence[datetime]) -> SpanRow:
    """The span, which knows these instants if they can be its own and it knows none itself."""
    if span.has_instants or not instants or (instants[0], instants[-1], len(instants)) != (span.first, span.last, span.count):
        return span
    return SpanRow(span.id, span.automation_id, span.first, span.last, span.count, span.jitter, None, instants)


def divide_span(connection: sqlite3.Connection, span: SpanRow, wanted: Sequence[datetime]) -> bool:
    """Divide one span around those of the ``wanted`` instants that lie within and are none of its own; whether there was any."""
    if not span.has_instants:
        return False
    within = sorted(each for each in wanted if span.first < each < span.last)
    own = span.select_own_instants(within)
    strangers = [each for each in within if each not in own]
    if strangers:
        _write_parts(connection, span, span.divide_around(strangers))
    return bool(strangers)


def _write_parts(connection: sqlite3.Connection, span: SpanRow, parts: Sequence[SpanPart]) -> None:
    """A row for each part; the span's own for the first."""
    for part in parts[1:]:
        connection.execute(_REPEAT, (span.id, *part.extent, to_text(part.first + span.jitter), part.is_by_schedule))
    _, *extent = parts[0].extent
    connection.execute(_SHORTEN, (span.id, *extent, parts[0].is_by_schedule))
