"""`SqliteLedger`: the operations of the daemon on a `Database`.

The other modules of this package describe the operations.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from scheduler.core.backfill import FireRequest, Reopening
from scheduler.core.cron.ranges import RULES_VERSION
from scheduler.core.instants import from_optional_text, from_text, to_text
from scheduler.core.model import (
    Attempt,
    AttemptEnd,
    AttemptResult,
    ClaimPlan,
    Conclusion,
    Occurrence,
    OpenOccurrence,
    Run,
    RunOrigin,
    RunUpdate,
    SnapshotUpdate,
    State,
)
from scheduler.core.occurrence_log import Step, StepsByOccurrence
from scheduler.core.recorded_state import RecordedRuns, RecordedTargetState, ThrottleSpan
from scheduler.database import Database
from scheduler.ledger import attempts, fire_requests, operator_requests, outcomes, snapshots, targets
from scheduler.ledger import unattributed_runs as notes
from scheduler.ledger.claims import claim, find_missing
from scheduler.ledger.rows import make_parser, parse_rows
from scheduler.ledger.sql_batch import to_identity
from scheduler.ledger.steps import record


@dataclass(frozen=True, slots=True)
class SqliteLedger:
    """The ledger in a database of this project.

    ``node`` is written to the rows; ``croniter`` and ``tzdata`` are the versions for evaluating schedules.
    ``rules_version`` is the version of the rules for reading expressions, see `scheduler.core.cron.ranges`.
    Every method raises `LedgerUnavailable` when the operation is not possible now. Methods that write return
    when their write is durable. `Contradiction` is a mistake of the caller, and nothing was written.
    """

    database: Database
    node: str
    croniter: str
    tzdata: str
    rules_version: int = RULES_VERSION

    # ------------------------------------------------------------ targets and their snapshots

    async def bind(self, target: str, url: str, project_id: str) -> RecordedTargetState:
        """See `targets.bind` and `snapshots.read_target_state`."""
        await self.database.write(lambda connection: targets.bind(connection, target, url, project_id))
        return await self.database.read(lambda connection: snapshots.read_target_state(connection, target))

    async def record_snapshot(self, target: str, update: SnapshotUpdate) -> None:
        """See `snapshots.record_snapshot`."""
        evaluated_by = (self.croniter, self.tzdata)
        await self.database.write(
            lambda connection: snapshots.record_snapshot(connection, target, update, evaluated_by)
        )

    async def record_throttle(self, target: str, span: ThrottleSpan | None) -> None:
        """See `targets.record_throttle`."""
        await self.database.write(lambda connection: targets.record_throttle(connection, target, span))

    async def record_evaluation(self, since: datetime, *, dst_gap: str, dst_repeat: str) -> None:
        """Record how schedules are evaluated from ``since`` on: a row when any value is new."""
        row = (to_text(since), self.croniter, self.tzdata, dst_gap, dst_repeat, self.rules_version)
        await self.database.write(lambda connection: connection.execute(_INSERT_EVALUATION, row).rowcount)

    async def record_policies(self, since: datetime, *, schedule: str, overrides: str) -> None:
        """Record the policies in force from ``since`` on, as JSON: a row when any value is new."""
        row = (to_text(since), schedule, overrides)
        await self.database.write(lambda connection: connection.execute(_INSERT_POLICY, row).rowcount)

    # ------------------------------------------------------------ occurrences

    async def claim(self, target: str, plan: ClaimPlan) -> Mapping[Occurrence, int]:
        """See `claims.claim`."""
        return await self.database.write(lambda connection: claim(connection, target, plan, self.node))

    async def write_attempt(
        self, occurrence: Occurrence, attempt: Attempt, steps: Sequence[Step] = ()
    ) -> None:
        """See `attempts.write`."""
        await self.database.write_together(attempts.write, attempts.AttemptWrite(occurrence, attempt, steps))

    async def end_attempt(
        self, occurrence: Occurrence, end: AttemptEnd, state: State, steps: Sequence[Step] = ()
    ) -> None:
        """See `attempts.end`."""
        item = attempts.AttemptEndWrite(occurrence, end, state, steps)
        await self.database.write_together(attempts.end, item)

    async def resolve_not_started(self, occurrence: Occurrence, steps: Sequence[Step] = ()) -> None:
        """See `attempts.resolve_not_started`."""
        await self.database.write_together(attempts.resolve_not_started, (occurrence, steps))

    async def conclude(
        self,
        occurrence: Occurrence,
        conclusion: Conclusion,
        end: AttemptEnd | None = None,
        steps: Sequence[Step] = (),
    ) -> bool:
        """See `outcomes.conclude`. Return False on `RunTaken`."""
        item = outcomes.ConclusionWrite(occurrence, conclusion, end, steps)
        try:
            await self.database.write_together(outcomes.conclude, item)
        except outcomes.RunTaken:
            return False
        return True

    async def withdraw(self, occurrences: Sequence[Occurrence]) -> None:
        """See `outcomes.withdraw`."""
        await self.database.write(lambda connection: outcomes.withdraw(connection, occurrences))

    async def discard_attempts(
        self, occurrences: Sequence[Occurrence], steps: StepsByOccurrence = ()
    ) -> None:
        """See `attempts.discard`."""
        await self.database.write(lambda connection: attempts.discard(connection, occurrences, steps))

    async def record_steps(self, steps: StepsByOccurrence) -> None:
        """See `steps.record`."""
        await self.database.write(lambda connection: record(connection, steps))

    async def rewind(self, target: str, now: datetime) -> None:
        """See `outcomes.rewind`."""
        await self.database.write(lambda connection: outcomes.rewind(connection, target, now))

    async def read_open_occurrences(self, target: str) -> list[OpenOccurrence]:
        """Read every claim without an outcome, of any node, in the order of due."""
        return await self.database.read(partial(_read_open, target=target, before=None))

    async def read_late_occurrences(self, target: str, now: datetime) -> list[OpenOccurrence]:
        """Read the open occurrences with a deadline before ``now``."""
        return await self.database.read_in_background(partial(_read_open, target=target, before=to_text(now)))

    async def find_missing(self, target: str, expected: Sequence[Occurrence]) -> set[Occurrence]:
        """See `claims.find_missing`."""
        return await self.database.read_in_background(
            lambda connection: find_missing(connection, target, expected)
        )

    async def read_pauses(self, target: str) -> frozenset[str]:
        """Read the ids of paused automations; ``*`` means all automations."""
        pauses = await self.database.read(partial(operator_requests.read_pauses, target=target))
        return frozenset(pause.automation_id for pause in pauses)

    # ------------------------------------------------------------ requests for a backfill

    async def read_fire_requests(self, target: str) -> list[FireRequest]:
        """See `fire_requests.read_requests`."""
        return await self.database.read(lambda connection: fire_requests.read_requests(connection, target))

    async def reopen(self, request: FireRequest, reopening: Reopening) -> OpenOccurrence | str:
        """See `fire_requests.reopen`."""

        def reopen_and_read(connection: sqlite3.Connection) -> OpenOccurrence | str:
            why = fire_requests.reopen(connection, request, reopening, self.node)
            return _read_open_one(connection, request.occurrence) if why is None else why

        return await self.database.write(reopen_and_read)

    async def refuse(self, request: FireRequest, why: str) -> None:
        """See `fire_requests.refuse`."""
        await self.database.write(lambda connection: fire_requests.refuse(connection, request, why))

    # ------------------------------------------------------------ runs

    async def record_runs(self, target: str, update: RunUpdate) -> RecordedRuns:
        """See `snapshots.record_runs` and the module `unattributed_runs`."""

        def record(connection: sqlite3.Connection) -> RecordedRuns:
            recorded = RecordedRuns({}, {}, {})
            if update.runs:
                recorded = snapshots.record_runs(connection, target, update)
            notes.remove(connection, target, update.attributed)
            notes.note(connection, target, update.unattributed)
            return recorded

        return await self.database.write(record)

    async def read_unattributed_runs(self, target: str) -> list[Run]:
        """See `unattributed_runs.select`."""
        return await self.database.read(lambda connection: notes.select(connection, target))

    async def read_newest_runs(self, target: str) -> list[Run]:
        """See `snapshots.read_newest_runs`."""
        return await self.database.read(lambda connection: snapshots.read_newest_runs(connection, target))

    async def find_run_origin(self, target: str, run: Run) -> RunOrigin | None:
        """See `snapshots.find_run_origin`."""
        return await self.database.read(lambda connection: snapshots.find_run_origin(connection, target, run))


_INSERT_EVALUATION: Final = """
    INSERT INTO evaluation (since, croniter, tzdata, dst_gap, dst_repeat, rules_version)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6
    WHERE (?2, ?3, ?4, ?5, ?6) IS NOT
        (SELECT croniter, tzdata, dst_gap, dst_repeat, rules_version FROM evaluation ORDER BY id DESC LIMIT 1)
"""

_INSERT_POLICY: Final = """
    INSERT INTO policy (since, schedule, overrides) SELECT ?1, ?2, ?3
    WHERE (?2, ?3) IS NOT (SELECT schedule, overrides FROM policy ORDER BY id DESC LIMIT 1)
"""

_OPEN_ONES: Final = """
    SELECT occurrence.*, attempt.number, attempt.written_at, attempt.baseline, attempt.clock_offset,
        attempt.sent_at AS attempt_sent_at, attempt.ended_at, attempt.result, attempt.http_status,
        attempt.error AS attempt_error,
        first.number AS first_number, first.written_at AS first_written_at, first.baseline AS first_baseline,
        first.clock_offset AS first_clock_offset,
        EXISTS (SELECT 1 FROM attempt AS any
            WHERE any.occurrence_id = occurrence.id AND any.result = 'unknown') AS maybe_sent
    FROM occurrence
    LEFT JOIN attempt ON attempt.occurrence_id = occurrence.id AND attempt.number = occurrence.attempts
    LEFT JOIN attempt AS first ON first.occurrence_id = occurrence.id AND first.number =
        (SELECT min(number) FROM attempt AS any
            WHERE any.occurrence_id = occurrence.id AND coalesce(any.result, 'unknown') = 'unknown')
    WHERE occurrence.outcome IS NULL AND occurrence.target = ?1
"""
_SELECT_OPEN: Final = (
    f"{_OPEN_ONES} AND (?2 IS NULL OR occurrence.deadline < ?2) ORDER BY occurrence.due, occurrence.id"
)
_SELECT_OPEN_ONE: Final = f"{_OPEN_ONES} AND occurrence.automation_id = ?2 AND occurrence.scheduled_for = ?3"


def _read_open(connection: sqlite3.Connection, target: str, before: str | None) -> list[OpenOccurrence]:
    return _parse_open(connection.execute(_SELECT_OPEN, (target, before)))


def _read_open_one(connection: sqlite3.Connection, occurrence: Occurrence) -> OpenOccurrence:
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row  # the writer's connection returns plain tuples
    (reopened,) = _parse_open(cursor.execute(_SELECT_OPEN_ONE, to_identity(occurrence)))
    return reopened


def _parse_open(rows: sqlite3.Cursor) -> list[OpenOccurrence]:
    return parse_rows(
        OpenOccurrence,
        rows,
        occurrence=make_parser(Occurrence, rows),
        attempt=_parse_attempt,
        first_in_doubt=partial(_parse_attempt, prefix="first_"),
        end=_parse_end,
    )


def _parse_attempt(row: sqlite3.Row, prefix: str = "") -> Attempt | None:
    fields = ("number", "written_at", "baseline", "clock_offset")
    number, written_at, baseline, clock_offset = (row[prefix + field] for field in fields)
    return None if number is None else Attempt(number, from_text(written_at), baseline, clock_offset)


def _parse_end(row: sqlite3.Row) -> AttemptEnd | None:
    if row["result"] is None:
        return None
    return AttemptEnd(
        number=row["number"],
        result=AttemptResult(row["result"]),
        # nobody saw the end of the attempts of a dead process
        ended_at=from_text(row["ended_at"] or row["written_at"]),
        sent_at=from_optional_text(row["attempt_sent_at"]),
        http_status=row["http_status"],
        error=row["attempt_error"],
    )
