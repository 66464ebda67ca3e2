"""Removes what is older than it is kept: working directories, outputs, rows of runs, stored answers.

Everything is done in slices, beside the runs: a slice of rows is one short transaction, and the disk is worked on by processes and threads.
In this order: a run has its row for as long as it has its folder, so that no folder is ever without an owner.
"""

import asyncio
import json
import os
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from scheduler.core.errors import Unreachable
from scheduler.core.instants import to_text
from scheduler.database import Database
from scheduler.localapi import prompts
from scheduler.localapi.config import RunnerConfig
from scheduler.localapi.store import ANSWERS_KEPT, remove_old_answers
from scheduler.localapi.workspace import Workspace

_EVERY: Final = 3600.0  # seconds
_SLICE: Final = 500
"""Rows that are looked at together."""
_BETWEEN: Final = 0.05
"""Seconds between two slices of rows, in which others may write."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A run that ended and has a folder."""

    id: str
    succeeded: bool
    finished_at: str


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of `runs`, as far as its age and its removal go."""

    sequence: int
    id: str
    created_at: str
    finished_at: str | None
    prompt_id: int | None


class Retention:
    """What is kept of the runs of one database, and for how long. ``now`` is the clock."""

    def __init__(self, config: RunnerConfig, database: Database, now: Callable[[], datetime]) -> None:
        self._config = config
        self._database = database
        self._now = now
        self._clones: deque[str] = deque()  # ids of runs whose working directories are to go at once
        self._called = asyncio.Event()

    def note_success(self, run_id: str) -> None:
        """Remove the clone of this run soon if successful runs do not keep theirs."""
        if self._config.clone_url and not self._config.clone_retention:
            self._clones.append(run_id)
            self._called.set()

    async def run(self) -> None:
        """Remove what is old, now and every hour, until this is cancelled."""
        while True:
            await self._attempt(self._remove_old)
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY):
                    while True:
                        await self._called.wait()
                        self._called.clear()
                        await self._attempt(self._remove_clones)

    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Unreachable:
            pass  # `DatabaseHealth` logs the cause, once; the next time it may go well
        except OSError as error:
            _log.warning("workspaces.unread", error=str(error))
        except Exception:  # noqa: BLE001 - the edge of the loop: the next time it may go well
            _log.exception("workspaces.unread")

    async def _remove_clones(self) -> None:
        while self._clones:
            run_id = self._clones.popleft()
            for found in await asyncio.to_thread(_find_work, self._config.folder, [run_id]):
                await self._remove(found, Workspace.of(self._config.folder, found).remove_work)

    async def _remove_old(self) -> None:
        names = await asyncio.to_thread(Workspace.all_in, self._config.folder)
        left = set(names)
        for first in range(0, len(names), _SLICE):
            left -= await self._remove_folders(names[first : first + _SLICE])
        await self._remove_rows(left)
        await self._in_slices(partial(_remove_answers, before=to_text(self._now() - ANSWERS_KEPT)))
        await self._in_slices(prompts.move)

    async def _remove_folders(self, names: Sequence[str]) -> set[str]:
        """Remove the old ones of these folders, and the old clones in the others; return the names of the folders that are gone."""
        folder = self._config.folder
        of_all = self._before(min(self._config.retention, self._config.row_retention))
        of_clones = self._before(self._config.clone_retention) if self._config.clone_url else ""
        ended = await self._database.read_in_background(partial(_find_ended, names=names))
        old = [run.id for run in ended if run.finished_at <= of_all]
        successful = [run.id for run in ended if of_all < run.finished_at <= of_clones and run.succeeded]
        for run_id in await asyncio.to_thread(_find_work, folder, successful):
            await self._remove(run_id, Workspace.of(folder, run_id).remove_work)
        return {run_id for run_id in old if await self._remove(run_id, Workspace.of(folder, run_id).remove)}

    async def _remove(self, run_id: str, remove: Callable[[], Awaitable[None]]) -> bool:
        try:
            await remove()
        except OSError as error:  # the others are removed all the same
            _log.warning("workspace.kept", task_run_id=run_id, error=str(error))
            return False
        return True

    async def _remove_rows(self, with_folder: AbstractSet[str]) -> None:
        before, place, more = self._before(self._config.row_retention), 0, True
        while more:
            rows = await self._database.read_in_background(partial(_read_rows, place=place))
            old = [row for row in rows if row.finished_at and row.finished_at <= before and row.id not in with_folder]
            if old:
                await self._database.write(partial(_remove_runs, rows=old))
                await asyncio.sleep(_BETWEEN)
            more = len(rows) == _SLICE and rows[-1].created_at <= before
            place = rows[-1].sequence if rows else place

    async def _in_slices(self, operation: Callable[[sqlite3.Connection], int]) -> None:
        """Repeat a short transaction until it finds nothing more to do."""
        more = True
        while more:
            more = bool(await self._database.write(operation))
            await asyncio.sleep(_BETWEEN if more else 0.0)

    def _before(self, seconds: float) -> str:
        return to_text(self._now() - timedelta(seconds=seconds))


def _find_ended(connection: sqlite3.Connection, *, names: Sequence[str]) -> list[_Ended]:
    rows = connection.execute(
        "SELECT id, status = 'success', finished_at FROM runs WHERE id IN (SELECT value FROM json_each(?)) AND finished_at IS NOT NULL",
        (json.dumps(names),),
    )
    return [_Ended(run_id, bool(succeeded), finished_at) for run_id, succeeded, finished_at in rows]


def _find_work(folder: Path, run_ids: Sequence[str]) -> list[str]:
    return [run_id for run_id in run_ids if os.path.lexists(Workspace.of(folder, run_id).work)]


def _read_rows(connection: sqlite3.Connection, *, place: int) -> list[_Row]:
    """Read a slice in the order in which the runs were accepted, so that the walk ends at the first run that is not old."""
    rows = connection.execute(
        "SELECT sequence, id, created_at, finished_at, prompt_id FROM runs WHERE sequence > ? ORDER BY sequence LIMIT ?", (place, _SLICE)
    )
    return [_Row(*row) for row in rows]


def _remove_runs(connection: sqlite3.Connection, *, rows: Sequence[_Row]) -> None:
    numbers = json.dumps([row.sequence for row in rows])
    connection.execute("DELETE FROM runs WHERE sequence IN (SELECT value FROM json_each(?))", (numbers,))
    prompts.remove_unused(connection, (row.prompt_id for row in rows))


def _remove_answers(connection: sqlite3.Connection, *, before: str) -> int:
    return remove_old_answers(connection, before, _SLICE)
