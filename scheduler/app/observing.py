"""Who watches the daemon: the log, the metrics and the pages, subscribed here and nowhere else."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from scheduler.app.run_output import RunOutputs
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.model import Automation
from scheduler.core.status import STALLED, AutomationDetails, AutomationStatus, Failing, FinishedRun, Recent
from scheduler.core.timetable import Entry
from scheduler.daemon.ports import Clock
from scheduler.daemon.service import Service
from scheduler.daemon.target import Target
from scheduler.database import Database
from scheduler.database.files import BESIDE
from scheduler.ledger import history, not_due
from scheduler.ledger.finished_runs import read_failing, read_failing_ids, read_some
from scheduler.ops.bus import Bus
from scheduler.ops.content import Key
from scheduler.ops.gauges import Exposition, Sources
from scheduler.ops.heartbeat import Heartbeat
from scheduler.ops.logs import Log
from scheduler.ops.metrics import Metrics
from scheduler.ops.narration import Narrator
from scheduler.ops.queries import OccurrenceQuery
from scheduler.ops.serving import Serving
from scheduler.ops.systemd import Notifier
from scheduler.ops.views import find_id, headline, wanted
from scheduler.ops.web import Pages, build_app
from scheduler.ops.workbench import Workbench
from scheduler.settings import Settings

_CONNECTIONS: Final = 256
"""More are answered with 503: who looks must not take the file descriptors that firing needs."""


class Observing:
    """All observers of one daemon. Nothing here has a say in what the daemon does."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._log = Log(format=settings.log.format, level=settings.log.level, node=settings.daemon.node, now=clock.now)
        self._metrics = Metrics([target.name for target in settings.targets], now=clock.now)
        self._heartbeat = Heartbeat(clock.now, clock.seconds)
        self._database: Database | None = None
        self._outputs = RunOutputs(settings, clock)
        bus = Bus()
        self.publish = bus.publish
        self._bus = bus
        bus.subscribe(self._metrics.observe)
        bus.subscribe(Narrator(self._log.takes).observe)

    def set_level(self, settings: Settings) -> None:
        """Log by the level that is set now."""
        self._log.set_level(settings.log.level)

    async def recall(self, database: Database) -> None:
        """Go on from what the ledger knows, and show what is in it. Raises `LedgerUnavailable`."""
        self._database = database
        for target in self._settings.targets:
            times = await database.read(partial(history.last_times, target=target.name))
            self._metrics.recall(
                {(target.name, each): last.accepted_at for each, last in times.items() if last.accepted_at is not None},
                {(target.name, each): last.succeeded_at for each, last in times.items() if last.succeeded_at is not None},
                {target.name: await database.read(partial(read_failing_ids, target=target.name))},
            )

    @asynccontextmanager
    async def watching(self, service: Service) -> AsyncIterator[None]:
        """Log, count and answer for as long as the block lasts. Raises `ConfigurationError` when the address cannot be had."""
        listen = str(self._settings.server.listen or "")
        notifier = _notifier(service)
        self._bus.subscribe(notifier.observe)
        attending = [asyncio.create_task(each.run()) for each in (self._heartbeat, notifier)]
        try:
            pages = build_app(self._pages(service), listen=listen)
            async with Serving(pages, listen, setting="[server] listen", connections=_CONNECTIONS):
                yield
        finally:
            for task in attending:
                task.cancel()
            self._log.flush()  # not closed: what ends after this, as the embedded API beside it, may have something to say

    def _pages(self, service: Service) -> Pages:
        sources = Sources(
            status=service.status,
            automations=partial(_automations, service),
            fires=partial(_fires, service),
            per_automation=self._settings.server.per_automation_metrics,
            ledger_size=partial(_size, self._settings.ledger.url.path),
            progress=self._heartbeat.at,
        )
        workbench = Workbench(service.is_busy)
        return Pages(
            workbench=workbench,
            status=service.status,
            idle=self._heartbeat.age,
            exposition=Exposition(self._metrics, sources, workbench),
            upcoming=partial(_upcoming, service),
            together=partial(_together, service),
            details=partial(_details, service),
            waits=lambda target: _target(service, target).waits.status(),
            waits_of=lambda target, automation_id: _target(service, target).waits.of(automation_id),
            every_detail=partial(_every_detail, service),
            occurrences=partial(self._occurrences, service),
            recent=self._recent,
            failing=self._failing,
            failing_ids=self._failing_ids,
            finished_runs=self._finished_runs,
            run_output=self._outputs.read,
        )

    async def _occurrences(self, service: Service, query: OccurrenceQuery) -> Sequence[history.Line]:
        selection = history.Selection(
            target=query.target,
            automation=query.automation,
            since=query.since,
            until=query.until,
            outcome=query.outcome,
            run_status=query.run_status,
            only_open=query.only_open,
            limit=query.limit,
            offset=query.offset,
        )
        derived = await _until_due(service, query) if query.outcome is None and query.run_status is None else []
        return await self._opened().browse(partial(not_due.select_with, selection=selection, derived=derived))

    async def _recent(self, since: datetime) -> Recent:
        return await self._opened().browse(partial(history.recent, since=since))

    async def _failing(self) -> Failing:
        targets = [target.name for target in self._settings.targets]
        return await self._opened().browse(partial(read_failing, targets=targets))

    async def _failing_ids(self) -> Collection[Key]:
        names = [target.name for target in self._settings.targets]
        ids = {name: await self._opened().browse(partial(read_failing_ids, target=name)) for name in names}
        return {(name, automation_id) for name, some in ids.items() for automation_id in some}

    async def _finished_runs(self, automations: Collection[Key]) -> Mapping[Key, FinishedRun]:
        return await self._opened().browse(partial(read_some, automations=automations))

    def _opened(self) -> Database:
        if self._database is None:
            raise LedgerUnavailable("the ledger is not open yet")
        return self._database


def _notifier(service: Service) -> Notifier:
    return Notifier(
        is_up=lambda: service.is_up,
        is_alive=lambda: service.stalled_for() < STALLED,
        status=lambda: headline(service.status()),
    )


def _target(service: Service, name: str) -> Target:
    return next(target for target in service.targets if target.context.target == name)


def _automations(service: Service, name: str) -> Iterable[AutomationStatus]:
    return _target(service, name).automations()


def _fires(service: Service, name: str, automation_id: str) -> bool:
    return _target(service, name).fires(automation_id)


def _upcoming(service: Service, name: str, span: timedelta, only: Callable[[Automation], bool] | None) -> Iterator[tuple[datetime, Entry]]:
    return _target(service, name).upcoming(span, only)


def _together(service: Service, name: str, span: timedelta) -> Iterator[tuple[datetime, Sequence[AutomationDetails]]]:
    return _target(service, name).together(span)


async def _until_due(service: Service, query: OccurrenceQuery) -> Sequence[history.Line]:
    """Return the lines of what waits for its due time, and so has no row."""
    automation_id = None if query.automation is None else find_id(query.automation)
    only = wanted(query.automation) if query.automation is not None and automation_id is None else None
    return [
        not_due.make_line(target.context.target, wait)
        for target in service.targets
        if query.target in {None, target.context.target}
        for wait in await target.waits.until_due(automation_id, only=only)
    ]


def _details(service: Service, name: str, automation_id: str) -> AutomationDetails | None:
    served = (target for target in service.targets if target.context.target == name)
    return next((details for target in served if (details := target.details(automation_id)) is not None), None)


def _every_detail(service: Service, name: str) -> Iterator[AutomationDetails]:
    return _target(service, name).every_detail()


def _size(ledger: Path) -> int | None:
    """The bytes of the ledger's files; None while there is none."""
    sizes = []
    for suffix in ("", *BESIDE):
        with suppress(FileNotFoundError):
            sizes.append(ledger.with_name(ledger.name + suffix).stat().st_size)
    return sum(sizes) if sizes else None
