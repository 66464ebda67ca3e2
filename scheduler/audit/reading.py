"""What an audit takes from the ledger: plain functions of a connection for reading, see `scheduler.ledger.schema.open_for_reading`.

What grows with the number of occurrences is counted and added up by SQLite, for a stretch of time after the other.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, cast

from scheduler.audit.evaluation import Rules, Transition
from scheduler.audit.expectation import Span, Tally
from scheduler.audit.lineage import Recorded
from scheduler.core.cron import Gap as CronGap
from scheduler.core.cron import InvalidSchedule, Repeat, Schedule
from scheduler.core.instants import from_text, to_text, to_text_seconds
from scheduler.core.model import Definition, Gap
from scheduler.core.ranges import RULES_VERSION

Stretch = tuple[str, datetime, datetime]
"""A target, and a stretch of time after the one instant and up to the other."""

_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_MOST: Final = 1_000
"""Rows that are wrong of themselves, for each stretch: with more of them the first ones tell enough."""


def recorded(connection: sqlite3.Connection, target: str) -> list[Recorded]:
    """Every version of every definition of a target, in the order of recording."""
    return [_recorded(row) for row in connection.execute("SELECT * FROM definition WHERE target = ? ORDER BY id", (target,))]


def recorded_of(connection: sqlite3.Connection, target: str, automation_id: str) -> list[Recorded]:
    """The same of one automation."""
    select = "SELECT * FROM definition WHERE target = ? AND automation_id = ? ORDER BY id"
    return [_recorded(row) for row in connection.execute(select, (target, automation_id))]


def _recorded(row: sqlite3.Row) -> Recorded:
    definition = None
    if row["cron_expression"] is not None:
        definition = Definition(row["cron_expression"], row["timezone"], bool(row["enabled"]))
    return Recorded(
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


def rules(connection: sqlite3.Connection, evaluator: tuple[str, str]) -> list[Rules]:
    """What schedules were evaluated with, oldest first. At least one: with no record, the ``evaluator`` of now and the usual settings."""
    found = [
        Rules(from_text(since), croniter, tzdata, gap, repeat, rules_version)
        for since, croniter, tzdata, gap, repeat, rules_version in connection.execute(
            "SELECT since, croniter, tzdata, dst_gap, dst_repeat, rules_version FROM evaluation ORDER BY id"
        )
    ]
    return _in_order(found) or [Rules(_BEGINNING, *evaluator, "after", "once", RULES_VERSION)]


_DECIDED_BEFORE: Final = """
    SELECT scheduled_for FROM occurrence WHERE target = ?1 AND scheduled_for <= ?2 AND coalesce(claimed_at, finished_at) < ?3
    ORDER BY scheduled_for DESC LIMIT 1
"""


def transitions(connection: sqlite3.Connection, target: str, rules: Sequence[Rules]) -> list[Transition]:
    """For each change of what decides beside the versions: from the last occurrence that was decided before it, up to the change.

    What lies between these two was decided before the change, or by the new rules after it: the ledger does not tell.
    """
    found = []
    for before, after in pairwise(rules):
        if before.settings != after.settings:
            bounds = target, to_text_seconds(after.since), to_text(after.since)
            row = connection.execute(_DECIDED_BEFORE, bounds).fetchone()
            found.append((_BEGINNING if row is None else from_text(row["scheduled_for"]), after.since))
    return found


def _in_order(found: list[Rules]) -> list[Rules]:
    """Without those that a clock that went back has put before an earlier one: the later record counts."""
    kept: list[Rules] = []
    for each in found:
        while kept and kept[-1].since >= each.since:
            kept.pop()
        kept.append(each)
    return kept


def pruned_before(connection: sqlite3.Connection) -> datetime | None:
    """What was scheduled before this may have been removed because of its age."""
    row = connection.execute("SELECT before FROM pruned").fetchone()
    return None if row is None else from_text(row["before"])


# ---------------------------------------------------------------- what has a row


def weigh(connection: sqlite3.Connection, weights: Mapping[str, int]) -> None:
    """Tell the connection what each automation weighs, for `counted`."""
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS weight (automation_id TEXT PRIMARY KEY, weight INTEGER NOT NULL) WITHOUT ROWID")
    connection.execute("DELETE FROM temp.weight")
    connection.executemany("INSERT INTO temp.weight VALUES (?, ?)", weights.items())


_COUNTED: Final = """
    SELECT scheduled_for, count(*), coalesce(sum(weight), 0) FROM occurrence LEFT JOIN temp.weight USING (automation_id)
    WHERE scheduled_for > ?2 AND scheduled_for <= ?3 AND target = ?1 AND (weight IS NOT NULL OR ?4)
        AND (?5 IS NULL OR automation_id < ?5)
    GROUP BY scheduled_for
"""


def counted(connection: sqlite3.Connection, stretch: Stretch, *, all_of_them: bool, before: str | None = None) -> dict[datetime, Tally]:
    """For each instant how many rows there are that begin at it, and what their automations weigh. A span is one row, at its first.

    Rows of automations that were not weighed count and weigh nothing, with ``all_of_them``; else they are left out. ``before``: only of
    automations whose id comes before this one.
    """
    rows = connection.execute(_COUNTED, (*_bounds(stretch), all_of_them, before))
    return {from_text(instant): (count, weight) for instant, count, weight in rows}


def fates(connection: sqlite3.Connection, target: str, instant: datetime) -> dict[str, str]:
    """By automation, what became of what has a row that begins at this instant."""
    select = f"SELECT automation_id, {_FATE} AS fate FROM occurrence WHERE scheduled_for = ? AND target = ?"  # noqa: S608 -- a literal
    return {row["automation_id"]: row["fate"] for row in connection.execute(select, (to_text_seconds(instant), target))}


def find_sending(connection: sqlite3.Connection, target: str, automation_id: str, instant: datetime) -> datetime | None:
    """Find when the first attempt of an occurrence was sent, on the API's clock; None without an attempt, or when that clock is unknown."""
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


def spans(connection: sqlite3.Connection, stretch: Stretch) -> list[Span]:
    """Those of which any part lies in the stretch."""
    return [
        Span(automation_id, from_text(first), from_text(last), count, outcome, reason, _intervals(intervals), _schedule(*by))
        for automation_id, first, last, count, outcome, reason, intervals, *by in connection.execute(_SPANS, _bounds(stretch))
    ]


def _schedule(
    expression: str | None, timezone: str | None, gap: str | None, repeat: str | None, rules_version: int | None
) -> Schedule | None:
    """What a span names in place of its instants; None when it names nothing, or the zone data lack its zone by now."""
    if expression is None:
        return None
    rules = cast("CronGap", gap or "after"), cast("Repeat", repeat or "once")
    try:
        return Schedule.parse(expression, timezone, dst_gap=rules[0], dst_repeat=rules[1], rules_version=rules_version or RULES_VERSION)
    except InvalidSchedule:
        return None


def gaps(connection: sqlite3.Connection, target: str) -> list[Gap]:
    """What lies below the watermark and is not decided yet."""
    return [
        Gap(from_text(since), from_text(until), automation_id)
        for since, until, automation_id in connection.execute(
            "SELECT since, until, automation_id FROM gap WHERE target = ? ORDER BY since", (target,)
        )
    ]


def _intervals(text: str | None) -> tuple[tuple[int, int], ...] | None:
    return None if text is None else tuple((seconds, times) for seconds, times in json.loads(text))


# ---------------------------------------------------------------- what is wrong of itself

_WRONG: Final = """
    CASE outcome
        WHEN 'accepted' THEN NOT EXISTS (
            SELECT 1 FROM run
            WHERE run.occurrence_id = occurrence.id AND run.run_id = occurrence.task_run_id AND run.target = occurrence.target
        )
        WHEN 'unresolved' THEN 1
        ELSE EXISTS (SELECT 1 FROM run WHERE run.occurrence_id = occurrence.id)
    END OR (attempts > 1 AND (SELECT count(*) FROM attempt WHERE occurrence_id = occurrence.id AND result = 'answered') > 1)
"""

_OUTCOMES: Final = f"""
    SELECT outcome, reason, count(*) AS number, sum({_WRONG}) AS wrong FROM occurrence
    WHERE scheduled_for > ?2 AND scheduled_for <= ?3 AND target = ?1 AND count = 1
        AND (?4 OR automation_id IN (SELECT automation_id FROM temp.weight))
    GROUP BY outcome, reason
"""  # noqa: S608 -- literals of this module


@dataclass(frozen=True, slots=True)
class Count:
    """How many occurrences, spans aside, came to this (None: they are open), and how many of them are wrong of themselves."""

    outcome: str | None
    reason: str | None
    number: int
    wrong: int


def outcomes(connection: sqlite3.Connection, stretch: Stretch, *, all_of_them: bool) -> list[Count]:
    """What became of the occurrences with a row of their own, by outcome and reason."""
    return [Count(*row) for row in connection.execute(_OUTCOMES, (*_bounds(stretch), all_of_them))]


@dataclass(frozen=True, slots=True)
class Wrong:
    """An occurrence of which the record contradicts itself, or does not say what became of it."""

    automation_id: str
    name: str
    scheduled_for: datetime
    outcome: str | None
    reason: str | None
    error: str | None
    run_id: str | None  # that it says it started
    run_of: str | None  # whose run that is: the instant of the occurrence it is recorded for
    linked: str | None  # the run that is recorded as its own
    answered: int  # how many of its attempts were answered with a run


_SELECT_WRONG: Final = f"""
    SELECT automation_id, name, scheduled_for, outcome, reason, error, task_run_id,
        (SELECT other.scheduled_for FROM run JOIN occurrence AS other ON other.id = run.occurrence_id
         WHERE run.target = occurrence.target AND run.run_id = occurrence.task_run_id),
        (SELECT run_id FROM run WHERE run.occurrence_id = occurrence.id),
        (SELECT count(*) FROM attempt WHERE occurrence_id = occurrence.id AND result = 'answered')
    FROM occurrence
    WHERE scheduled_for > ?2 AND scheduled_for <= ?3 AND target = ?1 AND ({_WRONG})
        AND (?4 OR automation_id IN (SELECT automation_id FROM temp.weight))
    ORDER BY scheduled_for, automation_id LIMIT ?5
"""  # noqa: S608 -- literals of this module


def wrong(connection: sqlite3.Connection, stretch: Stretch, *, all_of_them: bool) -> Iterator[Wrong]:
    """The occurrences that `outcomes` counted as wrong."""
    for row in connection.execute(_SELECT_WRONG, (*_bounds(stretch), all_of_them, _MOST)):
        automation_id, name, scheduled_for, *rest = row
        yield Wrong(automation_id, name, from_text(scheduled_for), *rest)


@dataclass(frozen=True, slots=True)
class Open:
    """An occurrence without an outcome."""

    automation_id: str
    name: str
    scheduled_for: datetime
    due: datetime
    deadline: datetime
    state: str
    tried_at: datetime | None  # the end of its newest attempt, or when that was written


_OPEN: Final = """
    SELECT automation_id, name, scheduled_for, due, deadline, state,
        (SELECT max(coalesce(ended_at, written_at)) FROM attempt WHERE occurrence_id = occurrence.id) AS tried_at
    FROM occurrence WHERE outcome IS NULL AND target = ?1 AND scheduled_for > ?2 AND scheduled_for <= ?3 ORDER BY due
"""


def still_open(connection: sqlite3.Connection, stretch: Stretch) -> list[Open]:
    """In the order of due."""
    return [
        Open(
            row["automation_id"],
            row["name"],
            from_text(row["scheduled_for"]),
            from_text(row["due"]),
            from_text(row["deadline"]),
            row["state"],
            None if row["tried_at"] is None else from_text(row["tried_at"]),
        )
        for row in connection.execute(_OPEN, _bounds(stretch))
    ]


@dataclass(frozen=True, slots=True)
class Doubled:
    """A run that nobody here is on record for, and that is most likely a late one of this occurrence."""

    automation_id: str
    scheduled_for: datetime
    run_id: str
    started_at: str | None


_DOUBLED: Final = """
    SELECT automation_id, doubles, run_id, started_at FROM run
    WHERE doubles IS NOT NULL AND target = ?1 AND doubles > ?2 AND doubles <= ?3 ORDER BY doubles
"""


def doubled(connection: sqlite3.Connection, stretch: Stretch) -> list[Doubled]:
    """By the instant of the occurrence."""
    return [Doubled(of, from_text(instant), run_id, began) for of, instant, run_id, began in connection.execute(_DOUBLED, _bounds(stretch))]


def known_runs(connection: sqlite3.Connection, target: str, runs: Iterable[str]) -> set[str]:
    """Those of these runs that are on record, whoever started them, or nobody can tell yet; or that a request by hand was answered with."""
    return {run_id for run_id in runs if connection.execute(_KNOWN, (target, run_id)).fetchone() is not None}


_KNOWN: Final = """
    SELECT 1 FROM run WHERE target = ?1 AND run_id = ?2 UNION ALL SELECT 1 FROM manual_run WHERE target = ?1 AND run_id = ?2
    UNION ALL SELECT 1 FROM unattributed_run WHERE target = ?1 AND run_id = ?2
"""


def _bounds(stretch: Stretch) -> tuple[str, str, str]:
    """Target and bounds as they stand in the tables: what is scheduled has no fraction of a second, so these are cut off."""
    target, begin, end = stretch
    return target, to_text_seconds(begin), to_text_seconds(end)
