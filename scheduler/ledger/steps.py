"""Steps of occurrences, written together with other changes of the occurrence.

A lasting wait is written once by itself, without the end.
"""

import sqlite3
from typing import Final

from scheduler.core.occurrence_log import StepsByOccurrence
from scheduler.ledger.sql_batch import OCCURRENCE, make_statement, pack_rows, to_identity

_INSERT: Final = make_statement(
    f"{OCCURRENCE}, at, cause, until, detail, by",
    """
    INSERT INTO step (occurrence_id, at, cause, until, detail, "by")
    SELECT occurrence.id, given.at, given.cause, given.until, given.detail, given.by FROM {given}
    CROSS JOIN occurrence WHERE {same}
    ON CONFLICT (occurrence_id, at, cause)
    DO UPDATE SET until = coalesce(excluded.until, until), detail = excluded.detail
    """,
)


def record(connection: sqlite3.Connection, steps_by_occurrence: StepsByOccurrence) -> None:
    """Write the steps of occurrences; most occurrences have none."""
    rows = [
        (*to_identity(occurrence), step.at, step.cause, step.until, step.detail, step.by)
        for occurrence, steps in steps_by_occurrence
        for step in steps
    ]
    if rows:
        connection.execute(_INSERT, (pack_rows(rows),))
