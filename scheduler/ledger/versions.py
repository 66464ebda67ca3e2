"""The definition versions and the evaluation rules on record, and the limits of the record.

The functions take a connection for reading, see `scheduler.ledger.schema.open_for_reading`.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from scheduler.core.cron.ranges import RULES_VERSION
from scheduler.core.cron.schedule import GapPolicy, RepeatPolicy, Schedule
from scheduler.core.instants import BEGINNING_OF_TIME, from_text, to_text, to_text_seconds
from scheduler.core.model import Definition, DefinitionVersion, Gap
from scheduler.ledger.rows import parse_rows

Transition = tuple[datetime, datetime]
"""A stretch of time, exclusive begin and inclusive end, decided by the rules before or after a change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedVersion(DefinitionVersion):
    """A definition version on record.

    ``definition`` is None when the automation was removed, or so broken that no definition could be read.
    ``newest_occurrence`` is the highest id of an occurrence at the time of recording; None: not on record.
    """

    removed: bool
    croniter: str
    tzdata: str
    newest_occurrence: int | None

    @property
    def firing_definition(self) -> Definition | None:
        """The definition that fires; None when the version fires nothing."""
        fires = self.definition is not None and self.definition.enabled and self.invalid is None
        return self.definition if fires else None

    @property
    def end_reason(self) -> str | None:
        """The reason why the version fires nothing, as a participle; None when the version fires."""
        if self.removed:
            return "deleted"
        if self.invalid is not None:
            return f"invalid: {self.invalid}"
        return None if self.firing_definition is not None else "disabled"


@dataclass(frozen=True, slots=True)
class EvaluationRules:
    """The versions and settings for the evaluation of schedules after ``since``."""

    since: datetime
    croniter: str
    tzdata: str
    dst_gap: GapPolicy
    dst_repeat: RepeatPolicy
    rules_version: int  # version of the scheduler's own rules for reading expressions

    @property
    def evaluator(self) -> tuple[str, str]:
        """The versions of croniter and of the zone data."""
        return self.croniter, self.tzdata

    @property
    def settings(self) -> tuple[str, str, int]:
        """The settings, beside the versions, that decide which instants a definition implies."""
        return self.dst_gap, self.dst_repeat, self.rules_version

    def parse_schedule(self, definition: Definition) -> Schedule:
        """Parse the definition. Raises `InvalidSchedule`, for example because of the present zone data."""
        return Schedule.parse(
            definition.cron_expression,
            definition.timezone,
            dst_gap=self.dst_gap,
            dst_repeat=self.dst_repeat,
            rules_version=self.rules_version,
        )


def read_versions(connection: sqlite3.Connection, target: str) -> list[RecordedVersion]:
    """Read every definition version of a target, in the order of recording."""
    select = "SELECT * FROM definition WHERE target = ? ORDER BY id"
    return _parse_versions(connection.execute(select, (target,)))


def read_automation_versions(
    connection: sqlite3.Connection, target: str, automation_id: str
) -> list[RecordedVersion]:
    """Read every definition version of one automation, in the order of recording."""
    select = "SELECT * FROM definition WHERE target = ? AND automation_id = ? ORDER BY id"
    return _parse_versions(connection.execute(select, (target, automation_id)))


def _parse_versions(rows: sqlite3.Cursor) -> list[RecordedVersion]:
    return parse_rows(RecordedVersion, rows, definition=parse_definition)


def parse_definition(row: sqlite3.Row) -> Definition | None:
    """Parse the columns of a definition; None when the automation was removed or broken."""
    if row["cron_expression"] is None:
        return None
    return Definition(row["cron_expression"], row["timezone"], bool(row["enabled"]))


def read_rules(connection: sqlite3.Connection, evaluator: tuple[str, str]) -> list[EvaluationRules]:
    """Read the recorded evaluation rules, oldest first.

    The list is never empty: without a record, return the present ``evaluator`` and the default settings.
    """
    rules = parse_rows(EvaluationRules, connection.execute("SELECT * FROM evaluation ORDER BY id"))
    return _drop_superseded_rules(rules) or [
        EvaluationRules(BEGINNING_OF_TIME, *evaluator, "after", "once", RULES_VERSION)
    ]


_DECIDED_BEFORE: Final = """
    SELECT scheduled_for FROM occurrence
    WHERE target = ?1 AND scheduled_for <= ?2 AND coalesce(claimed_at, finished_at) < ?3
    ORDER BY scheduled_for DESC LIMIT 1
"""


def read_dst_rules(connection: sqlite3.Connection) -> tuple[GapPolicy, RepeatPolicy] | None:
    """Read the newest recorded values of ``dst_gap`` and ``dst_repeat``; None without a record."""
    row = connection.execute("SELECT dst_gap, dst_repeat FROM evaluation ORDER BY id DESC LIMIT 1").fetchone()
    return None if row is None else (row[0], row[1])


def read_transitions(
    connection: sqlite3.Connection, target: str, rules: Sequence[EvaluationRules]
) -> list[Transition]:
    """Read a transition for each change of the settings that decide beside the versions.

    A transition reaches from the last occurrence decided before the change up to the change. Occurrences in
    between were decided before the change, or after the change by the new rules: the ledger does not record
    which.
    """
    transitions = []
    for before, after in pairwise(rules):
        if before.settings != after.settings:
            bounds = target, to_text_seconds(after.since), to_text(after.since)
            row = connection.execute(_DECIDED_BEFORE, bounds).fetchone()
            transitions.append(
                (BEGINNING_OF_TIME if row is None else from_text(row["scheduled_for"]), after.since)
            )
    return transitions


def _drop_superseded_rules(recorded: list[EvaluationRules]) -> list[EvaluationRules]:
    """Drop the rules that a clock step backwards placed before earlier records: the later record counts."""
    kept: list[EvaluationRules] = []
    for rules in recorded:
        while kept and kept[-1].since >= rules.since:
            kept.pop()
        kept.append(rules)
    return kept


def read_prune_limit(connection: sqlite3.Connection) -> datetime | None:
    """Read the prune limit: occurrences scheduled before may have been removed because of their age."""
    row = connection.execute("SELECT before FROM pruned").fetchone()
    return None if row is None else from_text(row["before"])


def read_gaps(connection: sqlite3.Connection, target: str) -> list[Gap]:
    """Read the gaps: stretches below the watermark that are not decided yet."""
    select = "SELECT * FROM gap WHERE target = ? ORDER BY since"
    return parse_rows(Gap, connection.execute(select, (target,)))
