"""Removal of old rows in small slices. Due occurrences wait for one slice at most.

Some rows stay at any age: open occurrences; the newest run, the newest finished run and the newest definition
of an automation; the definitions of remaining occurrences; runs without an end. The file does not shrink, but
free space is used again.

Each table is read once, in the order of an index. A slice is read on the connection for background work, and
its old rows are removed in one transaction of the writer. The cost depends on the number of rows to read, and
no slice depends on this number.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from scheduler.core.instants import to_text, to_text_seconds
from scheduler.database import Database

_SLICE: Final = 500
"""The number of rows that are read together.

At most as many are removed in one transaction: a few milliseconds.
"""

_Row = Sequence[Any]
"""The row's position in the order, its key for the removal, and a fact that shows whether the row is old."""


@dataclass(frozen=True, slots=True)
class _Table:
    """How to read one table from behind the position ``begin`` on, and how to remove rows by key."""

    begin: Sequence[str | int]
    select: str
    delete: str


_OCCURRENCES: Final = _Table(
    ("", "", ""),
    """
    SELECT json_array(scheduled_for, automation_id, target), id, last < :second AND outcome IS NOT NULL
    FROM occurrence
    WHERE (scheduled_for, automation_id, target) > (:place ->> 0, :place ->> 1, :place ->> 2)
        AND scheduled_for < :second
    ORDER BY scheduled_for, automation_id, target LIMIT :most
    """,
    "DELETE FROM occurrence WHERE id IN (SELECT value FROM json_each(?))",
)
_RUNS: Final = _Table(
    ("", "", ""),
    """
    SELECT json_array(finished_at, target, run_id), json_array(target, run_id), NOT EXISTS (
        SELECT 1 FROM automation
        WHERE automation.target = run.target AND automation.automation_id = run.automation_id
            AND run.run_id IN (automation.run_id, automation.finished_run_id)
    ) FROM run INDEXED BY run_alone
    WHERE occurrence_id IS NULL AND (finished_at, target, run_id) > (:place ->> 0, :place ->> 1, :place ->> 2)
        AND finished_at < :instant
    ORDER BY finished_at, target, run_id LIMIT :most
    """,
    "DELETE FROM run WHERE (target, run_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
)
# The fact: until when the definition was fired, as the next definition shows; NULL without a next definition.
_DEFINITIONS: Final = _Table(
    (0,),
    """
    SELECT json_array(id), json_array(id, target, automation_id), (
        SELECT max(next.effective_from, next.observed_at) FROM definition AS next
        WHERE next.target = definition.target AND next.automation_id = definition.automation_id
            AND next.id > definition.id
        ORDER BY next.id LIMIT 1
    ) FROM definition
    WHERE id > :place ->> 0 ORDER BY id LIMIT :most
    """,
    "DELETE FROM definition WHERE id IN (SELECT value ->> 0 FROM json_each(?))",
)


def _make_table(name: str, is_old: str) -> _Table:
    """Describe a table that is read in the order of its ids. ``is_old`` is the fact, as an expression."""
    return _Table(
        (0,),
        f"SELECT json_array(id), id, {is_old} FROM {name} WHERE id > :place ->> 0 ORDER BY id LIMIT :most",  # noqa: S608 -- literals of this module
        f"DELETE FROM {name} WHERE id IN (SELECT value FROM json_each(?))",  # noqa: S608 -- literals of this module
    )


_OTHERS: Final = (
    _make_table("manual_run", "requested_at < :instant"),
    _make_table("past_pause", "until < :instant"),
    _make_table("policy", "id < (SELECT max(id) FROM policy WHERE since < :instant)"),
    _Table(
        ("", "", ""),
        """
        SELECT json_array(target, automation_id, scheduled_for),
            json_array(target, automation_id, scheduled_for),
            requested_at < :instant AND refused IS NOT NULL FROM fire_request
        WHERE (target, automation_id, scheduled_for) > (:place ->> 0, :place ->> 1, :place ->> 2)
        ORDER BY target, automation_id, scheduled_for LIMIT :most
        """,
        """
        DELETE FROM fire_request
        WHERE (target, automation_id, scheduled_for) IN (SELECT value ->> 0, value ->> 1, value ->> 2
            FROM json_each(?))
        """,
    ),
)


async def prune(database: Database, before: datetime) -> int:
    """Remove unneeded rows older than ``before``; return their number. Raises `LedgerUnavailable`.

    With the first removed row, the ledger records the age up to which rows may be missing: no audit reports
    these rows as missing. The order matters: a run may go after its occurrence, and a definition may go when
    all occurrences of the definition are gone.
    """
    stays = _ExplainedDefinitions()
    removed = await _prune_table(database, _OCCURRENCES, before, stays.is_old_occurrence)
    removed += await _prune_table(database, _RUNS, before, _is_old)
    removed += await _prune_table(
        database, _DEFINITIONS, before, partial(stays.is_old_definition, before=to_text_seconds(before))
    )
    for table in _OTHERS:
        removed += await _prune_table(database, table, before, _is_old)
    return removed


class _ExplainedDefinitions:
    """The oldest remaining occurrence of each automation from before the limit.

    The definition of this occurrence has to stay.
    """

    def __init__(self) -> None:
        self._oldest: dict[tuple[str, str], str] = {}

    def is_old_occurrence(self, row: _Row) -> bool:
        (scheduled_for, automation_id, target), _, old = row
        if not old:
            self._oldest.setdefault((target, automation_id), scheduled_for)
        return bool(old)

    def is_old_definition(self, row: _Row, before: str) -> bool:
        _, (_, target, automation_id), until = row
        if until is None or _round_down_to_second(until) >= before:
            return False
        return _round_down_to_second(until) < self._oldest.get((target, automation_id), before)


def _is_old(row: _Row) -> bool:
    return bool(row[2])


def _round_down_to_second(instant: str) -> str:
    return f"{instant[:19]}Z"


async def _prune_table(
    database: Database, table: _Table, before: datetime, is_old: Callable[[_Row], bool]
) -> int:
    """Remove the table's old rows; return their number."""
    removed, place, more = 0, table.begin, True
    while more:
        rows = await database.read_in_background(partial(_read_slice, table.select, before, place))
        if old := [row[1] for row in rows if is_old(row)]:
            removed += await database.write(
                partial(_delete_rows, table.delete, json.dumps(old), to_text(before))
            )
        more = len(rows) == _SLICE
        place = rows[-1][0] if rows else place
    return removed


def _read_slice(
    select: str, before: datetime, place: Sequence[str | int], connection: sqlite3.Connection
) -> list[_Row]:
    bounds = {
        "instant": to_text(before),
        "second": to_text_seconds(before),
        "place": json.dumps(place),
        "most": _SLICE,
    }
    return [
        (json.loads(where), json.loads(key) if isinstance(key, str) else key, fact)
        for where, key, fact in connection.execute(select, bounds)
    ]


def _delete_rows(delete: str, found: str, before: str, connection: sqlite3.Connection) -> int:
    connection.execute(_REMEMBER, (before,))
    return connection.execute(delete, (found,)).rowcount


_REMEMBER: Final = """
    INSERT INTO pruned (id, before) VALUES (1, ?1) ON CONFLICT (id)
    DO UPDATE SET before = max(before, excluded.before)
"""
