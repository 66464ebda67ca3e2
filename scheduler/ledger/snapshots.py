"""The state that the API shows: targets, automations with their definitions, and runs of any origin."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from scheduler.core.command_line import format_command
from scheduler.core.errors import ConfigurationError, TargetMismatch
from scheduler.core.instants import from_optional_text, from_text
from scheduler.core.model import (
    NO_DEFINITION,
    Automation,
    Definition,
    DefinitionVersion,
    Gap,
    Run,
    RunOrigin,
    RunStatus,
)
from scheduler.core.recorded_state import (
    EndedVersion,
    RecordedAutomation,
    RecordedRuns,
    RecordedTargetState,
    Removal,
    ThrottleSpan,
)
from scheduler.ledger.operator_requests import attribute_manual_runs, find_manual_run
from scheduler.ledger.sql_batch import (
    Contradiction,
    Value,
    make_statement,
    pack_rows,
    to_optional_text,
    to_text,
)

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

# ---------------------------------------------------------------- targets


def bind(connection: sqlite3.Connection, target: str, url: str, project_id: str) -> None:
    """Bind the name to its URL and project, or check the binding. Raises `TargetMismatch`."""
    url = normalize_url(url)
    connection.execute(
        "INSERT INTO target (name, url, project_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (target, url, project_id),
    )
    known = connection.execute("SELECT url, project_id FROM target WHERE name = ?", (target,)).fetchone()
    if known == (url, project_id):
        return
    (other,) = connection.execute(
        "SELECT name FROM target WHERE url = ? AND project_id = ?", (url, project_id)
    ).fetchone() or (None,)
    raise TargetMismatch(_describe_mismatch(target, url, project_id, known, other))


def move_target(connection: sqlite3.Connection, target: str, url: str, project_id: str) -> str | None:
    """Bind a target to the new URL of the API. Return the old URL, None when there is nothing to do.

    No daemon may be running. Raises `ConfigurationError` for another project, for a target missing in the
    ledger, and when the URL belongs to another target.
    """
    url = normalize_url(url)
    known = connection.execute("SELECT url, project_id FROM target WHERE name = ?", (target,)).fetchone()
    if known is None:
        raise ConfigurationError(f"the ledger has no target {target!r}: there is nothing to move")
    if known[1] != project_id:
        raise ConfigurationError(
            f"the ledger knows target {target!r} as project {known[1]}, not as project {project_id}; "
            "another project needs another name"
        )
    other = connection.execute(
        "SELECT name FROM target WHERE url = ? AND project_id = ? AND name != ?", (url, project_id, target)
    )
    if (row := other.fetchone()) is not None:
        raise ConfigurationError(
            f"the ledger knows project {project_id} at {url} as target {row[0]!r}; rename that one first"
        )
    connection.execute("UPDATE target SET url = ? WHERE name = ?", (url, target))
    return None if known[0] == url else str(known[0])


def _describe_mismatch(
    target: str, url: str, project_id: str, known: tuple[str, str] | None, other: str | None
) -> str:
    """Describe the mismatch, and name the command to rename or move the target where a command helps."""
    wanted = f"project {project_id} at {url}"
    if known is None:
        return (
            f"the ledger knows {wanted} as target {other!r}, not as {target!r}: to keep its history "
            "under the new name, stop the daemon "
            f"and run `{format_command(f'target rename {other} {target}')}`; or call it {other!r} "
            "again in the configuration"
        )
    text = f"the ledger knows target {target!r} as project {known[1]} at {known[0]}, not as {wanted}: "
    if other is None:
        move = (
            "if it is the same API at a new address, stop the daemon and run "
            f"`{format_command(f'target move {target}')}`; else "
        )
        advice = "give the new target another name in the configuration, to keep the histories apart"
        return text + (move if known[1] == project_id else "") + advice
    return text + (
        f"that one it knows as {other!r}; give it that name in the configuration, or move both: "
        f"`{format_command(f'target rename {target} {target}-old')}`, then "
        f"`{format_command(f'target rename {other} {target}')}`"
    )


def normalize_url(url: str) -> str:
    """Return the URL in the form for comparisons.

    Scheme and host are in lower case, without a default port and without a trailing slash.
    """
    parts = urlsplit(url.strip())
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = (
        "" if parts.port in {None, {"http": 80, "https": 443}.get(parts.scheme.lower())} else f":{parts.port}"
    )
    return f"{parts.scheme.lower()}://{host}{port}{parts.path.rstrip('/')}"


def read_target(connection: sqlite3.Connection, target: str) -> RecordedTargetState:
    """Read the target as last recorded, without its removed automations."""
    known = connection.execute(_SELECT_TARGET, (target,)).fetchone()
    gaps = tuple(
        Gap(from_text(since), from_text(until), first)
        for since, until, first in connection.execute(_SELECT_GAPS, (target,))
    )
    automations = {
        row["automation_id"]: _parse_automation(row)
        for row in connection.execute(_SELECT_AUTOMATIONS, (target,))
    }
    ended = tuple(
        _parse_ended_version(row) for row in connection.execute(_SELECT_ENDED, (target, known["watermark"]))
    )
    snapshot_at = from_optional_text(known["snapshot_at"])
    removals = (
        ()
        if snapshot_at is None
        else _read_recent_removals(connection, target, snapshot_at - _REMOVAL_RECALL)
    )
    throttled = None
    if known["throttled_at"] is not None:
        throttled = ThrottleSpan(from_text(known["throttled_at"]), from_text(known["throttled_until"]))
    restored_at = from_optional_text(known["restored_at"])
    return RecordedTargetState(
        snapshot_at,
        from_optional_text(known["watermark"]),
        automations,
        ended,
        gaps,
        removals,
        throttled,
        restored_at,
    )


def record_throttle(connection: sqlite3.Connection, target: str, span: ThrottleSpan | None) -> None:
    """Record the wait asked for by the API of the target; None: no wait is left."""
    since, until = (None, None) if span is None else (to_text(span.since), to_text(span.until))
    if connection.execute(_THROTTLE, (since, until, target)).rowcount != 1:
        raise Contradiction(f"the target {target!r} was never bound")


_SELECT_TARGET: Final = (
    "SELECT snapshot_at, watermark, throttled_at, throttled_until, restored_at FROM target WHERE name = ?"
)
_THROTTLE: Final = "UPDATE target SET throttled_at = ?, throttled_until = ? WHERE name = ?"


def _read_recent_removals(
    connection: sqlite3.Connection, target: str, since: datetime
) -> tuple[Removal, ...]:
    rows = connection.execute(_SELECT_REMOVALS, (target, to_text(since)))
    return tuple(
        Removal(from_optional_text(added_at), from_text(removed_at)) for added_at, removed_at in rows
    )


_SELECT_AUTOMATIONS: Final = "SELECT * FROM automation WHERE target = ? AND removed_at IS NULL"

_SELECT_REMOVALS: Final = """
    SELECT (
        SELECT observed_at FROM definition
        WHERE target = automation.target AND automation_id = automation.automation_id AND NOT removed
        ORDER BY id LIMIT 1
    ), removed_at FROM automation WHERE target = ? AND removed_at >= ? ORDER BY removed_at, automation_id
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
_SELECT_GAPS: Final = "SELECT since, until, automation_id FROM gap WHERE target = ? ORDER BY since"


def _parse_ended_version(row: sqlite3.Row) -> EndedVersion:
    definition = Definition(row["cron_expression"], row["timezone"], enabled=True)
    version = DefinitionVersion(
        row["automation_id"],
        row["name"],
        definition,
        from_text(row["effective_from"]),
        from_text(row["observed_at"]),
    )
    return EndedVersion(version, from_text(row["until"]))


def _parse_automation(row: sqlite3.Row) -> RecordedAutomation:
    broken = row["cron_expression"] is None
    automation = Automation(
        id=row["automation_id"],
        name=row["name"],
        definition=NO_DEFINITION
        if broken
        else Definition(row["cron_expression"], row["timezone"], bool(row["enabled"])),
        updated_at=from_optional_text(row["updated_at"]),
        run_id=row["run_id"],
        run_at=from_optional_text(row["run_at"]),
        run_status=row["run_status"],
        run_error=row["run_error"],
    )
    why = row["invalid"]
    effective_from, unseen_since = from_text(row["effective_from"]), from_optional_text(row["unseen_since"])
    return RecordedAutomation(
        automation, effective_from, why if broken else None, None if broken else why, unseen_since
    )


# ---------------------------------------------------------------- snapshots

_VERSION: Final = (
    "automation_id, name, cron_expression, timezone, enabled, effective_from, observed_at, invalid, removed"
)

_INSERT_VERSIONS: Final = make_statement(
    _VERSION,
    """
    INSERT INTO definition (target, croniter, tzdata, automation_id, name, cron_expression, timezone, enabled,
        effective_from, observed_at,
        invalid, removed)
    SELECT ?2, ?3, ?4, automation_id, name, cron_expression, timezone, enabled, effective_from, observed_at,
        invalid, removed FROM {given}
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
        timezone = given.timezone, enabled = given.enabled,
        updated_at = given.updated_at, run_id = given.run_id, run_at = given.run_at,
            run_status = given.run_status,
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


@dataclass(frozen=True, slots=True)
class SnapshotUpdate:
    """The changes of a snapshot: definition versions, changed automations, and ids of removed automations.

    ``unseen``: since when automations are not shown; None for automations that are shown again. ``whole`` is
    False for a part that other parts follow. Each part holds all changes of its automations.
    """

    target: str
    at: datetime
    versions: Sequence[DefinitionVersion]
    changed: Sequence[Automation]
    removed: frozenset[str]
    unseen: Mapping[str, datetime | None] = field(default_factory=dict)
    whole: bool = True


def record_snapshot(
    connection: sqlite3.Connection, seen: SnapshotUpdate, evaluated_by: tuple[str, str]
) -> None:
    """Record the changes of a snapshot. Without changes, only the target's row is written.

    The watermark goes back to the earliest ``effective_from``, never forward; the first snapshot sets the
    watermark. When only a part of a snapshot is recorded, the snapshot is not the newest good poll: otherwise
    the changes of the other parts would count from this poll at the earliest. ``evaluated_by``: the versions
    of croniter and of the zone data.
    """
    earliest = min((version.effective_from for version in seen.versions), default=seen.at)
    if connection.execute(_SEE, (to_text(seen.at), to_text(earliest), seen.target, seen.whole)).rowcount != 1:
        raise Contradiction(f"the target {seen.target!r} was never bound")
    if seen.versions:
        rows = pack_rows([_make_version_row(version, seen.removed) for version in seen.versions])
        connection.execute(_INSERT_VERSIONS, (rows, seen.target, *evaluated_by))
        connection.execute(_TAKE_VERSIONS, (rows, seen.target))
    if seen.changed:
        connection.execute(
            _TAKE_CHANGES,
            (pack_rows([_make_automation_row(seen.target, automation) for automation in seen.changed]),),
        )
    if seen.unseen:
        rows = pack_rows(
            [
                (seen.target, automation_id, to_optional_text(since))
                for automation_id, since in seen.unseen.items()
            ]
        )
        connection.execute(_TAKE_UNSEEN, (rows,))
    if seen.removed:
        connection.execute(_REMOVE, (json.dumps(list(seen.removed)), to_text(seen.at), seen.target))


def _make_version_row(version: DefinitionVersion, removed: frozenset[str]) -> tuple[Value, ...]:
    definition = version.definition
    return (
        version.automation_id,
        version.name,
        *(
            (None, None, None)
            if definition is None
            else (definition.cron_expression, definition.timezone, definition.enabled)
        ),
        to_text(version.effective_from),
        to_text(version.observed_at),
        version.invalid,
        version.automation_id in removed,
    )


def _make_automation_row(target: str, automation: Automation) -> tuple[Value, ...]:
    definition = automation.definition
    return (
        target,
        automation.id,
        automation.name,
        definition.cron_expression,
        definition.timezone,
        definition.enabled,
        to_optional_text(automation.updated_at),
        automation.run_id,
        to_optional_text(automation.run_at),
        automation.run_status,
        automation.run_error,
    )


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
    INSERT INTO run (target, run_id, automation_id, origin, status, started_at, finished_at, error, doubles)
    SELECT ?2, run_id, automation_id, origin, status, started_at, finished_at, error, doubles
    FROM {given} WHERE true
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


def record_runs(
    connection: sqlite3.Connection,
    target: str,
    runs: Sequence[tuple[Run, RunOrigin]],
    at: datetime,
    clock_offset: float | None,
) -> RecordedRuns:
    """Record runs and how they ended.

    Return the occurrences of new late doubles and of the ended runs, and names. The recorded origin of a run
    never changes here, and no reading makes an ended run running again.
    """
    foreign = [run for run, origin in runs if origin is RunOrigin.FOREIGN and run.started_at is not None]
    windows = pack_rows([_make_window_row(run, timedelta(seconds=clock_offset or 0.0)) for run in foreign])
    doubles = json.loads(
        connection.execute(_NEW_FOREIGN, (windows, target, clock_offset or 0.0)).fetchone()[0]
    )
    connection.execute(
        _FOLLOW,
        (pack_rows([(*_make_run_row(run, origin, at), doubles.get(run.id)) for run, origin in runs]), target),
    )
    attribute_manual_runs(connection, target, [run for run, origin in runs if origin is RunOrigin.MANUAL])
    ended = pack_rows([(run.id,) for run, _ in runs if run.status is not RunStatus.RUNNING])
    started_by = json.loads(connection.execute(_STARTED_BY, (ended, target)).fetchone()[0])
    automations = pack_rows([(automation_id,) for automation_id in {run.automation_id for run, _ in runs}])
    names = json.loads(connection.execute(_NAMES, (automations, target)).fetchone()[0])
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
    window = (
        earliest,
        latest,
        earliest - max(ahead, nothing) - _CLOCKS_WITHIN,
        latest - min(ahead, nothing) + _CLOCKS_WITHIN,
    )
    return run.id, run.automation_id, *(to_text(attempt) for attempt in window)


def _make_run_row(run: Run, origin: RunOrigin, at: datetime) -> tuple[Value, ...]:
    finished_at = None if run.status is RunStatus.RUNNING else to_text(at)
    return (
        run.id,
        run.automation_id,
        origin,
        run.status,
        to_optional_text(run.started_at),
        finished_at,
        run.error,
    )


def find_run_origin(
    connection: sqlite3.Connection, target: str, run_id: str, automation_id: str, started_at: datetime | None
) -> RunOrigin | None:
    """Return the recorded origin of a run, or manual when the run fits a manual run; None when unknown."""
    known = connection.execute(
        "SELECT origin FROM run WHERE target = ? AND run_id = ?", (target, run_id)
    ).fetchone()
    if known is not None:
        return RunOrigin(known["origin"])
    return (
        None
        if find_manual_run(connection, target, automation_id, run_id, started_at) is None
        else RunOrigin.MANUAL
    )


_SELECT_NEWEST_RUNS: Final = """
    SELECT run_id, automation_id, status, error, max(coalesce(started_at, '')) AS started_at FROM (
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
    return [
        Run(
            row["run_id"],
            row["automation_id"],
            from_optional_text(row["started_at"] or None),
            RunStatus(row["status"]),
            row["error"],
        )
        for row in connection.execute(_SELECT_NEWEST_RUNS, (target,))
    ]
