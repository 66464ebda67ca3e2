"""The automations in the database, and the single write that accepts a run.

The module `runs` takes accepted runs to their end. Every method here is a single read or a single write.
Changes that belong together are in one transaction, and the database decides between two simultaneous
requests, not the code around the database.
"""

import json
import sqlite3
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from scheduler.core.instants import to_text
from scheduler.database import Database
from scheduler.localapi import early_ends, prompts
from scheduler.localapi.early_ends import EarlyCause
from scheduler.localapi.page_bookmarks import PageBookmark, PageBookmarks

FIELDS: Final = (
    *("id", "name", "prompt", "repository", "github_integration", "cron_expression", "timezone"),
    *("template_id", "enabled"),
    *("last_run_at", "last_run_status", "last_task_id", "last_task_run_id", "last_error"),
    *("created_at", "updated_at"),
)
"""Every field of an automation, in the order of an answer."""

Value = str | int | bool | None
"""The value of a writable field."""
AutomationJson = dict[str, Any]
"""An automation in the form of an answer: every field of the contract, in the contract's order."""

PAGE_CHARACTERS: Final = 4 * 2**20
"""A page ends at this number of characters, however many automations were asked for: prompts may be long."""
_ROW_CHARACTERS: Final = 1024
"""The largest number of characters besides prompt and last error; nearly always far fewer."""
_USUAL_LIMIT: Final = 1000
"""The largest number of automations on a page that delays no other look-up noticeably.

Larger pages are read on a separate thread.
"""

ANSWER_RETENTION: Final = timedelta(days=7)
_MAX_PURGED: Final = 10
_MAX_OFFSET: Final = 2**62  # larger numbers do not fit into SQLite's integers, and mean the same

_COLUMNS: Final = ", ".join(FIELDS)
_PAGE: Final = """
    SELECT rowid FROM automations
    WHERE project_id = :project_id AND name >= :name
        AND (name > :name OR created_at < :created_at OR (created_at = :created_at AND id >= :id))
    ORDER BY name, created_at DESC, id LIMIT :limit OFFSET :skipped
"""
_WHERE_AUTOMATION: Final = "WHERE id = :id AND project_id = :project_id"


class AutomationRef(NamedTuple):
    """The project and the id of an automation. An id is searched only within the project."""

    project_id: int
    id: str


@dataclass(frozen=True, slots=True)
class PageRows:
    """The automations of a page, the number in the project, and about how many characters the page has."""

    count: int
    automations: list[AutomationJson]
    characters: int


@dataclass(frozen=True, slots=True)
class AcceptedRun:
    """The automation in the answer to `run`.

    ``is_new`` is False for a repeated answer: nothing was started now.
    """

    automation: AutomationJson
    is_new: bool


class Store:
    """The automations of a database. ``now`` is the clock."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self._bookmarks = PageBookmarks()  # used by the reading thread
        self._large_page_bookmarks = PageBookmarks()  # used by the browsing thread

    async def read_page(self, project_id: int, *, limit: int, offset: int) -> PageRows:
        """Read a page of a project's automations, ordered by name; equal names the newest first."""
        page = project_id, limit, min(offset, _MAX_OFFSET)
        if limit <= _USUAL_LIMIT:
            return await self._database.read(_read_page, *page, self._bookmarks)
        return await self._database.browse(_read_page, *page, self._large_page_bookmarks)

    async def get(self, ref: AutomationRef) -> AutomationJson | None:
        """Read an automation, None for an unknown automation."""
        statement = f"SELECT {_COLUMNS} FROM automations {_WHERE_AUTOMATION}"  # noqa: S608 - the names are constants
        return await self._database.read(_fetch_one, statement, ref._asdict())

    async def create(self, project_id: int, values: Mapping[str, Value]) -> AutomationJson:
        """Insert a new automation with these valid values."""
        at = to_text(self._now())
        row: dict[str, Value] = {
            "id": str(uuid.uuid4()),
            "project_id": project_id,
            **values,
            "last_task_id": str(uuid.uuid4()),
            "created_at": at,
            "updated_at": at,
        }
        statement = (
            f"INSERT INTO automations ({', '.join(row)}) VALUES (:{', :'.join(row)}) RETURNING {_COLUMNS}"  # noqa: S608 - the names are constants
        )
        created = await self._database.write(_fetch_one, statement, row)
        assert created is not None
        return created

    async def update(self, ref: AutomationRef, changes: Mapping[str, Value]) -> AutomationJson | None:
        """Change an automation, None for an unknown automation. ``updated_at`` moves in any case."""
        values = {**changes, "updated_at": to_text(self._now())}
        assignments = ", ".join(f"{name} = :{name}" for name in values)
        statement = f"UPDATE automations SET {assignments} {_WHERE_AUTOMATION} RETURNING {_COLUMNS}"  # noqa: S608 - the names are constants
        return await self._database.write(_fetch_one, statement, ref._asdict() | values)

    async def delete(self, ref: AutomationRef) -> bool:
        """Delete an automation, and request the end of waiting runs. Return False for an unknown automation.

        The runs of the automation stay on record.
        """
        return await self._database.write(_delete, ref, to_text(self._now()))

    async def start_run(self, ref: AutomationRef, idempotency_key: str | None) -> AcceptedRun | None:
        """Accept a run, None for an unknown automation.

        ``idempotency_key`` is the client's name for the request. The run, the automation with the run and the
        answer to a named request are in one transaction, and writes are sequential. A repeated request finds
        the first answer, however soon the repetition follows, also after a restart and with another key of
        the project.
        """
        return await self._database.write(_start_run, ref, idempotency_key, self._now())


def _delete(connection: sqlite3.Connection, ref: AutomationRef, now: str) -> bool:
    statement = f"DELETE FROM automations {_WHERE_AUTOMATION}"  # noqa: S608 - the names are constants
    is_deleted = connection.execute(statement, ref._asdict()).rowcount == 1
    if is_deleted:
        early_ends.request_end(connection, ref.id, EarlyCause.DELETED, now)
    return is_deleted


def _read_page(
    connection: sqlite3.Connection, project_id: int, limit: int, offset: int, bookmarks: PageBookmarks
) -> PageRows:
    project = connection.execute(
        "SELECT automations, version FROM project_sizes WHERE project_id = ?", (project_id,)
    ).fetchone()
    count, version = project or (0, 0)
    if offset >= count:
        return PageRows(count, [], 0)
    bookmark = bookmarks.find_before(project_id, version, offset)
    rows, characters = _read_rows(connection, _find_rows(connection, project_id, limit, offset, bookmark))
    for index in {0, len(rows) - 1} if rows else ():
        row = rows[index]
        bookmarks.keep(
            project_id, version, PageBookmark(offset + index, row["name"], row["created_at"], row["id"])
        )
    return PageRows(count, rows, characters)


def _find_rows(
    connection: sqlite3.Connection, project_id: int, limit: int, offset: int, bookmark: PageBookmark
) -> list[int]:
    """Return the rowids of a page in order. Rows are skipped in the index, and nothing is sorted."""
    page = {"project_id": project_id, "limit": limit, "skipped": offset - bookmark.offset}
    return [rowid for (rowid,) in connection.execute(_PAGE, bookmark._asdict() | page)]


def _read_rows(connection: sqlite3.Connection, rowids: Sequence[int]) -> tuple[list[AutomationJson], int]:
    """Read these automations, at least the first, until `PAGE_CHARACTERS` are reached.

    Return the automations and their number of characters.
    """
    rows: list[AutomationJson] = []
    characters = 0
    statement = f"SELECT {_COLUMNS} FROM automations WHERE rowid = ?"  # noqa: S608 - the names are constants
    for rowid in rowids:
        row = _to_automation_json(connection.execute(statement, (rowid,)).fetchone())
        characters += _ROW_CHARACTERS + len(row["prompt"]) + len(row["last_error"] or "")
        if rows and characters > PAGE_CHARACTERS:
            break
        rows.append(row)
    return rows, characters


def _start_run(
    connection: sqlite3.Connection, ref: AutomationRef, idempotency_key: str | None, now: datetime
) -> AcceptedRun | None:
    if idempotency_key is not None and (answer := _find_answer(connection, ref, idempotency_key, now)):
        return answer
    run = {**ref._asdict(), "run_id": str(uuid.uuid4()), "now": to_text(now)}
    automation = _fetch_one(
        connection,
        f"""
        UPDATE automations
        SET last_task_run_id = :run_id, last_run_at = :now, last_run_status = 'running', last_error = NULL,
            updated_at = :now
        {_WHERE_AUTOMATION} RETURNING {_COLUMNS}
        """,  # noqa: S608 - the names are constants
        run,
    )
    if automation is None:
        return None
    prompt_id = prompts.keep(connection, automation["prompt"])
    connection.execute(
        """
        INSERT INTO runs (id, automation_id, project_id, task_id, name, repository, prompt, prompt_id,
            status, created_at)
        SELECT :run_id, id, project_id, last_task_id, name, repository, '', :prompt_id, 'queued', :now
        FROM automations WHERE id = :id
        """,
        {**run, "prompt_id": prompt_id},
    )
    if idempotency_key is not None:
        _keep_answer(connection, (*ref, idempotency_key), automation, prompt_id, now)
    return AcceptedRun(automation, is_new=True)


def _find_answer(
    connection: sqlite3.Connection, ref: AutomationRef, idempotency_key: str, now: datetime
) -> AcceptedRun | None:
    row = connection.execute(
        """
        SELECT body, prompt_id FROM idempotent_answers
        WHERE project_id = ? AND automation_id = ? AND idempotency_key = ? AND created_at > ?
        """,
        (*ref, idempotency_key, to_text(now - ANSWER_RETENTION)),
    ).fetchone()
    if row is None:
        return None
    body, prompt_id = row
    automation = json.loads(body)
    if prompt_id is not None:
        automation["prompt"] = prompts.read(connection, prompt_id)
    return AcceptedRun(automation, is_new=False)


def _keep_answer(
    connection: sqlite3.Connection,
    names: tuple[int, str, str],
    automation: AutomationJson,
    prompt_id: int,
    now: datetime,
) -> None:
    """Keep an answer, with the prompt apart, and remove a few old answers.

    More answers are removed than come in, but few at a time, so that no write is long.
    """
    replaced = connection.execute(
        "DELETE FROM idempotent_answers WHERE project_id = ? AND automation_id = ? AND "
        "idempotency_key = ? RETURNING prompt_id",
        names,
    ).fetchall()
    body = json.dumps({**automation, "prompt": None})  # the fields keep their order
    connection.execute(
        """
        INSERT INTO idempotent_answers (project_id, automation_id, idempotency_key, status, body,
            prompt_id, created_at)
        VALUES (?, ?, ?, ?, ?, ?, ?)
        """,
        (*names, HTTPStatus.OK, body, prompt_id, to_text(now)),
    )
    prompts.remove_unused(connection, (number for (number,) in replaced))
    remove_old_answers(connection, to_text(now - ANSWER_RETENTION), _MAX_PURGED)


def remove_old_answers(connection: sqlite3.Connection, before: str, most: int) -> int:
    """Remove the oldest answers from ``before`` or earlier, at most ``most``. Return the number."""
    removed = connection.execute(
        """
        DELETE FROM idempotent_answers WHERE rowid IN
        (SELECT rowid FROM idempotent_answers WHERE created_at <= ? ORDER BY created_at LIMIT ?)
        RETURNING prompt_id
        """,
        (before, most),
    ).fetchall()
    prompts.remove_unused(connection, (number for (number,) in removed))
    return len(removed)


def _fetch_one(
    connection: sqlite3.Connection, statement: str, parameters: Mapping[str, Value]
) -> AutomationJson | None:
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row  # the writer's connection returns plain tuples
    rows = cursor.execute(statement, parameters).fetchall()
    return _to_automation_json(rows[0]) if rows else None


def _to_automation_json(row: sqlite3.Row) -> AutomationJson:
    return {**dict(row), "enabled": bool(row["enabled"])}
