"""The evidence: all records about one automation at one instant."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from scheduler.audit import ledger_queries
from scheduler.audit.evaluation import Evaluation
from scheduler.audit.versions import VersionPeriod, find_periods
from scheduler.core.instants import from_text, to_text, to_text_seconds
from scheduler.core.model import Gap, Occurrence
from scheduler.core.occurrence_log import Cause, Step
from scheduler.ledger.spans import find_span_id
from scheduler.ledger.sql_batch import to_identity


@dataclass(frozen=True, slots=True)
class OccurrenceRow:
    """The row of an occurrence: its own row, or the row of a span."""

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


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence. ``instant`` is the instant in question."""

    target: str
    automation_id: str
    name: str
    instant: datetime
    periods: Sequence[VersionPeriod]
    evaluation: Evaluation
    row: OccurrenceRow | None
    attempts: Sequence[AttemptRow]
    steps: Sequence[Step]
    runs: Sequence[RunRow]
    pauses: Sequence[PauseRow]
    policy: RecordedPolicy | None
    watermark: datetime | None
    snapshot_at: datetime | None
    pruned_before: datetime | None
    gaps: Sequence[Gap] = ()
    throttled_until: datetime | None = None

    @property
    def is_undecided(self) -> bool:
        """Whether the daemon has not decided yet about occurrences due at the instant."""
        return self.watermark is None or self.instant > self.watermark or self.is_in_gap

    @property
    def is_in_gap(self) -> bool:
        """Whether the instant is below the watermark, in a gap that recovery may not have reached yet."""
        return any(gap.may_contain(self.automation_id, self.instant) for gap in self.gaps)


def collect_evidence(
    connection: sqlite3.Connection,
    target: str,
    automation_id: str,
    instant: datetime,
    evaluator: tuple[str, str],
) -> Evidence:
    """Collect the evidence from the ledger.

    ``evaluator`` is the pair of present versions: croniter and zone data.
    """
    recorded = ledger_queries.read_automation_versions(connection, target, automation_id)
    forces = find_periods(recorded)
    found = _select_row(connection, Occurrence(target, automation_id, instant))
    select = "SELECT watermark, snapshot_at, throttled_until FROM target WHERE name = ?"
    (watermark, snapshot_at, throttled_until) = connection.execute(select, (target,)).fetchone()
    doubles = connection.execute(_DOUBLES, (target, automation_id, to_text_seconds(instant))).fetchall()
    runs = [] if found is None else connection.execute(_RUNS, (found["id"],)).fetchall()
    return Evidence(
        target=target,
        automation_id=automation_id,
        name=recorded[-1].name if recorded else automation_id,
        instant=instant,
        periods=forces,
        evaluation=Evaluation(ledger_queries.read_rules(connection, evaluator)),
        row=None if found is None else _make_row(found),
        attempts=[]
        if found is None
        else [_make_attempt(each) for each in connection.execute(_ATTEMPTS, (found["id"],))],
        steps=[]
        if found is None
        else [_make_step(each) for each in connection.execute(_STEPS, (found["id"],))],
        runs=[
            *(_make_run(each, is_own=True) for each in runs),
            *(_make_run(each, is_own=False) for each in doubles),
        ],
        pauses=[
            _make_pause(each)
            for each in connection.execute(_PAUSES, (target, automation_id, to_text(instant)))
        ],
        policy=_read_policy(connection, instant if found is None else _read_decision_time(found)),
        watermark=_parse_instant(watermark),
        snapshot_at=_parse_instant(snapshot_at),
        pruned_before=ledger_queries.read_prune_limit(connection),
        gaps=ledger_queries.read_gaps(connection, target),
        throttled_until=_parse_instant(throttled_until),
    )


def read_row(connection: sqlite3.Connection, occurrence: Occurrence) -> OccurrenceRow | None:
    """Read the row of an occurrence; None when the occurrence has no row."""
    found = _select_row(connection, occurrence)
    return None if found is None else _make_row(found)


def _select_row(connection: sqlite3.Connection, occurrence: Occurrence) -> sqlite3.Row | None:
    """Select the occurrence's own row, or the row of a span with the occurrence.

    A span also has instants within its bounds that do not belong to the span.
    """
    own: sqlite3.Row | None = connection.execute(_OWN_ROW, to_identity(occurrence)).fetchone()
    if own is not None or (span := find_span_id(connection, occurrence)) is None:
        return own
    found: sqlite3.Row | None = connection.execute(
        "SELECT * FROM occurrence WHERE id = ?", (span,)
    ).fetchone()
    return found


_OWN_ROW: Final = "SELECT * FROM occurrence WHERE target = ?1 AND automation_id = ?2 AND scheduled_for = ?3"
_ATTEMPTS: Final = "SELECT * FROM attempt WHERE occurrence_id = ? ORDER BY number"
_STEPS: Final = "SELECT * FROM step WHERE occurrence_id = ? ORDER BY at"
_RUNS: Final = "SELECT * FROM run WHERE occurrence_id = ?"
_DOUBLES: Final = (
    "SELECT * FROM run INDEXED BY run_doubles WHERE doubles = ?3 AND target = ?1 AND automation_id = ?2"
)
_PAUSES: Final = """
    SELECT automation_id, since, "by", until, ended_by FROM past_pause
    WHERE target = ?1 AND automation_id IN (?2, '*') AND since <= ?3 AND until >= ?3
    UNION ALL
    SELECT automation_id, since, "by", NULL, NULL FROM pause WHERE target = ?1 AND automation_id IN (?2, '*') AND since <= ?3
    ORDER BY since
"""
_POLICY: Final = "SELECT since, schedule, overrides FROM policy WHERE since <= ? ORDER BY id DESC LIMIT 1"


def _read_decision_time(row: sqlite3.Row) -> datetime:
    return from_text(row["claimed_at"] or row["finished_at"])


def _read_policy(connection: sqlite3.Connection, instant: datetime) -> RecordedPolicy | None:
    found = connection.execute(_POLICY, (to_text(instant),)).fetchone()
    return (
        None
        if found is None
        else RecordedPolicy(from_text(found["since"]), found["schedule"], found["overrides"])
    )


def read_newest_policy(connection: sqlite3.Connection) -> RecordedPolicy | None:
    """Read the newest recorded policy settings; None when no daemon has recorded any."""
    found = connection.execute(
        "SELECT since, schedule, overrides FROM policy ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return (
        None
        if found is None
        else RecordedPolicy(from_text(found["since"]), found["schedule"], found["overrides"])
    )


def _make_row(row: sqlite3.Row) -> OccurrenceRow:
    return OccurrenceRow(
        scheduled_for=from_text(row["scheduled_for"]),
        last=from_text(row["last"]),
        count=row["count"],
        name=row["name"],
        due=from_text(row["due"]),
        deadline=_parse_instant(row["deadline"]),
        state=row["state"],
        outcome=row["outcome"],
        reason=row["reason"],
        claimed_at=_parse_instant(row["claimed_at"]),
        finished_at=_parse_instant(row["finished_at"]),
        lateness=row["lateness_seconds"],
        run_id=row["task_run_id"],
        error=row["error"],
        node=row["node"],
        intervals=row["intervals"],
        definition_id=row["definition_id"],
        asked_at=_parse_instant(row["asked_at"]),
    )


def _make_attempt(row: sqlite3.Row) -> AttemptRow:
    return AttemptRow(
        row["number"],
        from_text(row["written_at"]),
        row["baseline"],
        _parse_instant(row["sent_at"]),
        _parse_instant(row["ended_at"]),
        row["result"],
        row["http_status"],
        row["error"],
        row["clock_offset"],
    )


def _make_step(row: sqlite3.Row) -> Step:
    return Step(
        from_text(row["at"]), Cause(row["cause"]), _parse_instant(row["until"]), row["detail"], row["by"]
    )


def _make_run(row: sqlite3.Row, *, is_own: bool) -> RunRow:
    return RunRow(
        row["run_id"],
        row["status"],
        _parse_instant(row["started_at"]),
        _parse_instant(row["finished_at"]),
        row["error"],
        is_own,
    )


def _make_pause(row: sqlite3.Row) -> PauseRow:
    return PauseRow(
        row["automation_id"] == "*",
        from_text(row["since"]),
        row["by"],
        _parse_instant(row["until"]),
        row["ended_by"],
    )


def _parse_instant(text: str | None) -> datetime | None:
    return None if text is None else from_text(text)
