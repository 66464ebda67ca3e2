"""Context of one target: the settings, ports and present state for all parts that serve the target."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Final, TypeVar

from scheduler.core.errors import LedgerUnavailable, UpstreamError
from scheduler.core.events import Event
from scheduler.core.policy import Policies
from scheduler.core.timetable import Timetable
from scheduler.daemon.back_off import back_off
from scheduler.daemon.breaker import CircuitBreaker
from scheduler.daemon.clock import ClockWatch
from scheduler.daemon.ledger_health import LedgerHealth
from scheduler.daemon.ports import DaemonClock, Ledger, Publish, Upstream
from scheduler.daemon.throttle import TargetThrottle

_T = TypeVar("_T")

_EVENTS_AT_ONCE: Final = 50
"""Events published before other tasks run: some five milliseconds."""


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
    timetable: Timetable
    throttle: TargetThrottle = field(init=False)
    breaker: CircuitBreaker = field(init=False)

    def __post_init__(self) -> None:
        self.throttle = TargetThrottle(self.settings.name, self.clock, self.publish)
        self.breaker = CircuitBreaker(self.settings.name, self.clock, self.publish, self.throttle)

    @property
    def target(self) -> str:
        """Name of the target."""
        return self.settings.name

    @property
    def clock_offset(self) -> float | None:
        """API clock minus local clock, in seconds; None until the API has shown a ``Date``."""
        offset = self.upstream.clock_offset
        return None if offset is None else offset[0]

    def note_refused_reading(self, error: Exception) -> None:
        """Throttle the target when a 429 with ``Retry-After`` refused the reading of an automation."""
        if (
            isinstance(error, UpstreamError)
            and error.status == HTTPStatus.TOO_MANY_REQUESTS
            and error.retry_after
        ):
            self.breaker.throttle(error.retry_after)

    async def publish_all(self, events: Iterable[Event]) -> None:
        """Publish events, a few at a time.

        Ten thousand log lines take a second, and due occurrences must not wait for log lines.
        """
        for number, event in enumerate(events, 1):
            self.publish(event)
            if number % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def retry_write(self, operation: str, write: Callable[[], Awaitable[_T]]) -> _T:
        """Write to the ledger, with retries until the write is durable. Nothing may go on before."""
        done = await self.retry_read(operation, write)
        self.health.note_success()
        return done

    async def retry_read(
        self, operation: str, read: Callable[[], Awaitable[_T]], failed: Callable[[], None] | None = None
    ) -> _T:
        """Read the ledger, with retries until the read works. A read says nothing about the health of writes.

        ``failed`` is called after each failure.
        """
        failures = 0
        while True:
            try:
                return await read()
            except LedgerUnavailable as error:
                failures += 1
                self.health.note_failure(operation, str(error))
                if failed is not None:
                    failed()
                await self.health.wait_for_retry(back_off(failures))
