"""The runner: starts the configured command for each accepted run, in order, some runs in parallel."""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import structlog

from scheduler.core.errors import Unreachable
from scheduler.localapi.config import DEFAULT_ENVIRONMENT, RunnerConfig
from scheduler.localapi.early_ends import EarlyCause
from scheduler.localapi.runner import orphans, run_results
from scheduler.localapi.runner.execution import Interruption, execute, read_environment
from scheduler.localapi.runner.process import EndCause
from scheduler.localapi.runner.retention import Retention
from scheduler.localapi.runner.start_failure import find_fault
from scheduler.localapi.runner.workspace import Workspace
from scheduler.localapi.runs import INTERRUPTED, QueuedRun, RunQueue, RunResult

_RETRY_AFTER: Final = 1.0  # seconds, while the database cannot be written
_CANCEL_WITHIN: Final = 0.5  # seconds

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class Runner:
    """A number of workers. Each worker takes the run with the longest wait.

    ``on_end`` receives the status and the seconds of each ended run. The seconds are None for a run that
    never began.
    """

    def __init__(
        self,
        config: RunnerConfig,
        queue: RunQueue,
        retention: Retention,
        on_end: Callable[[str, float | None], None],
    ) -> None:
        self._config = config
        self._queue = queue
        self._retention = retention
        self._on_end = on_end
        self._wake_up = asyncio.Event()
        self._stop = asyncio.Event()
        self._cancel_signal = asyncio.Event()
        self._retention_task: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []  # all workers and background tasks
        self._interruptions: dict[str, Interruption] = {}  # by run, for the runs in progress
        self._early_errors = {
            EarlyCause.CANCELLED: run_results.CANCELLED_ERROR,
            EarlyCause.DELETED: run_results.DELETED_ERROR,
            EarlyCause.EXPIRED: run_results.describe_expiry(config.queue_timeout),
        }
        self.queued = 0

    @property
    def in_progress(self) -> int:
        """The number of runs in progress."""
        return len(self._interruptions)

    async def start(self) -> None:
        """End and fail the runs that a dead process left running, and continue with the queue.

        Raises `Unreachable`.
        """
        if self._config.command:
            _report_unset(self._config.environment)
        await self._report_command()
        runs = await self._queue.list_running()
        outputs = [Workspace(self._config.folder / run.id).output for run in runs]
        await asyncio.gather(*(orphans.end_processes(output, self._config.grace) for output in outputs))
        for run in runs:
            await self._queue.finish(run, INTERRUPTED, self._queue.now())
            self._on_end(INTERRUPTED.status, None)
            _log_end(run, INTERRUPTED, None)
        self.queued = await self._queue.count_unfinished()
        self.hurry_cancellations()
        self._retention_task = asyncio.create_task(self._retention.run(), name="runner-retention")
        self._tasks = [
            self._retention_task,
            asyncio.create_task(self._repeat(self._check_cancellations), name="runner-cancelling"),
            *(
                asyncio.create_task(self._repeat(self._work), name=f"runner-{number}")
                for number in range(self._config.max_parallel)
            ),
        ]

    async def _report_command(self) -> None:
        """Log why every run will fail, where the reason is known before the first run."""
        config = self._config
        environment, clones = read_environment(config), bool(config.clone_url)
        fault = await asyncio.to_thread(find_fault, config.command, environment, clones=clones)
        if fault is not None:
            _log.warning(
                "command.missing",
                error=fault,
                advice="correct [api.runner] command; until then every run fails",
            )

    def wake(self) -> None:
        """Note that another run waits."""
        self.queued += 1
        self._wake_up.set()

    def hurry_cancellations(self) -> None:
        """Note that runs are to end, before the next regular check."""
        self._cancel_signal.set()

    def is_alive(self) -> bool:
        """Return whether all workers and background tasks are running."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    async def close(self) -> None:
        """End the runs in progress: the runs fail, with the reason. Waiting runs wait for the next start."""
        self._stop.set()
        self._wake_up.set()
        self._cancel_signal.set()
        self._interrupt(self._interruptions, EndCause.STOP)
        if self._retention_task is not None:
            self._retention_task.cancel()  # the next start removes the rest
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step until the runner stops. A repeated error is logged once."""
        last_fault = None
        while not self._stop.is_set():
            try:
                await step()
                last_fault = None
            except Unreachable:
                pass  # `DatabaseHealth` logs the cause, once; the next try may succeed
            except Exception as error:  # noqa: BLE001 - the edge of the loop: the next time it may go well
                fault = repr(error)
                if fault != last_fault:
                    _log.error("runner.failed", exc_info=error)
                last_fault = fault
                await self._pause(_RETRY_AFTER)

    async def _work(self) -> None:
        """Carry out the next run, or wait for a run."""
        self._wake_up.clear()  # before looking, to find a run that arrives meanwhile
        if not await self._run_next():
            await self._wake_up.wait()

    async def _run_next(self) -> bool:
        """Carry out the run with the longest wait. Return False when no run waits."""
        run = await self._retry_write(lambda: self._queue.take(self._config.command))
        if run is None:
            return False
        self.queued -= 1
        interruption = self._interruptions[run.id] = asyncio.get_running_loop().create_future()
        if self._stop.is_set():
            interruption.set_result(EndCause.STOP)
        began = asyncio.get_running_loop().time()
        try:
            end = await self._execute(run, interruption)
            seconds = asyncio.get_running_loop().time() - began
            ended_at = self._queue.now()  # not the time of the write, perhaps hours later
            await self._retry_write(lambda: self._queue.finish(run, end, ended_at))
        finally:
            del self._interruptions[run.id]
        is_cancelled = (
            end.status == "failed" and interruption.done() and interruption.result() is EndCause.CANCEL
        )
        self._on_end("cancelled" if is_cancelled else end.status, seconds)
        _log_end(run, end, seconds)
        self._retention.note_end(run.id, succeeded=end.status == "success")
        return True

    async def _execute(self, run: QueuedRun, interruption: Interruption) -> RunResult:
        try:
            return await execute(run, self._config, interruption)
        except Exception as error:  # noqa: BLE001 - a run has an end, whatever happened to it
            _log.exception(
                "command.lost", automation_id=run.automation_id, automation=run.name, task_run_id=run.id
            )
            return run_results.make_unexpected_failure(error)

    def _interrupt(self, run_ids: Iterable[str], by: EndCause) -> None:
        for run_id in run_ids:
            interruption = self._interruptions.get(run_id)
            if interruption is not None and not interruption.done():
                interruption.set_result(by)

    async def _check_cancellations(self) -> None:
        """Wait for the next check, and end the runs that may not begin or continue, for any process."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._cancel_signal.wait(), _CANCEL_WITHIN)
        self._cancel_signal.clear()
        if self.queued or self.in_progress:
            await self._cancel()
        if self.queued and self.in_progress < self._config.max_parallel:
            self._wake_up.set()  # after a clock step, a run may have looked too old

    async def _cancel(self) -> None:
        """Interrupt the cancelled running runs first, to save costs; then end waiting runs in slices."""
        counts = Counter[EarlyCause]()
        try:
            more = True
            while more and not self._stop.is_set():
                self._interrupt(await self._queue.list_cancellations(), EndCause.CANCEL)
                more = await self._end_early(counts)
        finally:
            for cause, count in (+counts).items():
                if cause is EarlyCause.EXPIRED:
                    _log.warning("runs.dropped", reason=str(cause), count=count)
                else:
                    _log.info("runs.dropped", reason=str(cause), count=count)
            if counts:
                self._wake_up.set()  # no run began before

    async def _end_early(self, counts: Counter[EarlyCause]) -> bool:
        """End a few waiting runs that may not begin, and count the runs. Return False without such runs."""
        ends = await self._queue.end_early(self._early_errors)
        if ends is None:
            return False
        cause, count = ends
        counts[cause] += count
        self.queued -= count
        for _ in range(count):
            self._on_end("failed" if cause is EarlyCause.EXPIRED else "cancelled", None)
        return True

    async def _retry_write(self, write: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat a write until success: a full disk must lose neither a run's turn nor a run's end.

        Raises `Unreachable` when stopped. `DatabaseHealth` logs why the database cannot be written.
        """
        while True:
            try:
                return await write()
            except Unreachable:
                if self._stop.is_set():
                    raise
            await self._pause(_RETRY_AFTER)

    async def _pause(self, seconds: float) -> None:
        """Wait for these seconds, or until the runner stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)


def _log_end(run: QueuedRun, end: RunResult, seconds: float | None) -> None:
    keys = {
        "automation_id": run.automation_id,
        "automation": run.name,
        "task_run_id": run.id,
        "status": end.status,
        "exit_status": end.exit_status,
        **({} if seconds is None else {"duration_seconds": round(seconds, 3)}),
    }
    if end.status == "success":
        _log.info("command.finished", **keys)
    else:
        _log.warning("command.finished", **keys, error=end.error)


def _report_unset(names: Sequence[str]) -> None:
    """Log the variables that commands may see and this process lacks, once: its environment never changes."""
    unset = [name for name in names if name not in os.environ]
    if not unset:
        return
    advice = "set them for the server, or take them out of [api.runner] environment"
    if set(unset) <= set(DEFAULT_ENVIRONMENT):  # nobody asked for the usual variables by name
        _log.info("variables.unset", variables=unset, advice=advice)
    else:
        _log.warning("variables.unset", variables=unset, advice=advice)
