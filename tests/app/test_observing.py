"""What the pages read of the ledger holds up nothing that the daemon reads of it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from scheduler.app.observing import Observing
from scheduler.core.errors import LedgerUnavailable
from scheduler.daemon.clock import SystemClock
from scheduler.ops.queries import OccurrenceQuery
from scheduler.settings import load


class OnlyForPeople:
    """A database in which nothing can be read but by who browses."""

    async def browse(self, query: object) -> Any:
        assert callable(query)
        return "browsed"


def observing(folder: Path) -> Observing:
    (folder / "scheduler.toml").write_text('[server]\nlisten = ""\n')
    return Observing(load(folder / "scheduler.toml", {}).settings, SystemClock())


def test_the_pages_read_where_nothing_else_waits(tmp_path: Path) -> None:
    async def main() -> None:
        watching = observing(tmp_path)
        watching._database = OnlyForPeople()  # type: ignore[assignment]  # it is asked for nothing else
        assert await watching._occurrences(OccurrenceQuery()) == "browsed"  # type: ignore[comparison-overlap]  # what it gave
        assert await watching._recent(SystemClock().now()) == "browsed"  # type: ignore[comparison-overlap]  # the same
        watching._log.close()

    asyncio.run(main())


def test_a_ledger_that_is_not_open_yet_is_said_so(tmp_path: Path) -> None:
    async def main() -> None:
        watching = observing(tmp_path)
        for look in (watching._occurrences(OccurrenceQuery()), watching._recent(SystemClock().now())):
            with pytest.raises(LedgerUnavailable, match="not open yet"):
                await look
        watching._log.close()

    asyncio.run(main())
