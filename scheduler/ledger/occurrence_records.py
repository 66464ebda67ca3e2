"""All records about one occurrence: row, attempts, steps, runs, pauses and policies.

The functions take a connection for reading, see `scheduler.ledger.schema.open_for_reading`.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from scheduler.core.instants import to_optional_text, to_text
from scheduler.core.model import Occurrence
from scheduler.core.occurrence_log import Step
from scheduler.ledger.rows import parse_first, parse_rows
from scheduler.ledger.spans import find_span
from scheduler.ledger.sql_batch import to_identity


@dataclass(frozen=True, slots=True)
class OccurrenceRow:
    """The row of an occurrence: its own row, or the row of a span."""

    id: int
    scheduled_for: datetime
    last: datetime
    count: int
    name: str
    due: datetime
    deadline: datetime | None
    state: str | None
    outcome: str | None
    reason: str | None
    claimed_at: datetime | None
    finished_at: datetime | None
    run_id: str | None
    error: str | None
    node: str
    intervals: str | None
    definition_id: int | None
    asked_at: datetime | None

    @property
    def fate(self) -> str:
        """The outcome with its reason, or the state."""
        return f"open: {self.state}" if self.outcome is None else f"{self.outcome}: {self.reason}"


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt of the occurrence."""

    number: int
    written_at: datetime
    baseline: str | None
    sent_at: datetime | None
    ended_at: datetime | None
    result: str | None
    http_status: int | None
    error: str | None
    clock_offset: float | None  # seconds by which the API's clock was ahead of the local clock


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run. ``is_own`` True: the run of the occurrence; False: most likely a late double of that run."""

    run_id: str
    status: str
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    is_own: bool


@dataclass(frozen=True, slots=True)
class PauseRow:
    """A manual pause of the automation or of all automations; without ``until`` the pause lasts."""

    everything: bool
    since: datetime
    by: str
    until: datetime | None
    ended_by: str | None


@dataclass(frozen=True, slots=True)
class RecordedPolicy:
    """The ``[schedule]`` and ``[[override]]`` settings in force from ``since`` on, as JSON."""

    since: datetime
    schedule: str
    overrides: str


def find_newest_id(connection: sqlite3.Connection) -> int:
    """Find the highest id of a row; 0 without rows."""
    (newest,) = connection.execute("SELECT coalesce(max(id), 0) FROM occurrence").fetchone()
    return int(newest)


def read_row(connection: sqlite3.Connection, occurrence: Occurrence) -> OccurrenceRow | None:
    """Read the occurrence's own row, or the row of a span with the occurrence; None without a row.

    A span also has instants within its bounds that do not belong to the span.
    """
    row = parse_first(OccurrenceRow, connection.execute(_OWN_ROW, to_identity(occurrence)))
    if row is None and (span := find_span(connection, occurrence)) is not None:
        row = parse_first(OccurrenceRow, connection.execute(_SPAN_ROW, (span.id,)))
    return row


_ROW: Final = "SELECT *, task_run_id AS run_id FROM occurrence"
_OWN_ROW: Final = f"{_ROW} WHERE target = ?1 AND automation_id = ?2 AND scheduled_for = ?3"
_SPAN_ROW: Final = f"{_ROW} WHERE id = ?"


def has_row(connection: sqlite3.Connection, occurrence: Occurrence) -> bool:
    """Return whether the occurrence has its own row."""
    return connection.execute(_OWN_ROW, to_identity(occurrence)).fetchone() is not None


def read_attempts(connection: sqlite3.Connection, row: OccurrenceRow) -> list[AttemptRow]:
    """Read the attempts of an occurrence, in order."""
    select = "SELECT * FROM attempt WHERE occurrence_id = ? ORDER BY number"
    return parse_rows(AttemptRow, connection.execute(select, (row.id,)))


def read_steps(connection: sqlite3.Connection, row: OccurrenceRow) -> list[Step]:
    """Read the steps of an occurrence, the oldest first."""
    select = "SELECT * FROM step WHERE occurrence_id = ? ORDER BY at"
    return parse_rows(Step, connection.execute(select, (row.id,)))


def read_runs(
    connection: sqlite3.Connection, occurrence: Occurrence, row: OccurrenceRow | None
) -> list[RunRow]:
    """Read the run of an occurrence, and the late doubles of that run."""
    row_id = None if row is None else row.id
    return parse_rows(RunRow, connection.execute(_RUNS, (*to_identity(occurrence), row_id)))


_RUNS: Final = """
    SELECT *, 1 AS is_own FROM run WHERE occurrence_id = ?4
    UNION ALL
    SELECT *, 0 FROM run INDEXED BY run_doubles WHERE doubles = ?3 AND target = ?1 AND automation_id = ?2
"""


def read_pauses_at(connection: sqlite3.Connection, occurrence: Occurrence) -> list[PauseRow]:
    """Read the manual pauses of the automation, and of all automations, at the instant of the occurrence."""
    bounds = occurrence.target, occurrence.automation_id, to_text(occurrence.scheduled_for)
    return parse_rows(PauseRow, connection.execute(_PAUSES, bounds))


_PAUSES: Final = """
    SELECT automation_id = '*' AS everything, since, "by", until, ended_by FROM past_pause
    WHERE target = ?1 AND automation_id IN (?2, '*') AND since <= ?3 AND until >= ?3
    UNION ALL
    SELECT automation_id = '*', since, "by", NULL, NULL FROM pause
    WHERE target = ?1 AND automation_id IN (?2, '*') AND since <= ?3
    ORDER BY since
"""


def read_policy(connection: sqlite3.Connection, instant: datetime | None = None) -> RecordedPolicy | None:
    """Read the policies recorded at an instant, or recorded last; None when no daemon has recorded any."""
    return parse_first(RecordedPolicy, connection.execute(_POLICY, (to_optional_text(instant),)))


_POLICY: Final = "SELECT * FROM policy WHERE ?1 IS NULL OR since <= ?1 ORDER BY id DESC LIMIT 1"
