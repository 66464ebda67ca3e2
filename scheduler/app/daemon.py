"""The daemon as a process: opens all parts in order, and closes all parts again.

Log, metrics and health come first, so that later errors are visible. The lock, the ledger and the targets
follow.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, closing
from datetime import datetime
from functools import partial
from typing import Any, Final

from scheduler import __version__
from scheduler.app.ledger_startup import LedgerStartup
from scheduler.app.observability import Observability
from scheduler.app.settings_mapping import (
    make_parser,
    make_policy_texts,
    make_target_settings,
    make_upstream_config,
)
from scheduler.clock import SystemClock
from scheduler.core.cron.schedule import read_versions
from scheduler.core.cron.zones import reload_zones
from scheduler.core.errors import ConfigurationError, LedgerUnavailable, SchedulerError
from scheduler.core.events import ConfigReloaded, ConfigReloading, DaemonStarted, DaemonStopped, WakeFailed
from scheduler.daemon.clock import ClockWatch
from scheduler.daemon.context import Context
from scheduler.daemon.ledger_health import LedgerHealth
from scheduler.daemon.service import Service
from scheduler.daemon.target_worker import TargetWorker
from scheduler.database import Database
from scheduler.ledger.fire_requests import has_request
from scheduler.ledger.lock import LedgerLock
from scheduler.ledger.retention import prune
from scheduler.ledger.sqlite import SqliteLedger
from scheduler.ledger.wake import WakeSocket, locate_wake_file
from scheduler.settings.load import Configuration
from scheduler.settings.models import Settings, TargetSection
from scheduler.upstream.client import ApiClient

_PRUNE_EVERY: Final = 3600.0
_LOOK_FOR_REQUESTS_EVERY: Final = 1.0
_LOOK_FOR_LISTS_EVERY: Final = 1.0
_HEAR_EVERY: Final = 0.1
"""Minimum seconds between two reads of the wake socket, however many datagrams come."""
_RESTART_SECTIONS: Final = ("ledger", "server", "daemon", "api")
"""Sections that a reload cannot change."""


class Daemon:
    """A daemon process.

    ``load`` reads the configuration, at the start and on every reload. The constructor raises the errors of
    the configuration.
    """

    def __init__(self, load: Callable[[], Configuration]) -> None:
        self._load = load
        self._settings = _require_target(load().settings)
        self._clock = SystemClock()
        self._observability = Observability(self._settings, self._clock)
        self._watch = ClockWatch(self._clock, self._observability.publish)
        self._health = LedgerHealth(self._observability.publish)
        self._clients = self._make_clients(self._settings)
        self._service = Service(
            node=self._settings.daemon.node,
            version=__version__,
            clock=self._clock,
            watch=self._watch,
            health=self._health,
            publish=self._observability.publish,
        )
        self._targets: list[TargetWorker] = []
        self._evaluation_since = self._clock.now()
        self._background: set[asyncio.Future[None]] = set()
        self._record_lock = asyncio.Lock()

    async def run(self) -> None:
        """Serve until a signal says stop.

        Raises `ConfigurationError`, `DatabaseRefused`, or the exception of a programming error.
        """
        self._listen_to_signals()
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._disconnect)
            await closing.enter_async_context(self._observability.watch(self._service))
            try:
                lock = await self._open_ledger(closing)
                if lock is None:
                    self._observability.publish(DaemonStopped(in_flight=0))
                else:
                    await self._serve(lock)
            finally:
                await self._end_background()  # before closing anything that the tasks may use

    def stop(self, reason: str) -> None:
        """Stop in good order, as after a signal. The log names the ``reason``."""
        self._service.stop(reason)

    @property
    def is_stopping(self) -> bool:
        """Whether the daemon was told to stop, by a signal or by `stop`."""
        return self._service.is_stopping

    async def _serve(self, lock: LedgerLock) -> None:
        self._announce()
        gc.freeze()  # loaded objects stay; repeated collection would stop the loop for 10 ms
        async with asyncio.TaskGroup() as group:
            work = (
                self._guard(lock),
                self._prune(),
                self._start_backfills(),
                self._freeze(),
                self._refresh(),
            )
            background = [group.create_task(task) for task in work]
            await self._service.run(self._targets, self._settings.daemon.drain_timeout.total_seconds)
            for task in background:
                task.cancel()

    def _announce(self) -> None:
        evaluated = read_versions()
        self._observability.publish(
            DaemonStarted(
                node=self._settings.daemon.node,
                version=__version__,
                targets=tuple(target.name for target in self._settings.targets),
                croniter=evaluated.croniter,
                tzdata=f"{evaluated.tzdata} ({evaluated.source})",
            )
        )

    # ------------------------------------------------------------ opening

    async def _open_ledger(self, closing: AsyncExitStack) -> LedgerLock | None:
        """Acquire the ledger's lock, and open the ledger and the targets as recorded there.

        Return None when the daemon is told to stop before. ``closing`` closes everything again.
        """
        path, publish = self._settings.ledger.url.path, self._observability.publish
        opening = LedgerStartup(path, self._service, self._health, publish)
        lock = await opening.acquire_lock(self._settings.daemon.node, self._clock.now)
        if lock is None:
            return None
        closing.callback(lock.release)
        database = await opening.open_database()
        if database is None:
            return None
        closing.push_async_callback(asyncio.to_thread, database.close)
        self._ledger, self._evaluation_since = self._make_ledger(database), self._clock.now()
        self._targets = [
            self._make_target(target, client)
            for target, client in zip(self._settings.targets, self._clients, strict=True)
        ]
        recall = partial(self._observability.recall, database)
        opens = [target.open for target in self._targets]
        steps: list[Callable[[], Awaitable[None]]] = [self._record_evaluation, recall, *opens]
        for step in steps:
            await opening.retry(step)
        return None if self._service.is_stopping else lock

    def _make_ledger(self, database: Database) -> SqliteLedger:
        """Make the ledger for the present versions of croniter and of the zone data."""
        evaluated = read_versions()
        return SqliteLedger(database, self._settings.daemon.node, evaluated.croniter, evaluated.tzdata)

    async def _record_evaluation(self) -> None:
        settings, since = self._settings.schedule, self._evaluation_since
        await self._ledger.record_evaluation(since, dst_gap=settings.dst_gap, dst_repeat=settings.dst_repeat)
        schedule, overrides = make_policy_texts(self._settings)
        await self._ledger.record_policies(since, schedule=schedule, overrides=overrides)

    def _make_clients(self, settings: Settings) -> list[ApiClient]:
        publish = self._observability.publish
        return [ApiClient(make_upstream_config(target), self._clock, publish) for target in settings.targets]

    async def _disconnect(self) -> None:
        for client in self._clients:
            await client.aclose()

    def _make_target(self, target: TargetSection, client: ApiClient) -> TargetWorker:
        context = Context(
            make_target_settings(target, self._settings),
            client,
            ledger=self._ledger,
            clock=self._clock,
            watch=self._watch,
            health=self._health,
            publish=self._observability.publish,
            parse=make_parser(self._settings),
        )
        return TargetWorker(context)

    # ------------------------------------------------------------ while it runs

    async def _guard(self, lock: LedgerLock) -> None:
        """Raise `LedgerUnavailable` at once when the lock is lost.

        Another daemon may then have the ledger, and may send the same occurrences.
        """
        await lock.wait_until_lost()
        fault = f"{lock.path} was removed or replaced while this daemon held it"
        error = f"{fault}, and another daemon may fire too; start again, and do not touch the file"
        self._health.note_failure("lock", error)
        raise LedgerUnavailable(error)

    async def _freeze(self) -> None:
        """Exclude the automations from garbage collection as well.

        With 100,000 automations a collection would stop the loop for a third of a second.
        """
        while not self._service.is_stopping:
            await asyncio.sleep(_LOOK_FOR_LISTS_EVERY)
            if all(target.is_up for target in self._targets):
                gc.freeze()
                return

    async def _prune(self) -> None:
        while True:
            try:
                await prune(self._ledger.database, before=self._clock.now() - self._settings.ledger.retention)
            except LedgerUnavailable as error:
                self._health.note_failure("prune", str(error))
            await asyncio.sleep(_PRUNE_EVERY)

    async def _start_backfills(self) -> None:
        """Start the backfills that `scheduler fire` requested.

        One indexed query a second costs almost nothing.
        """
        while not self._service.is_stopping:
            await asyncio.sleep(_LOOK_FOR_REQUESTS_EVERY)
            try:
                if await self._ledger.database.read(has_request):
                    for target in self._targets:
                        await target.backfill.process_requests()
            except LedgerUnavailable as error:
                self._health.note_failure("fire", str(error))

    async def _refresh(self) -> None:
        """Apply changes by commands on this machine at once.

        Without the wake socket, the next poll applies the changes.
        """
        ledger = self._settings.ledger.url.path
        try:
            with closing(WakeSocket.open(ledger)) as wake_socket:
                while not self._service.is_stopping:
                    await wake_socket.wait()
                    await self._refresh_targets()
                    await asyncio.sleep(_HEAR_EVERY)
        except OSError as error:
            reason = f"{locate_wake_file(ledger)}: {error.strerror or error}"
            failure = WakeFailed(error=f"{reason}; changes by commands take effect at the next poll")
            self._observability.publish(failure)

    async def _refresh_targets(self) -> None:
        for target in self._targets:
            try:
                await target.refresh.request()
            except LedgerUnavailable as error:  # the other targets poll all the same
                self._health.note_failure("pauses", str(error))

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._handle_stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._handle_reload_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def _handle_stop_signal(self, number: signal.Signals) -> None:
        if self._service.is_stopping:
            os._exit(0)  # the second signal ends at once; the next start reconciles open attempts
        self._service.stop(number.name)

    def _handle_reload_signal(self) -> None:
        if self._service.is_stopping:
            return  # the next start reads everything
        self._observability.publish(ConfigReloading())
        error = None
        try:
            self._reload()
        except SchedulerError as refusal:
            error = str(refusal)
        except Exception as fault:  # noqa: BLE001  serving goes on, and the log reports any error
            error = f"{type(fault).__name__}: {fault}"
        self._observability.publish(ConfigReloaded(error=error))

    def _reload(self) -> None:
        """Reload configuration, keys and zone data. Raises the errors in them; then nothing has changed.

        The reload does not wait, for two reasons. No target evaluates a schedule whose zone is missing in the
        zone data of the other targets. And a first reload is over when a second reload begins. The ledger is
        updated afterwards.
        """
        settings = _require_target(self._load().settings)
        _refuse_restart_settings(self._settings, settings)
        clients = self._make_clients(settings)
        now = self._clock.now()
        for target in self._targets:
            target.evaluate(now)
        reload_zones()
        for client, predecessor in zip(clients, self._clients, strict=True):
            client.continue_from(predecessor)
            self._run_in_background(predecessor.retire())
        self._settings, self._clients = settings, clients
        self._observability.set_level(settings)
        if self._targets:  # otherwise startup makes the targets from these settings
            self._reconfigure(now)

    def _reconfigure(self, now: datetime) -> None:
        settings = self._settings
        self._ledger, self._evaluation_since = self._make_ledger(self._ledger.database), now
        for target, client, setting in zip(self._targets, self._clients, settings.targets, strict=True):
            target_settings, parse = make_target_settings(setting, settings), make_parser(settings)
            target.reconfigure(target_settings, client, self._ledger, parse, since=now)
        self._run_in_background(self._record_reload())

    async def _record_reload(self) -> None:
        """Record the present evaluation and policies, and the changes of the reload.

        Records of an earlier reload are written first.
        """
        async with self._record_lock:
            await self._targets[0].context.health.retry_write("state", self._record_evaluation)
            for target in self._targets:
                await target.record_changes()

    def _run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _end_background(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)


def _require_target(settings: Settings) -> Settings:
    if not settings.targets:
        remedy = (
            "set [[target]] url and project_id, or SCHEDULER_TARGET__URL and SCHEDULER_TARGET__PROJECT_ID"
        )
        raise ConfigurationError(f"no target is configured; {remedy}")
    return settings


def _refuse_restart_settings(old: Settings, new: Settings) -> None:
    sections = [section for section in _RESTART_SECTIONS if getattr(old, section) != getattr(new, section)]
    changed = [f"[{section}]" for section in sections]
    if old.log.format != new.log.format:
        changed.append("[log] format")
    if _list_bindings(old) != _list_bindings(new):
        changed.append("name, url or project_id of a [[target]], or their number")
    if changed:
        raise ConfigurationError(f"a reload cannot change {', '.join(changed)}; restart the daemon for that")


def _list_bindings(settings: Settings) -> list[tuple[str, str, str]]:
    return [(target.name, target.url, target.project_id) for target in settings.targets]
