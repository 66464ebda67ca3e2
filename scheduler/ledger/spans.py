"""Spans: rows that stand for several consecutive occurrences of one automation with the same fate.

A span knows exactly which instants it stands for, as the seconds between one and the next: ``[[60, 2879]]`` is every minute of two days.
An edit that is seen late can imply instants that lie in between; then the span is divided there, so that they can have rows of their own.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from typing import Final

from scheduler.core.instants import from_text
from scheduler.core.model import Occurrence
from scheduler.ledger.rows import identity, to_text, to_text_seconds

_SELECT_AROUND: Final = """
    SELECT id, automation_id, scheduled_for, due, intervals FROM occurrence
    WHERE count > 1 AND target = ?1 AND automation_id IN (SELECT value FROM json_each(?2))
        AND last > ?3 AND scheduled_for < ?4 AND intervals IS NOT NULL
"""
_SELECT_OVER: Final = """
    SELECT id, last, count, scheduled_for, due, intervals FROM occurrence
    WHERE count > 1 AND target = ?1 AND automation_id = ?2 AND last >= ?3 AND scheduled_for <= ?3
"""
_SHORTEN: Final = "UPDATE occurrence SET last = ?2, count = ?3, intervals = ?4 WHERE id = ?1"
_REPEAT: Final = """
    INSERT INTO occurrence
        (scheduled_for, last, count, intervals, due, target, automation_id, name, outcome, reason, finished_at, error, node)
    SELECT ?2, ?3, ?4, ?5, ?6, target, automation_id, name, outcome, reason, finished_at, error, node FROM occurrence WHERE id = ?1
"""


@dataclass(frozen=True, slots=True)
class _Span:
    id: int
    automation_id: str
    instants: Sequence[datetime]
    jitter: timedelta

    @classmethod
    def of(cls, row_id: int, automation_id: str, scheduled_for: str, due: str, text: str) -> "_Span":
        first = from_text(scheduled_for)
        return cls(row_id, automation_id, list(unrolled(first, text)), from_text(due) - first)


def intervals(instants: Sequence[datetime]) -> str | None:
    """How the instants of a row follow each other, for its column: runs of ``[seconds, times]``. None for a single one."""
    steps = (int((later - earlier).total_seconds()) for earlier, later in pairwise(instants))
    runs = [[seconds, len(list(run))] for seconds, run in groupby(steps)]
    return json.dumps(runs, separators=(",", ":")) if runs else None


def unrolled(first: datetime, text: str) -> Iterator[datetime]:
    """The instants of a span that begins with ``first``."""
    yield first
    for seconds, times in json.loads(text):
        for _ in range(times):
            first += timedelta(seconds=seconds)
            yield first


def divide(connection: sqlite3.Connection, target: str, wanted: Mapping[str, Sequence[datetime]]) -> bool:
    """Divide the target's spans around the ``wanted`` instants, by automation, that lie within and are none of theirs; whether any was."""
    if not wanted:
        return False
    bounds = to_text_seconds(min(map(min, wanted.values()))), to_text_seconds(max(map(max, wanted.values())))
    around = [_Span.of(*row) for row in connection.execute(_SELECT_AROUND, (target, json.dumps(list(wanted)), *bounds)).fetchall()]
    return sum(_divide(connection, span, wanted[span.automation_id]) for span in around) > 0


def take_out(connection: sqlite3.Connection, occurrence: Occurrence, instants: Sequence[datetime] = ()) -> bool:
    """Give an occurrence that lies in a span a row of its own, with the same fate; what is before and after it stays together.

    ``instants`` are those of a span that does not know its own, as one of the ledger's first version. False when there is no such span.
    """
    found = connection.execute(_SELECT_OVER, identity(occurrence)).fetchone()
    span = None if found is None else _known(found, instants)
    if span is None or occurrence.scheduled_for not in span.instants:
        return False
    at = span.instants.index(occurrence.scheduled_for)
    _cut(connection, span, [group for group in (span.instants[:at], span.instants[at : at + 1], span.instants[at + 1 :]) if group])
    return True


def _known(found: tuple[int, str, int, str, str, str | None], instants: Sequence[datetime]) -> _Span | None:
    """The span, if it knows its instants, or if these can be them."""
    row_id, last, count, first, due, text = found
    if text is None:
        if not instants or (to_text_seconds(instants[0]), to_text_seconds(instants[-1]), len(instants)) != (first, last, count):
            return None
        text = intervals(instants)
    return None if text is None else _Span.of(row_id, "", first, due, text)


def _divide(connection: sqlite3.Connection, span: _Span, wanted: Sequence[datetime]) -> bool:
    own, strangers = set(span.instants), sorted(wanted)
    between = [each for each in strangers if span.instants[0] < each < span.instants[-1] and each not in own]
    if not between:
        return False
    groups = [list(group) for _, group in groupby(span.instants, key=lambda instant: sum(each < instant for each in between))]
    _cut(connection, span, groups)
    return True


def _cut(connection: sqlite3.Connection, span: _Span, groups: Sequence[Sequence[datetime]]) -> None:
    """A row for each group; the span's own for the first."""
    for group in groups[1:]:
        connection.execute(_REPEAT, (span.id, *_extent(group), to_text(group[0] + span.jitter)))
    _, *extent = _extent(groups[0])
    connection.execute(_SHORTEN, (span.id, *extent))


def _extent(instants: Sequence[datetime]) -> tuple[str, str, int, str | None]:
    return to_text_seconds(instants[0]), to_text_seconds(instants[-1]), len(instants), intervals(instants)
