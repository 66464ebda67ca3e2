"""Which automations of a target exist, and what of them is due.

The `Rota` evaluates every unique schedule once, up to its *cursor*; what it gave waits in `Pending` until the planner says that it is
durable. So a ledger that cannot be written loses nothing, and `watermark` knows what is not in it yet.

An edit divides time at its ``effective_from``: the old definition answers for what was scheduled up to it, the new one for what follows.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, pairwise
from typing import Final

from scheduler.core.cron import InvalidSchedule, Schedule
from scheduler.core.model import Automation, Definition, InvalidAutomation, Snapshot, Version
from scheduler.core.pending import Pending
from scheduler.core.policy import Moment, Policies, effective_from, moment
from scheduler.core.records import EndedVersion, RecordedAutomation
from scheduler.core.rota import Rota

_JUST_BEFORE: Final = timedelta(microseconds=1)
_CLOCK_TICK: Final = 0.001
"""Seconds by which a poll may begin earlier than after a whole interval: waits are rounded."""


@dataclass(slots=True)
class Entry:
    """An automation on the timetable, in the version that is in force."""

    automation: Automation
    effective_from: datetime
    policies: Policies
    schedule: Schedule | None  # None: disabled, invalid or removed; it fires nothing
    invalid: str | None = None
    broken: bool = False  # the API's object has no usable definition
    removed: bool = False
    until: datetime | None = None  # the last instant that it answers for; None while it is in force
    claimed: datetime | None = None  # the newest scheduled instant that was claimed by this version, since the clock last went back

    @property
    def state(self) -> str:
        """The label of ``scheduler_automations``; an operator's pause is not known here."""
        if self.invalid is not None:
            return "invalid"
        if not self.automation.definition.enabled:
            return "disabled"
        return "paused" if self.policies.paused else "enabled"

    @property
    def ended(self) -> str | None:
        """What became of it when it fires nothing any more, as a participle; None while it does."""
        if self.removed:
            return "deleted"
        if self.invalid is not None:
            return f"made invalid ({self.invalid})"
        return "disabled" if self.schedule is None else None


@dataclass(frozen=True, slots=True)
class Due:
    """The moments of one automation that are due, in order. Some may come from a version that is no longer in force."""

    entry: Entry
    moments: Sequence[Moment]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a snapshot changed: versions of definitions to record, and the automations of which anything else differs."""

    added: Sequence[Version] = ()
    changed: Sequence[Version] = ()
    removed: Sequence[Version] = ()
    updated: Sequence[Automation] = ()


class Timetable:
    """The automations of one target by what they fire next."""

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
        self._rota = Rota(now)
        self._pending = Pending()
        self._unconfirmed: dict[str, Sequence[Moment]] = {}
        self._entries: dict[str, Entry] = {}
        self._gone: dict[str, Entry] = {}  # removed, with something still pending
        self._absent: dict[str, float] = {}  # since which snapshot's begin, on the clock that counts suspend

    # ------------------------------------------------------------ what exists

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Every automation that exists, by its id."""
        return self._entries

    @property
    def absent(self) -> Collection[str]:
        """The ids of the automations that the newest complete snapshot does not have, and that nothing else has decided about yet."""
        return self._absent.keys()

    def is_absent(self, automation_id: str) -> bool:
        """Whether the newest complete snapshot does not have it."""
        return automation_id not in self._entries or automation_id in self._absent

    def confirm_presence(self, automation_id: str) -> None:
        """The automation itself was read since it was absent: only two more snapshots without it can remove it."""
        self._absent.pop(automation_id, None)

    def load(
        self, recorded: Mapping[str, RecordedAutomation], *, watermark: datetime | None, ended: Sequence[EndedVersion] = ()
    ) -> list[Version]:
        """Take up what the ledger recorded. What came due since the watermark waits until an `update` has said that it is still meant.

        Gives the versions of those whose validity is not what was recorded, since the zone data or the rules are other ones: from now on.
        """
        spans: dict[tuple[Schedule, datetime], _Span] = {}
        if watermark is not None and watermark > self._rota.cursor:
            self._rota = Rota(watermark)  # the clock went back, which is for the caller to say with `rewind`, or is not right yet
        versions = [version for each in recorded.values() if (version := self._take_up(each)) is not None]
        if watermark is not None:
            for each in ended:
                self._recall(self._ended(each), watermark, min(each.until, self._rota.cursor), spans)
            for automation_id in recorded:
                self._recall(self._entries[automation_id], watermark, self._rota.cursor, spans)
        return versions

    def _take_up(self, record: RecordedAutomation) -> Version | None:
        """Enter an automation as recorded; a version that is in force from now on when it was not valid then and is now, or the reverse."""
        now = self._rota.cursor
        entry = self._enter(record.automation, min(record.effective_from, now), broken=record.broken)  # min: under a clock that was ahead
        if entry.broken or entry.invalid == record.invalid:
            return None
        entry.effective_from = now  # else one that could not be evaluated then would fire the past
        return _version(entry, now, now)

    def _ended(self, each: EndedVersion) -> Entry:
        version = each.version
        automation = Automation(version.automation_id, version.name, version.definition or _NOTHING)
        schedule, _ = self._evaluate(automation.definition)
        entry = Entry(automation, version.effective_from, self._policies(automation.id, automation.name), schedule, removed=True)
        if automation.id not in self._entries:
            self._gone[automation.id] = entry
        return entry

    def _recall(self, entry: Entry, begin: datetime, end: datetime, spans: dict[tuple[Schedule, datetime], "_Span"]) -> None:
        if entry.schedule is None or begin >= end:
            return
        key = (entry.schedule, end)
        if key not in spans:
            spans[key] = _Span.of(self._target, entry.schedule, begin, end)
        moments = spans[key].moments_for(entry)
        if moments and moments[-1].due > self._rota.cursor:
            self._pending.add(entry.automation.id, [each for each in moments if each.due > self._rota.cursor], self._rota.cursor)
            moments = [each for each in moments if each.due <= self._rota.cursor]
        if moments:
            before = self._unconfirmed.get(entry.automation.id)
            self._unconfirmed[entry.automation.id] = moments if before is None else [*before, *moments]

    def update(self, snapshot: Snapshot, *, previous_poll: datetime | None, confirm_after: float) -> Changes:
        """Take up a snapshot and say what it changed.

        An automation is removed when it was absent from every complete snapshot for ``confirm_after`` seconds, from one begin to another:
        a list that is empty for a moment, or filtered by mistake, removes nothing.
        """
        since = _Since(previous_poll or snapshot.begun_at, snapshot)
        added: list[Version] = []
        changed: list[Version] = []
        updated: list[Automation] = []
        for automation in snapshot.automations.values():
            known = self._entries.get(automation.id)
            if known is None:
                added.append(self._edit(automation, since.edited(automation, None), snapshot))
            elif known.broken or known.automation.definition != automation.definition:
                changed.append(self._edit(automation, since.edited(automation, known.automation), snapshot))
                updated.append(automation)
            elif known.automation != automation:
                self._refresh(known, automation)
                updated.append(automation)
        for automation_id, error in snapshot.broken.items():
            known = self._entries.get(automation_id)
            if known is None or not known.broken or known.invalid != error.reason:
                version = self._break(automation_id, error, since.edited(None, None), snapshot)
                (added if known is None else changed).append(version)
        removed = self._miss(snapshot, confirm_after)
        self._confirm()
        return Changes(added, changed, removed, updated)

    def remove(self, automation_id: str, at: datetime, observed_at: datetime) -> Version | None:
        """The automation is gone since ``at``, as was known at ``observed_at``; None when it was not there."""
        entry = self._entries.pop(automation_id, None)
        self._absent.pop(automation_id, None)
        if entry is None:
            return None
        self._leave(entry, at)
        entry.removed = True
        if self._pending.holds(automation_id) or automation_id in self._unconfirmed:
            self._gone[automation_id] = entry
        return Version(automation_id, entry.automation.name, None, effective_from=at, observed_at=observed_at)

    def reconsider(self, schedule: Callable[[str, str], Schedule], now: datetime) -> list[Version]:
        """Evaluate everything anew from the cursor on: the settings or the zone data changed.

        Gives the versions of those whose validity changed. As with an edit, that divides time at ``now``.
        """
        self._parse = schedule
        changed = [entry for entry in self._entries.values() if not self._reconsidered(entry, now)]
        self._rota = Rota(self._rota.cursor)
        for entry in self._entries.values():
            if entry.schedule is not None:
                self._rota.join(entry.automation.id, entry.schedule)
        return [_version(self._begin(entry.automation, now), now, now) for entry in changed]

    def _reconsidered(self, entry: Entry, now: datetime) -> bool:
        """Evaluate the entry anew; when that makes it valid or invalid, its version ends here instead, and False is given."""
        entry.policies = self._policies(entry.automation.id, entry.automation.name)
        schedule, invalid = (None, entry.invalid) if entry.broken else self._evaluate(entry.automation.definition)
        if invalid == entry.invalid:
            entry.schedule = schedule
            return True
        self._leave(entry, now)
        entry.schedule = None
        return False

    # ------------------------------------------------------------ what is due

    def due(self, until: datetime) -> list[Due]:
        """Everything due up to and including ``until``. It stays due until `planned` is told."""
        for collected in self._rota.collect(until):
            span = _Span(self._target, collected.instants, collected.following)
            for automation_id in collected.members:
                moments = span.moments_for(self._entries[automation_id])
                if moments:
                    self._pending.add(automation_id, moments, until)
        return [Due(self._entries.get(each) or self._gone[each], moments) for each, moments in self._pending.due(until).items()]

    def planned(self, dues: Sequence[Due]) -> None:
        """These are durable, or need not be: they are not due any more."""
        for each in dues:
            automation_id = each.entry.automation.id
            self._pending.settled(automation_id, each.moments)
            if not self._pending.holds(automation_id) and automation_id not in self._unconfirmed:
                self._gone.pop(automation_id, None)

    @property
    def wake_at(self) -> datetime | None:
        """When something is due next: in the past while something due is not planned, None when nothing ever is."""
        return min((each for each in (self._rota.next, self._pending.earliest_due) if each is not None), default=None)

    @property
    def next_fire(self) -> datetime | None:
        """The next scheduled instant of all; None when nothing ever fires."""
        return self._rota.next

    def next_of(self, schedule: Schedule) -> datetime | None:
        """The next instant of a schedule that an automation here has, without evaluating it."""
        return self._rota.next_of(schedule)

    def watermark(self, now: datetime, planned: Sequence[Due] = ()) -> datetime:
        """The instant up to which everything is planned once ``planned`` are durable; never later than ``now``."""
        waiting = [moments[0].scheduled_for for moments in self._unconfirmed.values()]
        if (earliest := self._pending.earliest_scheduled({each.entry.automation.id: each.moments for each in planned})) is not None:
            waiting.append(earliest)
        return min([now, self._rota.cursor, *(each - _JUST_BEFORE for each in waiting)])

    def in_force_by(self, now: datetime) -> None:
        """The clock went back to ``now``: the versions that were seen under the one that was ahead are in force by now."""
        for entry in self._entries.values():
            entry.claimed = None
            entry.effective_from = min(entry.effective_from, now)

    def rewind(self, now: datetime, *, watermark: datetime, ended: Sequence[EndedVersion] = ()) -> None:
        """The clock went back to ``now``: what lies after ``watermark`` is evaluated again, also of the versions that ``ended`` since.

        Claims that exist keep it from firing twice. What is not planned yet and lies behind ``now`` stays as it is.
        """
        if watermark < self._rota.cursor:
            self._pending.cut_all(now)
            self._rota.rewind(watermark)
            for each in ended:
                entry = self._ended(each)
                if entry.schedule is not None:
                    self._add_overdue(entry, entry.schedule, watermark, each.until)

    def upcoming(
        self, after: datetime, until: datetime, only: Callable[[Automation], bool] | None = None
    ) -> Iterator[tuple[datetime, Entry]]:
        """What is scheduled after ``after`` and up to ``until``, in order, of all automations or ``only`` of those for which that holds.

        Evaluated lazily, and perhaps in another thread; an automation that is removed meanwhile is left out from there on.
        """
        wanted = None if only is None else {each for each, entry in self._entries.items() if only(entry.automation)}
        upcoming = self._rota.together(after, until, wanted)
        return (
            (instant, entry)
            for instant, _, members in upcoming
            for automation_id in members
            if (entry := self._entries.get(automation_id)) is not None
        )

    def together(self, after: datetime, until: datetime) -> Iterator[tuple[datetime, Schedule, Sequence[str]]]:
        """The same of all automations, as ids: those that share a schedule at once, so that many of them cost no more than one."""
        return self._rota.together(after, until)

    # ------------------------------------------------------------ entries coming and going

    def _enter(self, automation: Automation, since: datetime, *, broken: str | None = None) -> Entry:
        schedule, invalid = (None, broken) if broken is not None else self._evaluate(automation.definition)
        entry = Entry(automation, since, self._policies(automation.id, automation.name), schedule, invalid, broken=broken is not None)
        self._entries[automation.id] = entry
        if schedule is not None:
            self._rota.join(automation.id, schedule)
        return entry

    def _leave(self, entry: Entry, at: datetime) -> None:
        """The version ends at ``at``: what it had scheduled later is not meant any more, what it had scheduled before is."""
        entry.until = at
        automation_id = entry.automation.id
        self._pending.cut(automation_id, at)
        unconfirmed = [each for each in self._unconfirmed.pop(automation_id, ()) if each.scheduled_for <= at]
        if unconfirmed:
            self._unconfirmed[automation_id] = unconfirmed
        if entry.schedule is not None:
            self._rota.leave(automation_id, entry.schedule)
            self._add_overdue(entry, entry.schedule, self._rota.cursor, at)

    def _edit(self, automation: Automation, since: datetime, snapshot: Snapshot) -> Version:
        known = self._entries.get(automation.id)
        if known is not None:
            self._leave(known, since)
        return _version(self._begin(automation, since), since, snapshot.ended_at)

    def _begin(self, automation: Automation, since: datetime) -> Entry:
        """Another version is in force from ``since`` on, also for what the cursor has passed."""
        entry = self._enter(automation, since)
        if entry.schedule is not None:
            self._add_overdue(entry, entry.schedule, since, self._rota.cursor)
        return entry

    def _break(self, automation_id: str, error: InvalidAutomation, since: datetime, snapshot: Snapshot) -> Version:
        known = self._entries.get(automation_id)
        if known is not None:
            self._leave(known, since)
        automation = (
            replace(known.automation, definition=_NOTHING) if known else Automation(automation_id, error.name or automation_id, _NOTHING)
        )
        entry = self._enter(automation, since, broken=error.reason)
        return _version(entry, since, snapshot.ended_at)

    def _refresh(self, entry: Entry, automation: Automation) -> None:
        if entry.automation.name != automation.name:
            entry.policies = self._policies(automation.id, automation.name)
        entry.automation = automation

    def _miss(self, snapshot: Snapshot, confirm_after: float) -> list[Version]:
        """Note what is absent, and remove what has been for long enough."""
        is_whole = snapshot.complete and not snapshot.unidentified  # what nobody can identify may be the one that is missed
        missed = [each for each in (self._entries if is_whole else self._absent) if each not in snapshot.automations]
        self._absent = {each: self._absent.get(each, snapshot.begun) for each in missed if each not in snapshot.broken}
        if not is_whole:
            return []
        long_enough = max(confirm_after - _CLOCK_TICK, _CLOCK_TICK)  # never one snapshot alone
        agreed = sorted(each for each, since in self._absent.items() if snapshot.begun - since >= long_enough)
        return [version for each in agreed if (version := self.remove(each, snapshot.begun_at, snapshot.ended_at)) is not None]

    def _confirm(self) -> None:
        for automation_id, moments in self._unconfirmed.items():
            self._pending.add(automation_id, moments, self._rota.cursor)
        self._unconfirmed.clear()

    def _evaluate(self, definition: Definition) -> tuple[Schedule | None, str | None]:
        if not definition.enabled:
            return None, None
        try:
            return self._parse(definition.cron_expression, definition.timezone), None
        except InvalidSchedule as error:
            return None, error.reason

    def _add_overdue(self, entry: Entry, schedule: Schedule, begin: datetime, end: datetime) -> None:
        if begin >= end:
            return  # the usual case: nothing is to be evaluated for this automation alone
        moments = _Span.of(self._target, schedule, begin, end).moments_for(entry)
        if moments:
            self._pending.add(entry.automation.id, moments, self._rota.cursor)


class _Span:
    """What one schedule gave in one stretch of time, made into moments once for all automations of the same policies."""

    def __init__(self, target: str, instants: tuple[datetime, ...], following: datetime | None) -> None:
        self._target = target
        self._instants = instants
        self._following = following
        self._shared: dict[Policies, Sequence[Moment]] = {}

    @classmethod
    def of(cls, target: str, schedule: Schedule, begin: datetime, end: datetime) -> "_Span":
        """The instants after ``begin`` and up to ``end``."""
        return cls(target, tuple(schedule.between(begin, end)), schedule.next(end))

    def moments_for(self, entry: Entry) -> Sequence[Moment]:
        """The entry's moments, in order: those scheduled after its version came into force."""
        if entry.policies.jitter:
            moments = self._made(entry)
        else:
            if entry.policies not in self._shared:
                self._shared[entry.policies] = self._made(entry)
            moments = self._shared[entry.policies]
        if moments and moments[0].scheduled_for <= entry.effective_from:
            return tuple(each for each in moments if each.scheduled_for > entry.effective_from)
        return moments

    def _made(self, entry: Entry) -> Sequence[Moment]:
        ends = pairwise(chain(self._instants, (self._following,)))
        return tuple(moment(entry.policies, self._target, entry.automation.id, each, then) for each, then in ends if each is not None)


@dataclass(frozen=True, slots=True)
class _Since:
    """From when what a snapshot shows is in force."""

    previous_poll: datetime
    snapshot: Snapshot

    def edited(self, automation: Automation | None, before: Automation | None) -> datetime:
        """From when the edit that made ``automation`` out of ``before`` counts; the previous poll when it cannot be told."""
        moved = bool(before and automation and (before.run_id, before.run_status) != (automation.run_id, automation.run_status))
        return effective_from(
            automation.updated_at if automation else None,
            clock_offset=self.snapshot.clock_offset or 0.0,
            previous_poll=self.previous_poll,
            this_poll=self.snapshot.begun_at,
            run_moved_it=moved,
        )


_NOTHING: Final = Definition("", "", enabled=False)


def _version(entry: Entry, since: datetime, observed_at: datetime) -> Version:
    definition = None if entry.broken else entry.automation.definition
    return Version(entry.automation.id, entry.automation.name, definition, since, observed_at, entry.invalid)
