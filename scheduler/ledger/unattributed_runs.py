"""Runs shown by a reading while the origin was unknown: perhaps an attempt of this scheduler.

Each run stands in `unattributed_run` until the attempt has an outcome. The run survives a restart, although a
newer run may hide this run by then, and no reading shows the run again.
"""

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import Final

from scheduler.core.model import Run
from scheduler.ledger.rows import parse_rows
from scheduler.ledger.sql_batch import make_statement, pack_rows

_NOTE: Final = make_statement(
    "run_id, automation_id, status, started_at, error",
    """
    INSERT INTO unattributed_run (target, {columns}) SELECT ?2, {columns} FROM {given} WHERE true
    ON CONFLICT (target, run_id)
    DO UPDATE SET status = excluded.status, started_at = excluded.started_at, error = excluded.error
    """,
)

_REMOVE: Final = (
    "DELETE FROM unattributed_run WHERE target = ?2 AND run_id IN (SELECT value FROM json_each(?1))"
)

_SELECT: Final = "SELECT *, run_id AS id FROM unattributed_run WHERE target = ? ORDER BY run_id"


def note(connection: sqlite3.Connection, target: str, runs: Sequence[Run]) -> None:
    """Note runs with their state in the newest reading."""
    rows = [(run.id, run.automation_id, run.status, run.started_at, run.error) for run in runs]
    if rows:
        connection.execute(_NOTE, (pack_rows(rows), target))


def remove(connection: sqlite3.Connection, target: str, run_ids: Collection[str]) -> None:
    """Remove the notes of runs with a known origin. Runs without a note are ignored."""
    if run_ids:
        connection.execute(_REMOVE, (json.dumps(list(run_ids)), target))


def select(connection: sqlite3.Connection, target: str) -> list[Run]:
    """Return the noted runs of a target, in the order of their ids."""
    return parse_rows(Run, connection.execute(_SELECT, (target,)))
