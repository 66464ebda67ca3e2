"""Ledgers to audit: what a daemon wrote of a story, in a file, and how to spoil it."""

import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from scheduler.audit.findings import AuditFinding
from scheduler.audit.runner import Audit, AuditRequest
from scheduler.core.cron.ranges import RULES_VERSION
from scheduler.core.cron.schedule import read_versions
from scheduler.core.instants import to_text
from tests.daemon.world import NOON, World, in_world

Story = Callable[[World], Coroutine[Any, Any, None]]


def recorded(path: Path, story: Story, **world: Any) -> Path:
    """The ledger that a daemon left after a story, evaluated with what evaluates now."""

    async def tell_and_save(world: World) -> None:
        await story(world)
        world.ledger.file.save(path)

    in_world(tell_and_save, **world)
    evaluated = read_versions()
    spoil(
        path,
        "INSERT INTO evaluation (since, croniter, tzdata, dst_gap, dst_repeat, rules_version) "
        "VALUES (?, ?, ?, 'after', 'once', ?)",
        to_text(NOON - timedelta(days=1)),
        evaluated.croniter,
        evaluated.tzdata,
        RULES_VERSION,
    )
    return path


def spoil(path: Path, sql: str, *values: object) -> int:
    """Change the ledger behind everybody's back; how many rows that were."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, values).rowcount


def audit(
    path: Path, *, since: datetime = NOON, hours: float = 24.0, now: datetime | None = None, **wanted: Any
) -> Audit:
    until = since + timedelta(hours=hours)
    return Audit(path, AuditRequest(since=since, until=until, now=now or until, **wanted), processes=1)


def found(path: Path, **wanted: Any) -> list[AuditFinding]:
    """All findings, in order."""
    return sorted(audit(path, **wanted).run(), key=lambda each: (str(each.scheduled_for), each.automation_id))


def told(path: Path, **wanted: Any) -> list[str]:
    """The findings as a kind and a time of day each."""
    return [f"{each.kind} {each.scheduled_for:%H:%M}" for each in found(path, **wanted)]
