"""One target, served: its parts put together, started in order, and stopped."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.cron import Schedule
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import ClockJumped
from scheduler.core.model import Automation, DefinitionVersion, State
from scheduler.core.policy import Policies
from scheduler.core.recorded_state import RecordedTargetState, ThrottleSpan
from scheduler.core.status import AutomationDetails, AutomationStatus, BacklogStatus, TargetStatus
from scheduler.core.timetable import Timetable, TimetableEntry
from scheduler.daemon.admission import EVERYTHING, Admission
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.backfill import Backfill
from scheduler.daemon.background_need import BackgroundNeed
from scheduler.daemon.clock import ClockWatch
from scheduler.daemon.context import Context, LedgerHealth, TargetSettings
from scheduler.daemon.dispatcher import Dispatcher
from scheduler.daemon.overdue_check import OverdueCheck
from scheduler.daemon.planner import Planner
from scheduler.daemon.poller import Poller, make_quarantined_event
from scheduler.daemon.ports import DaemonClock, Ledger, Publish, Upstream
from scheduler.daemon.presence import Presence
from scheduler.daemon.refresh import Refresh
from scheduler.daemon.snapshot_outbox import SnapshotOutbox
from scheduler.daemon.tracker import Tracker
from scheduler.daemon.wait_recorder import WaitRecorder
from scheduler.daemon.waits import Waits

Parse = Callable[[str, str], Schedule]

BUSY_BEFORE: Final = 1.5
"""Seconds before something is due in which whoever only looks waits; claims are made a second before it."""
BUSY_AFTER: Final = 2.0
"""Seconds after claims were made in which that goes on."""
BUSY_LONGEST: Final = 10.0
"""Seconds after claims were made in which it goes on while attempts are in flight."""
_LAST_WRITES: Final = 5.0
"""Seconds for what is left to be written when nothing is in flight any more."""


class TargetWorker:
    """One API and everything that is done with it. Targets share nothing but the ledger."""

    def __init__(
        self,
        settings: TargetSettings,
        upstream: Upstream,
        *,
        ledger: Ledger,
        clock: DaemonClock,
        watch: ClockWatch,
        health: LedgerHealth,
        publish: Publish,
        parse: Parse,
    ) -> None:
        watch.check()  # it may have been waiting for the ledger's lock: what the clock did before is no news to a target that begins now
        self._parse, self._begun_at = parse, clock.now()
        self._reloads = 0
        self.context = Context(settings, upstream, ledger, clock, watch, health, publish, self._make_timetable(settings.name))
        need = BackgroundNeed(self.context)
        self._cache = readings = AutomationCache(self.context, need, self._request_poll)
        self._admission = Admission(self.context, readings)
        self._presence = Presence(self.context, readings)
        self._dispatcher = Dispatcher(self.context, readings, self._admission, self._presence)
        self._outbox = SnapshotOutbox(self.context)
        self._planner = Planner(self.context, readings, self._admission, self._outbox, self._dispatcher)
        self._poller = Poller(self.context, need, readings, self._admission, self._outbox)
        self._tracker = Tracker(self.context, self._dispatcher)
        self._overdue_check = OverdueCheck(self.context, self._admission, self._dispatcher, self._planner.measure_stall)
        self._backfill = Backfill(self.context, self._dispatcher)
        self._refresh = Refresh(self.context, readings, self._admission, self._presence)
        self._wait_recorder = WaitRecorder(self.context, self._dispatcher, lambda: self._planner.is_due_within(BUSY_BEFORE))
        self.waits = Waits(self.context, self._planner, self._dispatcher)
        readings.listen(self._tracker.queue_reading)
        self._dispatcher.listen(self._tracker.note_own_run)
        self._planner.listen(self._poller.replan)
        self._poller.listen(self._tracker.queue_snapshot)
        self._presence.on_removal(self._remove_automation)
        self._presence.on_presence(self._handle_presence)
        self._poller.listen(lambda *_: self._presence.note_snapshot())
        self._poller.on_end(self._presence.note_poll_end)
        self._poller.on_end(self.wake)
        self._poller.on_budget_wait(self._dispatcher.places.note_late_poll)
        watch.listen(self._handle_clock_jump)
        watch.on_confirmation(self._handle_clock_confirmation)

    async def open(self) -> None:
        """Go on from what the ledger knows. Raises `TargetMismatch`, and `LedgerUnavailable`, after which it can be tried again."""
        context, settings = self.context, self.context.settings
        recorded = await context.ledger.bind(settings.name, settings.url, settings.project_id)
        runs = await context.ledger.read_newest_runs(settings.name)
        unattributed = await context.ledger.read_unattributed_runs(settings.name)
        opened = await context.ledger.read_open_occurrences(settings.name)
        versions = await self._load_timetable(recorded)
        self._publish_quarantines(versions)
        self._admission.snapshot_at = recorded.snapshot_at
        self._admission.absent_until = self._planner.absent_until
        self._note_known_past(recorded)
        self._poller.watch.recall(recorded)
        self._cache.recall_runs(runs)
        shown = {each: record.automation for each, record in recorded.automations.items()}
        undecided = {each.occurrence.automation_id for each in opened}
        self._tracker.load(
            runs,
            snapshot_at=recorded.snapshot_at,
            shown=shown,
            undecided=undecided,
            unattributed=unattributed,
            restored_at=recorded.restored_at,
        )
        self._dispatcher.recover(opened)
        self._resume_wait(recorded)
        self._outbox.revise(versions, recorded.snapshot_at)
        await self.record_changes()

    def _resume_wait(self, recorded: RecordedTargetState) -> None:
        """Go on with the wait that the API asked an earlier process for."""
        throttle = self.context.throttle
        if recorded.throttled is not None:
            throttle.recall(recorded.throttled)
            self.context.upstream.resume_wait(throttle.seconds_left)

    async def _load_timetable(self, recorded: RecordedTargetState) -> Sequence[DefinitionVersion]:
        """Fill the timetable, slice by slice: other targets send what they have adopted meanwhile, and signals and the watchdog are served.

        Nobody sees the timetable before it is whole. After a reload in between, which had another one reconsidered, it is filled anew.
        """
        while True:
            reloads, timetable, versions = self._reloads, self._make_timetable(self.context.target), list[DefinitionVersion]()
            slices = timetable.load(recorded.automations, watermark=recorded.watermark, ended=recorded.ended, gaps=recorded.gaps)
            for some in slices:
                versions += some
                await asyncio.sleep(0)
            if reloads == self._reloads:
                self.context.timetable = timetable
                return versions

    def _make_timetable(self, target: str) -> Timetable:
        return Timetable(target, now=self._begun_at, policies=self._find_policies, schedule=self._parse)

    async def run(self, stopping: asyncio.Event, drain: Callable[[], float]) -> int:
        """Serve until ``stopping`` is set, then give what is in flight ``drain()`` seconds. Returns how much is left in flight."""
        try:
            async with asyncio.TaskGroup() as group:
                parts = (self._poller, self._planner, self._tracker)
                polling, planning, following = (group.create_task(part.run()) for part in parts)
                beside = (self._overdue_check, self._refresh, self._wait_recorder, self._presence)
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
            await context.retry_write("throttle", lambda: context.throttle.record(self._write_throttle))

    async def _record_last_throttle(self) -> None:
        try:
            async with asyncio.timeout(_LAST_WRITES):
                await self.context.throttle.record(self._write_throttle)
        except (LedgerUnavailable, TimeoutError) as error:
            self.context.health.note_failure("throttle", str(error) or f"it took longer than {_LAST_WRITES:g} s")

    async def _write_throttle(self, span: ThrottleSpan | None) -> None:
        await self.context.ledger.record_throttle(self.context.target, span)

    async def backfill(self) -> None:
        """Take up what people ask for by hand. Raises `LedgerUnavailable`."""
        await self._backfill.process_requests()

    async def refresh(self) -> None:
        """Take up at once what a command changed: pauses in the ledger, and automations in the API. Raises `LedgerUnavailable`."""
        await self._refresh.request()

    def _note_known_past(self, recorded: RecordedTargetState) -> None:
        """What the ledger knows of was in the past once. If it is in the future, the clock went back while nobody ran, or is wrong now."""
        known = self._planner.known_until = max((each for each in (recorded.snapshot_at, recorded.watermark) if each), default=None)
        if known is not None:
            self.context.watch.check_known_instant(known)

    def evaluate(self, until: datetime) -> None:
        """Find out what is scheduled up to ``until``, before other settings or zone data count: those may lack the zone it is in."""
        self.context.timetable.collect_due(until)

    def reconfigure(self, settings: TargetSettings, upstream: Upstream, ledger: Ledger, parse: Parse, *, since: datetime) -> None:
        """Go on at once under other settings, another key or newer zone data, which count from ``since`` on: `evaluate` up to it first.

        The old upstream is the caller's to close. Nothing is written here, so that no target waits for
        another's write: `record_changes` does that.
        """
        context = self.context
        context.settings, context.upstream, context.ledger = settings, upstream, ledger
        self._parse = parse
        self._reloads += 1
        versions = context.timetable.reconsider(parse, since)
        self._outbox.revise(versions, self._admission.snapshot_at)  # before whatever is seen next
        self._overdue_check.restart()
        self._publish_quarantines(versions)
        self._poller.forget_failures()
        self.wake()

    def _publish_quarantines(self, versions: Sequence[DefinitionVersion]) -> None:
        for version in versions:
            if version.invalid is not None:
                self.context.publish(make_quarantined_event(self.context.target, version))

    async def record_changes(self) -> None:
        """Make durable what `reconfigure`, or a start with newer zone data, changed."""
        if self._outbox.is_behind:
            await self.context.retry_write("observe", self._outbox.write_prerequisites)

    def wake(self) -> None:
        """Something changed that somebody may be waiting for."""
        self._planner.alarm.ring()
        self._dispatcher.wake()

    # ------------------------------------------------------------ what it is like now

    @property
    def is_up(self) -> bool:
        """Whether its list has been asked for, with or without success, and what is due has been planned if possible.

        A list that may not be asked for yet keeps nobody waiting: systemd ends a start that takes long.
        """
        is_asked = self._poller.has_tried or self.context.throttle.seconds_left > 0
        return is_asked and (self._planner.has_planned or not self._planner.may_plan())

    def is_busy(self) -> bool:
        """Whether something is fired, or is due within a moment. An attempt that hangs does not count for long."""
        claimed = self._planner.measure_time_since_claims()
        return self._planner.is_due_within(BUSY_BEFORE) or claimed < BUSY_AFTER or (claimed < BUSY_LONGEST and self._dispatcher.is_sending)

    def measure_stall(self) -> float:
        """Seconds for which nothing has been planned although something is due; see `Planner.measure_stall`."""
        return self._planner.measure_stall()

    def make_status(self) -> TargetStatus:
        """The state of the target at this instant. Costs as much for a thousand automations as for one."""
        context = self.context
        states = self._dispatcher.count_states()
        offset = context.upstream.clock_offset
        unidentified, anonymous = self._poller.watch.unidentified_objects
        return TargetStatus(
            name=context.target,
            url=context.settings.url,
            project_id=context.settings.project_id,
            held=context.breaker.hold_error,
            error=self._poller.error,
            throttled_until=context.throttle.until,
            snapshot_at=self._admission.snapshot_at,
            stale=self._admission.is_stale,
            automations=self._count_states(),
            open=states,
            in_flight=states[State.IN_FLIGHT],
            planned=self._planner.has_planned,
            stalled_for=self._planner.measure_stall(),
            overdue=self._overdue_check.first_lines,
            overdue_count=len(self._overdue_check.overdue),
            next_fire=context.timetable.next_fire,
            clock_offset=None if offset is None else offset[0],
            recovering=self._make_backlog_status(),
            places=self._dispatcher.places.make_status(),
            unidentified=unidentified,
            anonymous=anonymous,
            absent=len(context.timetable.absent),
            disappeared=self._poller.watch.disappearance,
            inconsistent=self._poller.watch.inconsistency,
            before_due=context.timetable.delayed_count,
        )

    def _make_backlog_status(self) -> BacklogStatus | None:
        """What is left to recover of a downtime; None when everything up to the watermark is decided."""
        gaps = self.context.timetable.find_gaps()
        if not gaps:
            return None
        return BacklogStatus(self.context.timetable.backlog_count, min(gap.since for gap in gaps), max(gap.until for gap in gaps))

    def iterate_automations(self) -> Iterator[AutomationStatus]:
        """Every automation, with its next scheduled instant."""
        for entry in list(self.context.timetable.entries.values()):  # some may come or go while this is gone through
            definition = entry.automation.definition
            yield AutomationStatus(
                entry.automation.id,
                entry.automation.name,
                definition.cron_expression,
                definition.timezone,
                None if entry.schedule is None else self.context.timetable.find_next(entry.schedule),
            )

    def may_fire(self, automation_id: str) -> bool:
        """Whether the automation is there, enabled and not paused."""
        entry = self.context.timetable.entries.get(automation_id)
        return entry is not None and self._find_state(entry) == "enabled"

    def iterate_upcoming(
        self, span: timedelta, only: Callable[[Automation], bool] | None = None
    ) -> Iterator[tuple[datetime, TimetableEntry]]:
        """What is scheduled in the time to come, in order; see `Timetable.iterate_upcoming`."""
        now = self.context.clock.now()
        return self.context.timetable.iterate_upcoming(now, now + span, only)

    def iterate_by_schedule(self, span: timedelta) -> Iterator[tuple[datetime, Sequence[AutomationDetails]]]:
        """The same, of all automations: those that share a schedule at once. To be gone through soon: a removal meanwhile does not show."""
        now = self.context.clock.now()
        return self._add_details(self.context.timetable.iterate_by_schedule(now, now + span))

    def _add_details(
        self, together: Iterator[tuple[datetime, Schedule, Sequence[str]]]
    ) -> Iterator[tuple[datetime, Sequence[AutomationDetails]]]:
        found: dict[Schedule, Sequence[AutomationDetails]] = {}
        for instant, schedule, members in together:
            if schedule not in found:
                found[schedule] = [details for each in members if (details := self.find_details(each)) is not None]
            yield instant, found[schedule]

    def iterate_details(self) -> Iterator[AutomationDetails]:
        """Of every automation there is now; may be gone through in another thread."""
        present = list(self.context.timetable.entries)
        return (details for each in present if (details := self.find_details(each)) is not None)

    def find_details(self, automation_id: str) -> AutomationDetails | None:
        """All that is known of one automation; None when there is none of this id."""
        entry = self.context.timetable.entries.get(automation_id)
        if entry is None:
            return None
        schedule = entry.schedule
        return AutomationDetails(
            target=self.context.target,
            automation=entry.automation,
            state=self._find_state(entry),
            invalid=entry.invalid,
            paused_by_hand=self._admission.is_paused(automation_id),
            policies=entry.policies,
            schedule=schedule,
            next_fire=None if schedule is None else self.context.timetable.find_next(schedule),
            effective_from=entry.effective_from,
        )

    def _count_states(self) -> Mapping[str, int]:
        """The number of automations by `_find_state`."""
        entries, states = self.context.timetable.entries, self.context.timetable.states
        if self._admission.is_paused(EVERYTHING):
            paused = states["enabled"]
        else:
            paused = sum(each in entries and entries[each].state == "enabled" for each in self._admission.paused_ids)
        return +(states + Counter(paused=paused) - Counter(enabled=paused))

    def _find_state(self, entry: TimetableEntry) -> str:
        paused = entry.state == "enabled" and self._admission.is_paused(entry.automation.id)
        return "paused" if paused else entry.state

    # ------------------------------------------------------------ what happens to it

    def _request_poll(self) -> None:
        self._poller.nudge()

    def _remove_automation(self, automation_id: str, at: datetime) -> None:
        self._poller.remove(automation_id, at)
        self.wake()

    def _handle_presence(self, automation_id: str) -> None:
        lane = self._dispatcher.find_queue(automation_id)
        if lane is not None:
            lane.alarm.ring()

    def _find_policies(self, automation_id: str, name: str) -> Policies:
        return self.context.settings.policies(automation_id, name)

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
            self._admission.note_clock_step(jump.seconds)
            if self.context.throttle.note_clock_step(jump.seconds):
                self.context.upstream.resume_wait(self.context.throttle.seconds_left)
            self.context.timetable.note_clock_step(jump.seconds)
            self._overdue_check.restart()
        self._poller.nudge()
        self.wake()
