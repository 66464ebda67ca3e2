"""Spans: rows for several consecutive occurrences of one automation with the same outcome.

A span knows its instants exactly, by one of two methods. A span of few instants lists the seconds from each
instant to the next: ``[[60, 2879]]`` is every minute of two days. A span of many instants refers to the
definition version that implied the span and to the evaluation in force: the span covers all instants of this
schedule between the bounds. An edit seen late can imply other instants in between. Then the span is divided
there, and these instants can have their own rows.
"""

import json
import sqlite3
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any, Final

from scheduler.core.backlog_decisions import measure_extent
from scheduler.core.cron.ranges import RULES_VERSION
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.instants import JUST_BEFORE, from_text
from scheduler.core.model import Occurrence
from scheduler.ledger.sql_batch import to_identity, to_text, to_text_seconds

SPAN_COLUMNS: Final = """
    span.id, span.automation_id, span.scheduled_for, span.last, span.count, span.due, span.intervals,
    definition.cron_expression, definition.timezone, evaluation.dst_gap, evaluation.dst_repeat,
    evaluation.rules_version
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
    WHERE span.count > 1 AND span.target = ?1 AND span.automation_id = ?2 AND span.last >= ?3
        AND span.scheduled_for <= ?3
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


@dataclass(frozen=True, slots=True)
class SpanPart:
    """Consecutive instants of a span.

    ``instants`` None: all instants of the span's schedule between the bounds, inclusive.
    """

    first: datetime
    last: datetime
    count: int
    instants: Sequence[datetime] | None = None

    @property
    def extent(self) -> tuple[str, str, int, str | None]:
        """First and last instant, count and intervals, in the form of the table."""
        intervals = encode_intervals(self.instants or ())
        return to_text_seconds(self.first), to_text_seconds(self.last), self.count, intervals

    @property
    def is_by_schedule(self) -> bool:
        """Whether the row of this part has to name the definition."""
        return self.instants is None and self.count > 1


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A row for several occurrences.

    The row knows the instants by ``schedule`` or by ``instants``. A row of the ledger's first version may
    know neither.
    """

    id: int
    automation_id: str
    first: datetime
    last: datetime
    count: int
    jitter: timedelta
    schedule: Schedule | None
    instants: Sequence[datetime] | None

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "SpanRow":
        """Make the span from a row of `SPAN_COLUMNS`."""
        row_id, automation_id, scheduled_for, last, count, due, text, *by = row
        first = from_text(scheduled_for)
        instants = None if text is None else list(decode_intervals(first, text))
        jitter, schedule = from_text(due) - first, parse_schedule(*by)
        return cls(row_id, automation_id, first, from_text(last), count, jitter, schedule, instants)

    @property
    def has_instants(self) -> bool:
        """Whether the span's instants are known."""
        return self.schedule is not None or self.instants is not None

    def select_own_instants(self, instants: Sequence[datetime]) -> set[datetime]:
        """Return the given instants covered by the span."""
        if self.instants is not None:
            return set(self.instants) & set(instants)
        within = [instant for instant in instants if self.first <= instant <= self.last]
        if self.schedule is None:
            return set(within)
        if len(within) > _FEW:
            return set(self.schedule.iterate_between(min(within) - JUST_BEFORE, max(within))) & set(within)
        return {instant for instant in within if self.schedule.is_fire_time(instant)}

    def divide_around(self, strangers: Sequence[datetime]) -> list[SpanPart]:
        """Divide the span at ``strangers``, and return the parts without these instants.

        Strangers are instants within the bounds of the span, in order.
        """
        if self.instants is not None:
            apart = set(strangers)
            return _group_instants([own for own in self.instants if own not in apart], strangers)
        assert self.schedule is not None
        between = list(self.schedule.iterate_between(strangers[0], strangers[-1]))
        return [
            *make_parts(self.schedule, self.first - JUST_BEFORE, strangers[0] - JUST_BEFORE),
            *_group_instants(between, strangers),
            *make_parts(self.schedule, strangers[-1], self.last),
        ]

    def split_at(self, instant: datetime) -> list[SpanPart]:
        """Return the part before one of the span's instants, the instant itself, and the part after."""
        own = SpanPart(instant, instant, 1)
        return sorted([own, *self.divide_around([instant])], key=attrgetter("first"))


_FEW: Final = 8
"""Up to this number, instants are checked one by one."""


def parse_schedule(*by: Any) -> Schedule | None:
    """Parse the schedule of a definition and an evaluation.

    None when the row names no definition, or when the zone data lack the zone by now.
    """
    expression, timezone, gap, repeat, rules_version = by
    if expression is None:
        return None
    try:
        return Schedule.parse(
            expression,
            timezone,
            dst_gap=gap or "after",
            dst_repeat=repeat or "once",
            rules_version=rules_version or RULES_VERSION,
        )
    except InvalidSchedule:
        return None


def make_parts(schedule: Schedule, begin: datetime, end: datetime) -> list[SpanPart]:
    """Make the part with a schedule's instants after ``begin`` and up to ``end``.

    Return no part when the schedule has no such instants.
    """
    extent = measure_extent(schedule, begin, end) if begin < end else None
    return [] if extent is None else [SpanPart(extent.first, extent.last, extent.count)]


def make_listed_part(instants: Sequence[datetime]) -> SpanPart:
    """Make the part with these instants."""
    return SpanPart(instants[0], instants[-1], len(instants), instants)


def _group_instants(instants: Sequence[datetime], strangers: Sequence[datetime]) -> list[SpanPart]:
    """Make a part of the instants between each two strangers."""
    groups = groupby(instants, key=lambda instant: bisect_left(strangers, instant))
    return [make_listed_part(list(group)) for _, group in groups]


def encode_intervals(instants: Sequence[datetime]) -> str | None:
    """Encode the distances between a row's instants, for the column: groups of ``[seconds, times]``.

    None for a single instant.
    """
    steps = (int((later - earlier).total_seconds()) for earlier, later in pairwise(instants))
    runs = [[seconds, len(list(run))] for seconds, run in groupby(steps)]
    return json.dumps(runs, separators=(",", ":")) if runs else None


def decode_intervals(first: datetime, text: str) -> Iterator[datetime]:
    """Yield the instants of a span beginning with ``first``."""
    yield first
    for seconds, times in json.loads(text):
        for _ in range(times):
            first += timedelta(seconds=seconds)
            yield first


def read_spans_around(
    connection: sqlite3.Connection, target: str, automations: Collection[str], begin: datetime, end: datetime
) -> list[SpanRow]:
    """Read the spans of these automations that reach into the time between two instants."""
    values = target, json.dumps(list(automations)), to_text_seconds(begin), to_text_seconds(end)
    return [SpanRow.from_row(row) for row in connection.execute(_SELECT_AROUND, values)]


def divide_spans(
    connection: sqlite3.Connection, target: str, wanted: Mapping[str, Sequence[datetime]]
) -> bool:
    """Divide the target's spans around the ``wanted`` instants, by automation.

    A span is divided only by instants within the bounds, not covered by the span. Return whether any span was
    divided.
    """
    if not wanted:
        return False
    begin, end = min(map(min, wanted.values())), max(map(max, wanted.values()))
    spans = read_spans_around(connection, target, wanted, begin, end)
    divided = [divide_span(connection, span, wanted[span.automation_id]) for span in spans]
    return any(divided)


def find_span(
    connection: sqlite3.Connection, occurrence: Occurrence, instants: Sequence[datetime] = ()
) -> SpanRow | None:
    """Find the span over the occurrence.

    A span without known instants may cover the occurrence, and counts. ``instants`` are the instants of such
    a span.
    """
    rows = connection.execute(_SELECT_OVER, to_identity(occurrence))
    spans = (_add_instants(SpanRow.from_row(row), instants) for row in rows)
    return next((span for span in spans if span.select_own_instants([occurrence.scheduled_for])), None)


def take_out(connection: sqlite3.Connection, occurrence: Occurrence, instants: Sequence[datetime]) -> None:
    """Give an occurrence in a span a separate row, with the same outcome.

    The parts before and after stay together. ``instants`` are the instants of a span without known instants,
    for example a span of the ledger's first version. Nothing changes when no span covers the occurrence.
    """
    span = find_span(connection, occurrence, instants)
    if span is not None and span.has_instants:
        _write_parts(connection, span, span.split_at(occurrence.scheduled_for))


def _add_instants(span: SpanRow, instants: Sequence[datetime]) -> SpanRow:
    """Add these instants to a span without known instants, when bounds and count agree."""
    if span.has_instants or not instants:
        return span
    agrees = (instants[0], instants[-1], len(instants)) == (span.first, span.last, span.count)
    return replace(span, instants=instants) if agrees else span


def divide_span(connection: sqlite3.Connection, span: SpanRow, wanted: Sequence[datetime]) -> bool:
    """Divide one span around the ``wanted`` instants within the bounds that the span does not cover.

    Return whether the span was divided.
    """
    if not span.has_instants:
        return False
    within = sorted(instant for instant in wanted if span.first < instant < span.last)
    own = span.select_own_instants(within)
    strangers = [instant for instant in within if instant not in own]
    if strangers:
        _write_parts(connection, span, span.divide_around(strangers))
    return bool(strangers)


def _write_parts(connection: sqlite3.Connection, span: SpanRow, parts: Sequence[SpanPart]) -> None:
    """Write a row for each part. The first part keeps the row of the span."""
    for part in parts[1:]:
        connection.execute(
            _REPEAT, (span.id, *part.extent, to_text(part.first + span.jitter), part.is_by_schedule)
        )
    _, *extent = parts[0].extent
    connection.execute(_SHORTEN, (span.id, *extent, parts[0].is_by_schedule))
