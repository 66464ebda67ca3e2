"""The tables of the embedded API's database, as migrations.

Times are ISO 8601 text in UTC with microseconds, as everywhere. A run keeps the name, repository and prompt
from the time of acceptance: a later edit or deletion does not change the run. For the same reason, no foreign
key binds a run.
"""

from pathlib import Path
from typing import Final

from scheduler.database import Database, Migration, Schema
from scheduler.database.database import OnCommit, OnFault, ignore

APPLICATION_ID: Final = 0x74736B61  # "tska", in the header of the file, for `file` and for this program

# Create all tables.
_FIRST_TABLES: Final = (
    """
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        sha256 TEXT NOT NULL,
        project_id INTEGER NOT NULL,
        scopes TEXT NOT NULL,  -- separated by blanks
        created_at TEXT NOT NULL,
        revoked_at TEXT
    ) STRICT
    """,
    """
    CREATE TABLE automations (
        id TEXT PRIMARY KEY,
        project_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        prompt TEXT NOT NULL,
        repository TEXT NOT NULL,
        github_integration INTEGER,
        cron_expression TEXT NOT NULL,
        timezone TEXT NOT NULL,
        template_id TEXT,
        enabled INTEGER NOT NULL,
        last_run_at TEXT,
        last_run_status TEXT CHECK (last_run_status IN ('running', 'success', 'failed')),
        last_task_id TEXT NOT NULL,
        last_task_run_id TEXT,
        last_error TEXT,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX automations_in_order ON automations (project_id, name, created_at DESC, id)",
    # Every page shows the count of all automations, and counting a hundred thousand takes longer than the
    # page.
    """
    CREATE TABLE project_sizes (
        project_id INTEGER PRIMARY KEY,
        automations INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TRIGGER automation_created AFTER INSERT ON automations BEGIN
        INSERT INTO project_sizes VALUES (new.project_id, 1) ON CONFLICT
        DO UPDATE SET automations = automations + 1;
    END
    """,
    """
    CREATE TRIGGER automation_deleted AFTER DELETE ON automations BEGIN
        UPDATE project_sizes SET automations = automations - 1 WHERE project_id = old.project_id;
    END
    """,
    """
    CREATE TABLE runs (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order in which they were accepted
        id TEXT NOT NULL UNIQUE,
        automation_id TEXT NOT NULL,
        project_id INTEGER NOT NULL,
        task_id TEXT NOT NULL,
        name TEXT NOT NULL,
        repository TEXT NOT NULL,
        prompt TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'success', 'failed')),
        created_at TEXT NOT NULL,
        started_at TEXT,
        finished_at TEXT,
        command TEXT,  -- JSON, the argv
        exit_status INTEGER,  -- negative: the number of the signal that ended it
        error TEXT
    ) STRICT
    """,
    "CREATE INDEX runs_of_automation ON runs (automation_id, sequence)",
    "CREATE INDEX runs_unfinished ON runs (status, sequence) WHERE status IN ('queued', 'running')",
    """
    CREATE TABLE idempotent_answers (
        key_id TEXT NOT NULL,
        automation_id TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        status INTEGER NOT NULL,
        body TEXT NOT NULL,
        created_at TEXT NOT NULL,
        PRIMARY KEY (key_id, automation_id, idempotency_key)
    ) STRICT
    """,
    "CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_at)",
)

# Add cancellations of runs, by any process with the file open, and the last use of keys.
_CANCELLING_AND_USE: Final = (
    "ALTER TABLE runs ADD COLUMN cancelled_at TEXT",
    (
        "CREATE INDEX runs_cancelled ON runs (cancelled_at) WHERE cancelled_at IS NOT NULL AND "
        "status IN ('queued', 'running')"
    ),
    "ALTER TABLE keys ADD COLUMN last_used_at TEXT",
)

# Add a version to the order of each project's automations, changed by insert, delete and rename.
_VERSION_OF_THE_ORDER: Final = (
    "ALTER TABLE project_sizes ADD COLUMN version INTEGER NOT NULL DEFAULT 0",
    "DROP TRIGGER automation_created",
    """
    CREATE TRIGGER automation_created AFTER INSERT ON automations BEGIN
        INSERT INTO project_sizes (project_id, automations) VALUES (new.project_id, 1)
        ON CONFLICT DO UPDATE SET automations = automations + 1, version = version + 1;
    END
    """,
    "DROP TRIGGER automation_deleted",
    """
    CREATE TRIGGER automation_deleted AFTER DELETE ON automations BEGIN
        UPDATE project_sizes SET automations = automations - 1, version = version + 1
        WHERE project_id = old.project_id;
    END
    """,
    """
    CREATE TRIGGER automation_renamed AFTER UPDATE OF name ON automations WHEN new.name != old.name BEGIN
        UPDATE project_sizes SET version = version + 1 WHERE project_id = new.project_id;
    END
    """,
)

# Store answers by project instead of by key. A client that repeats a request after a rotation gets the
# first answer. Several keys of a project may have left an answer to the same request. The earliest answer
# stays, among the answers that can still be given: an answer is given for seven days.
_ANSWERS_BY_PROJECT: Final = (
    """
    CREATE TABLE answers_by_project (
        project_id INTEGER NOT NULL,
        automation_id TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        status INTEGER NOT NULL,
        body TEXT NOT NULL,
        created_at TEXT NOT NULL,
        PRIMARY KEY (project_id, automation_id, idempotency_key)
    ) STRICT
    """,
    """
    INSERT OR IGNORE INTO answers_by_project
    SELECT project_id, automation_id, idempotency_key, status, body, created_at FROM (
        SELECT
            keys.project_id, automation_id, idempotency_key, status, body, answers.created_at,
            max(answers.created_at) OVER (PARTITION BY keys.project_id, automation_id,
                idempotency_key) AS newest
        FROM idempotent_answers AS answers JOIN keys ON keys.id = answers.key_id
    )
    WHERE created_at > strftime('%Y-%m-%dT%H:%M:%f000Z', newest, '-7 days')
    ORDER BY created_at
    """,
    "DROP TABLE idempotent_answers",
    "ALTER TABLE answers_by_project RENAME TO idempotent_answers",
    "CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_at)",
)

# Add an index for each query of the queue, so that no query reads ended runs.
_RUNS_THAT_WAIT: Final = (
    "DROP INDEX runs_unfinished",
    "DROP INDEX runs_cancelled",
    "CREATE INDEX runs_waiting ON runs (sequence) WHERE status = 'queued' AND cancelled_at IS NULL",
    (
        "CREATE INDEX runs_cancelled_early ON runs (sequence) WHERE status = 'queued' AND "
        "cancelled_at IS NOT NULL"
    ),
    "CREATE INDEX runs_running ON runs (sequence) WHERE status = 'running'",
)

# Keep a request to end many waiting runs as a single row, and find the waiting runs of an automation.
_CANCELLATIONS_OF_MANY: Final = (
    """
    CREATE TABLE cancellations (
        id INTEGER PRIMARY KEY,
        automation_id TEXT,  -- NULL: the runs of all automations
        up_to INTEGER NOT NULL,  -- the sequence of the last run that is concerned
        cause TEXT NOT NULL CHECK (cause IN ('cancelled', 'deleted')),
        requested_at TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE INDEX runs_waiting_of_automation ON runs (automation_id, sequence)
    WHERE status = 'queued' AND cancelled_at IS NULL
    """,
)

# Keep each prompt once, for all runs and answers with this prompt. Existing runs keep the text for now:
# moving gigabytes takes long. `prompts.move_run_prompts` moves the texts slice by slice, while the server
# serves. Existing answers keep the text: the answers are gone a week later.
_PROMPTS_ONCE: Final = (
    """
    CREATE TABLE prompts (
        id INTEGER PRIMARY KEY,
        sha256 BLOB NOT NULL UNIQUE,
        text TEXT NOT NULL
    ) STRICT
    """,
    "ALTER TABLE runs ADD COLUMN prompt_id INTEGER",  # NULL: `prompt` has the text
    "ALTER TABLE idempotent_answers ADD COLUMN prompt_id INTEGER",  # NULL: `body` has the text
    "CREATE INDEX runs_by_prompt ON runs (prompt_id) WHERE prompt_id IS NOT NULL",
    "CREATE INDEX runs_with_own_prompt ON runs (sequence) WHERE prompt_id IS NULL",
    "CREATE INDEX answers_by_prompt ON idempotent_answers (prompt_id) WHERE prompt_id IS NOT NULL",
)

MIGRATIONS: Final = (
    Migration("m001_first_tables", _FIRST_TABLES),
    Migration("m002_cancelling_and_use", _CANCELLING_AND_USE),
    Migration("m003_version_of_the_order", _VERSION_OF_THE_ORDER),
    Migration("m004_answers_by_project", _ANSWERS_BY_PROJECT),
    Migration("m005_runs_that_wait", _RUNS_THAT_WAIT),
    Migration("m006_cancellations_of_many", _CANCELLATIONS_OF_MANY),
    Migration("m007_prompts_once", _PROMPTS_ONCE),
)
SCHEMA: Final = Schema(APPLICATION_ID, MIGRATIONS, name="database of the embedded API", member="api.db")


def open_database(path: Path, on_commit: OnCommit = ignore, on_fault: OnFault = ignore) -> Database:
    """Open the embedded API's database, and create or update the tables. Blocks; raises `DatabaseRefused`.

    ``on_commit`` and ``on_fault`` are passed to `Database`.
    """
    return Database(path, SCHEMA, on_commit, on_fault)
