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
from typing import Final

from scheduler.core.errors import SchedulerError
from scheduler.database.backup import refuse_interrupted_restore
from scheduler.database.errors import translate_errors
from scheduler.database.files import SIDE_FILE_SUFFIXES, find_damage, open_without_trace, read_kind
from scheduler.database.lock_file import locate_lock_file
from scheduler.doctor.facts import LOOK_BACK, LedgerFacts
from scheduler.doctor.probes.files import find_filesystem, get_free_bytes, read_file_facts
from scheduler.ledger.lock import find_holding_process
from scheduler.ledger.schema import APPLICATION_ID
from scheduler.ledger.summary import read_record

_FILES: Final = ("", *SIDE_FILE_SUFFIXES, ".lock")
_WAL_BYTE: Final = 18  # header byte; 2 means a write-ahead log (https://www.sqlite.org/fileformat.html)
_MAX_LOCK_TEXT: Final = 200  # bytes read from the lock file


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
        with translate_errors(path), closing(open_without_trace(path)) as connection:
            return _read_contents(facts, connection, now, overdue)
    except SchedulerError as error:
        return replace(facts, error=str(error))
    except OSError as error:
        remedy = "run the command as root, or as the user that the daemon runs as"
        return replace(facts, error=f"{path}: {(error.strerror or str(error)).lower()}; {remedy}")


def _read_files(path: Path) -> LedgerFacts:
    folder = read_file_facts(path.parent)
    if folder is None:
        return LedgerFacts(path=path)
    files = [read_file_facts(path.with_name(path.name + suffix)) for suffix in _FILES]
    existing = [place for place in (path.parent, path) if place.exists()]
    return LedgerFacts(
        path=path,
        folder=folder,
        files=tuple(file for file in files if file is not None),
        writable=all(os.access(place, os.W_OK, effective_ids=True) for place in existing),
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
    application_id, version = read_kind(connection)
    facts = replace(facts, application_id=application_id, version=version)
    if application_id != APPLICATION_ID:
        return facts
    damage = find_damage(connection, overdue)
    record = None if damage else read_record(connection, now - LOOK_BACK, version)
    return replace(facts, damage=damage, record=record)
