"""Old rows go, a few hundred at a time, so that no claim ever waits for it.

What stays whatever its age: open occurrences; an automation's newest run; its newest definition, and those that are needed to explain the
occurrences that stay; runs that have not ended. The file does not shrink, but what is free in it is used again.
"""

import json
import sqlite3
from datetime import datetime
from functools import partial
from typing import Final

from scheduler.core.instants import to_text, to_text_seconds
from scheduler.database import Database

_STEP: Final = 500
"""Rows for one transaction: a few milliseconds."""

# Looked for on the reader's connection, since some of these go through whole tables, and removed on the writer's. In this order: a run may
# go when its occurrence is gone, and a definition when nothing that it explains is left.
_STEPS: Final = (
    (
        """
        SELECT json_group_array(id) FROM (
            SELECT id FROM occurrence WHERE scheduled_for < :second AND last < :second AND outcome IS NOT NULL
            ORDER BY scheduled_for LIMIT :step
        )
        """,
        "DELETE FROM occurrence WHERE id IN (SELECT value FROM json_each(?))",
    ),
    (
        """
        SELECT json_group_array(json_array(target, run_id)) FROM (
            SELECT target, run_id FROM run
            WHERE occurrence_id IS NULL AND finished_at < :instant AND NOT EXISTS (
                SELECT 1 FROM automation
                WHERE automation.target = run.target AND automation.automation_id = run.automation_id AND automation.run_id = run.run_id
            ) LIMIT :step
        )
        """,
        "DELETE FROM run WHERE (target, run_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
    ),
    (
        """
        SELECT json_group_array(id) FROM (
            SELECT DISTINCT older.id FROM definition AS older JOIN definition AS newer
            ON newer.target = older.target AND newer.automation_id = older.automation_id AND newer.id > older.id
            WHERE newer.effective_from < :instant AND newer.observed_at < :instant AND NOT EXISTS (
                SELECT 1 FROM occurrence WHERE target = older.target AND automation_id = older.automation_id
                AND scheduled_for <= substr(max(newer.effective_from, newer.observed_at), 1, 19) || 'Z'
            ) LIMIT :step
        )
        """,
        "DELETE FROM definition WHERE id IN (SELECT value FROM json_each(?))",
    ),
    (
        "SELECT json_group_array(id) FROM (SELECT id FROM manual_run WHERE requested_at < :instant LIMIT :step)",
        "DELETE FROM manual_run WHERE id IN (SELECT value FROM json_each(?))",
    ),
    (
        "SELECT json_group_array(id) FROM (SELECT id FROM past_pause WHERE until < :instant LIMIT :step)",
        "DELETE FROM past_pause WHERE id IN (SELECT value FROM json_each(?))",
    ),
    (
        """
        SELECT json_group_array(id) FROM (
            SELECT id FROM policy WHERE EXISTS (SELECT 1 FROM policy AS newer WHERE newer.id > policy.id AND newer.since < :instant)
            LIMIT :step
        )
        """,
        "DELETE FROM policy WHERE id IN (SELECT value FROM json_each(?))",
    ),
    (
        """
        SELECT json_group_array(json_array(target, automation_id, scheduled_for)) FROM (
            SELECT target, automation_id, scheduled_for FROM fire_request WHERE requested_at < :instant AND refused IS NOT NULL LIMIT :step
        )
        """,
        """
        DELETE FROM fire_request
        WHERE (target, automation_id, scheduled_for) IN (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?))
        """,
    ),
)


async def prune(database: Database, before: datetime) -> int:
    """Remove what is older than ``before``, as far as nothing needs it; returns how many rows. Raises `LedgerUnavailable`.

    That there may be none of what was scheduled before is on record with the first row that goes: nobody is to miss them.
    """
    bounds: dict[str, str | int] = {"instant": to_text(before), "second": to_text_seconds(before), "step": _STEP}
    removed = 0
    for select, delete in _STEPS:
        while (found := await database.read(partial(_found, select, bounds))) != "[]":
            removed += await database.write(partial(_removed, delete, found, to_text(before)))
            if len(json.loads(found)) < _STEP:
                break
    return removed


def _found(select: str, bounds: dict[str, str | int], connection: sqlite3.Connection) -> str:
    (found,) = connection.execute(select, bounds).fetchone()
    return str(found)


def _removed(delete: str, found: str, before: str, connection: sqlite3.Connection) -> int:
    connection.execute(_REMEMBER, (before,))
    return connection.execute(delete, (found,)).rowcount


_REMEMBER: Final = """
    INSERT INTO pruned (id, before) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET before = max(before, excluded.before)
"""
