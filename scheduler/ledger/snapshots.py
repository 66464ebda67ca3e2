"""The state that the API shows: automations with their definitions, and runs of any origin."""

import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final

from scheduler.core.instants import from_text, to_optional_text
from scheduler.core.model import (
    NO_DEFINITION,
    Automation,
    DefinitionVersion,
    Run,
    RunOrigin,
    RunStatus,
    RunUpdate,
    SnapshotUpdate,
)
from scheduler.core.recorded_state import (
    EndedVersion,
    RecordedAutomation,
    RecordedRuns,
    RecordedTargetState,
    Removal,
)
from scheduler.ledger.occurrence_records import find_newest_id
from scheduler.ledger.operator_requests import attribute_manual_runs, find_manual_run
from scheduler.ledger.rows import make_parser, parse_rows
from scheduler.ledger.sql_batch import (
    Contradiction,
    Value,
    make_statement,
    pack_rows,
    read_json,
    to_text,
)
from scheduler.ledger.targets import read_target
from scheduler.ledger.versions import parse_definition, read_gaps

_DOUBLES_WITHIN: Final = timedelta(hours=24)
"""A request that hung is carried out minutes later, hardly days later."""
_DOUBLES_SLACK: Final = timedelta(seconds=5)
"""How far the API's clock may be behind the time that we assume for it."""
_CLOCKS_WITHIN: Final = timedelta(hours=1)
"""How much further apart than now the two clocks may have been when the attempt was written."""
_MOST_OFFSET: Final = timedelta(days=1)
"""How far apart the clocks may be now: the attempts of this time are read."""
_REMOVAL_RECALL: Final = timedelta(days=1)
"""How long before the newest good poll removals are still reported."""

# ---------------------------------------------------------------- the recorded state


def read_target_state(connection: sqlite3.Connection, target: str) -> RecordedTargetState:
    """Read the target as last recorded, without its removed automations."""
    known = read_target(connection, target)
    recall_since = None if known.snapshot_at is None else known.snapshot_at - _REMOVAL_RECALL
    automations = connection.execute(_SELECT_AUTOMATIONS, (target,))
    ended = connection.execute(_SELECT_ENDED, (target, to_optional_text(known.watermark)))
    return RecordedTargetState(
        known.snapshot_at,
        known.watermark,
        {recorded.automation.id: recorded for recorded in _parse_automations(automations)},
        tuple(_parse_ended(ended)),
        tuple(read_gaps(connection, target)),
        _read_recent_removals(connection, target, recall_since),
        known.throttle,
        known.restored_at,
    )


def _read_recent_removals(
    connection: sqlite3.Connection, target: str, since: datetime | None
) -> tuple[Removal, ...]:
    rows = connection.execute(_SELECT_REMOVALS, (target, to_optional_text(since)))
    return tuple(parse_rows(Removal, rows))


_SELECT_AUTOMATIONS: Final = """
    SELECT automation_id AS id, iif(cron_expression IS NULL, invalid, NULL) AS broken,
        iif(cron_expression IS NULL, NULL, invalid) AS invalid, name, cron_expression, timezone, enabled,
        effective_from, updated_at, run_id, run_at, run_status, run_error, unseen_since
    FROM automation WHERE target = ? AND removed_at IS NULL
"""

_SELECT_REMOVALS: Final = """
    SELECT (
        SELECT observed_at FROM definition
        WHERE target = automation.target AND automation_id = automation.automation_id AND NOT removed
        ORDER BY id LIMIT 1
    ) AS added_at, removed_at FROM automation WHERE target = ? AND removed_at >= ?
    ORDER BY removed_at, automation_id
"""


_SELECT_ENDED: Final = """
    SELECT ended.*, newer.effective_from AS until FROM definition AS newer INDEXED BY definition_by_effect
    CROSS JOIN definition AS ended ON ended.id = (
        SELECT max(id) FROM definition
        WHERE target = newer.target AND automation_id = newer.automation_id AND id < newer.id
    )
    WHERE newer.target = ?1
        AND newer.effective_from > min(?2, coalesce((SELECT min(since) FROM gap WHERE target = ?1), ?2))
        AND ended.enabled AND ended.invalid IS NULL ORDER BY ended.id
"""


def _parse_ended(rows: sqlite3.Cursor) -> list[EndedVersion]:
    parse_version = make_parser(DefinitionVersion, rows, definition=parse_definition)
    return parse_rows(EndedVersion, rows, version=parse_version)


def _parse_automations(rows: sqlite3.Cursor) -> list[RecordedAutomation]:
    parse_automation = make_parser(
        Automation, rows, definition=lambda row: parse_definition(row) or NO_DEFINITION
    )
    return parse_rows(RecordedAutomation, rows, automation=parse_automation)


# ---------------------------------------------------------------- snapshots

_VERSION: Final = (
    "automation_id, name, cron_expression, timezone, enabled, effective_from, observed_at, invalid, removed"
)

_INSERT_VERSIONS: Final = make_statement(
    _VERSION,
    """
    INSERT INTO definition (target, croniter, tzdata, newest_occurrence, {columns})
    SELECT ?2, ?3, ?4, ?5, {columns} FROM {given}
    """,
)

_TAKE_VERSIONS: Final = make_statement(
    _VERSION,
    """
    INSERT INTO automation (target, automation_id, name, cron_expression, timezone, enabled,
        effective_from, invalid)
    SELECT ?2, automation_id, name, cron_expression, timezone, enabled, effective_from, invalid FROM {given}
    WHERE NOT removed
    ON CONFLICT (target, automation_id)
    DO UPDATE SET name = excluded.name, cron_expression = excluded.cron_expression,
        timezone = excluded.timezone, enabled = excluded.enabled, effective_from = excluded.effective_from,
        invalid = excluded.invalid, removed_at = NULL
    """,
)

# The target is a column, not a parameter: with a constant, SQLite reads all automations of the target for
# each change.
_TAKE_CHANGES: Final = make_statement(
    "target, automation_id, name, cron_expression, timezone, enabled, updated_at, run_id, run_at, "
    "run_status, run_error",
    """
    UPDATE automation SET name = given.name, cron_expression = given.cron_expression,
        timezone = given.timezone, enabled = given.enabled, updated_at = given.updated_at,
        run_id = given.run_id, run_at = given.run_at, run_status = given.run_status,
        run_error = given.run_error
    FROM {given} WHERE automation.target = given.target AND automation.automation_id = given.automation_id
    """,
)

_TAKE_UNSEEN: Final = make_statement(
    "target, automation_id, since",
    """
    UPDATE automation SET unseen_since = given.since
    FROM {given} WHERE automation.target = given.target AND automation.automation_id = given.automation_id
    """,
)

_REMOVE: Final = """
    UPDATE automation SET removed_at = ?2, unseen_since = NULL
    WHERE target = ?3 AND automation_id IN (SELECT value FROM json_each(?1))
"""

_SEE: Final = """
    UPDATE target SET snapshot_at = iif(?4, ?1, snapshot_at), watermark = min(coalesce(watermark, ?1), ?2)
    WHERE name = ?3
"""


def record_snapshot(
    connection: sqlite3.Connection, target: str, seen: SnapshotUpdate, evaluated_by: tuple[str, str]
) -> None:
    """Record the changes of a snapshot. Without changes, only the target's row is written.

    The watermark goes back to the earliest ``effective_from``, never forward; the first snapshot sets the
    watermark. When only a part of a snapshot is recorded, the snapshot is not the newest good poll: otherwise
    the changes of the other parts would count from this poll at the earliest. ``evaluated_by``: the versions
    of croniter and of the zone data.
    """
    earliest = min((version.effective_from for version in seen.versions), default=seen.at)
    if connection.execute(_SEE, (to_text(seen.at), to_text(earliest), target, seen.whole)).rowcount != 1:
        raise Contradiction(f"the target {target!r} has no row in the ledger")
    if seen.versions:
        removed = frozenset(seen.removed)
        rows = pack_rows([_make_version_row(version, removed) for version in seen.versions])
        connection.execute(_INSERT_VERSIONS, (rows, target, *evaluated_by, find_newest_id(connection)))
        connection.execute(_TAKE_VERSIONS, (rows, target))
    if seen.changed:
        rows = pack_rows([(target, *_get_automation_values(automation)) for automation in seen.changed])
        connection.execute(_TAKE_CHANGES, (rows,))
    if seen.unseen:
        rows = pack_rows([(target, automation_id, since) for automation_id, since in seen.unseen.items()])
        connection.execute(_TAKE_UNSEEN, (rows,))
    if seen.removed:
        connection.execute(_REMOVE, (json.dumps(list(seen.removed)), to_text(seen.at), target))


def _make_version_row(version: DefinitionVersion, removed: frozenset[str]) -> tuple[Value, ...]:
    definition = version.definition
    columns: tuple[Value, ...] = (None, None, None)
    if definition is not None:
        columns = definition.cron_expression, definition.timezone, definition.enabled
    return (
        version.automation_id,
        version.name,
        *columns,
        version.effective_from,
        version.observed_at,
        version.invalid,
        version.automation_id in removed,
    )


_get_automation_values: Final = attrgetter(
    *("id", "name", "definition.cron_expression", "definition.timezone", "definition.enabled"),
    *("updated_at", "run_id", "run_at", "run_status", "run_error"),
)
"""The values of an automation, in the order of `_TAKE_CHANGES`."""


# ---------------------------------------------------------------- runs

_WRITTEN_BY_API: Final = (
    "strftime('%Y-%m-%dT%H:%M:%f', attempt.written_at, printf('%+.3f seconds', "
    "coalesce(attempt.clock_offset, ?3)))"
)
"""When an attempt was written, by the API's clock, which also dates the beginning of runs.

The text has thousandths of a second, and still compares correctly with microseconds.

Where the clock offset of an attempt is not known, the offset of now is used.
"""

# For each run, the newest fitting attempt of the same automation is searched.
_NEW_FOREIGN: Final = make_statement(
    "run_id, automation_id, earliest, latest, first, last",
    f"""
    SELECT json_group_object(run_id, scheduled_for) FROM (
        SELECT given.run_id, (
            SELECT occurrence.scheduled_for
            FROM attempt INDEXED BY attempt_unknown_of
            CROSS JOIN occurrence ON occurrence.id = attempt.occurrence_id
            WHERE attempt.result = 'unknown' AND attempt.automation_id = given.automation_id
                AND attempt.written_at BETWEEN given.first AND given.last
                AND {_WRITTEN_BY_API} BETWEEN given.earliest AND given.latest AND occurrence.target = ?2
                AND NOT (coalesce(occurrence.reason, '') IN ('found', 'manual')
                    AND attempt.number = occurrence.attempts)
            ORDER BY attempt.written_at DESC LIMIT 1
        ) AS scheduled_for
        FROM {{given}} WHERE NOT EXISTS (SELECT 1 FROM run
            WHERE run.target = ?2 AND run.run_id = given.run_id)
    ) WHERE scheduled_for IS NOT NULL
    """,  # noqa: S608 -- literals of this module
)

_FOLLOW: Final = make_statement(
    "run_id, automation_id, origin, status, started_at, finished_at, error, doubles",
    """
    INSERT INTO run (target, {columns}) SELECT ?2, {columns} FROM {given} WHERE true
    ON CONFLICT (target, run_id)
    DO UPDATE SET status = excluded.status, finished_at = excluded.finished_at, error = excluded.error,
        started_at = coalesce(run.started_at, excluded.started_at)
    WHERE excluded.status <> 'running' AND excluded.status <> run.status
    """,
)

_STARTED_BY: Final = make_statement(
    "run_id",
    """
    SELECT json_group_object(run.run_id, occurrence.scheduled_for) FROM {given}
    CROSS JOIN run ON run.target = ?2 AND run.run_id = given.run_id
    CROSS JOIN occurrence ON occurrence.id = run.occurrence_id
    """,
)
"""The scheduled instants of the occurrences that started these runs."""

_NAMES: Final = make_statement(
    "automation_id",
    """
    SELECT json_group_object(automation.automation_id, automation.name) FROM {given}
    CROSS JOIN automation ON automation.target = ?2 AND automation.automation_id = given.automation_id
    """,
)


def record_runs(connection: sqlite3.Connection, target: str, update: RunUpdate) -> RecordedRuns:
    """Record runs and how they ended.

    Return the occurrences of new late doubles and of the ended runs, and names. The recorded origin of a run
    never changes here, and no reading makes an ended run running again.
    """
    runs, offset = update.runs, update.clock_offset or 0.0
    foreign = [run for run, origin in runs if origin is RunOrigin.FOREIGN and run.started_at is not None]
    windows = pack_rows([_make_window_row(run, timedelta(seconds=offset)) for run in foreign])
    doubles = read_json(connection.execute(_NEW_FOREIGN, (windows, target, offset)))
    rows = pack_rows([(*_make_run_row(run, origin, update.at), doubles.get(run.id)) for run, origin in runs])
    connection.execute(_FOLLOW, (rows, target))
    attribute_manual_runs(connection, target, [run for run, origin in runs if origin is RunOrigin.MANUAL])
    ended = pack_rows([(run.id,) for run, _ in runs if run.status is not RunStatus.RUNNING])
    started_by = read_json(connection.execute(_STARTED_BY, (ended, target)))
    automations = pack_rows([(automation_id,) for automation_id in {run.automation_id for run, _ in runs}])
    names = read_json(connection.execute(_NAMES, (automations, target)))
    return RecordedRuns(_read_instants(doubles), _read_instants(started_by), names)


def _read_instants(texts: Mapping[str, str]) -> Mapping[str, datetime]:
    return {run_id: from_text(scheduled_for) for run_id, scheduled_for in texts.items()}


def _make_window_row(run: Run, clock_offset: timedelta) -> tuple[Value, ...]:
    """Return the bounds for the time of the run's attempt, by the API's clock and by the local clock.

    The local clock may have been right at this time, or as far off as now.
    """
    assert run.started_at is not None
    earliest, latest = run.started_at - _DOUBLES_WITHIN, run.started_at + _DOUBLES_SLACK
    ahead = max(min(clock_offset, _MOST_OFFSET), -_MOST_OFFSET)
    nothing = timedelta(0)
    first = earliest - max(ahead, nothing) - _CLOCKS_WITHIN
    last = latest - min(ahead, nothing) + _CLOCKS_WITHIN
    return run.id, run.automation_id, earliest, latest, first, last


def _make_run_row(run: Run, origin: RunOrigin, at: datetime) -> tuple[Value, ...]:
    finished_at = None if run.status is RunStatus.RUNNING else at
    return run.id, run.automation_id, origin, run.status, run.started_at, finished_at, run.error


def find_run_origin(connection: sqlite3.Connection, target: str, run: Run) -> RunOrigin | None:
    """Return the recorded origin of a run, or manual when the run fits a manual run; None when unknown."""
    known = connection.execute(
        "SELECT origin FROM run WHERE target = ? AND run_id = ?", (target, run.id)
    ).fetchone()
    if known is not None:
        return RunOrigin(known["origin"])
    return None if find_manual_run(connection, target, run) is None else RunOrigin.MANUAL


_SELECT_NEWEST_RUNS: Final = """
    SELECT run_id AS id, automation_id, status, error, started_at, max(coalesce(started_at, '')) FROM (
        SELECT run.* FROM run INDEXED BY run_running WHERE target = ?1 AND status = 'running'
        UNION ALL
        SELECT run.* FROM automation
        CROSS JOIN run ON run.target = automation.target AND run.run_id = automation.run_id
        WHERE automation.target = ?1 AND automation.removed_at IS NULL
    ) GROUP BY automation_id
"""
"""A run that neither stands in the newest snapshot nor is still running cannot be the newest run."""


def read_newest_runs(connection: sqlite3.Connection, target: str) -> list[Run]:
    """Return the newest run of every automation with a recorded run."""
    return parse_rows(Run, connection.execute(_SELECT_NEWEST_RUNS, (target,)))
