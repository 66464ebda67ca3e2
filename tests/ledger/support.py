"""Values for the ledger's tests, and a ledger to try them on, so that a test reads like a story: one step a
line.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from scheduler.core.model import (
    Attempt,
    AttemptEnd,
    AttemptResult,
    Automation,
    Claim,
    Conclusion,
    Definition,
    DefinitionVersion,
    Occurrence,
    Outcome,
    Reason,
    Run,
    RunStatus,
    Skip,
)
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.daemon.ports import Ledger
from scheduler.database import Database
from scheduler.ledger import history
from scheduler.ledger.schema import open_ledger
from scheduler.ledger.sqlite import SqliteLedger

T = TypeVar("T")

MAIN = "main"
URL = "https://us.posthog.com"
NIGHTLY = "0190e1a0-0000-7000-8000-00000000000a"
HOURLY = "0190e1a0-0000-7000-8000-00000000000b"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    """So many minutes after noon."""
    return NOON + timedelta(minutes=minutes)


def occurrence(minute: int, automation_id: str = NIGHTLY) -> Occurrence:
    return Occurrence(MAIN, automation_id, at(minute))


def attempt(number: int = 1, minute: float = 0, baseline: str | None = "run-0") -> Attempt:
    return Attempt(number, at(minute), baseline, 0.25)


def claim(
    minute: int, automation_id: str = NIGHTLY, *, first: Attempt | None = None, name: str = "nightly report"
) -> Claim:
    return Claim(
        occurrence(minute, automation_id), name, at(minute), at(minute + 5), at(minute - 0.02), first
    )


def skip(*minutes: int, automation_id: str = NIGHTLY, reason: Reason = Reason.MISSED) -> Skip:
    return Skip(
        occurrence(minutes[0], automation_id),
        "nightly report",
        at(minutes[0]),
        [at(each) for each in minutes],
        reason,
        at(1000),
    )


def end(
    number: int = 1,
    result: AttemptResult = AttemptResult.UNKNOWN,
    *,
    minute: float = 1,
    error: str | None = None,
) -> AttemptEnd:
    sent_at = None if result is AttemptResult.NOT_SENT else at(minute)
    return AttemptEnd(
        number, result, at(minute + 0.5), sent_at, 502 if result is AttemptResult.UNKNOWN else None, error
    )


def run(
    run_id: str,
    automation_id: str = NIGHTLY,
    status: RunStatus = RunStatus.RUNNING,
    *,
    minute: float | None = 1,
) -> Run:
    return Run(
        run_id,
        automation_id,
        None if minute is None else at(minute),
        status,
        "it broke" if status is RunStatus.FAILED else None,
    )


def accepted(
    run_id: str, reason: Reason = Reason.ANSWERED, *, automation_id: str = NIGHTLY, minute: float = 1
) -> Conclusion:
    return Conclusion(
        Outcome.ACCEPTED,
        reason,
        at(minute + 0.6),
        at(minute),
        0.25,
        None,
        run(run_id, automation_id, minute=minute),
    )


def concluded(outcome: Outcome, reason: Reason, error: str | None = None) -> Conclusion:
    return Conclusion(outcome, reason, at(9), error=error)


def automation(
    automation_id: str = NIGHTLY,
    name: str = "nightly report",
    cron: str = "0 3 * * *",
    run_id: str | None = None,
) -> Automation:
    return Automation(
        automation_id,
        name,
        Definition(cron, "Europe/Berlin", enabled=True),
        at(-60),
        run_id,
        at(-90),
        "success",
    )


def version(of: Automation, minute: float = 0, *, invalid: str | None = None) -> DefinitionVersion:
    return DefinitionVersion(of.id, of.name, of.definition, at(minute), at(minute + 0.5), invalid)


def removal(of: Automation, minute: float) -> DefinitionVersion:
    return DefinitionVersion(of.id, of.name, None, at(minute), at(minute))


@dataclass(slots=True)
class Stand:
    """A ledger with the target `MAIN`, and a loop to run its verbs on."""

    ledger: Ledger
    database: Database
    path: Path
    runner: asyncio.Runner

    def do(self, verb: Awaitable[T]) -> T:
        """What comes of one verb."""

        async def main() -> T:
            return await verb

        return self.runner.run(main())

    def together(self, *verbs: Awaitable[object]) -> list[object]:
        """What comes of verbs that wait together, their exceptions included."""

        async def main() -> list[object]:
            return list(await asyncio.gather(*verbs, return_exceptions=True))

        return self.runner.run(main())

    def lines(self, **selection: object) -> Sequence[history.Line]:
        """The history, the oldest first."""
        wanted = OccurrenceQuery(oldest_first=True, limit=10**6, **selection)  # type: ignore[arg-type]  # passed on as given
        return self.do(self.database.read(lambda connection: history.read_occurrences(connection, wanted)))

    def outcomes(self) -> list[tuple[int, int, str | None]]:
        """Of each row the minute, the count, and its reason; None while it is open."""
        return [
            (_minute(str(line["scheduled_for"])), int(line["count"] or 0), _text(line["reason"]))
            for line in self.lines()
        ]

    def rows(self, select: str) -> list[tuple[object, ...]]:
        """What stands in the tables."""
        return self.do(
            self.database.read(lambda connection: [tuple(row) for row in connection.execute(select)])
        )

    def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """What a command writes."""
        return self.do(self.database.write(operation))

    def watermark(self) -> datetime | None:
        """As a daemon that starts would find it."""
        return self.do(self.ledger.bind(MAIN, URL, "1")).watermark


def _minute(scheduled_for: str) -> int:
    return round((datetime.fromisoformat(scheduled_for) - NOON).total_seconds() / 60)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def sqlite_ledger(database: Database, node: str = "node-1") -> Ledger:
    return SqliteLedger(database, node=node, croniter="6.2.4", tzdata="2026.2")


@contextmanager
def stand(path: Path) -> Iterator[Stand]:
    """A ledger in a file, bound to `MAIN`."""
    database = open_ledger(path)
    with asyncio.Runner() as runner:
        ready = Stand(sqlite_ledger(database), database, path, runner)
        ready.do(ready.ledger.bind(MAIN, URL, "1"))
        try:
            yield ready
        finally:
            database.close()
