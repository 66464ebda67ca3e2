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
from scheduler.ledger.rows import to_text, to_text_seconds

_SELECT_AROUND: Final = """
    SELECT id, automation_id, scheduled_for, due, intervals FROM occurrence
    WHERE count > 1 AND target = ?1 AND automation_id IN (SELECT value FROM json_each(?2))
        AND last > ?3 AND scheduled_for < ?4 AND intervals IS NOT NULL
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


def _divide(connection: sqlite3.Connection, span: _Span, wanted: Sequence[datetime]) -> bool:
    own, strangers = set(span.instants), sorted(wanted)
    between = [each for each in strangers if span.instants[0] < each < span.instants[-1] and each not in own]
    if not between:
        return False
    groups = [list(group) for _, group in groupby(span.instants, key=lambda instant: sum(each < instant for each in between))]
    for group in groups[1:]:
        connection.execute(_REPEAT, (span.id, *_extent(group), to_text(group[0] + span.jitter)))
    _, *extent = _extent(groups[0])
    connection.execute(_SHORTEN, (span.id, *extent))
    return True


def _extent(instants: Sequence[datetime]) -> tuple[str, str, int, str | None]:
    return to_text_seconds(instants[0]), to_text_seconds(instants[-1]), len(instants), intervals(instants)
