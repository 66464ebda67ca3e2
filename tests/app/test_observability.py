"""What the pages read of the ledger holds up nothing that the daemon reads of it."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scheduler.app.observability import Observability
from scheduler.clock import SystemClock
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import Event
from scheduler.core.model import RunOrigin, RunStatus, RunUpdate, SnapshotUpdate
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.daemon.clock import ClockWatch
from scheduler.daemon.ledger_health import LedgerHealth
from scheduler.daemon.service import Service
from scheduler.ledger.history import read_recent
from scheduler.ledger.schema import open_ledger
from scheduler.ledger.sqlite import SqliteLedger
from scheduler.settings.load import load
from tests.ledger.support import automation, run, version


class OnlyForPeople:
    """A database in which nothing can be read but by who browses."""

    async def browse(self, query: object) -> Any:
        assert callable(query)
        return "browsed"


def observing(folder: Path) -> Observability:
    (folder / "scheduler.toml").write_text(
        '[server]\nlisten = ""\n[[target]]\nurl = "http://127.0.0.1:8040"\nproject_id = "1"\n'
    )
    return Observability(load(folder / "scheduler.toml", {}).settings, SystemClock())


def service() -> Service:
    """A daemon that serves no target yet."""
    clock = SystemClock()
    publish = list[Event]().append
    return Service(
        node="n",
        version="0",
        clock=clock,
        watch=ClockWatch(clock, publish),
        health=LedgerHealth(publish),
        publish=publish,
    )


def test_the_pages_read_where_nothing_else_waits(tmp_path: Path) -> None:
    async def main() -> None:
        watching = observing(tmp_path)
        watching._database = OnlyForPeople()  # type: ignore[assignment]  # it is asked for nothing else
        assert await watching._read_occurrences(service(), OccurrenceQuery()) == "browsed"  # type: ignore[comparison-overlap]  # what it gave
        assert await watching._browse(read_recent, SystemClock().now()) == "browsed"  # type: ignore[comparison-overlap]  # the same
        watching._log.close()

    asyncio.run(main())


def test_the_metrics_go_on_from_the_automations_that_fail_by_the_ledger(tmp_path: Path) -> None:
    async def main() -> None:
        watching = observing(tmp_path)
        assert watching._metrics.find_failing("default") is None
        database = open_ledger(tmp_path / "ledger.db")
        try:
            ledger = SqliteLedger(database, "node-1", "6.2.4", "2026.2")
            await ledger.bind("default", "http://127.0.0.1:8040", "1")
            nightly, at = automation(), datetime(2026, 11, 23, 12, tzinfo=UTC)
            await ledger.record_snapshot("default", SnapshotUpdate(at, [version(nightly)], [nightly], []))
            await ledger.record_runs(
                "default", RunUpdate([(run("run-1", nightly.id, RunStatus.FAILED), RunOrigin.FOREIGN)], at)
            )
            await watching.recall(database)
            assert watching._metrics.find_failing("default") == {nightly.id}
        finally:
            database.close()
            watching._log.close()

    asyncio.run(main())


def test_a_ledger_that_is_not_open_yet_is_said_so(tmp_path: Path) -> None:
    async def main() -> None:
        watching = observing(tmp_path)
        for look in (
            watching._read_occurrences(service(), OccurrenceQuery()),
            watching._browse(read_recent, SystemClock().now()),
        ):
            with pytest.raises(LedgerUnavailable, match="not open yet"):
                await look
        watching._log.close()

    asyncio.run(main())
