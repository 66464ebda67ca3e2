"""The plan of every statement that the suite executes is judged; and who judges them notices a bad one, in
whichever way it is bad.
"""

import ast
import inspect
import re
import sqlite3
import textwrap
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Final
from uuid import UUID

import pytest

from scheduler.core.model import Outcome, RunStatus
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.database.files import connect_for_reading
from scheduler.ledger import (
    audit_queries,
    automations,
    claims,
    finished_runs,
    history,
    occurrence_records,
    outcomes,
    retention,
    schema,
    snapshots,
    summary,
    unattributed_runs,
    versions,
)
from scheduler.ledger.schema import open_for_reading, open_ledger
from scheduler.localapi import automation_search, runs, store
from scheduler.localapi.page_bookmarks import PageBookmarks
from scheduler.localapi.schema import open_database
from tests.query_plans import EXCEPTIONS, Statement, forget_statements, judge, take_findings, take_statements

MODULES: Final = (
    audit_queries,
    automations,
    claims,
    finished_runs,
    history,
    occurrence_records,
    outcomes,
    snapshots,
    summary,
    unattributed_runs,
    versions,
)

_IDENTITY: Final = "sqlite_autoindex_occurrence_1"
_VERSIONS: Final = "definition_by_automation"
_SPANS: Final = "occurrence_spans (target=? AND automation_id=? AND last>?)"

BAD: Final = {
    "UPDATE automation SET name = given.name FROM (SELECT value ->> 0 AS id, value ->> 1 AS name "
    "FROM json_each(?1)) AS given "
    "WHERE automation.target = ?2 AND automation.automation_id = given.id": [
        "all rows that share a value are gone through (SEARCH automation USING PRIMARY KEY (target=?))",
        "a list is gone through for each row of another (SCAN json_each VIRTUAL TABLE INDEX 1:)",
    ],
    "SELECT (SELECT value FROM json_each(?1) WHERE key = run_id) FROM run WHERE target = ? AND run_id = ?": [
        "a list is gone through for each row of another (SCAN json_each VIRTUAL TABLE INDEX 1:)",
    ],
    "SELECT given.value FROM json_each(?1) AS given CROSS JOIN occurrence ON scheduled_for > given.value": [
        (
            "a stretch of rows is gone through for each row of another (SEARCH occurrence USING "
            f"COVERING INDEX {_IDENTITY} (scheduled_for>?))"
        ),
    ],
    (
        "SELECT older.id FROM definition AS older JOIN definition AS newer ON newer.name = older.name "
        "WHERE older.id = ?"
    ): [
        "a table that grows is gone through (SCAN newer)",
    ],
    (
        "SELECT 1 FROM occurrence AS one JOIN occurrence AS other ON other.name = one.node WHERE "
        "one.due > '2026'"
    ): [
        "a table that grows is gone through (SCAN one)",
        "SQLite makes an index of its own (SEARCH other USING AUTOMATIC COVERING INDEX (name=?))",
    ],
    "SELECT * FROM run WHERE occurrence_id IS NULL": [
        (
            "all rows that share a value are gone through (SEARCH run USING INDEX "
            "sqlite_autoindex_run_1 (occurrence_id=?))"
        ),
    ],
    "SELECT count(*) FROM definition WHERE target = ? AND automation_id = ?": [
        (
            "all rows that share a value are gone through (SEARCH definition USING COVERING INDEX "
            f"{_VERSIONS} (target=? AND automation_id=?))"
        ),
    ],
    "SELECT status FROM runs WHERE automation_id = ?": [
        (
            "all rows that share a value are gone through (SEARCH runs USING INDEX runs_of_automation "
            "(automation_id=?))"
        ),
    ],
    "SELECT (SELECT count(*) FROM occurrence WHERE count > 1 AND target = ?1 AND automation_id = "
    "given.value AND last > ?2) "
    "FROM json_each(?3) AS given": [
        f"a stretch of rows is gone through for each row of another (SEARCH occurrence USING INDEX {_SPANS})",
    ],
    "SELECT min(sequence) FROM runs WHERE prompt = ?": ["a table that grows is gone through (SEARCH runs)"],
    "SELECT id FROM runs WHERE status = 'failed'": ["a table that grows is gone through (SCAN runs)"],
    "SELECT * FROM no_such_table": ["no database of ours takes it"],
}
GOOD: Final = (
    "SELECT * FROM automation WHERE target = ? AND automation_id = ?",
    "SELECT * FROM occurrence WHERE target = ? AND automation_id = ? AND last > ? AND count > 1",
    "SELECT * FROM runs WHERE automation_id = ? AND sequence > ? LIMIT 10",
    "SELECT * FROM occurrence WHERE scheduled_for > ? AND scheduled_for < ?",
    "SELECT * FROM occurrence WHERE id IN (SELECT value FROM json_each(?))",
    "SELECT * FROM occurrence WHERE outcome IS NULL AND target = ?",
    "SELECT * FROM target",
    (
        "INSERT INTO automation (target, automation_id, name, effective_from) SELECT value ->> 0, value "
        "->> 1, '', '' FROM json_each(?)"
    ),
)


@pytest.mark.parametrize("sql", BAD)
def test_a_bad_statement_is_a_finding(sql: str) -> None:
    assert judge(sql) == BAD[sql]


@pytest.mark.parametrize("sql", GOOD)
def test_a_good_statement_is_none(sql: str) -> None:
    assert judge(sql) == []


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    open_ledger(tmp_path / "ledger.db").close()
    with closing(open_for_reading(tmp_path / "ledger.db")) as opened:
        yield opened


@pytest.mark.parametrize("call", ["connection.execute(sql)", "connection.cursor().execute(sql)"])
def test_a_bad_statement_that_a_module_of_ours_executes_is_noticed(
    connection: sqlite3.Connection, call: str
) -> None:
    assert take_findings() == []
    sql = f"SELECT 1 FROM attempt WHERE http_status = {len(call)}"
    exec(
        f"def add(): {call}\nadd()",
        {"__name__": "scheduler.ledger.added", "connection": connection, "sql": sql},
    )
    assert take_findings() == [
        f"a table that grows is gone through (SCAN attempt) in scheduler.ledger.added.add: {sql}"
    ]
    assert take_findings() == [], "once is enough"


def test_what_the_tests_themselves_execute_is_not_judged(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT 2 FROM attempt")
    assert take_statements() == []


def written(module: ModuleType) -> Iterator[Statement]:
    """The statements that a module is written with: the texts in its functions, and the constants that these
    name.
    """
    for function in vars(module).values():
        if inspect.isfunction(function) and function.__module__ == module.__name__:
            for sql in _texts_of(function):
                yield Statement(sql, f"{module.__name__}.{function.__name__}")


def _texts_of(function: FunctionType) -> Iterator[str]:
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        value = (
            function.__globals__.get(node.id) if isinstance(node, ast.Name) else getattr(node, "value", None)
        )
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str):
                yield text


def put_together(ledger: sqlite3.Connection, api: sqlite3.Connection) -> list[Statement]:
    """Statements that are put together when they are executed, or handed over."""
    take_statements()
    forget_statements()  # other tests of this process may have executed them
    history.read_occurrences(ledger, OccurrenceQuery())
    history.read_occurrences(ledger, OccurrenceQuery(automation="nightly*"))
    history.read_occurrences(ledger, OccurrenceQuery(run_status=RunStatus.FAILED))
    history.read_occurrences(ledger, OccurrenceQuery(outcome=Outcome.REJECTED))
    history.read_occurrences(ledger, OccurrenceQuery(only_open=True))
    for table in (retention._OCCURRENCES, retention._RUNS, retention._DEFINITIONS, *retention._OTHERS):
        retention._read_slice(table.select, datetime.now(UTC), table.begin, ledger)
    for automation in (None, "nightly-*", str(UUID(int=1))):
        runs.select_runs(api, automation=automation, status=None, limit=1)
        runs.select_runs(api, automation=automation, status="failed", limit=1)
    automation_search.find_named(api, "1")
    automation_search.read_names(api)
    automation_search.find_with_prefix(api, "1", 1)
    store._read_page(api, project_id=1, limit=1, offset=0, bookmarks=PageBookmarks())
    return take_statements()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The embedded API's database, of which a project says that it has an automation."""
    open_database(tmp_path / "api.db").close()
    with closing(sqlite3.connect(tmp_path / "api.db")) as writing, writing:
        writing.execute("INSERT INTO project_sizes VALUES (1, 1, 0)")
    with closing(connect_for_reading(tmp_path / "api.db")) as opened:
        yield opened


def test_no_exception_outlives_its_statement(connection: sqlite3.Connection, api: sqlite3.Connection) -> None:
    """Each exception still covers a finding; a statement that is written anew has to be judged anew."""
    statements = [
        *(statement for module in MODULES for statement in written(module)),
        *(
            Statement(sql, "scheduler.database.files.Migration.__call__")
            for migration in schema.MIGRATIONS
            for sql in migration.statements
        ),
        *put_together(connection, api),
    ]
    found = [(statement, finding) for statement in statements for finding in judge(statement.sql)]
    idle = [allowance for allowance in EXCEPTIONS if not any(allowance.covers(*each) for each in found)]
    assert not idle, "\n".join(map(str, idle))


_STATEMENT: Final = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH|PRAGMA|BEGIN|COMMIT|ROLLBACK|CREATE|DROP|ALTER)\s+\S"
)
_EXECUTES: Final = frozenset({"execute", "executemany", "executescript"})


def find_sql(tree: ast.AST) -> Iterator[int]:
    """The lines with the text of a statement, or with a call that executes one."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if _STATEMENT.match(text):
                yield node.lineno
            case ast.Call(func=ast.Attribute(attr=name)) if name in _EXECUTES:
                yield node.lineno


def test_only_the_ledger_and_the_store_of_the_embedded_api_have_sql() -> None:
    """`database` opens files for both, and reads their headers."""
    package = Path(schema.__file__).parents[1]
    with_sql = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if any(find_sql(ast.parse(path.read_text())))
    }
    assert with_sql == {"database", "ledger", "localapi"}
