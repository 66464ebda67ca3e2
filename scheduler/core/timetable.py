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
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain, islice, pairwise
from math import inf
from typing import Final, TypeVar
from zoneinfo import ZoneInfoNotFoundError

from scheduler.core.backlog import Backlog, BacklogInterval, merge_gaps
from scheduler.core.backlog_decisions import (
    MOST_LISTED,
    Examiner,
    clear_caches,
    find_first_after,
    find_last_near,
    measure_extent,
)
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.due_queue import DueQueue
from scheduler.core.instants import JUST_BEFORE
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
_MOST_SPANS: Final = 10_000
"""Number of evaluated spans to keep between two parts of a snapshot."""
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
_CLOCK_TICK: Final = 0.001
"""Seconds by which a poll may begin before the whole interval has passed: waits are rounded."""


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
            if following.effective_from < instant and not (
                following.broken and following.following is not None
            ):
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


@dataclass(frozen=True, slots=True)
class DueFireTimes:
    """The due fire times of one automation, in order. Some may come from a version no longer in force."""

    entry: TimetableEntry
    fire_times: Sequence[FireTime]


@dataclass(frozen=True, slots=True)
class LateInterval:
    """An interval of an automation's past in which nothing may start.

    ``entry`` is the version in force, or the last version.
    """

    entry: TimetableEntry
    interval: BacklogInterval


@dataclass(frozen=True, slots=True)
class SnapshotChanges:
    """The changes of a snapshot: definition versions to record, and automations with any other difference.

    ``unseen`` has two kinds of automation ids. An automation no longer in the list maps to the begin of the
    last snapshot with the automation. An automation back in the list maps to None.
    """

    added: Sequence[DefinitionVersion] = ()
    changed: Sequence[DefinitionVersion] = ()
    removed: Sequence[DefinitionVersion] = ()
    updated: Sequence[Automation] = ()
    unseen: Mapping[str, datetime | None] = field(default_factory=dict)


def merge_changes(parts: Sequence[SnapshotChanges]) -> SnapshotChanges:
    """Return the changes of all parts of one snapshot, in their order."""
    return SnapshotChanges(
        [each for part in parts for each in part.added],
        [each for part in parts for each in part.changed],
        [each for part in parts for each in part.removed],
        [each for part in parts for each in part.updated],
        {automation_id: since for part in parts for automation_id, since in part.unseen.items()},
    )


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
        self._parse = schedule
        self._schedule_heap = ScheduleHeap(now)
        self._due_queue = DueQueue()
        self._backlog = Backlog()
        self._unconfirmed: dict[str, Sequence[FireTime]] = {}
        self._unconfirmed_backlog = Backlog()
        self._entries: dict[str, TimetableEntry] = {}
        self._states: Counter[str] = Counter()  # number of entries by state; kept because it is read often
        self._spans: _Spans = {}  # the evaluated spans of the current update, see `_evaluate_span`
        self._past: dict[str, list[TimetableEntry]] = {}  # ended versions with undecided fire times
        # By id: the begin of the first snapshot counted against the automation, see `_remove_absent`.
        # inf: no snapshot counts yet.
        self._absent: dict[str, float] = {}
        # Listed automations with a run answered by 404: the begin of the last GET answered by 404, if any.
        self._denied: dict[str, float | None] = {}
        self._snapshot_begun = -inf  # begin of the newest snapshot
        # Automations missing from the newest snapshot: the begin of the last snapshot with the automation.
        self._unseen: dict[str, datetime] = {}
        self._reported_unseen: Mapping[str, datetime] = {}  # `_unseen` as the last `update` reported it

    # ------------------------------------------------------------ existing automations

    @property
    def entries(self) -> Mapping[str, TimetableEntry]:
        """Every existing automation, by its id."""
        return self._entries

    @property
    def states(self) -> Counter[str]:
        """A copy of the numbers of automations by `TimetableEntry.state`."""
        return +self._states

    @property
    def absent(self) -> Collection[str]:
        """Ids of the automations missing from the newest complete snapshot and not decided otherwise yet.

        Before the first snapshot of this process: ids missing from the last snapshot in the ledger.
        """
        return self._absent.keys()

    def is_absent(self, automation_id: str) -> bool:
        """Return whether the automation is missing from the newest complete snapshot, or unknown."""
        return automation_id not in self._entries or automation_id in self._absent

    def note_absence(self, automation_id: str, begun: float) -> None:
        """Note that the automation answered 404 and is missing from a snapshot, complete or not.

        ``begun`` is the begin of the snapshot.
        """
        self._absent[automation_id] = min(self._absent.get(automation_id, inf), begun)

    @property
    def denied(self) -> Collection[str]:
        """Ids of the automations with a run and a GET answered by 404, and present in each snapshot since."""
        return [automation_id for automation_id, begun in self._denied.items() if begun is not None]

    @property
    def doubtful(self) -> Collection[str]:
        """Ids of the enabled automations with a run answered by 404, and present in each snapshot since."""
        entries = ((automation_id, self._entries.get(automation_id)) for automation_id in self._denied)
        return [
            automation_id
            for automation_id, entry in entries
            if entry is not None and entry.automation.definition.enabled
        ]

    def needs_reading(self, automation_id: str) -> bool:
        """Return whether the automation must be read alone to find out whether it still exists.

        Either the list does not have the automation, or a run of the automation answered 404.
        """
        return automation_id in self._denied or self.is_absent(automation_id)

    def find_denial(self, automation_id: str) -> str | None:
        """Return why an automation in the list may be gone, for people; None without a denial."""
        if automation_id not in self._denied:
            return None
        if self._denied[automation_id] is None:
            return "run of the automation answered 404, although the list shows the automation"
        return "run and GET of the automation answer 404, although the list shows the automation"

    def note_denial(self, automation_id: str) -> None:
        """Note that the automation answered 404 to a run, although the list shows it."""
        self._denied.setdefault(automation_id, None)

    def confirm_denial(self, automation_id: str, begun: float) -> None:
        """Note that a GET of the automation, begun at ``begun``, answered 404 too.

        The next snapshot removes the automation when the automation is missing from it, complete or not. A
        later snapshot does not remove the automation for this reason: the automation may exist again by then.
        """
        self._denied[automation_id] = begun

    def revoke_denial(self, automation_id: str) -> None:
        """Note that a GET of the automation returned a definition other than the list's.

        The list decides which definition counts.
        """
        if automation_id in self._denied:
            self._denied[automation_id] = None

    def confirm_presence(self, automation_id: str) -> None:
        """Note that the automation itself was read: only two more snapshots without it can remove it."""
        self._absent.pop(automation_id, None)
        self._denied.pop(automation_id, None)

    def note_clock_step(self, seconds: float) -> None:
        """Move the instants of polls by a clock step, in seconds; positive: the clock was set ahead."""
        self._unseen = {each: at + timedelta(seconds=seconds) for each, at in self._unseen.items()}

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
        self._spans.clear()
        if watermark is not None and watermark > self._schedule_heap.cursor:
            # The clock went back, or is not right yet. The caller handles a clock set back with `rewind`.
            self._schedule_heap = ScheduleHeap(watermark)
        unseen = {
            automation_id: each.unseen_since
            for automation_id, each in recorded.items()
            if each.unseen_since is not None
        }
        self._unseen, self._reported_unseen, self._absent = unseen, dict(unseen), dict.fromkeys(unseen, inf)
        undecided = [] if watermark is None else [*gaps, Gap(watermark, self._schedule_heap.cursor)]
        for some in _divide(ended, _LOADED_AT_ONCE):
            for each in some:
                self._recall_all(self._enter_ended_version(each), undecided)
            yield []
        for records in _divide(recorded.values(), _LOADED_AT_ONCE):
            yield [version for each in records if (version := self._take_up(each, undecided)) is not None]

    def _take_up(self, record: RecordedAutomation, undecided: Sequence[Gap]) -> DefinitionVersion | None:
        """Enter an automation as recorded.

        Return a version in force from now on when the definition's validity differs from the recorded
        validity; otherwise None.
        """
        now = self._schedule_heap.cursor
        # min: the version may have been recorded under a clock ahead of the present clock.
        entry = self._enter(record.automation, min(record.effective_from, now), broken=record.broken)
        version = None
        if not entry.broken and entry.invalid != record.invalid:
            # Otherwise a definition invalid until now would fire the past.
            entry.effective_from = now
            version = _make_version(entry, now, now)
        self._recall_all(entry, undecided)
        return version

    def _recall_all(self, entry: TimetableEntry, undecided: Sequence[Gap]) -> None:
        """Keep the entry's fire times in the undecided gaps until an `update` confirms them."""
        for gap in merge_gaps(gap for gap in undecided if entry.automation.id >= gap.automation_id):
            end = gap.until if entry.until is None else min(entry.until, gap.until)
            self._recall(entry, gap.since, min(end, self._schedule_heap.cursor))

    def _enter_ended_version(self, each: EndedVersion) -> TimetableEntry:
        version = each.version
        automation = Automation(version.automation_id, version.name, version.definition or NO_DEFINITION)
        schedule, _ = self._evaluate(automation.definition)
        policies = self._policies(automation.id, automation.name)
        entry = TimetableEntry(
            automation, version.effective_from, policies, schedule, removed=True, until=each.until
        )
        self._past.setdefault(automation.id, []).append(entry)
        return entry

    def _recall(self, entry: TimetableEntry, begin: datetime, end: datetime) -> None:
        if entry.schedule is None or begin >= end:
            return
        span = self._evaluate_span(entry.schedule, begin, end)
        if span is None:
            self._recall_interval(entry, entry.schedule, begin, end)
            return
        moments = span.get_fire_times(entry)
        if moments and moments[-1].due > self._schedule_heap.cursor:
            self._due_queue.add(
                entry.automation.id,
                [each for each in moments if each.due > self._schedule_heap.cursor],
                self._schedule_heap.cursor,
            )
            moments = [each for each in moments if each.due <= self._schedule_heap.cursor]
        if moments:
            before = self._unconfirmed.get(entry.automation.id)
            self._unconfirmed[entry.automation.id] = moments if before is None else [*before, *moments]

    def _recall_interval(
        self, entry: TimetableEntry, schedule: Schedule, begin: datetime, end: datetime
    ) -> None:
        """Keep an interval with many instants until an `update` confirms the interval.

        With jitter, only the newest instant may lie in the past and not be due yet.
        """
        last = (
            None
            if not entry.policies.jitter
            else find_last_near(schedule, max(begin, end - entry.policies.jitter), end)
        )
        if last is not None:
            late = make_fire_time(
                entry.policies, self._target, entry.automation.id, last, find_first_after(schedule, last)
            )
            if late.due > self._schedule_heap.cursor and last > entry.effective_from:
                self._due_queue.add(entry.automation.id, [late], self._schedule_heap.cursor)
                end = last - JUST_BEFORE
        self._add_interval(self._unconfirmed_backlog, entry, schedule, begin, end)

    def _add_interval(
        self, backlog: Backlog, entry: TimetableEntry, schedule: Schedule, begin: datetime, end: datetime
    ) -> None:
        first = find_first_after(schedule, max(begin, entry.effective_from))
        if first is not None and first <= end:
            backlog.add(
                entry.automation.id,
                BacklogInterval(entry.automation.definition, schedule, first - JUST_BEFORE, end),
            )

    def update(
        self, snapshot: Snapshot, *, previous_poll: datetime | None, confirm_after: float | None
    ) -> SnapshotChanges:
        """Apply a snapshot and return its changes.

        An automation is removed when every complete snapshot during ``confirm_after`` seconds lacked the
        automation, from the begin of the first snapshot to the begin of the last. A list empty for a moment,
        or filtered by mistake, removes nothing. ``confirm_after`` None: this is a part of a snapshot, and the
        other parts follow.
        """
        if len(self._spans) > _MOST_SPANS:
            self._spans.clear()
        since = _EditStart(previous_poll or snapshot.begun_at, snapshot, self._unseen)
        added: list[DefinitionVersion] = []
        changed: list[DefinitionVersion] = []
        updated: list[Automation] = []
        for automation in snapshot.automations.values():
            known = self._entries.get(automation.id)
            if known is None:
                added.append(
                    self._edit(
                        automation, since.find_effective_from(automation.id, automation, None), snapshot
                    )
                )
            elif known.automation is automation and not known.broken:
                # The usual case: unchanged automations are the same objects as in the snapshot before.
                continue
            elif known.broken or known.automation.definition != automation.definition:
                changed.append(
                    self._edit(
                        automation,
                        since.find_effective_from(automation.id, automation, known.automation),
                        snapshot,
                    )
                )
                updated.append(automation)
            elif known.automation != automation:
                self._refresh(known, automation)
                updated.append(automation)
            else:
                # Replace the equal object loaded from the ledger: later comparisons are by identity.
                known.automation = automation
        for automation_id, error in snapshot.broken.items():
            known = self._entries.get(automation_id)
            if known is None or not known.broken or known.invalid != error.reason:
                version = self._break(
                    automation_id, error, since.find_effective_from(automation_id, None, None), snapshot
                )
                (added if known is None else changed).append(version)
        removed = (
            [] if confirm_after is None else self._remove_absent(snapshot, confirm_after, since.previous_poll)
        )
        self._confirm_all()
        return SnapshotChanges(
            added, changed, removed, updated, {} if confirm_after is None else self._find_unseen_changes()
        )

    @property
    def is_confirmed(self) -> bool:
        """Whether an `update` has confirmed or dropped all fire times due before this process began."""
        return not self._unconfirmed and not self._unconfirmed_backlog

    def is_changed(self, automation: Automation) -> bool:
        """Return whether an `update` with this automation may change anything; a quick check by identity."""
        known = self._entries.get(automation.id)
        return known is None or known.broken or known.automation is not automation

    def remove(self, automation_id: str, at: datetime, observed_at: datetime) -> DefinitionVersion | None:
        """Remove an automation, gone since ``at``, and return the version to record.

        ``observed_at`` is the instant at which the removal became known. Return None for an unknown id.
        """
        entry = self._entries.pop(automation_id, None)
        self._absent.pop(automation_id, None)
        self._denied.pop(automation_id, None)
        self._unseen.pop(automation_id, None)
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
        self._parse = schedule
        self._spans.clear()
        clear_caches()
        self._backlog.resume_postponed_intervals()
        changed = [entry for entry in self._entries.values() if not self._reconsider_entry(entry, now)]
        self._schedule_heap = ScheduleHeap(self._schedule_heap.cursor)
        for entry in self._entries.values():
            if entry.schedule is not None:
                self._schedule_heap.join(entry.automation.id, entry.schedule)
        return [_make_version(self._begin(entry.automation, now), now, now) for entry in changed]

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
        for collected in self._schedule_heap.collect(until):
            span = (
                None
                if collected.instants is None
                else _EvaluatedSpan(self._target, collected.instants, collected.following)
            )
            for automation_id in collected.members:
                entry = self._entries[automation_id]
                if self._backlog.is_unexamined(automation_id):
                    self._add_interval(self._backlog, entry, collected.schedule, collected.begin, until)
                elif span is None:
                    self._add_many(entry, collected.schedule, collected.begin, until)
                elif moments := span.get_fire_times(entry):
                    self._due_queue.add(automation_id, moments, until)
        self._examine(until, absent_until)
        return [
            DueFireTimes(self._find_last_entry(each), moments)
            for each, moments in self._due_queue.find_due(until).items()
        ]

    def _add_many(self, entry: TimetableEntry, schedule: Schedule, begin: datetime, end: datetime) -> None:
        """Add the many instants of a schedule for a version, which may have come into force recently."""
        if entry.effective_from > begin:
            self._add_past(entry, schedule, entry.effective_from, end)
        else:
            self._add_interval(self._backlog, entry, schedule, begin, end)

    def _find_last_entry(self, automation_id: str) -> TimetableEntry:
        return self._entries.get(automation_id) or self._past[automation_id][-1]

    def mark_durable(self, dues: Sequence[DueFireTimes]) -> None:
        """Remove fire times from the due queue: they are durable, or need no row."""
        for each in dues:
            automation_id = each.entry.automation.id
            self._due_queue.discard(automation_id, each.fire_times)
            self._forget_past(automation_id)

    # ------------------------------------------------------------ fire times without a row

    @property
    def delayed_count(self) -> int:
        """Number of fire times with a past instant and a future due time."""
        return self._due_queue.delayed_count

    def list_first_delayed(self, limit: int) -> list[tuple[TimetableEntry, FireTime]]:
        """Return the first ``limit`` fire times with a past instant and a future due time, in due order."""
        return [
            (self._find_last_entry(automation_id), each)
            for automation_id, each in self._due_queue.list_first_delayed(limit)
        ]

    def iterate_delayed_fires(
        self, automation_id: str | None = None
    ) -> Iterator[tuple[TimetableEntry, FireTime]]:
        """Yield the fire times with a past instant and a future due time, of all automations or of one.

        The order is undefined. The timetable may change during the iteration.
        """
        return self._iterate_fire_times(
            _copy_ids(self._due_queue.delayed_automations, automation_id), self._due_queue.list_delayed_fires
        )

    def iterate_unplanned_fires(
        self, automation_id: str | None = None
    ) -> Iterator[tuple[TimetableEntry, FireTime]]:
        """Yield the fire times that are due and not durable yet, as `iterate_delayed_fires` does.

        Fire times waiting for the first good poll are left out.
        """
        return self._iterate_fire_times(
            _copy_ids(self._due_queue.ready, automation_id), lambda each: self._due_queue.ready.get(each, ())
        )

    def iterate_unconfirmed_fires(
        self, automation_id: str | None = None
    ) -> Iterator[tuple[TimetableEntry, FireTime]]:
        """Yield the fire times that came due before this daemon ran and wait for the first good poll.

        The order is undefined. The timetable may change during the iteration.
        """
        return self._iterate_fire_times(
            _copy_ids(self._unconfirmed, automation_id), lambda each: self._unconfirmed.get(each, ())
        )

    def _iterate_fire_times(
        self, ids: Iterable[str], moments_of: Callable[[str], Sequence[FireTime]]
    ) -> Iterator[tuple[TimetableEntry, FireTime]]:
        for automation_id in ids:
            if moments := moments_of(automation_id):
                entry = self._find_last_entry(automation_id)
                yield from ((entry, each) for each in moments)

    # ------------------------------------------------------------ the undecided past

    def find_late(self, limit: int) -> list[LateInterval]:
        """Return the next late intervals to decide: at least one, at most ``limit``.

        Return fewer than ``limit`` when the intervals take long to evaluate. An interval with a time zone
        missing from the zone data is postponed.
        """
        found: list[LateInterval] = []
        evaluated: set[tuple[Schedule, datetime, datetime]] = set()
        cost = 0
        for automation_id, stretch in list(islice(self._backlog.iterate_late(), limit)):
            key = (stretch.schedule, stretch.begin, stretch.end)
            cost += 1 if key in evaluated else _COST + _COST_OF_DAY * (stretch.end - stretch.begin).days
            if found and cost > _EVALUATED_AT_ONCE:
                break
            evaluated.add(key)
            try:
                measure_extent(*key)
            except ZoneInfoNotFoundError:
                self._backlog.postpone(automation_id, stretch)
            else:
                found.append(LateInterval(self._find_last_entry(automation_id), stretch))
        return found

    def mark_late_durable(self, overdue: Sequence[LateInterval]) -> None:
        """Remove late intervals from the backlog: their outcomes are durable."""
        self._backlog.discard((each.entry.automation.id, each.interval) for each in overdue)
        for each in overdue:
            self._forget_past(each.entry.automation.id)

    def find_gaps(self, recovered: Sequence[LateInterval] = ()) -> Sequence[Gap]:
        """Return the undecided gaps below the watermark, assuming that ``recovered`` are durable."""
        return self._backlog.find_gaps([(each.entry.automation.id, each.interval) for each in recovered])

    @property
    def has_backlog(self) -> bool:
        """Whether any past interval is undecided."""
        return bool(self._backlog)

    @property
    def backlog_count(self) -> int:
        """Number of automations with an undecided past."""
        return len(self._backlog.automations)

    def _examine(self, until: datetime, absent_until: datetime | None) -> None:
        """Move fire times that may still start from the backlog to the due queue; the rest becomes late.

        Stop after as many automations as a few hundredths of a second allow.
        """
        examiner = Examiner(self._target, now=until - _AHEAD, until=until, absent_until=absent_until)
        cost = 0
        for automation_id in self._backlog.unexamined:
            stretches = self._backlog.pop_unexamined_intervals(automation_id)
            try:
                examined = examiner.examine(
                    automation_id, self._find_last_entry(automation_id).policies, stretches
                )
            except ZoneInfoNotFoundError:
                for stretch in stretches:
                    self._backlog.postpone(automation_id, stretch)
                continue
            for stretch in examined.late:
                self._backlog.add_late(automation_id, stretch)
            for stretch in examined.unexamined:
                self._backlog.add(automation_id, stretch)
            if examined.fire_times:
                self._due_queue.add(automation_id, examined.fire_times, until)
            cost += 1 + len(examined.fire_times)
            if cost + _COST * examiner.evaluations > _EXAMINED_AT_ONCE:
                break

    def _move_to_backlog(self) -> None:
        """Replace the fire times of automations with many of them by intervals of the backlog.

        A ledger that cannot be written for hours must not fill the memory.
        """
        for automation_id, moments in self._due_queue.find_overfull(MOST_LISTED):
            begin, end = moments[0].scheduled_for - JUST_BEFORE, moments[-1].scheduled_for
            stretches = list(self._find_intervals(automation_id, begin, end))
            if all(
                any(each.begin < moment.scheduled_for <= each.end for each in stretches) for moment in moments
            ):
                self._due_queue.discard(automation_id, moments)
                for stretch in stretches:
                    self._backlog.add(automation_id, stretch)

    def _find_intervals(
        self, automation_id: str, begin: datetime, end: datetime
    ) -> Iterator[BacklogInterval]:
        """Yield the intervals of the automation's versions after ``begin`` and up to ``end``."""
        current = self._entries.get(automation_id)
        for entry in (*self._past.get(automation_id, ()), *([] if current is None else [current])):
            since, until = (
                max(begin, entry.effective_from),
                end if entry.until is None else min(end, entry.until),
            )
            if entry.schedule is not None and since < until:
                yield BacklogInterval(entry.automation.definition, entry.schedule, since, until)

    def _is_undecided(self, automation_id: str) -> bool:
        return (
            self._due_queue.has_automation(automation_id)
            or automation_id in self._unconfirmed
            or self._backlog.has_automation(automation_id)
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
        return min(
            (
                each
                for each in (self._schedule_heap.next_instant, self._due_queue.earliest_due)
                if each is not None
            ),
            default=None,
        )

    @property
    def next_fire(self) -> datetime | None:
        """Next scheduled instant of all automations; None when no automation ever fires."""
        return self._schedule_heap.next_instant

    def find_next(self, schedule: Schedule) -> datetime | None:
        """Return the next instant of a schedule, without an evaluation; None for an unused schedule."""
        return self._schedule_heap.find_next(schedule)

    def compute_watermark(self, now: datetime, planned: Sequence[DueFireTimes] = ()) -> datetime:
        """Return the instant up to which everything is planned once ``planned`` is durable.

        The instant is never later than ``now``.
        """
        waiting = [moments[0].scheduled_for for moments in self._unconfirmed.values()]
        if (
            earliest := self._due_queue.find_earliest_scheduled(
                {each.entry.automation.id: each.fire_times for each in planned}
            )
        ) is not None:
            waiting.append(earliest)
        begin = self._unconfirmed_backlog.find_earliest() or now
        return min([now, self._schedule_heap.cursor, begin, *(each - JUST_BEFORE for each in waiting)])

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
        if watermark < self._schedule_heap.cursor:
            self._due_queue.cut_all(now)
            self._backlog.cut_all(now)
            self._backlog.reopen_late()
            self._unconfirmed_backlog.cut_all(now)
            self._schedule_heap.rewind(watermark)
            for each in ended:
                entry = self._enter_ended_version(each)
                if entry.schedule is not None:
                    self._add_past(entry, entry.schedule, watermark, each.until)

    def iterate_upcoming(
        self, after: datetime, until: datetime, only: Callable[[Automation], bool] | None = None
    ) -> Iterator[tuple[datetime, TimetableEntry]]:
        """Return the instants after ``after`` and up to ``until`` with their entries, in order of time.

        ``only`` selects automations; without it, all automations count. The evaluation is lazy and may run in
        another thread, which also calls ``only``. An automation removed during the iteration is left out
        from that moment on.
        """
        entries = None if only is None else list(self._entries.values())

        def select_ids() -> AbstractSet[str]:
            return {entry.automation.id for entry in entries or () if only is None or only(entry.automation)}

        upcoming = self._schedule_heap.iterate_by_schedule(after, until, None if only is None else select_ids)
        return (
            (instant, entry)
            for instant, _, members in upcoming
            for automation_id in members
            if (entry := self._entries.get(automation_id)) is not None
        )

    def iterate_by_schedule(
        self, after: datetime, until: datetime
    ) -> Iterator[tuple[datetime, Schedule, Sequence[str]]]:
        """Return the same instants as `iterate_upcoming`, with the schedule and the ids of its automations.

        Automations with the same schedule come together: many of them cost no more than one.
        """
        return self._schedule_heap.iterate_by_schedule(after, until)

    # ------------------------------------------------------------ entering and leaving

    def _enter(self, automation: Automation, since: datetime, *, broken: str | None = None) -> TimetableEntry:
        schedule, invalid = (None, broken) if broken is not None else self._evaluate(automation.definition)
        entry = TimetableEntry(
            automation,
            since,
            self._policies(automation.id, automation.name),
            schedule,
            invalid,
            broken=broken is not None,
        )
        if (known := self._entries.get(automation.id)) is not None:
            self._states[known.state] -= 1
            known.following = entry
            # The edit may withdraw a later claim.
            if known.claimed is not None and known.claimed <= since:
                entry.claimed = known.claimed
        self._entries[automation.id] = entry
        self._states[entry.state] += 1
        if schedule is not None:
            self._schedule_heap.join(automation.id, schedule)
        return entry

    def _leave(self, entry: TimetableEntry, at: datetime) -> None:
        """End the version at ``at``: drop its fire times after ``at``, keep the earlier fire times."""
        entry.until = at
        automation_id = entry.automation.id
        self._due_queue.cut(automation_id, at)
        unconfirmed = [each for each in self._unconfirmed.pop(automation_id, ()) if each.scheduled_for <= at]
        if unconfirmed:
            self._unconfirmed[automation_id] = unconfirmed
        self._backlog.cut(automation_id, at)
        self._unconfirmed_backlog.cut(automation_id, at)
        if entry.schedule is not None:
            self._schedule_heap.leave(automation_id, entry.schedule)
            self._add_past(entry, entry.schedule, self._schedule_heap.cursor, at)
        self._past.setdefault(automation_id, []).append(entry)
        self._forget_past(automation_id)

    def _edit(self, automation: Automation, since: datetime, snapshot: Snapshot) -> DefinitionVersion:
        known = self._entries.get(automation.id)
        if known is not None:
            self._leave(known, since)
        return _make_version(self._begin(automation, since), since, snapshot.ended_at)

    def _begin(self, automation: Automation, since: datetime) -> TimetableEntry:
        """Enter a version in force from ``since`` on, with its instants between ``since`` and the cursor."""
        entry = self._enter(automation, since)
        if entry.schedule is not None:
            self._add_past(entry, entry.schedule, since, self._schedule_heap.cursor)
        return entry

    def _break(
        self, automation_id: str, error: InvalidAutomation, since: datetime, snapshot: Snapshot
    ) -> DefinitionVersion:
        known = self._entries.get(automation_id)
        if known is not None:
            self._leave(known, since)
        automation = (
            replace(known.automation, definition=NO_DEFINITION)
            if known
            else Automation(automation_id, error.name or automation_id, NO_DEFINITION)
        )
        entry = self._enter(automation, since, broken=error.reason)
        return _make_version(entry, since, snapshot.ended_at)

    def _refresh(self, entry: TimetableEntry, automation: Automation) -> None:
        self._states[entry.state] -= 1
        if entry.automation.name != automation.name:
            entry.policies = self._policies(automation.id, automation.name)
        entry.automation = automation
        self._states[entry.state] += 1

    def _remove_absent(
        self, snapshot: Snapshot, confirm_after: float, previous_poll: datetime
    ) -> list[DefinitionVersion]:
        """Note the absent automations. Remove automations absent for long enough, and denied automations.

        An unidentified object may be one of the absent automations: a snapshot with such an object counts
        against no automation. An incomplete snapshot does not count either. Both kinds of snapshot are enough
        to remove an automation denied since the snapshot before.
        """
        begun = inf if snapshot.unidentified else snapshot.begun
        missed = [
            each for each in self._entries if each not in snapshot.automations and each not in snapshot.broken
        ]
        self._unseen = {each: self._unseen.get(each, previous_poll) for each in missed}
        gone = {
            each
            for each in missed
            if (denied := self._denied.get(each)) is not None and denied >= self._snapshot_begun
        }
        self._snapshot_begun = snapshot.begun
        if snapshot.complete:
            self._absent = {each: min(self._absent.get(each, inf), begun) for each in missed}
        else:
            self._absent = {each: self._absent[each] for each in missed if each in self._absent}
        if snapshot.complete and not snapshot.unidentified:
            long_enough = max(confirm_after - _CLOCK_TICK, _CLOCK_TICK)  # never a single snapshot
            gone |= {each for each, since in self._absent.items() if snapshot.begun - since >= long_enough}
        return [
            version
            for each in sorted(gone)
            if (version := self.remove(each, snapshot.begun_at, snapshot.ended_at)) is not None
        ]

    def _find_unseen_changes(self) -> Mapping[str, datetime | None]:
        """Return the differences from the last report, also differences caused by a change of the clock."""
        told, self._reported_unseen = self._reported_unseen, dict(self._unseen)
        shown_again: dict[str, datetime | None] = {
            each: None for each in told if each not in self._unseen and each in self._entries
        }
        return shown_again | {each: since for each, since in self._unseen.items() if told.get(each) != since}

    def _confirm_all(self) -> None:
        for automation_id, moments in self._unconfirmed.items():
            self._due_queue.add(automation_id, moments, self._schedule_heap.cursor)
        self._unconfirmed.clear()
        self._unconfirmed_backlog.move_to(self._backlog)

    def _evaluate(self, definition: Definition) -> tuple[Schedule | None, str | None]:
        if not definition.enabled:
            return None, None
        try:
            return self._parse(definition.cron_expression, definition.timezone), None
        except InvalidSchedule as error:
            return None, error.reason

    def _add_past(self, entry: TimetableEntry, schedule: Schedule, begin: datetime, end: datetime) -> None:
        if begin.replace(second=0, microsecond=0) >= end.replace(second=0, microsecond=0):
            # The usual case: this automation needs no evaluation.
            return
        span = self._evaluate_span(schedule, begin, end)
        if span is None:
            self._add_interval(self._backlog, entry, schedule, begin, end)
        elif moments := span.get_fire_times(entry):
            self._due_queue.add(entry.automation.id, moments, self._schedule_heap.cursor)

    def _evaluate_span(self, schedule: Schedule, begin: datetime, end: datetime) -> "_EvaluatedSpan | None":
        """Return the instants after ``begin`` and up to ``end``; None for more instants than are listed.

        Each schedule is evaluated once for each pair of minutes: the thousands of automations of a bulk edit
        share the result.
        """
        key = (schedule, begin.replace(second=0, microsecond=0), end.replace(second=0, microsecond=0))
        if key not in self._spans:
            self._spans[key] = _EvaluatedSpan.evaluate(self._target, *key)
        return self._spans[key]


class _EvaluatedSpan:
    """The instants of a schedule in an interval of time.

    Automations with equal policies and without jitter share the fire times.
    """

    def __init__(self, target: str, instants: tuple[datetime, ...], following: datetime | None) -> None:
        self._target = target
        self._instants = instants
        self._following = following
        self._shared: dict[Policies, Sequence[FireTime]] = {}

    @classmethod
    def evaluate(
        cls, target: str, schedule: Schedule, begin: datetime, end: datetime
    ) -> "_EvaluatedSpan | None":
        """Evaluate the instants after ``begin`` and up to ``end``; None for more than `MOST_LISTED`."""
        instants = tuple(islice(schedule.iterate_between(begin, end), MOST_LISTED + 1))
        if len(instants) > MOST_LISTED:
            return None
        return cls(target, instants, schedule.find_next(end) if instants else None)

    def get_fire_times(self, entry: TimetableEntry) -> Sequence[FireTime]:
        """Return the entry's fire times, in order: those scheduled after its version came into force."""
        if entry.policies.jitter:
            moments = self._make_fire_times(entry)
        else:
            if entry.policies not in self._shared:
                self._shared[entry.policies] = self._make_fire_times(entry)
            moments = self._shared[entry.policies]
        if moments and moments[0].scheduled_for <= entry.effective_from:
            return tuple(each for each in moments if each.scheduled_for > entry.effective_from)
        return moments

    def _make_fire_times(self, entry: TimetableEntry) -> Sequence[FireTime]:
        ends = pairwise(chain(self._instants, (self._following,)))
        return tuple(
            make_fire_time(entry.policies, self._target, entry.automation.id, each, then)
            for each, then in ends
            if each is not None
        )


_Spans = dict[tuple[Schedule, datetime, datetime], _EvaluatedSpan | None]
"""Evaluated spans of schedules; None for more instants than are listed."""


@dataclass(frozen=True, slots=True)
class _EditStart:
    """The data that decide when an edit in a snapshot came into force.

    ``unseen`` has the begin of the last snapshot with the automation, for automations missing since.
    """

    previous_poll: datetime
    snapshot: Snapshot
    unseen: Mapping[str, datetime]

    def find_effective_from(
        self, automation_id: str, automation: Automation | None, before: Automation | None
    ) -> datetime:
        """Return the instant from which the edit of ``before`` to ``automation`` counts.

        When the instant is unknown, return the last poll with the automation.
        """
        moved = bool(
            before
            and automation
            and (before.run_id, before.run_status) != (automation.run_id, automation.run_status)
        )
        return compute_effective_from(
            automation.updated_at if automation else None,
            clock_offset=self.snapshot.clock_offset or 0.0,
            previous_poll=self.unseen.get(automation_id, self.previous_poll),
            this_poll=self.snapshot.begun_at,
            run_moved_it=moved,
        )


def _copy_ids(everything: Iterable[str], automation_id: str | None) -> Iterable[str]:
    """Return a copy of all ids, or the requested id alone."""
    return list(everything) if automation_id is None else [automation_id]


def _divide(whole: Iterable[_T], size: int) -> Iterator[Sequence[_T]]:
    """Yield the items in groups of at most ``size``, in their order."""
    left = iter(whole)
    while group := list(islice(left, size)):
        yield group


def _make_version(entry: TimetableEntry, since: datetime, observed_at: datetime) -> DefinitionVersion:
    definition = None if entry.broken else entry.automation.definition
    return DefinitionVersion(
        entry.automation.id, entry.automation.name, definition, since, observed_at, entry.invalid
    )
