"""A database that an older version has made is brought up to date, with all that is in it."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from scheduler.database import Database
from scheduler.localapi.keys import Scope
from scheduler.localapi.schema import MIGRATIONS, SCHEMA
from tests.localapi.support import COLLECTION, Clock, serving

NOW = "2026-11-23T19:00:00.000000Z"
COLUMNS = (
    "id, project_id, name, prompt, repository, cron_expression, timezone, enabled, last_task_id, "
    "created_at, updated_at"
)


def made_by_the_first_version(path: Path) -> list[str]:
    """Three automations, and a run of the first that waits; their ids."""
    Database(path, replace(SCHEMA, migrations=MIGRATIONS[:1])).close()
    ids = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(3)]
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, each in enumerate(ids):
            row = (each, f"n{number}", each, NOW, NOW)
            connection.execute(
                f"INSERT INTO automations ({COLUMNS}) VALUES (?, 1, ?, 'p', 'a/b', '* * * * *', "
                "'UTC', 1, ?, ?, ?)",
                row,
            )
        connection.execute(
            "INSERT INTO runs (id, automation_id, project_id, task_id, name, repository, prompt, "
            "status, created_at) "
            "VALUES ('r', ?, 1, 't', 'n0', 'a/b', 'p', 'queued', ?)",
            (ids[0], NOW),
        )
        connection.execute(
            "UPDATE automations SET last_task_run_id = 'r', last_run_status = 'running' WHERE id = ?", ids[:1]
        )
    return ids


def test_what_the_first_version_has_made_is_all_there_and_goes_on(tmp_path: Path) -> None:
    ids = made_by_the_first_version(tmp_path / "api.db")

    async def story() -> None:
        async with serving(tmp_path, command=("true",)) as served:
            page = (await served.client.get(COLLECTION, params={"offset": 1})).json()
            assert (page["count"], [each["id"] for each in page["results"]]) == (3, ids[1:])
            assert (await served.finished(ids[0]))["last_run_status"] == "success"
            assert (
                await served.client.patch(f"{COLLECTION}{ids[2]}/", json={"name": "a"})
            ).status_code == 200
            page = (await served.client.get(COLLECTION, params={"offset": 1})).json()
            assert [each["id"] for each in page["results"]] == ids[:2]

    asyncio.run(story())


ANSWERS = (
    # key, automation, Idempotency-Key, which answer, when
    ("one", 0, "rotated", "second", "2026-11-23T19:10:00.000000Z"),
    ("two", 0, "rotated", "first", "2026-11-23T19:00:00.000000Z"),
    ("one", 0, "alone", "alone", "2026-11-23T19:00:00.000000Z"),
    ("two", 1, "alone", "of another automation", "2026-11-23T19:00:00.000000Z"),
    ("foreign", 2, "rotated", "of another project", "2026-11-23T18:00:00.000000Z"),
    ("one", 1, "expired", "too old", "2026-11-16T19:09:00.000000Z"),
    ("two", 1, "expired", "still good", "2026-11-23T19:10:00.000000Z"),
)


def test_answers_by_key_become_answers_by_project_and_the_earliest_that_counts_stays(tmp_path: Path) -> None:
    ids = made_by_the_first_version(tmp_path / "api.db")
    with closing(sqlite3.connect(tmp_path / "api.db")) as connection, connection:
        for key_id, project_id in (("one", 1), ("two", 1), ("foreign", 2)):
            connection.execute(
                "INSERT INTO keys (id, sha256, project_id, scopes, created_at) VALUES (?, '', ?, "
                "'task:write', ?)",
                (key_id, project_id, NOW),
            )
        connection.executemany(
            "INSERT INTO idempotent_answers VALUES (?, ?, ?, 200, ?, ?)",
            [
                (key_id, ids[number], name, f'{{"answer": "{body}"}}', at)
                for key_id, number, name, body, at in ANSWERS
            ],
        )

    async def story() -> None:
        clock = Clock()
        async with serving(tmp_path, clock) as served:
            new = await served.key(Scope.WRITE)
            for number, name, expected in (
                (0, "rotated", "first"),
                (0, "alone", "alone"),
                (1, "alone", "of another automation"),
                (1, "expired", "still good"),
            ):
                assert await served.start_run(ids[number], **new, **{"Idempotency-Key": name}) == {
                    "answer": expected
                }
            kept = await served.api._database.read(
                lambda connection: connection.execute("SELECT count(*) FROM idempotent_answers").fetchone()[0]
            )
            assert kept == len(ANSWERS) - 2

    asyncio.run(story())
