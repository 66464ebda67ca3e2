"""Tracker: follows runs to their end by readings, and finds foreign runs.

A reading shows only the newest run of an automation. Therefore a run is followed until a newer run covers it.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, TypedDict

from scheduler.core.actions import NewestReading
from scheduler.core.command_line import format_command
from scheduler.core.events import EarlierRunSeen, Event, LedgerRestored, RunDoubled, RunFinished, RunForeign
from scheduler.core.model import NO_DEFINITION, Automation, Run, RunOrigin, RunStatus, RunUpdate, Snapshot
from scheduler.core.recorded_state import RecordedRuns, RecordedTargetState
from scheduler.core.timetable import SnapshotChanges
from scheduler.daemon.context import Context
from scheduler.daemon.dispatcher import Dispatcher

_AUTOMATIONS_AT_ONCE: Final = 1_000
"""Number of automations examined before other tasks have a turn."""
_RUNS_AT_ONCE: Final = 5_000
"""Number of runs in one transaction: 0.1 to 0.2 s, for which a due claim may have to wait."""
_MAX_UNSEEN: Final = 600.0
"""Maximum number of seconds between two readings for which the duration of a run is still meaningful."""
DOUBLE_SCHEDULE_WINDOW: Final = timedelta(minutes=1)
"""Window around a scheduled instant. A foreign run within the window suggests a second scheduler."""
_DELETED: Final = (
    "the automation was deleted while this run was in progress, so nobody can see how the run ended"
)
_LATE_DOUBLE: Final = (
    "the API carried out a request after it had been given up: "
    "if that happens again, raise settle_time and request_timeout"
)


class _EventKeys(TypedDict):
    target: str
    automation_id: str
    automation: str


@dataclass(slots=True)
class _FollowedRun:
    """Newest known run of an automation.

    ``since`` is when this process learned of the run, on the clock that counts suspend.
    """

    run: Run
    since: float

    def is_older_than(self, run: Run, seen: float) -> bool:
        """Return whether ``run`` is newer than this run.

        ``seen`` is the start of the reading that showed ``run``. The start instants of both runs are the
        API's own.
        """
        if run.started_at is None or self.run.started_at is None or run.started_at == self.run.started_at:
            return seen > self.since
        return run.started_at > self.run.started_at


@dataclass(slots=True)
class _Findings:
    """Results of one batch of readings: rows to record, and events to publish after the rows are durable."""

    records: list[tuple[Run, RunOrigin]] = field(default_factory=list)
    foreign: list[tuple[Run, str]] = field(default_factory=list)  # with the automation's name
    finished: list[tuple[Run, str]] = field(default_factory=list)  # with the automation's name
    # with the automation's name; runs that had ended before this process saw them
    earlier: list[tuple[Run, str]] = field(default_factory=list)
    unattributed: list[Run] = field(default_factory=list)  # runs set aside by this batch
    # ids of runs that were set aside and are examined again
    attributed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Automations read at ``begun``, to be examined together.

    ``added``: automations that appear for the first time. ``whole``: the batch is a snapshot.
    """

    automations: Collection[Automation]
    begun: float
    added: frozenset[str] = frozenset()
    whole: bool = False


class Tracker:
    """Tracker of the runs of one target."""

    def __init__(self, context: Context, dispatcher: Dispatcher) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._newest: dict[str, _FollowedRun] = {}
        # by automation id and run id: runs first seen while an attempt of this daemon was undecided
        self._unattributed_readings: dict[str, dict[str, NewestReading]] = {}
        # runs implied by the tables of the earlier process, and not noted in the ledger yet
        self._loaded_findings = _Findings()
        # ids of the runs that the earlier process had set aside
        self._noted_run_ids: frozenset[str] = frozenset()
        self._covered_runs: list[Run] = []
        self._is_first = True
        self._snapshot_at: datetime | None = None
        # runs from before this instant may be the daemon's own work, lost by a restore from a backup
        self._restored_at: datetime | None = None
        # number of runs seen from the time between the backup and its restoration, and not reported yet
        self._unrecorded_count = 0
        # by automation id: the newest run recorded by the earlier process
        self._recorded_run_ids: Mapping[str, str | None] = {}
        # start of the newest examined snapshot, on the clock that counts suspend
        self._read_at = float("-inf")
        self._queue: asyncio.Queue[_Batch] = asyncio.Queue()

    def load(
        self,
        recorded: RecordedTargetState,
        runs: Collection[Run],
        *,
        undecided: Iterable[str],
        unattributed: Collection[Run],
    ) -> None:
        """Continue to follow the newest runs known to the ledger.

        ``undecided`` are the ids of automations with open occurrences: their newest run may have no record
        yet, and later snapshots may not show the run again. Later snapshots may also lack the
        ``unattributed`` runs, which the earlier process had set aside.
        """
        shown = {each: record.automation for each, record in recorded.automations.items()}
        self._restored_at = recorded.restored_at
        self._recorded_run_ids = {each: automation.run_id for each, automation in shown.items()}
        self._unattributed_readings, self._loaded_findings = {}, _Findings()
        self._noted_run_ids = frozenset(run.id for run in unattributed)
        for run in unattributed:
            automation = _make_automation(run, shown.get(run.automation_id))
            self._set_aside(NewestReading(automation, float("-inf")), _Findings())
        for automation in (shown[each] for each in undecided if each in shown):
            if automation.run_id is not None:
                self._set_aside(NewestReading(automation, float("-inf")), self._loaded_findings)
        on_record = {run.id for run in runs}
        self._loaded_findings.unattributed = [
            run for run in self._loaded_findings.unattributed if run.id not in on_record
        ]
        snapshot_at, clock = recorded.snapshot_at, self._context.clock
        # a later instant was recorded under a clock that was ahead
        if snapshot_at is not None and snapshot_at <= clock.now():
            self._snapshot_at = snapshot_at
            self._read_at = clock.boottime() - (clock.now() - snapshot_at).total_seconds()
        self._newest = {run.automation_id: _FollowedRun(run, float("-inf")) for run in runs}

    def queue_snapshot(self, snapshot: Snapshot, changes: SnapshotChanges) -> None:
        """Queue the changes of a snapshot for examination.

        Readings that could not be decided before are examined again with the snapshot.
        """
        added = frozenset(each.automation_id for each in changes.added)
        new = [snapshot.automations[each] for each in added if each in snapshot.automations]
        # the earlier process may have been killed between the record of a snapshot and the record of its runs
        automations = snapshot.automations.values() if self._is_first else [*changes.updated, *new]
        self._is_first = False
        self._queue.put_nowait(_Batch(automations, snapshot.begun, added, whole=True))

    def queue_reading(self, seen: NewestReading) -> None:
        """Queue a single reading for examination."""
        self._queue.put_nowait(_Batch([seen.automation], seen.begun))

    async def run(self) -> None:
        """Follow runs forever."""
        await self._record_findings(self._loaded_findings)
        while True:
            batch = await self._queue.get()
            findings = _Findings()
            for seen in list(self._take_decided_readings(batch, findings)):
                # also when the automation was removed since and is added again by this batch
                await self._track_reading(seen, findings, first=False)
            for number, automation in enumerate(batch.automations, 1):
                await self._track_reading(
                    NewestReading(automation, batch.begun), findings, first=automation.id in batch.added
                )
                if number % _AUTOMATIONS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            self._end_covered_runs(findings)
            if batch.whole:
                self._end_runs_of_deleted_automations(findings)
                self._end_lost_runs(findings)
                self._recorded_run_ids = {}
            await self._record_findings(findings)
            if batch.whole:
                self._read_at = batch.begun
                self._publish_unrecorded_runs()

    def _publish_unrecorded_runs(self) -> None:
        count, self._unrecorded_count = self._unrecorded_count, 0
        if count and self._restored_at is not None:
            self._context.publish(
                LedgerRestored(target=self._context.target, runs=count, restored_at=self._restored_at)
            )

    async def _record_findings(self, findings: _Findings) -> None:
        at, records = self._context.clock.now(), findings.records
        if not (records or findings.attributed or findings.unattributed):
            return
        last = max(0, len(records) - 1) // _RUNS_AT_ONCE * _RUNS_AT_ONCE
        parts = [
            await self._record_runs(records[first : first + _RUNS_AT_ONCE], at)
            for first in range(0, last, _RUNS_AT_ONCE)
        ]
        newest = await self._record_runs(records[last:], at, findings.attributed, findings.unattributed)
        recorded = RecordedRuns.merge([*parts, newest])
        await self._context.publish_all(self._make_events(findings, recorded, at))

    async def _record_runs(
        self,
        records: Sequence[tuple[Run, RunOrigin]],
        at: datetime,
        attributed: Sequence[str] = (),
        unattributed: Sequence[Run] = (),
    ) -> RecordedRuns:
        context = self._context
        update = RunUpdate(records, at, context.clock_offset, attributed, unattributed)
        return await context.health.retry_write(
            "runs", lambda: context.ledger.record_runs(context.target, update)
        )

    def _make_events(self, findings: _Findings, recorded: RecordedRuns, at: datetime) -> Iterator[Event]:
        for run, name in findings.foreign:
            doubles = recorded.doubles.get(run.id)
            yield self._make_foreign_event(run, self._make_keys(run, name, recorded), doubles)
        for run, name in findings.finished:
            yield RunFinished(
                **self._make_keys(run, name, recorded),
                run_id=run.id,
                status=run.status,
                error=run.error,
                scheduled_for=recorded.scheduled_for.get(run.id),
                duration=self._measure_duration(run, at),
                gone=run.automation_id not in self._context.timetable.entries,
            )
        for run, name in findings.earlier:
            yield EarlierRunSeen(**self._make_keys(run, name, recorded), status=run.status)

    def _make_keys(self, run: Run, name: str, recorded: RecordedRuns) -> _EventKeys:
        automation_id = run.automation_id
        if automation_id not in self._context.timetable.entries:
            name = recorded.names.get(automation_id, name)  # only the ledger knows the name after a removal
        return {"target": self._context.target, "automation_id": automation_id, "automation": name}

    def _take_decided_readings(self, batch: _Batch, findings: _Findings) -> Iterator[NewestReading]:
        """Yield the set-aside readings of automations without an undecided attempt.

        With a snapshot, all automations are considered; otherwise only the automations of the batch.
        """
        known = self._unattributed_readings
        automation_ids: Iterable[str] = known
        if not batch.whole:
            automation_ids = {each.id for each in batch.automations} & known.keys()
        for automation_id in [each for each in automation_ids if not self._dispatcher.is_undecided(each)]:
            runs = self._unattributed_readings.pop(automation_id)
            findings.attributed += runs
            yield from runs.values()

    def _set_aside(self, seen: NewestReading, findings: _Findings) -> None:
        """Set aside a run that an attempt may have started, until the attempt has its outcome.

        The ledger keeps a note of the run, because a restart may come earlier than the outcome.
        """
        run = _to_newest_run(seen.automation)
        runs = self._unattributed_readings.setdefault(run.automation_id, {})
        before = runs.get(run.id)
        runs[run.id] = seen
        if before is None or _to_newest_run(before.automation) != run:
            findings.unattributed.append(run)

    async def _track_reading(self, seen: NewestReading, findings: _Findings, *, first: bool) -> None:
        automation = seen.automation
        known = self._newest.get(automation.id)
        if automation.run_id is None:
            return
        if known is not None and known.run.id == automation.run_id:
            self._update(known, automation, findings)
        elif self._may_be_ours(automation, first=first):
            self._set_aside(seen, findings)
        else:
            await self._track_new_run(seen, known, findings, first=first)

    def _may_be_ours(self, automation: Automation, *, first: bool) -> bool:
        """Return whether an attempt may have started the newest run.

        No attempt has started the run of an automation that appears for the first time. Exception: the
        automation appears again, and its run was set aside before.
        """
        is_new = first and automation.run_id not in self._unattributed_readings.get(automation.id, ())
        return not is_new and self._dispatcher.is_undecided(automation.id)

    def _update(self, known: _FollowedRun, automation: Automation, findings: _Findings) -> None:
        status = _parse_status(automation.run_status)
        if status is RunStatus.RUNNING or known.run.status not in {RunStatus.RUNNING, RunStatus.LOST}:
            return
        known.run = replace(known.run, status=status, error=automation.run_error)
        self._add_finished_run(known.run, automation.name, findings)

    async def _track_new_run(
        self, seen: NewestReading, known: _FollowedRun | None, findings: _Findings, *, first: bool
    ) -> None:
        """Handle a run other than the newest known run.

        The run is either newer than the newest known run, or covered by a newer run by now.
        """
        automation = seen.automation
        run = _to_newest_run(automation)
        origin = RunOrigin.BEFORE if first else await self._context.find_run_origin(run)
        if origin is None and known is None and self._is_from_earlier_process(run):
            origin = RunOrigin.BEFORE
        if origin is None and self._is_from_before_restoration(run):
            origin = RunOrigin.BEFORE
            self._unrecorded_count += 1
        if known is None or known.is_older_than(run, seen.begun):
            self.follow(run, since=seen.begun)
        elif origin is not None:
            return  # a run that is already known, in a delayed reading
        elif run.status is RunStatus.RUNNING:
            run = replace(run, status=RunStatus.SUPERSEDED)
        if origin is None:
            findings.foreign.append((run, automation.name))
        findings.records.append((run, origin or RunOrigin.FOREIGN))
        if run.status is not RunStatus.RUNNING:
            ended = findings.earlier if origin is RunOrigin.BEFORE else findings.finished
            ended.append((run, automation.name))

    def _is_from_earlier_process(self, run: Run) -> bool:
        """Return whether an earlier process saw the run, as the first run of its automation.

        The earlier process was killed before the runs of its snapshot were recorded. When a snapshot was
        recorded only in part, each automation is judged separately. Runs noted as unattributed do not count:
        an attempt was under way when they were seen.
        """
        if run.id in self._noted_run_ids:
            return False
        began = self._find_run_begin(run)
        return self._recorded_run_ids.get(run.automation_id) == run.id or (
            self._snapshot_at is not None and began is not None and began <= self._snapshot_at
        )

    def _is_from_before_restoration(self, run: Run) -> bool:
        began = self._find_run_begin(run)
        return self._restored_at is not None and began is not None and began <= self._restored_at

    def _make_foreign_event(self, run: Run, keys: _EventKeys, doubles: datetime | None) -> Event:
        if doubles is not None:
            return RunDoubled(
                **keys, run_id=run.id, started_at=run.started_at, scheduled_for=doubles, hint=_LATE_DOUBLE
            )
        beside = self._find_near_instant(run)
        advise = _advise_alone if beside is None else _advise_double_schedule
        hint = advise(self._context.target, run.automation_id)
        return RunForeign(**keys, run_id=run.id, started_at=run.started_at, scheduled_for=beside, hint=hint)

    def _find_near_instant(self, run: Run) -> datetime | None:
        """Return the automation's scheduled instant nearest to the start of the run.

        Return None when no scheduled instant lies within `DOUBLE_SCHEDULE_WINDOW` of the start.
        """
        entry = self._context.timetable.entries.get(run.automation_id)
        began = self._find_run_begin(run)
        if entry is None or entry.schedule is None or began is None:
            return None
        instants = entry.schedule.iterate_between(
            began - DOUBLE_SCHEDULE_WINDOW, began + DOUBLE_SCHEDULE_WINDOW
        )
        return min(instants, key=lambda instant: abs(instant - began), default=None)

    def _find_run_begin(self, run: Run) -> datetime | None:
        """Return the start of a run on the local clock. None when the API gives no start instant."""
        if run.started_at is None:
            return None
        return run.started_at - timedelta(seconds=self._context.clock_offset or 0.0)

    def follow(self, run: Run, *, since: float | None = None) -> None:
        """Follow a run that this process knows of since ``since``; None: from now on."""
        known = self._newest.get(run.automation_id)
        if known is not None and known.run.id != run.id and known.run.status is RunStatus.RUNNING:
            self._covered_runs.append(known.run)
        self._newest[run.automation_id] = _FollowedRun(
            run, self._context.clock.boottime() if since is None else since
        )

    def _end_covered_runs(self, findings: _Findings) -> None:
        covered, self._covered_runs = self._covered_runs, []
        for run in covered:
            self._add_finished_run(replace(run, status=RunStatus.SUPERSEDED), self._find_name(run), findings)

    def _end_runs_of_deleted_automations(self, findings: _Findings) -> None:
        """Give a final status to the runs of removed automations, because no reading will show their end.

        Runs that an earlier process followed are included.
        """
        entries = self._context.timetable.entries
        for automation_id in [each for each in self._newest if each not in entries]:
            run = self._newest.pop(automation_id).run
            if run.status is RunStatus.RUNNING:
                self._add_finished_run(
                    replace(run, status=RunStatus.SUPERSEDED, error=_DELETED), automation_id, findings
                )

    def _end_lost_runs(self, findings: _Findings) -> None:
        oldest = self._context.clock.now() - self._context.settings.run_timeout
        for known in self._newest.values():
            started_at = known.run.started_at
            if known.run.status is RunStatus.RUNNING and started_at is not None and started_at < oldest:
                known.run = replace(
                    known.run, status=RunStatus.LOST, error="the run did not end within run_timeout"
                )
                self._add_finished_run(known.run, self._find_name(known.run), findings)

    def _add_finished_run(self, run: Run, name: str, findings: _Findings) -> None:
        findings.records.append((run, RunOrigin.OCCURRENCE))
        findings.finished.append((run, name))

    def _measure_duration(self, run: Run, at: datetime) -> float | None:
        """Return the seconds from the start of a run to ``at``, when its end was seen.

        The run ended after the reading before, which showed the run in progress. Return None when the end may
        be much earlier than ``at``.
        """
        began = self._find_run_begin(run)
        if began is None or run.status not in {RunStatus.SUCCESS, RunStatus.FAILED}:
            return None
        duration = max(0.0, (at - began).total_seconds())
        unseen = min(duration, self._context.clock.boottime() - self._read_at)
        longest = max(_MAX_UNSEEN, 2 * self._context.settings.poll_interval.total_seconds())
        return round(duration, 3) if unseen <= longest else None

    def _find_name(self, run: Run) -> str:
        entry = self._context.timetable.entries.get(run.automation_id)
        return run.automation_id if entry is None else entry.automation.name


def _to_newest_run(automation: Automation) -> Run:
    """Return the run in a reading of the automation."""
    return Run(
        automation.run_id or "",
        automation.id,
        automation.run_at,
        _parse_status(automation.run_status),
        automation.run_error,
    )


def _make_automation(run: Run, automation: Automation | None) -> Automation:
    """Return the automation in the state in which it showed this run.

    ``automation`` is None when the automation was removed: its name is not known any more, and the id stands
    for it.
    """
    if automation is None:
        automation = Automation(run.automation_id, run.automation_id, NO_DEFINITION)
    return replace(
        automation, run_id=run.id, run_at=run.started_at, run_status=run.status, run_error=run.error
    )


def _parse_status(text: str | None) -> RunStatus:
    return {"success": RunStatus.SUCCESS, "failed": RunStatus.FAILED}.get(text or "", RunStatus.RUNNING)


def _advise_alone(target: str, automation_id: str) -> str:
    command = format_command(f"automations run {automation_id}", target=target)
    return f"to start a run by hand without this line, use `{command}`"


def _advise_double_schedule(target: str, automation_id: str) -> str:
    command = format_command(f"pause {automation_id}", target=target)
    return (
        "a second scheduler seems to fire this automation, so that each occurrence is paid for twice: "
        f"switch that one off, or pause the automation here: `{command}`"
    )
