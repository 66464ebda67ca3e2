"""The observers of the daemon: log, metrics and pages. Observers subscribe only here."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from scheduler.app.run_output import RunOutputReader
from scheduler.core.automation_filter import find_id, make_automation_filter
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.model import Automation
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.core.status import (
    STALLED_AFTER,
    AutomationDetails,
    AutomationStatus,
    FailingAutomations,
    FinishedRun,
    RecentActivity,
)
from scheduler.core.timetable import TimetableEntry
from scheduler.daemon.ports import DaemonClock
from scheduler.daemon.service import Service
from scheduler.daemon.target_worker import TargetWorker
from scheduler.database import Database
from scheduler.database.files import SIDE_FILE_SUFFIXES
from scheduler.ledger import history, not_due_lines
from scheduler.ledger.finished_runs import read_failing, read_failing_ids, read_finished_runs
from scheduler.ops.bus import Bus
from scheduler.ops.event_log import EventLogger
from scheduler.ops.gauges import Exposition, GaugeSources
from scheduler.ops.heartbeat import Heartbeat
from scheduler.ops.http_server import HttpServer
from scheduler.ops.logs import Log
from scheduler.ops.metrics import Metrics
from scheduler.ops.page_sources import AutomationKey
from scheduler.ops.page_worker import PageWorker
from scheduler.ops.systemd import Notifier
from scheduler.ops.views import describe_status
from scheduler.ops.web import Pages, build_app
from scheduler.settings import Settings

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
        self._metrics = Metrics([target.name for target in settings.targets], now=clock.now)
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
        for target in self._settings.targets:
            times = await database.read(partial(history.read_last_times, target=target.name))
            self._metrics.recall(
                {
                    (target.name, each): last.accepted_at
                    for each, last in times.items()
                    if last.accepted_at is not None
                },
                {
                    (target.name, each): last.succeeded_at
                    for each, last in times.items()
                    if last.succeeded_at is not None
                },
                {target.name: await database.read(partial(read_failing_ids, target=target.name))},
            )

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

    def _make_pages(self, service: Service) -> Pages:
        sources = GaugeSources(
            status=service.make_status,
            automations=partial(_list_automations, service),
            is_firing=partial(_is_firing, service),
            per_automation=self._settings.server.per_automation_metrics,
            ledger_size=partial(_measure_ledger, self._settings.ledger.url.path),
            progress=self._heartbeat.get_last_beat,
        )
        workbench = PageWorker(service.is_busy)
        return Pages(
            worker=workbench,
            status=service.make_status,
            idle_seconds=self._heartbeat.get_age,
            exposition=Exposition(self._metrics, sources, workbench),
            upcoming=partial(_list_upcoming, service),
            upcoming_by_schedule=partial(_group_upcoming, service),
            details=partial(_find_details, service),
            waits=lambda target: _find_target(service, target).waits.make_status(),
            automation_waits=lambda target, automation_id: _find_target(
                service, target
            ).waits.list_for_automation(automation_id),
            all_details=partial(_iterate_details, service),
            occurrences=partial(self._read_occurrences, service),
            recent=self._read_recent,
            failing=self._read_failing,
            failing_ids=self._read_failing_ids,
            finished_runs=self._read_finished_runs,
            run_output=self._outputs.read,
        )

    async def _read_occurrences(self, service: Service, query: OccurrenceQuery) -> Sequence[history.Line]:
        derived = (
            await _list_not_due(service, query) if query.outcome is None and query.run_status is None else []
        )
        return await self._require_database().browse(
            partial(not_due_lines.select_with_derived, selection=query, derived=derived)
        )

    async def _read_recent(self, since: datetime) -> RecentActivity:
        return await self._require_database().browse(partial(history.read_recent, since=since))

    async def _read_failing(self) -> FailingAutomations:
        targets = [target.name for target in self._settings.targets]
        return await self._require_database().browse(partial(read_failing, targets=targets))

    async def _read_failing_ids(self) -> Collection[AutomationKey]:
        names = [target.name for target in self._settings.targets]
        ids = {
            name: await self._require_database().browse(partial(read_failing_ids, target=name))
            for name in names
        }
        return {(name, automation_id) for name, some in ids.items() for automation_id in some}

    async def _read_finished_runs(
        self, automations: Collection[AutomationKey]
    ) -> Mapping[AutomationKey, FinishedRun]:
        return await self._require_database().browse(partial(read_finished_runs, automations=automations))

    def _require_database(self) -> Database:
        if self._database is None:
            raise LedgerUnavailable("the ledger is not open yet")
        return self._database


def _make_notifier(service: Service) -> Notifier:
    return Notifier(
        is_up=lambda: service.is_up,
        is_alive=lambda: service.measure_stall() < STALLED_AFTER,
        status=lambda: describe_status(service.make_status()),
    )


def _find_target(service: Service, name: str) -> TargetWorker:
    return next(target for target in service.targets if target.context.target == name)


def _list_automations(service: Service, name: str) -> Iterable[AutomationStatus]:
    return _find_target(service, name).iterate_automations()


def _is_firing(service: Service, name: str, automation_id: str) -> bool:
    return _find_target(service, name).may_fire(automation_id)


def _list_upcoming(
    service: Service, name: str, span: timedelta, only: Callable[[Automation], bool] | None
) -> Iterator[tuple[datetime, TimetableEntry]]:
    return _find_target(service, name).iterate_upcoming(span, only)


def _group_upcoming(
    service: Service, name: str, span: timedelta
) -> Iterator[tuple[datetime, Sequence[AutomationDetails]]]:
    return _find_target(service, name).iterate_by_schedule(span)


async def _list_not_due(service: Service, query: OccurrenceQuery) -> Sequence[history.Line]:
    """List the lines of occurrences before their due instant: such occurrences have no row."""
    automation_id = None if query.automation is None else find_id(query.automation)
    only = (
        make_automation_filter(query.automation)
        if query.automation is not None and automation_id is None
        else None
    )
    return [
        not_due_lines.make_line(target.context.target, wait)
        for target in service.targets
        if query.target in {None, target.context.target}
        for wait in await target.waits.list_not_due(automation_id, only=only)
    ]


def _find_details(service: Service, name: str, automation_id: str) -> AutomationDetails | None:
    served = (target for target in service.targets if target.context.target == name)
    return next(
        (details for target in served if (details := target.find_details(automation_id)) is not None), None
    )


def _iterate_details(service: Service, name: str) -> Iterator[AutomationDetails]:
    return _find_target(service, name).iterate_details()


def _measure_ledger(ledger: Path) -> int | None:
    """Measure the ledger's files in bytes; None without a file."""
    sizes = []
    for suffix in ("", *SIDE_FILE_SUFFIXES):
        with suppress(FileNotFoundError):
            sizes.append(ledger.with_name(ledger.name + suffix).stat().st_size)
    return sum(sizes) if sizes else None
