"""Context of one target: the settings, ports and present state for all parts that serve the target.

The state includes the knowledge about the target: the age and the confirmation of its snapshot, and the
pauses of operators.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.cron.schedule import Schedule
from scheduler.core.events import Event
from scheduler.core.model import Run, RunOrigin
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.pauses import EVERYTHING
from scheduler.core.policy import Policies
from scheduler.core.timetable import Timetable
from scheduler.daemon.breaker import CircuitBreaker, TargetThrottle
from scheduler.daemon.clock import ClockWatch
from scheduler.daemon.ledger_health import LedgerHealth
from scheduler.daemon.ports import DaemonClock, Ledger, Publish, Upstream

PAUSES_FRESH_FOR: Final = 0.5
"""Seconds for which the pauses last read from the ledger count."""
_EVENTS_AT_ONCE: Final = 50
"""Events published before other tasks run: some five milliseconds."""


Parse = Callable[[str, str], Schedule]
"""Parser of a cron expression in a time zone."""


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """Settings of one target, in the form for the parts of the daemon."""

    name: str
    url: str
    project_id: str
    policies: Callable[[str, str], Policies]
    idempotent: bool
    max_in_flight: int
    max_waiting: int
    poll_interval: timedelta
    fresh_for: timedelta
    stale_limit: timedelta
    settle_time: timedelta
    run_timeout: timedelta


@dataclass(slots=True)
class Context:
    """Shared state of one target. A reload of the configuration replaces ``settings`` and ``upstream``."""

    settings: TargetSettings
    upstream: Upstream
    ledger: Ledger
    clock: DaemonClock
    watch: ClockWatch
    health: LedgerHealth
    publish: Publish
    parse: Parse
    timetable: Timetable = field(init=False)
    throttle: TargetThrottle = field(init=False)
    breaker: CircuitBreaker = field(init=False)
    knowledge: "TargetKnowledge" = field(init=False)
    _begun_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self._begun_at = self.clock.now()
        self.timetable = self.make_timetable()
        self.throttle = TargetThrottle(self.settings.name, self.clock, self.publish)
        self.breaker = CircuitBreaker(self.settings.name, self.clock, self.publish, self.throttle)
        self.knowledge = TargetKnowledge(self)

    @property
    def target(self) -> str:
        """Name of the target."""
        return self.settings.name

    @property
    def clock_offset(self) -> float | None:
        """API clock minus local clock, in seconds; None until the API has shown a ``Date``."""
        offset = self.upstream.clock_offset
        return None if offset is None else offset[0]

    def make_timetable(self) -> Timetable:
        """Make an empty timetable of the target. Policies are those of the present settings at each use."""
        return Timetable(self.target, now=self._begun_at, policies=self._find_policies, schedule=self.parse)

    def _find_policies(self, automation_id: str, name: str) -> Policies:
        return self.settings.policies(automation_id, name)

    async def find_run_origin(self, run: Run) -> RunOrigin | None:
        """Return the recorded origin of a run. Retries until the ledger answers."""
        return await self.health.retry_read("origin", lambda: self.ledger.find_run_origin(self.target, run))

    async def publish_all(self, events: Iterable[Event]) -> None:
        """Publish events, a few at a time.

        Ten thousand log lines take a second, and due occurrences must not wait for log lines.
        """
        for number, event in enumerate(events, 1):
            self.publish(event)
            if number % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)


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
        now, limit = self._context.clock.now(), self._context.settings.stale_limit
        return self.snapshot_at is None or now - self.snapshot_at > limit

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

    async def refresh_pauses(self, on_failure: Callable[[], None]) -> None:
        """Read the pauses from the ledger unless they are fresh.

        After the release of a target, thousands of deliveries ask at the same time.
        """
        async with self._pauses_lock:
            if self.has_fresh_pauses:
                return  # another delivery read the pauses meanwhile
            context = self._context
            self.paused_ids = await context.health.retry_read(
                "pauses", lambda: context.ledger.read_pauses(context.target), on_failure
            )
            self._pauses_read_at = context.clock.boottime()
