"""Worker of one target: builds the parts that serve the target, starts them in order, and stops them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.cron.schedule import Schedule
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import ClockJumped
from scheduler.core.model import Automation, DefinitionVersion, State
from scheduler.core.pauses import EVERYTHING
from scheduler.core.recorded_state import RecordedTargetState
from scheduler.core.status import AutomationDetails, BacklogStatus, TargetStatus
from scheduler.core.timetable import TimetableEntry
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.backfill import Backfill
from scheduler.daemon.context import Context, Parse, TargetSettings
from scheduler.daemon.dispatcher import Dispatcher
from scheduler.daemon.overdue_check import OverdueCheck
from scheduler.daemon.planner import Planner
from scheduler.daemon.poller import Poller, iterate_quarantines
from scheduler.daemon.ports import Ledger, Upstream
from scheduler.daemon.presence import Presence
from scheduler.daemon.refresh import Refresh
from scheduler.daemon.snapshot_outbox import SnapshotOutbox
from scheduler.daemon.tracker import Tracker
from scheduler.daemon.waits import WaitRecorder, Waits

BUSY_BEFORE: Final = 1.5
"""Seconds before a due time during which the target is busy. Claims are made 1 s before the due time."""
BUSY_AFTER: Final = 2.0
"""Seconds after new claims during which the target is busy."""
BUSY_LONGEST: Final = 10.0
"""Seconds after new claims during which the target is busy while attempts are in flight."""
_LAST_WRITES: Final = 5.0
"""Seconds for the last writes after nothing is in flight any more."""


class TargetWorker:
    """One API and all work for this API.

    Targets share only the ledger and the services of the process, such as the clock watch.
    """

    def __init__(self, context: Context) -> None:
        # the process may have waited for the ledger's lock; earlier clock steps do not concern a new target
        context.watch.check()
        self.context = context
        self._reloads = 0
        self._cache = readings = AutomationCache(self.context, self._request_poll)
        self._presence = Presence(self.context, readings, self._remove_automation, self._handle_presence)
        self._dispatcher = Dispatcher(self.context, readings, self._presence)
        self._outbox = SnapshotOutbox(self.context)
        self._planner = Planner(self.context, readings, self._outbox, self._dispatcher)
        note_late_poll = self._dispatcher.places.note_exhaustion
        self._poller = Poller(self.context, readings, self._outbox, note_late_poll)
        self._tracker = Tracker(self.context, self._dispatcher)
        self._overdue_check = OverdueCheck(self.context, self._dispatcher, self._planner.measure_stall)
        self.backfill = Backfill(self.context, self._dispatcher)
        self.refresh = Refresh(self.context, readings, self._presence)
        self._wait_recorder = WaitRecorder(
            self.context, self._dispatcher, lambda: self._planner.is_due_within(BUSY_BEFORE)
        )
        self.waits = Waits(self.context, self._planner, self._dispatcher)
        readings.reading_listeners.append(self._tracker.queue_reading)
        self._dispatcher.run_listeners.append(self._tracker.follow)
        self._planner.pass_listeners.append(self._poller.alarm.ring)
        self._poller.snapshot_listeners.append(self._tracker.queue_snapshot)
        self._poller.snapshot_listeners.append(lambda *_: self._presence.note_snapshot())
        self._poller.end_listeners += [self._presence.note_poll_end, self.wake]
        context.watch.jump_listeners.append(self._handle_clock_jump)
        context.watch.confirmation_listeners.append(self._handle_clock_confirmation)

    async def open(self) -> None:
        """Load the target's state from the ledger and recover its open occurrences.

        Raises `TargetMismatch`. Raises `LedgerUnavailable`; the caller can try again.
        """
        context, settings = self.context, self.context.settings
        recorded = await context.ledger.bind(settings.name, settings.url, settings.project_id)
        runs = await context.ledger.read_newest_runs(settings.name)
        unattributed = await context.ledger.read_unattributed_runs(settings.name)
        opened = await context.ledger.read_open_occurrences(settings.name)
        versions = await self._load_timetable(recorded)
        self._publish_quarantines(versions)
        context.knowledge.snapshot_at = recorded.snapshot_at
        context.knowledge.absent_until = self._planner.absent_until
        self._note_known_past(recorded)
        self._poller.watch.recall(recorded)
        self._cache.recall_runs(runs)
        undecided = {each.occurrence.automation_id for each in opened}
        self._tracker.load(recorded, runs, undecided=undecided, unattributed=unattributed)
        self._dispatcher.recover(opened)
        if recorded.throttled is not None:
            context.throttle.recall(recorded.throttled)
            context.upstream.resume_wait(context.throttle.seconds_left)
        self._outbox.revise(versions, recorded.snapshot_at)
        await self.record_changes()

    async def _load_timetable(self, recorded: RecordedTargetState) -> Sequence[DefinitionVersion]:
        """Fill the timetable in slices. Return the changed definition versions.

        Between slices, other targets send their recovered occurrences, and signals and the watchdog are
        served. Other parts see the timetable only when it is complete. After a reload between two slices,
        which affects only the previous timetable, the new timetable is filled again from the beginning.
        """
        while True:
            reloads, versions = self._reloads, list[DefinitionVersion]()
            timetable = self.context.make_timetable()
            slices = timetable.load(
                recorded.automations, watermark=recorded.watermark, ended=recorded.ended, gaps=recorded.gaps
            )
            for some in slices:
                versions += some
                await asyncio.sleep(0)
            if reloads == self._reloads:
                self.context.timetable = timetable
                return versions

    async def run(self, stopping: asyncio.Event, drain: Callable[[], float]) -> int:
        """Serve until ``stopping`` is set. Return the number of deliveries left in flight.

        After ``stopping``, deliveries in flight get ``drain()`` seconds to end.
        """
        try:
            async with asyncio.TaskGroup() as group:
                parts = (self._poller, self._planner, self._tracker)
                polling, planning, following = (group.create_task(part.run()) for part in parts)
                beside = (self._overdue_check, self.refresh, self._wait_recorder, self._presence)
                looking = [group.create_task(part.run()) for part in beside]
                recording = group.create_task(self._record_throttle())
                await stopping.wait()
                for task in (polling, *looking):
                    task.cancel()
                self._planner.stop()
                left = await self._dispatcher.drain(drain())
                await asyncio.wait([planning], timeout=_LAST_WRITES)
                planning.cancel()
                await self._dispatcher.discard_unsent_attempts(_LAST_WRITES)
                await self._record_last_throttle()
                recording.cancel()
                following.cancel()
            return left
        finally:
            self._dispatcher.abandon()

    async def _record_throttle(self) -> None:
        context = self.context
        while True:
            await context.throttle.wait_for_news()
            await context.health.retry_write("throttle", lambda: context.throttle.record(context.ledger))

    async def _record_last_throttle(self) -> None:
        try:
            async with asyncio.timeout(_LAST_WRITES):
                await self.context.throttle.record(self.context.ledger)
        except (LedgerUnavailable, TimeoutError) as error:
            text = str(error) or f"it took longer than {_LAST_WRITES:g} s"
            self.context.health.note_failure("throttle", text)

    def _note_known_past(self, recorded: RecordedTargetState) -> None:
        """Check the clock against the newest instant recorded in the ledger.

        The recorded instant was in the past when it was written. When it lies in the future, the clock went
        back while no daemon ran, or the clock is wrong now.
        """
        known = self._planner.known_until = max(
            (each for each in (recorded.snapshot_at, recorded.watermark) if each), default=None
        )
        if known is not None:
            self.context.watch.check_known_instant(known)

    def evaluate(self, until: datetime) -> None:
        """Evaluate schedules up to ``until`` before other settings or zone data apply.

        The new zone data may lack a zone that is in use.
        """
        self.context.timetable.collect_due(until)

    def reconfigure(
        self, settings: TargetSettings, upstream: Upstream, ledger: Ledger, parse: Parse, *, since: datetime
    ) -> None:
        """Apply other settings, another key or newer zone data, in force from ``since``.

        Call `evaluate` up to ``since`` before this method. The caller closes the old upstream. This method
        writes nothing, so that no target waits for the write of another target: `record_changes` writes the
        changes.
        """
        context = self.context
        context.settings, context.upstream, context.ledger, context.parse = settings, upstream, ledger, parse
        self._reloads += 1
        versions = context.timetable.reconsider(parse, since)
        # before the changes of the next snapshot
        self._outbox.revise(versions, context.knowledge.snapshot_at)
        self._overdue_check.restart()
        self._publish_quarantines(versions)
        self._poller.forget_failures()
        self.wake()

    def _publish_quarantines(self, versions: Sequence[DefinitionVersion]) -> None:
        for event in iterate_quarantines(self.context.target, versions):
            self.context.publish(event)

    async def record_changes(self) -> None:
        """Make durable the changes of `reconfigure`, or of a start with newer zone data."""
        if self._outbox.is_behind:
            await self.context.health.retry_write("observe", self._outbox.write_prerequisites)

    def wake(self) -> None:
        """Wake the planner and the deliveries, because the state they wait for may have changed."""
        self._planner.alarm.ring()
        self._dispatcher.wake()

    # ------------------------------------------------------------ status

    @property
    def is_up(self) -> bool:
        """Whether the target has started: its list was requested, and due fire times are planned if possible.

        The request for the list counts with or without success. A throttled target counts as up before its
        first request: systemd aborts a start that takes long.
        """
        is_asked = self._poller.has_tried or self.context.throttle.seconds_left > 0
        return is_asked and (self._planner.has_planned or not self._planner.may_plan())

    def is_busy(self) -> bool:
        """Return whether occurrences are being sent or are due very soon.

        A hanging attempt counts only for a short time.
        """
        claimed = self._planner.measure_time_since_claims()
        return (
            self._planner.is_due_within(BUSY_BEFORE)
            or claimed < BUSY_AFTER
            or (claimed < BUSY_LONGEST and self._dispatcher.is_sending)
        )

    def measure_stall(self) -> float:
        """Return the seconds without planning although a fire time is due; see `Planner.measure_stall`."""
        return self._planner.measure_stall()

    def make_status(self) -> TargetStatus:
        """Return the current state of the target. The cost does not depend on the number of automations."""
        context = self.context
        states = self._dispatcher.count_states()
        unidentified, anonymous = self._poller.watch.unidentified_objects
        return TargetStatus(
            name=context.target,
            url=context.settings.url,
            project_id=context.settings.project_id,
            held=context.breaker.hold_error,
            error=self._poller.error,
            throttled_until=context.throttle.until,
            snapshot_at=self.context.knowledge.snapshot_at,
            stale=self.context.knowledge.is_stale,
            automations=self._count_states(),
            open=states,
            in_flight=states[State.IN_FLIGHT],
            planned=self._planner.has_planned,
            stalled_for=self._planner.measure_stall(),
            overdue=self._overdue_check.first_lines,
            overdue_count=len(self._overdue_check.overdue),
            next_fire=context.timetable.schedule_heap.next_instant,
            clock_offset=context.clock_offset,
            recovering=self._make_backlog_status(),
            places=self._dispatcher.places.make_status(),
            unidentified=unidentified,
            anonymous=anonymous,
            absent=len(context.timetable.absences.absent),
            disappeared=self._poller.watch.disappearance,
            inconsistent=self._poller.watch.inconsistency,
            before_due=context.timetable.due_queue.delayed_count,
        )

    def _make_backlog_status(self) -> BacklogStatus | None:
        """Return the backlog left by a downtime. None when everything up to the watermark is decided."""
        gaps = self.context.timetable.backlog.find_gaps()
        if not gaps:
            return None
        return BacklogStatus(
            len(self.context.timetable.backlog.automations),
            min(gap.since for gap in gaps),
            max(gap.until for gap in gaps),
        )

    def iterate_upcoming(
        self, span: timedelta, only: Callable[[Automation], bool] | None = None
    ) -> Iterator[tuple[datetime, TimetableEntry]]:
        """Yield the scheduled instants in ``span`` from now, in order. See `Timetable.iterate_upcoming`."""
        now = self.context.clock.now()
        return self.context.timetable.iterate_upcoming(now, now + span, only)

    def iterate_by_schedule(self, span: timedelta) -> Iterator[tuple[datetime, Sequence[AutomationDetails]]]:
        """Yield the scheduled instants of all automations within ``span`` from now, grouped by schedule.

        Consume the iterator soon: later removals of automations do not show.
        """
        now = self.context.clock.now()
        return self._add_details(self.context.timetable.schedule_heap.iterate_by_schedule(now, now + span))

    def _add_details(
        self, together: Iterator[tuple[datetime, Schedule, Sequence[str]]]
    ) -> Iterator[tuple[datetime, Sequence[AutomationDetails]]]:
        found: dict[Schedule, Sequence[AutomationDetails]] = {}
        for instant, schedule, members in together:
            if schedule not in found:
                found[schedule] = list(self._iterate_known(members))
            yield instant, found[schedule]

    def iterate_details(self) -> Iterator[AutomationDetails]:
        """Return the details of all current automations. The iterator may be used in another thread."""
        return self._iterate_known(list(self.context.timetable.entries))

    def _iterate_known(self, automation_ids: Iterable[str]) -> Iterator[AutomationDetails]:
        return (details for each in automation_ids if (details := self.find_details(each)) is not None)

    def find_details(self, automation_id: str) -> AutomationDetails | None:
        """Return all details of one automation. None when no automation has this id."""
        entry = self.context.timetable.entries.get(automation_id)
        if entry is None:
            return None
        schedule = entry.schedule
        return AutomationDetails(
            target=self.context.target,
            automation=entry.automation,
            state=self._find_state(entry),
            invalid=entry.invalid,
            paused_by_hand=self.context.knowledge.is_paused(automation_id),
            policies=entry.policies,
            schedule=schedule,
            next_fire=None if schedule is None else self.context.timetable.schedule_heap.find_next(schedule),
            effective_from=entry.effective_from,
            parse=self.context.timetable.parse,
        )

    def _count_states(self) -> Mapping[str, int]:
        """Return the number of automations in each state of `_find_state`."""
        entries, states = self.context.timetable.entries, self.context.timetable.states
        if self.context.knowledge.is_paused(EVERYTHING):
            paused = states["enabled"]
        else:
            paused = sum(
                each in entries and entries[each].state == "enabled"
                for each in self.context.knowledge.paused_ids
            )
        return +(states + Counter(paused=paused) - Counter(enabled=paused))

    def _find_state(self, entry: TimetableEntry) -> str:
        paused = entry.state == "enabled" and self.context.knowledge.is_paused(entry.automation.id)
        return "paused" if paused else entry.state

    # ------------------------------------------------------------ event handlers

    def _request_poll(self) -> None:
        self._poller.nudge()

    def _remove_automation(self, automation_id: str, at: datetime) -> None:
        self._poller.remove(automation_id, at)
        self.wake()

    def _handle_presence(self, automation_id: str) -> None:
        queue = self._dispatcher.queues.get(automation_id)
        if queue is not None:
            queue.alarm.ring()

    def _handle_clock_confirmation(self) -> None:
        self._planner.expect_progress()
        self.wake()

    def _handle_clock_jump(self, jump: ClockJumped) -> None:
        if jump.suspended:
            self._planner.absent_until = self.context.clock.now()
            self._planner.expect_progress()
        else:
            self.context.upstream.note_clock_step()
            self._planner.note_clock_step(jump.seconds)
            self.context.knowledge.note_clock_step(jump.seconds)
            if self.context.throttle.note_clock_step(jump.seconds):
                self.context.upstream.resume_wait(self.context.throttle.seconds_left)
            self.context.timetable.absences.note_clock_step(jump.seconds)
            self._overdue_check.restart()
        self._poller.nudge()
        self.wake()
