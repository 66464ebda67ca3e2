"""The daemon as a process: what it opens, in which order, and how it closes everything again.

Log, metrics and health come first, so that whatever goes wrong later is seen; then the lock, the ledger, and the targets.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from scheduler import __version__
from scheduler.app.observing import Observing
from scheduler.app.wiring import parser, target_settings, upstream_config
from scheduler.core.cron import versions
from scheduler.core.errors import ConfigurationError, LedgerUnavailable, SchedulerError
from scheduler.core.events import ConfigReloaded, DaemonStarted, DaemonWaiting, LedgerCommitted
from scheduler.core.zones import reload_zones
from scheduler.daemon.clock import ClockWatch, SystemClock
from scheduler.daemon.context import LedgerHealth, back_off
from scheduler.daemon.service import Service
from scheduler.daemon.target import Target
from scheduler.database import Database
from scheduler.ledger.lock import LedgerLock, holder
from scheduler.ledger.retention import prune
from scheduler.ledger.schema import open_ledger
from scheduler.ledger.sqlite import SqliteLedger
from scheduler.settings import Configuration, Settings
from scheduler.upstream import ApiClient

_LOOK_AGAIN: Final = 1.0
"""Seconds between two tries to take the lock."""
_PRUNE_EVERY: Final = 3600.0
_SWITCH_INTERVAL: Final = 0.0005
"""Seconds for which a busy loop keeps Python's lock from the ledger's thread. By default ten times that, for each statement of a claim."""
_RESTART_FOR: Final = ("ledger", "server", "daemon", "api")
"""Sections that a reload cannot change."""


class Daemon:
    """One daemon process. ``load`` reads the configuration, now and on every reload. Raises what a configuration can be wrong with."""

    def __init__(self, load: Callable[[], Configuration]) -> None:
        self._load = load
        self._settings = _checked(load().settings)
        self._clock = SystemClock()
        self._observing = Observing(self._settings, self._clock)
        self._watch = ClockWatch(self._clock, self._observing.publish)
        self._health = LedgerHealth(self._observing.publish)
        self._clients = self._connected(self._settings)
        self._service = Service(
            node=self._settings.daemon.node,
            version=__version__,
            clock=self._clock,
            watch=self._watch,
            health=self._health,
            publish=self._observing.publish,
        )

    async def run(self) -> None:
        """Serve until a signal says stop. Raises `ConfigurationError`, `DatabaseRefused`, or what a fault of ours raises."""
        self._listen_to_signals()
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._disconnect)
            await closing.enter_async_context(self._observing.watching(self._service))
            lock = await self._own()
            if lock is None:
                return
            closing.callback(lock.release)
            database = await self._opened()
            if database is None:
                return
            closing.push_async_callback(asyncio.to_thread, database.close)
            await self._serve(database)

    async def _serve(self, database: Database) -> None:
        evaluated = versions()
        ledger = SqliteLedger(database, self._settings.daemon.node, evaluated.croniter, evaluated.tzdata)
        schedule = self._settings.schedule
        await ledger.evaluating(self._clock.now(), dst_gap=schedule.dst_gap, dst_repeat=schedule.dst_repeat)
        await self._observing.recall(database)
        targets = [self._target(number, ledger) for number in range(len(self._clients))]
        for target in targets:
            await target.open()
        self._observing.publish(
            DaemonStarted(
                node=self._settings.daemon.node,
                version=__version__,
                targets=tuple(target.context.target for target in targets),
                croniter=evaluated.croniter,
                tzdata=f"{evaluated.tzdata} ({evaluated.source})",
            )
        )
        sys.setswitchinterval(_SWITCH_INTERVAL)
        gc.freeze()  # what was loaded stays; looking through it again and again would stop the loop for a hundredth of a second
        async with asyncio.TaskGroup() as group:
            pruning = group.create_task(self._prune(database))
            await self._service.run(targets, self._drain_seconds)
            pruning.cancel()

    def _drain_seconds(self) -> float:
        return self._settings.daemon.drain_timeout.total_seconds()

    # ------------------------------------------------------------ opening

    @property
    def _ledger_path(self) -> Path:
        return self._settings.ledger.url.path

    async def _own(self) -> LedgerLock | None:
        """The lock, as soon as it is free; None when told to stop before that."""
        while not self._service.stopping:
            try:
                taken = LedgerLock.try_acquire(self._ledger_path, node=self._settings.daemon.node, since=self._clock.now())
            except LedgerUnavailable as error:
                self._health.failed("lock", str(error))
            else:
                self._health.worked()
                if taken is not None:
                    self._service.lock_holder = None
                    return taken
                self._wait_for(holder(self._ledger_path))
            await self._pause(_LOOK_AGAIN)
        return None

    def _wait_for(self, other: str) -> None:
        if self._service.lock_holder != other:
            self._observing.publish(DaemonWaiting(holder=other))
        self._service.lock_holder = other

    async def _opened(self) -> Database | None:
        """The ledger, as soon as it can be opened; None when told to stop before that."""
        loop, failures = asyncio.get_running_loop(), 0

        def committed(seconds: float) -> None:
            loop.call_soon_threadsafe(self._observing.publish, LedgerCommitted(seconds=seconds))

        while not self._service.stopping:
            try:
                database = await asyncio.to_thread(open_ledger, self._ledger_path, on_commit=committed)
            except LedgerUnavailable as error:
                failures += 1
                self._health.failed("open", str(error))
                await self._pause(back_off(failures))
            else:
                self._health.worked()
                return database
        return None

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._service.stopped()
        except TimeoutError:
            pass

    def _connected(self, settings: Settings) -> list[ApiClient]:
        publish = self._observing.publish
        return [ApiClient(upstream_config(target), self._clock, publish) for target in settings.targets]

    async def _disconnect(self) -> None:
        for client in self._clients:
            await client.aclose()

    def _target(self, number: int, ledger: SqliteLedger) -> Target:
        return Target(
            target_settings(self._settings.targets[number], self._settings),
            self._clients[number],
            ledger=ledger,
            clock=self._clock,
            watch=self._watch,
            health=self._health,
            publish=self._observing.publish,
            parse=parser(self._settings),
        )

    # ------------------------------------------------------------ while it runs

    async def _prune(self, database: Database) -> None:
        while True:
            try:
                await prune(database, before=self._clock.now() - self._settings.ledger.retention)
            except LedgerUnavailable as error:
                self._health.failed("prune", str(error))
            await asyncio.sleep(_PRUNE_EVERY)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._told_to_reload)

    def _told_to_stop(self, number: signal.Signals) -> None:
        if self._service.stopping:
            os._exit(0)  # the second time: at once. Whatever is open is found out at the next start
        self._service.stop(number.name)

    def _told_to_reload(self) -> None:
        self._reloading = asyncio.ensure_future(self._reload())

    async def _reload(self) -> None:
        """Take up configuration, keys and zone data, or say why not and go on as before."""
        try:
            settings = _checked(self._load().settings)
            _refuse_what_needs_a_restart(self._settings, settings)
            clients = self._connected(settings)
        except SchedulerError as error:
            self._observing.publish(ConfigReloaded(error=str(error)))
            return
        reload_zones()
        self._observing.set_level(settings)
        old, self._clients, self._settings = self._clients, clients, settings
        for target, client, setting in zip(self._service.targets, clients, settings.targets, strict=False):
            await target.reconfigure(target_settings(setting, settings), client, parser(settings))
        self._observing.publish(ConfigReloaded(error=None))
        await asyncio.sleep(max(setting.request_timeout.total_seconds() for setting in settings.targets))
        for client in old:  # by now nothing is under way on them
            await client.aclose()


def _checked(settings: Settings) -> Settings:
    if not settings.targets:
        raise ConfigurationError(
            "no target is configured; set [[target]] url and project_id, or SCHEDULER_TARGET__URL and SCHEDULER_TARGET__PROJECT_ID"
        )
    return settings


def _refuse_what_needs_a_restart(old: Settings, new: Settings) -> None:
    changed = [f"[{section}]" for section in _RESTART_FOR if getattr(old, section) != getattr(new, section)]
    if _targets(old) != _targets(new):
        changed.append("name, url or project_id of a [[target]], or their number")
    if changed:
        raise ConfigurationError(f"a reload cannot change {', '.join(changed)}; restart the daemon for that")


def _targets(settings: Settings) -> list[tuple[str, str, str]]:
    return [(target.name, target.url, target.project_id) for target in settings.targets]
