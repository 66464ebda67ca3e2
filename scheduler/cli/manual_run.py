"""A manual run, announced in the ledger before the request is sent.

So the daemon does not take the run for a foreign run.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from scheduler.cli.ledger_file import NoLedger, write
from scheduler.cli.target_api import carry_out, find_document
from scheduler.cli.times import now
from scheduler.core.command_line import format_command
from scheduler.core.errors import ConfigurationError, UpstreamError
from scheduler.core.model import Automation, Run, RunStatus
from scheduler.core.response import AttemptAccepted, MaybeStarted, NotStarted, judge
from scheduler.ledger.operator_requests import announce_run, record_failed_run, record_started_run
from scheduler.settings import Settings, TargetSection
from scheduler.upstream import ApiClient, Document

T = TypeVar("T")


def start_run(settings: Settings, target_name: str | None, automation: str) -> Document:
    """Start a run of an automation, and return the automation as read afterwards.

    ``automation`` is an id, a name or the beginning of an id. Raises `AnswerIsNo` for an unknown automation,
    and `ConfigurationError` when the API refuses. Raises `UpstreamError` when no run was started, or when the
    outcome is unknown.
    """
    target = settings.choose_target(target_name)
    return carry_out(target, partial(_start_run, settings.ledger.url.path, target, automation))


async def _start_run(ledger: Path, target: TargetSection, automation: str, api: ApiClient) -> Document:
    document = await find_document(api, automation)
    automation_id = str(document["id"])
    intent = await _write_to_ledger(
        ledger, lambda connection: announce_run(connection, target.name, automation_id, now())
    )
    before = document.get("last_task_run_id")
    await api.admit()
    verdict = judge(
        await api.run(automation_id, str(uuid4())),
        automation_id=automation_id,
        taken=lambda run_id: run_id == before,
    )
    if isinstance(verdict, AttemptAccepted):
        started = _make_run(verdict.automation)
        if intent is not None:
            await _write_to_ledger(
                ledger, lambda connection: record_started_run(connection, intent, started, now())
            )
        return await api.read_document(automation_id) or document
    maybe = isinstance(verdict, MaybeStarted)
    if intent is not None:
        await _write_to_ledger(
            ledger,
            lambda connection: record_failed_run(
                connection, intent, verdict.error, refused_at=None if maybe else now()
            ),
        )
    if maybe:
        raise UpstreamError(
            f"unknown whether a run was started: {verdict.error}; look with "
            f"`{format_command(f'automations get {automation_id}', target=target.name)}`"
        )
    if isinstance(verdict, NotStarted):
        raise UpstreamError(f"no run was started: {verdict.error}")
    raise ConfigurationError(f"no run was started: {verdict.error}")


def _make_run(automation: Automation) -> Run:
    return Run(automation.run_id or "", automation.id, automation.run_at, RunStatus.RUNNING)


async def _write_to_ledger(ledger: Path, operation: Callable[[sqlite3.Connection], T]) -> T | None:
    """Run a write operation in the ledger; None without a ledger that knows the target.

    Without such a ledger, no daemon can take the run for a foreign run.
    """
    with contextlib.suppress(ConfigurationError, NoLedger):
        return await asyncio.to_thread(write, ledger, operation)
    return None
