"""An examination of the ledger without a trace: no lock, no write, and no new file beside a closed ledger.

Call `probe_ledger` in a separate process. The process may act as another user, hang on a dead disk, or crash
on a damaged file.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from scheduler.core.errors import SchedulerError
from scheduler.core.instants import from_text, to_text, to_text_seconds
from scheduler.core.status import NONE_FAILING, FailingAutomations
from scheduler.database.backup import refuse_interrupted_restore
from scheduler.database.errors import translate_errors
from scheduler.database.files import SIDE_FILE_SUFFIXES
from scheduler.database.files import open_without_trace as without_a_trace
from scheduler.doctor.facts import (
    LOOK_BACK,
    ForeignRunSummary,
    KnownAutomation,
    LedgerFacts,
    LedgerRecord,
    LedgerTarget,
)
from scheduler.doctor.probes.files import find_filesystem, get_free_bytes, read_file_facts
from scheduler.ledger.finished_runs import read_failing
from scheduler.ledger.lock import find_holding_process, locate_lock_file
from scheduler.ledger.schema import APPLICATION_ID

_FILES: Final = ("", *SIDE_FILE_SUFFIXES, ".lock")
_WAL_BYTE: Final = 18  # header byte; 2 means a write-ahead log (https://www.sqlite.org/fileformat.html)
_MAX_LOCK_TEXT: Final = 200  # bytes read from the lock file
_MAX_DAMAGES: Final = 5  # damages reported at most
_FINISHED_RUNS_VERSION: Final = 6  # the first schema version with finished runs
_RESTORATIONS_VERSION: Final = 8  # the first schema version with ``restored_at``
_STEPS: Final = 100_000  # of SQLite's virtual machine, between two readings of the clock


def probe_ledger(path: Path, now: datetime, overdue: Callable[[], bool]) -> LedgerFacts:
    """Return the facts about a ledger, with the caller's permissions. Raises nothing.

    The check of the pages ends early when ``overdue`` returns True.
    """
    facts = LedgerFacts(path=path)
    try:
        facts = _read_files(path)
        refuse_interrupted_restore(path)
        if facts.file is None:
            return facts
        with translate_errors(path), path.open("rb") as file:
            # The file is closed again before SQLite has any lock on the ledger.
            facts = replace(facts, has_wal=file.read(_WAL_BYTE + 1)[-1:] == b"\2")
        with translate_errors(path), closing(without_a_trace(path)) as connection:
            return _read_contents(facts, connection, now, overdue)
    except SchedulerError as error:
        return replace(facts, error=str(error))
    except OSError as error:
        return replace(
            facts,
            error=f"{path}: {(error.strerror or str(error)).lower()}; ask as root, or as the user that the daemon runs as",
        )


def _read_files(path: Path) -> LedgerFacts:
    folder = read_file_facts(path.parent)
    if folder is None:
        return LedgerFacts(path=path)
    files = [read_file_facts(path.with_name(path.name + suffix)) for suffix in _FILES]
    writable = [each for each in (path.parent, path) if each.exists()]
    return LedgerFacts(
        path=path,
        folder=folder,
        files=tuple(each for each in files if each is not None),
        writable=all(os.access(each, os.W_OK, effective_ids=True) for each in writable),
        filesystem=find_filesystem(path.parent),
        free=get_free_bytes(path.parent),
        holder=find_holding_process(path),
        lock_text=_read_lock_text(path),
    )


def _read_lock_text(path: Path) -> str:
    try:
        with locate_lock_file(path).open("rb") as file:
            return file.read(_MAX_LOCK_TEXT).decode(errors="replace").strip()
    except OSError:
        return ""


def _read_contents(
    facts: LedgerFacts, connection: sqlite3.Connection, now: datetime, overdue: Callable[[], bool]
) -> LedgerFacts:
    connection.row_factory = sqlite3.Row
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    facts = replace(facts, application_id=application_id, version=version)
    if application_id != APPLICATION_ID:
        return facts
    unsound = _find_damage(connection, overdue)
    return replace(facts, damage=unsound, record=None if unsound else _read_record(connection, now, version))


def _find_damage(connection: sqlite3.Connection, overdue: Callable[[], bool]) -> tuple[str, ...] | None:
    """Return the damages that SQLite finds in the file; None when the time did not suffice."""
    connection.set_progress_handler(overdue, _STEPS)
    try:
        found = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({_MAX_DAMAGES})")]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return None
        raise
    finally:
        connection.set_progress_handler(None, 0)
    return () if found == ["ok"] else tuple(found)


# ---------------------------------------------------------------- content


_TARGETS: Final = "SELECT name, url, project_id, snapshot_at FROM target"
_RESTORED_TARGETS: Final = "SELECT name, url, project_id, snapshot_at, restored_at FROM target"
_AUTOMATIONS: Final = """
    SELECT target, automation_id, name, cron_expression, timezone, enabled, invalid, run_id, run_at FROM automation WHERE removed_at IS NULL
"""
_FOREIGN: Final = """
    SELECT run.target, run.automation_id, coalesce(automation.name, run.automation_id) AS name,
        count(*) AS count, max(run.started_at) AS newest, count(run.doubles) AS doubles
    FROM run LEFT JOIN automation ON automation.target = run.target AND automation.automation_id = run.automation_id
    WHERE run.origin = 'foreign' AND run.started_at > ? GROUP BY run.target, run.automation_id
"""


def _read_record(connection: sqlite3.Connection, now: datetime, version: int) -> LedgerRecord:
    (occurrences, oldest), (recent,) = (
        connection.execute("SELECT count(*), min(scheduled_for) FROM occurrence").fetchone(),
        connection.execute(
            "SELECT count(*) FROM occurrence WHERE scheduled_for > ?", (to_text_seconds(now - LOOK_BACK),)
        ).fetchone(),
    )
    evaluated = connection.execute(
        "SELECT croniter, tzdata, rules_version FROM evaluation ORDER BY id DESC LIMIT 1"
    ).fetchone()
    newest = connection.execute(
        "SELECT automation_id, max(started_at) FROM run WHERE started_at IS NOT NULL GROUP BY automation_id"
    )
    return LedgerRecord(
        occurrences=occurrences,
        recent=recent,
        oldest=_parse_instant(oldest),
        evaluation=None if evaluated is None else (evaluated[0], evaluated[1], evaluated[2]),
        targets=tuple(
            map(
                _read_target,
                connection.execute(_RESTORED_TARGETS if version >= _RESTORATIONS_VERSION else _TARGETS),
            )
        ),
        automations=tuple(map(_read_automation, connection.execute(_AUTOMATIONS))),
        paused=frozenset(
            (row[0], row[1]) for row in connection.execute("SELECT target, automation_id FROM pause")
        ),
        foreign_runs=tuple(
            map(_read_foreign_runs, connection.execute(_FOREIGN, (to_text(now - LOOK_BACK),)))
        ),
        newest_runs={row[0]: from_text(row[1]) for row in newest},
        failing=_read_failing(connection) if version >= _FINISHED_RUNS_VERSION else NONE_FAILING,
    )


def _read_failing(connection: sqlite3.Connection) -> FailingAutomations:
    return read_failing(connection, [row["name"] for row in connection.execute(_TARGETS)])


def _read_target(row: Any) -> LedgerTarget:
    name, url, project_id, *instants = row
    return LedgerTarget(name, url, project_id, *map(_parse_instant, instants))


def _read_automation(row: Any) -> KnownAutomation:
    broken = (row["invalid"] or "it has no usable definition") if row["cron_expression"] is None else None
    definition = (row["cron_expression"] or "", row["timezone"] or "", bool(row["enabled"]))
    return KnownAutomation(
        row["target"],
        row["automation_id"],
        row["name"],
        *definition,
        broken,
        row["run_id"],
        _parse_instant(row["run_at"]),
    )


def _read_foreign_runs(row: Any) -> ForeignRunSummary:
    return ForeignRunSummary(
        row["target"],
        row["automation_id"],
        row["name"],
        row["count"],
        from_text(row["newest"]),
        row["doubles"],
    )


def _parse_instant(text: str | None) -> datetime | None:
    return None if text is None else from_text(text)
