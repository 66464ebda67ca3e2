"""Turns what is due into claims, shortly before it is due, and hands them to the dispatcher."""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.backlog_decisions import decide_late
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import OccurrenceClaimed, OccurrenceConcluded
from scheduler.core.model import Attempt, Claim, Occurrence, Reason, Skip, SkippedSpan, State
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.policy import Concurrency, Decision, FireTime, Policies, SkipDecision, StartDecision, decide, make_fire_time
from scheduler.core.timetable import DueFireTimes, LateInterval, TimetableEntry
from scheduler.daemon.admission import Admission
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.clock import Alarm
from scheduler.daemon.context import Context, back_off
from scheduler.daemon.delivery import Delivery
from scheduler.daemon.dispatcher import Dispatcher
from scheduler.daemon.snapshot_outbox import SnapshotOutbox

AHEAD: Final = timedelta(seconds=1)
"""Claims are made durable this long before they are due, so that the first byte leaves on time. At most 2 s."""

AT_ONCE: Final = 2_000
"""Automations that are planned in one transaction: more of them must keep neither the event loop nor the ledger for long."""


_MOST_HINDRANCES: Final = 20
"""Hindrances that are kept apart; whatever comes later counts as the last of them."""
FIRST_SLICE: Final = 64
LARGEST_SLICE: Final = 1000
"""So many stretches of the past are decided at once, the first time and at most."""
SLICE_SECONDS: Final = 0.1
"""A slice that took longer to write makes the next one smaller."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """One transaction's worth of decisions."""

    claims: list[tuple[Claim, TimetableEntry]]
    skips: list[Skip]
    starts: list[tuple[TimetableEntry, datetime]] = field(default_factory=list)  # what the older occurrences are coalesced into


class Planner:
    """Sleeps until something is due, or is told that what is due has changed."""

    def __init__(
        self, context: Context, readings: AutomationCache, clearance: Admission, record: SnapshotOutbox, dispatcher: Dispatcher
    ) -> None:
        self._context = context
        self._cache = readings
        self._admission = clearance
        self._outbox = record
        self._dispatcher = dispatcher
        self.alarm = Alarm(context.clock)
        context.health.listen(self.alarm.ring)
        self.has_planned = False  # what is due, at least once since this process began
        self._claimed_at = -math.inf  # when claims were last made
        self._expected_at = context.clock.boottime()  # progress is expected from here on
        self.absent_until = context.clock.now()
        self.known_until: datetime | None = None  # what the ledger knew of when this process began reaches up to here
        self._rewind_to: datetime | None = None  # the earliest instant that the clock went back to since the timetable was told
        self._stopping = False
        self._slice_size = FIRST_SLICE
        self._hindrances: list[Step] = []  # what has kept it from planning since it last did, one after the other; the last goes on
        self._warm_queue: asyncio.Queue[int] = asyncio.Queue()
        self._listeners: list[Callable[[], None]] = []

    def note_clock_step(self, seconds: float) -> None:
        """Ahead by so many seconds. After a step back, what lies ahead again is to be planned again before anything else is."""
        self.expect_progress()
        self.absent_until += timedelta(seconds=seconds)
        if seconds < 0:
            self._rewind(self._context.clock.now())

    def expect_progress(self, after: float = 0.0) -> None:
        """Count a standstill from now on, or from so many seconds later."""
        self._expected_at = self._context.clock.boottime() + after

    def measure_stall(self) -> float:
        """Return the seconds without progress while something is due or a pass has not ended; 0 when all is well.

        The timetable says what is due, so that a planner that sleeps on and one that is never woken are noticed too.
        """
        self._context.watch.check()
        quiet = self._context.clock.boottime() - max(self._expected_at, self._admission.fresh_since)
        return max(min(quiet, max(self.alarm.measure_stall(), self._measure_delay())), 0.0)

    def _measure_delay(self) -> float:
        wake_at = self._context.timetable.wake_at
        if wake_at is None or not self.may_plan():
            return -math.inf
        return (self._context.clock.now() - wake_at).total_seconds()

    def is_due_within(self, seconds: float) -> bool:
        """Whether something is due by then and not planned."""
        return self._measure_delay() > -seconds

    def measure_time_since_claims(self) -> float:
        """Return the seconds since claims were last made; infinite before the first."""
        return self._context.clock.boottime() - self._claimed_at

    @property
    def hindrance(self) -> Step | None:
        """What keeps it from planning now, and since when; None: nothing does."""
        return self._hindrances[-1] if self._hindrances else None

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when what is due next has changed."""
        self._listeners.append(listener)

    def stop(self) -> None:
        """Claim nothing more. What is being claimed is claimed to the end: half a claim would have to be found out."""
        self._stopping = True
        self.alarm.ring()

    async def run(self) -> None:
        """Plan until told to stop."""
        async with asyncio.TaskGroup() as group:
            warming = group.create_task(self._warm_connections())
            await self._plan_forever()
            warming.cancel()

    async def _warm_connections(self) -> None:
        """Open connections for what was claimed. On its own, since a connection that hangs must not keep the next claims waiting."""
        while True:
            connections = await self._warm_queue.get()
            await self._context.upstream.warm(connections)  # the upstream by now: a reload may have replaced it meanwhile

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
                self.expect_progress(pause)  # a ledger that fails is no standstill: the next try is
                await self.alarm.sleep(pause)
                continue
            failures = 0
            self.expect_progress()
            for listener in self._listeners:
                listener()
            if not goes_on:
                await self.alarm.sleep_until(self._find_wake_time())

    def _find_wake_time(self) -> datetime | None:
        if not self.may_plan():
            return None  # a poll rings when that changes
        wake_at = self._context.timetable.wake_at
        return None if wake_at is None else wake_at - AHEAD

    def may_plan(self) -> bool:
        """Whether the snapshot and the clock are good enough to plan by."""
        return not (self._admission.is_stale or self._context.watch.is_in_doubt)

    async def _plan(self) -> bool:
        """Plan what is due, or else a slice of the undecided past. Return whether there is more to decide at once."""
        self._context.watch.check()
        if not self.may_plan():
            self._note_hindrance(Cause.CLOCK if self._context.watch.is_in_doubt else Cause.STALE)
            return False
        context = self._context
        self._admission.paused_ids = await context.ledger.read_pauses(context.target)
        await self._sync_with_ledger()
        context.watch.check()
        if not self.may_plan() or self._rewind_to is not None:
            return False  # the clock was set meanwhile, and has rung the alarm
        dues = context.timetable.collect_due(context.clock.now() + AHEAD, absent_until=self.absent_until)
        if dues:
            await self._plan_due(dues[:AT_ONCE])
        else:
            await self._plan_late_slice()
        if len(dues) > AT_ONCE:
            return not self._stopping
        self._hindrances.clear()
        self.has_planned = True
        return context.timetable.has_backlog and not self._stopping

    async def _plan_due(self, dues: Sequence[DueFireTimes]) -> None:
        context = self._context
        written = context.clock.boottime()
        plan = self._decide_due(dues)
        self._note_coalescences(plan)
        won = await context.ledger.claim(
            context.target,
            [claim for claim, _ in plan.claims],
            plan.skips,
            context.timetable.compute_watermark(context.clock.now(), planned=dues),
            gaps=context.timetable.find_gaps(),
        )
        context.health.note_success()
        context.timetable.mark_durable(dues)
        for entry, instant in plan.starts:
            entry.claimed = max(entry.claimed or instant, instant)
        if won:
            self._claimed_at = context.clock.boottime()
        self._hand_over(plan, won, written)
        self._warm_queue.put_nowait(min(len(won), context.settings.max_in_flight))
        await context.publish_all(
            _make_concluded_event(skip, first, count) for skip in plan.skips for first, count in _iterate_skip_rows(skip, won)
        )

    async def _plan_late_slice(self) -> None:
        """Decide a slice of the past that is too late to be started. It is durable before the next slice is looked at."""
        context, timetable = self._context, self._context.timetable
        overdue = timetable.find_late(self._slice_size)
        if not overdue:
            return
        now, began = context.clock.now(), context.clock.boottime()
        spans = [span for each in overdue for span in self._make_spans(each, now)]
        gaps = timetable.find_gaps(overdue)
        won = await context.ledger.claim(context.target, [], [], timetable.compute_watermark(now), spans=spans, gaps=gaps)
        context.health.note_success()
        timetable.mark_late_durable(overdue)
        self._adapt_slice(context.clock.boottime() - began)
        await context.publish_all(
            _make_concluded_event(span, occurrence, count) for occurrence, span, count in _iterate_span_rows(spans, won)
        )

    def _adapt_slice(self, took: float) -> None:
        """Keep slices short: what falls due waits for the slice that is being written, and a slice may meet many rows that are there."""
        if took > SLICE_SECONDS:
            self._slice_size = max(self._slice_size // 2, 1)
        elif took < SLICE_SECONDS / 2:
            self._slice_size = min(self._slice_size * 2, LARGEST_SLICE)

    def _make_spans(self, overdue: LateInterval, now: datetime) -> Iterator[SkippedSpan]:
        """One row for each fate in a stretch: no instant of it is listed."""
        entry, stretch, automation = overdue.entry, overdue.interval, overdue.entry.automation
        paused = self._admission.is_paused(automation.id)
        for passed in decide_late(stretch, entry.policies, paused=paused, claimed=entry.claimed):
            extent = passed.extent
            due = make_fire_time(entry.policies, self._context.target, automation.id, extent.first, extent.second).due
            occurrence = Occurrence(self._context.target, automation.id, extent.first)
            yield SkippedSpan(
                occurrence, automation.name, due, stretch.definition, stretch.schedule, extent.last, extent.count, passed.reason, now
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
        """Have on record what plans rest on. After the clock went back, the timetable goes on from what the ledger has left."""
        context, settings, now = self._context, self._context.settings, self._context.clock.now()
        if self.known_until is not None and now < self.known_until:
            self._rewind(now)  # it did so while nobody ran
        self.known_until = None
        await self._outbox.write_prerequisites()
        while self._rewind_to is not None:
            recorded = await context.ledger.bind(settings.name, settings.url, settings.project_id)
            if self._outbox.is_behind:  # there was news meanwhile, of which this does not know
                await self._outbox.write_prerequisites()
                continue
            context.timetable.rewind(self._rewind_to, watermark=recorded.watermark or self._rewind_to, ended=recorded.ended)
            self._rewind_to = None

    # ------------------------------------------------------------ deciding

    def _decide_due(self, dues: Sequence[DueFireTimes]) -> _Plan:
        now, plan = self._context.clock.now(), _Plan([], [])
        shared: dict[tuple[int, Policies, bool, datetime | None], list[Decision]] = {}
        for due in dues:
            automation_id = due.entry.automation.id
            paused = self._admission.is_paused(automation_id)
            policies, claimed = due.entry.policies, due.entry.claimed
            key = (id(due.fire_times), policies, paused, claimed)
            if key not in shared:
                shared[key] = decide(due.fire_times, policies, now=now, absent_until=self.absent_until, paused=paused, claimed=claimed)
            for decision in shared[key]:
                self._add_decision(plan, due.entry, decision, now)
        return plan

    def _add_decision(self, plan: _Plan, entry: TimetableEntry, decision: Decision, now: datetime) -> None:
        if isinstance(decision, SkipDecision):
            plan.skips.append(self._make_skip(entry, decision.fire_times, decision.reason, now))
            return
        plan.starts.append((entry, decision.fire_time.scheduled_for))
        if entry.end_reason is not None:  # the version that implied it was in force then, and nobody wants it any more
            error = f"the automation was {entry.end_reason} before it could be sent"
            plan.skips.append(self._make_skip(entry, [decision.fire_time], Reason.DELETED, now, error))
        else:
            first = not plan.claims or plan.claims[-1][1] is not entry  # the others wait behind it
            plan.claims.append((self._make_claim(entry, decision, now, first=first), entry))

    def _make_skip(
        self, entry: TimetableEntry, moments: Sequence[FireTime], reason: Reason, now: datetime, error: str | None = None
    ) -> Skip:
        automation = entry.automation
        occurrence = Occurrence(self._context.target, automation.id, moments[0].scheduled_for)
        return Skip(occurrence, automation.name, moments[0].due, [each.scheduled_for for each in moments], reason, now, error)

    def _make_claim(self, entry: TimetableEntry, decision: StartDecision, now: datetime, *, first: bool) -> Claim:
        automation, moment = entry.automation, decision.fire_time
        occurrence = Occurrence(self._context.target, automation.id, moment.scheduled_for)
        attempt = None
        if first and self._may_send_at_once(entry):
            attempt = Attempt(1, now, self._cache.find_baseline(automation.id), self._context.clock_offset)
        return Claim(occurrence, automation.name, moment.due, moment.deadline, now, attempt)

    def _may_send_at_once(self, entry: TimetableEntry) -> bool:
        """Whether nothing is known that will make it wait, so that its first attempt can ride in the claim's transaction."""
        return (
            entry.policies.concurrency is Concurrency.ALLOW
            and not self._context.timetable.needs_reading(entry.automation.id)
            and self._context.breaker.measure_wait() == 0
            and not self._context.breaker.is_half_open
            and self._dispatcher.find_queue(entry.automation.id) is None
        )

    # ------------------------------------------------------------ handing over

    def _hand_over(self, plan: _Plan, won: Mapping[Occurrence, int], written: float) -> None:
        ours = [(claim, entry) for claim, entry in plan.claims if claim.occurrence in won]
        for claim, _ in ours:
            self._context.publish(OccurrenceClaimed(occurrence=claim.occurrence, automation=claim.name))
        self._dispatcher.take(_make_delivery(claim, entry, written, self._explain_late_claim(claim)) for claim, entry in ours)
        self._note_coalescences(plan)

    def _note_coalescences(self, plan: _Plan) -> None:
        """What is on its way and coalesces an older occurrence of the plan keeps its row, also when it is not due yet."""
        for skip in plan.skips:
            if skip.reason is Reason.COALESCED and (lane := self._dispatcher.find_queue(skip.occurrence.automation_id)) is not None:
                lane.note_coalescence(skip.instants[-1])

    def _explain_late_claim(self, claim: Claim) -> list[Step]:
        """Return the steps that explain why the claim was made late; none when it was made in time."""
        if claim.claimed_at - claim.due < AHEAD:
            return []
        steps, since = list[Step](), claim.due
        if claim.due <= self.absent_until:
            steps.append(Step(claim.due, Cause.ABSENT, min(self.absent_until, claim.claimed_at)))
        first_poll = self._admission.first_poll_wait
        if first_poll is not None and first_poll.until is not None and claim.due <= first_poll.at:
            since = first_poll.until
            steps.append(first_poll)
        for hindrance in self._hindrances:
            steps.append(replace(hindrance, at=max(hindrance.at, since), until=hindrance.until or claim.claimed_at))
        return [step for step in steps if step.cause is Cause.ABSENT or (step.until is not None and step.until - step.at >= AHEAD)]


def _make_delivery(claim: Claim, entry: TimetableEntry, written: float, steps: list[Step]) -> Delivery:
    return Delivery(
        claim.occurrence,
        claim.name,
        claim.due,
        claim.deadline,
        is_late=claim.claimed_at > claim.due,
        entry=entry,
        state=State.WAITING if claim.attempt is None else State.CLAIMED,
        attempt=claim.attempt,
        written_boottime=None if claim.attempt is None else written,
        steps=steps,
    )


def _iterate_skip_rows(skip: Skip, won: Mapping[Occurrence, int]) -> Iterator[tuple[Occurrence, int]]:
    """The rows that were made for it, and how many each holds. Fewer than it names, when some of it had a row already."""
    for instant in skip.instants:
        occurrence = replace(skip.occurrence, scheduled_for=instant)
        if (count := won.get(occurrence)) is not None:
            yield occurrence, count


def _iterate_span_rows(spans: Sequence[SkippedSpan], won: Mapping[Occurrence, int]) -> Iterator[tuple[Occurrence, SkippedSpan, int]]:
    """The rows that were made for spans, with the span of each and how many occurrences it holds."""
    of_each: dict[str, list[SkippedSpan]] = {}
    for span in spans:
        of_each.setdefault(span.occurrence.automation_id, []).append(span)
    for occurrence, count in won.items():
        for span in of_each[occurrence.automation_id]:
            if span.occurrence.scheduled_for <= occurrence.scheduled_for <= span.last:
                yield occurrence, span, count
                break


def _make_concluded_event(skip: Skip | SkippedSpan, first: Occurrence, count: int) -> OccurrenceConcluded:
    return OccurrenceConcluded(occurrence=first, automation=skip.name, outcome=skip.outcome, reason=skip.reason, count=count)
