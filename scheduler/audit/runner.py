"""One audit, from its beginning to its end: a stretch of time after the other, on all processors where that is worth it."""

import fnmatch
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from sqlite3 import Connection
from typing import Final

from scheduler.audit import ledger_queries
from scheduler.audit.comparison import (
    MAX_ZONE_SHIFT,
    Discrepancy,
    Judge,
    count_missing_rows,
    find_differing_instants,
    find_discrepancies,
    find_miscounted_spans,
    split_off_gaps,
)
from scheduler.audit.consistency import make_double_finding, make_inconsistent_finding, make_open_finding
from scheduler.audit.evaluation import Evaluation
from scheduler.audit.expectation import AuditExpectation, PeriodsByAutomation, Tally, draw_weights, group_periods
from scheduler.audit.findings import AuditFinding, FindingKind
from scheduler.core.cron import read_versions
from scheduler.core.errors import ConfigurationError, Unreachable
from scheduler.core.model import Gap
from scheduler.ledger import history
from scheduler.ledger.schema import open_for_reading

STRETCH: Final = timedelta(days=7)
_JUST_BEFORE: Final = timedelta(microseconds=1)
_SINGLE_PROCESS_STRETCHES: Final = 4
"""So few stretches are not worth another process."""

Fate = tuple[str | None, str | None]
"""Outcome and reason; none of an occurrence that is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """What is to be audited: ``since`` is inclusive, ``until`` exclusive. ``automation``: an id, a name or a pattern for it."""

    since: datetime
    until: datetime
    now: datetime
    target: str | None = None
    automation: str | None = None
    patience: Callable[[str, str], timedelta] = lambda _id, _name: timedelta(0)
    """By an automation's id and name, how long after it is due an occurrence may wait for the run before it."""


@dataclass(frozen=True, slots=True)
class AuditBounds:
    """What can be audited of a target: after ``begin`` and up to ``end``; ``is_complete``: that is up to where it was wanted.

    Up to the watermark everything is decided. What is later and has a row is decided too, up to the first that has none.
    """

    target: str
    begin: datetime
    end: datetime
    watermark: datetime | None
    snapshot_at: datetime | None
    pruned_before: datetime | None
    is_complete: bool = False

    @property
    def since(self) -> datetime:
        """The first instant that is audited."""
        return self.begin + _JUST_BEFORE

    @property
    def is_empty(self) -> bool:
        """Whether nothing of what was wanted is decided yet, or nothing is left of it."""
        return self.end <= self.begin


@dataclass(slots=True)
class AuditSummary:
    """What an audit has looked at and found so far."""

    bounds: list[AuditBounds] = field(default_factory=list)
    automations: int = 0
    outcomes: Counter[Fate] = field(default_factory=Counter)
    undecided: int = 0  # occurrences in gaps: a daemon that recovers from a downtime decides them one slice after the other
    kinds: Counter[FindingKind] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one stretch came to."""

    end: datetime
    discrepancies: Sequence[Discrepancy]
    findings: Sequence[AuditFinding]
    outcomes: Counter[Fate]
    undecided: int


class _Auditor:
    """Audits one target, in whichever process. Connections do not outlive a fork, so each process opens its own."""

    def __init__(self, path: Path, wanted: AuditRequest, bounds: AuditBounds) -> None:
        self.path, self.target = path, bounds.target
        evaluated = read_versions()
        evaluator = (evaluated.croniter, evaluated.tzdata)
        with closing(open_for_reading(path)) as connection:
            recorded = group_periods(ledger_queries.read_versions(connection, bounds.target))
            rules = ledger_queries.read_rules(connection, evaluator)
            self.evaluation = Evaluation(rules, ledger_queries.read_transitions(connection, bounds.target, rules))
        self.all_of_them = wanted.automation is None
        self.periods: PeriodsByAutomation = {
            each: forces for each, forces in recorded.items() if _is_selected(wanted.automation, each, recorded)
        }
        self.weights = draw_weights(self.periods)
        self.judge = Judge(bounds.target, self.periods, self.evaluation, evaluator)
        self.bounds = self._extend_bounds(bounds, min(wanted.until - _JUST_BEFORE, wanted.now))

    def _extend_bounds(self, bounds: AuditBounds, wanted: datetime) -> AuditBounds:
        """Beyond the watermark, but not beyond the newest snapshot: an edit that a later one shows may count from then on."""
        if bounds.watermark is None or bounds.snapshot_at is None:
            return bounds
        whole, wanted = wanted, min(wanted, bounds.snapshot_at)
        begin = bounds.end
        with closing(self.connect()) as connection:
            while begin < wanted:
                end = min(begin + STRETCH, wanted)
                missing = self._find_first_missing(connection, (bounds.target, begin, end))
                if missing is not None:
                    return replace(bounds, end=missing - _JUST_BEFORE)
                begin = end
        end = max(bounds.end, wanted)
        return replace(bounds, end=end, is_complete=end >= whole)

    def _find_first_missing(self, connection: Connection, stretch: ledger_queries.TargetStretch) -> datetime | None:
        expectation, instants, _ = self._find_differences(connection, stretch)
        found = (each for instant in instants for each in self._compare_instant(connection, expectation, instant))
        return next((each.scheduled_for for each in found if each.kind is FindingKind.MISSING), None)

    def _find_differences(
        self, connection: Connection, stretch: ledger_queries.TargetStretch
    ) -> tuple[AuditExpectation, list[datetime], int]:
        """What was implied in the stretch, the instants at which something else is on record, and how much of gaps is not decided yet."""
        _, begin, end = stretch
        gaps = [gap for gap in ledger_queries.read_gaps(connection, self.target) if gap.since < end and begin < gap.until]
        expectation, counted = self._tally_stretch(connection, stretch, gaps)
        decided, undecided = split_off_gaps(find_differing_instants(expectation, counted), gaps)
        lacking = count_missing_rows(undecided, expectation, counted)
        if undecided and (first := min(gap.automation_id for gap in gaps)):
            of_decided, counted = self._tally_stretch(connection, stretch, gaps, before=first)
            decided = sorted({*decided, *(set(find_differing_instants(of_decided, counted)) & set(undecided))})
            lacking -= count_missing_rows(undecided, of_decided, counted)
        return expectation, decided, lacking

    def _tally_stretch(
        self, connection: Connection, stretch: ledger_queries.TargetStretch, gaps: Sequence[Gap], *, before: str | None = None
    ) -> tuple[AuditExpectation, dict[datetime, Tally]]:
        """What was implied in the stretch and what is on record; of all automations, or only of those whose id comes before another."""
        _, begin, end = stretch
        lineages = {each: forces for each, forces in self.periods.items() if before is None or each < before}
        spans = [
            each
            for each in ledger_queries.read_spans(connection, stretch)
            if (self.all_of_them and before is None) or each.automation_id in lineages
        ]
        expectation = AuditExpectation(lineages, self.weights, self.evaluation, begin, end, spans, gaps)
        return expectation, ledger_queries.count_rows(connection, stretch, all_of_them=self.all_of_them, before=before)

    def connect(self) -> Connection:
        """A connection to audit with, for one process."""
        connection = open_for_reading(self.path)
        ledger_queries.store_weights(connection, self.weights)
        return connection

    def split_into_stretches(self) -> Iterator[tuple[datetime, datetime]]:
        begin = self.bounds.begin
        while begin < self.bounds.end:
            end = min(begin + STRETCH, self.bounds.end)
            yield begin, end
            begin = end

    def audit_stretch(self, connection: Connection, begin: datetime, end: datetime) -> _Part:
        """One stretch."""
        target, stretch = self.target, (self.target, begin, end)
        connection.execute("BEGIN")  # one state of the ledger, whatever a daemon writes meanwhile
        expectation, instants, undecided = self._find_differences(connection, stretch)
        found = [each for instant in instants for each in self._compare_instant(connection, expectation, instant)]
        counts = ledger_queries.count_outcomes(connection, stretch, all_of_them=self.all_of_them)
        findings = [self.judge.judge_miscounted_span(span, implied) for span, implied in find_miscounted_spans(expectation)]
        if any(each.inconsistent for each in counts):
            findings += [
                make_inconsistent_finding(target, each)
                for each in ledger_queries.find_inconsistent_rows(connection, stretch, all_of_them=self.all_of_them)
            ]
        connection.execute("ROLLBACK")
        outcomes: Counter[Fate] = Counter({(each.outcome, each.reason): each.number for each in counts})
        for span, covered in expectation.span_counts.items():
            outcomes[span.outcome, span.reason] += covered
        return _Part(end, found, findings, outcomes, undecided)

    def _compare_instant(self, connection: Connection, expectation: AuditExpectation, instant: datetime) -> Iterator[Discrepancy]:
        rows = ledger_queries.read_fates(connection, self.target, instant)
        if not self.all_of_them:
            rows = {each: fate for each, fate in rows.items() if each in self.periods}
        for found in find_discrepancies(expectation, instant, rows):
            if found.kind is not FindingKind.UNEXPLAINED or not self._was_sent_ahead(connection, expectation, found):
                yield found

    def _was_sent_ahead(self, connection: Connection, expectation: AuditExpectation, found: Discrepancy) -> bool:
        """Whether a clock that was ahead sent the occurrence by a definition of which the daemon knew no end yet."""
        sent_at = ledger_queries.find_sending(connection, self.target, found.automation_id, found.scheduled_for)
        return sent_at is not None and expectation.was_implied_when_sent(found.automation_id, found.scheduled_for, sent_at)


def _is_selected(automation: str | None, automation_id: str, recorded: PeriodsByAutomation) -> bool:
    if automation is None or automation.lower() == automation_id:
        return True
    return any(fnmatch.fnmatchcase(force.version.name, automation) or force.version.name == automation for force in recorded[automation_id])


class Audit:
    """An audit of the ledger in a file. Raises what opening it does, and `ConfigurationError` for a target that it does not know.

    ``summary`` grows while `run` goes on.
    """

    def __init__(self, path: Path, wanted: AuditRequest, *, processes: int | None = None) -> None:
        self._path = path
        self._wanted = wanted
        self._processes = len(os.sched_getaffinity(0)) if processes is None else processes
        self.summary = AuditSummary()
        with closing(open_for_reading(path)) as connection:
            pruned = ledger_queries.read_prune_limit(connection)
            known = history.read_targets(connection)
        self.targets = [each for each in known if wanted.target in {None, each.name}]
        if not self.targets:
            names = ", ".join(each.name for each in known) or "none: start the daemon once"
            raise ConfigurationError(f"the ledger has no target {wanted.target!r}; it knows {names}")
        self._auditors = [_Auditor(path, wanted, _make_bounds(each, wanted, pruned)) for each in self.targets]
        self.summary.bounds = [each.bounds for each in self._auditors]
        self.summary.automations = sum(len(each.periods) for each in self._auditors)

    def run(self, progress: Callable[[float], None] = lambda _: None) -> Iterator[AuditFinding]:
        """Every finding, more or less in the order of time, target by target. ``progress`` is told the share that is done."""
        total = sum((each.bounds.end - each.bounds.begin).total_seconds() for each in self._auditors if not each.bounds.is_empty)
        done = 0.0
        for auditor in self._auditors:
            if auditor.bounds.is_empty:
                continue
            for finding, end in self._audit_target(auditor):
                if end is not None:
                    progress((done + (end - auditor.bounds.begin).total_seconds()) / total)
                if finding is not None:
                    yield self.count_finding(finding)
            done += (auditor.bounds.end - auditor.bounds.begin).total_seconds()

    def count_finding(self, finding: AuditFinding) -> AuditFinding:
        """Take a finding into the summary."""
        self.summary.kinds[finding.kind] += 1
        return finding

    def list_names(self, target: str) -> dict[str, str]:
        """The automations of a target that are audited, with their newest names."""
        auditor = next(each for each in self._auditors if each.target == target)
        return {automation_id: forces[-1].version.name for automation_id, forces in auditor.periods.items()}

    def _audit_target(self, auditor: _Auditor) -> Iterator[tuple[AuditFinding | None, datetime | None]]:
        left: list[Discrepancy] = []  # of automations whose next one, beyond the end of the stretch, may belong to these
        for part in self._audit_stretches(auditor):
            self.summary.outcomes.update(part.outcomes)
            self.summary.undecided += part.undecided
            yield None, part.end
            found = [*left, *part.discrepancies]
            waiting = {each.automation_id for each in found if each.scheduled_for > part.end - MAX_ZONE_SHIFT}
            ripe = [each for each in found if each.automation_id not in waiting]
            left = [each for each in found if each.automation_id in waiting]
            for finding in (*auditor.judge.judge(ripe), *part.findings):
                yield finding, None
        for finding in (*auditor.judge.judge(left), *self._find_open_and_doubles(auditor)):
            yield finding, None

    def _find_open_and_doubles(self, auditor: _Auditor) -> Iterator[AuditFinding]:
        """What needs no walk through time."""
        bounds, wanted, names = auditor.bounds, self._wanted, self.list_names(auditor.bounds.target)
        stretch = (bounds.target, bounds.begin, bounds.end)
        with closing(open_for_reading(self._path)) as connection:
            opened, doubled = ledger_queries.find_open_rows(connection, stretch), ledger_queries.find_late_doubles(connection, stretch)
        for each in opened:
            late = make_open_finding(bounds.target, each, wanted.now, wanted.patience(each.automation_id, each.name))
            if late is not None and (auditor.all_of_them or each.automation_id in names):
                yield late
        for double in doubled:
            if auditor.all_of_them or double.automation_id in names:
                yield make_double_finding(bounds.target, double, names.get(double.automation_id, double.automation_id))

    def _audit_stretches(self, auditor: _Auditor) -> Iterator[_Part]:
        stretches = list(auditor.split_into_stretches())
        if self._processes == 1 or len(stretches) <= _SINGLE_PROCESS_STRETCHES:
            with closing(auditor.connect()) as connection:
                yield from (auditor.audit_stretch(connection, *each) for each in stretches)
            return
        # Forked, so that they are the user whose ledger it is, as this process may have become; it has no other threads here.
        forked = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(self._processes, mp_context=forked, initializer=_start_worker, initargs=(auditor,)) as pool:
            try:
                yield from pool.map(_audit_in_worker, stretches)
            except BrokenProcessPool:
                raise Unreachable("a process of the audit was killed; when memory is short, audit a shorter time, or one target") from None
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _make_bounds(target: history.KnownTarget, wanted: AuditRequest, pruned: datetime | None) -> AuditBounds:
    begin = max(wanted.since, pruned or wanted.since) - _JUST_BEFORE
    end = max(min(wanted.until - _JUST_BEFORE, target.watermark or begin), begin)
    return AuditBounds(target.name, begin, end, target.watermark, target.snapshot_at, pruned)


# ---------------------------------------------------------------- in a process of its own

_worker_state: list[tuple[_Auditor, Connection]] = []


def _start_worker(auditor: _Auditor) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    _worker_state.append((auditor, auditor.connect()))


def _audit_in_worker(bounds: tuple[datetime, datetime]) -> _Part:
    ((auditor, connection),) = _worker_state
    return auditor.audit_stretch(connection, *bounds)
