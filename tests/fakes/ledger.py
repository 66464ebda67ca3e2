"""`MemoryLedger`: the durable record in memory, by the rules of `scheduler.daemon.ports.Ledger`.

It is as strict as the real one: what does not follow from what is recorded is a `Contradiction`.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from types import MappingProxyType
from typing import Final

from scheduler.core.backfill import BACKFILL_OUTCOMES, FireRequest, Reopening
from scheduler.core.errors import LedgerUnavailable, TargetMismatch
from scheduler.core.model import (
    Attempt,
    AttemptEnd,
    AttemptResult,
    Automation,
    Claim,
    Conclusion,
    Definition,
    DefinitionVersion,
    Gap,
    Occurrence,
    OpenOccurrence,
    Outcome,
    Reason,
    Run,
    RunOrigin,
    RunStatus,
    Skip,
    SkippedSpan,
    State,
)
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.recorded_state import (
    EndedVersion,
    RecordedAutomation,
    RecordedRuns,
    RecordedTargetState,
    Removal,
    ThrottleSpan,
)
from scheduler.ledger.sql_batch import Contradiction


@dataclass(slots=True)
class AttemptRow:
    """One attempt. No ``result``: open. A result without ``end``: nobody saw how it ended."""

    attempt: Attempt
    result: AttemptResult | None = None
    end: AttemptEnd | None = None


@dataclass(slots=True)
class Row:
    """One occurrence, or a span of them."""

    occurrence: Occurrence
    last: datetime
    count: int
    name: str
    due: datetime
    deadline: datetime | None = None
    claimed_at: datetime | None = None
    state: State | None = None
    outcome: Outcome | None = None
    reason: Reason | None = None
    conclusion: Conclusion | None = None
    error: str | None = None
    attempts: dict[int, AttemptRow] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    asked_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def newest(self) -> AttemptRow | None:
        """The newest attempt."""
        return self.attempts[max(self.attempts)] if self.attempts else None

    @property
    def fate(self) -> str:
        """The outcome with its reason, or the state, in one word for a test to compare."""
        return str(self.state) if self.outcome is None else f"{self.outcome}: {self.reason}"

    def add_steps(self, steps: Sequence[Step]) -> None:
        """Record these. Of two with one beginning and cause the later counts, but an end stays."""
        for step in steps:
            same = next((each for each in self.steps if (each.at, each.cause) == (step.at, step.cause)), None)
            if same is None:
                self.steps.append(step)
            else:
                self.steps[self.steps.index(same)] = replace(step, until=step.until or same.until)

    @property
    def run_id(self) -> str | None:
        """Of the run that it started."""
        return None if self.conclusion is None or self.conclusion.run is None else self.conclusion.run.id


@dataclass(slots=True)
class RunRow:
    """One run that the ledger knows."""

    run: Run
    origin: RunOrigin
    occurrence: Occurrence | None = None
    doubles: datetime | None = None
    finished_at: datetime | None = None

    def end(self, run: Run, at: datetime) -> None:
        """It was seen to have ended; nothing makes it run again."""
        if run.status not in {RunStatus.RUNNING, self.run.status}:
            self.run, self.finished_at = replace(self.run, status=run.status, error=run.error), at


@dataclass(slots=True)
class _Target:
    url: str
    project_id: str
    snapshot_at: datetime | None = None
    watermark: datetime | None = None
    gaps: Sequence[Gap] = ()
    automations: dict[str, RecordedAutomation] = field(default_factory=dict)
    versions: list[DefinitionVersion] = field(default_factory=list)
    pauses: set[str] = field(default_factory=set)
    removed: dict[str, datetime] = field(default_factory=dict)
    throttled: ThrottleSpan | None = None
    restored_at: datetime | None = None

    def ended(self) -> Iterator[EndedVersion]:
        """The versions that ended after the watermark, or the first gap, by automation and the oldest
        first.
        """
        undecided = (
            None if self.watermark is None else min([self.watermark, *(gap.since for gap in self.gaps)])
        )
        for automation_id in {version.automation_id for version in self.versions}:
            own = [version for version in self.versions if version.automation_id == automation_id]
            for version, following in pairwise(own):
                fired = (
                    version.definition is not None and version.definition.enabled and version.invalid is None
                )
                if fired and undecided is not None and following.effective_from > undecided:
                    yield EndedVersion(version, following.effective_from)

    def removals(self) -> Iterator[Removal]:
        """The removals of the last day before the newest good poll."""
        shown = [each for each in self.versions if each.definition is not None or each.invalid is not None]
        for automation_id, removed_at in sorted(self.removed.items(), key=lambda item: (item[1], item[0])):
            if self.snapshot_at is not None and removed_at >= self.snapshot_at - timedelta(days=1):
                yield Removal(
                    min(each.observed_at for each in shown if each.automation_id == automation_id), removed_at
                )


_RESTS_ON_NO_ATTEMPT: Final = frozenset({Outcome.SKIPPED, Outcome.EXPIRED})
_JUST_BEFORE: Final = timedelta(microseconds=1)
_DOUBLES_WITHIN: Final = timedelta(hours=24)
_DOUBLES_SLACK: Final = timedelta(seconds=5)


class MemoryLedger:
    """The durable record, in memory. ``took`` seconds pass before each write is durable; ``broken`` is why
    nothing can be written.
    """

    def __init__(self) -> None:
        self.took = 0.003
        self.slow: dict[str, float] = {}  # verbs that take so many seconds instead
        self.broken: str | None = None
        self.rows: dict[Occurrence, Row] = {}
        self.runs: dict[tuple[str, str], RunRow] = {}
        self.unattributed: dict[tuple[str, str], Run] = {}
        self.written: Counter[str] = Counter()
        self.manual: set[str] = set()  # automations with a run begun by hand that nobody has told of
        self.targets: dict[str, _Target] = {}
        self.requests: dict[Occurrence, FireRequest] = {}
        self.refused: dict[Occurrence, str] = {}
        self._covers: dict[Occurrence, Row] = {}

    # ------------------------------------------------------------ what tests ask

    def of(self, automation_id: str) -> list[Row]:
        """Its rows, in the order of their scheduled instants."""
        rows = (row for row in self.rows.values() if row.occurrence.automation_id == automation_id)
        return sorted(rows, key=lambda row: row.occurrence.scheduled_for)

    def covering(self, occurrence: Occurrence) -> Row | None:
        """The row that an occurrence has, of its own or in a span."""
        return self._covers.get(occurrence)

    def target(self, name: str = "main") -> _Target:
        """What is recorded of a target."""
        return self.targets[name]

    def pause(self, automation_id: str = "*", *, target: str = "main") -> None:
        """An operator pauses an automation, or all."""
        self.targets[target].pauses.add(automation_id)

    def resume(self, automation_id: str = "*", *, target: str = "main") -> None:
        """An operator resumes it, or everything."""
        self.targets[target].pauses -= (
            {automation_id} if automation_id != "*" else self.targets[target].pauses.copy()
        )

    def ask(self, request: FireRequest) -> None:
        """An operator asks for an occurrence to be made up for."""
        self.requests[request.occurrence] = request

    # ------------------------------------------------------------ targets and what they show

    async def bind(self, target: str, url: str, project_id: str) -> RecordedTargetState:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("bind")
        known = self.targets.setdefault(target, _Target(url, project_id))
        if (known.url, known.project_id) != (url, project_id):
            raise TargetMismatch(f"target {target} is {known.project_id} at {known.url}")
        ended, removals = tuple(known.ended()), tuple(known.removals())
        automations = dict(known.automations)
        return RecordedTargetState(
            known.snapshot_at,
            known.watermark,
            automations,
            ended,
            known.gaps,
            removals,
            known.throttled,
            known.restored_at,
        )

    async def record_throttle(self, target: str, span: ThrottleSpan | None) -> None:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("record_throttle")
        _must(target in self.targets, f"the target {target!r} was never bound")
        self.targets[target].throttled = span

    async def record_snapshot(
        self,
        target: str,
        snapshot_at: datetime,
        versions: Sequence[DefinitionVersion],
        changed: Sequence[Automation],
        removed: Collection[str],
        *,
        unseen: Mapping[str, datetime | None] = MappingProxyType({}),
        whole: bool = True,
    ) -> None:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("record_snapshot")
        known = self.targets[target]
        if whole:
            known.snapshot_at = snapshot_at
        earliest = min((version.effective_from for version in versions), default=snapshot_at)
        known.watermark = min(snapshot_at if known.watermark is None else known.watermark, earliest)
        known.versions.extend(versions)
        for version in versions:
            self._take_version(known, version)
        for automation in changed:
            recorded = known.automations[automation.id]
            known.automations[automation.id] = replace(recorded, automation=automation)
        for automation_id, since in unseen.items():
            known.automations[automation_id] = replace(known.automations[automation_id], unseen_since=since)
        for automation_id in removed:
            del known.automations[automation_id]
            known.removed[automation_id] = snapshot_at

    def _take_version(self, known: _Target, version: DefinitionVersion) -> None:
        definition = version.definition or Definition("", "", enabled=False)
        before = known.automations.get(version.automation_id)
        fresh = Automation(version.automation_id, version.name, definition)
        automation = (
            fresh if before is None else replace(before.automation, name=version.name, definition=definition)
        )
        broken, invalid = (version.invalid, None) if version.definition is None else (None, version.invalid)
        unseen_since = None if before is None else before.unseen_since
        known.automations[version.automation_id] = RecordedAutomation(
            automation, version.effective_from, broken, invalid, unseen_since
        )
        known.removed.pop(version.automation_id, None)

    # ------------------------------------------------------------ claims

    async def claim(
        self,
        target: str,
        claims: Sequence[Claim],
        skips: Sequence[Skip],
        watermark: datetime,
        *,
        spans: Sequence[SkippedSpan] = (),
        gaps: Sequence[Gap] = (),
    ) -> Mapping[Occurrence, int]:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("claim")
        made = {claim.occurrence: 1 for claim in claims if self._claimed(claim)}
        made |= {row.occurrence: row.count for skip in skips for row in self._skipped(skip)}
        made |= {row.occurrence: row.count for span in spans for row in self._skipped(_listed(span))}
        self.targets[target].watermark, self.targets[target].gaps = watermark, tuple(gaps)
        return made

    def _claimed(self, claim: Claim) -> bool:
        if claim.occurrence in self._covers:
            return False
        self._divide([claim.occurrence])
        state = State.WAITING if claim.attempt is None else State.CLAIMED
        attempts = {} if claim.attempt is None else {claim.attempt.number: AttemptRow(claim.attempt)}
        instant = claim.occurrence.scheduled_for
        row = Row(
            claim.occurrence,
            instant,
            1,
            claim.name,
            claim.due,
            claim.deadline,
            claim.claimed_at,
            state,
            attempts=attempts,
        )
        self.rows[claim.occurrence] = self._covers[claim.occurrence] = row
        return True

    def _skipped(self, skip: Skip) -> Sequence[Row]:
        """Write a skip around the rows that there are: what these divide becomes a row each."""
        each_is = [replace(skip.occurrence, scheduled_for=instant) for instant in skip.instants]
        self._divide([each for each in each_is if each not in self._covers])
        free = [(self._before(each), each) for each in each_is if each not in self._covers]
        made = []
        for _, group in groupby(free, key=lambda pair: pair[0]):
            span = [each for _, each in group]
            due = span[0].scheduled_for + (skip.due - skip.instants[0])
            row = Row(
                span[0],
                span[-1].scheduled_for,
                len(span),
                skip.name,
                due,
                outcome=skip.outcome,
                reason=skip.reason,
            )
            row.error, row.finished_at = skip.error, skip.at
            self.rows[span[0]] = row
            self._covers.update(dict.fromkeys(span, row))
            made.append(row)
        return made

    def _divide(self, free: Sequence[Occurrence]) -> None:
        """A span within which these lie becomes several."""
        for row in self.of(free[0].automation_id) if free else []:
            between = [
                each.scheduled_for
                for each in free
                if row.occurrence.scheduled_for < each.scheduled_for < row.last
            ]
            if between:
                jitter = row.due - row.occurrence.scheduled_for
                own = sorted(
                    (each for each, kept in self._covers.items() if kept is row),
                    key=lambda each: each.scheduled_for,
                )
                for _, group in groupby(
                    own, key=lambda each: sum(instant < each.scheduled_for for instant in between)
                ):
                    part = list(group)
                    first, last = part[0], part[-1].scheduled_for
                    self.rows[first] = replace(
                        row, occurrence=first, last=last, count=len(part), due=first.scheduled_for + jitter
                    )
                    self._covers.update(dict.fromkeys(part, self.rows[first]))

    def _before(self, occurrence: Occurrence) -> int:
        """How many rows end before it."""
        return sum(row.last < occurrence.scheduled_for for row in self.of(occurrence.automation_id))

    async def withdraw(self, occurrences: Sequence[Occurrence]) -> None:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("withdraw")
        there = [self.rows[each] for each in occurrences if each in self.rows]
        for row in there:
            ended = {attempt.result for attempt in row.attempts.values()}
            _must(
                row.outcome is None and not ended - {None},
                f"these have had an attempt or have an outcome: {row}",
            )
        for row in there:
            self._delete(row)
            self._lower(row.occurrence.target, row.occurrence.scheduled_for - _JUST_BEFORE)

    async def rewind(self, target: str, now: datetime) -> None:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("rewind")
        known = self.targets[target]
        known.versions = [
            replace(each, effective_from=min(each.effective_from, now)) for each in known.versions
        ]
        known.automations = {
            each: replace(recorded, effective_from=min(recorded.effective_from, now))
            for each, recorded in known.automations.items()
        }
        known.snapshot_at = None if known.snapshot_at is None else min(known.snapshot_at, now)
        ahead = [
            row
            for row in self.rows.values()
            if row.occurrence.target == target and row.last > now and self._is_taken_back(row, now)
        ]
        for row in ahead:
            self._delete(row)
        self._lower(target, min((row.occurrence.scheduled_for - _JUST_BEFORE for row in ahead), default=now))
        self._lower(target, now)

    def _is_taken_back(self, row: Row, now: datetime) -> bool:
        if row.outcome not in _RESTS_ON_NO_ATTEMPT or row.attempts:
            return False
        occurrence = row.occurrence
        is_there = occurrence.automation_id in self.targets[occurrence.target].automations
        return row.reason is not Reason.DELETED or (is_there and occurrence.scheduled_for > now)

    def _lower(self, target: str, instant: datetime) -> None:
        known = self.targets[target]
        known.watermark = None if known.watermark is None else min(known.watermark, instant)

    def _delete(self, row: Row) -> None:
        del self.rows[row.occurrence]
        self._covers = {each: kept for each, kept in self._covers.items() if kept is not row}

    # ------------------------------------------------------------ attempts

    async def write_attempt(
        self, occurrence: Occurrence, attempt: Attempt, steps: Sequence[Step] = ()
    ) -> None:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("write_attempt")
        row = self._open(occurrence)
        newest = max(row.attempts, default=0)
        _must(
            attempt.number in {newest, newest + 1} and attempt.number > 0,
            f"attempt {attempt.number} is out of its turn: {row}",
        )
        known = row.attempts.get(attempt.number)
        _must(known is None or known.result is None, f"attempt {attempt.number} has ended: {row}")
        self._close(row for row in row.attempts.values() if row.attempt.number < attempt.number)
        row.attempts[attempt.number] = AttemptRow(attempt)
        row.state = State.IN_FLIGHT
        row.add_steps(steps)

    async def end_attempt(
        self, occurrence: Occurrence, end: AttemptEnd, state: State, steps: Sequence[Step] = ()
    ) -> None:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("end_attempt")
        row = self._open(occurrence)
        self._end(row, end)
        row.state, row.error = state, end.error
        row.add_steps(steps)

    async def resolve_not_started(self, occurrence: Occurrence, steps: Sequence[Step] = ()) -> None:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("resolve_not_started")
        row = self._open(occurrence)
        self._close(row.attempts.values())
        row.state = State.WAITING
        row.add_steps(steps)

    async def discard_attempts(
        self, occurrences: Sequence[Occurrence], steps: Sequence[tuple[Occurrence, Sequence[Step]]] = ()
    ) -> None:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("discard_attempts")
        for row in (
            self.rows[each] for each in occurrences if each in self.rows and self.rows[each].outcome is None
        ):
            row.attempts = {
                number: attempt for number, attempt in row.attempts.items() if attempt.result is not None
            }
            row.state = State.WAITING
        self._add_steps(steps)

    async def record_steps(self, steps: Sequence[tuple[Occurrence, Sequence[Step]]]) -> None:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("record_steps")
        self._add_steps(steps)

    def _add_steps(self, steps: Sequence[tuple[Occurrence, Sequence[Step]]]) -> None:
        for occurrence, each in steps:
            if occurrence in self.rows:
                self.rows[occurrence].add_steps(each)

    def _end(self, row: Row, end: AttemptEnd) -> None:
        attempt = row.attempts.get(end.number)
        if attempt is None or attempt.result is not None:
            raise Contradiction(f"attempt {end.number} ended that was not open: {row}")
        attempt.result, attempt.end = end.result, end

    def _close(self, attempts: Iterable[AttemptRow]) -> None:
        for attempt in attempts:
            attempt.result = attempt.result or AttemptResult.UNKNOWN

    # ------------------------------------------------------------ outcomes

    async def conclude(
        self,
        occurrence: Occurrence,
        conclusion: Conclusion,
        end: AttemptEnd | None = None,
        steps: Sequence[Step] = (),
    ) -> bool:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("conclude")
        row, run = self._open(occurrence), conclusion.run
        _must(
            (run is not None) == (conclusion.outcome is Outcome.ACCEPTED),
            f"a run belongs to what was accepted: {conclusion}",
        )
        found = conclusion.reason is Reason.FOUND or (conclusion.reason is Reason.MANUAL and end is None)
        if run is not None and not self._own(row, run, found=found):
            return False
        if end is not None:
            self._end(row, end)
        elif conclusion.outcome in _RESTS_ON_NO_ATTEMPT:
            row.attempts = {
                number: attempt for number, attempt in row.attempts.items() if attempt.result is not None
            }
        else:
            self._close(row.attempts.values())
        row.state, row.outcome, row.reason = None, conclusion.outcome, conclusion.reason
        row.conclusion, row.error, row.finished_at = conclusion, conclusion.error, conclusion.at
        row.add_steps(steps)
        return True

    def _own(self, row: Row, run: Run, *, found: bool) -> bool:
        """A run that was recorded as foreign becomes an occurrence's when it was found to be, not because an
        answer names it.
        """
        key = (row.occurrence.target, run.id)
        known = self.runs.get(key)
        if known is not None and not (known.origin is RunOrigin.FOREIGN and found):
            return False
        self.runs[key] = RunRow(run if known is None else known.run, RunOrigin.OCCURRENCE, row.occurrence)
        return True

    async def read_open_occurrences(self, target: str) -> list[OpenOccurrence]:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("read_open_occurrences")
        rows = [row for row in self.rows.values() if row.outcome is None and row.occurrence.target == target]
        return [_opened(row) for row in sorted(rows, key=lambda row: row.due)]

    async def find_missing(self, target: str, expected: Sequence[Occurrence]) -> set[Occurrence]:
        """See `scheduler.daemon.ports.Ledger`."""
        assert all(each.target == target for each in expected)
        gaps = self.targets[target].gaps
        return {
            each
            for each in expected
            if self.covering(each) is None
            and not any(gap.may_contain(each.automation_id, each.scheduled_for) for gap in gaps)
        }

    async def read_late_occurrences(self, target: str, now: datetime) -> list[OpenOccurrence]:
        """See `scheduler.daemon.ports.Ledger`."""
        return [each for each in await self.read_open_occurrences(target) if each.deadline < now]

    async def read_pauses(self, target: str) -> frozenset[str]:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("read_pauses")
        return frozenset(self.targets[target].pauses)

    # ------------------------------------------------------------ what is asked for by hand

    async def read_fire_requests(self, target: str) -> list[FireRequest]:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("read_fire_requests")
        return sorted(
            (each for each in self.requests.values() if each.occurrence.target == target),
            key=lambda each: (each.at, each.occurrence.scheduled_for),
        )

    async def reopen(self, request: FireRequest, reopening: Reopening) -> OpenOccurrence | str:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("reopen")
        occurrence = request.occurrence
        del self.requests[occurrence]
        self._take_out(occurrence)
        why = self._objection(request)
        if why is not None:
            self.refused[occurrence] = why
            return why
        row = self.rows.get(occurrence)
        if row is None:
            row = self.rows[occurrence] = self._covers[occurrence] = Row(
                occurrence, occurrence.scheduled_for, 1, reopening.name, reopening.due
            )
            row.steps.append(Step(request.at, Cause.REOPENED, reopening.at, "not on record", request.by))
        else:
            row.steps.append(
                Step(row.finished_at or request.at, Cause.REOPENED, reopening.at, row.fate, request.by)
            )
        row.state, row.outcome, row.reason, row.conclusion, row.finished_at = (
            State.WAITING,
            None,
            None,
            None,
            None,
        )
        row.deadline, row.claimed_at, row.asked_at = (
            reopening.deadline,
            row.claimed_at or reopening.at,
            request.at,
        )
        return _opened(row)

    async def refuse(self, request: FireRequest, why: str) -> None:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("refuse")
        del self.requests[request.occurrence]
        self.refused[request.occurrence] = why

    def _objection(self, request: FireRequest) -> str | None:
        row = self._covers.get(request.occurrence)
        if row is None:
            return None
        if row.count != 1:
            return "what is on record of it has changed meanwhile; ask again"
        if row.outcome not in BACKFILL_OUTCOMES:
            return f"it is open ({row.state})" if row.outcome is None else f"it is {row.fate}"
        of = (request.occurrence.automation_id, request.occurrence.scheduled_for)
        late = (each.run.id for each in self.runs.values() if (each.run.automation_id, each.doubles) == of)
        return next((f"run {run} is most likely a late attempt for it" for run in late), None)

    def _take_out(self, occurrence: Occurrence) -> None:
        span = self._covers.get(occurrence)
        if span is None or span.count == 1:
            return
        covered = sorted(
            (each for each, row in self._covers.items() if row is span), key=lambda each: each.scheduled_for
        )
        at = covered.index(occurrence)
        self._delete(span)
        for group in (covered[:at], covered[at : at + 1], covered[at + 1 :]):
            if group:
                due = group[0].scheduled_for + (span.due - span.occurrence.scheduled_for)
                row = replace(
                    span,
                    occurrence=group[0],
                    last=group[-1].scheduled_for,
                    count=len(group),
                    due=due,
                    steps=[],
                    attempts={},
                )
                self.rows[group[0]] = row
                self._covers.update(dict.fromkeys(group, row))

    # ------------------------------------------------------------ runs

    async def record_runs(
        self,
        target: str,
        runs: Sequence[tuple[Run, RunOrigin]],
        at: datetime,
        *,
        clock_offset: float | None = None,
        attributed: Collection[str] = (),
        unattributed: Sequence[Run] = (),
    ) -> RecordedRuns:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("record_runs")
        doubles: dict[str, datetime] = {}
        for run, origin in runs:
            known = self.runs.get((target, run.id))
            if known is not None:
                known.end(run, at)
                continue
            doubled = self._doubled(target, run, clock_offset or 0.0) if origin is RunOrigin.FOREIGN else None
            if doubled is not None:
                doubles[run.id] = doubled
            self.runs[target, run.id] = RunRow(
                run, origin, doubles=doubled, finished_at=None if run.status is RunStatus.RUNNING else at
            )
        for run_id in attributed:
            self.unattributed.pop((target, run_id), None)
        for run in unattributed:
            self.unattributed[target, run.id] = run
        ended = [self.runs[target, run.id] for run, _ in runs if run.status is not RunStatus.RUNNING]
        scheduled_for = {
            row.run.id: row.occurrence.scheduled_for for row in ended if row.occurrence is not None
        }
        return RecordedRuns(
            doubles, scheduled_for, self._names(target, {run.automation_id for run, _ in runs})
        )

    def _names(self, target: str, automation_ids: Collection[str]) -> dict[str, str]:
        """Return the newest names of automations, removed ones too."""
        named = (
            version for version in self.targets[target].versions if version.automation_id in automation_ids
        )
        return {version.automation_id: version.name for version in named}

    async def read_unattributed_runs(self, target: str) -> list[Run]:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("read_unattributed_runs")
        return [
            run
            for (of, _), run in sorted(self.unattributed.items(), key=lambda item: item[0])
            if of == target
        ]

    def _doubled(self, target: str, run: Run, clock_offset: float) -> datetime | None:
        """Of which occurrence's unknown attempt this run may be, carried out after all."""
        began = run.started_at
        if began is None:
            return None

        def is_since(attempt: Attempt) -> bool:
            by_api = attempt.written_at + timedelta(
                seconds=clock_offset if attempt.clock_offset is None else attempt.clock_offset
            )
            return began - _DOUBLES_WITHIN <= by_api <= began + _DOUBLES_SLACK

        unknown = [
            (attempt.attempt.written_at, row.occurrence.scheduled_for)
            for row in self.of(run.automation_id)
            for attempt in row.attempts.values()
            if row.occurrence.target == target
            and attempt.result is AttemptResult.UNKNOWN
            and is_since(attempt.attempt)
            and not (row.reason in {Reason.FOUND, Reason.MANUAL} and attempt is row.newest)
        ]
        return max(unknown)[1] if unknown else None

    async def read_newest_runs(self, target: str) -> list[Run]:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("read_newest_runs")
        newest: dict[str, Run] = {}
        for (of, _), row in self.runs.items():
            known = newest.get(row.run.automation_id)
            if of == target and (known is None or _began(row.run) >= _began(known)):
                newest[row.run.automation_id] = row.run
        return list(newest.values())

    async def find_run_origin(
        self, target: str, run_id: str, automation_id: str, started_at: datetime | None
    ) -> RunOrigin | None:
        """See `scheduler.daemon.ports.Ledger`."""
        await self._durable("find_run_origin")
        known = self.runs.get((target, run_id))
        if known is not None:
            return known.origin
        return RunOrigin.MANUAL if automation_id in self.manual and started_at is not None else None

    # ------------------------------------------------------------ the rules

    async def _durable(self, operation: str) -> None:
        """Whatever follows happens at once: a process that dies before has written nothing, one that dies
        after has written it.
        """
        await asyncio.sleep(self.slow.get(operation, self.took))
        if self.broken is not None:
            raise LedgerUnavailable(self.broken)
        self.written[operation] += 1

    def _open(self, occurrence: Occurrence) -> Row:
        row = self.rows.get(occurrence)
        if row is None or row.outcome is not None:
            raise Contradiction(f"{occurrence} is not open: {row}")
        return row


def _listed(span: SkippedSpan) -> Skip:
    """The same with all its instants."""
    instants = list(span.schedule.iterate_between(span.occurrence.scheduled_for - _JUST_BEFORE, span.last))
    _must(len(instants) == span.count, f"{span} stands for {len(instants)}")
    return Skip(
        span.occurrence, span.name, span.due, instants, span.reason, span.at, span.error, span.outcome
    )


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Contradiction(otherwise)


def _opened(row: Row) -> OpenOccurrence:
    assert row.deadline is not None
    assert row.claimed_at is not None
    assert row.state is not None
    newest = row.newest
    end = None
    if newest is not None and newest.result is not None:
        end = newest.end or AttemptEnd(newest.attempt.number, newest.result, newest.attempt.written_at)
    return OpenOccurrence(
        row.occurrence,
        row.name,
        row.due,
        row.deadline,
        row.claimed_at,
        row.state,
        None if newest is None else newest.attempt,
        next(
            (
                each.attempt
                for _, each in sorted(row.attempts.items())
                if each.result in {None, AttemptResult.UNKNOWN}
            ),
            None,
        ),
        end,
        maybe_sent=any(each.result is AttemptResult.UNKNOWN for each in row.attempts.values()),
        asked_at=row.asked_at,
    )


def _began(run: Run) -> str:
    return "" if run.started_at is None else run.started_at.isoformat()
