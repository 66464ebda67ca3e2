"""The inputs of an audit from outside the ledger: present policies and the newest runs of the API."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from scheduler.audit.consistency import find_unknown_runs
from scheduler.audit.findings import AuditFinding
from scheduler.audit.runner import Audit
from scheduler.cli.ledger_file import open_read_only
from scheduler.cli.target_api import open_api
from scheduler.core.errors import SchedulerError
from scheduler.core.model import Automation, Snapshot
from scheduler.core.policy import Concurrency
from scheduler.ledger.audit_queries import find_known_runs
from scheduler.settings.models import Settings, TargetSection


def find_patience(settings: Settings, automation_id: str, name: str) -> timedelta:
    """Return how long an automation's occurrence waits for the previous run after the due instant."""
    queues = settings.find_policies(automation_id, name).concurrency is Concurrency.QUEUE
    return settings.schedule.run_timeout if queues else timedelta(0)


def compare_with_api(
    settings: Settings, path: Path, audit: Audit, notes: list[str]
) -> Iterator[AuditFinding]:
    """Find the runs that the API shows and the ledger does not know.

    A note on whether the API could be asked is added to ``notes`` for each target.
    """
    configured = {target.name: target for target in settings.targets}
    for known in audit.targets:
        if known.name not in configured:
            reason = "because the target is not configured"
            notes.append(f"target {known.name}: the API was not asked for the newest runs, {reason}")
            continue
        try:
            snapshot = asyncio.run(_fetch_snapshot(configured[known.name]))
        except SchedulerError as error:
            notes.append(f"target {known.name}: the API could not be asked for the newest runs: {error}")
            continue
        names = audit.list_names(known.name)
        shown = [automation for automation in _list_newest_runs(snapshot) if automation.id in names]
        with open_read_only(path) as connection:
            runs = [str(automation.run_id) for automation in shown]
            recorded = find_known_runs(connection, known.name, runs)
        compared = f"{len(shown):,} of which {'was' if len(shown) == 1 else 'were'} compared"
        notes.append(f"target {known.name}: the API was asked for the newest runs, {compared}")
        for finding in find_unknown_runs(known.name, shown, recorded, known.snapshot_at):
            yield audit.count_finding(finding)


async def _fetch_snapshot(target: TargetSection) -> Snapshot:
    async with open_api(target) as api:
        return await api.read_snapshot()


def _list_newest_runs(snapshot: Snapshot) -> Iterator[Automation]:
    """Yield the automations with a run, with the instants on our clock."""
    ahead = timedelta(seconds=snapshot.clock_offset or 0.0)
    for automation in snapshot.automations.values():
        if automation.run_id is not None:
            yield replace(automation, run_at=automation.run_at and automation.run_at - ahead)
