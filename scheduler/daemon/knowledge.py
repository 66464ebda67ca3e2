"""Knowledge of a target: the age and the confirmation of its snapshot, and the pauses of operators."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.pauses import EVERYTHING
from scheduler.daemon.context import Context

PAUSES_FRESH_FOR: Final = 0.5
"""Seconds for which the pauses last read from the ledger count."""


class TargetKnowledge:
    """Knowledge of one target."""

    def __init__(self, context: Context) -> None:
        self._context = context
        # No daemon ran before this instant. None after the first good poll, which confirms older due
        # occurrences.
        self.absent_until: datetime | None = None
        self.first_poll_wait: Step | None = None  # from the start of this process until its first good poll
        self.snapshot_at: datetime | None = None
        self.fresh_since = float("-inf")  # when a good poll ended a time of a stale snapshot
        self.paused_ids: frozenset[str] = frozenset()  # paused by an operator, as last read from the ledger
        self._pauses_lock = asyncio.Lock()
        self._pauses_read_at = float("-inf")

    @property
    def is_stale(self) -> bool:
        """Whether the newest snapshot is older than `stale_limit`, or missing."""
        return (
            self.snapshot_at is None
            or self._context.clock.now() - self.snapshot_at > self._context.settings.stale_limit
        )

    def note_good_poll(self, at: datetime) -> None:
        """Note a good poll from ``at``.

        The poll confirms the occurrences that came due before this process began.
        """
        if self.is_stale:
            self.fresh_since = self._context.clock.boottime()
        if self.absent_until is not None:
            self.first_poll_wait = Step(
                self.absent_until, Cause.UNCONFIRMED, max(self.absent_until, self._context.clock.now())
            )
        self.absent_until = None
        self.snapshot_at = at

    def note_clock_step(self, seconds: float) -> None:
        """Shift all instants of the wall clock after a clock step of ``seconds`` (positive: ahead)."""
        step = timedelta(seconds=seconds)
        self.absent_until = None if self.absent_until is None else self.absent_until + step
        self.snapshot_at = None if self.snapshot_at is None else self.snapshot_at + step
        self.first_poll_wait = None  # measured by the clock before the step

    # ------------------------------------------------------------ pauses

    def is_paused(self, automation_id: str) -> bool:
        """Return whether an operator had paused the automation at the last reading of the pauses."""
        return EVERYTHING in self.paused_ids or automation_id in self.paused_ids

    @property
    def has_fresh_pauses(self) -> bool:
        """Whether the pauses were read at most `PAUSES_FRESH_FOR` seconds ago."""
        return self._context.clock.boottime() - self._pauses_read_at <= PAUSES_FRESH_FOR

    async def refresh_pauses(self, failed: Callable[[], None]) -> None:
        """Read the pauses from the ledger unless they are fresh. ``failed`` is called after each failure.

        After the release of a target, thousands of deliveries ask at the same time.
        """
        async with self._pauses_lock:
            if self.has_fresh_pauses:
                return  # another delivery read the pauses meanwhile
            context = self._context
            self.paused_ids = await context.retry_read(
                "pauses", lambda: context.ledger.read_pauses(context.target), failed
            )
            self._pauses_read_at = context.clock.boottime()
