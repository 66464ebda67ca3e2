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

from scheduler.audit import reading
from scheduler.audit.comparison import NEAR, Discrepancy, Judge, differing, discrepancies, lacking_at, miscounted, split_off_gaps
from scheduler.audit.evaluation import Evaluation
from scheduler.audit.expectation import Expectation, Lineages, Tally, lineages, weights
from scheduler.audit.findings import Finding, Kind
from scheduler.audit.soundness import of_doubled, of_open, of_wrong
from scheduler.core.cron import versions
from scheduler.core.errors import ConfigurationError, Unreachable
from scheduler.core.model import Gap
from scheduler.ledger import history
from scheduler.ledger.schema import open_for_reading

STRETCH: Final = timedelta(days=7)
_JUST_BEFORE: Final = timedelta(microseconds=1)
_ALONE: Final = 4
"""So few stretches are not worth another process."""

Fate = tuple[str | None, str | None]
"""Outcome and reason; none of an occurrence that is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be audited: ``since`` is inclusive, ``until`` exclusive. ``automation``: an id, a name or a pattern for it."""

    since: datetime
    until: datetime
    now: datetime
    target: str | None = None
    automation: str | None = None
    patience: Callable[[str, str], timedelta] = lambda _id, _name: timedelta(0)
    """By an automation's id and name, how long after it is due an occurrence may wait for the run before it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What can be audited of a target: after ``begin`` and up to ``end``; ``is_all``: that is up to where it was wanted.

    Up to the watermark everything is decided. What is later and has a row is decided too, up to the first that has none.
    """

    target: str
    begin: datetime
    end: datetime
    watermark: datetime | None
    snapshot_at: datetime | None
    pruned_before: datetime | None
    is_all: bool = False

    @property
    def since(self) -> datetime:
        """The first instant that is audited."""
        return self.begin + _JUST_BEFORE

    @property
    def is_empty(self) -> bool:
        """Whether nothing of what was wanted is decided yet, or nothing is left of it."""
        return self.end <= self.begin


@dataclass(slots=True)
class Summary:
    """What an audit has looked at and found so far."""

    bounds: list[Bounds] = field(default_factory=list)
    automations: int = 0
    outcomes: Counter[Fate] = field(default_factory=Counter)
    undecided: int = 0  # occurrences in gaps: a daemon that recovers from a downtime decides them one slice after the other
    kinds: Counter[Kind] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one stretch came to."""

    end: datetime
    discrepancies: Sequence[Discrepancy]
    findings: Sequence[Finding]
    outcomes: Counter[Fate]
    undecided: int


class _Auditor:
    """Audits one target, in whichever process. Connections do not outlive a fork, so each process opens its own."""

    def __init__(self, path: Path, wanted: Wanted, bounds: Bounds) -> None:
        self.path, self.target = path, bounds.target
        evaluated = versions()
        evaluator = (evaluated.croniter, evaluated.tzdata)
        with closing(open_for_reading(path)) as connection:
            recorded = lineages(reading.recorded(connection, bounds.target))
            rules = reading.rules(connection, evaluator)
            self.evaluation = Evaluation(rules, reading.transitions(connection, bounds.target, rules))
        self.all_of_them = wanted.automation is None
        self.lineages: Lineages = {each: forces for each, forces in recorded.items() if _is_meant(wanted.automation, each, recorded)}
        self.weights = weights(self.lineages)
        self.judge = Judge(bounds.target, self.lineages, self.evaluation, evaluator)
        self.bounds = self._extended(bounds, min(wanted.until - _JUST_BEFORE, wanted.now))

    def _extended(self, bounds: Bounds, wanted: datetime) -> Bounds:
        """Beyond the watermark, but not beyond the newest snapshot: an edit that a later one shows may count from then on."""
        if bounds.watermark is None or bounds.snapshot_at is None:
            return bounds
        whole, wanted = wanted, min(wanted, bounds.snapshot_at)
        begin = bounds.end
        with closing(self.connected()) as connection:
            while begin < wanted:
                end = min(begin + STRETCH, wanted)
                missing = self._first_missing(connection, (bounds.target, begin, end))
                if missing is not None:
                    return replace(bounds, end=missing - _JUST_BEFORE)
                begin = end
        end = max(bounds.end, wanted)
        return replace(bounds, end=end, is_all=end >= whole)

    def _first_missing(self, connection: Connection, stretch: reading.Stretch) -> datetime | None:
        expectation, instants, _ = self._expected(connection, stretch)
        found = (each for instant in instants for each in self._compared(connection, expectation, instant))
        return next((each.scheduled_for for each in found if each.kind is Kind.MISSING), None)

    def _expected(self, connection: Connection, stretch: reading.Stretch) -> tuple[Expectation, list[datetime], int]:
        """What was implied in the stretch, the instants at which something else is on record, and how much of gaps is not decided yet."""
        _, begin, end = stretch
        gaps = [gap for gap in reading.gaps(connection, self.target) if gap.since < end and begin < gap.until]
        expectation, counted = self._tallied(connection, stretch, gaps)
        decided, undecided = split_off_gaps(differing(expectation, counted), gaps)
        lacking = lacking_at(undecided, expectation, counted)
        if undecided and (first := min(gap.automation_id for gap in gaps)):
            of_decided, counted = self._tallied(connection, stretch, gaps, before=first)
            decided = sorted({*decided, *(set(differing(of_decided, counted)) & set(undecided))})
            lacking -= lacking_at(undecided, of_decided, counted)
        return expectation, decided, lacking

    def _tallied(
        self, connection: Connection, stretch: reading.Stretch, gaps: Sequence[Gap], *, before: str | None = None
    ) -> tuple[Expectation, dict[datetime, Tally]]:
        """What was implied in the stretch and what is on record; of all automations, or only of those whose id comes before another."""
        _, begin, end = stretch
        lineages = {each: forces for each, forces in self.lineages.items() if before is None or each < before}
        spans = [
            each for each in reading.spans(connection, stretch) if (self.all_of_them and before is None) or each.automation_id in lineages
        ]
        expectation = Expectation(lineages, self.weights, self.evaluation, begin, end, spans, gaps)
        return expectation, reading.counted(connection, stretch, all_of_them=self.all_of_them, before=before)

    def connected(self) -> Connection:
        """A connection to audit with, for one process."""
        connection = open_for_reading(self.path)
        reading.weigh(connection, self.weights)
        return connection

    def stretches(self) -> Iterator[tuple[datetime, datetime]]:
        begin = self.bounds.begin
        while begin < self.bounds.end:
            end = min(begin + STRETCH, self.bounds.end)
            yield begin, end
            begin = end

    def audit(self, connection: Connection, begin: datetime, end: datetime) -> _Part:
        """One stretch."""
        target, stretch = self.target, (self.target, begin, end)
        connection.execute("BEGIN")  # one state of the ledger, whatever a daemon writes meanwhile
        expectation, instants, undecided = self._expected(connection, stretch)
        found = [each for instant in instants for each in self._compared(connection, expectation, instant)]
        counts = reading.outcomes(connection, stretch, all_of_them=self.all_of_them)
        findings = [self.judge.miscounted(span, implied) for span, implied in miscounted(expectation)]
        if any(each.wrong for each in counts):
            findings += [of_wrong(target, each) for each in reading.wrong(connection, stretch, all_of_them=self.all_of_them)]
        connection.execute("ROLLBACK")
        outcomes: Counter[Fate] = Counter({(each.outcome, each.reason): each.number for each in counts})
        for span, covered in expectation.in_spans.items():
            outcomes[span.outcome, span.reason] += covered
        return _Part(end, found, findings, outcomes, undecided)

    def _compared(self, connection: Connection, expectation: Expectation, instant: datetime) -> Iterator[Discrepancy]:
        rows = reading.fates(connection, self.target, instant)
        if not self.all_of_them:
            rows = {each: fate for each, fate in rows.items() if each in self.lineages}
        for found in discrepancies(expectation, instant, rows):
            if found.kind is not Kind.UNEXPLAINED or not self._was_sent_ahead(connection, expectation, found):
                yield found

    def _was_sent_ahead(self, connection: Connection, expectation: Expectation, found: Discrepancy) -> bool:
        """Whether a clock that was ahead sent the occurrence by a definition of which the daemon knew no end yet."""
        sent_at = reading.find_sending(connection, self.target, found.automation_id, found.scheduled_for)
        return sent_at is not None and expectation.was_implied_when_sent(found.automation_id, found.scheduled_for, sent_at)


def _is_meant(automation: str | None, automation_id: str, recorded: Lineages) -> bool:
    if automation is None or automation.lower() == automation_id:
        return True
    return any(fnmatch.fnmatchcase(force.version.name, automation) or force.version.name == automation for force in recorded[automation_id])


class Audit:
    """An audit of the ledger in a file. Raises what opening it does, and `ConfigurationError` for a target that it does not know.

    ``summary`` grows while `run` goes on.
    """

    def __init__(self, path: Path, wanted: Wanted, *, processes: int | None = None) -> None:
        self._path = path
        self._wanted = wanted
        self._processes = len(os.sched_getaffinity(0)) if processes is None else processes
        self.summary = Summary()
        with closing(open_for_reading(path)) as connection:
            pruned = reading.pruned_before(connection)
            known = history.targets(connection)
        self.targets = [each for each in known if wanted.target in {None, each.name}]
        if not self.targets:
            names = ", ".join(each.name for each in known) or "none: start the daemon once"
            raise ConfigurationError(f"the ledger has no target {wanted.target!r}; it knows {names}")
        self._auditors = [_Auditor(path, wanted, _bounds(each, wanted, pruned)) for each in self.targets]
        self.summary.bounds = [each.bounds for each in self._auditors]
        self.summary.automations = sum(len(each.lineages) for each in self._auditors)

    def run(self, progress: Callable[[float], None] = lambda _: None) -> Iterator[Finding]:
        """Every finding, more or less in the order of time, target by target. ``progress`` is told the share that is done."""
        total = sum((each.bounds.end - each.bounds.begin).total_seconds() for each in self._auditors if not each.bounds.is_empty)
        done = 0.0
        for auditor in self._auditors:
            if auditor.bounds.is_empty:
                continue
            for finding, end in self._audited(auditor):
                if end is not None:
                    progress((done + (end - auditor.bounds.begin).total_seconds()) / total)
                if finding is not None:
                    yield self.counted(finding)
            done += (auditor.bounds.end - auditor.bounds.begin).total_seconds()

    def counted(self, finding: Finding) -> Finding:
        """Take a finding into the summary."""
        self.summary.kinds[finding.kind] += 1
        return finding

    def names(self, target: str) -> dict[str, str]:
        """The automations of a target that are audited, with their newest names."""
        auditor = next(each for each in self._auditors if each.target == target)
        return {automation_id: forces[-1].version.name for automation_id, forces in auditor.lineages.items()}

    def _audited(self, auditor: _Auditor) -> Iterator[tuple[Finding | None, datetime | None]]:
        left: list[Discrepancy] = []  # of automations whose next one, beyond the end of the stretch, may belong to these
        for part in self._parts(auditor):
            self.summary.outcomes.update(part.outcomes)
            self.summary.undecided += part.undecided
            yield None, part.end
            found = [*left, *part.discrepancies]
            waiting = {each.automation_id for each in found if each.scheduled_for > part.end - NEAR}
            ripe = [each for each in found if each.automation_id not in waiting]
            left = [each for each in found if each.automation_id in waiting]
            for finding in (*auditor.judge.judge(ripe), *part.findings):
                yield finding, None
        for finding in (*auditor.judge.judge(left), *self._at_last(auditor)):
            yield finding, None

    def _at_last(self, auditor: _Auditor) -> Iterator[Finding]:
        """What needs no walk through time."""
        bounds, wanted, names = auditor.bounds, self._wanted, self.names(auditor.bounds.target)
        stretch = (bounds.target, bounds.begin, bounds.end)
        with closing(open_for_reading(self._path)) as connection:
            opened, doubled = reading.still_open(connection, stretch), reading.doubled(connection, stretch)
        for each in opened:
            late = of_open(bounds.target, each, wanted.now, wanted.patience(each.automation_id, each.name))
            if late is not None and (auditor.all_of_them or each.automation_id in names):
                yield late
        for double in doubled:
            if auditor.all_of_them or double.automation_id in names:
                yield of_doubled(bounds.target, double, names.get(double.automation_id, double.automation_id))

    def _parts(self, auditor: _Auditor) -> Iterator[_Part]:
        stretches = list(auditor.stretches())
        if self._processes == 1 or len(stretches) <= _ALONE:
            with closing(auditor.connected()) as connection:
                yield from (auditor.audit(connection, *each) for each in stretches)
            return
        # Forked, so that they are the user whose ledger it is, as this process may have become; it has no other threads here.
        forked = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(self._processes, mp_context=forked, initializer=_begin, initargs=(auditor,)) as pool:
            try:
                yield from pool.map(_audit, stretches)
            except BrokenProcessPool:
                raise Unreachable("a process of the audit was killed; when memory is short, audit a shorter time, or one target") from None
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _bounds(target: history.KnownTarget, wanted: Wanted, pruned: datetime | None) -> Bounds:
    begin = max(wanted.since, pruned or wanted.since) - _JUST_BEFORE
    end = max(min(wanted.until - _JUST_BEFORE, target.watermark or begin), begin)
    return Bounds(target.name, begin, end, target.watermark, target.snapshot_at, pruned)


# ---------------------------------------------------------------- in a process of its own

_work: list[tuple[_Auditor, Connection]] = []


def _begin(auditor: _Auditor) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    _work.append((auditor, auditor.connected()))


def _audit(bounds: tuple[datetime, datetime]) -> _Part:
    ((auditor, connection),) = _work
    return auditor.audit(connection, *bounds)
