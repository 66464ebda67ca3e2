"""The embedded API as a whole, to start and to close: database, keys, runner and application.

Only this module combines all parts. The module reads no settings and no clock: `scheduler serve` and
`scheduler up` pass plain values, and run ``app`` under uvicorn in their event loop.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial

from scheduler.core.errors import LedgerUnavailable, Unreachable
from scheduler.database import Database
from scheduler.database.backup import refuse_interrupted_restore
from scheduler.database.files import measure_database
from scheduler.localapi.config import ApiConfig
from scheduler.localapi.health import DatabaseHealth
from scheduler.localapi.http.app import build_app
from scheduler.localapi.http.contract import Contract
from scheduler.localapi.http.long_work import LongWork
from scheduler.localapi.http.metrics import ApiMetrics
from scheduler.localapi.http.rate_limiter import KeyRateLimiter
from scheduler.localapi.http.views import Views
from scheduler.localapi.keys import ApiKeys
from scheduler.localapi.lock import ServerLock
from scheduler.localapi.runner.output import read_run_output
from scheduler.localapi.runner.retention import Retention
from scheduler.localapi.runner.runner import Runner
from scheduler.localapi.runs import RunQueue
from scheduler.localapi.schema import open_database
from scheduler.localapi.store import Store


class LocalApi:
    """The running embedded API, with the ASGI application ``app``, the ``keys`` and the ``runs``."""

    def __init__(
        self,
        config: ApiConfig,
        lock: ServerLock,
        database: Database,
        health: DatabaseHealth,
        now: Callable[[], datetime],
    ) -> None:
        self._lock = lock
        self._database = database
        self._database_health = health
        self._prober = asyncio.create_task(health.probe_while_failed(database), name="database-probe")
        self.metrics = ApiMetrics()
        self.keys = ApiKeys(database, now)
        self.runs = RunQueue(database, now, config.runner.queue_timeout)
        self._path = config.database
        self._retention = Retention(config.runner, database, now)
        self._runner = Runner(config.runner, self.runs, self._retention, self.metrics.count_run)
        self.metrics.watch_runner(lambda: self._runner.queued, lambda: self._runner.in_progress)
        self._long_work = LongWork()
        views = Views(
            contract=Contract(config.github_integrations),
            store=Store(database, now),
            long_work=self._long_work,
            on_run=self._runner.wake,
            on_delete=self._runner.hurry_cancellations,
            read_output=partial(read_run_output, database, config.runner.folder),
            public_url=config.public_url,
            max_page=config.max_page,
        )
        self.app = build_app(
            views,
            self.keys,
            KeyRateLimiter(config.requests_per_minute, asyncio.get_running_loop().time),
            self.metrics,
            healthy=self._check_health,
            sizes=self._measure_sizes,
        )

    @classmethod
    async def start(cls, config: ApiConfig, *, now: Callable[[], datetime]) -> "LocalApi":
        """Open the database, and begin to carry out waiting runs. ``now`` is the clock, in UTC.

        The folder of the database must exist. Raises `ConfigurationError` when another process serves this
        database, `DatabaseRefused` for a file that is not a database of this program, and `Unreachable` for
        an unwritable database.
        """
        lock = ServerLock.acquire(config.database)
        health = DatabaseHealth(config.database)
        opening = partial(
            open_database, config.database, on_commit=health.note_commit, on_fault=health.note_fault
        )
        try:
            await asyncio.to_thread(refuse_interrupted_restore, config.database)
            database = await asyncio.to_thread(opening)
        except BaseException:
            lock.release()
            raise
        api = cls(config, lock, database, health, now)
        try:
            await api._runner.start()
        except BaseException:
            await api.close()
            raise
        return api

    async def close(self) -> None:
        """End and fail the runs in progress, and close the database. Waiting runs wait for the next start."""
        self._long_work.close()
        await self._runner.close()
        self._prober.cancel()
        await asyncio.wait({self._prober})
        await asyncio.to_thread(self._database.close)
        self._lock.release()

    async def guard_lock(self) -> None:
        """Raise `LedgerUnavailable` when the lock is lost: another server may serve this database too.

        The other server fails the runs in progress as interrupted, and starts waiting runs.
        """
        await self._lock.wait_until_lost()
        fault = f"{self._lock.path} was removed or replaced while this server held it"
        danger = "another server may carry out the same runs"
        raise LedgerUnavailable(f"{fault}, and {danger}; start again, and do not touch the file")

    def is_alive(self) -> bool:
        """Return whether all tasks that carry out runs are working."""
        return self._runner.is_alive()

    def describe_state(self) -> str:
        """Describe the current work in one line."""
        fault = "" if self._database_health.is_working else "the database does not work, see the log; "
        return f"{fault}runs: {self._runner.in_progress} in progress, {self._runner.queued} waiting"

    async def _check_health(self) -> Mapping[str, bool]:
        is_working = await self._database_health.check(self._database)
        return {"database": is_working, "runner": self._runner.is_alive()}

    async def _measure_sizes(self) -> Mapping[str, int]:
        """Return how many bytes each part takes; without the database's size for an unreadable database."""
        sizes = {"outputs": self._retention.size.outputs, "clones": self._retention.size.clones}
        path = self._path
        with suppress(Unreachable, OSError):
            sizes["database"] = await self._database.read_in_background(lambda _: measure_database(path))
        return sizes
