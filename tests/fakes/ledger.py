"""`LedgerDouble`: the real ledger on a database in memory, with faults, and with readers for tests."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from scheduler.core.backfill import FireRequest
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.instants import from_text
from scheduler.core.model import Occurrence, RunOrigin, RunStatus
from scheduler.core.occurrence_log import Step
from scheduler.core.pauses import EVERYTHING
from scheduler.core.recorded_state import RecordedTargetState
from scheduler.ledger import snapshots
from scheduler.ledger.fire_requests import request_fire
from scheduler.ledger.occurrence_records import (
    AttemptRow,
    OccurrenceRow,
    read_attempts,
    read_row,
    read_steps,
)
from scheduler.ledger.operator_requests import Pause, announce_run, pause, resume
from scheduler.ledger.rows import parse_rows
from scheduler.ledger.spans import SPAN_COLUMNS, SPAN_TABLES, SpanRow
from scheduler.ledger.sqlite import SqliteLedger
from scheduler.ledger.versions import RecordedVersion, read_versions
from tests.memory_file import MemoryFile

if TYPE_CHECKING:
    from scheduler.database import Database

_T = TypeVar("_T")
_I = TypeVar("_I")

_SELECT_ROWS: Final = "SELECT *, task_run_id AS run_id, lateness_seconds AS lateness FROM occurrence"
_PAUSED_AT: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
_RESUMED_AT: Final = datetime(2026, 11, 23, 13, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(OccurrenceRow):
    """One occurrence, or a span of occurrences, when the row was read.

    Attempts and steps are read at each use.
    """

    target: str
    automation_id: str
    lateness: float | None  # seconds
    file: MemoryFile | None = None

    @property
    def occurrence(self) -> Occurrence:
        """The occurrence, or the first occurrence of the span."""
        return Occurrence(self.target, self.automation_id, self.scheduled_for)

    @property
    def attempts(self) -> dict[int, AttemptRow]:
        """The attempts by number."""
        assert self.file is not None
        attempts = self.file.read(lambda connection: read_attempts(connection, self))
        return {attempt.number: attempt for attempt in attempts}

    @property
    def steps(self) -> list[Step]:
        """The steps, the oldest first."""
        assert self.file is not None
        return self.file.read(lambda connection: read_steps(connection, self))

    @property
    def fate(self) -> str:
        """The outcome with its reason, or the state, in one word for a test to compare."""
        return str(self.state) if self.outcome is None else f"{self.outcome}: {self.reason}"


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run in the ledger, when the row was read."""

    origin: RunOrigin
    status: RunStatus
    error: str | None


class InlineDatabase:
    """A `Database` without threads: an operation is carried out, and durable, by the time of its call."""

    def __init__(self, file: MemoryFile) -> None:
        self.file = file

    async def read(self, operation: Callable[[sqlite3.Connection], _T]) -> _T:
        """See `scheduler.database.Database`."""
        return self.file.read(operation)

    read_in_background = read

    async def write(self, operation: Callable[[sqlite3.Connection], _T]) -> _T:
        """See `scheduler.database.Database`."""
        with self.file.transaction() as connection:
            return operation(connection)

    async def write_together(
        self, operation: Callable[[sqlite3.Connection, Sequence[_I]], Sequence[_T | Exception]], item: _I
    ) -> _T:
        """See `scheduler.database.Database`."""
        with self.file.transaction() as connection:
            (done,) = operation(connection, [item])
        if isinstance(done, Exception):
            raise done
        return done


class LedgerDouble(SqliteLedger):
    """The real ledger in memory.

    ``took`` seconds pass before each operation, and ``slow`` has other seconds for some operations.
    ``broken`` is why no operation is possible now. ``written`` counts the operations. Everything else that a
    test asks is read from the rows at each use.
    """

    __setattr__ = object.__setattr__  # of a frozen dataclass with slots it fails for a subclass

    def __init__(self) -> None:
        self.file = MemoryFile()
        super().__init__(cast("Database", InlineDatabase(self.file)), "node-1", "6.2.4", "2026.2")
        self.took = 0.003
        self.slow: dict[str, float] = {}
        self.broken: str | None = None
        self.written: Counter[str] = Counter()

    def close(self) -> None:
        """Close the file, which ends with the test."""
        self.file.close()

    async def pass_time(self, operation: str) -> None:
        """Let the time of an operation pass.

        The operation itself follows at once: a process that dies before has written nothing, and a process
        that dies after has written everything.
        """
        await asyncio.sleep(self.slow.get(operation, self.took))
        if self.broken is not None:
            raise LedgerUnavailable(self.broken)
        self.written[operation] += 1

    # ------------------------------------------------------------ the acts of operators

    def pause(self, automation_id: str = EVERYTHING, *, target: str = "main") -> None:
        """An operator pauses an automation, or all."""
        pause(self.file.connection, Pause(target, automation_id, _PAUSED_AT, "ada"))

    def resume(self, automation_id: str = EVERYTHING, *, target: str = "main") -> None:
        """An operator resumes it, or everything."""
        resume(self.file.connection, target, automation_id, at=_RESUMED_AT, by="ada")

    def ask(self, request: FireRequest) -> None:
        """An operator asks for an occurrence to be made up for."""
        request_fire(self.file.connection, request)

    def announce_run(self, automation_id: str, at: datetime, *, target: str = "main") -> None:
        """An operator is about to run an automation by hand."""
        announce_run(self.file.connection, target, automation_id, at)

    def change(self, sql: str, *values: object) -> None:
        """Change rows behind everybody's back."""
        assert self.file.connection.execute(sql, values).rowcount > 0

    # ------------------------------------------------------------ the rows

    @property
    def rows(self) -> dict[Occurrence, Row]:
        """All rows, in the order of their making."""
        return {row.occurrence: row for row in self._select_rows("ORDER BY id")}

    def of(self, automation_id: str) -> list[Row]:
        """Its rows, in the order of their scheduled instants."""
        return self._select_rows("WHERE automation_id = ? ORDER BY scheduled_for", automation_id)

    def covering(self, occurrence: Occurrence) -> Row | None:
        """The row that an occurrence has, of its own or in a span."""
        row = self.file.read(lambda connection: read_row(connection, occurrence))
        return None if row is None else self._select_rows("WHERE id = ?", row.id)[0]

    def list_instants(self, row: Row) -> Sequence[datetime]:
        """The scheduled instants that a row stands for."""
        if row.count == 1:
            return [row.scheduled_for]
        select = f"SELECT {SPAN_COLUMNS} FROM {SPAN_TABLES} WHERE span.id = ?"
        span = SpanRow.from_row(self.file.connection.execute(select, (row.id,)).fetchone())
        if span.instants is not None:
            return span.instants
        assert span.schedule is not None
        return [span.first, *span.schedule.iterate_between(span.first, span.last)]

    @property
    def runs(self) -> dict[tuple[str, str], RunRow]:
        """The runs by target and id."""
        rows = self.file.connection.execute("SELECT target, run_id, origin, status, error FROM run")
        return {
            (target, run_id): RunRow(RunOrigin(origin), RunStatus(status), error)
            for target, run_id, origin, status, error in rows
        }

    @property
    def unattributed(self) -> set[tuple[str, str]]:
        """Target and id of the runs whose origin is not known yet."""
        return set(self.file.connection.execute("SELECT target, run_id FROM unattributed_run"))

    @property
    def requests(self) -> set[Occurrence]:
        """The occurrences that an operator asked for, and the daemon has not taken up."""
        rows = self.file.connection.execute(
            "SELECT target, automation_id, scheduled_for FROM fire_request WHERE refused IS NULL"
        )
        return {Occurrence(target, id_, from_text(at)) for target, id_, at in rows}

    def is_bound(self, target: str = "main") -> bool:
        """Whether the ledger knows a target."""
        return bool(self.file.connection.execute("SELECT 1 FROM target WHERE name = ?", (target,)).fetchall())

    def target(self, name: str = "main") -> RecordedTargetState:
        """What is recorded of a target."""
        return self.file.read(lambda connection: snapshots.read_target_state(connection, name))

    def versions(self, target: str = "main") -> list[RecordedVersion]:
        """The definition versions of a target, in the order of recording."""
        return self.file.read(lambda connection: read_versions(connection, target))

    def _select_rows(self, condition: str, *parameters: object) -> list[Row]:
        rows = parse_rows(Row, self.file.connection.execute(f"{_SELECT_ROWS} {condition}", parameters))
        for row in rows:
            object.__setattr__(row, "file", self.file)  # nobody has seen the row yet
        return rows


_Operation = Callable[..., Coroutine[Any, Any, object]]


def _take_time(name: str, operation: _Operation) -> _Operation:
    async def operate(self: LedgerDouble, *args: object, **named: object) -> object:
        await self.pass_time(name)
        return await operation(self, *args, **named)

    return operate


for _name, _operation in vars(SqliteLedger).items():
    if asyncio.iscoroutinefunction(_operation):
        setattr(LedgerDouble, _name, _take_time(_name, _operation))
