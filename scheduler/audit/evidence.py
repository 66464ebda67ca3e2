"""The evidence: all records about one automation at one instant."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from scheduler.audit.evaluation import Evaluation
from scheduler.audit.versions import VersionPeriod, find_period_at, find_periods
from scheduler.core.model import Gap, Occurrence
from scheduler.core.occurrence_log import Step
from scheduler.ledger import occurrence_records
from scheduler.ledger.targets import LedgerTarget, read_target
from scheduler.ledger.versions import read_automation_versions, read_gaps, read_prune_limit, read_rules


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence. ``instant`` is the instant in question."""

    target: str
    automation_id: str
    name: str
    instant: datetime
    periods: Sequence[VersionPeriod]
    evaluation: Evaluation
    row: occurrence_records.OccurrenceRow | None
    attempts: Sequence[occurrence_records.AttemptRow]
    steps: Sequence[Step]
    runs: Sequence[occurrence_records.RunRow]
    pauses: Sequence[occurrence_records.PauseRow]
    policy: occurrence_records.RecordedPolicy | None
    recorded_target: LedgerTarget
    pruned_before: datetime | None
    gaps: Sequence[Gap]

    @property
    def period(self) -> VersionPeriod | None:
        """The period of the version in force at the instant; None before the first version."""
        return find_period_at(self.periods, self.instant)

    @property
    def is_implied(self) -> bool:
        """Whether the version in force implied an occurrence at exactly this instant."""
        definition = None if self.period is None else self.period.version.firing_definition
        return definition is not None and self.evaluation.implies(definition, self.instant)

    @property
    def is_undecided(self) -> bool:
        """Whether the daemon has not decided yet about occurrences due at the instant."""
        watermark = self.recorded_target.watermark
        return watermark is None or self.instant > watermark or self.is_in_gap

    @property
    def is_in_gap(self) -> bool:
        """Whether the instant is below the watermark, in a gap that recovery may not have reached yet."""
        return any(gap.may_contain(self.automation_id, self.instant) for gap in self.gaps)


def collect_evidence(
    connection: sqlite3.Connection,
    target: str,
    automation_id: str,
    instant: datetime,
    evaluator: tuple[str, str],
) -> Evidence:
    """Collect the evidence from the ledger.

    ``evaluator`` is the pair of present versions: croniter and zone data.
    """
    occurrence = Occurrence(target, automation_id, instant)
    versions = read_automation_versions(connection, target, automation_id)
    row = occurrence_records.read_row(connection, occurrence)
    decided_at = instant if row is None else row.claimed_at or row.finished_at
    return Evidence(
        target=target,
        automation_id=automation_id,
        name=versions[-1].name if versions else automation_id,
        instant=instant,
        periods=find_periods(versions),
        evaluation=Evaluation(read_rules(connection, evaluator)),
        row=row,
        attempts=[] if row is None else occurrence_records.read_attempts(connection, row),
        steps=[] if row is None else occurrence_records.read_steps(connection, row),
        runs=occurrence_records.read_runs(connection, occurrence, row),
        pauses=occurrence_records.read_pauses_at(connection, occurrence),
        policy=occurrence_records.read_policy(connection, decided_at),
        recorded_target=read_target(connection, target),
        pruned_before=read_prune_limit(connection),
        gaps=read_gaps(connection, target),
    )
