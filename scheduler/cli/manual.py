"""A run by hand: announced in the ledger before its request is sent, so that the daemon does not take it for somebody else's."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from scheduler.cli.ledger_file import NoLedger, write
from scheduler.cli.target_api import carry_out, found
from scheduler.cli.targets import choose
from scheduler.cli.times import now
from scheduler.core.command_line import command_line
from scheduler.core.errors import ConfigurationError, UpstreamError
from scheduler.core.model import Automation, Run, RunStatus
from scheduler.core.verdict import Accepted, NotStarted, Unknown, judge
from scheduler.ledger.intents import failed_run, intend_run, started_run
from scheduler.settings import Settings, Target
from scheduler.upstream import ApiClient, Document

T = TypeVar("T")


def start(settings: Settings, target_name: str | None, automation: str) -> Document:
    """Start a run of an automation, an id or a name; the automation afterwards comes back.

    Raises `AnswerIsNo` for no such automation, `ConfigurationError` when the API refuses, and `UpstreamError` when nothing was
    started, or when it is not known whether a run was.
    """
    target = choose(settings, target_name)
    return carry_out(target, partial(_start, settings.ledger.url.path, target, automation))


async def _start(ledger: Path, target: Target, automation: str, api: ApiClient) -> Document:
    document = await found(api, automation)
    automation_id = str(document["id"])
    intent = await _noted(ledger, lambda connection: intend_run(connection, target.name, automation_id, now()))
    before = document.get("last_task_run_id")
    await api.admit()
    verdict = judge(await api.run(automation_id, str(uuid4())), automation_id=automation_id, taken=lambda run_id: run_id == before)
    if isinstance(verdict, Accepted):
        started = _run(verdict.automation)
        if intent is not None:
            await _noted(ledger, lambda connection: started_run(connection, intent, started, now()))
        return await api.document(automation_id) or document
    maybe = isinstance(verdict, Unknown)
    if intent is not None:
        await _noted(ledger, lambda connection: failed_run(connection, intent, verdict.error, refused_at=None if maybe else now()))
    if maybe:
        raise UpstreamError(
            f"it is not known whether a run was started: {verdict.error}; look with "
            f"`{command_line(f'automations get {automation_id}', target=target.name)}`"
        )
    if isinstance(verdict, NotStarted):
        raise UpstreamError(f"no run was started: {verdict.error}")
    raise ConfigurationError(f"no run was started: {verdict.error}")


def _run(automation: Automation) -> Run:
    return Run(automation.run_id or "", automation.id, automation.run_at, RunStatus.RUNNING)


async def _noted(ledger: Path, operation: Callable[[sqlite3.Connection], T]) -> T | None:
    """Write it down where there is a ledger that knows the target; without one there is no daemon that could mistake the run."""
    with contextlib.suppress(ConfigurationError, NoLedger):
        return await asyncio.to_thread(write, ledger, operation)
    return None
