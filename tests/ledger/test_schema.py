"""The tables hold what the code can write and nothing else, and no statement of the daemon's goes through a
whole table.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from enum import StrEnum
from pathlib import Path

import pytest

from scheduler.core.model import REASONS, AttemptResult, Outcome, Reason, RunOrigin, RunStatus, State
from scheduler.core.occurrence_log import RECORDED_CAUSES
from scheduler.database.files import Tables
from scheduler.ledger import (
    attempts,
    claims,
    finished_runs,
    fire_requests,
    operator_requests,
    outcomes,
    snapshots,
    spans,
    sqlite,
    steps,
    unattributed_runs,
)
from scheduler.ledger.schema import MIGRATIONS
from tests.ledger.support import Stand

_DOCUMENT = Path(__file__).parents[2] / "docs" / "ledger.md"


@pytest.fixture(scope="module")
def tables() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for migration in MIGRATIONS:
            migration(Tables(connection, execute_plugins=False))
        connection.execute(
            "INSERT INTO target (name, url, project_id) VALUES ('main', 'https://us.posthog.com', '1')"
        )
        yield connection


def _refuses(tables: sqlite3.Connection, table: str, row: Mapping[str, object]) -> bool:
    """Whether the table refuses the row."""
    columns = ", ".join(row)
    tables.execute("BEGIN")
    try:
        tables.execute(
            f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
        )
    except sqlite3.IntegrityError as error:
        return "CHECK" in str(error)
    finally:
        tables.execute("ROLLBACK")
    return False


_OCCURRENCE: Mapping[str, object] = {
    "target": "main",
    "automation_id": "a",
    "scheduled_for": "2026-11-23T12:00:00Z",
    "last": "2026-11-23T12:00:00Z",
    "name": "n",
    "due": "d",
    "node": "n",
}


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("reason", Reason)
def test_every_outcome_goes_with_its_reasons_only(
    tables: sqlite3.Connection, outcome: Outcome, reason: Reason
) -> None:
    row = {**_OCCURRENCE, "outcome": outcome, "reason": reason}
    assert _refuses(tables, "occurrence", row) is (reason not in REASONS[outcome])


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"state": "claimed", "outcome": "accepted", "reason": "found"},
        {"state": "claimed", "reason": "found"},
        {"outcome": "accepted"},
        {"outcome": "elsewhere", "reason": "found"},
        {"state": "claimed", "count": 2},
        {"state": "claimed", "count": 0},
        {"state": "claimed", "last": "2026-11-23T12:01:00Z"},
        {"state": "claimed", "last": "2026-11-23T11:59:00Z", "count": 2},
        {"state": "claimed", "scheduled_for": "2026-11-23T12:00:00.000000Z"},
    ],
)
def test_a_row_that_contradicts_itself_is_refused(
    tables: sqlite3.Connection, wrong: Mapping[str, object]
) -> None:
    assert _refuses(tables, "occurrence", {**_OCCURRENCE, **wrong})


_ATTEMPT = {"occurrence_id": 1, "number": 1, "written_at": "w"}
_STEP = {"occurrence_id": 1, "at": "a"}
_RUN = {"target": "main", "run_id": "r", "automation_id": "a", "origin": "manual", "status": "running"}


@pytest.mark.parametrize(
    ("values", "table", "column", "row"),
    [
        (State, "occurrence", "state", _OCCURRENCE),
        (AttemptResult, "attempt", "result", _ATTEMPT),
        (RunStatus, "run", "status", _RUN),
        (RunOrigin, "run", "origin", _RUN),
        (RECORDED_CAUSES, "step", "cause", _STEP),
    ],
)
def test_a_column_takes_the_words_of_the_model_and_no_others(
    tables: sqlite3.Connection, values: Iterable[StrEnum], table: str, column: str, row: Mapping[str, object]
) -> None:
    assert [each for each in values if _refuses(tables, table, {**row, column: each})] == []
    assert _refuses(tables, table, {**row, column: "elsewhere"})


_STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in (
        attempts,
        claims,
        finished_runs,
        fire_requests,
        operator_requests,
        outcomes,
        snapshots,
        spans,
        sqlite,
        steps,
        unattributed_runs,
    )
    for name, value in vars(module).items()
    if isinstance(value, str) and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE) ", value)
}


_MAY_GO_THROUGH_ALL = {
    "finished_runs._COUNT_FAILING": "the index of the automations that fail",
    "finished_runs._SELECT_FAILING": "the same, up to LIMIT",
    "finished_runs._SELECT_FAILING_IDS": "the same",
    "sightings._SELECT_AUTOMATIONS": "it wants all of them",
    "sightings._SELECT_NEWEST_RUNS": "it wants those of all automations",
}


@pytest.mark.parametrize("name", list(_STATEMENTS))
def test_no_statement_goes_through_a_table_that_grows(tables: sqlite3.Connection, name: str) -> None:
    statement = _STATEMENTS[name]
    parameters = max((int(each) for each in re.findall(r"\?(\d)", statement)), default=statement.count("?"))
    plan = [detail for *_, detail in tables.execute("EXPLAIN QUERY PLAN " + statement, ["[]"] * parameters)]
    scans = [
        detail
        for detail in plan
        if re.match(r"SCAN (occurrence|attempt|run|definition|automation|manual_run|span)\b", detail)
    ]
    assert not scans or name in _MAY_GO_THROUGH_ALL, plan


# ---------------------------------------------------------------- documentation


_ALL_COLUMNS = """
    SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
    WHERE tables.type = 'table' AND substr(tables.name, 1, 1) <> '_'
"""


def _documented() -> set[tuple[object, ...]]:
    """From the sections that are called after a table: what stands first in the rows of their table of
    columns.
    """
    found: set[tuple[object, ...]] = set()
    for section in re.split(r"^## ", _DOCUMENT.read_text(), flags=re.MULTILINE)[1:]:
        heading, rows = (
            re.match(r"`(\w+)`", section),
            re.search(r"^\| column \| \|\n\|.*\n((?:\|.*\n)+)", section, re.MULTILINE),
        )
        if heading and rows:
            cells = re.findall(r"^\| ([^|]*) \|", rows[1], re.MULTILINE)
            found |= {(heading[1], column) for cell in cells for column in re.findall(r"`(\w+)`", cell)}
    return found


def test_every_column_is_documented_and_no_other(ledger: Stand) -> None:
    assert _documented() == set(ledger.rows(_ALL_COLUMNS))


def test_every_word_that_a_column_may_hold_is_documented() -> None:
    text = _DOCUMENT.read_text()
    words = {
        word
        for kind in (State, Outcome, Reason, AttemptResult, RunStatus, RunOrigin, RECORDED_CAUSES)
        for word in kind
    }
    assert {word for word in words if f"`{word}`" not in text} == set()


_QUERIES = re.findall(
    r"^```sql\n(.*?)^```", _DOCUMENT.read_text() if _DOCUMENT.exists() else "", re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("query", _QUERIES)
def test_the_queries_of_the_documentation_work(ledger: Stand, query: str) -> None:
    ledger.rows(query)


def test_there_are_queries_to_try() -> None:
    assert len(_QUERIES) >= 3
