"""The observers of the daemon: log, metrics and pages. Observers subscribe only here."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeVar

from scheduler.app.run_output import RunOutputReader
from scheduler.core.automation_filter import find_id, make_automation_filter
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.core.status import STALLED_AFTER
from scheduler.daemon.ports import DaemonClock
from scheduler.daemon.service import Service
from scheduler.database import Database
from scheduler.database.files import measure_database
from scheduler.ledger import history, not_due_lines
from scheduler.ledger.finished_runs import read_failing, read_failing_ids, read_finished_runs
from scheduler.ops.bus import Bus
from scheduler.ops.event_log import EventLogger
from scheduler.ops.heartbeat import Heartbeat
from scheduler.ops.http_server import HttpServer
from scheduler.ops.logs import Log
from scheduler.ops.metrics import Metrics
from scheduler.ops.page_sources import AutomationKey
from scheduler.ops.page_worker import PageWorker
from scheduler.ops.systemd import Notifier
from scheduler.ops.views import describe_status
from scheduler.ops.web import ProgramRoutes, build_app
from scheduler.settings.models import Settings

_T = TypeVar("_T")
_MAX_CONNECTIONS: Final = 256
"""Maximum number of connections; further connections are answered with 503.

Readers must not take the file descriptors that firing needs.
"""


class Observability:
    """All observers of one daemon. Observers have no influence on the daemon."""

    def __init__(self, settings: Settings, clock: DaemonClock) -> None:
        self._settings = settings
        self._log = Log(
            format=settings.log.format, level=settings.log.level, node=settings.daemon.node, now=clock.now
        )
        self._target_names = [target.name for target in settings.targets]
        self._metrics = Metrics(self._target_names, now=clock.now)
        self._heartbeat = Heartbeat(clock.now, clock.boottime)
        self._database: Database | None = None
        self._outputs = RunOutputReader(settings, clock)
        bus = Bus()
        self.publish = bus.publish
        self._bus = bus
        bus.subscribe(self._metrics.observe)
        bus.subscribe(EventLogger(self._log.is_enabled_for).observe)

    def set_level(self, settings: Settings) -> None:
        """Set the log level to the configured level."""
        self._log.set_level(settings.log.level)

    async def recall(self, database: Database) -> None:
        """Restore the metrics from the ledger, and give the pages access to the ledger.

        Raises `LedgerUnavailable`.
        """
        self._database = database
        for name in self._target_names:
            times = await database.read(partial(history.read_last_times, target=name))
            for automation_id, last in times.items():
                self._metrics.recall(name, automation_id, last.accepted_at, last.succeeded_at)
            failing = await database.read(partial(read_failing_ids, target=name))
            self._metrics.recall_failing(name, failing)

    @asynccontextmanager
    async def watch(self, service: Service) -> AsyncIterator[None]:
        """Log, count and serve pages for the duration of the block.

        Raises `ConfigurationError` when the address is not available.
        """
        listen = str(self._settings.server.listen or "")
        notifier = _make_notifier(service)
        self._bus.subscribe(notifier.observe)
        attending = [asyncio.create_task(each.run()) for each in (self._heartbeat, notifier)]
        try:
            pages = build_app(self._make_pages(service), listen=listen)
            async with HttpServer(pages, listen, setting="[server] listen", connections=_MAX_CONNECTIONS):
                yield
        finally:
            for task in attending:
                task.cancel()
            self._log.flush()  # not closed: the embedded API ends later and may still log

    def _make_pages(self, service: Service) -> ProgramRoutes:
        return ProgramRoutes(
            worker=PageWorker(service.is_busy),
            metrics=self._metrics,
            status=service.make_status,
            targets=lambda: {target.context.target: target for target in service.targets},
            last_beat=self._heartbeat.get_last_beat,
            idle_seconds=self._heartbeat.get_age,
            per_automation=self._settings.server.per_automation_metrics,
            ledger_size=lambda: measure_database(self._settings.ledger.url.path) or None,
            occurrences=partial(self._read_occurrences, service),
            recent=partial(self._browse, history.read_recent),
            failing=partial(self._browse, read_failing, self._target_names),
            failing_ids=self._read_failing_ids,
            finished_runs=partial(self._browse, read_finished_runs),
            run_output=self._outputs.read,
        )

    async def _read_occurrences(self, service: Service, query: OccurrenceQuery) -> Sequence[history.Line]:
        derived: Sequence[history.Line] = ()
        if query.outcome is None and query.run_status is None:
            derived = await _list_not_due(service, query)
        return await self._browse(not_due_lines.select_with_derived, query, derived)

    async def _read_failing_ids(self) -> Collection[AutomationKey]:
        return {
            (name, automation_id)
            for name in self._target_names
            for automation_id in await self._browse(read_failing_ids, name)
        }

    async def _browse(self, read: Callable[..., _T], *arguments: object) -> _T:
        """Return the result of ``read`` with a connection and the arguments. Raises `LedgerUnavailable`."""
        if self._database is None:
            raise LedgerUnavailable("the ledger is not open yet")
        return await self._database.browse(lambda connection: read(connection, *arguments))


def _make_notifier(service: Service) -> Notifier:
    return Notifier(
        is_up=lambda: service.is_up,
        is_alive=lambda: service.measure_stall() < STALLED_AFTER,
        status=lambda: describe_status(service.make_status()),
    )


async def _list_not_due(service: Service, query: OccurrenceQuery) -> Sequence[history.Line]:
    """List the lines of occurrences before their due instant: such occurrences have no row."""
    automation_id = find_id(query.automation)
    only = make_automation_filter(query.automation) if query.automation and automation_id is None else None
    return [
        not_due_lines.make_line(target.context.target, wait)
        for target in service.targets
        if query.target in {None, target.context.target}
        for wait in await target.waits.list_not_due(automation_id, only=only)
    ]
