"""Reconciler: find the outcome of an unknown attempt by reading the automation, never by sending again."""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from scheduler.core.model import Outcome, Reason
from scheduler.core.verdict import (
    Covered,
    FoundRun,
    NothingStarted,
    RunReading,
    UnknownAttempt,
    has_appeared_late,
    reconcile,
)
from scheduler.daemon.automation_cache import AutomationCache, AutomationReading
from scheduler.daemon.context import Context
from scheduler.daemon.delivery import Delivery

GIVE_UP_AFTER: Final = 24 * 3600.0
"""Seconds without a result after which an attempt is unresolved. Only the time of this process counts."""
LOOK_EVERY: Final = 5.0
"""Seconds between two readings while the attempt may still start a run."""
DEFAULT_MARGIN: Final = 2.0
"""Largest error of the clock offset, in seconds, when the API shows no ``Date``."""


@dataclass(frozen=True, slots=True)
class ReconciledOutcome:
    """Outcome found by a reconciliation. ``run_id`` and ``run_at`` are set when the run was found."""

    outcome: Outcome
    reason: Reason
    error: str | None = None
    run_id: str | None = None
    run_at: datetime | None = None


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

    def __init__(self, context: Context, readings: AutomationCache) -> None:
        self._context = context
        self._cache = readings
        self._since = context.clock.boottime()

    async def reconcile(
        self, automation_id: str, doubt: UnknownAttempt, *, not_before: float = 0.0
    ) -> ReconciledOutcome | NotStartedProof:
        """Read the automation until the attempt is resolved.

        After 24 h of this process without a result, the outcome is unresolved.
        No reading begins before ``not_before``, on the boot-time clock.
        """
        remaining = max(doubt.ended, self._since) + GIVE_UP_AFTER - self._context.clock.boottime()
        try:
            async with asyncio.timeout(remaining):
                return await self._read_until_resolved(automation_id, doubt, not_before)
        except TimeoutError:
            return ReconciledOutcome(
                Outcome.UNRESOLVED,
                Reason.UNREADABLE,
                "it could not be found out for 24 hours whether a run was started",
            )

    async def _read_until_resolved(
        self, automation_id: str, doubt: UnknownAttempt, not_before: float
    ) -> ReconciledOutcome | NotStartedProof:
        earlier: RunReading | None = None
        since = max(not_before, self._context.clock.boottime())
        while True:
            await asyncio.sleep(max(0.0, since - self._context.clock.boottime()))
            seen = await self._cache.read(automation_id, since=since)
            if seen is None:
                return ReconciledOutcome(
                    Outcome.UNRESOLVED,
                    Reason.GONE,
                    "the automation was deleted before it could be found out whether a run was started",
                )
            if self._has_clock_stepped_since(seen):
                since = self._context.clock.boottime()
                continue
            reading, margin = self._make_reading(seen)
            doubt = self._adjust_to_clock(doubt)
            match reconcile(doubt, reading, earlier, margin=margin, taken=self._cache.is_taken):
                case FoundRun(run_id=run_id):
                    return ReconciledOutcome(
                        Outcome.ACCEPTED, Reason.FOUND, None, run_id, seen.automation.run_at
                    )
                case Covered(run_id=run_id):
                    return ReconciledOutcome(
                        Outcome.UNRESOLVED,
                        Reason.COVERED,
                        f"run {run_id} began later and hides whether ours was started",
                    )
                case NothingStarted():
                    assert earlier is not None
                    return NotStartedProof(earlier, reading, margin)
            earlier = reading
            since = self._find_next_look(doubt)

    def is_not_started(self, doubt: UnknownAttempt, by: NotStartedProof) -> bool:
        """Return whether the readings that resolved one attempt as not started do so for another attempt too.

        Both attempts belong to the same automation.
        """
        doubt = self._adjust_to_clock(doubt)
        finding = reconcile(doubt, by.newest, by.earlier, margin=by.margin, taken=self._cache.is_taken)
        return doubt.ended <= by.earlier.begun and isinstance(finding, NothingStarted)

    def find_late_run(self, carried: Delivery) -> ReconciledOutcome | None:
        """Return the outcome of an attempt with a late run, after the attempt was resolved as not started.

        Return None when the newest reading shows no late run.
        """
        seen = (
            None
            if carried.unstarted_attempt is None
            else self._cache.find_newest(carried.occurrence.automation_id)
        )
        if carried.unstarted_attempt is None or seen is None or self._has_clock_stepped_since(seen):
            return None
        reading, margin = self._make_reading(seen)
        doubt = self._adjust_to_clock(carried.unstarted_attempt)
        # Without a known send instant, no run can be compared with the attempt.
        if doubt.sent == float("-inf"):
            return None
        if not has_appeared_late(doubt, reading, margin=margin, taken=self._cache.is_taken):
            return None
        return ReconciledOutcome(Outcome.ACCEPTED, Reason.FOUND, None, reading.run_id, reading.run_at)

    def _has_clock_stepped_since(self, seen: AutomationReading) -> bool:
        """Return whether the wall clock was set since the reading: its instants do not fit the clock now."""
        self._context.watch.check()
        return self._context.watch.has_stepped_since(seen.begun)

    def _make_reading(self, seen: AutomationReading) -> tuple[RunReading, float]:
        """Return the reading with the run's start on the boot-time clock, and the margin of this start.

        The margin is the largest error, in seconds.
        """
        clock, automation = self._context.clock, seen.automation
        offset, margin = self._context.upstream.clock_offset or (0.0, DEFAULT_MARGIN)
        if automation.run_at is None:
            return RunReading(seen.begun, automation.run_id, None), margin
        age = (clock.now() - automation.run_at).total_seconds() + offset
        return RunReading(seen.begun, automation.run_id, clock.boottime() - age, automation.run_at), margin

    def _adjust_to_clock(self, doubt: UnknownAttempt) -> UnknownAttempt:
        """Return the unknown attempt with instants corrected by the API's clock.

        The instants of an attempt from another process come from the wall clock, which may have been set
        since. When the API's clock shows another age, the attempt counts as ended at the start of this
        process. Without a clock offset at the send, the attempt may have been sent at any earlier time.
        """
        offset, clock = self._context.upstream.clock_offset, self._context.clock
        if doubt.ended >= self._since or offset is None:
            return doubt
        if doubt.sent_by_api is None:
            return replace(doubt, sent=float("-inf"), ended=self._since)
        sent = clock.boottime() - (clock.now() - doubt.sent_by_api).total_seconds() - offset[0]
        if abs(sent - doubt.sent) <= 2 * offset[1]:
            return doubt
        return replace(doubt, sent=sent if doubt.sent == float("-inf") else doubt.sent, ended=self._since)

    def _find_next_look(self, doubt: UnknownAttempt) -> float:
        now = self._context.clock.boottime()
        return min(now + LOOK_EVERY, max(doubt.settles_at, now + 1.0))
