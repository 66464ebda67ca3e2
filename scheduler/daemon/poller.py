"""Poller: reads the target's list of automations.

The list is read at every poll interval, shortly before a fire time is due, and on request.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from http import HTTPStatus
from operator import attrgetter
from typing import Final

from scheduler.core import events
from scheduler.core.errors import LedgerUnavailable, UpstreamError
from scheduler.core.model import DefinitionVersion, Snapshot
from scheduler.core.timetable import SnapshotChanges
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.clock import Alarm, back_off
from scheduler.daemon.context import Context
from scheduler.daemon.places import MIN_SHORTAGE
from scheduler.daemon.presence import SnapshotWatch
from scheduler.daemon.snapshot_outbox import SnapshotOutbox

_LEAD: Final = timedelta(seconds=2)
"""Minimum time between the start of a poll and the next due time, so that the poll ends before the claims."""
_CHANGES_AT_ONCE: Final = 1_000
"""Number of automations updated before other tasks have a turn: about 30 ms when all of them were edited."""


class Poller:
    """Poller of one target. ``note_late_poll`` is called after each poll that waited for the budget."""

    def __init__(
        self,
        context: Context,
        cache: AutomationCache,
        outbox: SnapshotOutbox,
        note_late_poll: Callable[[], None],
    ) -> None:
        self._context = context
        self._cache = cache
        self._outbox = outbox
        self.watch = SnapshotWatch(context)
        self.alarm = Alarm(context.clock)  # rings when the next due time has changed
        self._is_requested = False
        # called with every snapshot, after the timetable was updated
        self.snapshot_listeners: list[Callable[[Snapshot, SnapshotChanges], None]] = []
        self.end_listeners: list[Callable[[], None]] = []  # called after every poll, successful or not
        self._note_late_poll = note_late_poll
        self._failures = 0
        self._retry_after = timedelta(0)
        self._poll_duration = timedelta(0)
        self._poll_begun = float("-inf")
        self.error: str | None = None
        self.has_tried = False  # whether this process has tried to read the list

    async def run(self) -> None:
        """Poll forever."""
        while True:
            self._is_requested = False
            await self._poll()
            # While polls fail, a requested poll waits for the next try: no extra requests to an API in
            # trouble.
            while (self._failures or not self._is_requested) and (pause := self._find_pause()) > 0:
                await self.alarm.sleep(pause)

    def nudge(self) -> None:
        """Poll now, or once more when a poll is under way.

        While polls fail, the request waits for the next try.
        """
        self._is_requested = True
        self.alarm.ring()

    def forget_failures(self) -> None:
        """Forget earlier failures, because the settings or the key have changed, and poll now."""
        self._failures = 0
        self.nudge()

    async def _poll(self) -> None:
        context, upstream = self._context, self._context.upstream
        self._poll_begun = begun = context.clock.boottime()
        self._cache.note_poll(begun)
        try:
            snapshot = await upstream.read_snapshot()
        except UpstreamError as error:
            # after a reload, the poll had used an outdated key; a new poll follows at once
            if upstream is context.upstream:
                self._handle_failure(error, context.clock.boottime() - begun)
        else:
            self._poll_duration = timedelta(seconds=snapshot.ended - snapshot.begun)
            if snapshot.begun - max(begun, upstream.blocked_until) >= MIN_SHORTAGE:
                self._note_late_poll()
            context.watch.check()
            if context.watch.has_stepped_since(snapshot.begun):
                self._is_requested = True  # the instants in the snapshot do not fit together
            else:
                await self._take_snapshot(snapshot)
        self.has_tried = True
        for listener in self.end_listeners:
            listener()

    def _handle_failure(self, error: UpstreamError, seconds: float) -> None:
        self._failures += 1
        pause = min(1.0 + back_off(self._failures), self._context.settings.poll_interval.total_seconds())
        self._retry_after = timedelta(seconds=max(pause, error.retry_after or 0.0))
        self.error = str(error)
        if error.held:
            self._context.breaker.hold(str(error), by_list=True)
        if error.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._context.breaker.throttle(error.retry_after)
        self._context.publish(
            events.SnapshotFailed(
                target=self._context.target, error=str(error), seconds=seconds, first=self._failures == 1
            )
        )
        self._cache.note_poll_end(self._poll_begun)

    async def _take_snapshot(self, snapshot: Snapshot) -> None:
        context = self._context
        self._failures, self.error = 0, None
        context.breaker.note_good_poll()
        if snapshot.clock_offset is not None:
            context.watch.check_offset(snapshot.clock_offset, begun=snapshot.begun)
        interval = context.settings.poll_interval.total_seconds()
        changes = await self._take_in_parts(snapshot)
        if changes is None:
            self._is_requested = True  # the clock was set meanwhile: the rest of the snapshot does not fit
            return
        rest = context.timetable.update(
            snapshot, previous_poll=self._context.knowledge.snapshot_at, confirm_after=interval
        )
        # before other tasks have a turn: plans may use only versions in the outbox
        self._outbox.add(snapshot, rest)
        changes.extend(rest)
        self._context.knowledge.note_good_poll(snapshot.begun_at)
        self._cache.apply_snapshot(snapshot)
        for listener in self.snapshot_listeners:
            listener(snapshot, changes)
        self.watch.check(snapshot)
        if context.timetable.absences.absent:
            # the confirming snapshot begins a full interval later, not earlier
            self._poll_begun = snapshot.begun
        await self._write_outbox()  # before the events: 100,000 change events take longer than the write
        await context.publish_all(_make_events(context.target, snapshot, changes))

    async def _take_in_parts(self, snapshot: Snapshot) -> SnapshotChanges | None:
        """Apply many changes in parts, so that due occurrences do not wait.

        Return the changes of the parts, or None when the clock was set meanwhile. Each part is in the outbox
        before other tasks have a turn. Fewer changes than one part are left to the caller. Nothing is applied
        before the first snapshot has confirmed the past fire times: confirmation needs the whole snapshot.
        """
        context, taken = self._context, SnapshotChanges()
        if not context.timetable.is_confirmed:
            return taken
        differing = [each for each in snapshot.automations.values() if context.timetable.is_changed(each)]
        differing.sort(key=attrgetter("id"))  # neighbours in a part are neighbours in the tables
        for first in range(0, len(differing) - _CHANGES_AT_ONCE + 1, _CHANGES_AT_ONCE):
            some = differing[first : first + _CHANGES_AT_ONCE]
            part = replace(snapshot, automations={each.id: each for each in some}, broken={}, complete=False)
            changes = context.timetable.update(
                part, previous_poll=self._context.knowledge.snapshot_at, confirm_after=None
            )
            self._outbox.add(part, changes, whole=False)
            taken.extend(changes)
            await asyncio.sleep(0)
            context.watch.check()
            if context.watch.has_stepped_since(snapshot.begun):
                return None
        return taken

    def remove(self, automation_id: str, at: datetime) -> None:
        """Remove an automation whose own GET answered 404 at ``at``.

        The newest snapshot lacks the automation too.
        """
        context = self._context
        version = context.timetable.remove(automation_id, at, context.clock.now())
        if version is None:
            return
        context.publish(_make_removed_event(context.target, version))
        # the next write includes the removal: at the latest, the planner writes before planning
        self._outbox.remove(version, self._context.knowledge.snapshot_at)

    async def _write_outbox(self) -> None:
        """Record the outbox in the ledger.

        When the ledger fails, the rest of the outbox waits for the next poll. The next poll does not wait for
        the ledger.
        """
        try:
            await self._outbox.write()
        except LedgerUnavailable as error:
            self._context.health.note_failure("observe", str(error))
        else:
            self._context.health.note_success()

    def _find_pause(self) -> float:
        """Return the seconds until the next poll.

        The pause is the poll interval, or shorter when a fire time is due earlier and the snapshot would be
        too old. After a failed poll, the pause is a back-off, or longer when the API asked for a longer wait.
        """
        settings, clock = self._context.settings, self._context.clock
        age = timedelta(seconds=clock.boottime() - self._poll_begun)
        if self._failures:
            return (self._retry_after - age).total_seconds()
        pause = settings.poll_interval - age
        wake_at, now = self._context.timetable.wake_at, clock.now()
        if wake_at is not None and wake_at > now:
            lead = _LEAD + 2 * self._poll_duration
            if age + (wake_at - now) > max(settings.fresh_for, lead):
                pause = min(pause, wake_at - lead - now)
        return pause.total_seconds()


def _make_events(target: str, snapshot: Snapshot, changes: SnapshotChanges) -> Iterator[events.Event]:
    yield events.SnapshotTaken(
        target=target,
        automations=len(snapshot.automations) + len(snapshot.broken),
        seconds=snapshot.ended - snapshot.begun,
        incomplete=not snapshot.complete,
        clock_offset=snapshot.clock_offset,
    )
    yield from (_make_change_event(events.AutomationAdded, target, each) for each in changes.added)
    yield from (_make_change_event(events.AutomationChanged, target, each) for each in changes.changed)
    yield from (_make_removed_event(target, each) for each in changes.removed)
    yield from iterate_quarantines(target, [*changes.added, *changes.changed])


def _make_removed_event(target: str, version: DefinitionVersion) -> events.Event:
    return events.AutomationRemoved(
        target=target, automation_id=version.automation_id, automation=version.name
    )


def _make_change_event(
    kind: type[events.AutomationAdded | events.AutomationChanged], target: str, version: DefinitionVersion
) -> events.Event:
    return kind(
        target=target,
        automation_id=version.automation_id,
        automation=version.name,
        definition=version.definition,
        effective_from=version.effective_from,
    )


def iterate_quarantines(target: str, versions: Iterable[DefinitionVersion]) -> Iterator[events.Event]:
    """Yield an event for each definition version that cannot be evaluated."""
    for version in versions:
        if version.invalid is not None:
            yield events.AutomationQuarantined(
                target=target,
                automation_id=version.automation_id,
                automation=version.name,
                reason=version.invalid or "no usable definition",
            )
