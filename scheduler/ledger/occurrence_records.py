"""All records about one occurrence: row, attempts, steps, runs, pauses and policies.

The functions take a connection for reading, see `scheduler.ledger.schema.open_for_reading`.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from scheduler.core.instants import from_optional_text, from_text, to_optional_text, to_text
from scheduler.core.model import Occurrence
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.pauses import EVERYTHING
from scheduler.ledger.spans import find_span_id
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
    lateness: float | None
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


def read_row(connection: sqlite3.Connection, occurrence: Occurrence) -> OccurrenceRow | None:
    """Read the occurrence's own row, or the row of a span with the occurrence; None without a row.

    A span also has instants within its bounds that do not belong to the span.
    """
    row = connection.execute(_OWN_ROW, to_identity(occurrence)).fetchone()
    if row is None and (span := find_span_id(connection, occurrence)) is not None:
        row = connection.execute("SELECT * FROM occurrence WHERE id = ?", (span,)).fetchone()
    return None if row is None else _make_row(row)


_OWN_ROW: Final = "SELECT * FROM occurrence WHERE target = ?1 AND automation_id = ?2 AND scheduled_for = ?3"


def has_row(connection: sqlite3.Connection, occurrence: Occurrence) -> bool:
    """Return whether the occurrence has its own row."""
    return connection.execute(_OWN_ROW, to_identity(occurrence)).fetchone() is not None


def _make_row(row: sqlite3.Row) -> OccurrenceRow:
    return OccurrenceRow(
        id=row["id"],
        scheduled_for=from_text(row["scheduled_for"]),
        last=from_text(row["last"]),
        count=row["count"],
        name=row["name"],
        due=from_text(row["due"]),
        deadline=from_optional_text(row["deadline"]),
        state=row["state"],
        outcome=row["outcome"],
        reason=row["reason"],
        claimed_at=from_optional_text(row["claimed_at"]),
        finished_at=from_optional_text(row["finished_at"]),
        lateness=row["lateness_seconds"],
        run_id=row["task_run_id"],
        error=row["error"],
        node=row["node"],
        intervals=row["intervals"],
        definition_id=row["definition_id"],
        asked_at=from_optional_text(row["asked_at"]),
    )


def read_attempts(connection: sqlite3.Connection, row: OccurrenceRow) -> list[AttemptRow]:
    """Read the attempts of an occurrence, in order."""
    select = "SELECT * FROM attempt WHERE occurrence_id = ? ORDER BY number"
    return [
        AttemptRow(
            attempt["number"],
            from_text(attempt["written_at"]),
            attempt["baseline"],
            from_optional_text(attempt["sent_at"]),
            from_optional_text(attempt["ended_at"]),
            attempt["result"],
            attempt["http_status"],
            attempt["error"],
            attempt["clock_offset"],
        )
        for attempt in connection.execute(select, (row.id,))
    ]


def read_steps(connection: sqlite3.Connection, row: OccurrenceRow) -> list[Step]:
    """Read the steps of an occurrence, the oldest first."""
    select = 'SELECT at, cause, until, detail, "by" FROM step WHERE occurrence_id = ? ORDER BY at'
    return [
        Step(from_text(at), Cause(cause), from_optional_text(until), detail, by)
        for at, cause, until, detail, by in connection.execute(select, (row.id,))
    ]


def read_runs(
    connection: sqlite3.Connection, occurrence: Occurrence, row: OccurrenceRow | None
) -> list[RunRow]:
    """Read the run of an occurrence, and the late doubles of that run."""
    own = [] if row is None else connection.execute(_OWN_RUNS, (row.id,)).fetchall()
    doubles = connection.execute(_LATE_DOUBLES, to_identity(occurrence)).fetchall()
    return [
        *(_make_run(run, is_own=True) for run in own),
        *(_make_run(run, is_own=False) for run in doubles),
    ]


_OWN_RUNS: Final = "SELECT * FROM run WHERE occurrence_id = ?"
_LATE_DOUBLES: Final = (
    "SELECT * FROM run INDEXED BY run_doubles WHERE doubles = ?3 AND target = ?1 AND automation_id = ?2"
)


def _make_run(run: sqlite3.Row, *, is_own: bool) -> RunRow:
    return RunRow(
        run["run_id"],
        run["status"],
        from_optional_text(run["started_at"]),
        from_optional_text(run["finished_at"]),
        run["error"],
        is_own,
    )


def read_pauses_at(connection: sqlite3.Connection, occurrence: Occurrence) -> list[PauseRow]:
    """Read the manual pauses of the automation, and of all automations, at the instant of the occurrence."""
    bounds = occurrence.target, occurrence.automation_id, to_text(occurrence.scheduled_for)
    return [
        PauseRow(automation_id == EVERYTHING, from_text(since), by, from_optional_text(until), ended_by)
        for automation_id, since, by, until, ended_by in connection.execute(_PAUSES, bounds)
    ]


_PAUSES: Final = """
    SELECT automation_id, since, "by", until, ended_by FROM past_pause
    WHERE target = ?1 AND automation_id IN (?2, '*') AND since <= ?3 AND until >= ?3
    UNION ALL
    SELECT automation_id, since, "by", NULL, NULL FROM pause
    WHERE target = ?1 AND automation_id IN (?2, '*') AND since <= ?3
    ORDER BY since
"""


def read_policy(connection: sqlite3.Connection, instant: datetime | None = None) -> RecordedPolicy | None:
    """Read the policies recorded at an instant, or recorded last; None when no daemon has recorded any."""
    row = connection.execute(_POLICY, (to_optional_text(instant),)).fetchone()
    return None if row is None else RecordedPolicy(from_text(row[0]), row[1], row[2])


_POLICY: Final = (
    "SELECT since, schedule, overrides FROM policy WHERE ?1 IS NULL OR since <= ?1 ORDER BY id DESC LIMIT 1"
)
