"""The queries of an audit: plain functions of a connection for reading.

See `scheduler.ledger.schema.open_for_reading`. SQLite counts and adds up all data that grow with the number
of occurrences, stretch of time by stretch of time.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, cast

from scheduler.audit.evaluation import EvaluationRules, Transition
from scheduler.audit.expectation import OccurrenceSpan, Tally
from scheduler.audit.versions import RecordedVersion
from scheduler.core.cron.ranges import RULES_VERSION
from scheduler.core.cron.schedule import GapPolicy as CronGap
from scheduler.core.cron.schedule import InvalidSchedule, RepeatPolicy, Schedule
from scheduler.core.instants import from_text, to_text, to_text_seconds
from scheduler.core.model import Definition, Gap

TargetStretch = tuple[str, datetime, datetime]
"""A target, and a stretch of time: exclusive begin, inclusive end."""

_BEGINNING_OF_TIME: Final = datetime.min.replace(tzinfo=UTC)
_MAX_ROWS: Final = 1_000
"""Maximum number of inconsistent rows for each stretch: more rows add no information."""


def read_versions(connection: sqlite3.Connection, target: str) -> list[RecordedVersion]:
    """Read every definition version of a target, in the order of recording."""
    return [
        _make_version(row)
        for row in connection.execute("SELECT * FROM definition WHERE target = ? ORDER BY id", (target,))
    ]


def read_automation_versions(
    connection: sqlite3.Connection, target: str, automation_id: str
) -> list[RecordedVersion]:
    """Read every definition version of one automation, in the order of recording."""
    select = "SELECT * FROM definition WHERE target = ? AND automation_id = ? ORDER BY id"
    return [_make_version(row) for row in connection.execute(select, (target, automation_id))]


def _make_version(row: sqlite3.Row) -> RecordedVersion:
    definition = None
    if row["cron_expression"] is not None:
        definition = Definition(row["cron_expression"], row["timezone"], bool(row["enabled"]))
    return RecordedVersion(
        row["automation_id"],
        row["name"],
        definition,
        from_text(row["effective_from"]),
        from_text(row["observed_at"]),
        row["invalid"],
        bool(row["removed"]),
        row["croniter"],
        row["tzdata"],
    )


def read_rules(connection: sqlite3.Connection, evaluator: tuple[str, str]) -> list[EvaluationRules]:
    """Read the recorded evaluation rules, oldest first.

    The list is never empty: without a record, return the present ``evaluator`` and the default settings.
    """
    found = [
        EvaluationRules(from_text(since), croniter, tzdata, gap, repeat, rules_version)
        for since, croniter, tzdata, gap, repeat, rules_version in connection.execute(
            "SELECT since, croniter, tzdata, dst_gap, dst_repeat, rules_version FROM evaluation ORDER BY id"
        )
    ]
    return _drop_superseded_rules(found) or [
        EvaluationRules(_BEGINNING_OF_TIME, *evaluator, "after", "once", RULES_VERSION)
    ]


_DECIDED_BEFORE: Final = """
    SELECT scheduled_for FROM occurrence WHERE target = ?1 AND scheduled_for <= ?2 AND coalesce(claimed_at, finished_at) < ?3
    ORDER BY scheduled_for DESC LIMIT 1
"""


def read_transitions(
    connection: sqlite3.Connection, target: str, rules: Sequence[EvaluationRules]
) -> list[Transition]:
    """Read a transition for each change of the settings that decide beside the versions.

    A transition reaches from the last occurrence decided before the change up to the change. Occurrences in
    between were decided before the change, or after the change by the new rules: the ledger does not record
    which.
    """
    found = []
    for before, after in pairwise(rules):
        if before.settings != after.settings:
            bounds = target, to_text_seconds(after.since), to_text(after.since)
            row = connection.execute(_DECIDED_BEFORE, bounds).fetchone()
            found.append(
                (_BEGINNING_OF_TIME if row is None else from_text(row["scheduled_for"]), after.since)
            )
    return found


def _drop_superseded_rules(found: list[EvaluationRules]) -> list[EvaluationRules]:
    """Drop the rules that a clock step backwards placed before earlier records: the later record counts."""
    kept: list[EvaluationRules] = []
    for each in found:
        while kept and kept[-1].since >= each.since:
            kept.pop()
        kept.append(each)
    return kept


def read_prune_limit(connection: sqlite3.Connection) -> datetime | None:
    """Read the prune limit: occurrences scheduled before may have been removed because of their age."""
    row = connection.execute("SELECT before FROM pruned").fetchone()
    return None if row is None else from_text(row["before"])


# ---------------------------------------------------------------- rows of occurrences


def store_weights(connection: sqlite3.Connection, weights: Mapping[str, int]) -> None:
    """Store the weight of each automation in the connection, for `count_rows`."""
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS weight (automation_id TEXT PRIMARY KEY, weight INTEGER NOT NULL) WITHOUT ROWID"
    )
    connection.execute("DELETE FROM temp.weight")
    connection.executemany("INSERT INTO temp.weight VALUES (?, ?)", weights.items())


_COUNT_ROWS: Final = """
    SELECT scheduled_for, count(*), coalesce(sum(weight), 0) FROM occurrence LEFT JOIN temp.weight USING (automation_id)
    WHERE scheduled_for > ?2 AND scheduled_for <= ?3 AND target = ?1 AND (weight IS NOT NULL OR ?4)
        AND (?5 IS NULL OR automation_id < ?5)
    GROUP BY scheduled_for
"""


def count_rows(
    connection: sqlite3.Connection, stretch: TargetStretch, *, all_of_them: bool, before: str | None = None
) -> dict[datetime, Tally]:
    """Count the rows that begin at each instant, and add up the weights of their automations.

    A span is one row, at its first instant. With ``all_of_them``, rows of automations without a weight count
    and weigh nothing; otherwise such rows are left out. With ``before``, only automations with an id before
    this id are counted.
    """
    rows = connection.execute(_COUNT_ROWS, (*_format_bounds(stretch), all_of_them, before))
    return {from_text(instant): (count, weight) for instant, count, weight in rows}


def read_fates(connection: sqlite3.Connection, target: str, instant: datetime) -> dict[str, str]:
    """Read the fate of each row that begins at this instant, by automation."""
    select = f"SELECT automation_id, {_FATE} AS fate FROM occurrence WHERE scheduled_for = ? AND target = ?"  # noqa: S608 -- a literal
    return {
        row["automation_id"]: row["fate"]
        for row in connection.execute(select, (to_text_seconds(instant), target))
    }


def find_sending(
    connection: sqlite3.Connection, target: str, automation_id: str, instant: datetime
) -> datetime | None:
    """Find the instant when the first attempt of an occurrence was sent, on the API's clock.

    Return None without an attempt, or when the offset of the API's clock is unknown.
    """
    row = connection.execute(_FIRST_ATTEMPT, (target, automation_id, to_text_seconds(instant))).fetchone()
    if row is None or row["clock_offset"] is None:
        return None
    return from_text(row["written_at"]) + timedelta(seconds=row["clock_offset"])


_FIRST_ATTEMPT: Final = """
    SELECT written_at, clock_offset FROM occurrence JOIN attempt ON occurrence_id = occurrence.id
    WHERE target = ? AND occurrence.automation_id = ? AND scheduled_for = ? ORDER BY number LIMIT 1
"""

_FATE: Final = "coalesce(outcome || ': ' || reason, 'open: ' || state)"

_SPANS: Final = """
    SELECT occurrence.automation_id, scheduled_for, last, count, outcome, reason, intervals,
        cron_expression, timezone, dst_gap, dst_repeat, rules_version
    FROM occurrence INDEXED BY occurrence_span_ends
    LEFT JOIN definition ON definition.id = definition_id LEFT JOIN evaluation ON evaluation.id = evaluation_id
    WHERE count > 1 AND occurrence.target = ?1 AND last > ?2 AND scheduled_for <= ?3 ORDER BY scheduled_for, occurrence.automation_id
"""


def read_spans(connection: sqlite3.Connection, stretch: TargetStretch) -> list[OccurrenceSpan]:
    """Read the spans of which any part lies in the stretch."""
    return [
        OccurrenceSpan(
            automation_id,
            from_text(first),
            from_text(last),
            count,
            outcome,
            reason,
            _parse_intervals(intervals),
            _parse_schedule(*by),
        )
        for automation_id, first, last, count, outcome, reason, intervals, *by in connection.execute(
            _SPANS, _format_bounds(stretch)
        )
    ]


def _parse_schedule(
    expression: str | None,
    timezone: str | None,
    gap: str | None,
    repeat: str | None,
    rules_version: int | None,
) -> Schedule | None:
    """Parse the schedule named by a span.

    Return None when the span names no schedule, or the present zone data lack the zone.
    """
    if expression is None:
        return None
    rules = cast("CronGap", gap or "after"), cast("RepeatPolicy", repeat or "once")
    try:
        return Schedule.parse(
            expression,
            timezone,
            dst_gap=rules[0],
            dst_repeat=rules[1],
            rules_version=rules_version or RULES_VERSION,
        )
    except InvalidSchedule:
        return None


def read_gaps(connection: sqlite3.Connection, target: str) -> list[Gap]:
    """Read the gaps: stretches below the watermark that are not decided yet."""
    return [
        Gap(from_text(since), from_text(until), automation_id)
        for since, until, automation_id in connection.execute(
            "SELECT since, until, automation_id FROM gap WHERE target = ? ORDER BY since", (target,)
        )
    ]


def _parse_intervals(text: str | None) -> tuple[tuple[int, int], ...] | None:
    return None if text is None else tuple((seconds, times) for seconds, times in json.loads(text))


# ---------------------------------------------------------------- inconsistent rows

_IS_INCONSISTENT: Final = """
    CASE outcome
        WHEN 'accepted' THEN NOT EXISTS (
            SELECT 1 FROM run
            WHERE run.occurrence_id = occurrence.id AND run.run_id = occurrence.task_run_id AND run.target = occurrence.target
        )
        WHEN 'unresolved' THEN 1
        ELSE EXISTS (SELECT 1 FROM run WHERE run.occurrence_id = occurrence.id)
    END OR (attempts > 1 AND (SELECT count(*) FROM attempt WHERE occurrence_id = occurrence.id AND result = 'answered') > 1)
"""

_COUNT_OUTCOMES: Final = f"""
    SELECT outcome, reason, count(*) AS number, sum({_IS_INCONSISTENT}) AS wrong FROM occurrence
    WHERE scheduled_for > ?2 AND scheduled_for <= ?3 AND target = ?1 AND count = 1
        AND (?4 OR automation_id IN (SELECT automation_id FROM temp.weight))
    GROUP BY outcome, reason
"""  # noqa: S608 -- literals of this module


@dataclass(frozen=True, slots=True)
class OutcomeCount:
    """The number of occurrences, without spans, with an outcome, and the number of inconsistent rows.

    ``outcome`` None: the occurrences are open.
    """

    outcome: str | None
    reason: str | None
    number: int
    inconsistent: int


def count_outcomes(
    connection: sqlite3.Connection, stretch: TargetStretch, *, all_of_them: bool
) -> list[OutcomeCount]:
    """Count the occurrences with their own row, by outcome and reason."""
    return [
        OutcomeCount(*row)
        for row in connection.execute(_COUNT_OUTCOMES, (*_format_bounds(stretch), all_of_them))
    ]


@dataclass(frozen=True, slots=True)
class InconsistentRow:
    """An occurrence whose record contradicts itself, or whose outcome could not be found."""

    automation_id: str
    name: str
    scheduled_for: datetime
    outcome: str | None
    reason: str | None
    error: str | None
    run_id: str | None  # the run named by the row of the occurrence
    run_recorded_for: str | None  # the instant of the occurrence for which this run is recorded
    linked_run_id: str | None  # the run recorded for this occurrence
    answered_attempts: int  # the number of attempts answered with a run


_SELECT_INCONSISTENT: Final = f"""
    SELECT automation_id, name, scheduled_for, outcome, reason, error, task_run_id,
        (SELECT other.scheduled_for FROM run JOIN occurrence AS other ON other.id = run.occurrence_id
         WHERE run.target = occurrence.target AND run.run_id = occurrence.task_run_id),
        (SELECT run_id FROM run WHERE run.occurrence_id = occurrence.id),
        (SELECT count(*) FROM attempt WHERE occurrence_id = occurrence.id AND result = 'answered')
    FROM occurrence
    WHERE scheduled_for > ?2 AND scheduled_for <= ?3 AND target = ?1 AND ({_IS_INCONSISTENT})
        AND (?4 OR automation_id IN (SELECT automation_id FROM temp.weight))
    ORDER BY scheduled_for, automation_id LIMIT ?5
"""  # noqa: S608 -- literals of this module


def find_inconsistent_rows(
    connection: sqlite3.Connection, stretch: TargetStretch, *, all_of_them: bool
) -> Iterator[InconsistentRow]:
    """Find the occurrences counted as inconsistent by `count_outcomes`."""
    for row in connection.execute(_SELECT_INCONSISTENT, (*_format_bounds(stretch), all_of_them, _MAX_ROWS)):
        automation_id, name, scheduled_for, *rest = row
        yield InconsistentRow(automation_id, name, from_text(scheduled_for), *rest)


@dataclass(frozen=True, slots=True)
class OpenRow:
    """An occurrence without an outcome."""

    automation_id: str
    name: str
    scheduled_for: datetime
    due: datetime
    deadline: datetime
    state: str
    tried_at: datetime | None  # the end of the newest attempt, or the instant when the attempt was written


_SELECT_OPEN: Final = """
    SELECT automation_id, name, scheduled_for, due, deadline, state,
        (SELECT max(coalesce(ended_at, written_at)) FROM attempt WHERE occurrence_id = occurrence.id) AS tried_at
    FROM occurrence WHERE outcome IS NULL AND target = ?1 AND scheduled_for > ?2 AND scheduled_for <= ?3 ORDER BY due
"""


def find_open_rows(connection: sqlite3.Connection, stretch: TargetStretch) -> list[OpenRow]:
    """Find the open occurrences, in the order of due."""
    return [
        OpenRow(
            row["automation_id"],
            row["name"],
            from_text(row["scheduled_for"]),
            from_text(row["due"]),
            from_text(row["deadline"]),
            row["state"],
            None if row["tried_at"] is None else from_text(row["tried_at"]),
        )
        for row in connection.execute(_SELECT_OPEN, _format_bounds(stretch))
    ]


@dataclass(frozen=True, slots=True)
class LateDouble:
    """A foreign run that is most likely a late run of this occurrence."""

    automation_id: str
    scheduled_for: datetime
    run_id: str
    started_at: str | None


_SELECT_DOUBLES: Final = """
    SELECT automation_id, doubles, run_id, started_at FROM run
    WHERE doubles IS NOT NULL AND target = ?1 AND doubles > ?2 AND doubles <= ?3 ORDER BY doubles
"""


def find_late_doubles(connection: sqlite3.Connection, stretch: TargetStretch) -> list[LateDouble]:
    """Find the late doubles, in the order of the instants of their occurrences."""
    return [
        LateDouble(of, from_text(instant), run_id, began)
        for of, instant, run_id, began in connection.execute(_SELECT_DOUBLES, _format_bounds(stretch))
    ]


def find_known_runs(connection: sqlite3.Connection, target: str, runs: Iterable[str]) -> set[str]:
    """Find the runs on record, also foreign runs and runs not yet attributed.

    The answer to a manual request is on record too.
    """
    return {
        run_id
        for run_id in runs
        if connection.execute(_SELECT_KNOWN_RUN, (target, run_id)).fetchone() is not None
    }


_SELECT_KNOWN_RUN: Final = """
    SELECT 1 FROM run WHERE target = ?1 AND run_id = ?2 UNION ALL SELECT 1 FROM manual_run WHERE target = ?1 AND run_id = ?2
    UNION ALL SELECT 1 FROM unattributed_run WHERE target = ?1 AND run_id = ?2
"""


def _format_bounds(stretch: TargetStretch) -> tuple[str, str, str]:
    """Format the target and the bounds as in the tables.

    Fractions of seconds are cut off, because scheduled instants have none.
    """
    target, begin, end = stretch
    return target, to_text_seconds(begin), to_text_seconds(end)
