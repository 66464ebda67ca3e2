"""Make rows for occurrences: for claims, and for skipped occurrences.

An occurrence belongs to the process that inserts its row first. Nothing else decides this.

One row may stand for several skipped occurrences of an automation: a span, with ``count > 1``. Its instants
are listed in the row (``intervals``), or are all fire times of a schedule between its bounds. To divide a
span is to replace the span by shorter spans around an instant.
"""

import json
import sqlite3
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain, groupby, pairwise
from operator import attrgetter, itemgetter
from typing import Final, NamedTuple, TypeVar

from scheduler.core.instants import JUST_BEFORE, from_text
from scheduler.core.model import Claim, ClaimPlan, Gap, Occurrence, Outcome, Skip, SkippedSpan
from scheduler.ledger.attempts import ATTEMPT, make_attempt_row
from scheduler.ledger.occurrence_records import find_newest_id
from scheduler.ledger.spans import (
    SpanPart,
    SpanRow,
    divide_span,
    divide_spans,
    make_listed_part,
    make_parts,
    read_spans_around,
)
from scheduler.ledger.sql_batch import (
    Contradiction,
    Value,
    make_statement,
    pack_rows,
    read_json,
    to_identity,
    to_text,
    to_text_seconds,
)

# True when no span covers the instant. The spans of an automation never overlap: only the first span that
# ends at the instant or later can cover the instant. '~' is later than each instant, and stands for no span.
_OUTSIDE_SPANS: Final = """
    given.scheduled_for < coalesce((
        SELECT span.scheduled_for FROM occurrence AS span
        WHERE span.count > 1 AND span.target = ?2 AND span.automation_id = given.automation_id
            AND span.last >= given.scheduled_for
        ORDER BY span.last LIMIT 1
    ), '~')
"""
# To pack a value takes time: a value that all rows share is passed once, as a parameter of its own.
_INSERT_CLAIMS: Final = make_statement(
    "automation_id, scheduled_for, name, due, deadline, claimed_at, attempts",
    f"""
    INSERT INTO occurrence (target, node, automation_id, scheduled_for, last, name, due, deadline, claimed_at,
        attempts, state)
    SELECT ?2, ?3, automation_id, scheduled_for, scheduled_for, name, due, deadline, claimed_at, attempts,
        iif(attempts, 'claimed', 'waiting')
    FROM {{given}} WHERE {_OUTSIDE_SPANS} ON CONFLICT DO NOTHING
    """,  # noqa: S608 -- literals of this module
)

_INSERT_FIRST_ATTEMPTS: Final = make_statement(
    ATTEMPT,
    """
    INSERT INTO attempt (occurrence_id, number, written_at, baseline, clock_offset)
    SELECT occurrence.id, given.number, given.written_at, given.baseline, given.clock_offset
    FROM {given} CROSS JOIN occurrence USING (scheduled_for, automation_id)
    WHERE occurrence.target = ?2 AND occurrence.id > ?3
    """,
)

_SELECT_OURS: Final = (
    "SELECT json_group_array(json_array(automation_id, scheduled_for)) FROM occurrence WHERE id > ?"
)

_INSERT_SKIPS: Final = make_statement(
    "automation_id, scheduled_for, last, count, intervals, name, due, outcome, reason, finished_at, error, "
    "expression, timezone, gap, repeat, rules",
    """
    INSERT INTO occurrence (target, node, automation_id, scheduled_for, last, count, intervals, name, due,
        outcome, reason, finished_at, error, definition_id, evaluation_id)
    SELECT ?2, ?3, automation_id, scheduled_for, last, count, intervals, name, due, outcome, reason,
        finished_at, error,
        (SELECT max(id) FROM definition
            WHERE definition.target = ?2 AND definition.automation_id = given.automation_id
            AND cron_expression = expression AND definition.timezone = given.timezone),
        (SELECT max(id) FROM evaluation
            WHERE dst_gap = given.gap AND dst_repeat = given.repeat AND rules_version = given.rules)
    FROM {given} WHERE true ON CONFLICT DO NOTHING
    """,
)

_SPANS_BETWEEN: Final = """
    SELECT automation_id, scheduled_for, last FROM occurrence
    WHERE count > 1 AND target = ?2 AND automation_id IN (SELECT value FROM json_each(?1)) AND last >= ?3
        AND scheduled_for <= ?4
"""
_SELECT_BETWEEN: Final = f"""
    SELECT json_group_array(json_array(automation_id, scheduled_for, last)) FROM (
        SELECT automation_id, scheduled_for, last FROM occurrence
        WHERE scheduled_for BETWEEN ?3 AND ?4 AND target = ?2
            AND automation_id IN (SELECT value FROM json_each(?1))
        UNION {_SPANS_BETWEEN}
    )
"""  # noqa: S608 -- literals of this module
# The same rows as _SELECT_BETWEEN, read instant by instant, and at each instant only the automations from ?5
# to ?6. Where other targets have many rows, most of these rows are not read. "+" keeps SQLite from the use of
# another index.
_SELECT_AMONG_MANY: Final = f"""
    WITH RECURSIVE at (instant) AS (
        SELECT min(scheduled_for) FROM occurrence WHERE scheduled_for >= ?3
        UNION ALL
        SELECT (SELECT min(scheduled_for) FROM occurrence WHERE scheduled_for > at.instant) FROM at
        WHERE at.instant < ?4
    )
    SELECT json_group_array(json_array(automation_id, scheduled_for, last)) FROM (
        SELECT automation_id, scheduled_for, last FROM at CROSS JOIN occurrence ON scheduled_for = at.instant
        WHERE at.instant <= ?4 AND automation_id BETWEEN ?5 AND ?6 AND +target = ?2
            AND +automation_id IN (SELECT value FROM json_each(?1))
        UNION {_SPANS_BETWEEN}
    )
"""  # noqa: S608 -- literals of this module
_SELECT_AT: Final = make_statement(
    "automation_id, scheduled_for",
    f"""
    SELECT json_group_array(json_array(automation_id, scheduled_for, last)) FROM (
        SELECT own.automation_id, own.scheduled_for, own.last
        FROM {{given}} CROSS JOIN occurrence AS own USING (scheduled_for, automation_id) WHERE own.target = ?2
        UNION {_SPANS_BETWEEN.replace("?1", "?5")}
    )
    """,  # noqa: S608 -- literals of this module
)
_ARE_MANY: Final = "SELECT 1 FROM occurrence WHERE scheduled_for BETWEEN ? AND ? LIMIT 1 OFFSET ?"
_MANY_ROWS: Final = 20_000
"""Up to this number of rows, a query takes only some milliseconds."""
_ROWS_FOR_A_CHANGE: Final = 200
"""To make one row costs as much as to read this number of rows."""

_MINUTE: Final = timedelta(minutes=1)
"""The shortest time between two occurrences of an automation."""

_Skipped = TypeVar("_Skipped", Skip, SkippedSpan)


class _Interval(NamedTuple):
    """Last and first scheduled instant of a row, in this order: rows are searched by the last instant."""

    last: str
    first: str


# A gap holds for its automation and for the automations with a higher id: the others are decided (`Gap`). The
# bounds of a gap have microseconds, and scheduled instants have none: whole seconds are compared.
_SELECT_MISSING: Final = make_statement(
    "automation_id, scheduled_for",
    f"""
    SELECT json_group_array(json_array(automation_id, scheduled_for)) FROM {{given}} WHERE NOT EXISTS (
        SELECT 1 FROM occurrence AS own
        WHERE own.scheduled_for = given.scheduled_for AND own.automation_id = given.automation_id
            AND own.target = ?2
    ) AND {_OUTSIDE_SPANS} AND NOT EXISTS (
        SELECT 1 FROM gap
        WHERE gap.target = ?2 AND gap.automation_id <= given.automation_id
            AND substr(gap.since, 1, 19) < substr(given.scheduled_for, 1, 19)
            AND substr(gap.until, 1, 19) >= substr(given.scheduled_for, 1, 19)
    )
    """,  # noqa: S608 -- literals of this module
)


def claim(connection: sqlite3.Connection, target: str, plan: ClaimPlan, node: str) -> dict[Occurrence, int]:
    """Insert the missing rows of the plan, replace the gaps, and set the watermark.

    Return the inserted rows by their first occurrence, with the number of occurrences in each row.
    """
    made = dict.fromkeys(_claim_occurrences(connection, target, plan.claims, node), 1) if plan.claims else {}
    if plan.skips:
        made |= _insert_skips(connection, target, plan.skips, node)
    if plan.spans:
        made |= _insert_spans(connection, target, plan.spans, node)
    _replace_gaps(connection, target, plan.gaps)
    moved = connection.execute(
        "UPDATE target SET watermark = ? WHERE name = ?", (to_text(plan.watermark), target)
    )
    if moved.rowcount != 1:
        raise Contradiction(f"the target {target!r} has no row in the ledger")
    return made


def _replace_gaps(connection: sqlite3.Connection, target: str, gaps: Sequence[Gap]) -> None:
    connection.execute("DELETE FROM gap WHERE target = ?", (target,))
    rows = [(target, to_text(gap.since), to_text(gap.until), gap.automation_id) for gap in gaps]
    connection.executemany("INSERT INTO gap (target, since, until, automation_id) VALUES (?, ?, ?, ?)", rows)


def _claim_occurrences(
    connection: sqlite3.Connection, target: str, claims: Sequence[Claim], node: str
) -> set[Occurrence]:
    """Insert the claims without a row. Return the inserted occurrences.

    A span can cover an instant at which its schedule does not fire. Such a span is divided, and the claim of
    the instant is inserted once more.
    """
    made = _insert_claims(connection, target, claims, node)
    refused = [planned for planned in claims if planned.occurrence not in made]
    wanted = _group_by_automation(
        (planned.occurrence, [planned.occurrence.scheduled_for]) for planned in refused
    )
    if divide_spans(connection, target, wanted):
        made |= _insert_claims(connection, target, refused, node)
    return made


def _group_by_automation(
    wanted: Iterable[tuple[Occurrence, Sequence[datetime]]],
) -> Mapping[str, Sequence[datetime]]:
    instants: defaultdict[str, list[datetime]] = defaultdict(list)
    for occurrence, listed in wanted:
        instants[occurrence.automation_id].extend(listed)
    return instants


def _insert_claims(
    connection: sqlite3.Connection, target: str, claims: Sequence[Claim], node: str
) -> set[Occurrence]:
    """Insert the claims without a row, with their first attempts. Return the inserted occurrences.

    These are the rows with an id above the highest id before: the transaction excludes other writers.
    """
    before = find_newest_id(connection)
    rows = pack_rows([_make_claim_row(planned) for planned in claims])
    connection.execute(_INSERT_CLAIMS, (rows, target, node))
    first_attempts = [
        make_attempt_row(planned.occurrence, planned.attempt)
        for planned in claims
        if planned.attempt is not None
    ]
    connection.execute(_INSERT_FIRST_ATTEMPTS, (pack_rows(first_attempts), target, before))
    ours = {tuple(identity) for identity in read_json(connection.execute(_SELECT_OURS, (before,)))}
    return {planned.occurrence for planned in claims if to_identity(planned.occurrence)[1:] in ours}


def _make_claim_row(claim: Claim) -> tuple[Value, ...]:
    attempts = 0 if claim.attempt is None else claim.attempt.number
    instants = claim.due, claim.deadline, claim.claimed_at
    return (*to_identity(claim.occurrence)[1:], claim.name, *instants, attempts)


def find_missing(
    connection: sqlite3.Connection, target: str, expected: Sequence[Occurrence]
) -> set[Occurrence]:
    """Find the target's occurrences that have no row, neither their own nor a span, and lie in no gap."""
    by_identity = {to_identity(occurrence)[1:]: occurrence for occurrence in expected}
    missing = read_json(connection.execute(_SELECT_MISSING, (pack_rows(list(by_identity)), target)))
    return {by_identity[automation_id, scheduled_for] for automation_id, scheduled_for in missing}


# ---------------------------------------------------------------- skips


def _insert_skips(
    connection: sqlite3.Connection, target: str, skips: Sequence[Skip], node: str
) -> dict[Occurrence, int]:
    """Insert skipped occurrences in as few rows as possible, around the existing rows.

    When there are too many rows to read, only the rows at the instants of the skips are read. The rows
    between two instants are then unknown, and only instants a minute apart share a row: nothing fits between
    them.
    """
    divide_spans(connection, target, _group_by_automation((skip.occurrence, skip.instants) for skip in skips))
    are_many = _has_many_rows(connection, skips, sum(len(skip.instants) for skip in skips))
    intervals = (_read_rows_at if are_many else _read_rows_between)(connection, target, skips)

    def find_parts(skip: Skip, rows_there: Sequence[_Interval]) -> Iterator[SpanPart]:
        groups = _find_free(skip.instants, rows_there)
        if are_many:
            groups = chain.from_iterable(map(_group_adjacent, groups))
        return map(make_listed_part, groups)

    return _insert_parts(connection, target, skips, node, intervals=intervals, find_parts=find_parts)


def _insert_parts(
    connection: sqlite3.Connection,
    target: str,
    skips: Sequence[_Skipped],
    node: str,
    *,
    intervals: Mapping[str, list[_Interval]],
    find_parts: Callable[[_Skipped, Sequence[_Interval]], Iterable[SpanPart]],
) -> dict[Occurrence, int]:
    """Insert a row for each part of the skips. ``find_parts`` finds the parts around the rows of a skip."""
    rows: list[tuple[Value, ...]] = []
    made: dict[Occurrence, int] = {}
    for skip in skips:
        rows_there = intervals[skip.occurrence.automation_id]
        for part in find_parts(skip, rows_there):
            rows.append(_make_row(skip, part))
            made[replace(skip.occurrence, scheduled_for=part.first)] = part.count
            insort(rows_there, _Interval(to_text_seconds(part.last), to_text_seconds(part.first)))
    connection.execute(_INSERT_SKIPS, (pack_rows(rows), target, node))
    return made


def _make_row(skip: Skip | SkippedSpan, part: SpanPart) -> tuple[Value, ...]:
    """Make one row. A row names its definition only when its instants follow from the schedule.

    In other rows, these columns are NULL.
    """
    is_by_schedule = isinstance(skip, SkippedSpan) and part.is_by_schedule
    definition = _get_definition(skip) if is_by_schedule else ()
    due = part.first + (skip.due - skip.occurrence.scheduled_for)
    details = skip.name, due, Outcome.SKIPPED, skip.reason, skip.at, skip.error
    return (skip.occurrence.automation_id, *part.extent, *details, *definition)


_get_definition: Final = attrgetter(
    *("definition.cron_expression", "definition.timezone"),
    *("schedule.dst_gap", "schedule.dst_repeat", "schedule.rules_version"),
)
"""The definition of a span and its evaluation, in the order of `_INSERT_SKIPS`."""


def _find_bounds(skips: Sequence[Skip | SkippedSpan]) -> tuple[str, str]:
    first, last = min(skip.occurrence.scheduled_for for skip in skips), max(skip.last for skip in skips)
    return to_text_seconds(first), to_text_seconds(last)


def _has_many_rows(
    connection: sqlite3.Connection, skips: Sequence[Skip | SkippedSpan], new_rows: int
) -> bool:
    """Return whether too many rows to read, of all targets, lie between the first and last skipped instant.

    The more rows are to be made, the more rows may be read.
    """
    limit = max(_MANY_ROWS, _ROWS_FOR_A_CHANGE * new_rows)
    return connection.execute(_ARE_MANY, (*_find_bounds(skips), limit)).fetchone() is not None


def _read_rows_between(
    connection: sqlite3.Connection, target: str, skips: Sequence[Skip | SkippedSpan]
) -> defaultdict[str, list[_Interval]]:
    """Read the rows between the first and the last instant of all the skips, by automation and in order."""
    automations = {skip.occurrence.automation_id for skip in skips}
    wanted = (json.dumps(list(automations)), target, *_find_bounds(skips))
    if _has_many_rows(connection, skips, 0):  # many, and still worth the reading
        bounds = min(automations), max(automations)
        rows = connection.execute(_SELECT_AMONG_MANY, (*wanted, *bounds))
    else:
        rows = connection.execute(_SELECT_BETWEEN, wanted)
    return _sort_intervals(rows)


def _read_rows_at(
    connection: sqlite3.Connection, target: str, skips: Sequence[Skip]
) -> defaultdict[str, list[_Interval]]:
    """Read the rows at the instants of the skips, and the covering spans, by automation and in order.

    Other rows in between are not read. The cost depends on the number of skips, however many rows other
    automations have in the same time.
    """
    automations = list({skip.occurrence.automation_id for skip in skips})
    at = [
        (skip.occurrence.automation_id, to_text_seconds(instant))
        for skip in skips
        for instant in skip.instants
    ]
    values = pack_rows(at), target, *_find_bounds(skips), json.dumps(automations)
    return _sort_intervals(connection.execute(_SELECT_AT, values))


def _sort_intervals(rows: sqlite3.Cursor) -> defaultdict[str, list[_Interval]]:
    """Sort the packed rows of a query by the last instant, for each automation."""
    intervals: defaultdict[str, list[_Interval]] = defaultdict(list)
    for automation_id, scheduled_for, end in sorted(read_json(rows), key=itemgetter(2)):
        intervals[automation_id].append(_Interval(end, scheduled_for))
    return intervals


def _find_free(instants: Sequence[datetime], intervals: Sequence[_Interval]) -> Iterator[Sequence[datetime]]:
    """Yield the instants without a row, in groups that no row divides."""
    free = []
    for instant in instants:
        text = to_text_seconds(instant)
        behind = bisect_left(intervals, (text,))  # the number of rows ending before this instant
        if behind == len(intervals) or intervals[behind].first > text:
            free.append((behind, instant))
    for _, group in groupby(free, key=itemgetter(0)):
        yield [instant for _, instant in group]


def _group_adjacent(instants: Sequence[datetime]) -> Iterator[Sequence[datetime]]:
    """Yield the instants in groups. Within a group, each instant is one minute after the instant before.

    No other instant can lie within such a group.
    """
    begin = 0
    for at, (one, following) in enumerate(pairwise(instants), 1):
        if following - one > _MINUTE:
            yield instants[begin:at]
            begin = at
    yield instants[begin:]


# ---------------------------------------------------------------- skipped spans, known by their bounds

_NEAR: Final = timedelta(hours=1)
"""Rows whose ends are at most this far apart form a group, and the instants within a group are listed.

For so short a time, a list is faster than the measurement of each part between two rows.
"""


def _insert_spans(
    connection: sqlite3.Connection, target: str, spans: Sequence[SkippedSpan], node: str
) -> dict[Occurrence, int]:
    """Write spans by their bounds, around existing rows."""
    _divide_others(connection, target, spans)
    intervals = _read_rows_between(connection, target, spans)
    return _insert_parts(connection, target, spans, node, intervals=intervals, find_parts=_find_free_parts)


def _divide_others(connection: sqlite3.Connection, target: str, spans: Sequence[SkippedSpan]) -> None:
    """Divide existing spans of other schedules, so that no instant of the new spans lies within their bounds.

    Usually no such span exists.
    """
    ours: defaultdict[str, list[SkippedSpan]] = defaultdict(list)
    for span in spans:
        ours[span.occurrence.automation_id].append(span)
    begin, end = min(span.occurrence.scheduled_for for span in spans), max(span.last for span in spans)
    for existing in read_spans_around(connection, target, ours, begin, end):
        new_spans = ours[existing.automation_id]
        wanted = [instant for span in new_spans for instant in _find_instants_within(span, existing)]
        divide_span(connection, existing, wanted)


def _find_instants_within(span: SkippedSpan, existing: SpanRow) -> Iterable[datetime]:
    """Return the instants of a new span within the bounds of an existing span.

    The first instant of the existing span has its row already. Two spans of one schedule need no division:
    the result is empty.
    """
    first = span.occurrence.scheduled_for
    since, until = max(existing.first, first - JUST_BEFORE), min(existing.last, span.last)
    if span.schedule == existing.schedule or since >= until:
        return ()
    return span.schedule.iterate_between(since, until)


def _find_free_parts(span: SkippedSpan, intervals: Sequence[_Interval]) -> Iterator[SpanPart]:
    """Yield the parts of a span that have no row. No row divides a part.

    Rows close together form a group. Before the first group, between groups and behind the last group, a part
    is measured by its bounds. Within a group, the instants are listed.
    """
    first, last = span.occurrence.scheduled_for, span.last
    in_the_way = intervals[bisect_left(intervals, (to_text_seconds(first),)) :]
    in_the_way = [overlapping for overlapping in in_the_way if overlapping.first <= to_text_seconds(last)]
    if not in_the_way:
        yield SpanPart(first, last, span.count)
        return
    begin = first - JUST_BEFORE
    for rows in _group_near(in_the_way):
        yield from make_parts(span.schedule, begin, from_text(rows[0].first) - JUST_BEFORE)
        if len(rows) > 1:
            since, until = from_text(rows[0].last), from_text(rows[-1].first)
            between = list(span.schedule.iterate_between(since, until))
            yield from (SpanPart(group[0], group[-1], len(group)) for group in _find_free(between, rows))
        begin = from_text(rows[-1].last)
    yield from make_parts(span.schedule, begin, last)


def _group_near(rows: Sequence[_Interval]) -> Iterator[Sequence[_Interval]]:
    """Yield groups of rows. Within a group, each row ends at most `_NEAR` after the end of the row before.

    A row longer than `_NEAR` is the first row of its group: no long part of a span is ever listed.
    """
    group: list[_Interval] = []
    for row in rows:
        if group and from_text(row.last) - from_text(group[-1].last) > _NEAR:
            yield group
            group = []
        group.append(row)
    if group:
        yield group
