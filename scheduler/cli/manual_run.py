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

from scheduler.cli.ledger_file import NoLedger, wake_daemon_after, write
from scheduler.cli.target_api import carry_out, find_document
from scheduler.cli.times import now
from scheduler.core.command_line import format_command
from scheduler.core.errors import ConfigurationError, UpstreamError
from scheduler.core.model import Run, RunStatus
from scheduler.core.response import AttemptAccepted, AttemptVerdict, MaybeStarted, NotStarted, judge
from scheduler.core.terminal_text import to_printable
from scheduler.ledger.operator_requests import announce_run, record_failed_run, record_started_run
from scheduler.settings.models import Settings, TargetSection
from scheduler.upstream.client import ApiClient, Document

T = TypeVar("T")


def start_run(settings: Settings, target: TargetSection, automation: str) -> Document:
    """Start a run of an automation, and return the automation as read afterwards. Wake the daemon.

    ``automation`` is an id, a name or the beginning of an id. Raises `AnswerIsNo` for an unknown automation,
    and `ConfigurationError` when the API refuses. Raises `UpstreamError` when no run was started, or when the
    outcome is unknown.
    """
    ledger = settings.ledger.url.path
    with wake_daemon_after(ledger):
        return carry_out(target, partial(_start_run, ledger, target, automation))


async def _start_run(ledger: Path, target: TargetSection, automation: str, api: ApiClient) -> Document:
    document = await find_document(api, automation)
    automation_id = str(document["id"])
    announce = partial(announce_run, target=target.name, automation_id=automation_id, at=now())
    intent = await _write_to_ledger(ledger, announce)
    before = document.get("last_task_run_id")
    await api.admit()
    answer = await api.run(automation_id, str(uuid4()))
    verdict = judge(answer, automation_id=automation_id, taken=lambda run_id: run_id == before)
    if intent is not None:
        await _write_to_ledger(ledger, lambda connection: _record(connection, intent, verdict))
    if isinstance(verdict, AttemptAccepted):
        return await api.read_document(automation_id) or document
    error = to_printable(verdict.error)  # the API's text may contain line breaks
    if isinstance(verdict, MaybeStarted):
        look = format_command(f"automations get {automation_id}", target=target.name)
        raise UpstreamError(f"unknown whether a run was started: {error}; look with `{look}`")
    kind = UpstreamError if isinstance(verdict, NotStarted) else ConfigurationError
    raise kind(f"no run was started: {error}")


def _record(connection: sqlite3.Connection, intent: int, verdict: AttemptVerdict) -> None:
    if isinstance(verdict, AttemptAccepted):
        automation = verdict.automation
        run = Run(automation.run_id or "", automation.id, automation.run_at, RunStatus.RUNNING)
        record_started_run(connection, intent, run, now())
    else:
        refused_at = None if isinstance(verdict, MaybeStarted) else now()
        record_failed_run(connection, intent, verdict.error, refused_at=refused_at)


async def _write_to_ledger(ledger: Path, operation: Callable[[sqlite3.Connection], T]) -> T | None:
    """Run a write operation in the ledger; None without a ledger that knows the target.

    Without such a ledger, no daemon can take the run for a foreign run.
    """
    with contextlib.suppress(ConfigurationError, NoLedger):
        return await asyncio.to_thread(write, ledger, operation)
    return None
