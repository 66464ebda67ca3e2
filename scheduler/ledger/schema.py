"""The ledger's tables, for people with the sqlite3 shell and for the code: `.schema` also shows the comments.

Instants are text in UTC that sorts by time. A released migration never changes; each later change is a new
migration. `docs/ledger.md` explains every column.
"""

import sqlite3
from pathlib import Path
from typing import Final

from scheduler import database
from scheduler.database import Database, Migration, Schema
from scheduler.database.database import OnCommit, ignore

APPLICATION_ID: Final = int.from_bytes(b"TASL")
"""Stands in the header of the file, where `file` shows it: a task automation scheduler's ledger."""

_FIRST: Final = (
    """
    CREATE TABLE target (
        name TEXT PRIMARY KEY,
        url TEXT NOT NULL,           -- lower-case host, no trailing slash
        project_id TEXT NOT NULL,
        snapshot_at TEXT,            -- the newest good poll
        watermark TEXT,              -- every occurrence up to here has a row
        UNIQUE (url, project_id)
    ) STRICT
    """,
    """
    CREATE TABLE automation (        -- as the newest snapshot showed it
        target TEXT NOT NULL REFERENCES target (name) ON UPDATE CASCADE,
        automation_id TEXT NOT NULL,
        name TEXT NOT NULL,
        cron_expression TEXT,        -- these three are NULL when the API's object is broken
        timezone TEXT,
        enabled INTEGER CHECK (enabled IN (0, 1)),
        effective_from TEXT NOT NULL,
        invalid TEXT,                -- why it cannot be evaluated
        updated_at TEXT,             -- the API's own
        run_id TEXT,                 -- the newest run
        run_at TEXT,
        run_status TEXT,
        run_error TEXT,
        removed_at TEXT,
        PRIMARY KEY (target, automation_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE definition (        -- every version that an automation has had
        id INTEGER PRIMARY KEY,
        target TEXT NOT NULL REFERENCES target (name) ON UPDATE CASCADE,
        automation_id TEXT NOT NULL,
        name TEXT NOT NULL,
        cron_expression TEXT,        -- NULL when it was removed or broken
        timezone TEXT,
        enabled INTEGER CHECK (enabled IN (0, 1)),
        effective_from TEXT NOT NULL,
        observed_at TEXT NOT NULL,   -- until then the version before was still fired
        invalid TEXT,
        removed INTEGER NOT NULL CHECK (removed IN (0, 1)),
        croniter TEXT NOT NULL,
        tzdata TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX definition_by_automation ON definition (target, automation_id, id)",
    """
    CREATE TABLE evaluation (        -- what schedules were evaluated with, from when on
        id INTEGER PRIMARY KEY,
        since TEXT NOT NULL,
        croniter TEXT NOT NULL,
        tzdata TEXT NOT NULL,
        dst_gap TEXT NOT NULL,
        dst_repeat TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE occurrence (
        id INTEGER PRIMARY KEY,
        target TEXT NOT NULL REFERENCES target (name) ON UPDATE CASCADE,
        automation_id TEXT NOT NULL,
        scheduled_for TEXT NOT NULL CHECK (length(scheduled_for) = 20),
        last TEXT NOT NULL CHECK (length(last) = 20),   -- of a span; otherwise as scheduled_for
        count INTEGER NOT NULL DEFAULT 1 CHECK (count >= 1),
        name TEXT NOT NULL,          -- as it was then
        due TEXT NOT NULL,
        deadline TEXT,               -- not started after this
        state TEXT CHECK (state IN ('claimed', 'in_flight', 'unknown', 'waiting')),
        outcome TEXT,
        reason TEXT,
        claimed_at TEXT,
        sent_at TEXT,                -- first byte of the attempt that counts
        finished_at TEXT,
        lateness_seconds REAL,       -- from due to sent_at
        attempts INTEGER NOT NULL DEFAULT 0,
        task_run_id TEXT,
        error TEXT,
        node TEXT NOT NULL,
        UNIQUE (scheduled_for, automation_id, target),
        CHECK ((state IS NULL) <> (outcome IS NULL)),
        CHECK ((outcome IS NULL) = (reason IS NULL)),
        CHECK ((count = 1) = (last = scheduled_for)),
        CHECK (last >= scheduled_for),
        CHECK (CASE outcome
            WHEN 'accepted' THEN reason IN ('answered', 'found', 'manual')
            WHEN 'rejected' THEN reason IN ('refused')
            WHEN 'skipped' THEN reason IN ('overlap', 'missed', 'coalesced', 'deleted', 'paused')
            WHEN 'expired' THEN reason IN ('not_started')
            WHEN 'unresolved' THEN reason IN ('unreadable', 'covered', 'gone')
            ELSE outcome IS NULL
        END)
    ) STRICT
    """,
    "CREATE INDEX occurrence_open ON occurrence (target, due) WHERE outcome IS NULL",
    "CREATE INDEX occurrence_spans ON occurrence (target, automation_id, last) WHERE count > 1",
    """
    CREATE TABLE attempt (           -- one POST, durable before its first byte
        occurrence_id INTEGER NOT NULL REFERENCES occurrence (id) ON DELETE CASCADE,
        number INTEGER NOT NULL CHECK (number >= 1),
        written_at TEXT NOT NULL,
        baseline TEXT,               -- the newest run known when it was written
        sent_at TEXT,
        ended_at TEXT,               -- NULL: open, or nobody saw its end
        result TEXT CHECK (result IN ('answered', 'not_sent', 'throttled', 'unknown', 'refused', 'held')),
        http_status INTEGER,
        error TEXT,
        PRIMARY KEY (occurrence_id, number),
        CHECK (ended_at IS NULL OR result IS NOT NULL)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX attempt_unknown ON attempt (written_at) WHERE result = 'unknown'",
    """
    CREATE TABLE run (               -- what the API started, whoever asked for it
        target TEXT NOT NULL REFERENCES target (name) ON UPDATE CASCADE,
        run_id TEXT NOT NULL,
        automation_id TEXT NOT NULL,
        occurrence_id INTEGER UNIQUE REFERENCES occurrence (id) ON DELETE SET NULL,
        origin TEXT NOT NULL CHECK (origin IN ('occurrence', 'manual', 'foreign', 'before')),
        status TEXT NOT NULL CHECK (status IN ('running', 'success', 'failed', 'superseded', 'lost')),
        started_at TEXT,             -- on the API's clock
        finished_at TEXT,            -- when its end was seen
        error TEXT,
        doubles TEXT,                -- scheduled_for of the occurrence whose attempt it most likely is
        PRIMARY KEY (target, run_id)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX run_alone ON run (finished_at) WHERE occurrence_id IS NULL",
    "CREATE INDEX run_running ON run (target, automation_id) WHERE status = 'running'",
    """
    CREATE TABLE manual_run (        -- written by `scheduler automations run` before its request
        id INTEGER PRIMARY KEY,
        target TEXT NOT NULL REFERENCES target (name) ON UPDATE CASCADE,
        automation_id TEXT NOT NULL,
        requested_at TEXT NOT NULL,
        answered_at TEXT,            -- NULL: it may have started a run that nobody has told of
        run_id TEXT,
        error TEXT
    ) STRICT
    """,
    "CREATE INDEX manual_run_by_automation ON manual_run (target, automation_id)",
    """
    CREATE TABLE pause (
        target TEXT NOT NULL REFERENCES target (name) ON UPDATE CASCADE,
        automation_id TEXT NOT NULL, -- * for all
        since TEXT NOT NULL,
        "by" TEXT NOT NULL,
        PRIMARY KEY (target, automation_id)
    ) STRICT, WITHOUT ROWID
    """,
)


_STEP: Final = """
    CREATE TABLE step (              -- what the attempts of an occurrence do not tell
        occurrence_id INTEGER NOT NULL REFERENCES occurrence (id) ON DELETE CASCADE,
        at TEXT NOT NULL,
        cause TEXT NOT NULL CHECK (cause IN ('absent', 'ledger', 'unconfirmed', 'stale', 'clock', 'held',
            'throttled', 'back_off',
            'budget', 'reading', 'queued', 'turn', 'adopted', 'nothing_started', 'reopened')),
        until TEXT,                  -- NULL for what happened at one instant
        detail TEXT,
        "by" TEXT,                   -- whoever asked for it
        PRIMARY KEY (occurrence_id, at, cause)
    ) STRICT, WITHOUT ROWID
    """

_SECOND: Final = (
    # a comment in the statement would hide the text that SQLite appends
    "ALTER TABLE attempt ADD COLUMN clock_offset REAL",
    "ALTER TABLE occurrence ADD COLUMN intervals TEXT",
    """
    CREATE TABLE policy (            -- what [schedule] and [[override]] said, from when on
        id INTEGER PRIMARY KEY,
        since TEXT NOT NULL,
        schedule TEXT NOT NULL CHECK (json_valid(schedule)),
        overrides TEXT NOT NULL CHECK (json_valid(overrides))  -- a list: the first that matches counts
    ) STRICT
    """,
    """
    CREATE TABLE past_pause (        -- pauses that were ended
        id INTEGER PRIMARY KEY,
        target TEXT NOT NULL REFERENCES target (name) ON UPDATE CASCADE,
        automation_id TEXT NOT NULL, -- * for all
        since TEXT NOT NULL,
        "by" TEXT NOT NULL,
        until TEXT NOT NULL,
        ended_by TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX past_pause_by_automation ON past_pause (target, automation_id, until)",
    _STEP,
    """
    CREATE TABLE fire_request (      -- written by `scheduler fire`, and gone when it has been taken up
        target TEXT NOT NULL REFERENCES target (name) ON UPDATE CASCADE,
        automation_id TEXT NOT NULL,
        scheduled_for TEXT NOT NULL CHECK (length(scheduled_for) = 20),
        requested_at TEXT NOT NULL,
        "by" TEXT NOT NULL,
        span TEXT,                   -- the first instant of a span that does not know its intervals
        intervals TEXT,              -- which these are
        refused TEXT,                -- why the daemon would not
        PRIMARY KEY (target, automation_id, scheduled_for)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE pruned (            -- one row, once anything was removed because of its age
        id INTEGER PRIMARY KEY CHECK (id = 1),
        before TEXT NOT NULL
    ) STRICT
    """,
    "ALTER TABLE occurrence ADD COLUMN asked_at TEXT",  # the time of the request for a backfill
    "CREATE INDEX run_doubles ON run (target, doubles) WHERE doubles IS NOT NULL",
    # The version before did not note which old rows it removed: occurrences before the oldest row must not
    # count as missing.
    """
    INSERT INTO pruned (id, before)
    SELECT 1, substr(min(scheduled_for), 1, 19) || '.000000Z' FROM occurrence
    HAVING min(scheduled_for) IS NOT NULL
    """,
)


_GAPS_AND_INDEXES: Final = (
    # The version of the scheduler's own rules by which expressions were read: until now always the first
    # version.
    "ALTER TABLE evaluation ADD COLUMN rules_version INTEGER NOT NULL DEFAULT 1",
    # Indexes for the look-ups that read all rows of a target. The new column has a value only where the
    # result is 'unknown', for the index below.
    "ALTER TABLE attempt ADD COLUMN automation_id TEXT",
    """
    UPDATE attempt SET automation_id = (SELECT occurrence.automation_id FROM occurrence
        WHERE occurrence.id = attempt.occurrence_id)
    WHERE result = 'unknown'
    """,
    "DROP INDEX attempt_unknown",
    "CREATE INDEX attempt_unknown_of ON attempt (automation_id, written_at) WHERE result = 'unknown'",
    "DROP INDEX manual_run_by_automation",
    "CREATE INDEX manual_run_by_run ON manual_run (target, run_id) WHERE run_id IS NOT NULL",
    """
    CREATE INDEX manual_run_unanswered ON manual_run (target, automation_id, requested_at)
    WHERE run_id IS NULL AND answered_at IS NULL
    """,
    "CREATE INDEX definition_by_effect ON definition (effective_from)",
    "CREATE INDEX occurrence_span_ends ON occurrence (last) WHERE count > 1",
    "CREATE INDEX fire_request_waiting ON fire_request (target, requested_at) WHERE refused IS NULL",
    # of a span without intervals: the definition version of the span
    "ALTER TABLE occurrence ADD COLUMN definition_id INTEGER",
    "ALTER TABLE occurrence ADD COLUMN evaluation_id INTEGER",  # how the definition version was evaluated
    """
    CREATE TABLE gap (               -- below the watermark, and not decided yet
        target TEXT NOT NULL REFERENCES target (name) ON UPDATE CASCADE,
        since TEXT NOT NULL,
        until TEXT NOT NULL,
        automation_id TEXT NOT NULL, -- the first in the order of ids of which anything is undecided
        PRIMARY KEY (target, since),
        CHECK (until > since)
    ) STRICT, WITHOUT ROWID
    """,
    # SQLite cannot change a CHECK. So the table is created again with one more cause: `in_flight`.
    "ALTER TABLE step RENAME TO step_before",
    _STEP.replace("'reading'", "'in_flight', 'reading'"),
    'INSERT INTO step SELECT occurrence_id, at, cause, until, detail, "by" FROM step_before',
    "DROP TABLE step_before",
    # A start reads these values for each automation, and must not read the whole history. Triggers keep the
    # values, because outcomes and runs are written in several places, and an additional statement for each
    # group would need Python's global lock once more.
    "ALTER TABLE automation ADD COLUMN accepted_at TEXT",
    "ALTER TABLE automation ADD COLUMN succeeded_at TEXT",
    """
    UPDATE automation SET accepted_at = last.at FROM (
        SELECT target, automation_id, max(coalesce(sent_at, finished_at)) AS at FROM occurrence
        WHERE outcome = 'accepted' GROUP BY target, automation_id
    ) AS last WHERE automation.target = last.target AND automation.automation_id = last.automation_id
    """,
    """
    UPDATE automation SET succeeded_at = last.at FROM (
        SELECT target, automation_id, max(finished_at) AS at FROM run WHERE status = 'success'
        GROUP BY target, automation_id
    ) AS last WHERE automation.target = last.target AND automation.automation_id = last.automation_id
    """,
    """
    CREATE TRIGGER occurrence_accepted AFTER UPDATE OF outcome ON occurrence
    WHEN new.outcome = 'accepted' BEGIN
        UPDATE automation SET accepted_at = coalesce(
            max(accepted_at, coalesce(new.sent_at, new.finished_at)), new.sent_at,
                new.finished_at, accepted_at
        ) WHERE target = new.target AND automation_id = new.automation_id;
    END
    """,
    """
    CREATE TRIGGER run_had_succeeded AFTER INSERT ON run WHEN new.status = 'success' BEGIN
        UPDATE automation SET succeeded_at = coalesce(max(succeeded_at, new.finished_at),
            new.finished_at, succeeded_at)
        WHERE target = new.target AND automation_id = new.automation_id;
    END
    """,
    """
    CREATE TRIGGER run_succeeded AFTER UPDATE OF status ON run WHEN new.status = 'success' BEGIN
        UPDATE automation SET succeeded_at = coalesce(max(succeeded_at, new.finished_at),
            new.finished_at, succeeded_at)
        WHERE target = new.target AND automation_id = new.automation_id;
    END
    """,
)


_UNSEEN_SINCE: Final = (
    "ALTER TABLE automation ADD COLUMN unseen_since TEXT",  # NULL: in the newest snapshot
    "CREATE INDEX definition_by_schedule ON definition (target, automation_id, cron_expression, timezone)",
)


_UNATTRIBUTED_RUNS: Final = (
    """
    CREATE TABLE unattributed_run (
        -- a run that was shown during an attempt or an unknown attempt of its automation, not attributed yet
        target TEXT NOT NULL REFERENCES target (name) ON UPDATE CASCADE,
        run_id TEXT NOT NULL,
        automation_id TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('running', 'success', 'failed')),
        started_at TEXT,             -- on the API's clock
        error TEXT,
        PRIMARY KEY (target, run_id)
    ) STRICT, WITHOUT ROWID
""",
)


# The newest finished run of an automation is the last to begin among the runs with a known end. The end of a
# superseded run is not known. A run from before the daemon ended between its beginning and the first
# snapshot.
_KEEP_FINISHED_RUN: Final = """
    UPDATE automation SET
        failures = CASE WHEN new.status = 'success' THEN 0
        WHEN finished_run_id IS new.run_id THEN max(failures, 1) ELSE failures + 1 END,
        finished_run_id = new.run_id,
        finished_at = coalesce(iif(new.origin = 'before', new.started_at, new.finished_at), new.finished_at,
            new.started_at)
    WHERE target = new.target AND automation_id = new.automation_id
        AND coalesce(new.finished_at, new.started_at) IS NOT NULL
    AND NOT EXISTS (
        SELECT 1 FROM run
        WHERE run.target = new.target AND run.run_id = automation.finished_run_id
            AND run.started_at > new.started_at
    )
"""
_FINISHED_RUNS: Final = (
    "ALTER TABLE automation ADD COLUMN finished_run_id TEXT",
    "ALTER TABLE automation ADD COLUMN finished_at TEXT",
    "ALTER TABLE automation ADD COLUMN failures INTEGER NOT NULL DEFAULT 0",
    """
    UPDATE automation SET finished_run_id = newest.run_id, finished_at = newest.finished_at,
        failures = newest.failures FROM (
        SELECT target, automation_id, max(run_id) FILTER (WHERE number = 1) AS run_id,
            max(coalesce(iif(origin = 'before', started_at, finished_at), finished_at, started_at))
                FILTER (WHERE number = 1)
                AS finished_at,
            coalesce(min(number) FILTER (WHERE status = 'success') - 1, count(*)) AS failures
        FROM (
            SELECT *, row_number() OVER (
                PARTITION BY target, automation_id
                ORDER BY coalesce(started_at, finished_at) DESC, finished_at DESC, run_id
            ) AS number FROM run
            WHERE status IN ('success', 'failed', 'lost') AND coalesce(finished_at, started_at) IS NOT NULL
        ) GROUP BY target, automation_id
    ) AS newest WHERE automation.target = newest.target AND automation.automation_id = newest.automation_id
    """,
    f"""
    CREATE TRIGGER run_had_finished AFTER INSERT ON run WHEN new.status IN ('success', 'failed', 'lost') BEGIN
        {_KEEP_FINISHED_RUN};
    END
    """,
    f"""
    CREATE TRIGGER run_finished AFTER UPDATE OF status ON run
    WHEN new.status IN ('success', 'failed', 'lost') BEGIN
        {_KEEP_FINISHED_RUN};
    END
    """,
    "CREATE INDEX automation_failing ON automation (finished_at) WHERE failures > 0 AND removed_at IS NULL",
    "CREATE INDEX run_failed ON run (finished_at) WHERE status IN ('failed', 'lost')",
)


_THROTTLE: Final = (
    # when the API asked to send nothing; NULL: no wait is known
    "ALTER TABLE target ADD COLUMN throttled_at TEXT",
    "ALTER TABLE target ADD COLUMN throttled_until TEXT",  # the end of the wait
)


# NULL: never, or nothing was fired since the backup
_RESTORED_AT: Final = ("ALTER TABLE target ADD COLUMN restored_at TEXT",)


# Most runs succeed: the index holds only the other runs, and stays small.
_RUNS_BY_STATUS: Final = (
    # of the run's occurrence, also when the occurrence was removed
    "ALTER TABLE run ADD COLUMN scheduled_for TEXT",
    """
    UPDATE run SET scheduled_for = (SELECT occurrence.scheduled_for FROM occurrence
        WHERE occurrence.id = run.occurrence_id)
    WHERE occurrence_id IS NOT NULL
    """,
    """
    CREATE INDEX run_not_successful ON run (status, scheduled_for, automation_id)
    WHERE occurrence_id IS NOT NULL AND status <> 'success'
    """,
)


# Any outcome and any status may be rare: all runs may fail, or all occurrences may be paused. Instants
# increase, so new entries of an index share the last pages of their outcome.
_HISTORY_BY_OUTCOME: Final = (
    (
        "CREATE INDEX occurrence_by_outcome ON occurrence (outcome, scheduled_for, automation_id) WHERE "
        "outcome IS NOT NULL"
    ),
    "DROP INDEX run_not_successful",
    (
        "CREATE INDEX run_by_status ON run (status, scheduled_for, automation_id) WHERE occurrence_id "
        "IS NOT NULL"
    ),
)


# NULL: recorded by a version without this column
_ORDER_OF_DEFINITIONS: Final = ("ALTER TABLE definition ADD COLUMN newest_occurrence INTEGER",)


MIGRATIONS: Final = (
    # Create the tables of targets, automations, definitions, occurrences, attempts, runs and requests.
    Migration("create_tables", _FIRST),
    # Add tables for `scheduler why`, `audit` and `fire`: settings, past pauses, steps, requests.
    Migration("add_explanations", _SECOND),
    # Add the version of the expression rules, gaps, last times, and indexes for large installations.
    Migration("add_gaps_and_indexes", _GAPS_AND_INDEXES),
    # Add the time since when an automation is not shown, and an index for the definition version of a span.
    # When a damaged list left an automation out, an edit of the automation counts from this time, also after
    # a restart. The definition version of a span may be an old version among many.
    Migration("add_unseen_since", _UNSEEN_SINCE),
    # Add the runs of unknown origin. A restart does not forget these runs, although newer runs may hide them
    # by then.
    Migration("add_unattributed_runs", _UNATTRIBUTED_RUNS),
    # Add the newest finished run of each automation, and how many runs failed in a row up to that run.
    Migration("add_finished_runs", _FINISHED_RUNS),
    # Add the wait asked for by the API of a target: a restart does not end the wait.
    Migration("add_throttle", _THROTTLE),
    # Add when the ledger was restored from a backup: runs since the backup do not count as foreign.
    Migration("add_restored_at", _RESTORED_AT),
    # Add an index to find the newest occurrences with failed runs, however rare.
    Migration("add_run_status_index", _RUNS_BY_STATUS),
    # Add indexes to find the newest occurrences with an outcome or a run status, however rare.
    Migration("add_outcome_index", _HISTORY_BY_OUTCOME),
    # Add the order of definition versions and occurrences: an audit needs the order after a clock was set.
    Migration("add_definition_order", _ORDER_OF_DEFINITIONS),
)
SCHEMA: Final = Schema(APPLICATION_ID, MIGRATIONS, name="ledger", member="ledger.db")


def open_ledger(path: Path, *, on_commit: OnCommit = ignore) -> Database:
    """Open the ledger's file; create or migrate the file where needed. See `Database`."""
    return Database(path, SCHEMA, on_commit)


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the ledger for commands that change nothing; see `scheduler.database.open_for_reading`."""
    return database.open_for_reading(path, SCHEMA)
