"""The work of `scheduler restore`: lock each database, write all copies, then move all into place.

The copies are written beside their places. A backup does not know the fires and runs after the backup. So the
ledger is paused, and unfinished runs are ended: no past work starts by itself.
"""

import getpass
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from scheduler.cli import api_database, ledger_file
from scheduler.cli.backup_file import API, LEDGER, Backup
from scheduler.cli.file_owner import act_as_owner
from scheduler.core.errors import ConfigurationError, LedgerUnavailable
from scheduler.database import Database, Schema
from scheduler.database.backup import make_staged_path, move_into_place
from scheduler.database.errors import translate_errors
from scheduler.database.files import SIDE_FILE_SUFFIXES
from scheduler.ledger.lock import LedgerLock
from scheduler.ledger.operator_requests import Pause, pause_all
from scheduler.ledger.targets import move_target, note_restoration, read_targets
from scheduler.localapi.lock import ServerLock
from scheduler.localapi.runner.run_results import RESTORED_ERROR
from scheduler.localapi.runs import RunQueue
from scheduler.settings.addresses import is_loopback
from scheduler.settings.models import Settings, TargetSection

_FOLDER_ADVICE: Final = {
    LEDGER: "name the ledger by --config, or install the daemon first",
    API: "name another in [api] database, or install the API first",
}


@dataclass(frozen=True, slots=True)
class RestoredDatabase:
    """A restored database.

    ``aside`` is the folder with the replaced files. ``pauses`` were made, and ``ended_runs`` runs were ended.
    ``moved_targets`` are the embedded API's targets with a new URL, each with the old URL.
    """

    path: Path
    aside: Path | None = None
    pauses: Sequence[Pause] = ()
    ended_runs: int = 0
    moved_targets: Sequence[tuple[TargetSection, str]] = ()


def restore(backup: Backup, settings: Settings, at: datetime, *, moved: bool) -> Sequence[RestoredDatabase]:
    """Put all databases of a backup in place.

    ``moved``: nothing happened since the backup, so everything continues. A restore that is killed or fails
    between two databases leaves the file of the second database. No process serves that database before the
    restore is done, see `refuse_interrupted_restore`.

    Raises `ConfigurationError` when a process uses one of the databases, `DatabaseRefused`, or
    `LedgerUnavailable`.
    """
    # First the ledger: a paused ledger means that nothing can fire.
    kinds = sorted(backup, key=lambda kind: kind is not LEDGER)
    paths = {LEDGER: settings.ledger.url.path, API: settings.api.database.path}
    embedded = settings.embedded_targets if len(kinds) == len(paths) else []
    with ExitStack() as stack:
        for kind in kinds:
            stack.callback(_acquire_lock(kind, paths[kind], at).release)
        try:
            written = [_write(backup, kind, paths[kind], at, embedded, moved=moved) for kind in kinds]
        except BaseException:
            for kind in kinds:
                _remove(make_staged_path(paths[kind]))
            raise
        return [_move_into_place(restored, at) for restored in written]


def _acquire_lock(kind: Schema, path: Path, at: datetime) -> LedgerLock | ServerLock:
    """Lock a database that may not exist yet, so that no server uses the database.

    Raises `ConfigurationError` naming the server that uses the database, or for a missing folder.
    """
    with act_as_owner(path), translate_errors(path):
        if not path.parent.is_dir():
            raise ConfigurationError(f"there is no folder {path.parent}; {_FOLDER_ADVICE[kind]}")
        return ledger_file.acquire_lock(path, at) if kind is LEDGER else ServerLock.acquire(path)


def _move_into_place(restored: RestoredDatabase, at: datetime) -> RestoredDatabase:
    path = restored.path
    with act_as_owner(path):
        return replace(restored, aside=move_into_place(make_staged_path(path), path, at))


def _remove(staged: Path) -> None:
    with act_as_owner(staged):
        for suffix in ("", *SIDE_FILE_SUFFIXES):
            staged.with_name(staged.name + suffix).unlink(missing_ok=True)


def _write(
    backup: Backup,
    kind: Schema,
    path: Path,
    at: datetime,
    embedded: Sequence[TargetSection],
    *,
    moved: bool,
) -> RestoredDatabase:
    """Write a database beside its place, migrate the file, and prevent past work from starting by itself."""
    staged = make_staged_path(path)
    _remove(staged)

    def change_ledger(connection: sqlite3.Connection) -> RestoredDatabase:
        pauses = [] if moved else _pause_all(connection, at)
        return RestoredDatabase(path, pauses=pauses, moved_targets=[*_move_targets(connection, embedded)])

    async def change_api(database: Database) -> RestoredDatabase:
        ended = 0 if moved else await RunQueue(database, lambda: at).end_unfinished(RESTORED_ERROR)
        return RestoredDatabase(path, ended_runs=ended)

    with act_as_owner(staged), translate_errors(staged):
        backup[kind](staged)
        if kind is LEDGER:
            restored = ledger_file.write(staged, change_ledger)
        else:
            restored = api_database.carry_out(staged, change_api)
        _require_complete_file(staged)
        return restored


def _move_targets(
    connection: sqlite3.Connection, embedded: Sequence[TargetSection]
) -> Iterator[tuple[TargetSection, str]]:
    """Bind the embedded API's targets to the API's new URL.

    The API is restored with the ledger, and so is the same API.
    """
    urls = {(target.name, target.project_id): target.url for target in read_targets(connection)}
    for target in embedded:
        if not is_loopback(urlsplit(urls.get((target.name, target.project_id), "")).hostname or ""):
            continue
        with suppress(ConfigurationError):  # another target has the URL: the daemon reports the conflict
            old = move_target(connection, target.name, target.url, target.project_id)
            if old is not None:
                yield target, old


def _require_complete_file(staged: Path) -> None:
    """Raise `LedgerUnavailable` when a part of a database is still in its write-ahead log.

    SQLite reports no error when the disk is full.
    """
    if any(staged.with_name(staged.name + suffix).exists() for suffix in SIDE_FILE_SUFFIXES):
        remedy = "make room on its disk. Nothing was changed"
        raise LedgerUnavailable(f"{staged} could not be written completely; {remedy}")


def _pause_all(connection: sqlite3.Connection, at: datetime) -> list[Pause]:
    """Note the restoration, and pause all targets not paused as a whole; return the new pauses."""
    note_restoration(connection, at)
    return pause_all(connection, at, f"{getpass.getuser()} (restore)")
