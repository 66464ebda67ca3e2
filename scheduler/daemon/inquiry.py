"""Finding out what became of an attempt whose outcome is unknown, by reading the automation. Never by sending again."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.model import Outcome, Reason
from scheduler.core.verdict import Covered, Doubt, FoundRun, NothingStarted, Reading, find_out
from scheduler.daemon.context import Context
from scheduler.daemon.readings import Readings

GIVE_UP_AFTER: Final = timedelta(hours=24)
LOOK_EVERY: Final = 5.0
"""Seconds between two readings while the attempt may still be carried out."""
DEFAULT_MARGIN: Final = 2.0
"""How far off the clock difference may be when the API shows no Date. Seconds."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What an inquiry came to. ``run_id`` and ``run_at`` are set when the run was found; no ``outcome``: nothing was started."""

    outcome: Outcome | None
    reason: Reason | None = None
    error: str | None = None
    run_id: str | None = None
    run_at: datetime | None = None


class Inquiry:
    """One target's way of finding out."""

    def __init__(self, context: Context, readings: Readings) -> None:
        self._context = context
        self._readings = readings

    async def resolve(self, automation_id: str, doubt: Doubt, *, not_before: float = 0.0) -> Resolved:
        """Read until it is clear, or until it has been unclear for 24 h. Asks nothing before ``not_before``."""
        clock = self._context.clock
        remaining = (doubt.ended_at + GIVE_UP_AFTER - clock.now()).total_seconds()
        try:
            async with asyncio.timeout(max(remaining, doubt.settled - clock.seconds() + LOOK_EVERY)):
                return await self._read_on(automation_id, doubt, not_before)
        except TimeoutError:
            return Resolved(Outcome.UNRESOLVED, Reason.UNREADABLE, "it could not be found out for 24 hours whether a run was started")

    async def _read_on(self, automation_id: str, doubt: Doubt, not_before: float) -> Resolved:
        earlier: Reading | None = None
        since = max(not_before, self._context.clock.seconds())
        while True:
            await asyncio.sleep(max(0.0, since - self._context.clock.seconds()))
            seen = await self._readings.read(automation_id, since=since)
            if seen is None:
                return Resolved(
                    Outcome.UNRESOLVED, Reason.GONE, "the automation was deleted before it could be found out whether a run was started"
                )
            offset, margin = self._context.upstream.clock_offset or (0.0, DEFAULT_MARGIN)
            match find_out(doubt, seen.reading, earlier, offset=offset, margin=margin, taken=self._readings.is_taken):
                case FoundRun(run_id=run_id):
                    return Resolved(Outcome.ACCEPTED, Reason.FOUND, None, run_id, seen.automation.run_at)
                case Covered(run_id=run_id):
                    return Resolved(Outcome.UNRESOLVED, Reason.COVERED, f"run {run_id} began later and hides whether ours was started")
                case NothingStarted():
                    return Resolved(None)
            earlier = seen.reading
            since = self._next_look(doubt)

    def _next_look(self, doubt: Doubt) -> float:
        now = self._context.clock.seconds()
        return min(now + LOOK_EVERY, max(doubt.settled, now + 1.0))
