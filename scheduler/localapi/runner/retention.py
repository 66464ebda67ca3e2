"""Removal of old folders, clones, rows of runs and stored answers; and the size of the remaining folders.

A run has a folder with its output. The clone of the repository, in which the agent works, is the entry
`work` of this folder. The clone of a successful run may be removed before the folder. The clone of a failed
run stays as long as the folder, so that people can look for the cause.

All work is done in slices, beside the runs: a slice of rows is a short transaction, and processes and threads
work on the disk. The order matters: a run has a row as long as a folder exists. Only a database restored from
a backup lacks the rows of later runs; these folders are removed by their own age.
"""

import asyncio
import json
import os
import sqlite3
import uuid
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from scheduler.core.errors import Unreachable
from scheduler.core.instants import from_text, to_text
from scheduler.database import Database
from scheduler.localapi import prompts
from scheduler.localapi.config import RunnerConfig
from scheduler.localapi.runner.sizes import RunSize, measure
from scheduler.localapi.runner.workspace import Workspace
from scheduler.localapi.store import ANSWER_RETENTION, remove_old_answers

_INTERVAL: Final = 3600.0  # seconds
_SLICE: Final = 500
"""The number of rows that are read together."""
_SLICE_PAUSE: Final = 0.05
"""Seconds between two slices of rows, in which other writers may write."""

_MEASURE_TIMEOUT: Final = 60.0
"""Seconds for one measurement of the folders of runs."""

_WITH_IDS: Final = "WHERE id IN (SELECT value FROM json_each(?))"
_SLICE_AFTER: Final = "WHERE sequence > ? ORDER BY sequence LIMIT ?"  # in the order of acceptance

_log = structlog.get_logger(__name__)


class _RunRow(NamedTuple):
    """A row of `runs`, with the columns for age and removal."""

    sequence: int
    id: str
    status: str
    created_at: str
    finished_at: str | None
    prompt_id: int | None


class Retention:
    """The retention of the runs of a database. ``now`` is the clock."""

    def __init__(self, config: RunnerConfig, database: Database, now: Callable[[], datetime]) -> None:
        self._config = config
        self._database = database
        self._now = now
        # the recently ended runs, and whether they succeeded
        self._ended_runs: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self._removing = asyncio.Lock()
        self._sizes: dict[str, RunSize] = {}  # of the ended runs with a folder, as far as measured
        self.size = RunSize()
        """The size of the folders of the ended runs."""

    def note_end(self, run_id: str, *, succeeded: bool) -> None:
        """Note an ended run, to measure the folder, and to remove the clone of a success if none are kept."""
        self._ended_runs.put_nowait((run_id, succeeded))

    async def run(self) -> None:
        """Remove old data, now and every hour, and handle each run that ends, until the task is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_hourly(), name="retention-hourly")
            group.create_task(self._handle_ends(), name="retention-ends")

    async def _run_hourly(self) -> None:
        while True:
            await self._try_work(self._remove_old)
            await asyncio.sleep(_INTERVAL)

    async def _handle_ends(self) -> None:
        while True:
            ended_runs = [await self._ended_runs.get()]
            while not self._ended_runs.empty():
                ended_runs.append(self._ended_runs.get_nowait())
            await self._try_work(partial(self._clean_ended_runs, ended_runs))

    async def _try_work(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Unreachable:
            pass  # `DatabaseHealth` logs the cause, once; the next try may succeed
        except OSError as error:
            _log.warning("workspaces.unread", error=str(error))
        except Exception:  # noqa: BLE001 - the edge of the loop: the next time it may go well
            _log.exception("workspaces.unread")

    async def _clean_ended_runs(self, ended_runs: Sequence[tuple[str, bool]]) -> None:
        config = self._config
        successful = [run_id for run_id, succeeded in ended_runs if succeeded]
        if config.clone_url and not config.clone_retention:
            await self._remove_clones(successful)
        await self._measure([run_id for run_id, _ in ended_runs])

    async def _remove_clones(self, run_ids: Sequence[str]) -> None:
        async with self._removing:  # otherwise two tasks would remove the same clone
            for run_id in await self._find_existing(run_ids, "work"):
                if await self._remove(run_id, Workspace(self._config.folder / run_id).remove_work):
                    self._note_size(run_id, None)  # smaller now: measured with the next removal of old data

    async def _measure(self, run_ids: Sequence[str]) -> None:
        """Measure the folders of these runs, within a time limit. `_remove_old` measures the others later."""
        existing = await self._find_existing(run_ids)
        sizes = await measure(self._config.folder, existing, _MEASURE_TIMEOUT)
        for run_id, size in sizes.items():
            self._note_size(run_id, size)

    async def _find_existing(self, run_ids: Sequence[str], entry: str = "") -> list[str]:
        """Find the runs that have a folder, or this entry of the folder."""
        folder = self._config.folder
        return await asyncio.to_thread(
            lambda: [run_id for run_id in run_ids if os.path.lexists(folder / run_id / entry)]
        )

    def _note_size(self, run_id: str, size: RunSize | None) -> None:
        self.size -= self._sizes.pop(run_id, RunSize())
        if size is not None:
            self._sizes[run_id] = size
            self.size += size

    async def _remove_old(self) -> None:
        # Copied before the names are listed: a run that ends meanwhile may be measured without being listed.
        measured = set(self._sizes)
        names = await asyncio.to_thread(Workspace.list_names, self._config.folder)
        remaining = set(names)
        unmeasured: list[str] = []
        for first in range(0, len(names), _SLICE):
            ended_ids, removed = await self._remove_folders(names[first : first + _SLICE])
            remaining -= removed
            unmeasured += set(ended_ids) - removed - self._sizes.keys()
        for run_id in measured - remaining:
            self._note_size(run_id, None)
        await self._measure(unmeasured)
        await self._remove_rows(remaining)
        before = to_text(self._now() - ANSWER_RETENTION)
        await self._repeat_until_done(partial(remove_old_answers, before=before, most=_SLICE))
        await self._repeat_until_done(prompts.move_run_prompts)

    async def _remove_folders(self, names: Sequence[str]) -> tuple[list[str], set[str]]:
        """Remove the old folders among these, and the old clones in the other folders.

        Return the names of ended runs and the names of removed folders.
        """
        folder = self._config.folder
        # Instants as text have the order of time. The empty text is before all of them.
        all_before = self._compute_cutoff(min(self._config.retention, self._config.row_retention))
        clones_before = self._compute_cutoff(self._config.clone_retention) if self._config.clone_url else ""
        runs = await self._database.read_in_background(_read_rows, _WITH_IDS, json.dumps(names))
        end_times = {run.id: run.finished_at for run in runs if run.finished_at}
        successful = [run.id for run in runs if run.status == "success"]
        old = [run_id for run_id, finished_at in end_times.items() if finished_at <= all_before]
        clones = [run_id for run_id in successful if all_before < end_times[run_id] <= clones_before]
        await self._remove_clones(clones)
        without_row = [name for name in set(names) - {run.id for run in runs} if _is_run_id(name)]
        old += await asyncio.to_thread(_find_unchanged_folders, folder, without_row, all_before)
        workspaces = {run_id: Workspace(folder / run_id) for run_id in old}
        removed = {run_id for run_id in old if await self._remove(run_id, workspaces[run_id].remove)}
        return list(end_times), removed

    async def _remove(self, run_id: str, remove: Callable[[], Awaitable[None]]) -> bool:
        try:
            await remove()
        except OSError as error:  # the other folders are still removed
            _log.warning("workspace.kept", task_run_id=run_id, error=str(error))
            return False
        return True

    async def _remove_rows(self, with_folder: AbstractSet[str]) -> None:
        # Runs are accepted in the order of their rows, so the slices end at the first run that is not old.
        before, sequence, more = self._compute_cutoff(self._config.row_retention), 0, True
        while more:
            rows = await self._database.read_in_background(_read_rows, _SLICE_AFTER, sequence, _SLICE)
            ended_rows = [row for row in rows if row.finished_at and row.finished_at <= before]
            if old := [row for row in ended_rows if row.id not in with_folder]:
                await self._database.write(_remove_runs, old)
                await asyncio.sleep(_SLICE_PAUSE)
            more = len(rows) == _SLICE and rows[-1].created_at <= before
            sequence = rows[-1].sequence if rows else sequence

    async def _repeat_until_done(self, operation: Callable[[sqlite3.Connection], int]) -> None:
        """Repeat a short transaction until nothing is left to do."""
        more = True
        while more:
            more = bool(await self._database.write(operation))
            await asyncio.sleep(_SLICE_PAUSE if more else 0.0)

    def _compute_cutoff(self, seconds: float) -> str:
        return to_text(self._now() - timedelta(seconds=seconds))


def _read_rows(connection: sqlite3.Connection, choice: str, *values: object) -> list[_RunRow]:
    """Read the rows of a choice, the SQL behind ``FROM runs``, with these values."""
    rows = connection.execute(f"SELECT {', '.join(_RunRow._fields)} FROM runs {choice}", values)  # noqa: S608 - constants
    return [_RunRow(*row) for row in rows]


def _is_run_id(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def _find_unchanged_folders(folder: Path, run_ids: Sequence[str], before: str) -> list[str]:
    """Find the folders that have not changed since ``before``."""
    latest = from_text(before).timestamp()
    unchanged = []
    for run_id in run_ids:
        with suppress(FileNotFoundError):
            if (folder / run_id).lstat().st_mtime <= latest:
                unchanged.append(run_id)
    return unchanged


def _remove_runs(connection: sqlite3.Connection, rows: Sequence[_RunRow]) -> None:
    numbers = json.dumps([row.sequence for row in rows])
    connection.execute("DELETE FROM runs WHERE sequence IN (SELECT value FROM json_each(?))", (numbers,))
    prompts.remove_unused(connection, (row.prompt_id for row in rows))
