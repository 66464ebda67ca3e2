"""Requests of operators that the daemon honours: pauses, manual runs, and new names of targets.

The functions take a connection. Commands pass the functions to `Database.write` beside a running daemon, and
the daemon finds the changes when it next reads the ledger. Instants are aware.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.errors import ConfigurationError
from scheduler.core.instants import from_optional_text, from_text, to_optional_text, to_text
from scheduler.core.model import Run, RunStatus
from scheduler.core.pauses import EVERYTHING

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
    _require_target(connection, wanted.target)
    row = (wanted.target, wanted.automation_id, to_text(wanted.since), wanted.by)
    made = connection.execute(
        'INSERT INTO pause (target, automation_id, since, "by") VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING',
        row,
    )
    return made.rowcount == 1


def pause_all(connection: sqlite3.Connection, at: datetime, by: str) -> list[Pause]:
    """Pause all targets that are not paused as a whole; return the new pauses."""
    pauses = [Pause(target, EVERYTHING, at, by) for target in _list_targets(connection)]
    return [wanted for wanted in pauses if pause(connection, wanted)]


def note_restoration(connection: sqlite3.Connection, at: datetime) -> None:
    """Note for all targets that the ledger was restored from a backup.

    Since the backup, the targets may have had runs without a record in the ledger.
    """
    connection.execute("UPDATE target SET restored_at = ?", (to_text(at),))


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
    rows = connection.execute(
        'SELECT target, automation_id, since, "by" FROM pause WHERE ?1 IS NULL OR target = ?1 ORDER '
        "BY since, target, automation_id",
        (target,),
    )
    return [Pause(target, automation_id, from_text(since), by) for target, automation_id, since, by in rows]


# ---------------------------------------------------------------- manual runs


def announce_run(connection: sqlite3.Connection, target: str, automation_id: str, at: datetime) -> int:
    """Announce a manual run before its request is sent, so that the run does not count as foreign.

    Return the intent's id.
    """
    _require_target(connection, target)
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


def find_manual_run(
    connection: sqlite3.Connection, target: str, automation_id: str, run_id: str, started_at: datetime | None
) -> int | None:
    """Find the intent of this run, by the answer that named the run.

    Without such an answer, find the oldest unanswered intent near the beginning of the run.
    """
    row = connection.execute(
        "SELECT id FROM manual_run WHERE target = ? AND run_id = ?", (target, run_id)
    ).fetchone()
    if row is None and started_at is not None:
        row = connection.execute(
            _NEAREST,
            (
                target,
                automation_id,
                to_text(started_at - MANUAL_RUN_WINDOW),
                to_text(started_at + MANUAL_RUN_WINDOW),
            ),
        ).fetchone()
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
        intent = find_manual_run(connection, target, run.automation_id, run.id, run.started_at)
        connection.execute(
            "UPDATE manual_run SET run_id = ? WHERE id = ? AND run_id IS NULL", (run.id, intent)
        )


# ---------------------------------------------------------------- names


def rename_target(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Give a target's history another name. No daemon may use the ledger meanwhile.

    Raises `ConfigurationError`.
    """
    _require_target(connection, old)
    if old != new and connection.execute("SELECT 1 FROM target WHERE name = ?", (new,)).fetchone():
        raise ConfigurationError(f"the ledger has a target {new!r} already; rename that one first")
    connection.execute("UPDATE target SET name = ? WHERE name = ?", (new, old))


def unthrottle_target(connection: sqlite3.Connection, target: str) -> datetime | None:
    """Delete the wait that the API of a target asked for. Return the end of the wait, None without a wait.

    Raises `ConfigurationError` for a target that is not in the ledger.
    """
    _require_target(connection, target)
    (until,) = connection.execute("SELECT throttled_until FROM target WHERE name = ?", (target,)).fetchone()
    connection.execute(
        "UPDATE target SET throttled_at = NULL, throttled_until = NULL WHERE name = ?", (target,)
    )
    return from_optional_text(until)


def _require_target(connection: sqlite3.Connection, target: str) -> None:
    names = _list_targets(connection)
    if target not in names:
        known = ", ".join(names) or "none: start the daemon once"
        raise ConfigurationError(f"the ledger has no target {target!r}; it knows {known}")


def _list_targets(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM target ORDER BY name")]
