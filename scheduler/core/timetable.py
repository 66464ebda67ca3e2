"""The automations of a target, and their fire times that are due.

The `ScheduleHeap` evaluates every unique schedule once, up to its *cursor*.
The resulting fire times wait in the `DueQueue` until the planner reports them as durable.
A ledger that cannot be written therefore loses nothing: `compute_watermark` stays before every fire time
without a row.
When an automation has more than a few undecided instants, the `Backlog` holds them as intervals of time
instead of a list. The planner decides these intervals one slice after the other.

An edit divides time at its ``effective_from``: the old definition decides the instants up to it,
the new definition decides the later instants.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, TypeVar
from zoneinfo import ZoneInfoNotFoundError

from scheduler.core.absences import Absences
from scheduler.core.backlog import Backlog, BacklogInterval, merge_gaps
from scheduler.core.backlog_decisions import (
    Examiner,
    clear_caches,
    find_first_after,
    find_last_instant,
    measure_extent,
)
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.due_queue import DueQueue
from scheduler.core.evaluated_span import MOST_LISTED, EvaluatedSpan, evaluate_minutes
from scheduler.core.instants import END_OF_TIME, JUST_BEFORE
from scheduler.core.model import (
    NO_DEFINITION,
    Automation,
    Definition,
    DefinitionVersion,
    Gap,
    InvalidAutomation,
    Snapshot,
)
from scheduler.core.policy import FireTime, Policies, compute_effective_from, make_fire_time
from scheduler.core.recorded_state import EndedVersion, RecordedAutomation
from scheduler.core.schedule_heap import ScheduleHeap

_T = TypeVar("_T")
_AHEAD: Final = timedelta(seconds=2)
"""Longest time ahead of the present for which the planner asks for due fire times."""
_COST: Final = 10
_COST_OF_DAY: Final = 2
_EVALUATED_AT_ONCE: Final = 1000
"""Highest cost of evaluating a slice of the past: some hundredths of a second."""
_LOADED_AT_ONCE: Final = 100
"""Number of automations to load from the ledger in a slice.

A slice takes some hundredths of a second when each automation has a different schedule.
"""
_EXAMINED_AT_ONCE: Final = 3000
"""Highest number of automations with a backlog to examine in a call; an evaluation counts as several."""


@dataclass(slots=True)
class TimetableEntry:
    """An automation on the timetable, in the version in force or in a version that has ended."""

    automation: Automation
    effective_from: datetime
    policies: Policies
    schedule: Schedule | None  # None: disabled, invalid or removed; it fires nothing
    invalid: str | None = None
    broken: bool = False  # the API's object has no usable definition
    removed: bool = False
    until: datetime | None = None  # the last instant of this version; None while the version is in force
    # Newest scheduled instant with a claim, since the clock last went back.
    claimed: datetime | None = None
    # The next version of the automation, entered after this version.
    following: "TimetableEntry | None" = field(default=None, repr=False, compare=False)

    def find_decisive(self, instant: datetime) -> "TimetableEntry":
        """Return the last version, from this version on, with an ``effective_from`` before the instant.

        This version decides whether the automation fires at the instant. A later version never brings back
        an instant removed by an earlier version. A version with a broken API object, followed by another
        version, is no edit and removes nothing.
        """
        decisive, following = self, self.following
        while following is not None:
            is_edit = not following.broken or following.following is None
            if is_edit and following.effective_from < instant:
                decisive = following
            following = following.following
        return decisive

    @property
    def state(self) -> str:
        """Label in the metric ``scheduler_automations``. A pause by an operator is not known here."""
        if self.invalid is not None:
            return "invalid"
        if not self.automation.definition.enabled:
            return "disabled"
        return "paused" if self.policies.paused else "enabled"

    @property
    def end_reason(self) -> str | None:
        """Reason why the automation no longer fires, as a participle for messages; None while it fires."""
        if self.removed:
            return "deleted"
        if self.invalid is not None:
            return f"made invalid ({self.invalid})"
        return "disabled" if self.schedule is None else None

    def make_fire_time(self, target: str, scheduled_for: datetime, following: datetime | None) -> FireTime:
        """Return a fire time of this version, given the schedule's following instant."""
        return make_fire_time(self.policies, target, self.automation.id, scheduled_for, following)

    def make_version(self, observed_at: datetime) -> DefinitionVersion:
        """Return this version as recorded in the ledger."""
        automation, definition = self.automation, None if self.broken else self.automation.definition
        return DefinitionVersion(
            automation.id, automation.name, definition, self.effective_from, observed_at, self.invalid
        )

    def make_interval(self, schedule: Schedule, begin: datetime, end: datetime) -> BacklogInterval:
        """Return the instants of this version after ``begin`` and up to ``end``."""
        return BacklogInterval(self.automation.id, self.automation.definition, schedule, begin, end)


@dataclass(frozen=True, slots=True)
class DueFireTimes:
    """The due fire times of one automation, in order. Some may come from a version no longer in force."""

    entry: TimetableEntry
    fire_times: Sequence[FireTime]


@dataclass(frozen=True, slots=True)
class SnapshotChanges:
    """The changes of a snapshot: definition versions to record, and automations with any other difference.

    ``unseen`` has two kinds of automation ids. An automation no longer in the list maps to the begin of the
    last snapshot with the automation. An automation back in the list maps to None.
    """

    added: list[DefinitionVersion] = field(default_factory=list)
    changed: list[DefinitionVersion] = field(default_factory=list)
    removed: list[DefinitionVersion] = field(default_factory=list)
    updated: list[Automation] = field(default_factory=list)
    unseen: dict[str, datetime | None] = field(default_factory=dict)

    def extend(self, part: "SnapshotChanges") -> None:
        """Add the changes of the next part of the snapshot."""
        self.added.extend(part.added)
        self.changed.extend(part.changed)
        self.removed.extend(part.removed)
        self.updated.extend(part.updated)
        self.unseen.update(part.unseen)


class Timetable:
    """The automations of one target, with their schedules and undecided fire times."""

    def __init__(
        self,
        target: str,
        *,
        now: datetime,
        policies: Callable[[str, str], Policies],
        schedule: Callable[[str, str], Schedule] = Schedule.parse,
    ) -> None:
        self._target = target
        self._policies = policies
        self.parse = schedule
        self.schedule_heap = ScheduleHeap(now)
        self.due_queue = DueQueue()
        self.backlog = Backlog()
        self._unconfirmed_backlog = Backlog()
        self._entries: dict[str, TimetableEntry] = {}
        self._states: Counter[str] = Counter()  # number of entries by state; kept because it is read often
        self._past: dict[str, list[TimetableEntry]] = {}  # ended versions with undecided fire times
        self.absences = Absences()

    # ------------------------------------------------------------ existing automations

    @property
    def entries(self) -> Mapping[str, TimetableEntry]:
        """Every existing automation, by its id."""
        return self._entries

    @property
    def states(self) -> Counter[str]:
        """A copy of the numbers of automations by `TimetableEntry.state`."""
        return +self._states

    def is_absent(self, automation_id: str) -> bool:
        """Return whether the automation is missing from the newest complete snapshot, or unknown."""
        return automation_id not in self._entries or automation_id in self.absences.absent

    def needs_reading(self, automation_id: str) -> bool:
        """Return whether the automation must be read alone to find out whether it still exists.

        Either the list does not have the automation, or a run of the automation answered 404.
        """
        return automation_id in self.absences.doubtful or self.is_absent(automation_id)

    def load(
        self,
        recorded: Mapping[str, RecordedAutomation],
        *,
        watermark: datetime | None,
        ended: Sequence[EndedVersion] = (),
        gaps: Sequence[Gap] = (),
    ) -> Iterator[list[DefinitionVersion]]:
        """Enter the automations, versions and gaps recorded in the ledger.

        Fire times since the watermark wait until an `update` has confirmed them; likewise fire times in the
        ``gaps`` below the watermark. The generator yields after each slice, to give other tasks a turn. Call
        nothing else on this timetable before the last slice.

        Yield lists of new versions, in force from now on. An automation gets a new version when its validity
        differs from the record, because the zone data or the rules have changed.
        """
        if watermark is not None and watermark > self.schedule_heap.cursor:
            # The clock went back, or is not right yet. The caller handles a clock set back with `rewind`.
            self.schedule_heap = ScheduleHeap(watermark)
        self.absences.recall(
            {key: each.unseen_since for key, each in recorded.items() if each.unseen_since is not None}
        )
        undecided = [] if watermark is None else [*gaps, Gap(watermark, self.schedule_heap.cursor)]
        for some in _divide(ended, _LOADED_AT_ONCE):
            for each in some:
                present = recorded.get(each.version.automation_id)
                self._recall(self._enter_ended_version(each, present), undecided)
            yield []
        for records in _divide(recorded.values(), _LOADED_AT_ONCE):
            yield [version for each in records if (version := self._take_up(each, undecided)) is not None]

    def _take_up(self, record: RecordedAutomation, undecided: Sequence[Gap]) -> DefinitionVersion | None:
        """Enter an automation as recorded.

        Return a version in force from now on when the definition's validity differs from the recorded
        validity; otherwise None.
        """
        now = self.schedule_heap.cursor
        # min: the version may have been recorded under a clock ahead of the present clock.
        entry = self._enter(record.automation, min(record.effective_from, now), broken=record.broken)
        version = None
        if not entry.broken and entry.invalid != record.invalid:
            # Otherwise a definition invalid until now would fire the past.
            entry.effective_from = now
            version = entry.make_version(now)
        self._recall(entry, undecided)
        return version

    def _recall(self, entry: TimetableEntry, undecided: Sequence[Gap]) -> None:
        """Keep the entry's fire times in the undecided gaps until an `update` confirms them."""
        if entry.schedule is None:
            return
        last = min(entry.until or END_OF_TIME, self.schedule_heap.cursor)
        for gap in merge_gaps(gap for gap in undecided if entry.automation.id >= gap.automation_id):
            self._add_past(entry, gap.since, min(gap.until, last), is_confirmed=False)

    def _enter_ended_version(
        self, each: EndedVersion, present: RecordedAutomation | TimetableEntry | None
    ) -> TimetableEntry:
        """Enter an ended version under the present name of the automation, which decides the policies.

        A new name is no new version, so the version may have an older name. ``present`` None: the automation
        is gone.
        """
        version = each.version
        name = version.name if present is None else present.automation.name
        automation = Automation(version.automation_id, name, version.definition or NO_DEFINITION)
        schedule, _ = self._evaluate(automation.definition)
        policies = self._policies(automation.id, name)
        entry = TimetableEntry(
            automation, version.effective_from, policies, schedule, removed=True, until=each.until
        )
        self._past.setdefault(automation.id, []).append(entry)
        return entry

    def _get_fire_times(self, span: EvaluatedSpan, entry: TimetableEntry) -> Sequence[FireTime]:
        return span.get_fire_times(entry.policies, self._target, entry.automation.id, entry.effective_from)

    def _recall_interval(
        self, entry: TimetableEntry, schedule: Schedule, begin: datetime, end: datetime
    ) -> None:
        """Keep an interval with many instants until an `update` confirms the interval.

        With jitter, only the newest instant may lie in the past and not be due yet.
        """
        last = find_last_instant(schedule, max(begin, end - entry.policies.jitter), end)
        if last is not None:
            late = entry.make_fire_time(self._target, last, find_first_after(schedule, last))
            if late.due > self.schedule_heap.cursor and last > entry.effective_from:
                self.due_queue.add(entry.automation.id, [late], self.schedule_heap.cursor)
                end = last - JUST_BEFORE
        self._add_interval(self._unconfirmed_backlog, entry, schedule, begin, end)

    def _add_interval(
        self, backlog: Backlog, entry: TimetableEntry, schedule: Schedule, begin: datetime, end: datetime
    ) -> None:
        first = find_first_after(schedule, max(begin, entry.effective_from))
        if first is not None and first <= end:
            backlog.add(entry.make_interval(schedule, first - JUST_BEFORE, end))

    def update(
        self, snapshot: Snapshot, *, previous_poll: datetime | None, confirm_after: float | None
    ) -> SnapshotChanges:
        """Apply a snapshot and return its changes.

        An automation is removed when every complete snapshot during ``confirm_after`` seconds lacked the
        automation, from the begin of the first snapshot to the begin of the last. A list empty for a moment,
        or filtered by mistake, removes nothing. ``confirm_after`` None: this is a part of a snapshot, and the
        other parts follow.
        """
        last_poll = previous_poll or snapshot.begun_at
        changes = SnapshotChanges()
        for automation in snapshot.automations.values():
            known = self._entries.get(automation.id)
            if known is None:
                changes.added.append(self._edit(automation, snapshot, last_poll))
            elif known.automation is automation and not known.broken:
                # The usual case: unchanged automations are the same objects as in the snapshot before.
                continue
            elif known.broken or known.automation.definition != automation.definition:
                changes.changed.append(self._edit(automation, snapshot, last_poll))
                changes.updated.append(automation)
            else:
                if known.automation != automation:
                    changes.updated.append(automation)
                # Also replace an equal object loaded from the ledger: later comparisons are by identity.
                self._refresh(known, automation)
        for automation_id, error in snapshot.broken.items():
            known = self._entries.get(automation_id)
            if known is None or not known.broken or known.invalid != error.reason:
                automation = _make_broken(automation_id, error, known)
                version = self._edit(automation, snapshot, last_poll, broken=error.reason)
                (changes.added if known is None else changes.changed).append(version)
        if confirm_after is not None:
            changes.removed.extend(self._remove_gone(snapshot, confirm_after, last_poll))
            changes.unseen.update(self.absences.report_unseen(self._entries))
        self.due_queue.confirm_all(self.schedule_heap.cursor)
        self._unconfirmed_backlog.move_to(self.backlog)
        return changes

    @property
    def is_confirmed(self) -> bool:
        """Whether an `update` has confirmed or dropped all fire times due before this process began."""
        return not self.due_queue.unconfirmed and not self._unconfirmed_backlog

    def is_changed(self, automation: Automation) -> bool:
        """Return whether an `update` with this automation may change anything; a quick check by identity."""
        known = self._entries.get(automation.id)
        return known is None or known.broken or known.automation is not automation

    def remove(self, automation_id: str, at: datetime, observed_at: datetime) -> DefinitionVersion | None:
        """Remove an automation, gone since ``at``, and return the version to record.

        ``observed_at`` is the instant at which the removal became known. Return None for an unknown id.
        """
        entry = self._entries.pop(automation_id, None)
        self.absences.forget(automation_id)
        if entry is None:
            return None
        self._states[entry.state] -= 1
        self._leave(entry, at)
        entry.removed = True
        return DefinitionVersion(
            automation_id, entry.automation.name, None, effective_from=at, observed_at=observed_at
        )

    def reconsider(self, schedule: Callable[[str, str], Schedule], now: datetime) -> list[DefinitionVersion]:
        """Evaluate all automations again from the cursor on: the settings or the zone data changed.

        Return new versions for the automations with changed validity. Like an edit, such a change divides
        time at ``now``.
        """
        self.parse = schedule
        clear_caches()
        self.backlog.resume_postponed_intervals()
        changed = [entry for entry in self._entries.values() if not self._reconsider_entry(entry, now)]
        self.schedule_heap = ScheduleHeap(self.schedule_heap.cursor)
        for entry in self._entries.values():
            if entry.schedule is not None:
                self.schedule_heap.join(entry.automation.id, entry.schedule)
        return [self._begin(entry.automation, now).make_version(now) for entry in changed]

    def _reconsider_entry(self, entry: TimetableEntry, now: datetime) -> bool:
        """Evaluate the entry again and return True when its validity is unchanged.

        Otherwise end the entry's version at ``now`` and return False.
        """
        self._states[entry.state] -= 1
        entry.policies = self._policies(entry.automation.id, entry.automation.name)
        self._states[entry.state] += 1
        schedule, invalid = (
            (None, entry.invalid) if entry.broken else self._evaluate(entry.automation.definition)
        )
        if invalid == entry.invalid:
            entry.schedule = schedule
            return True
        self._leave(entry, now)
        entry.schedule = None
        return False

    # ------------------------------------------------------------ due fire times

    def collect_due(self, until: datetime, *, absent_until: datetime | None = None) -> list[DueFireTimes]:
        """Return all fire times due up to and including ``until``, by automation.

        The fire times stay due until `mark_durable` is called. No daemon ran before ``absent_until``.
        """
        self._move_to_backlog()
        for schedule, begin, span, members in self.schedule_heap.collect(until):
            for automation_id in members:
                entry = self._entries[automation_id]
                if self.backlog.is_unexamined(automation_id):
                    self._add_interval(self.backlog, entry, schedule, begin, until)
                elif span is None:
                    # The version may have come into force recently, and may have few instants.
                    self._add_past(entry, max(begin, entry.effective_from), until)
                elif moments := self._get_fire_times(span, entry):
                    self.due_queue.add(automation_id, moments, until)
        if self.backlog.unexamined:
            self._examine(until, absent_until)
        return [
            DueFireTimes(self.find_last_entry(each), moments)
            for each, moments in self.due_queue.find_due(until).items()
        ]

    def find_last_entry(self, automation_id: str) -> TimetableEntry:
        """Return the version in force, or the last version with undecided fire times."""
        return self._entries.get(automation_id) or self._past[automation_id][-1]

    def mark_durable(self, dues: Sequence[DueFireTimes]) -> None:
        """Remove fire times from the due queue: they are durable, or need no row."""
        for each in dues:
            automation_id = each.entry.automation.id
            self.due_queue.discard(automation_id, each.fire_times)
            self._forget_past(automation_id)

    # ------------------------------------------------------------ fire times without a row

    def list_first_delayed(self, limit: int) -> list[tuple[TimetableEntry, FireTime]]:
        """Return the first ``limit`` delayed fire times of the due queue with their entries, in due order."""
        return [
            (self.find_last_entry(automation_id), moment)
            for automation_id, moment in self.due_queue.list_first_delayed(limit)
        ]

    def iterate_fires(
        self, fires: Mapping[str, Collection[FireTime]], automation_id: str | None = None
    ) -> Iterator[tuple[TimetableEntry, FireTime]]:
        """Yield fire times of the due queue with their entries, of all automations or of one.

        ``fires`` are the delayed, the ready or the unconfirmed fire times. The order is undefined. The
        timetable may change during the iteration.
        """
        for each in list(fires) if automation_id is None else [automation_id]:
            if moments := tuple(fires.get(each, ())):
                entry = self.find_last_entry(each)
                yield from ((entry, moment) for moment in moments)

    # ------------------------------------------------------------ the undecided past

    def find_late(self, limit: int) -> list[BacklogInterval]:
        """Return the next late intervals to decide: at least one, at most ``limit``.

        Return fewer than ``limit`` when the intervals take long to evaluate. An interval with a time zone
        missing from the zone data is postponed.
        """
        found: list[BacklogInterval] = []
        evaluated: set[tuple[Schedule, datetime, datetime]] = set()
        cost = 0
        for stretch in list(islice(self.backlog.iterate_late(), limit)):
            key = (stretch.schedule, stretch.begin, stretch.end)
            cost += 1 if key in evaluated else _COST + _COST_OF_DAY * (stretch.end - stretch.begin).days
            if found and cost > _EVALUATED_AT_ONCE:
                break
            evaluated.add(key)
            try:
                measure_extent(*key)
            except ZoneInfoNotFoundError:
                self.backlog.postpone(stretch)
            else:
                found.append(stretch)
        return found

    def mark_late_durable(self, overdue: Sequence[BacklogInterval]) -> None:
        """Remove late intervals from the backlog: their outcomes are durable."""
        self.backlog.discard(overdue)
        for each in overdue:
            self._forget_past(each.automation_id)

    def _examine(self, until: datetime, absent_until: datetime | None) -> None:
        """Move fire times that may still start from the backlog to the due queue; the rest becomes late.

        Stop after as many automations as a few hundredths of a second allow.
        """
        examiner = Examiner(self._target, now=until - _AHEAD, until=until, absent_until=absent_until)
        cost = 0
        for automation_id in self.backlog.unexamined:
            cost += self._examine_automation(examiner, automation_id)
            if cost + _COST * examiner.evaluations > _EXAMINED_AT_ONCE:
                break

    def _examine_automation(self, examiner: Examiner, automation_id: str) -> int:
        """Examine the intervals of an automation. Return the cost without the evaluations."""
        stretches = self.backlog.pop_unexamined_intervals(automation_id)
        try:
            examined = examiner.examine(self.find_last_entry(automation_id).policies, stretches)
        except ZoneInfoNotFoundError:
            for stretch in stretches:
                self.backlog.postpone(stretch)
            return 0
        for stretch in examined.late:
            self.backlog.add_late(stretch)
        for stretch in examined.unexamined:
            self.backlog.add(stretch)
        if examined.fire_times:
            self.due_queue.add(automation_id, examined.fire_times, examiner.until)
        return 1 + len(examined.fire_times)

    def _move_to_backlog(self) -> None:
        """Replace the fire times of automations with many of them by intervals of the backlog.

        A ledger that cannot be written for hours must not fill the memory.
        """
        for automation_id, moments in self.due_queue.find_overfull(MOST_LISTED):
            begin, end = moments[0].scheduled_for - JUST_BEFORE, moments[-1].scheduled_for
            stretches = list(self._find_intervals(automation_id, begin, end))
            if all(any(stretch.contains(each.scheduled_for) for stretch in stretches) for each in moments):
                self.due_queue.discard(automation_id, moments)
                for stretch in stretches:
                    self.backlog.add(stretch)

    def _find_intervals(
        self, automation_id: str, begin: datetime, end: datetime
    ) -> Iterator[BacklogInterval]:
        """Yield the intervals of the automation's versions after ``begin`` and up to ``end``."""
        current = (self._entries[automation_id],) if automation_id in self._entries else ()
        for entry in (*self._past.get(automation_id, ()), *current):
            since, until = max(begin, entry.effective_from), min(end, entry.until or end)
            if entry.schedule is not None and since < until:
                yield entry.make_interval(entry.schedule, since, until)

    def _is_undecided(self, automation_id: str) -> bool:
        return (
            self.due_queue.has_automation(automation_id)
            or self.backlog.has_automation(automation_id)
            or self._unconfirmed_backlog.has_automation(automation_id)
        )

    def _forget_past(self, automation_id: str) -> None:
        if automation_id in self._past and not self._is_undecided(automation_id):
            del self._past[automation_id]

    # ------------------------------------------------------------ next fire times

    @property
    def wake_at(self) -> datetime | None:
        """Next due instant of all automations; None when nothing is ever due.

        The instant lies in the past while something due is not planned.
        """
        return min(filter(None, (self.schedule_heap.next_instant, self.due_queue.earliest_due)), default=None)

    def compute_watermark(self, now: datetime, planned: Sequence[DueFireTimes] = ()) -> datetime:
        """Return the instant up to which everything is planned once ``planned`` is durable.

        The instant is never later than ``now``.
        """
        earliest = self.due_queue.find_earliest_scheduled(
            {each.entry.automation.id: each.fire_times for each in planned}
        )
        return min(
            now,
            self.schedule_heap.cursor,
            self._unconfirmed_backlog.find_earliest() or now,
            now if earliest is None else earliest - JUST_BEFORE,
        )

    def bring_into_force(self, now: datetime) -> None:
        """Bring the versions observed under a clock ahead of time into force: the clock went back to ``now``.

        A claim ahead of ``now`` may be withdrawn. No occurrence is coalesced into such a claim any more.
        """
        for entry in self._entries.values():
            if entry.claimed is not None and entry.claimed > now:
                entry.claimed = None
            entry.effective_from = min(entry.effective_from, now)

    def rewind(self, now: datetime, *, watermark: datetime, ended: Sequence[EndedVersion] = ()) -> None:
        """Evaluate the time after ``watermark`` again: the clock went back to ``now``.

        ``ended`` are the versions that ended since the watermark; their time is evaluated again too.
        Existing claims prevent a second fire. Fire times up to ``now`` without a row stay and are decided by
        the present clock, including those found too late under the clock ahead.
        """
        if watermark < self.schedule_heap.cursor:
            self.due_queue.cut_all(now)
            self.backlog.cut_all(now)
            self.backlog.reopen_late()
            self._unconfirmed_backlog.cut_all(now)
            self.schedule_heap.rewind(watermark)
            for each in ended:
                entry = self._enter_ended_version(each, self._entries.get(each.version.automation_id))
                self._add_past(entry, watermark, each.until)

    def iterate_upcoming(
        self, after: datetime, until: datetime, only: Callable[[Automation], bool] | None = None
    ) -> Iterator[tuple[datetime, TimetableEntry]]:
        """Return the instants after ``after`` and up to ``until`` with their entries, in order of time.

        ``only`` selects automations; without it, all automations count. The evaluation is lazy and may run in
        another thread, which also calls ``only``. An automation removed during the iteration is left out
        from that moment on.
        """
        entries = dict(self._entries)

        def is_wanted(automation_id: str) -> bool:
            return only is None or (automation_id in entries and only(entries[automation_id].automation))

        upcoming = self.schedule_heap.iterate_by_schedule(after, until, is_wanted)
        return (
            (instant, entry)
            for instant, _, members in upcoming
            for automation_id in members
            if (entry := self._entries.get(automation_id)) is not None
        )

    # ------------------------------------------------------------ entering and leaving

    def _enter(self, automation: Automation, since: datetime, *, broken: str | None = None) -> TimetableEntry:
        schedule, invalid = (None, broken) if broken is not None else self._evaluate(automation.definition)
        policies = self._policies(automation.id, automation.name)
        entry = TimetableEntry(automation, since, policies, schedule, invalid, broken=broken is not None)
        if (known := self._entries.get(automation.id)) is not None:
            self._states[known.state] -= 1
            known.following = entry
            # The edit may withdraw a later claim.
            if known.claimed is not None and known.claimed <= since:
                entry.claimed = known.claimed
        self._entries[automation.id] = entry
        self._states[entry.state] += 1
        if schedule is not None:
            self.schedule_heap.join(automation.id, schedule)
        return entry

    def _leave(self, entry: TimetableEntry, at: datetime) -> None:
        """End the version at ``at``: drop its fire times after ``at``, keep the earlier fire times."""
        entry.until = at
        automation_id = entry.automation.id
        self.due_queue.cut(automation_id, at)
        self.backlog.cut(automation_id, at)
        self._unconfirmed_backlog.cut(automation_id, at)
        if entry.schedule is not None:
            self.schedule_heap.leave(automation_id, entry.schedule)
            self._add_past(entry, self.schedule_heap.cursor, at)
        self._past.setdefault(automation_id, []).append(entry)
        self._forget_past(automation_id)

    def _edit(
        self,
        automation: Automation,
        snapshot: Snapshot,
        previous_poll: datetime,
        *,
        broken: str | None = None,
    ) -> DefinitionVersion:
        """Enter the automation as shown by the snapshot, in place of the version in force."""
        known = self._entries.get(automation.id)
        since = compute_effective_from(
            None if broken else automation.updated_at,
            clock_offset=snapshot.clock_offset or 0.0,
            previous_poll=self.absences.find_last_poll(automation.id, previous_poll),
            this_poll=snapshot.begun_at,
            run_moved_it=known is not None and _has_run_changed(known.automation, automation),
        )
        if known is not None:
            self._leave(known, since)
        return self._begin(automation, since, broken=broken).make_version(snapshot.ended_at)

    def _begin(self, automation: Automation, since: datetime, *, broken: str | None = None) -> TimetableEntry:
        """Enter a version in force from ``since`` on, with its instants between ``since`` and the cursor."""
        entry = self._enter(automation, since, broken=broken)
        self._add_past(entry, since, self.schedule_heap.cursor)
        return entry

    def _refresh(self, entry: TimetableEntry, automation: Automation) -> None:
        self._states[entry.state] -= 1
        if entry.automation.name != automation.name:
            entry.policies = self._policies(automation.id, automation.name)
        entry.automation = automation
        self._states[entry.state] += 1

    def _remove_gone(
        self, snapshot: Snapshot, confirm_after: float, previous_poll: datetime
    ) -> list[DefinitionVersion]:
        gone = self.absences.find_gone(snapshot, confirm_after, previous_poll, self._entries)
        removed = (self.remove(each, snapshot.begun_at, snapshot.ended_at) for each in gone)
        return [version for version in removed if version is not None]

    def _evaluate(self, definition: Definition) -> tuple[Schedule | None, str | None]:
        if not definition.enabled:
            return None, None
        try:
            return self.parse(definition.cron_expression, definition.timezone), None
        except InvalidSchedule as error:
            return None, error.reason

    def _add_past(
        self, entry: TimetableEntry, begin: datetime, end: datetime, *, is_confirmed: bool = True
    ) -> None:
        """Add the entry's instants after ``begin`` and up to ``end``.

        Instants that are not confirmed wait for an `update`.
        """
        if entry.schedule is None or _to_minute(begin) >= _to_minute(end):
            return  # The usual case: this automation needs no evaluation.
        span = evaluate_minutes(entry.schedule, _to_minute(begin), _to_minute(end))
        if span is None and is_confirmed:
            self._add_interval(self.backlog, entry, entry.schedule, begin, end)
        elif span is None:
            self._recall_interval(entry, entry.schedule, begin, end)
        elif moments := self._get_fire_times(span, entry):
            add = self.due_queue.add if is_confirmed else self.due_queue.recall
            add(entry.automation.id, moments, self.schedule_heap.cursor)


def _to_minute(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)


def _has_run_changed(before: Automation, automation: Automation) -> bool:
    """Return whether a run began or ended between two readings of an automation."""
    return (before.run_id, before.run_status) != (automation.run_id, automation.run_status)


def _make_broken(automation_id: str, error: InvalidAutomation, known: TimetableEntry | None) -> Automation:
    """Return an automation without a definition, in place of an object without a usable definition."""
    if known is not None:
        return replace(known.automation, definition=NO_DEFINITION)
    return Automation(automation_id, error.name or automation_id, NO_DEFINITION)


def _divide(whole: Iterable[_T], size: int) -> Iterator[Sequence[_T]]:
    """Yield the items in groups of at most ``size``, in their order."""
    left = iter(whole)
    while group := list(islice(left, size)):
        yield group
