"""One target, served: its parts put together, started in order, and stopped."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.cron import Schedule
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import ClockJumped
from scheduler.core.model import Automation, State, Version
from scheduler.core.policy import Policies
from scheduler.core.records import RecordedTarget, ThrottleSpan
from scheduler.core.status import AutomationDetails, AutomationStatus, Recovering, TargetStatus
from scheduler.core.timetable import Entry, Timetable
from scheduler.daemon.background_need import BackgroundNeed
from scheduler.daemon.clearance import EVERYTHING, Clearance
from scheduler.daemon.clock import ClockWatch
from scheduler.daemon.context import Context, LedgerHealth, TargetSettings
from scheduler.daemon.dispatcher import Dispatcher
from scheduler.daemon.making_up import MakingUp
from scheduler.daemon.overdue import Overdue
from scheduler.daemon.planner import Planner
from scheduler.daemon.poller import Poller, quarantined
from scheduler.daemon.ports import Clock, Ledger, Publish, Upstream
from scheduler.daemon.presence import Presence
from scheduler.daemon.readings import Readings
from scheduler.daemon.record import Record
from scheduler.daemon.refresh import Refresh
from scheduler.daemon.tracker import Tracker
from scheduler.daemon.wait_record import WaitRecord
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


class Target:
    """One API and everything that is done with it. Targets share nothing but the ledger."""

    def __init__(
        self,
        settings: TargetSettings,
        upstream: Upstream,
        *,
        ledger: Ledger,
        clock: Clock,
        watch: ClockWatch,
        health: LedgerHealth,
        publish: Publish,
        parse: Parse,
    ) -> None:
        watch.look()  # it may have been waiting for the ledger's lock: what the clock did before is no news to a target that begins now
        self._parse, self._begun_at = parse, clock.now()
        self._reloads = 0
        self.context = Context(settings, upstream, ledger, clock, watch, health, publish, self._make_timetable(settings.name))
        need = BackgroundNeed(self.context)
        self._readings = readings = Readings(self.context, need, self._poll)
        self._clearance = Clearance(self.context, readings)
        self._presence = Presence(self.context, readings)
        self._dispatcher = Dispatcher(self.context, readings, self._clearance, self._presence)
        self._record = Record(self.context)
        self._planner = Planner(self.context, readings, self._clearance, self._record, self._dispatcher)
        self._poller = Poller(self.context, need, readings, self._clearance, self._record)
        self._tracker = Tracker(self.context, self._dispatcher)
        self._overdue = Overdue(self.context, self._clearance, self._dispatcher, self._planner.stalled_for)
        self._making_up = MakingUp(self.context, self._dispatcher)
        self._refresh = Refresh(self.context, readings, self._clearance, self._presence)
        self._wait_record = WaitRecord(self.context, self._dispatcher, lambda: self._planner.is_due_within(BUSY_BEFORE))
        self.waits = Waits(self.context, self._planner, self._dispatcher)
        readings.listen(self._tracker.seen)
        self._dispatcher.listen(self._tracker.started)
        self._planner.listen(self._poller.replan)
        self._poller.listen(self._tracker.snapshot_taken)
        self._presence.on_gone(self._gone)
        self._presence.on_there(self._there)
        self._poller.listen(lambda *_: self._presence.snapshot_taken())
        self._poller.on_end(self._presence.poll_ended)
        self._poller.on_end(self.wake)
        self._poller.when_held_up(self._dispatcher.places.note_late_poll)
        watch.listen(self._clock_jumped)
        watch.when_believed(self._clock_believed)

    async def open(self) -> None:
        """Go on from what the ledger knows. Raises `TargetMismatch`, and `LedgerUnavailable`, after which it can be tried again."""
        context, settings = self.context, self.context.settings
        recorded = await context.ledger.bind(settings.name, settings.url, settings.project_id)
        runs = await context.ledger.newest_runs(settings.name)
        unattributed = await context.ledger.unattributed_runs(settings.name)
        opened = await context.ledger.open_occurrences(settings.name)
        versions = await self._load(recorded)
        self._tell_of(versions)
        self._clearance.snapshot_at = recorded.snapshot_at
        self._clearance.absent_until = self._planner.absent_until
        self._take_as_known(recorded)
        self._poller.watch.recall(recorded)
        self._readings.recall(runs)
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
        self._dispatcher.adopt(opened)
        self._resume_wait(recorded)
        self._record.revise(versions, recorded.snapshot_at)
        await self.record()

    def _resume_wait(self, recorded: RecordedTarget) -> None:
        """Go on with the wait that the API asked an earlier process for."""
        throttle = self.context.throttle
        if recorded.throttled is not None:
            throttle.recall(recorded.throttled)
            self.context.upstream.resume_wait(throttle.left)

    async def _load(self, recorded: RecordedTarget) -> Sequence[Version]:
        """Fill the timetable, slice by slice: other targets send what they have adopted meanwhile, and signals and the watchdog are served.

        Nobody sees the timetable before it is whole. After a reload in between, which had another one reconsidered, it is filled anew.
        """
        while True:
            reloads, timetable, versions = self._reloads, self._make_timetable(self.context.target), list[Version]()
            slices = timetable.load(recorded.automations, watermark=recorded.watermark, ended=recorded.ended, gaps=recorded.gaps)
            for some in slices:
                versions += some
                await asyncio.sleep(0)
            if reloads == self._reloads:
                self.context.timetable = timetable
                return versions

    def _make_timetable(self, target: str) -> Timetable:
        return Timetable(target, now=self._begun_at, policies=self._policies, schedule=self._parse)

    async def run(self, stopping: asyncio.Event, drain: Callable[[], float]) -> int:
        """Serve until ``stopping`` is set, then give what is in flight ``drain()`` seconds. Returns how much is left in flight."""
        try:
            async with asyncio.TaskGroup() as group:
                parts = (self._poller, self._planner, self._tracker)
                polling, planning, following = (group.create_task(part.run()) for part in parts)
                beside = (self._overdue, self._refresh, self._wait_record, self._presence)
                looking = [group.create_task(part.run()) for part in beside]
                recording = group.create_task(self._record_throttle())
                await stopping.wait()
                for task in (polling, *looking):
                    task.cancel()
                self._planner.stop()
                left = await self._dispatcher.drain(drain())
                await asyncio.wait([planning], timeout=_LAST_WRITES)
                planning.cancel()
                await self._dispatcher.take_back(_LAST_WRITES)
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
            await context.durably("throttle", lambda: context.throttle.record(self._write_throttle))

    async def _record_last_throttle(self) -> None:
        try:
            async with asyncio.timeout(_LAST_WRITES):
                await self.context.throttle.record(self._write_throttle)
        except (LedgerUnavailable, TimeoutError) as error:
            self.context.health.failed("throttle", str(error) or f"it took longer than {_LAST_WRITES:g} s")

    async def _write_throttle(self, span: ThrottleSpan | None) -> None:
        await self.context.ledger.throttle(self.context.target, span)

    async def make_up(self) -> None:
        """Take up what people ask for by hand. Raises `LedgerUnavailable`."""
        await self._making_up.take_up()

    async def refresh(self) -> None:
        """Take up at once what a command changed: pauses in the ledger, and automations in the API. Raises `LedgerUnavailable`."""
        await self._refresh.request()

    def _take_as_known(self, recorded: RecordedTarget) -> None:
        """What the ledger knows of was in the past once. If it is in the future, the clock went back while nobody ran, or is wrong now."""
        known = self._planner.known_until = max((each for each in (recorded.snapshot_at, recorded.watermark) if each), default=None)
        if known is not None:
            self.context.watch.begin_at_least(known)

    def evaluate(self, until: datetime) -> None:
        """Find out what is scheduled up to ``until``, before other settings or zone data count: those may lack the zone it is in."""
        self.context.timetable.due(until)

    def reconfigure(self, settings: TargetSettings, upstream: Upstream, ledger: Ledger, parse: Parse, *, since: datetime) -> None:
        """Go on at once under other settings, another key or newer zone data, which count from ``since`` on: `evaluate` up to it first.

        The old upstream is the caller's to close. Nothing is written here, so that no target waits for another's write: `record` does that.
        """
        context = self.context
        context.settings, context.upstream, context.ledger = settings, upstream, ledger
        self._parse = parse
        self._reloads += 1
        versions = context.timetable.reconsider(parse, since)
        self._record.revise(versions, self._clearance.snapshot_at)  # before whatever is seen next
        self._overdue.begin_anew()
        self._tell_of(versions)
        self._poller.begin_anew()
        self.wake()

    def _tell_of(self, versions: Sequence[Version]) -> None:
        for version in versions:
            if version.invalid is not None:
                self.context.publish(quarantined(self.context.target, version))

    async def record(self) -> None:
        """Make durable what `reconfigure`, or a start with newer zone data, changed."""
        if self._record.is_behind:
            await self.context.durably("observe", self._record.catch_up)

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
        is_asked = self._poller.has_tried or self.context.throttle.left > 0
        return is_asked and (self._planner.has_planned or not self._planner.may_plan())

    def is_busy(self) -> bool:
        """Whether something is fired, or is due within a moment. An attempt that hangs does not count for long."""
        claimed = self._planner.seconds_since_claims()
        return self._planner.is_due_within(BUSY_BEFORE) or claimed < BUSY_AFTER or (claimed < BUSY_LONGEST and self._dispatcher.is_sending)

    def stalled_for(self) -> float:
        """Seconds for which nothing has been planned although something is due; see `Planner.stalled_for`."""
        return self._planner.stalled_for()

    def status(self) -> TargetStatus:
        """The state of the target at this instant. Costs as much for a thousand automations as for one."""
        context = self.context
        states = self._dispatcher.states()
        offset = context.upstream.clock_offset
        unidentified, anonymous = self._poller.watch.unidentified
        return TargetStatus(
            name=context.target,
            url=context.settings.url,
            project_id=context.settings.project_id,
            held=context.gate.held,
            error=self._poller.error,
            throttled_until=context.throttle.until,
            snapshot_at=self._clearance.snapshot_at,
            stale=self._clearance.stale,
            automations=self._states(),
            open=states,
            in_flight=states[State.IN_FLIGHT],
            planned=self._planner.has_planned,
            stalled_for=self._planner.stalled_for(),
            overdue=self._overdue.first,
            overdue_count=len(self._overdue.found),
            next_fire=context.timetable.next_fire,
            clock_offset=None if offset is None else offset[0],
            recovering=self._recovering(),
            places=self._dispatcher.places.status(),
            unidentified=unidentified,
            anonymous=anonymous,
            absent=len(context.timetable.absent),
            disappeared=self._poller.watch.disappeared,
            inconsistent=self._poller.watch.inconsistent,
            before_due=context.timetable.later_count,
        )

    def _recovering(self) -> Recovering | None:
        """What is left to recover of a downtime; None when everything up to the watermark is decided."""
        gaps = self.context.timetable.gaps()
        if not gaps:
            return None
        return Recovering(self.context.timetable.undecided, min(gap.since for gap in gaps), max(gap.until for gap in gaps))

    def automations(self) -> Iterator[AutomationStatus]:
        """Every automation, with its next scheduled instant."""
        for entry in list(self.context.timetable.entries.values()):  # some may come or go while this is gone through
            definition = entry.automation.definition
            yield AutomationStatus(
                entry.automation.id,
                entry.automation.name,
                definition.cron_expression,
                definition.timezone,
                None if entry.schedule is None else self.context.timetable.next_of(entry.schedule),
            )

    def fires(self, automation_id: str) -> bool:
        """Whether the automation is there, enabled and not paused."""
        entry = self.context.timetable.entries.get(automation_id)
        return entry is not None and self._state(entry) == "enabled"

    def upcoming(self, span: timedelta, only: Callable[[Automation], bool] | None = None) -> Iterator[tuple[datetime, Entry]]:
        """What is scheduled in the time to come, in order; see `Timetable.upcoming`."""
        now = self.context.clock.now()
        return self.context.timetable.upcoming(now, now + span, only)

    def together(self, span: timedelta) -> Iterator[tuple[datetime, Sequence[AutomationDetails]]]:
        """The same, of all automations: those that share a schedule at once. To be gone through soon: a removal meanwhile does not show."""
        now = self.context.clock.now()
        return self._with_details(self.context.timetable.together(now, now + span))

    def _with_details(
        self, together: Iterator[tuple[datetime, Schedule, Sequence[str]]]
    ) -> Iterator[tuple[datetime, Sequence[AutomationDetails]]]:
        found: dict[Schedule, Sequence[AutomationDetails]] = {}
        for instant, schedule, members in together:
            if schedule not in found:
                found[schedule] = [details for each in members if (details := self.details(each)) is not None]
            yield instant, found[schedule]

    def every_detail(self) -> Iterator[AutomationDetails]:
        """Of every automation there is now; may be gone through in another thread."""
        present = list(self.context.timetable.entries)
        return (details for each in present if (details := self.details(each)) is not None)

    def details(self, automation_id: str) -> AutomationDetails | None:
        """All that is known of one automation; None when there is none of this id."""
        entry = self.context.timetable.entries.get(automation_id)
        if entry is None:
            return None
        schedule = entry.schedule
        return AutomationDetails(
            target=self.context.target,
            automation=entry.automation,
            state=self._state(entry),
            invalid=entry.invalid,
            paused_by_hand=self._clearance.is_paused(automation_id),
            policies=entry.policies,
            schedule=schedule,
            next_fire=None if schedule is None else self.context.timetable.next_of(schedule),
            effective_from=entry.effective_from,
        )

    def _states(self) -> Mapping[str, int]:
        """The number of automations by `_state`."""
        entries, states = self.context.timetable.entries, self.context.timetable.states
        if self._clearance.is_paused(EVERYTHING):
            paused = states["enabled"]
        else:
            paused = sum(each in entries and entries[each].state == "enabled" for each in self._clearance.paused)
        return +(states + Counter(paused=paused) - Counter(enabled=paused))

    def _state(self, entry: Entry) -> str:
        paused = entry.state == "enabled" and self._clearance.is_paused(entry.automation.id)
        return "paused" if paused else entry.state

    # ------------------------------------------------------------ what happens to it

    def _poll(self) -> None:
        self._poller.nudge()

    def _gone(self, automation_id: str, at: datetime) -> None:
        self._poller.remove(automation_id, at)
        self.wake()

    def _there(self, automation_id: str) -> None:
        lane = self._dispatcher.lane(automation_id)
        if lane is not None:
            lane.alarm.ring()

    def _policies(self, automation_id: str, name: str) -> Policies:
        return self.context.settings.policies(automation_id, name)

    def _clock_believed(self) -> None:
        self._planner.expect_progress()
        self.wake()

    def _clock_jumped(self, jump: ClockJumped) -> None:
        if jump.suspended:
            self._planner.absent_until = self.context.clock.now()
            self._planner.expect_progress()
        else:
            self.context.upstream.clock_was_set()
            self._planner.clock_was_set(jump.seconds)
            self._clearance.clock_was_set(jump.seconds)
            if self.context.throttle.clock_was_set(jump.seconds):
                self.context.upstream.resume_wait(self.context.throttle.left)
            self.context.timetable.clock_was_set(jump.seconds)
            self._overdue.begin_anew()
        self._poller.nudge()
        self.wake()
