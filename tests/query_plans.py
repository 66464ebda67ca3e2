"""What SQLite makes of each statement of ours: none may go through a table that grows.

`watch` has every connection note the statements that modules of `scheduler` execute, and `take_findings`
explains the new ones (https://www.sqlite.org/eqp.html) on empty databases with our tables, which have no
statistics, as ours never have. So whatever statement the suite executes is judged, and the first test that
executes a bad one fails; see `tests/conftest.py`.

A plan is a list of nested loops. The rules:

- A loop that goes through a whole table ("SCAN") is a finding, unless the table is one of `SMALL`, or the
  index one of `SHORT_INDEXES`.
- A loop that looks rows up ("SEARCH") has to be given more than `WIDE` columns, which thousands of rows
  share: a column that picks out few rows, or, in the outermost loop, a stretch of them. An automation may
  have millions of rows: its id is a wide column, except where it is the key.
- JSON that was passed in (`json_each`) has no index, so that only an outermost loop may go through it, once.
- An index that SQLite makes for one statement ("AUTOMATIC") is a finding.
"""

import re
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

SMALL: Final = {
    "target": "as many as the configuration has",
    "evaluation": "one for each version of croniter, the zone data or the clock-change settings",
    "policy": "one for each change of the configuration, and the retention removes old ones",
    "gap": "merged stretches of a downtime: one or a few, and none once it is decided",
    "pause": "what people have typed, and have not taken back",
    "pruned": "one row",
    "keys": "the keys that people have made",
    "project_sizes": "one row for each project",
    "cancellations": "requests not carried out yet; each look takes the first one alone",
    "temp.weight": "made for one audit, whose automations it has",
    "sqlite_master": "the tables",
    "sqlite_schema": "the tables",
    "CONSTANT ROW": "one row",
}
SHORT_INDEXES: Final = {
    "occurrence_open": "open occurrences",
    "run_running": "runs that go on",
    "automation_failing": "automations whose newest finished run failed or was lost",
    "fire_request_waiting": "requests that the daemon has not looked at yet",
    "runs_waiting": "runs in the queue",
    "runs_with_own_prompt": "runs of an older version, of which each look takes the first ones alone",
    "runs_waiting_of_automation": "runs in the queue",
    "runs_cancelled_early": "cancelled runs in the queue",
    "runs_running": "runs that are being carried out",
}
WIDE: Final = frozenset({"target", "project_id", "status", "outcome", "result", "automation_id"})
KEYS: Final = {"automation": frozenset({"target", "automation_id"})}
"""Wide columns that together are a table's key.

Of all other tables an automation may have any number of rows.
"""

_STATEMENT: Final = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH)\b", re.IGNORECASE)
_STEP: Final = re.compile(
    r"(?P<verb>SCAN|SEARCH) (?P<table>\(.+?\)|CONSTANT ROW|\S+)(?P<json> VIRTUAL TABLE)?"
    r"(?: USING (?P<automatic>AUTOMATIC )?(?:PARTIAL )?(?:COVERING )?(?:INDEX (?P<index>\S+)|INTEGER "
    r"PRIMARY KEY|PRIMARY KEY))?"
    r"(?: \((?P<constraints>.+)\))?"
)
_TEMPORARY: Final = (
    "CREATE TEMP TABLE weight (automation_id TEXT PRIMARY KEY, weight INTEGER NOT NULL) WITHOUT ROWID"
)

_connect: Final = sqlite3.connect
_seen: Final[set[str]] = set()
_new: "Final[list[Statement]]" = []


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, and the function that executed it first: with its module, and its class if it has one."""

    sql: str
    function: str

    @property
    def one_line(self) -> str:
        return " ".join(self.sql.split())


# ---------------------------------------------------------------- noting statements


class WatchedCursor(sqlite3.Cursor):
    """Notes what it executes for a module of `scheduler`."""

    def execute(self, sql: str, parameters: Any = (), /) -> "WatchedCursor":
        _note(sql)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> "WatchedCursor":
        _note(sql)
        return super().executemany(sql, parameters)


class WatchedConnection(sqlite3.Connection):
    """A connection whose cursors are watched."""

    def cursor(self, factory: Any = WatchedCursor) -> Any:
        return super().cursor(factory)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        _note(sql)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        _note(sql)
        return super().executemany(sql, parameters)


def watch() -> None:
    """From now on every connection that is opened is watched."""

    def connect(*args: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = _connect(*args, **{"factory": WatchedConnection} | named)
        return connection

    sqlite3.connect = connect  # type: ignore[assignment]  # the same but for the factory


def _note(sql: str) -> None:
    if sql in _seen:
        return
    function = _caller(3)
    if function.partition(".")[0] == "scheduler":
        _seen.add(sql)
        _new.append(Statement(sql, function))


def _caller(depth: int) -> str:
    """The function so many calls away; of one within another, the outer one."""
    frame = sys._getframe(depth)
    return f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname.partition('.<locals>')[0]}"


def forget_statements() -> None:
    """Note statements again that were noted before."""
    _seen.clear()


def take_statements() -> list[Statement]:
    """The statements that were new since the last call."""
    statements = _new[:]
    del _new[: len(statements)]
    return statements


def take_findings() -> list[str]:
    """What is wrong with the statements that were new since the last call, apart from `EXCEPTIONS`."""
    return [
        f"{finding} in {statement.function}: {statement.one_line}"
        for statement in take_statements()
        for finding in judge(statement.sql)
        if not any(allowance.covers(statement, finding) for allowance in EXCEPTIONS)
    ]


# ---------------------------------------------------------------- judging plans


@dataclass(frozen=True, slots=True)
class Node:
    """One line of a plan. ``correlated``: the part of the plan that the line is in is carried out for each
    row of another.
    """

    detail: str
    is_first: bool
    correlated: bool


def judge(sql: str) -> list[str]:
    """What is wrong with the plan of a statement, a line each."""
    if not _STATEMENT.match(sql):
        return []
    plans = [plan for schema in _schemas() if (plan := explain(schema, sql)) is not None]
    if not plans:
        return ["no database of ours takes it"]
    return [wrong for plan in plans for node in plan if (wrong := _judge_node(node, sql)) is not None]


def explain(schema: sqlite3.Connection, sql: str) -> list[Node] | None:
    """The plan for a statement; None when it is not for these tables."""
    try:
        rows = _explained(schema, sql)
    except sqlite3.OperationalError:
        return None
    return list(_nodes(rows))


def _explained(schema: sqlite3.Connection, sql: str) -> list[tuple[int, int, str]]:
    explanation = f"EXPLAIN QUERY PLAN {sql}"
    parameters: Any = _Anything()
    try:
        found = schema.execute(explanation, parameters)
    except sqlite3.ProgrammingError:  # its parameters have no names
        parameters = [None] * _count_parameters(schema, explanation)
        found = schema.execute(explanation, parameters)
    return [(number, parent, detail) for number, parent, _, detail in found]


def _count_parameters(schema: sqlite3.Connection, explanation: str) -> int:
    try:
        schema.execute(explanation)
    except sqlite3.ProgrammingError as error:
        (count,) = re.findall(r"uses (\d+)", str(error))
        return int(count)
    return 0


class _Anything(dict[str, object]):
    """A value for any parameter that has a name."""

    def __missing__(self, _: str) -> object:
        return None


def _nodes(rows: Sequence[tuple[int, int, str]]) -> Iterator[Node]:
    correlated = {0: False}
    begun: set[int] = set()
    for number, parent, detail in rows:
        correlated[number] = correlated[parent] or detail.startswith("CORRELATED")
        if detail.startswith(("SCAN", "SEARCH")):
            yield Node(detail, parent not in begun, correlated[parent])
            begun.add(parent)


def _judge_node(node: Node, sql: str) -> str | None:
    step = _STEP.match(node.detail)
    assert step is not None, node.detail
    if step["automatic"]:
        return f"SQLite makes an index of its own ({node.detail})"
    if step["table"] in SMALL or (step["index"] in SHORT_INDEXES and node.is_first and not node.correlated):
        return None
    if step["json"] or step["table"].startswith("("):
        return (
            None
            if node.is_first and not node.correlated
            else f"a list is gone through for each row of another ({node.detail})"
        )
    if step["verb"] == "SCAN" or step["constraints"] is None:
        return f"a table that grows is gone through ({node.detail})"
    return _judge_search(node, step["table"], step["constraints"], sql)


def _judge_search(node: Node, table: str, constraints: str, sql: str) -> str | None:
    terms = constraints.split(" AND ")
    exact = frozenset(term.removesuffix("=?") for term in terms if term.endswith("=?"))
    narrow = {column for column in exact - WIDE if not re.search(rf"\b{column} IS NULL", sql)}
    if narrow or (table in KEYS and exact >= KEYS[table]):
        return None
    if len(exact) == len(terms):
        return f"all rows that share a value are gone through ({node.detail})"
    return (
        None
        if node.is_first and not node.correlated
        else f"a stretch of rows is gone through for each row of another ({node.detail})"
    )


@cache
def _schemas() -> tuple[sqlite3.Connection, ...]:
    """Empty databases: a ledger, and one of the embedded API."""
    from scheduler.ledger.schema import open_ledger  # the suite measures how long it takes to import these  # noqa: PLC0415
    from scheduler.localapi.schema import open_database  # noqa: PLC0415

    connections = []
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("ledger", open_ledger), ("api", open_database)):
            path = Path(folder, f"{name}.db")
            make(path).close()
            connection = _connect(":memory:", check_same_thread=False)
            with closing(_connect(path)) as made:
                made.backup(connection)
            connection.execute(_TEMPORARY)
            connections.append(connection)
    return tuple(connections)


# ---------------------------------------------------------------- exceptions


@dataclass(frozen=True, slots=True)
class Allowance:
    """A plan that is as it should be, although a rule says otherwise.

    ``function`` executes the statement, and ``step`` is found in the finding. ``reason`` says why nothing
    that is due waits for it.
    """

    function: str
    step: str
    reason: str

    def covers(self, statement: Statement, finding: str) -> bool:
        return statement.function == f"scheduler.{self.function}" and self.step in finding


_OWN_PROCESS: Final = "a command, in a process of its own"
_BROWSER: Final = (
    "for people, on the thread that browses or in a process of its own; given up after two seconds"
)
_MIGRATION: Final = "a migration, once for each file"
_MIGRATIONS: Final = "database.files.Migration.__call__"
_START: Final = "a start, which takes up all automations"
_ONE_SPAN: Final = (
    "LIMIT 1: the first span that ends then or later, and no other, since spans of an automation never "
    "overlap"
)
_ALL_AUTOMATIONS: Final = "(SEARCH automation USING PRIMARY KEY (target=?)"
_ALL_VERSIONS: Final = "(SEARCH definition USING INDEX definition_by_schedule (target=?)"
_VERSIONS_OF_ONE: Final = "definition_by_automation (target=? AND automation_id=?"
_LATER_SPANS: Final = "(SEARCH span USING INDEX occurrence_spans (target=? AND automation_id=? AND last>?))"

EXCEPTIONS: Final = (
    *(
        allowance
        for function in ("find_named", "find_formerly_named", "find_with_prefix")
        for allowance in (
            Allowance(f"ledger.automations.{function}", "(SCAN found", _OWN_PROCESS),
            Allowance(
                f"ledger.automations.{function}",
                f"{_VERSIONS_OF_ONE})",
                f"{_OWN_PROCESS}; LIMIT 1, and few versions have no zone",
            ),
        )
    ),
    Allowance("ledger.automations.read_names", "(SCAN automation", _OWN_PROCESS),
    Allowance("ledger.automations.read_automations", "(SCAN automation)", _OWN_PROCESS),
    Allowance(
        "ledger.summary.read_record",
        "(SCAN occurrence USING COVERING INDEX",
        f"{_OWN_PROCESS}, which counts all of them",
    ),
    Allowance(
        "ledger.summary.read_record",
        "(SCAN run)",
        f"{_OWN_PROCESS}, which looks at the newest run of each automation",
    ),
    Allowance("ledger.versions.read_versions", _ALL_VERSIONS, f"{_OWN_PROCESS}, which audits all of them"),
    Allowance(
        "ledger.versions.read_automation_versions",
        f"{_VERSIONS_OF_ONE})",
        f"{_OWN_PROCESS}, which tells of all versions of one automation",
    ),
    Allowance(
        "ledger.history.read_occurrences",
        "(SCAN occurrence USING INDEX",
        f"walks back in time up to LIMIT; {_BROWSER}",
    ),
    Allowance(
        "ledger.history.read_occurrences",
        "run_by_status (status=?)",
        f"walks back in time up to LIMIT; {_BROWSER}",
    ),
    Allowance(
        "ledger.history.read_occurrences",
        "occurrence_by_outcome (outcome=?)",
        f"walks back in time up to LIMIT; {_BROWSER}",
    ),
    Allowance("ledger.history.read_occurrences", "(SCAN automation)", f"names by a pattern; {_BROWSER}"),
    Allowance(
        "ledger.history.read_last_times",
        _ALL_AUTOMATIONS,
        "the last times of all automations, once, at a start",
    ),
    Allowance("ledger.snapshots.read_target_state", _ALL_AUTOMATIONS, _START),
    Allowance(
        "ledger.snapshots.read_target_state",
        f"{_VERSIONS_OF_ONE} AND id<?",
        "max(id): the last version before another",
    ),
    Allowance("ledger.snapshots._read_recent_removals", _ALL_AUTOMATIONS, _START),
    Allowance(
        "ledger.snapshots._read_recent_removals",
        f"{_VERSIONS_OF_ONE})",
        "LIMIT 1: an automation's first version, which is never a removal",
    ),
    Allowance("ledger.snapshots.read_newest_runs", _ALL_AUTOMATIONS, _START),
    Allowance(
        "ledger.snapshots.record_runs",
        "attempt_unknown_of (automation_id=? AND written_at>? AND written_at<?)",
        "the attempts of a day",
    ),
    Allowance("ledger.unattributed_runs.select", "unattributed_run USING PRIMARY KEY (target=?)", _START),
    Allowance("ledger.outcomes.rewind", _ALL_AUTOMATIONS, "a clock that went back concerns all automations"),
    Allowance(
        "ledger.occurrence_records.find_newest_id",
        "(SEARCH occurrence)",
        "max(id): the last row of the table alone",
    ),
    Allowance("ledger.claims._insert_claims", _LATER_SPANS, _ONE_SPAN),
    Allowance("ledger.claims.find_missing", _LATER_SPANS, _ONE_SPAN),
    Allowance(
        "ledger.claims._read_rows_between", "(SCAN at)", "the instants of a downtime, each found by the index"
    ),
    Allowance(
        "ledger.claims._read_rows_between", "(scheduled_for>?)", "min(scheduled_for): the next instant alone"
    ),
    Allowance(
        "ledger.retention._read_slice",
        f"{_VERSIONS_OF_ONE} AND id>?",
        "LIMIT 1: the version that follows another",
    ),
    Allowance(_MIGRATIONS, "(SCAN occurrence", _MIGRATION),
    Allowance(_MIGRATIONS, "(SCAN attempt", _MIGRATION),
    Allowance(_MIGRATIONS, "occurrence_by_outcome (outcome=?)", _MIGRATION),
    Allowance(_MIGRATIONS, "(SCAN run)", _MIGRATION),
    Allowance(_MIGRATIONS, "(SCAN last)", _MIGRATION),
    Allowance(_MIGRATIONS, "(SCAN newest)", _MIGRATION),
    Allowance(
        _MIGRATIONS,
        "no database of ours takes it",
        f"{_MIGRATION}, which takes a table away",
    ),
    Allowance(
        "localapi.automation_search.read_names", "(SCAN automations USING COVERING INDEX", _OWN_PROCESS
    ),
    Allowance("localapi.runs.select_runs", "(SCAN runs)", "walks back from the newest run up to LIMIT"),
    Allowance(
        "localapi.runs.select_runs",
        "runs_of_automation (automation_id=?)",
        "walks back from the newest run of one automation up to LIMIT",
    ),
    Allowance(
        "localapi.runs.select_runs",
        "(SCAN automations USING COVERING INDEX",
        f"names by a pattern; {_OWN_PROCESS}",
    ),
    Allowance("localapi.automation_search.find_named", "(SCAN automations", _OWN_PROCESS),
)
