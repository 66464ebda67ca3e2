"""A ledger of an older version is brought up to date, with everything that was in it."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from scheduler import database
from scheduler.core.errors import DatabaseRefused
from scheduler.core.model import AttemptResult, ClaimPlan, Outcome, Reason, RunStatus
from scheduler.database import Database
from scheduler.ledger.schema import MIGRATIONS, SCHEMA, open_for_reading, open_ledger
from tests.ledger.support import MAIN, accepted, at, attempt, claim, concluded, end, occurrence, skip, stand

TABLES: Final = (
    "target",
    "automation",
    "definition",
    "evaluation",
    "occurrence",
    "attempt",
    "run",
    "manual_run",
    "pause",
)
ONE_OF_EACH: Final = """
    INSERT INTO target
    VALUES ('main', 'https://us.posthog.com', '1', '2026-11-23T12:08:00.000000Z',
        '2026-11-23T12:09:00.000000Z');
    INSERT INTO automation
    VALUES ('main', 'a', 'nightly', '0 3 * * *', 'UTC', 1, '2026-11-23T11:00:00.000000Z', NULL,
        NULL, 'run-1', NULL, 'success', NULL, NULL);
    INSERT INTO definition
    VALUES (1, 'main', 'a', 'nightly', '0 3 * * *', 'UTC', 1, '2026-11-23T11:00:00.000000Z',
        '2026-11-23T11:00:00.000000Z', NULL, 0, '6.0', '2025b');
    INSERT INTO evaluation VALUES (1, 's', '6.0', '2025b', 'after', 'once');
    INSERT INTO occurrence
    VALUES (7, 'main', 'a', '2026-11-23T12:01:00Z', '2026-11-23T12:01:00Z', 1, 'nightly',
        '2026-11-23T12:01:00.000000Z', '2026-11-23T12:06:00.000000Z', 'unknown', NULL, NULL,
            '2026-11-23T12:00:59.000000Z', NULL, NULL,
        NULL, 1, NULL, NULL, 'node');
    INSERT INTO attempt VALUES (7, 1, '2026-11-23T12:00:59.000000Z', 'run-0', NULL, NULL, NULL, NULL, NULL);
    INSERT INTO run VALUES ('main', 'run-1', 'a', NULL, 'foreign', 'running', '2026-11-23T11:00:00.000000Z',
        NULL, NULL, 'd');
    INSERT INTO manual_run VALUES (1, 'main', 'a', 'r', NULL, NULL, NULL);
    INSERT INTO pause VALUES ('main', 'a', 's', 'ada');
"""


@pytest.fixture
def of_version_1(tmp_path: Path) -> Path:
    """A ledger as the first version made it, with a row in each table."""
    path = tmp_path / "ledger.db"
    Database(path, replace(SCHEMA, migrations=MIGRATIONS[:1])).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(ONE_OF_EACH)
    return path


def _rows(path: Path, tables: Sequence[str]) -> dict[str, list[dict[str, object]]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in tables
        }


def test_what_was_in_it_stays_as_it_was(of_version_1: Path) -> None:
    before = _rows(of_version_1, TABLES)
    assert all(len(rows) == 1 for rows in before.values())
    open_ledger(of_version_1).close()
    before["occurrence"][0] |= {
        "asked_at": None,
        "intervals": None,
        "definition_id": None,
        "evaluation_id": None,
    }
    before["definition"][0]["newest_occurrence"] = None
    before["run"][0]["scheduled_for"] = None
    before["attempt"][0] |= {"clock_offset": None, "automation_id": None}
    before["evaluation"][0]["rules_version"] = 1
    before["automation"][0] |= {"accepted_at": None, "succeeded_at": None, "unseen_since": None}
    before["target"][0] |= {"throttled_at": None, "throttled_until": None, "restored_at": None}
    before["automation"][0] |= {"finished_run_id": None, "finished_at": None, "failures": 0}
    assert _rows(of_version_1, TABLES) == before


def test_an_unknown_attempt_is_found_by_its_automation(of_version_1: Path) -> None:
    with closing(sqlite3.connect(of_version_1)) as connection, connection:
        connection.execute("UPDATE attempt SET result = 'unknown'")
    open_ledger(of_version_1).close()
    assert _rows(of_version_1, ["attempt"])["attempt"][0]["automation_id"] == "a"


def test_when_each_automation_last_did_well_is_taken_from_the_history(of_version_1: Path) -> None:
    with closing(sqlite3.connect(of_version_1)) as connection, connection:
        connection.execute("UPDATE occurrence SET state = NULL, outcome = 'accepted', reason = 'answered'")
        connection.execute("UPDATE occurrence SET sent_at = '2026-11-23T12:01:01.000000Z'")
        connection.execute("UPDATE run SET status = 'success', finished_at = '2026-11-23T12:05:00.000000Z'")
    open_ledger(of_version_1).close()
    (row,) = _rows(of_version_1, ["automation"])["automation"]
    assert (row["accepted_at"], row["succeeded_at"]) == (
        "2026-11-23T12:01:01.000000Z",
        "2026-11-23T12:05:00.000000Z",
    )


_RUNS_OF_A: Final = """
    DELETE FROM run;
    INSERT INTO run VALUES ('main', '1', 'a', NULL, 'foreign', 'failed', '2026-11-23T11:01:00Z',
        '2026-11-23T11:06:00Z', NULL, NULL);
    INSERT INTO run VALUES ('main', '2', 'a', NULL, 'foreign', 'success', '2026-11-23T11:02:00Z',
        '2026-11-23T11:03:00Z', NULL, NULL);
    INSERT INTO run VALUES ('main', '3', 'a', NULL, 'foreign', 'lost', '2026-11-23T11:03:00Z',
        '2026-11-23T11:04:00Z', NULL, NULL);
    INSERT INTO run VALUES ('main', '4', 'a', NULL, 'foreign', 'failed', '2026-11-23T11:04:00Z',
        '2026-11-23T11:05:00Z', 'no', NULL);
    INSERT INTO run VALUES ('main', '5', 'a', NULL, 'foreign', 'superseded', '2026-11-23T11:05:00Z',
        '2026-11-23T11:06:00Z', NULL, NULL);
    INSERT INTO run VALUES ('main', '6', 'a', NULL, 'foreign', 'running', '2026-11-23T11:06:00Z',
        NULL, NULL, NULL);
    INSERT INTO run VALUES ('main', '7', 'b', NULL, 'foreign', 'failed', '2026-11-23T11:06:00Z',
        '2026-11-23T11:07:00Z', NULL, NULL);
"""


def test_the_newest_finished_run_and_the_failures_in_a_row_are_taken_from_the_history(
    of_version_1: Path,
) -> None:
    with closing(sqlite3.connect(of_version_1)) as connection:
        connection.executescript(_RUNS_OF_A)
    open_ledger(of_version_1).close()
    (row,) = _rows(of_version_1, ["automation"])["automation"]
    assert (row["finished_run_id"], row["finished_at"], row["failures"]) == ("4", "2026-11-23T11:05:00Z", 2)


def test_a_run_knows_when_its_occurrence_was_scheduled(of_version_1: Path) -> None:
    with closing(sqlite3.connect(of_version_1)) as connection, connection:
        connection.execute("UPDATE run SET occurrence_id = 7, origin = 'occurrence', status = 'failed'")
    open_ledger(of_version_1).close()
    assert _rows(of_version_1, ["run"])["run"][0]["scheduled_for"] == "2026-11-23T12:01:00Z"


def test_nothing_that_may_have_been_removed_before_is_missed(of_version_1: Path, tmp_path: Path) -> None:
    open_ledger(of_version_1).close()
    assert _rows(of_version_1, ["pruned"]) == {"pruned": [{"id": 1, "before": "2026-11-23T12:01:00.000000Z"}]}
    open_ledger(tmp_path / "new.db").close()
    assert _rows(tmp_path / "new.db", ["pruned"]) == {"pruned": []}


def test_it_has_the_same_tables_as_a_new_one(of_version_1: Path, tmp_path: Path) -> None:
    open_ledger(of_version_1).close()
    open_ledger(tmp_path / "new.db").close()
    schemas = []
    for path in (of_version_1, tmp_path / "new.db"):
        with closing(open_for_reading(path)) as connection:
            schemas.append(
                sorted(tuple(row) for row in connection.execute("SELECT type, name, sql FROM sqlite_schema"))
            )
    assert schemas[0] == schemas[1]


def test_the_daemon_goes_on_from_it(of_version_1: Path) -> None:
    with stand(of_version_1) as on:
        (opened,) = on.do(on.ledger.read_open_occurrences(MAIN))
        assert (opened.attempt, opened.asked_at) == (
            replace(attempt(1, 0.9833333333333333), clock_offset=None),
            None,
        )
        on.do(on.ledger.conclude(opened.occurrence, concluded(Outcome.UNRESOLVED, Reason.GONE)))
        on.do(on.ledger.claim(MAIN, ClaimPlan([claim(10, first=attempt())], [skip(11, 12)], at(12))))
        assert on.do(
            on.ledger.conclude(occurrence(10), accepted("run-2"), end(result=AttemptResult.ANSWERED))
        )
        assert {each.status for each in on.do(on.ledger.read_newest_runs(MAIN))} == {RunStatus.RUNNING}


def test_who_only_reads_is_told_that_the_daemon_brings_it_up_to_date(of_version_1: Path) -> None:
    with pytest.raises(DatabaseRefused, match=r"older version.*start the daemon once"):
        database.open_for_reading(of_version_1, SCHEMA)
