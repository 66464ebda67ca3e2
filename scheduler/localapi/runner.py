"""The runner: carries out accepted runs by starting the configured command for each, so many at once and in order."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import structlog

from scheduler.core.errors import Unreachable
from scheduler.localapi import strays
from scheduler.localapi.config import RunnerConfig
from scheduler.localapi.endings import NO_COMMAND, judge, not_prepared, not_started
from scheduler.localapi.process import Command, Limits, carry_out
from scheduler.localapi.runs import QueuedRun, RunEnd, RunQueue
from scheduler.localapi.workspace import Workspace

NEVER_PASSED: Final = frozenset({"POSTHOG_PERSONAL_API_KEY"})
"""The daemon's own key: no command sees it, whatever the configuration lists."""

_RETRY_AFTER: Final = 1.0  # seconds, while the database cannot be written
_TIDY_EVERY: Final = 3600.0  # seconds

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class Runner:
    """So many workers, each taking the run that has waited longest. ``on_end`` hears the status of each run that ended."""

    def __init__(self, config: RunnerConfig, queue: RunQueue, on_end: Callable[[str], None]) -> None:
        self._config = config
        self._queue = queue
        self._on_end = on_end
        self._waiting = asyncio.Semaphore(0)  # as many permits as runs wait
        self._stop = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        self._tidying: asyncio.Task[None] | None = None
        self.queued = 0
        self.in_progress = 0

    async def start(self) -> None:
        """End and fail what a dead process left running, and go on with what is queued. Raises `Unreachable`."""
        await asyncio.gather(*(strays.end(run_id, self._config.grace) for run_id in await self._queue.left_running()))
        for _ in range(await self._queue.recover()):
            self.wake()
        self._tidying = asyncio.create_task(self._tidy(), name="runner-tidying")
        self._workers = [asyncio.create_task(self._work(), name=f"runner-{number}") for number in range(self._config.max_parallel)]

    def wake(self) -> None:
        """Take note that one more run waits."""
        self.queued += 1
        self._waiting.release()

    def is_alive(self) -> bool:
        """Whether all workers are at work."""
        return bool(self._workers) and not any(worker.done() for worker in self._workers)

    async def close(self) -> None:
        """End what is going on: those runs fail and say why. What waits goes on waiting, for the next start."""
        self._stop.set()
        for _ in self._workers:
            self._waiting.release()
        await asyncio.gather(*self._workers, *([self._tidying] if self._tidying else []))

    async def _work(self) -> None:
        while True:
            await self._waiting.acquire()
            if self._stop.is_set():
                return
            try:
                await self._next()
            except Exception:  # noqa: BLE001 - the edge of the loop: what becomes of one run must not end the worker
                _log.exception("command.lost")

    async def _next(self) -> None:
        run = await self._insisted(lambda: self._queue.take(self._config.command))
        self.queued -= 1
        if run is None:
            return
        self.in_progress += 1
        try:
            end = await self._carried_out(run)
            await self._insisted(lambda: self._queue.finish(run, end))
        finally:
            self.in_progress -= 1
        self._on_end(end.status)
        _log.info(
            "command.finished",
            automation_id=run.automation_id,
            automation=run.name,
            task_run_id=run.id,
            status=end.status,
            exit_status=end.exit_status,
        )

    async def _tidy(self) -> None:
        """Remove the outputs and working directories of runs that ended longer ago than they are kept, now and again."""
        while not self._stop.is_set():
            try:
                await self._remove_old()
            except (OSError, Unreachable) as error:
                _log.warning("workspace.kept", error=str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _TIDY_EVERY)

    async def _remove_old(self) -> None:
        names = await asyncio.to_thread(Workspace.all_in, self._config.folder)
        for run_id in await self._queue.ended_long_ago(names, self._config.retention):
            await asyncio.to_thread(Workspace.of(self._config.folder, run_id).remove)

    async def _insisted(self, write: Callable[[], Awaitable[_T]]) -> _T:
        """Write until it is written: a full disk must lose neither a run's turn nor its end. Raises `Unreachable` when stopped."""
        while True:
            try:
                return await write()
            except Unreachable as error:
                if self._stop.is_set():
                    raise
                _log.warning("database.unavailable", error=str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _RETRY_AFTER)

    async def _carried_out(self, run: QueuedRun) -> RunEnd:
        if not self._config.command:
            return NO_COMMAND
        workspace = Workspace.of(self._config.folder, run.id)
        try:
            await asyncio.to_thread(workspace.prepare, run.prompt)
        except OSError as error:
            return not_prepared(error)
        limits = Limits(self._config.timeout, self._config.grace)
        try:
            ended = await carry_out(self._command(run, workspace), limits, self._stop)
        except OSError as error:
            return not_started(self._config.command[0], error)
        await strays.end(run.id, limits.grace)
        return judge(ended, limits.timeout, await asyncio.to_thread(workspace.tail))

    def _command(self, run: QueuedRun, workspace: Workspace) -> Command:
        return Command(
            argv=self._config.command,
            environment=self._environment(run, workspace),
            folder=workspace.work,
            input=workspace.prompt,
            output=workspace.output,
        )

    def _environment(self, run: QueuedRun, workspace: Workspace) -> dict[str, str]:
        """An allow list, read when the run starts, and what the run is. Nothing else of our own environment passes."""
        allowed = {name: os.environ[name] for name in self._config.environment if name in os.environ and name not in NEVER_PASSED}
        return allowed | {
            "AUTOMATION_ID": run.automation_id,
            "AUTOMATION_NAME": run.name,
            "REPOSITORY": run.repository,
            "TASK_ID": run.task_id,
            strays.MARK: run.id,
            "PROMPT_FILE": str(workspace.prompt),
            "OUTPUT_FILE": str(workspace.output),
        }
