"""The queries of an audit: plain functions of a connection for reading.

See `scheduler.ledger.schema.open_for_reading`. SQLite counts and adds up all data that grow with the number
of occurrences, stretch of time by stretch of time.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from scheduler.core.cron.schedule import Schedule
from scheduler.core.instants import from_text, to_text_seconds
from scheduler.ledger.rows import parse_rows
from scheduler.ledger.spans import parse_schedule

TargetStretch = tuple[str, datetime, datetime]
"""A target, and a stretch of time: exclusive begin, inclusive end."""

Tally = tuple[int, int]
"""The number of automations, and the sum of their weights."""
_MAX_ROWS: Final = 1_000
"""Maximum number of inconsistent rows for each stretch: more rows add no information."""


@contextmanager
def read_one_state(connection: sqlite3.Connection) -> Iterator[None]:
    """Read one state of the ledger during the block, also while a daemon writes."""
    connection.execute("BEGIN")
    yield
    connection.execute("ROLLBACK")


# ---------------------------------------------------------------- rows of occurrences


@dataclass(frozen=True, slots=True)
class OccurrenceSpan:
    """A row for several consecutive occurrences of an automation, both ends included.

    ``intervals`` names the instants: pairs of the seconds between two instants and the number of repetitions.
    Without intervals ``schedule`` names the instants: the definition as evaluated then. A span of the
    ledger's first version has neither. Such a span stands for the instants that its definitions implied
    between both ends.
    """

    automation_id: str
    first: datetime
    last: datetime
    count: int
    outcome: str
    reason: str
    intervals: tuple[tuple[int, int], ...] | None
    schedule: Schedule | None = None

    @property
    def fate(self) -> str:
        """The outcome and reason shared by all occurrences of the span."""
        return f"{self.outcome}: {self.reason}"

    def list_instants(self, begin: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the instants of a span with intervals, after ``begin`` and up to ``end``.

        The cost does not depend on the number of earlier instants.
        """
        if begin < self.first <= end:
            yield self.first
        at = self.first
        for seconds, times in self.intervals or ():
            step = timedelta(seconds=seconds)
            passed = min(max((begin - at) // step, 0), times)
            for number in range(passed + 1, times + 1):
                if at + number * step > end:
                    return
                if at + number * step > begin:
                    yield at + number * step
            at += times * step


def store_weights(connection: sqlite3.Connection, weights: Mapping[str, int]) -> None:
    """Store the weight of each automation in the connection, for `count_rows`."""
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS weight (automation_id TEXT PRIMARY KEY, weight INTEGER NOT "
        "NULL) WITHOUT ROWID"
    )
    connection.execute("DELETE FROM temp.weight")
    connection.executemany("INSERT INTO temp.weight VALUES (?, ?)", weights.items())


_COUNT_ROWS: Final = """
    SELECT scheduled_for, count(*), coalesce(sum(weight), 0) FROM occurrence LEFT JOIN temp.weight
    USING (automation_id)
    WHERE scheduled_for > ?2 AND scheduled_for <= ?3 AND target = ?1 AND (weight IS NOT NULL OR ?4)
        AND (?5 IS NULL OR automation_id < ?5)
    GROUP BY scheduled_for
"""


def count_rows(
    connection: sqlite3.Connection, stretch: TargetStretch, *, all_of_them: bool, before: str | None = None
) -> dict[datetime, Tally]:
    """Count the rows that begin at each instant, and add up the weights of their automations.

    A span is one row, at its first instant. With ``all_of_them``, rows of automations without a weight count
    and weigh nothing; otherwise such rows are left out. With ``before``, only automations with an id before
    this id are counted.
    """
    rows = connection.execute(_COUNT_ROWS, (*_format_bounds(stretch), all_of_them, before))
    return {from_text(instant): (count, weight) for instant, count, weight in rows}


def read_fates(connection: sqlite3.Connection, target: str, instant: datetime) -> dict[str, str]:
    """Read the fate of each row that begins at this instant, by automation."""
    select = f"SELECT automation_id, {_FATE} AS fate FROM occurrence WHERE scheduled_for = ? AND target = ?"  # noqa: S608 -- a literal
    return {
        row["automation_id"]: row["fate"]
        for row in connection.execute(select, (to_text_seconds(instant), target))
    }


_FATE: Final = "coalesce(outcome || ': ' || reason, 'open: ' || state)"

_SPANS: Final = """
    SELECT occurrence.automation_id, scheduled_for, last, count, outcome, reason, intervals,
        cron_expression, timezone, dst_gap, dst_repeat, rules_version
    FROM occurrence INDEXED BY occurrence_span_ends
    LEFT JOIN definition ON definition.id = definition_id
    LEFT JOIN evaluation ON evaluation.id = evaluation_id
    WHERE count > 1 AND occurrence.target = ?1 AND last > ?2 AND scheduled_for <= ?3
    ORDER BY scheduled_for, occurrence.automation_id
"""


def read_spans(connection: sqlite3.Connection, stretch: TargetStretch) -> list[OccurrenceSpan]:
    """Read the spans of which any part lies in the stretch."""
    return [_parse_span(row) for row in connection.execute(_SPANS, _format_bounds(stretch))]


def _parse_span(row: Iterable[Any]) -> OccurrenceSpan:
    automation_id, first, last, count, outcome, reason, text, *by = row
    intervals = None if text is None else tuple((seconds, times) for seconds, times in json.loads(text))
    bounds = from_text(first), from_text(last)
    return OccurrenceSpan(automation_id, *bounds, count, outcome, reason, intervals, parse_schedule(*by))


# ---------------------------------------------------------------- inconsistent rows

_IS_INCONSISTENT: Final = """
    CASE outcome
        WHEN 'accepted' THEN NOT EXISTS (
            SELECT 1 FROM run
            WHERE run.occurrence_id = occurrence.id AND run.run_id = occurrence.task_run_id
                AND run.target = occurrence.target
        )
        WHEN 'unresolved' THEN 1
        ELSE EXISTS (SELECT 1 FROM run WHERE run.occurrence_id = occurrence.id)
    END OR (attempts > 1
        AND (SELECT count(*) FROM attempt WHERE occurrence_id = occurrence.id AND result = 'answered') > 1)
"""

_COUNT_OUTCOMES: Final = f"""
    SELECT outcome, reason, count(*) AS number, sum({_IS_INCONSISTENT}) AS inconsistent FROM occurrence
    WHERE scheduled_for > ?2 AND scheduled_for <= ?3 AND target = ?1 AND count = 1
        AND (?4 OR automation_id IN (SELECT automation_id FROM temp.weight))
    GROUP BY outcome, reason
"""  # noqa: S608 -- literals of this module


@dataclass(frozen=True, slots=True)
class OutcomeCount:
    """The number of occurrences, without spans, with an outcome, and the number of inconsistent rows.

    ``outcome`` None: the occurrences are open.
    """

    outcome: str | None
    reason: str | None
    number: int
    inconsistent: int


def count_outcomes(
    connection: sqlite3.Connection, stretch: TargetStretch, *, all_of_them: bool
) -> list[OutcomeCount]:
    """Count the occurrences with their own row, by outcome and reason."""
    return parse_rows(
        OutcomeCount, connection.execute(_COUNT_OUTCOMES, (*_format_bounds(stretch), all_of_them))
    )


@dataclass(frozen=True, slots=True)
class InconsistentRow:
    """An occurrence whose record contradicts itself, or whose outcome could not be found."""

    automation_id: str
    name: str
    scheduled_for: datetime
    outcome: str | None
    reason: str | None
    error: str | None
    run_id: str | None  # the run named by the row of the occurrence
    run_recorded_for: str | None  # the instant of the occurrence for which this run is recorded
    linked_run_id: str | None  # the run recorded for this occurrence
    answered_attempts: int  # the number of attempts answered with a run


_SELECT_INCONSISTENT: Final = f"""
    SELECT automation_id, name, scheduled_for, outcome, reason, error, task_run_id AS run_id,
        (SELECT other.scheduled_for FROM run JOIN occurrence AS other ON other.id = run.occurrence_id
         WHERE run.target = occurrence.target AND run.run_id = occurrence.task_run_id) AS run_recorded_for,
        (SELECT run_id FROM run WHERE run.occurrence_id = occurrence.id) AS linked_run_id,
        (SELECT count(*) FROM attempt WHERE occurrence_id = occurrence.id AND result = 'answered')
            AS answered_attempts
    FROM occurrence
    WHERE scheduled_for > ?2 AND scheduled_for <= ?3 AND target = ?1 AND ({_IS_INCONSISTENT})
        AND (?4 OR automation_id IN (SELECT automation_id FROM temp.weight))
    ORDER BY scheduled_for, automation_id LIMIT ?5
"""  # noqa: S608 -- literals of this module


def find_inconsistent_rows(
    connection: sqlite3.Connection, stretch: TargetStretch, *, all_of_them: bool
) -> list[InconsistentRow]:
    """Find the occurrences counted as inconsistent by `count_outcomes`."""
    values = (*_format_bounds(stretch), all_of_them, _MAX_ROWS)
    return parse_rows(InconsistentRow, connection.execute(_SELECT_INCONSISTENT, values))


@dataclass(frozen=True, slots=True)
class OpenRow:
    """An occurrence without an outcome."""

    automation_id: str
    name: str
    scheduled_for: datetime
    due: datetime
    deadline: datetime
    state: str
    tried_at: datetime | None  # the end of the newest attempt, or the instant when the attempt was written


_SELECT_OPEN: Final = """
    SELECT automation_id, name, scheduled_for, due, deadline, state,
        (SELECT max(coalesce(ended_at, written_at)) FROM attempt
            WHERE occurrence_id = occurrence.id) AS tried_at
    FROM occurrence WHERE outcome IS NULL AND target = ?1 AND scheduled_for > ?2
        AND scheduled_for <= ?3 ORDER BY due
"""


def find_open_rows(connection: sqlite3.Connection, stretch: TargetStretch) -> list[OpenRow]:
    """Find the open occurrences, in the order of due."""
    return parse_rows(OpenRow, connection.execute(_SELECT_OPEN, _format_bounds(stretch)))


@dataclass(frozen=True, slots=True)
class LateDouble:
    """A foreign run that is most likely a late run of this occurrence."""

    automation_id: str
    scheduled_for: datetime
    run_id: str
    started_at: str | None


_SELECT_DOUBLES: Final = """
    SELECT automation_id, doubles AS scheduled_for, run_id, started_at FROM run
    WHERE doubles IS NOT NULL AND target = ?1 AND doubles > ?2 AND doubles <= ?3 ORDER BY doubles
"""


def find_late_doubles(connection: sqlite3.Connection, stretch: TargetStretch) -> list[LateDouble]:
    """Find the late doubles, in the order of the instants of their occurrences."""
    return parse_rows(LateDouble, connection.execute(_SELECT_DOUBLES, _format_bounds(stretch)))


def find_known_runs(connection: sqlite3.Connection, target: str, runs: Iterable[str]) -> set[str]:
    """Find the runs on record, also foreign runs and runs not yet attributed.

    The answer to a manual request is on record too.
    """
    return {
        run_id
        for run_id in runs
        if connection.execute(_SELECT_KNOWN_RUN, (target, run_id)).fetchone() is not None
    }


_SELECT_KNOWN_RUN: Final = """
    SELECT 1 FROM run WHERE target = ?1 AND run_id = ?2 UNION ALL SELECT 1 FROM manual_run
    WHERE target = ?1 AND run_id = ?2
    UNION ALL SELECT 1 FROM unattributed_run WHERE target = ?1 AND run_id = ?2
"""


def _format_bounds(stretch: TargetStretch) -> tuple[str, str, str]:
    """Format the target and the bounds as in the tables.

    Fractions of seconds are cut off, because scheduled instants have none.
    """
    target, begin, end = stretch
    return target, to_text_seconds(begin), to_text_seconds(end)
