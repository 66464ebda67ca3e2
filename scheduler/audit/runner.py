"""A whole audit: stretch of time by stretch of time, on all processors where the work is worth it."""

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from sqlite3 import Connection
from typing import Final

from scheduler.audit import comparison, consistency
from scheduler.audit.comparison import Discrepancy
from scheduler.audit.evaluation import Evaluation
from scheduler.audit.expectation import AuditExpectation, PeriodsByAutomation, draw_weights, group_periods
from scheduler.audit.findings import AuditFinding, FindingKind
from scheduler.core.automation_filter import make_match
from scheduler.core.cron.schedule import read_versions
from scheduler.core.errors import ConfigurationError, Unreachable
from scheduler.core.instants import JUST_BEFORE
from scheduler.core.model import Gap, Occurrence
from scheduler.ledger import audit_queries, versions
from scheduler.ledger.occurrence_records import read_row
from scheduler.ledger.schema import open_for_reading
from scheduler.ledger.targets import LedgerTarget, read_targets

STRETCH: Final = timedelta(days=7)
_SINGLE_PROCESS_STRETCHES: Final = 4
"""Up to this number of stretches, another process is not worth its cost."""

Fate = tuple[str | None, str | None]
"""The outcome and reason; both None for an open occurrence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """The request for an audit. ``since`` is inclusive, ``until`` exclusive.

    ``automation`` is an id, a name or a pattern of names.
    """

    since: datetime
    until: datetime
    now: datetime
    target: str | None = None
    automation: str | None = None
    patience: Callable[[str, str], timedelta] = lambda _id, _name: timedelta(0)
    """Maximum wait for the previous run after the due instant, by automation id and name."""


@dataclass(frozen=True, slots=True)
class AuditBounds:
    """The stretch of a target that can be audited: after ``begin`` and up to ``end``.

    ``is_complete``: the stretch reaches the wanted end. Up to the watermark everything is decided. Later
    occurrences with a row are decided too, up to the first occurrence without a row.
    """

    target: LedgerTarget
    begin: datetime
    end: datetime
    pruned_before: datetime | None
    is_complete: bool = False

    @property
    def since(self) -> datetime:
        """The first audited instant."""
        return self.begin + JUST_BEFORE

    @property
    def is_empty(self) -> bool:
        """Whether nothing in the wanted time is decided yet, or retention removed everything."""
        return self.end <= self.begin


@dataclass(slots=True)
class AuditSummary:
    """The scope and the counts of an audit so far."""

    bounds: list[AuditBounds] = field(default_factory=list)
    automations: int = 0
    outcomes: Counter[Fate] = field(default_factory=Counter)
    undecided: int = 0  # occurrences in gaps: recovery from a downtime decides them slice by slice
    kinds: Counter[FindingKind] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Part:
    """The result of one stretch."""

    end: datetime
    discrepancies: Sequence[Discrepancy]
    findings: Sequence[AuditFinding]
    outcomes: Counter[Fate]
    undecided: int


class _Auditor:
    """Audits one target, in any process.

    Connections do not survive a fork, so each process opens its own connection.
    """

    def __init__(self, path: Path, wanted: AuditRequest, bounds: AuditBounds) -> None:
        self.path, self.target = path, bounds.target.name
        evaluated = read_versions()
        evaluator = (evaluated.croniter, evaluated.tzdata)
        with closing(open_for_reading(path)) as connection:
            recorded = group_periods(versions.read_versions(connection, self.target))
            rules = versions.read_rules(connection, evaluator)
            self.evaluation = Evaluation(rules, versions.read_transitions(connection, self.target, rules))
        self.all_of_them = wanted.automation is None
        self.periods = _select_automations(recorded, wanted.automation)
        self.weights = draw_weights(self.periods)
        self.judge = comparison.Judge(self.target, self.periods, self.evaluation, evaluator)
        self.bounds = self._extend_bounds(bounds, min(wanted.until - JUST_BEFORE, wanted.now))
        self.stretches = list(_split_into_stretches(self.bounds.begin, self.bounds.end))

    def _extend_bounds(self, bounds: AuditBounds, wanted: datetime) -> AuditBounds:
        """Extend the bounds beyond the watermark, but not beyond the newest snapshot.

        An edit that a later snapshot shows may count from the newest snapshot on.
        """
        snapshot_at = bounds.target.snapshot_at
        if bounds.target.watermark is None or snapshot_at is None:
            return bounds
        whole, wanted = wanted, min(wanted, snapshot_at)
        with closing(self.connect()) as connection:
            for begin, end in _split_into_stretches(bounds.end, wanted):
                missing = self._find_first_missing(connection, (self.target, begin, end))
                if missing is not None:
                    return replace(bounds, end=missing - JUST_BEFORE)
        end = max(bounds.end, wanted)
        return replace(bounds, end=end, is_complete=end >= whole)

    def _find_first_missing(
        self, connection: Connection, stretch: audit_queries.TargetStretch
    ) -> datetime | None:
        expectation, instants, _ = self._find_differences(connection, stretch)
        for discrepancy in self._find_discrepancies(connection, expectation, instants):
            if discrepancy.kind is FindingKind.MISSING:
                return discrepancy.scheduled_for
        return None

    def _find_differences(
        self, connection: Connection, stretch: audit_queries.TargetStretch
    ) -> tuple[AuditExpectation, list[datetime], int]:
        """Find the differences between the implied and the recorded occurrences of the stretch.

        Return the expectation, the instants with a difference, and the number of undecided occurrences in
        gaps.
        """
        _, begin, end = stretch
        gaps = versions.read_gaps(connection, self.target)
        gaps = [gap for gap in gaps if gap.since < end and begin < gap.until]
        expectation, counted = self._tally_stretch(connection, stretch, gaps)
        decided, undecided = comparison.split_off_gaps(
            comparison.find_differing_instants(expectation, counted), gaps
        )
        missing = comparison.count_missing_rows(undecided, expectation, counted)
        if undecided and (first := min(gap.automation_id for gap in gaps)):
            of_decided, counted = self._tally_stretch(connection, stretch, gaps, first)
            differing = set(comparison.find_differing_instants(of_decided, counted))
            decided = sorted({*decided, *(differing & set(undecided))})
            missing -= comparison.count_missing_rows(undecided, of_decided, counted)
        return expectation, decided, missing

    def _tally_stretch(
        self,
        connection: Connection,
        stretch: audit_queries.TargetStretch,
        gaps: Sequence[Gap],
        before: str | None = None,
    ) -> tuple[AuditExpectation, dict[datetime, audit_queries.Tally]]:
        """Tally the implied and the recorded occurrences of the stretch.

        With ``before``, only automations with an id before this id are counted.
        """
        _, begin, end = stretch
        periods = {
            automation_id: own
            for automation_id, own in self.periods.items()
            if before is None or automation_id < before
        }
        spans = [
            span
            for span in audit_queries.read_spans(connection, stretch)
            if (self.all_of_them and before is None) or span.automation_id in periods
        ]
        expectation = AuditExpectation(periods, self.weights, self.evaluation, begin, end, spans, gaps)
        all_of_them = self.all_of_them
        return expectation, audit_queries.count_rows(
            connection, stretch, all_of_them=all_of_them, before=before
        )

    def connect(self) -> Connection:
        """Open a connection for the audit, for one process."""
        connection = open_for_reading(self.path)
        audit_queries.store_weights(connection, self.weights)
        return connection

    def audit_stretch(self, connection: Connection, begin: datetime, end: datetime) -> _Part:
        """Audit one stretch."""
        target, stretch = self.target, (self.target, begin, end)
        with audit_queries.read_one_state(connection):
            expectation, instants, undecided = self._find_differences(connection, stretch)
            discrepancies = list(self._find_discrepancies(connection, expectation, instants))
            counts = audit_queries.count_outcomes(connection, stretch, all_of_them=self.all_of_them)
            findings = [
                self.judge.judge_miscounted_span(span, implied)
                for span, implied in comparison.find_miscounted_spans(expectation)
            ]
            if any(row.inconsistent for row in counts):
                wrong = audit_queries.find_inconsistent_rows(
                    connection, stretch, all_of_them=self.all_of_them
                )
                findings += [consistency.make_inconsistent_finding(target, row) for row in wrong]
        outcomes: Counter[Fate] = Counter({(row.outcome, row.reason): row.number for row in counts})
        for span, covered in expectation.span_counts.items():
            outcomes[span.outcome, span.reason] += covered
        return _Part(end, discrepancies, findings, outcomes, undecided)

    def _find_discrepancies(
        self, connection: Connection, expectation: AuditExpectation, instants: Iterable[datetime]
    ) -> Iterator[Discrepancy]:
        for instant in instants:
            rows = audit_queries.read_fates(connection, self.target, instant)
            fates = {id_: fate for id_, fate in rows.items() if self.all_of_them or id_ in self.periods}
            for discrepancy in comparison.find_discrepancies(expectation, instant, fates):
                if not self._was_written_ahead(connection, expectation, discrepancy):
                    yield discrepancy

    def _was_written_ahead(
        self, connection: Connection, expectation: AuditExpectation, discrepancy: Discrepancy
    ) -> bool:
        """Return whether an unexplained occurrence got a row before the end of its definition was recorded.

        A local clock that was ahead made the row before the daemon knew the end.
        """
        if discrepancy.kind is not FindingKind.UNEXPLAINED:
            return False
        automation_id, instant = discrepancy.automation_id, discrepancy.scheduled_for
        row = read_row(connection, Occurrence(self.target, automation_id, instant))
        return row is not None and expectation.was_implied_when_written(automation_id, instant, row.id)


def _split_into_stretches(begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    while begin < end:
        until = min(begin + STRETCH, end)
        yield begin, until
        begin = until


def _select_automations(recorded: PeriodsByAutomation, automation: str | None) -> PeriodsByAutomation:
    """Select the automations by id, by any name that they had, or by a pattern for the name."""
    if automation is None:
        return recorded
    matches = make_match(automation)
    return {
        automation_id: periods
        for automation_id, periods in recorded.items()
        if any(matches(automation_id, period.version.name) for period in periods)
    }


class Audit:
    """An audit of a ledger file.

    The constructor raises the exceptions of `open_for_reading`, and `ConfigurationError` for an unknown
    target. ``summary`` grows during `run`.
    """

    def __init__(self, path: Path, wanted: AuditRequest, *, processes: int | None = None) -> None:
        self._path = path
        self._wanted = wanted
        self._processes = len(os.sched_getaffinity(0)) if processes is None else processes
        self.summary = AuditSummary()
        with closing(open_for_reading(path)) as connection:
            pruned = versions.read_prune_limit(connection)
            known = read_targets(connection)
        self.targets = [target for target in known if wanted.target in {None, target.name}]
        if not self.targets:
            names = ", ".join(target.name for target in known) or "none: start the daemon once"
            raise ConfigurationError(f"the ledger has no target {wanted.target!r}; it knows {names}")
        self._auditors = [
            _Auditor(path, wanted, _make_bounds(target, wanted, pruned)) for target in self.targets
        ]
        self.summary.bounds = [auditor.bounds for auditor in self._auditors]
        self.summary.automations = sum(len(auditor.periods) for auditor in self._auditors)

    def run(self, progress: Callable[[float], None] = lambda _: None) -> Iterator[AuditFinding]:
        """Yield every finding, roughly in the order of time, target by target.

        ``progress`` is called with the share already done, between 0 and 1.
        """
        auditors = [auditor for auditor in self._auditors if not auditor.bounds.is_empty]
        total = sum(len(auditor.stretches) for auditor in auditors)
        done = count(1)
        for auditor in auditors:
            for finding in self._audit_target(auditor, lambda: progress(next(done) / total)):
                yield self.count_finding(finding)

    def count_finding(self, finding: AuditFinding) -> AuditFinding:
        """Count a finding in the summary, and return the finding."""
        self.summary.kinds[finding.kind] += 1
        return finding

    def list_names(self, target: str) -> dict[str, str]:
        """Map the audited automations of a target to their newest names."""
        auditor = next(auditor for auditor in self._auditors if auditor.target == target)
        return {automation_id: periods[-1].version.name for automation_id, periods in auditor.periods.items()}

    def _audit_target(self, auditor: _Auditor, report: Callable[[], None]) -> Iterator[AuditFinding]:
        """Yield the findings of a target, and call ``report`` after each stretch."""
        left: list[Discrepancy] = []  # discrepancies that the next stretch may pair
        for part in self._audit_stretches(auditor):
            self.summary.outcomes.update(part.outcomes)
            self.summary.undecided += part.undecided
            report()
            discrepancies = [*left, *part.discrepancies]
            waiting = {
                discrepancy.automation_id
                for discrepancy in discrepancies
                if discrepancy.scheduled_for > part.end - comparison.MAX_ZONE_SHIFT
            }
            ripe = [discrepancy for discrepancy in discrepancies if discrepancy.automation_id not in waiting]
            left = [discrepancy for discrepancy in discrepancies if discrepancy.automation_id in waiting]
            yield from auditor.judge.judge(ripe)
            yield from part.findings
        yield from auditor.judge.judge(left)
        yield from self._find_open_and_doubles(auditor)

    def _find_open_and_doubles(self, auditor: _Auditor) -> Iterator[AuditFinding]:
        """Find open occurrences and late doubles: findings that need no comparison by stretches."""
        target, wanted, names = auditor.target, self._wanted, self.list_names(auditor.target)
        stretch = (target, auditor.bounds.begin, auditor.bounds.end)
        with closing(open_for_reading(self._path)) as connection:
            open_rows = audit_queries.find_open_rows(connection, stretch)
            doubles = audit_queries.find_late_doubles(connection, stretch)
        for row in open_rows:
            patience = wanted.patience(row.automation_id, row.name)
            late = consistency.make_open_finding(target, row, wanted.now, patience)
            if late is not None and (auditor.all_of_them or row.automation_id in names):
                yield late
        for double in doubles:
            if auditor.all_of_them or double.automation_id in names:
                name = names.get(double.automation_id, double.automation_id)
                yield consistency.make_double_finding(target, double, name)

    def _audit_stretches(self, auditor: _Auditor) -> Iterator[_Part]:
        stretches = auditor.stretches
        if self._processes == 1 or len(stretches) <= _SINGLE_PROCESS_STRETCHES:
            with closing(auditor.connect()) as connection:
                yield from (auditor.audit_stretch(connection, *stretch) for stretch in stretches)
            return
        # Forked: so a worker runs as the ledger's owner, to whom this process may have switched. This process
        # has no other threads here.
        forked = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(
            self._processes, mp_context=forked, initializer=_start_worker, initargs=(auditor,)
        ) as pool:
            try:
                yield from pool.map(_audit_in_worker, stretches)
            except BrokenProcessPool:
                raise Unreachable(
                    "a process of the audit was killed; when memory is short, audit a shorter time, "
                    "or one target"
                ) from None
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _make_bounds(target: LedgerTarget, request: AuditRequest, pruned: datetime | None) -> AuditBounds:
    begin = max(request.since, pruned or request.since) - JUST_BEFORE
    end = max(min(request.until - JUST_BEFORE, target.watermark or begin), begin)
    return AuditBounds(target, begin, end, pruned)


# ---------------------------------------------------------------- in a worker process

_worker_state: list[tuple[_Auditor, Connection]] = []


def _start_worker(auditor: _Auditor) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends the worker
    _worker_state.append((auditor, auditor.connect()))


def _audit_in_worker(bounds: tuple[datetime, datetime]) -> _Part:
    ((auditor, connection),) = _worker_state
    return auditor.audit_stretch(connection, *bounds)
