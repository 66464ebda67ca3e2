"""Planner: writes claims for due fire times shortly before they are due, and hands them to the dispatcher."""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.backlog import BacklogInterval
from scheduler.core.backlog_decisions import decide_late
from scheduler.core.delivery import Delivery
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import OccurrenceClaimed, OccurrenceConcluded
from scheduler.core.model import (
    Attempt,
    Claim,
    ClaimPlan,
    Occurrence,
    Outcome,
    Reason,
    Skip,
    SkippedSpan,
    State,
)
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.policy import (
    Concurrency,
    Decision,
    FireTime,
    Policies,
    decide,
)
from scheduler.core.timetable import DueFireTimes, TimetableEntry
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.clock import Alarm, back_off
from scheduler.daemon.context import Context
from scheduler.daemon.dispatcher import Dispatcher
from scheduler.daemon.snapshot_outbox import SnapshotOutbox

AHEAD: Final = timedelta(seconds=1)
"""Time between the durable claim and the due instant, for the first byte to leave on time. At most 2 s."""

AT_ONCE: Final = 2_000
"""Maximum number of automations planned in one transaction.

A larger transaction would block the event loop and the ledger for too long.
"""


_MOST_HINDRANCES: Final = 20
"""Maximum number of hindrances kept separately. Later hindrances count as part of the last one."""
FIRST_SLICE: Final = 64
LARGEST_SLICE: Final = 1000
"""Number of backlog intervals decided in one transaction: the first slice and the largest slice."""
SLICE_SECONDS: Final = 0.1
"""Limit for the write time of a slice. When a slice takes longer, the next slice is smaller."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Decisions for one transaction."""

    claims: list[tuple[Claim, TimetableEntry]]
    skips: list[Skip]
    # fire times into which older occurrences are coalesced
    starts: list[tuple[TimetableEntry, datetime]] = field(default_factory=list)


class Planner:
    """Planner of one target: sleeps until a fire time is due, or until the next due time changes."""

    def __init__(
        self, context: Context, cache: AutomationCache, outbox: SnapshotOutbox, dispatcher: Dispatcher
    ) -> None:
        self._context = context
        self._cache = cache
        self._outbox = outbox
        self._dispatcher = dispatcher
        self.alarm = Alarm(context.clock)
        context.health.recovery_listeners.append(self.alarm.ring)
        self.has_planned = False  # whether this process has planned all due fire times at least once
        self._claimed_at = -math.inf  # time of the newest claims, on the clock that counts suspend
        self._expected_at = context.clock.boottime()  # instant from which progress is expected
        self.absent_until = context.clock.now()
        # newest instant recorded in the ledger before this process began
        self.known_until: datetime | None = None
        # earliest instant to which the clock went back since the last rewind of the timetable
        self._rewind_to: datetime | None = None
        self._stopping = False
        self._slice_size = FIRST_SLICE
        # hindrances since the planner last planned, in order; the last hindrance continues
        self._hindrances: list[Step] = []
        self._warm_queue: asyncio.Queue[int] = asyncio.Queue()
        # called after each planning pass, when the next due time may have changed
        self.pass_listeners: list[Callable[[], None]] = []

    def note_clock_step(self, seconds: float) -> None:
        """Adjust the planner after the wall clock stepped ahead by ``seconds`` (negative: back).

        After a step back, the times that lie ahead again are planned again before anything else is planned.
        """
        self.expect_progress()
        self.absent_until += timedelta(seconds=seconds)
        if seconds < 0:
            self._rewind(self._context.clock.now())

    def expect_progress(self, after: float = 0.0) -> None:
        """Measure the standstill from now on, or from ``after`` seconds later."""
        self._expected_at = self._context.clock.boottime() + after

    def measure_stall(self) -> float:
        """Return the seconds without progress; 0 when all is well.

        Time without progress counts while a fire time is due or a pass has not ended. The due times come from
        the timetable. Therefore a planner is also noticed when its sleep lasts too long, or when nothing
        wakes the planner.
        """
        self._context.watch.check()
        quiet = self._context.clock.boottime() - max(self._expected_at, self._context.knowledge.fresh_since)
        return max(min(quiet, max(self.alarm.measure_stall(), self._measure_delay())), 0.0)

    def _measure_delay(self) -> float:
        wake_at = self._context.timetable.wake_at
        if wake_at is None or not self.may_plan():
            return -math.inf
        return (self._context.clock.now() - wake_at).total_seconds()

    def is_due_within(self, seconds: float) -> bool:
        """Return whether a fire time is due within ``seconds`` and not yet planned."""
        return self._measure_delay() > -seconds

    def measure_time_since_claims(self) -> float:
        """Return the seconds since the newest claims were made; infinite before the first claims."""
        return self._context.clock.boottime() - self._claimed_at

    @property
    def hindrance(self) -> Step | None:
        """Current reason why the planner cannot plan, and since when. None when nothing prevents planning."""
        return self._hindrances[-1] if self._hindrances else None

    def stop(self) -> None:
        """Stop making claims.

        A claim in progress is completed: a half-written claim would have to be reconciled.
        """
        self._stopping = True
        self.alarm.ring()

    async def run(self) -> None:
        """Plan until `stop` is called."""
        async with asyncio.TaskGroup() as group:
            warming = group.create_task(self._warm_connections())
            await self._plan_forever()
            warming.cancel()

    async def _warm_connections(self) -> None:
        """Open connections for new claims.

        This runs in its own task, because a connection that hangs must not delay the next claims.
        """
        while True:
            connections = await self._warm_queue.get()
            # read the upstream only now: a reload may have replaced the upstream meanwhile
            await self._context.upstream.warm(connections)

    async def _plan_forever(self) -> None:
        failures = 0
        while not self._stopping:
            try:
                goes_on = await self._plan()
            except LedgerUnavailable as error:
                failures += 1
                self._context.health.note_failure("claim", str(error))
                self._note_hindrance(Cause.LEDGER, str(error))
                pause = back_off(failures)
                # a ledger failure is no standstill: progress is expected from the next try on
                self.expect_progress(pause)
                await self.alarm.sleep(pause)
                continue
            failures = 0
            self.expect_progress()
            for listener in self.pass_listeners:
                listener()
            if not goes_on:
                await self.alarm.sleep_until(self._find_wake_time())

    def _find_wake_time(self) -> datetime | None:
        if not self.may_plan():
            return None  # a poll or the clock watch rings the alarm when planning is possible again
        wake_at = self._context.timetable.wake_at
        return None if wake_at is None else wake_at - AHEAD

    def may_plan(self) -> bool:
        """Return whether the snapshot and the clock are good enough for planning."""
        return not (self._context.knowledge.is_stale or self._context.watch.is_in_doubt)

    async def _plan(self) -> bool:
        """Plan due fire times, or else a slice of the backlog. Return whether more can be planned at once."""
        self._context.watch.check()
        if not self.may_plan():
            self._note_hindrance(Cause.CLOCK if self._context.watch.is_in_doubt else Cause.STALE)
            return False
        context = self._context
        self._context.knowledge.paused_ids = await context.ledger.read_pauses(context.target)
        await self._sync_with_ledger()
        context.watch.check()
        if not self.may_plan() or self._rewind_to is not None:
            return False  # the clock was set meanwhile, and the clock watch has rung the alarm
        dues = context.timetable.collect_due(context.clock.now() + AHEAD, absent_until=self.absent_until)
        if dues:
            await self._plan_due(dues[:AT_ONCE])
        else:
            await self._plan_late_slice()
        if len(dues) > AT_ONCE:
            return not self._stopping
        self._hindrances.clear()
        self.has_planned = True
        return bool(context.timetable.backlog) and not self._stopping

    async def _plan_due(self, dues: Sequence[DueFireTimes]) -> None:
        context = self._context
        written = context.clock.boottime()
        plan = self._decide_due(dues)
        self._note_coalescences(plan)
        watermark = context.timetable.compute_watermark(context.clock.now(), planned=dues)
        claims, gaps = [claim for claim, _ in plan.claims], context.timetable.backlog.find_gaps()
        won = await context.ledger.claim(context.target, ClaimPlan(claims, plan.skips, watermark, gaps=gaps))
        context.health.note_success()
        context.timetable.mark_durable(dues)
        for entry, instant in plan.starts:
            entry.claimed = max(entry.claimed or instant, instant)
        if won:
            self._claimed_at = context.clock.boottime()
        self._hand_over(plan, won, written)
        self._warm_queue.put_nowait(min(len(won), context.settings.max_in_flight))
        await context.publish_all(_iterate_skip_events(plan.skips, won))

    async def _plan_late_slice(self) -> None:
        """Decide a slice of the backlog that is too late to start.

        The slice is durable before the next slice begins.
        """
        context, timetable = self._context, self._context.timetable
        overdue = timetable.find_late(self._slice_size)
        if not overdue:
            return
        now, began = context.clock.now(), context.clock.boottime()
        spans = [span for each in overdue for span in self._make_spans(each, now)]
        gaps = timetable.backlog.find_gaps(overdue)
        plan = ClaimPlan([], [], timetable.compute_watermark(now), spans, gaps)
        won = await context.ledger.claim(context.target, plan)
        context.health.note_success()
        timetable.mark_late_durable(overdue)
        self._adapt_slice(context.clock.boottime() - began)
        await context.publish_all(_iterate_skip_events(spans, won))

    def _adapt_slice(self, took: float) -> None:
        """Adapt the slice size to the write time, so that slices stay short.

        New due fire times wait for the slice in progress, and a slice may meet many existing rows.
        """
        if took > SLICE_SECONDS:
            self._slice_size = max(self._slice_size // 2, 1)
        elif took < SLICE_SECONDS / 2:
            self._slice_size = min(self._slice_size * 2, LARGEST_SLICE)

    def _make_spans(self, stretch: BacklogInterval, now: datetime) -> Iterator[SkippedSpan]:
        """Yield one span for each outcome within a backlog interval, without listing the instants."""
        entry = self._context.timetable.find_last_entry(stretch.automation_id)
        automation = entry.automation
        paused = self._context.knowledge.is_paused(automation.id)
        for extent, reason in decide_late(stretch, entry.policies, paused=paused, claimed=entry.claimed):
            first = entry.make_fire_time(self._context.target, extent.first, extent.second)
            yield SkippedSpan(
                self._make_occurrence(entry, extent.first),
                automation.name,
                first.due,
                stretch.definition,
                stretch.schedule,
                extent.last,
                extent.count,
                reason,
                now,
            )

    def _note_hindrance(self, cause: Cause, detail: str | None = None) -> None:
        now, last = self._context.clock.now(), self.hindrance
        if last is not None and (last.cause is cause or len(self._hindrances) >= _MOST_HINDRANCES):
            return
        if last is not None:
            self._hindrances[-1] = replace(last, until=now)
        self._hindrances.append(Step(now, cause, detail=detail))

    def _rewind(self, now: datetime) -> None:
        self._rewind_to = now if self._rewind_to is None else min(now, self._rewind_to)
        self._context.timetable.bring_into_force(now)
        self._outbox.add_rewind(now)

    async def _sync_with_ledger(self) -> None:
        """Make durable the state on which plans rest.

        After the clock went back, the timetable continues from the state that the ledger has kept.
        """
        context, settings, now = self._context, self._context.settings, self._context.clock.now()
        if self.known_until is not None and now < self.known_until:
            self._rewind(now)  # the clock went back while no daemon ran
        self.known_until = None
        await self._outbox.write_prerequisites()
        while self._rewind_to is not None:
            recorded = await context.ledger.bind(settings.name, settings.url, settings.project_id)
            if self._outbox.is_behind:  # changes that arrived meanwhile are not in ``recorded``
                await self._outbox.write_prerequisites()
                continue
            context.timetable.rewind(
                self._rewind_to, watermark=recorded.watermark or self._rewind_to, ended=recorded.ended
            )
            self._rewind_to = None

    # ------------------------------------------------------------ decisions

    def _decide_due(self, dues: Sequence[DueFireTimes]) -> _Plan:
        now, plan = self._context.clock.now(), _Plan([], [])
        shared: dict[tuple[int, Policies, bool, datetime | None], list[Decision]] = {}
        for due in dues:
            automation_id = due.entry.automation.id
            paused = self._context.knowledge.is_paused(automation_id)
            policies, claimed = due.entry.policies, due.entry.claimed
            key = (id(due.fire_times), policies, paused, claimed)
            if key not in shared:
                shared[key] = decide(
                    due.fire_times,
                    policies,
                    now=now,
                    absent_until=self.absent_until,
                    paused=paused,
                    claimed=claimed,
                )
            for decision in shared[key]:
                self._add_decision(plan, due.entry, decision, now)
        return plan

    def _add_decision(self, plan: _Plan, entry: TimetableEntry, decision: Decision, now: datetime) -> None:
        if decision.reason is not None:
            plan.skips.append(self._make_skip(entry, decision.fire_times, decision.reason, now))
            return
        for moment in decision.fire_times:
            self._add_start(plan, entry, moment, now)

    def _add_start(self, plan: _Plan, entry: TimetableEntry, moment: FireTime, now: datetime) -> None:
        plan.starts.append((entry, moment.scheduled_for))
        # the version was in force at the fire time, but nobody wants the run after the end of the version
        if entry.end_reason is not None:
            error = f"the automation was {entry.end_reason} before it could be sent"
            plan.skips.append(self._make_skip(entry, [moment], Reason.DELETED, now, error))
        else:
            # the other claims of the automation wait behind the first claim
            first = not plan.claims or plan.claims[-1][1] is not entry
            plan.claims.append((self._make_claim(entry, moment, now, first=first), entry))

    def _make_skip(
        self,
        entry: TimetableEntry,
        moments: Sequence[FireTime],
        reason: Reason,
        now: datetime,
        error: str | None = None,
    ) -> Skip:
        first, instants = moments[0], [moment.scheduled_for for moment in moments]
        occurrence = self._make_occurrence(entry, first.scheduled_for)
        return Skip(occurrence, entry.automation.name, first.due, instants, reason, now, error)

    def _make_occurrence(self, entry: TimetableEntry, scheduled_for: datetime) -> Occurrence:
        return Occurrence(self._context.target, entry.automation.id, scheduled_for)

    def _make_claim(self, entry: TimetableEntry, moment: FireTime, now: datetime, *, first: bool) -> Claim:
        automation, attempt = entry.automation, None
        occurrence = self._make_occurrence(entry, moment.scheduled_for)
        if first and self._may_send_at_once(entry):
            attempt = Attempt(1, now, self._cache.find_baseline(automation.id), self._context.clock_offset)
        return Claim(occurrence, automation.name, moment.due, moment.deadline, now, attempt)

    def _may_send_at_once(self, entry: TimetableEntry) -> bool:
        """Return whether no known reason makes the automation wait.

        The first attempt of such an automation is written in the transaction of the claim.
        """
        return (
            entry.policies.concurrency is Concurrency.ALLOW
            and not self._context.timetable.needs_reading(entry.automation.id)
            and self._context.breaker.measure_wait() == 0
            and not self._context.breaker.is_half_open
            and self._dispatcher.queues.get(entry.automation.id) is None
        )

    # ------------------------------------------------------------ hand-over

    def _hand_over(self, plan: _Plan, won: Mapping[Occurrence, int], written: float) -> None:
        ours = [(claim, entry) for claim, entry in plan.claims if claim.occurrence in won]
        for claim, _ in ours:
            self._context.publish(OccurrenceClaimed(occurrence=claim.occurrence, automation=claim.name))
        for claim, entry in ours:
            delivery = _make_delivery(claim, entry, written)
            self._dispatcher.take(delivery, self._explain_late_claim(claim))
        self._note_coalescences(plan)

    def _note_coalescences(self, plan: _Plan) -> None:
        """Mark open deliveries into which the plan coalesces older occurrences.

        Such a delivery keeps its row, even when the delivery is not due yet.
        """
        for skip in plan.skips:
            queue = self._dispatcher.queues.get(skip.occurrence.automation_id)
            if queue is not None and skip.reason is Reason.COALESCED:
                queue.note_coalescence(skip.instants[-1])

    def _explain_late_claim(self, claim: Claim) -> list[Step]:
        """Return the steps that explain why the claim was made late. The list is empty for a timely claim."""
        if claim.claimed_at - claim.due < AHEAD:
            return []
        steps, since = list[Step](), claim.due
        if claim.due <= self.absent_until:
            steps.append(Step(claim.due, Cause.ABSENT, min(self.absent_until, claim.claimed_at)))
        first_poll = self._context.knowledge.first_poll_wait
        if first_poll is not None and first_poll.until is not None and claim.due <= first_poll.at:
            since = first_poll.until
            steps.append(first_poll)
        steps += (
            replace(hindrance, at=max(hindrance.at, since), until=hindrance.until or claim.claimed_at)
            for hindrance in self._hindrances
        )
        return [
            step
            for step in steps
            if step.cause is Cause.ABSENT or (step.until is not None and step.until - step.at >= AHEAD)
        ]


def _make_delivery(claim: Claim, entry: TimetableEntry, written: float) -> Delivery:
    return Delivery(
        claim.occurrence,
        claim.name,
        claim.due,
        claim.deadline,
        State.WAITING if claim.attempt is None else State.CLAIMED,
        is_late=claim.claimed_at > claim.due,
        entry=entry,
        attempt=claim.attempt,
        written_boottime=None if claim.attempt is None else written,
    )


def _iterate_skip_events(
    skips: Sequence[Skip | SkippedSpan], won: Mapping[Occurrence, int]
) -> Iterator[OccurrenceConcluded]:
    """Yield an event for each row made for a skip.

    The rows hold fewer occurrences than the skip names when some occurrences already had a row.
    """
    of_automation: dict[str, list[Skip | SkippedSpan]] = {}
    for skip in skips:
        of_automation.setdefault(skip.occurrence.automation_id, []).append(skip)
    for first, count in won.items():
        for skip in of_automation.get(first.automation_id, ()):
            if skip.occurrence.scheduled_for <= first.scheduled_for <= skip.last:
                yield OccurrenceConcluded(
                    occurrence=first,
                    automation=skip.name,
                    outcome=Outcome.SKIPPED,
                    reason=skip.reason,
                    count=count,
                )
                break
