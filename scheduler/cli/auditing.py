"""What an audit needs from outside of the ledger: the policies of now, and the newest runs that the API shows."""

import asyncio
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from scheduler.app.wiring import upstream_config
from scheduler.audit.course import Audit
from scheduler.audit.findings import Finding
from scheduler.audit.reading import known_runs
from scheduler.audit.soundness import Shown, of_shown
from scheduler.cli.ledger_file import reading
from scheduler.core.errors import SchedulerError
from scheduler.core.model import Snapshot
from scheduler.core.policy import Concurrency
from scheduler.daemon.clock import SystemClock
from scheduler.settings import Settings, Target
from scheduler.upstream import ApiClient

_NONE: Final = timedelta(0)


def patience(settings: Settings) -> Callable[[str, str], timedelta]:
    """How long after it is due an occurrence of an automation, by id and name, may wait for the run before it."""

    def of(automation_id: str, name: str) -> timedelta:
        queues = settings.policies(automation_id, name).concurrency is Concurrency.QUEUE
        return settings.schedule.run_timeout if queues else _NONE

    return of


def asked(settings: Settings, path: Path, audit: Audit, notes: list[str]) -> Iterator[Finding]:
    """What the API shows and the ledger does not know. Whether it could be asked is added to the ``notes``."""
    configured = {target.name: target for target in settings.targets}
    for known in audit.targets:
        target = configured.get(known.name)
        if target is None:
            notes.append(f"target {known.name}: the API was not asked for the newest runs, since the target is not configured")
            continue
        try:
            snapshot = asyncio.run(_snapshot(target))
        except SchedulerError as error:
            notes.append(f"target {known.name}: the API could not be asked for the newest runs: {error}")
            continue
        shown = [each for each in _shown(snapshot) if each.automation_id in audit.names(known.name)]
        with reading(path) as connection:
            recorded = known_runs(connection, known.name, [each.run_id for each in shown])
        were = "was" if len(shown) == 1 else "were"
        notes.append(f"target {known.name}: the API was asked for the newest runs, {len(shown):,} of which {were} compared")
        is_known = {each.run_id: each.run_id in recorded for each in shown}
        for finding in of_shown(known.name, shown, is_known, known.snapshot_at):
            yield audit.counted(finding)


async def _snapshot(target: Target) -> Snapshot:
    async with ApiClient(upstream_config(target, os.environ), SystemClock()) as api:
        return await api.snapshot()


def _shown(snapshot: Snapshot) -> Iterator[Shown]:
    ahead = timedelta(seconds=snapshot.clock_offset or 0.0)
    for each in snapshot.automations.values():
        if each.run_id is not None:
            yield Shown(each.id, each.name, each.run_id, None if each.run_at is None else each.run_at - ahead)
