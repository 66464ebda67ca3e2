"""The newest finished run of each automation: failing automations, and last results.

Triggers of the schema keep the id of this run, the end and the number of failures in a row in the
automation's row. So no query reads the history. A newer, unfinished run does not hide the result; a
superseded run has no result.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from scheduler.core.instants import to_text
from scheduler.core.model import RunStatus
from scheduler.core.status import FailingAutomations, FinishedRun
from scheduler.ledger.rows import parse_rows
from scheduler.ledger.sql_batch import pack_rows

MOST_NAMED: Final = 20
"""The number of failing automations that are named; the others are only counted."""

_COLUMNS: Final = """
    automation.target, automation.automation_id, automation.name, run.run_id, run.status,
        automation.finished_at, automation.failures,
    run.error
"""

_SELECT_FAILING: Final = f"""
    SELECT {_COLUMNS} FROM automation INDEXED BY automation_failing
    CROSS JOIN run ON run.target = automation.target AND run.run_id = automation.finished_run_id
    WHERE automation.failures > 0 AND automation.removed_at IS NULL AND automation.enabled IS NOT 0
        AND automation.target IN (SELECT value FROM json_each(?1))
    ORDER BY automation.finished_at DESC LIMIT ?2
"""  # noqa: S608 -- literals of this module

_COUNT_FAILING: Final = """
    SELECT target, count(*) FROM automation INDEXED BY automation_failing
    WHERE failures > 0 AND removed_at IS NULL AND enabled IS NOT 0
        AND target IN (SELECT value FROM json_each(?1))
    GROUP BY target ORDER BY target
"""

_SELECT_FAILING_IDS: Final = """
    SELECT automation_id FROM automation INDEXED BY automation_failing
    WHERE failures > 0 AND removed_at IS NULL AND target = ?
"""

_SELECT_SOME: Final = f"""
    SELECT {_COLUMNS} FROM json_each(?1) AS given
    CROSS JOIN automation ON automation.target = given.value ->> 0
        AND automation.automation_id = given.value ->> 1
    CROSS JOIN run ON run.target = automation.target AND run.run_id = automation.finished_run_id
"""  # noqa: S608 -- literals of this module

_COUNT_ENDED: Final = """
    SELECT status, count(*) FROM (
        SELECT status FROM run INDEXED BY run_failed
        WHERE status IN ('failed', 'lost') AND finished_at >= ?1 AND origin <> 'before' LIMIT ?2
    ) GROUP BY status
"""


def read_failing(
    connection: sqlite3.Connection, targets: Sequence[str], most: int = MOST_NAMED
) -> FailingAutomations:
    """Count the failing automations of these targets, and read the newest ``most`` of their last results.

    Removed and disabled automations do not count: such automations start no further runs, and nobody has to
    act on an old failure.
    """
    wanted = json.dumps(list(targets))
    counts = dict(connection.execute(_COUNT_FAILING, (wanted,)).fetchall())
    return FailingAutomations(counts, _parse_runs(connection.execute(_SELECT_FAILING, (wanted, most))))


def read_failing_ids(connection: sqlite3.Connection, target: str) -> list[str]:
    """Return the ids of the target's automations with a failed or lost newest finished run."""
    return [automation_id for (automation_id,) in connection.execute(_SELECT_FAILING_IDS, (target,))]


def read_finished_runs(
    connection: sqlite3.Connection, automations: Collection[tuple[str, str]]
) -> Mapping[tuple[str, str], FinishedRun]:
    """Read the newest finished runs of these automations, by target and id.

    An automation without a finished run has no entry.
    """
    runs = _parse_runs(connection.execute(_SELECT_SOME, (pack_rows(list(automations)),)))
    return {(run.target, run.automation_id): run for run in runs}


def count_failed_runs(connection: sqlite3.Connection, since: datetime, most: int) -> Mapping[RunStatus, int]:
    """Count the runs seen to fail or to be lost since an instant, at most ``most`` runs.

    Runs from before the daemon do not count.
    """
    return {
        RunStatus(status): number
        for status, number in connection.execute(_COUNT_ENDED, (to_text(since), most))
    }


def _parse_runs(rows: sqlite3.Cursor) -> list[FinishedRun]:
    return [replace(run, error=read_last_line(run.error)) for run in parse_rows(FinishedRun, rows)]


def read_last_line(text: str | None) -> str | None:
    """Return the last non-blank line of a text; None for a blank text."""
    lines = (line.strip() for line in reversed((text or "").splitlines()))
    return next((line for line in lines if line), None)
