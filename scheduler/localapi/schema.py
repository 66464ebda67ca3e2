"""The tables of the embedded API's database, as the migrations that make them.

Times are ISO 8601 text in UTC with microseconds, as everywhere. A run keeps the name, repository and prompt with which it was
accepted: an edit or a deletion afterwards does not change what was asked for. That is also why no foreign key binds it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from scheduler.core.errors import LedgerUnavailable
from scheduler.database import Database, Migration, Tables

APPLICATION_ID: Final = 0x74736B61  # "tska", in the header of the file: what `file` and we know it by

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
    """
    CREATE INDEX automations_in_order ON automations (project_id, name, created_at DESC, id)
    """,
    # Every page names the count of all, and counting a hundred thousand takes longer than the page.
    """
    CREATE TABLE project_sizes (
        project_id INTEGER PRIMARY KEY,
        automations INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TRIGGER automation_created AFTER INSERT ON automations BEGIN
        INSERT INTO project_sizes VALUES (new.project_id, 1) ON CONFLICT DO UPDATE SET automations = automations + 1;
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
    """
    CREATE INDEX runs_of_automation ON runs (automation_id, sequence)
    """,
    """
    CREATE INDEX runs_unfinished ON runs (status, sequence) WHERE status IN ('queued', 'running')
    """,
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
    """
    CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_at)
    """,
)


def open_database(
    path: Path, *, on_commit: Callable[[float], None] | None = None, on_fault: Callable[[LedgerUnavailable], None] | None = None
) -> Database:
    """Open the embedded API's database, and make or bring up to date its tables. Blocks; raises `DatabaseRefused`.

    ``on_commit`` and ``on_fault`` are those of `Database.open`.
    """
    return Database.open(
        path,
        application_id=APPLICATION_ID,
        migrations=MIGRATIONS,
        on_commit=on_commit,
        on_fault=on_fault,
    )


def m001_first_tables(tables: Tables) -> None:
    """Make all tables."""
    for statement in _FIRST_TABLES:
        tables.execute(statement)


def m002_cancelling_and_use(tables: Tables) -> None:
    """Runs can be cancelled, by whatever process has the file open; keys know when they were last used."""
    tables.execute("ALTER TABLE runs ADD COLUMN cancelled_at TEXT")
    tables.execute("CREATE INDEX runs_cancelled ON runs (cancelled_at) WHERE cancelled_at IS NOT NULL AND status IN ('queued', 'running')")
    tables.execute("ALTER TABLE keys ADD COLUMN last_used_at TEXT")


def m003_version_of_the_order(tables: Tables) -> None:
    """Each project's order of automations has a number that changes with it: what comes, goes or is renamed."""
    for statement in (
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
            UPDATE project_sizes SET automations = automations - 1, version = version + 1 WHERE project_id = old.project_id;
        END
        """,
        """
        CREATE TRIGGER automation_renamed AFTER UPDATE OF name ON automations WHEN new.name != old.name BEGIN
            UPDATE project_sizes SET version = version + 1 WHERE project_id = new.project_id;
        END
        """,
    ):
        tables.execute(statement)


def m004_answers_by_project(tables: Tables) -> None:
    """Store answers by project instead of by key, so that a client which repeats a request after a rotation gets the first answer.

    Several keys of one project may have left an answer to one request. The earliest stays, of those that can still be given: an
    answer is given for seven days.
    """
    for statement in (
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
                max(answers.created_at) OVER (PARTITION BY keys.project_id, automation_id, idempotency_key) AS newest
            FROM idempotent_answers AS answers JOIN keys ON keys.id = answers.key_id
        )
        WHERE created_at > strftime('%Y-%m-%dT%H:%M:%f000Z', newest, '-7 days')
        ORDER BY created_at
        """,
        "DROP TABLE idempotent_answers",
        "ALTER TABLE answers_by_project RENAME TO idempotent_answers",
        "CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_at)",
    ):
        tables.execute(statement)


def m005_runs_that_wait(tables: Tables) -> None:
    """Each look at the queue has an index of the runs that it looks for, however many have ended."""
    for statement in (
        "DROP INDEX runs_unfinished",
        "DROP INDEX runs_cancelled",
        "CREATE INDEX runs_waiting ON runs (sequence) WHERE status = 'queued' AND cancelled_at IS NULL",
        "CREATE INDEX runs_cancelled_early ON runs (sequence) WHERE status = 'queued' AND cancelled_at IS NOT NULL",
        "CREATE INDEX runs_running ON runs (sequence) WHERE status = 'running'",
    ):
        tables.execute(statement)


def m006_cancellations_of_many(tables: Tables) -> None:
    """Keep a request to end many runs that wait as one row, and find the runs of one automation that wait."""
    for statement in (
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
    ):
        tables.execute(statement)


def m007_prompts_once(tables: Tables) -> None:
    """Keep each prompt once, for all runs and answers that have it.

    The runs that are there keep theirs for now: to move gigabytes takes long. `prompts.move_run_prompts` does
    so slice by slice, once the server
    serves. The answers that are there keep theirs: a week later they are gone.
    """
    for statement in (
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
    ):
        tables.execute(statement)


MIGRATIONS: Final[tuple[Migration, ...]] = (
    m001_first_tables,
    m002_cancelling_and_use,
    m003_version_of_the_order,
    m004_answers_by_project,
    m005_runs_that_wait,
    m006_cancellations_of_many,
    m007_prompts_once,
)
