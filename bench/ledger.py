"""What durability costs: claims and outcomes in groups, beside a busy event loop, and on a long history.

``python -m bench.ledger`` prints fires a second (a claim with its first attempt, and an outcome with its run,
both durable) by the size of the groups in which they come; then what 1,000 claims take while another thread
keeps Python busy, against one statement for each row; then claims, outcomes and reading when the ledger holds
many occurrences.
"""

import asyncio
import sqlite3
import statistics
import threading
import time
import uuid
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import uvloop

from bench import parts
from scheduler.core.instants import to_text, to_text_seconds
from scheduler.core.model import (
    Attempt,
    AttemptEnd,
    AttemptResult,
    Claim,
    ClaimPlan,
    Conclusion,
    Occurrence,
    Outcome,
    Reason,
    Run,
    RunStatus,
    Skip,
)
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.database import Database
from scheduler.database.database import OnCommit, ignore
from scheduler.ledger import history
from scheduler.ledger.schema import open_ledger
from scheduler.ledger.sqlite import SqliteLedger

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
AUTOMATIONS: Final = [str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))) for number in range(1_000)]
HISTORY: Final = 300_000
ROUNDS: Final = 9


@dataclass(slots=True)
class Cost:
    """Seconds on the wall and on the processor."""

    wall: float = 0.0
    cpu: float = 0.0
    commits: list[float] = field(default_factory=list)

    @contextmanager
    def counted(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


@contextmanager
def ledger(on_commit: OnCommit = ignore) -> Iterator[tuple[Database, SqliteLedger]]:
    """An empty one."""
    with parts.folder() as folder:
        database = open_ledger(folder / "ledger.db", on_commit=on_commit)
        try:
            yield database, SqliteLedger(database, "bench", "6.2.4", "2026.2")
        finally:
            database.close()


def claims(minute: int, automations: Sequence[str]) -> list[Claim]:
    at = START + timedelta(minutes=minute)
    attempt = Attempt(1, at, None)
    return [
        Claim(Occurrence("main", each, at), "nightly report", at, at + timedelta(minutes=5), at, attempt)
        for each in automations
    ]


def outcome(made: Claim) -> tuple[Occurrence, Conclusion, AttemptEnd]:
    at, automation_id = made.due, made.occurrence.automation_id
    run = Run(str(uuid.uuid4()), automation_id, at, RunStatus.RUNNING)
    end = AttemptEnd(1, AttemptResult.ANSWERED, at, at, 200)
    return made.occurrence, Conclusion(Outcome.ACCEPTED, Reason.ANSWERED, at, at, 0.1, None, run), end


async def fire(
    to: SqliteLedger, minute: int, automations: Sequence[str], claiming: Cost, concluding: Cost
) -> None:
    """Claim for all of them at once, and conclude all of them at once, each by a caller of its own."""
    wanted = claims(minute, automations)
    outcomes = [outcome(each) for each in wanted]
    with claiming.counted():
        await to.claim("main", ClaimPlan(wanted, [], START + timedelta(minutes=minute)))
    with concluding.counted():
        await asyncio.gather(*(to.conclude(*each) for each in outcomes))


# ---------------------------------------------------------------- by the size of the group


async def groups() -> None:
    print("group   fires/s   claim ms (CPU)   outcomes ms (CPU)   commits   one commit ms")
    for size in (1, 10, 50, 500, 1_000):
        commits: list[float] = []
        claiming, concluding = Cost(), Cost()
        rounds = max(5, 100 // size)
        with ledger(commits.append) as (_, to):
            await to.bind("main", "https://us.posthog.com", "1")
            commits.clear()
            for minute in range(rounds):
                await fire(to, minute, AUTOMATIONS[:size], claiming, concluding)
        rate = rounds * size / (claiming.wall + concluding.wall)
        print(
            f"{size:5,} {rate:9,.0f} {claiming.wall / rounds * 1e3:8.1f} ({claiming.cpu / rounds * 1e3:5.1f})"
            f" {concluding.wall / rounds * 1e3:11.1f} ({concluding.cpu / rounds * 1e3:5.1f})"
            f" {len(commits) / rounds:9.1f} {sum(commits) / len(commits) * 1e3:13.2f}"
        )


# ---------------------------------------------------------------- beside a busy loop


@contextmanager
def busy() -> Iterator[None]:
    """Another thread that gives Python's lock back only when it must, as an event loop does that has much to
    do.
    """
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            sum(range(200))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def one_by_one(connection: sqlite3.Connection, wanted: Sequence[Claim]) -> None:
    """What `SqliteLedger.claim` would be with a statement for each row."""
    for each in wanted:
        at = to_text_seconds(each.occurrence.scheduled_for)
        connection.execute(
            "INSERT INTO occurrence (target, automation_id, scheduled_for, last, name, due, "
            "deadline, state, claimed_at, node, attempts)"
            " VALUES ('main', ?1, ?2, ?2, ?3, ?4, ?5, 'claimed', ?4, 'bench', 1) ON CONFLICT DO NOTHING",
            (each.occurrence.automation_id, at, each.name, to_text(each.due), to_text(each.deadline)),
        )
        connection.execute(
            "INSERT INTO attempt (occurrence_id, number, written_at) VALUES (last_insert_rowid(), 1, ?)",
            (to_text(each.due),),
        )


async def contended() -> None:
    print("\n1,000 claims, median (worst)                alone ms        beside a busy thread ms")
    with ledger() as (database, to):
        await to.bind("main", "https://us.posthog.com", "1")

        async def together(minute: int) -> None:
            await to.claim("main", ClaimPlan(claims(minute, AUTOMATIONS), [], START))

        async def each(minute: int) -> None:
            await database.write(lambda connection: one_by_one(connection, claims(minute, AUTOMATIONS)))

        minutes = iter(range(1_000))
        ways = (("in a few statements, as the ledger does", together), ("a statement for each row", each))
        for name, way in ways:
            alone = [await timed(way(next(minutes))) for _ in range(ROUNDS)]
            with busy():
                beside = [await timed(way(next(minutes))) for _ in range(ROUNDS)]
            print(f"{name:40} {milliseconds(alone)} {milliseconds(beside):>28}")


def milliseconds(measured: Sequence[float]) -> str:
    """Their median, and the worst of them."""
    return f"{statistics.median(measured) * 1e3:7.1f} ({max(measured) * 1e3:7.1f})"


async def timed(what: Awaitable[object]) -> float:
    began = time.perf_counter()
    await what
    return time.perf_counter() - began


# ---------------------------------------------------------------- on a long history


async def long_history() -> None:
    with ledger() as (database, to):
        await to.bind("main", "https://us.posthog.com", "1")
        minutes = HISTORY // len(AUTOMATIONS)
        for minute in range(minutes):
            at = START + timedelta(minutes=minute)
            skips = [
                Skip(Occurrence("main", each, at), "nightly report", at, [at], Reason.PAUSED, at)
                for each in AUTOMATIONS
            ]
            await to.claim("main", ClaimPlan([], skips, at))
        claiming, concluding = Cost(), Cost()
        for minute in range(minutes, minutes + 5):
            await fire(to, minute, AUTOMATIONS, claiming, concluding)
        print(f"\nwith {HISTORY:,} occurrences on record")
        print(f"  1,000 claims: {claiming.wall / 5 * 1e3:.1f} ms ({claiming.cpu / 5 * 1e3:.1f} CPU)")
        print(f"  1,000 outcomes: {concluding.wall / 5 * 1e3:.1f} ms ({concluding.cpu / 5 * 1e3:.1f} CPU)")
        for name, selection in (
            ("the newest 50 of all", OccurrenceQuery(limit=50)),
            ("the newest 50 of one automation", OccurrenceQuery(automation=AUTOMATIONS[7], limit=50)),
            (
                "all that there is of one automation",
                OccurrenceQuery(automation=AUTOMATIONS[7], limit=10**6),
            ),
        ):
            reading = database.read(partial(history.read_occurrences, selection=selection))
            print(f"  {name}: {await timed(reading) * 1e3:.1f} ms")


async def measure() -> None:
    await groups()
    await contended()
    await long_history()


def main() -> None:
    uvloop.run(measure())


if __name__ == "__main__":
    main()
