"""What `scheduler restore` does: hold each database, write all that is restored beside it, and only then put everything in place.

A backup does not know what was fired and which runs were carried out after it was made. So the ledger is paused, and the runs that had not
ended are ended: nothing of the past starts by itself.
"""

import getpass
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from scheduler.cli import api_database, ledger_file
from scheduler.cli.backup_file import LEDGER, Backup
from scheduler.cli.owner import acting_as_owner
from scheduler.core.errors import LedgerUnavailable
from scheduler.database import Database
from scheduler.database.backup import Kind, name_staged, put_in_place
from scheduler.database.faults import translated
from scheduler.database.files import BESIDE
from scheduler.ledger.intents import EVERYTHING, Pause, note_restoration, pause
from scheduler.localapi.endings import RESTORED
from scheduler.localapi.runs import RunQueue


@dataclass(frozen=True, slots=True)
class Restored:
    """A database that was restored. ``aside`` is the folder of what was there; ``pauses`` were made, and ``ended`` runs were ended."""

    path: Path
    aside: Path | None
    pauses: Sequence[Pause] = ()
    ended: int = 0


def restore(backup: Backup, paths: Mapping[Kind, Path], at: datetime, *, moved: bool) -> Sequence[Restored]:
    """Put all databases of a backup in place. ``moved``: nothing happened since, so everything goes on.

    A restore that is killed or fails between two databases leaves the file of the second one: nobody serves that database before the
    restore is done, see `refuse_interrupted`.

    Raises `ConfigurationError` when a process uses one of the databases, `DatabaseRefused`, or `LedgerUnavailable`.
    """
    kinds = sorted(backup.stages, key=lambda kind: kind is not LEDGER)  # first the ledger, which is paused: then nothing can be fired
    with ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(ledger_file.hold(paths[kind], at) if kind is LEDGER else api_database.hold(paths[kind]))
        try:
            changes = {kind: _stage(backup, kind, name_staged(paths[kind]), at, moved=moved) for kind in kinds}
        except BaseException:
            for kind in kinds:
                _remove(name_staged(paths[kind]))
            raise
        return [_put_in_place(paths[kind], at, *changes[kind]) for kind in kinds]


def _put_in_place(path: Path, at: datetime, pauses: Sequence[Pause], ended: int) -> Restored:
    with acting_as_owner(path):
        return Restored(path, put_in_place(name_staged(path), path, at), pauses, ended)


def _remove(staged: Path) -> None:
    with acting_as_owner(staged):
        for suffix in ("", *BESIDE):
            staged.with_name(staged.name + suffix).unlink(missing_ok=True)


def _stage(backup: Backup, kind: Kind, staged: Path, at: datetime, *, moved: bool) -> tuple[Sequence[Pause], int]:
    """Write a database beside its place, bring it up to date, and see that nothing of it starts by itself."""
    _remove(staged)
    with acting_as_owner(staged), translated(staged):
        backup.stages[kind](staged)
        pauses: Sequence[Pause] = ()
        ended = 0
        if kind is LEDGER:
            pauses = ledger_file.write(staged, lambda connection: [] if moved else _pause_all(connection, at))
        else:
            ended = api_database.carry_out(staged, lambda database: _end_runs(database, at, moved=moved))
        _require_closed(staged)
        return pauses, ended


def _require_closed(staged: Path) -> None:
    """Raise `LedgerUnavailable` when a part of a database is still in its write-ahead log: SQLite keeps silent when the disk is full."""
    if any(staged.with_name(staged.name + suffix).exists() for suffix in BESIDE):
        raise LedgerUnavailable(f"{staged} could not be written to its end; make room on its disk. Nothing was changed")


def _pause_all(connection: sqlite3.Connection, at: datetime) -> list[Pause]:
    """Note the restoration, and pause all targets that are not paused as a whole; return the pauses that were made."""
    note_restoration(connection, at)
    by = f"{getpass.getuser()} (restore)"
    targets = [name for (name,) in connection.execute("SELECT name FROM target ORDER BY name")]
    return [wanted for wanted in (Pause(target, EVERYTHING, at, by) for target in targets) if pause(connection, wanted)]


async def _end_runs(database: Database, at: datetime, *, moved: bool) -> int:
    return 0 if moved else await RunQueue(database, lambda: at).end_unfinished(RESTORED)
