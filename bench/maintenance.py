"""What a long history costs a start, and what retention costs whoever claims. ``python -m bench.maintenance
[ROWS ...]``.

A ledger with so many occurrences of 1,000 automations, by default a million and ten million; what a start
reads of it; then the removal of a tenth, while somebody reads and writes as a planner does: the slowest of
those is shown.
"""

import asyncio
import sqlite3
import sys
import time
from collections.abc import Awaitable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from bench import parts
from scheduler.database import Database
from scheduler.ledger import history
from scheduler.ledger.retention import prune
from scheduler.ledger.schema import open_ledger
from scheduler.ledger.sqlite import SqliteLedger

AUTOMATIONS: Final = 1_000
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_NUMBERS: Final = (
    "WITH RECURSIVE row (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM row WHERE number < ? - 1)"
)
_FILL_AUTOMATIONS: Final = f"""
    INSERT INTO automation (target, automation_id, name, cron_expression, timezone, enabled, effective_from)
    {_NUMBERS} SELECT 'main', 'a' || number, 'n', '* * * * *', 'UTC', 1,
        '2026-01-01T00:00:00.000000Z' FROM row
"""
_FILL_OCCURRENCES: Final = f"""
    INSERT INTO occurrence (target, automation_id, scheduled_for, last, name, due, outcome, reason, sent_at,
        finished_at, node)
    {_NUMBERS} SELECT 'main', 'a' || (number % {AUTOMATIONS}), at, at, 'n', at, 'accepted', 'answered',
        at, at, 'bench'
    FROM (SELECT number,
        strftime('%Y-%m-%dT%H:%M:%SZ', '2026-01-01', '+' || (number / {AUTOMATIONS}) || ' minutes') AS at
            FROM row)
"""


@dataclass(slots=True)
class Cost:
    """Seconds, the longest of several."""

    longest: float = 0.0

    async def count(self, work: Awaitable[object]) -> None:
        began = time.perf_counter()
        await work
        self.longest = max(self.longest, time.perf_counter() - began)


@contextmanager
def filled(rows: int) -> Iterator[Database]:
    with parts.folder() as folder:
        path = folder / "ledger.db"
        open_ledger(path).close()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "INSERT INTO target (name, url, project_id) VALUES ('main', 'https://us.posthog.com', '1')"
            )
            connection.execute(_FILL_AUTOMATIONS, (AUTOMATIONS,))
            connection.execute(_FILL_OCCURRENCES, (rows,))
        database = open_ledger(path)
        try:
            yield database
        finally:
            database.close()


async def read_as_a_start(database: Database, ledger: SqliteLedger) -> None:
    await database.read(partial(history.read_last_times, target="main"))
    await ledger.bind("main", "https://us.posthog.com", "1")
    await ledger.read_newest_runs("main")
    await ledger.read_open_occurrences("main")


async def read_and_write(database: Database, ledger: SqliteLedger, cost: Cost) -> None:
    async def once() -> None:
        await ledger.read_pauses("main")
        await database.write(
            lambda connection: connection.execute("UPDATE target SET watermark = NULL").rowcount
        )

    while True:
        await cost.count(once())
        await asyncio.sleep(0.01)


async def measure(database: Database, rows: int) -> None:
    ledger = SqliteLedger(database, "bench", "6.2.4", "2026.2")
    start, claim, retention = Cost(), Cost(), Cost()
    await start.count(read_as_a_start(database, ledger))
    claiming = asyncio.create_task(read_and_write(database, ledger, claim))
    await retention.count(prune(database, START + timedelta(minutes=rows // AUTOMATIONS // 10)))
    claiming.cancel()
    print(f"{rows:>12,} {start.longest:>10.3f} {retention.longest:>12.2f} {claim.longest:>20.3f}", flush=True)


def main() -> None:
    print(f"{'occurrences':>12} {'start s':>10} {'retention s':>12} {'slowest of others s':>20}", flush=True)
    for rows in [int(each) for each in sys.argv[1:]] or [1_000_000, 10_000_000]:
        with filled(rows) as database:
            asyncio.run(measure(database, rows))


if __name__ == "__main__":
    main()
