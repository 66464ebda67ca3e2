"""A summary of the whole ledger for `scheduler check`, also of a ledger with an older schema."""

import sqlite3
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from scheduler.core.instants import from_text, to_text, to_text_seconds
from scheduler.core.status import NONE_FAILING, FailingAutomations, ForeignRunTally
from scheduler.ledger.automations import AutomationRow, read_automations
from scheduler.ledger.finished_runs import read_failing
from scheduler.ledger.operator_requests import read_pauses
from scheduler.ledger.rows import parse_rows
from scheduler.ledger.targets import LedgerTarget, read_targets

_FINISHED_RUNS_VERSION: Final = 6  # the first schema version with finished runs


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRecord:
    """The content of a readable ledger."""

    occurrences: int = 0
    recent: int = 0  # occurrences of the last seven days
    evaluation: tuple[str, str, int] | None = None  # the last croniter, zone data and rules version
    targets: tuple[LedgerTarget, ...] = ()
    automations: tuple[AutomationRow, ...] = ()
    paused: frozenset[tuple[str, str]] = frozenset()  # target and automation id; * for all automations
    foreign_runs: tuple[ForeignRunTally, ...] = ()
    newest_runs: dict[str, datetime] = field(default_factory=dict)  # start by automation id, API's clock
    failing: FailingAutomations = NONE_FAILING


def read_record(connection: sqlite3.Connection, since: datetime, version: int) -> LedgerRecord:
    """Read the summary. ``since``: the begin of the recent time. ``version``: the version of the schema."""
    (occurrences,) = connection.execute("SELECT count(*) FROM occurrence").fetchone()
    (recent,) = connection.execute(
        "SELECT count(*) FROM occurrence WHERE scheduled_for > ?", (to_text_seconds(since),)
    ).fetchone()
    evaluation = connection.execute(
        "SELECT croniter, tzdata, rules_version FROM evaluation ORDER BY id DESC LIMIT 1"
    ).fetchone()
    newest = connection.execute(
        "SELECT automation_id, max(started_at) FROM run WHERE started_at IS NOT NULL GROUP BY automation_id"
    )
    targets = read_targets(connection)
    has_finished_runs = version >= _FINISHED_RUNS_VERSION
    return LedgerRecord(
        occurrences=occurrences,
        recent=recent,
        evaluation=None if evaluation is None else tuple(evaluation),
        targets=tuple(targets),
        automations=tuple(read_automations(connection)),
        paused=frozenset((pause.target, pause.automation_id) for pause in read_pauses(connection)),
        foreign_runs=tuple(parse_rows(ForeignRunTally, connection.execute(_FOREIGN, (to_text(since),)))),
        newest_runs={automation_id: from_text(started_at) for automation_id, started_at in newest},
        failing=read_failing(connection, [target.name for target in targets])
        if has_finished_runs
        else NONE_FAILING,
    )


_FOREIGN: Final = """
    SELECT run.target, run.automation_id, coalesce(automation.name, run.automation_id) AS name,
        count(*) AS count, max(run.started_at) AS newest, count(run.doubles) AS doubled
    FROM run LEFT JOIN automation ON automation.target = run.target
        AND automation.automation_id = run.automation_id
    WHERE run.origin = 'foreign' AND run.started_at > ? GROUP BY run.target, run.automation_id
"""
