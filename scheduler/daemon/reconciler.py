"""Reconciler: find the outcome of an unknown attempt by reading the automation, never by sending again."""

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from scheduler.core.actions import NewestReading
from scheduler.core.delivery import Delivery
from scheduler.core.model import Conclusion, Outcome, Reason, Run, RunStatus
from scheduler.core.reconcile import ReconcileResult, RunReading, UnknownAttempt, has_appeared_late, reconcile
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.context import Context

GIVE_UP_AFTER: Final = 24 * 3600.0
"""Seconds without a result after which an attempt is unresolved. Only the time of this process counts."""
LOOK_EVERY: Final = 5.0
"""Seconds between two readings while the attempt may still start a run."""
DEFAULT_MARGIN: Final = 2.0
"""Largest error of the clock offset, in seconds, when the API shows no ``Date``."""
_GONE: Final = "the automation was deleted before it could be found out whether a run was started"


@dataclass(frozen=True, slots=True)
class NotStartedProof:
    """Two readings in agreement that nothing was started.

    ``margin`` is the largest error of their instants, in seconds.
    """

    earlier: RunReading
    newest: RunReading
    margin: float


class Reconciler:
    """Reconciles the unknown attempts of one target."""

    def __init__(self, context: Context, cache: AutomationCache) -> None:
        self._context = context
        self._cache = cache
        self._since = context.clock.boottime()

    async def reconcile(self, delivery: Delivery) -> Conclusion | NotStartedProof:
        """Read the automation until the unknown attempt is resolved.

        After 24 h of this process without a result, the outcome is unresolved.
        """
        unknown = delivery.unknown_attempt
        assert unknown is not None
        remaining = max(unknown.ended, self._since) + GIVE_UP_AFTER - self._context.clock.boottime()
        try:
            async with asyncio.timeout(remaining):
                return await self._read_until_resolved(delivery, unknown)
        except TimeoutError:
            error = "it could not be found out for 24 hours whether a run was started"
            return self._conclude(delivery, Reason.UNREADABLE, error)

    async def _read_until_resolved(
        self, delivery: Delivery, unknown: UnknownAttempt
    ) -> Conclusion | NotStartedProof:
        automation_id = delivery.occurrence.automation_id
        earlier: RunReading | None = None
        since = max(delivery.not_before, self._context.clock.boottime())
        while True:
            await asyncio.sleep(max(0.0, since - self._context.clock.boottime()))
            seen = await self._cache.read(automation_id, since=since)
            if seen is None:
                return self._conclude(delivery, Reason.GONE, _GONE)
            if self._has_clock_stepped_since(seen):
                since = self._context.clock.boottime()
                continue
            reading, margin = self._make_reading(seen)
            unknown = self._adjust_to_clock(unknown)
            match reconcile(unknown, reading, earlier, margin=margin, taken=self._cache.is_taken):
                case ReconcileResult.FOUND:
                    return self._conclude(delivery, Reason.FOUND, run=_make_run(automation_id, reading))
                case ReconcileResult.COVERED:
                    error = f"run {reading.run_id} began later and hides whether ours was started"
                    return self._conclude(delivery, Reason.COVERED, error)
                case ReconcileResult.NOTHING_STARTED:
                    assert earlier is not None
                    return NotStartedProof(earlier, reading, margin)
            earlier = reading
            now = self._context.clock.boottime()
            since = min(now + LOOK_EVERY, max(unknown.settles_at, now + 1.0))

    def _conclude(
        self, delivery: Delivery, reason: Reason, error: str | None = None, *, run: Run | None = None
    ) -> Conclusion:
        """Accept the occurrence with its run. Without a run, leave the occurrence unresolved."""
        outcome = Outcome.UNRESOLVED if run is None else Outcome.ACCEPTED
        return delivery.make_conclusion(outcome, reason, self._context.clock.now(), error=error, run=run)

    def is_not_started(self, unknown: UnknownAttempt, by: NotStartedProof) -> bool:
        """Return whether the readings that resolved one attempt as not started do so for another attempt too.

        Both attempts belong to the same automation.
        """
        unknown = self._adjust_to_clock(unknown)
        finding = reconcile(unknown, by.newest, by.earlier, margin=by.margin, taken=self._cache.is_taken)
        return unknown.ended <= by.earlier.read_at and finding is ReconcileResult.NOTHING_STARTED

    def find_late_run(self, automation_id: str, unstarted: UnknownAttempt) -> Run | None:
        """Return the run that appeared late, after the attempt was resolved as not started.

        Return None when the newest reading shows no late run.
        """
        seen = self._cache.find_newest(automation_id)
        if seen is None or self._has_clock_stepped_since(seen):
            return None
        reading, margin = self._make_reading(seen)
        unstarted = self._adjust_to_clock(unstarted)
        # Without a known send instant, no run can be compared with the attempt.
        if unstarted.sent == float("-inf"):
            return None
        is_late = has_appeared_late(unstarted, reading, margin=margin, taken=self._cache.is_taken)
        return _make_run(automation_id, reading) if is_late else None

    def _has_clock_stepped_since(self, seen: NewestReading) -> bool:
        """Return whether the wall clock was set since the reading: its instants do not fit the clock now."""
        self._context.watch.check()
        return self._context.watch.has_stepped_since(seen.begun)

    def _make_reading(self, seen: NewestReading) -> tuple[RunReading, float]:
        """Return the reading with the run's start on the boot-time clock, and the margin of this start.

        The margin is the largest error, in seconds.
        """
        clock, automation = self._context.clock, seen.automation
        offset, margin = self._context.upstream.clock_offset or (0.0, DEFAULT_MARGIN)
        if automation.run_at is None:
            return RunReading(seen.begun, automation.run_id, None), margin
        age = (clock.now() - automation.run_at).total_seconds() + offset
        return RunReading(seen.begun, automation.run_id, clock.boottime() - age, automation.run_at), margin

    def _adjust_to_clock(self, unknown: UnknownAttempt) -> UnknownAttempt:
        """Return the unknown attempt with instants corrected by the API's clock.

        The instants of an attempt from another process come from the wall clock, which may have been set
        since. When the API's clock shows another age, the attempt counts as ended at the start of this
        process. Without a clock offset at the send, the attempt may have been sent at any earlier time, and
        only a run near the recorded end is surely the attempt's run.
        """
        offset, clock = self._context.upstream.clock_offset, self._context.clock
        is_corrected = unknown.recorded_end is not None  # a corrected end is no recorded end
        if is_corrected or unknown.sent >= self._since or offset is None:
            return unknown
        if unknown.sent_by_api is None:
            ended = max(unknown.ended, self._since)
            return replace(unknown, sent=float("-inf"), ended=ended, recorded_end=unknown.ended)
        sent = clock.boottime() - (clock.now() - unknown.sent_by_api).total_seconds() - offset[0]
        if unknown.ended >= self._since or abs(sent - unknown.sent) <= 2 * offset[1]:
            return unknown
        return replace(
            unknown, sent=sent if unknown.sent == float("-inf") else unknown.sent, ended=self._since
        )


def _make_run(automation_id: str, reading: RunReading) -> Run:
    return Run(reading.run_id or "", automation_id, reading.run_began_by_api, RunStatus.RUNNING)
