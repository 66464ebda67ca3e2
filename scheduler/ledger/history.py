"""The history for people: lines of occurrences, targets and automations.

Lines have the keys of ``scheduler history --json``. The functions take a connection, for commands
(`schema.open_for_reading`) and for the daemon's pages (`Database.browse`). No index is by automation, because
this index would cost each claim another page: the newest lines of an automation are found by walking back in
time. Outcomes and statuses of runs have an index, to find rare values in a long history.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.automation_filter import find_id, make_glob
from scheduler.core.instants import from_optional_text, from_text, to_text, to_text_seconds
from scheduler.core.model import Outcome, Reason
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.core.status import ForeignRunTally, OperatorPause, OutcomeTally, RecentActivity
from scheduler.ledger.finished_runs import count_failed_runs
from scheduler.ledger.rows import parse_rows

Line = Mapping[str, str | int | float | None]


def read_occurrences(connection: sqlite3.Connection, selection: OccurrenceQuery) -> list[Line]:
    """Return a line for each occurrence or span, the newest first by default.

    Lines of open occurrences also have a ``state``.
    """
    if not _may_match(selection):
        return []
    conditions, values = _make_conditions(selection)
    order = "ASC" if selection.oldest_first else "DESC"
    tables, first = _choose_tables(selection)
    rows = connection.execute(
        f"""
        SELECT {_COLUMNS} FROM {tables} WHERE {conditions}
        ORDER BY {first}.scheduled_for {order}, {first}.automation_id {order}, {first}.target {order}
        LIMIT :limit OFFSET :offset
        """,  # noqa: S608 -- made of literals below; the values are parameters
        values | {"limit": selection.limit, "offset": selection.offset},
    )
    return [_make_line(row) for row in rows]


def _may_match(selection: OccurrenceQuery) -> bool:
    """Return whether an occurrence can match: only accepted occurrences have a run, see `Conclusion`."""
    return selection.run_status is None or (
        selection.outcome in {None, Outcome.ACCEPTED} and not selection.only_open
    )


def _choose_tables(selection: OccurrenceQuery) -> tuple[str, str]:
    """Return the tables of a selection and the first of them, read in the order of time."""
    if selection.run_status is not None:
        joined = "CROSS JOIN occurrence ON occurrence.id = run.occurrence_id"
        return f"run INDEXED BY run_by_status {joined}", "run"
    occurrences = "occurrence"
    if selection.only_open:
        occurrences += " INDEXED BY occurrence_open"
    elif selection.outcome is not None:
        occurrences += " INDEXED BY occurrence_by_outcome"
    joined = "LEFT JOIN run ON run.target = occurrence.target AND run.run_id = occurrence.task_run_id"
    return f"{occurrences} {joined}", "occurrence"


_COLUMNS: Final = """
    occurrence.target, occurrence.automation_id, occurrence.name, occurrence.scheduled_for, occurrence.due,
    occurrence.outcome, occurrence.reason, occurrence.attempts,
    occurrence.claimed_at, occurrence.sent_at, occurrence.finished_at, occurrence.lateness_seconds,
    occurrence.task_run_id, run.status AS run_status, coalesce(occurrence.error, run.error) AS error,
        occurrence.node, occurrence.count,
    occurrence.state
"""

_OF_AUTOMATION: Final = """
    (occurrence.name = :automation OR occurrence.name GLOB :pattern
     OR (occurrence.target, occurrence.automation_id) IN (
        SELECT target, automation_id FROM automation WHERE name = :automation OR name GLOB :pattern))
"""

# For an id, the ordering index also selects the rows.
_OF_ID: Final = "occurrence.automation_id = :automation_id"

_OF_STATUS: Final = "run.status = :run_status AND run.occurrence_id IS NOT NULL"

# A span counts when any part of the span is in the time. So reading begins at the first span that ends after
# `since`. Without the named index, SQLite searches this span from the oldest row on, through all rows.
_SINCE: Final = """
    occurrence.last >= :since AND occurrence.scheduled_for >= min(:since, coalesce(
        (SELECT min(span.scheduled_for) FROM occurrence AS span INDEXED BY occurrence_span_ends
        WHERE span.count > 1 AND span.last >= :since), :since))
"""


def _make_conditions(selection: OccurrenceQuery) -> tuple[str, dict[str, str | int | None]]:
    is_by_run = selection.run_status is not None
    values: dict[str, str | int | None] = {
        "target": selection.target,
        "outcome": selection.outcome,
        "run_status": selection.run_status,
        "since": round_up_to_second(selection.since),
        "until": round_up_to_second(selection.until),
        "automation": selection.automation,
        "automation_id": find_id(selection.automation),
        "pattern": make_glob(selection.automation),
    }
    wanted = {
        "target": "occurrence.target = :target",
        "outcome": "occurrence.outcome = :outcome",
        "run_status": _OF_STATUS,
        "since": "run.scheduled_for >= :since" if is_by_run else _SINCE,  # no run belongs to a span
        "until": "run.scheduled_for < :until" if is_by_run else "occurrence.scheduled_for < :until",
        "automation": _OF_AUTOMATION if values["automation_id"] is None else _OF_ID,
    }
    conditions = [condition for key, condition in wanted.items() if values[key] is not None]
    if selection.only_open:
        conditions.append("occurrence.outcome IS NULL")
    return " AND ".join(conditions) or "true", values


def round_up_to_second(instant: datetime | None) -> str | None:
    """Return the first whole second that is not before the instant: scheduled instants have no fraction."""
    return None if instant is None else to_text_seconds(instant + _ALMOST_A_SECOND)


_ALMOST_A_SECOND: Final = timedelta(microseconds=999_999)


def read_timezones(
    connection: sqlite3.Connection, lines: Iterable[Line]
) -> Mapping[tuple[str, str], str | None]:
    """Return the zone in the newest definition of each automation in these lines, by target and id."""
    select = "SELECT timezone FROM automation WHERE target = ? AND automation_id = ?"
    keys = {(str(line["target"]), str(line["automation_id"])) for line in lines}
    rows = {key: connection.execute(select, key).fetchone() for key in keys}
    return {key: None if row is None else row[0] for key, row in rows.items()}


def _make_line(row: sqlite3.Row) -> Line:
    line = dict(row)
    if line["state"] is None:
        del line["state"]
    return line


# ---------------------------------------------------------------- recent activity

_MOST: Final = 20_000
_MOST_FOREIGN: Final = 20


def read_recent(connection: sqlite3.Connection, since: datetime) -> RecentActivity:
    """Read the outcomes, foreign runs and failed runs since an instant, and the pauses in force.

    Outcomes of occurrences scheduled since the instant are counted by target and reason. Foreign runs count
    when they are running or ended since the instant. At most 20,000 rows of outcomes and at most 20,000
    failed runs are read.
    """
    rows = connection.execute(_TALLY, {"since": round_up_to_second(since), "most": _MOST}).fetchall()
    failed_runs = count_failed_runs(connection, since, _MOST)
    return RecentActivity(
        since,
        complete=sum(tally["number"] for tally in rows) < _MOST and sum(failed_runs.values()) < _MOST,
        tallies=[
            OutcomeTally(target, Outcome(outcome), Reason(reason), occurrences, from_text(newest))
            for target, outcome, reason, occurrences, newest, _ in rows
            if outcome is not None
        ],
        foreign=parse_rows(ForeignRunTally, connection.execute(_FOREIGN, (to_text(since), _MOST_FOREIGN))),
        pauses=read_named_pauses(connection),
        failed_runs=failed_runs,
    )


_TALLY: Final = f"""
    SELECT target, outcome, reason, sum(count) AS occurrences, max(last) AS newest, count(*) AS number
    FROM (SELECT target, outcome, reason, count, last FROM occurrence WHERE {_SINCE}
        ORDER BY scheduled_for DESC LIMIT :most)
    GROUP BY target, outcome, reason ORDER BY target, outcome, reason
"""  # noqa: S608 -- made of a literal above; the values are parameters
_FOREIGN: Final = """
    SELECT target, automation_id, coalesce(automation.name, automation_id) AS name, count(*) AS count,
        count(doubles) AS doubled, max(started_at) AS newest
    FROM (
        SELECT * FROM run INDEXED BY run_running
        WHERE status = 'running' AND occurrence_id IS NULL AND finished_at IS NULL
        UNION ALL SELECT * FROM run INDEXED BY run_alone WHERE occurrence_id IS NULL AND finished_at >= ?
    ) LEFT JOIN automation USING (target, automation_id)
    WHERE origin = 'foreign'
    GROUP BY target, automation_id ORDER BY newest DESC LIMIT ?
"""


def read_named_pauses(connection: sqlite3.Connection) -> list[OperatorPause]:
    """Read the pauses in force, the oldest first, with the names and zones of the automations."""
    return parse_rows(OperatorPause, connection.execute(_PAUSES))


_PAUSES: Final = """
    SELECT pause.target, nullif(automation_id, '*') AS automation_id,
        coalesce(automation.name, automation_id) AS name, since, "by", timezone
    FROM pause LEFT JOIN automation USING (target, automation_id)
    ORDER BY since, pause.target, pause.automation_id
"""


# ---------------------------------------------------------------- automations


@dataclass(frozen=True, slots=True)
class LastTimes:
    """When an automation's newest accepted occurrence was sent, and when a success was last seen."""

    accepted_at: datetime | None
    succeeded_at: datetime | None


def read_last_times(connection: sqlite3.Connection, target: str) -> Mapping[str, LastTimes]:
    """Return the last times by automation.

    A single row is read for each automation, however long the history is.
    """
    return {
        automation_id: LastTimes(from_optional_text(accepted_at), from_optional_text(succeeded_at))
        for automation_id, accepted_at, succeeded_at in connection.execute(_LAST_TIMES, (target,))
    }


_LAST_TIMES: Final = """
    SELECT automation_id, accepted_at, succeeded_at FROM automation
    WHERE target = ? AND (accepted_at IS NOT NULL OR succeeded_at IS NOT NULL)
"""
