"""Requests of operators that the daemon honours: pauses and manual runs.

The functions take a connection. Commands pass the functions to `Database.write` beside a running daemon, and
the daemon finds the changes when it next reads the ledger. Instants are aware.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.instants import to_optional_text, to_text
from scheduler.core.model import Run, RunStatus
from scheduler.core.pauses import EVERYTHING
from scheduler.ledger.rows import parse_rows
from scheduler.ledger.targets import read_target, read_targets

MANUAL_RUN_WINDOW: Final = timedelta(minutes=2)
"""How far from the request a manual run may have begun: clocks may differ, and the answer may be slow."""

# ---------------------------------------------------------------- pauses


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of an automation, or of `EVERYTHING`: occurrences are recorded but not fired.

    ``by`` names the person who asked for the pause.
    """

    target: str
    automation_id: str
    since: datetime
    by: str


def pause(connection: sqlite3.Connection, wanted: Pause) -> bool:
    """Pause from now on. Return False for an existing pause: the older pause stays.

    Raises `ConfigurationError` for an unknown target.
    """
    read_target(connection, wanted.target)
    row = (wanted.target, wanted.automation_id, to_text(wanted.since), wanted.by)
    made = connection.execute(
        'INSERT INTO pause (target, automation_id, since, "by") VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING',
        row,
    )
    return made.rowcount == 1


def pause_all(connection: sqlite3.Connection, at: datetime, by: str) -> list[Pause]:
    """Pause all targets that are not paused as a whole; return the new pauses."""
    pauses = [Pause(target.name, EVERYTHING, at, by) for target in read_targets(connection)]
    return [wanted for wanted in pauses if pause(connection, wanted)]


def resume(
    connection: sqlite3.Connection,
    target: str,
    automation_id: str,
    *,
    at: datetime,
    by: str,
    keep_single: bool = False,
) -> bool:
    """End a pause.

    With `EVERYTHING`, end all pauses of the target; ``keep_single`` keeps the pauses of single automations.
    Return False when no pause was ended. Ended pauses stay on record.
    """
    for_all = None if keep_single else EVERYTHING
    connection.execute(_REMEMBER_PAUSES, (target, automation_id, for_all, to_text(at), by))
    return connection.execute(_END_PAUSES, (target, automation_id, for_all)).rowcount > 0


_REMEMBER_PAUSES: Final = """
    INSERT INTO past_pause (target, automation_id, since, "by", until, ended_by)
    SELECT target, automation_id, since, "by", ?4, ?5 FROM pause
    WHERE target = ?1 AND (automation_id = ?2 OR ?2 = ?3)
"""
_END_PAUSES: Final = "DELETE FROM pause WHERE target = ?1 AND (automation_id = ?2 OR ?2 = ?3)"


def read_pauses(connection: sqlite3.Connection, target: str | None = None) -> list[Pause]:
    """Read the pauses of one target or of all targets, the oldest first."""
    select = "SELECT * FROM pause WHERE ?1 IS NULL OR target = ?1 ORDER BY since, target, automation_id"
    return parse_rows(Pause, connection.execute(select, (target,)))


# ---------------------------------------------------------------- manual runs


def announce_run(connection: sqlite3.Connection, target: str, automation_id: str, at: datetime) -> int:
    """Announce a manual run before its request is sent, so that the run does not count as foreign.

    Return the intent's id.
    """
    read_target(connection, target)
    row = (target, automation_id, to_text(at))
    made = connection.execute(
        "INSERT INTO manual_run (target, automation_id, requested_at) VALUES (?, ?, ?)", row
    )
    assert made.lastrowid is not None
    return made.lastrowid


def record_started_run(connection: sqlite3.Connection, intent: int, run: Run, at: datetime) -> None:
    """Record the run from the answer to the request, with the origin "manual"."""
    connection.execute(
        "UPDATE manual_run SET answered_at = ?, run_id = ? WHERE id = ?", (to_text(at), run.id, intent)
    )
    started_at = to_optional_text(run.started_at)
    finished_at = None if run.status is RunStatus.RUNNING else to_text(at)
    connection.execute(
        """
        INSERT INTO run (target, run_id, automation_id, origin, status, started_at, finished_at, error)
        SELECT target, ?2, automation_id, 'manual', ?3, ?4, ?5, ?6 FROM manual_run WHERE id = ?1
        ON CONFLICT (target, run_id) DO UPDATE SET origin = 'manual', doubles = NULL WHERE origin = 'foreign'
        """,
        (intent, run.id, run.status, started_at, finished_at, run.error),
    )


def record_failed_run(
    connection: sqlite3.Connection, intent: int, error: str, *, refused_at: datetime | None
) -> None:
    """Record the error of an intent without a known run.

    ``refused_at``: the request certainly started nothing. None: the request may have started a run, and a run
    that shows up later is taken for the intent's run.
    """
    answered_at = to_optional_text(refused_at)
    connection.execute(
        "UPDATE manual_run SET answered_at = ?, error = ? WHERE id = ?", (answered_at, error, intent)
    )


def find_manual_run(connection: sqlite3.Connection, target: str, run: Run) -> int | None:
    """Find the intent of this run, by the answer that named the run.

    Without such an answer, find the oldest unanswered intent near the beginning of the run.
    """
    row = connection.execute(
        "SELECT id FROM manual_run WHERE target = ? AND run_id = ?", (target, run.id)
    ).fetchone()
    if row is None and run.started_at is not None:
        window = to_text(run.started_at - MANUAL_RUN_WINDOW), to_text(run.started_at + MANUAL_RUN_WINDOW)
        row = connection.execute(_NEAREST, (target, run.automation_id, *window)).fetchone()
    return None if row is None else int(row[0])


_NEAREST: Final = """
    SELECT id FROM manual_run
    WHERE target = ? AND automation_id = ? AND run_id IS NULL AND answered_at IS NULL
        AND requested_at BETWEEN ? AND ?
    ORDER BY requested_at LIMIT 1
"""


def attribute_manual_runs(connection: sqlite3.Connection, target: str, runs: Sequence[Run]) -> None:
    """Assign each of these manual runs to an intent, and no later run to the same intent."""
    for run in runs:
        intent = find_manual_run(connection, target, run)
        connection.execute(
            "UPDATE manual_run SET run_id = ? WHERE id = ? AND run_id IS NULL", (run.id, intent)
        )
