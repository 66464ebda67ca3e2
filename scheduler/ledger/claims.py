"""Make rows for occurrences: for claims, and for skipped occurrences.

Only the insert under the identity of an occurrence decides who has the occurrence.
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
from typing import Final, TypeVar

from scheduler.core.instants import JUST_BEFORE, from_text
from scheduler.core.model import Claim, ClaimPlan, Gap, Occurrence, Outcome, Skip, SkippedSpan
from scheduler.ledger.attempts import ATTEMPT, make_attempt_row
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

# Spans of an automation never overlap. So only the first span that ends at an instant or later can hold the
# instant.
_OUTSIDE_SPANS: Final = """
    given.scheduled_for < coalesce((
        SELECT span.scheduled_for FROM occurrence AS span
        WHERE span.count > 1 AND span.target = ?2 AND span.automation_id = given.automation_id
            AND span.last >= given.scheduled_for
        ORDER BY span.last LIMIT 1
    ), '~')
"""
# Each packed value costs as much as half a comparison. So a value that all rows share is a separate
# parameter.
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
# to ?6. Where other targets have many rows, a slice of a recovery costs a share of these rows, and not all
# rows again.
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
"""Fewer rows than these are read in some milliseconds."""
_ROWS_FOR_A_CHANGE: Final = 200
"""Reading this number of rows costs as much as making one row."""

_MINUTE: Final = timedelta(minutes=1)
"""The shortest time between two occurrences of an automation."""

_Skipped = TypeVar("_Skipped", Skip, SkippedSpan)

_Interval = tuple[str, str]
"""Last and first scheduled instant of a row, in this order: rows are searched by the last instant."""


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
    """Insert the missing rows of the plan, and set the watermark.

    Return the inserted rows by their first occurrence, with the number of occurrences in each row.
    """
    made = dict.fromkeys(_claim_occurrences(connection, target, plan.claims, node), 1) if plan.claims else {}
    if plan.skips:
        made |= _insert_skips(connection, target, plan.skips, node)
    if plan.spans:
        made |= _insert_spans(connection, target, plan.spans, node)
    _record_gaps(connection, target, plan.gaps)
    moved = connection.execute(
        "UPDATE target SET watermark = ? WHERE name = ?", (to_text(plan.watermark), target)
    )
    if moved.rowcount != 1:
        raise Contradiction(f"the target {target!r} was never bound")
    return made


def _record_gaps(connection: sqlite3.Connection, target: str, gaps: Sequence[Gap]) -> None:
    connection.execute("DELETE FROM gap WHERE target = ?", (target,))
    rows = [(target, to_text(gap.since), to_text(gap.until), gap.automation_id) for gap in gaps]
    connection.executemany("INSERT INTO gap (target, since, until, automation_id) VALUES (?, ?, ?, ?)", rows)


def _claim_occurrences(
    connection: sqlite3.Connection, target: str, claims: Sequence[Claim], node: str
) -> set[Occurrence]:
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
    (before,) = connection.execute("SELECT coalesce(max(id), 0) FROM occurrence").fetchone()
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
    divide_spans(connection, target, _group_by_automation((skip.occurrence, skip.instants) for skip in skips))
    are_many = _has_many_rows(connection, skips, sum(len(skip.instants) for skip in skips))
    intervals = (_read_rows_at if are_many else _read_rows_between)(connection, target, skips)

    def find_parts(skip: Skip, rows_there: Sequence[_Interval]) -> Iterator[SpanPart]:
        free = _find_free(skip.instants, rows_there)
        return map(make_listed_part, chain.from_iterable(map(_group_adjacent, free)) if are_many else free)

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
            insort(rows_there, (to_text_seconds(part.last), to_text_seconds(part.first)))
    connection.execute(_INSERT_SKIPS, (pack_rows(rows), target, node))
    return made


def _make_row(skip: Skip | SkippedSpan, part: SpanPart) -> tuple[Value, ...]:
    """Make one row. Only a row of several occurrences without a list names the definition."""
    is_by_schedule = isinstance(skip, SkippedSpan) and part.is_by_schedule
    by = _get_definition(skip) if is_by_schedule else ()
    due = part.first + (skip.due - skip.occurrence.scheduled_for)
    texts = skip.name, due, Outcome.SKIPPED, skip.reason, skip.at, skip.error
    return (skip.occurrence.automation_id, *part.extent, *texts, *by)


_get_definition: Final = attrgetter(
    *("definition.cron_expression", "definition.timezone"),
    *("schedule.dst_gap", "schedule.dst_repeat", "schedule.rules_version"),
)
"""The definition of a span and its evaluation, in the order of `_INSERT_SKIPS`."""


def _find_bounds(skips: Sequence[Skip | SkippedSpan]) -> tuple[str, str]:
    first, last = min(skip.occurrence.scheduled_for for skip in skips), max(skip.last for skip in skips)
    return to_text_seconds(first), to_text_seconds(last)


def _has_many_rows(connection: sqlite3.Connection, skips: Sequence[Skip | SkippedSpan], changes: int) -> bool:
    """Return whether the skips cover more rows, of all targets, than a query should read.

    The rows between the first and the last instant of all the skips are counted.
    """
    most = max(_MANY_ROWS, _ROWS_FOR_A_CHANGE * changes)
    return connection.execute(_ARE_MANY, (*_find_bounds(skips), most)).fetchone() is not None


def _read_rows_between(
    connection: sqlite3.Connection, target: str, skips: Sequence[Skip | SkippedSpan]
) -> defaultdict[str, list[_Interval]]:
    """Read the rows between the first and the last instant of all the skips, by automation and in order."""
    automations = {skip.occurrence.automation_id for skip in skips}
    wanted = (json.dumps(list(automations)), target, *_find_bounds(skips))
    if _has_many_rows(connection, skips, 0):
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
        intervals[automation_id].append((end, scheduled_for))
    return intervals


def _find_free(instants: Sequence[datetime], intervals: Sequence[_Interval]) -> Iterator[Sequence[datetime]]:
    """Yield the instants without a row, in groups that no row divides."""
    free = []
    for instant in instants:
        text = to_text_seconds(instant)
        behind = bisect_left(intervals, (text,))  # the number of rows ending before this instant
        if behind == len(intervals) or intervals[behind][1] > text:
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
"""Between rows at most this far apart, instants are listed.

Listing is faster than measuring the extent between each two rows.
"""


def _insert_spans(
    connection: sqlite3.Connection, target: str, spans: Sequence[SkippedSpan], node: str
) -> dict[Occurrence, int]:
    """Write spans by their bounds, around existing rows."""
    _divide_others(connection, target, spans)
    intervals = _read_rows_between(connection, target, spans)
    return _insert_parts(connection, target, spans, node, intervals=intervals, find_parts=_find_free_parts)


def _divide_others(connection: sqlite3.Connection, target: str, spans: Sequence[SkippedSpan]) -> None:
    """Divide existing spans of other schedules around the instants of the new spans.

    Usually none exists.
    """
    ours: defaultdict[str, list[SkippedSpan]] = defaultdict(list)
    for span in spans:
        ours[span.occurrence.automation_id].append(span)
    begin, end = min(span.occurrence.scheduled_for for span in spans), max(span.last for span in spans)
    for there in read_spans_around(connection, target, ours, begin, end):
        wanted = [
            instant for span in ours[there.automation_id] for instant in _find_instants_within(span, there)
        ]
        divide_span(connection, there, wanted)


def _find_instants_within(span: SkippedSpan, there: SpanRow) -> Iterable[datetime]:
    """Return the instants of a new span within the bounds of an existing span.

    None are returned when both spans have the same schedule.
    """
    since, until = max(there.first, span.occurrence.scheduled_for - JUST_BEFORE), min(there.last, span.last)
    if span.schedule == there.schedule or since >= until:
        return ()
    return span.schedule.iterate_between(since, until)


def _find_free_parts(span: SkippedSpan, intervals: Sequence[_Interval]) -> Iterator[SpanPart]:
    """Yield the parts of a span that have no row. No row divides a part."""
    first, last = span.occurrence.scheduled_for, span.last
    in_the_way = intervals[bisect_left(intervals, (to_text_seconds(first),)) :]
    in_the_way = [overlapping for overlapping in in_the_way if overlapping[1] <= to_text_seconds(last)]
    if not in_the_way:
        yield SpanPart(first, last, span.count)
        return
    begin = first - JUST_BEFORE
    for rows in _group_near(in_the_way):
        yield from make_parts(span.schedule, begin, from_text(rows[0][1]) - JUST_BEFORE)
        if len(rows) > 1:
            between = list(span.schedule.iterate_between(from_text(rows[0][0]), from_text(rows[-1][1])))
            yield from (SpanPart(group[0], group[-1], len(group)) for group in _find_free(between, rows))
        begin = from_text(rows[-1][0])
    yield from make_parts(span.schedule, begin, last)


def _group_near(rows: Sequence[_Interval]) -> Iterator[Sequence[_Interval]]:
    """Yield groups of rows. Within a group, each row ends at most `_NEAR` after the row before.

    Thus a long row begins a group.
    """
    group: list[_Interval] = []
    for row in rows:
        if group and from_text(row[0]) - from_text(group[-1][0]) > _NEAR:
            yield group
            group = []
        group.append(row)
    if group:
        yield group
