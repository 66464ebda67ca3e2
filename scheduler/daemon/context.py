"""Context of one target: the settings, ports and present state for all parts that serve the target."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from itertools import islice
from typing import Final, TypeVar

from scheduler.core.errors import LedgerUnavailable, UpstreamError
from scheduler.core.events import Event, LedgerFailed, LedgerRecovered, TargetHeld, TargetReleased
from scheduler.core.instants import to_text_seconds
from scheduler.core.policy import Policies
from scheduler.core.timetable import Timetable
from scheduler.daemon.clock import ClockWatch
from scheduler.daemon.ports import DaemonClock, Ledger, Publish, Upstream
from scheduler.daemon.throttle import TargetThrottle

_T = TypeVar("_T")

FIRST_BACK_OFF: Final = 1.0
LONGEST_BACK_OFF: Final = 60.0
_EVENTS_AT_ONCE: Final = 50
"""Events published before other tasks run: some five milliseconds."""
_RETRIED_AT_ONCE: Final = 500
"""Waits for a retry that one write ends: ten thousand retries at once would block the event loop."""
_LOOK_AGAIN: Final = 1.0
"""Seconds after which an attempt checks again while another attempt is the probe and is not sent yet."""


def back_off(failures: int, draw: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after ``failures`` failures in a row.

    The back-off is exponential with full jitter (Exponential Backoff And Jitter, AWS, 2015).
    """
    return max(0.1, draw() * min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2.0 ** min(failures, 10)))


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


class CircuitBreaker:
    """State of the target: whether attempts may be sent now.

    A held target waits for the removal of a cause. A throttled target waits for an instant.

    While the target is held, and after a long throttle, one attempt goes first: the probe.
    The other attempts wait for the end of the probe.
    """

    def __init__(self, target: str, clock: DaemonClock, publish: Publish, throttle: TargetThrottle) -> None:
        self._target = target
        self._clock = clock
        self._publish = publish
        self._throttle = throttle
        self._failures = 0
        self._probe_at = 0.0
        self._not_before = 0.0
        self._probe: object | None = None  # the attempt that is to show whether the target works again
        self.hold_error: str | None = None
        self.is_held_by_list = False

    def hold(self, error: str, *, by_list: bool = False) -> None:
        """Hold the target. The next attempt, after a back-off, is the probe that may release it."""
        self._failures += 1
        probe_at = self._clock.boottime() + back_off(self._failures + 2)
        self._probe_at = max(self._probe_at, probe_at) if by_list else probe_at  # a probe may be in flight
        if self.hold_error != error:
            self._publish(TargetHeld(target=self._target, error=error))
        self.hold_error, self.is_held_by_list = error, by_list

    def release(self) -> None:
        """Release the target, since the target works."""
        if self.hold_error is not None:
            self._publish(TargetReleased(target=self._target))
        self.hold_error = self._probe = None
        self._failures = 0
        self._throttle.end_if_over()

    def note_good_poll(self) -> None:
        """End a hold by the list, and the need of a probe after a throttle, since the list could be read."""
        if self.is_held_by_list:
            self.release()
        self._throttle.end_if_over()

    def throttle(self, seconds: float | None) -> None:
        """Send nothing for ``seconds``. None or 0: send nothing for a back-off."""
        if seconds:
            self._throttle.begin(seconds)
        else:
            self._failures += 1
            self._not_before = max(self._not_before, self._clock.boottime() + back_off(self._failures))

    @property
    def is_half_open(self) -> bool:
        """Whether the probe must go before other attempts."""
        return self.hold_error is not None or self._throttle.needs_probe

    @property
    def obstacle(self) -> str | None:
        """Reason why nothing is sent now, in words for users; None when attempts may be sent."""
        until = self._throttle.until
        if self.hold_error is not None or until is None:
            return self.hold_error
        return f"the API asked to send nothing until {to_text_seconds(until)}"

    @property
    def throttle_end(self) -> str | None:
        """End of the throttle, in the words of the ledger; None when the target is not throttled."""
        until = self._throttle.until
        return None if until is None else f"until {to_text_seconds(until)}"

    def measure_wait(self) -> float:
        """Return the seconds until an attempt may be made."""
        until = max(self._find_send_time(), self._probe_at if self.hold_error is not None else 0.0)
        left = max(0.0, until - self._clock.boottime())
        return max(left, _LOOK_AGAIN) if self._probe is not None and self.is_half_open else left

    def _find_send_time(self) -> float:
        return max(self._not_before, self._throttle.end)

    def admit(self, attempt: object) -> bool:
        """Return whether an attempt may go on.

        When a probe is needed, the first attempt becomes the probe, and the others wait for its end.
        """
        if self._probe is not attempt:
            if self.measure_wait() > 0:
                return False
            self._probe = attempt if self.is_half_open else None
        return self._find_send_time() <= self._clock.boottime()

    def note_send(self, attempt: object) -> None:
        """Note that the first byte of an attempt is about to leave.

        When the attempt is the probe, the next probe waits for `LONGEST_BACK_OFF` seconds from now on.
        """
        if self._probe is attempt:
            self._probe_at = self._clock.boottime() + LONGEST_BACK_OFF

    def note_attempt_end(self, attempt: object) -> None:
        """Note that an attempt ended, or was never sent. Another attempt may become the probe."""
        if self._probe is attempt:
            self._probe = None


class LedgerHealth:
    """State of the ledger: whether writes work.

    Each change is published. The waits for a retry end when a write works again.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._writes = 0  # number of successful writes
        self._waiters: dict[asyncio.Future[None], None] = {}  # in the order of arrival
        self._listeners: list[Callable[[], None]] = []
        self.error: str | None = None

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever the ledger can be written again."""
        self._listeners.append(listener)

    def note_failure(self, operation: str, error: str) -> None:
        """Note that a write or read failed."""
        self._publish(LedgerFailed(operation=operation, error=error, first=self.error is None))
        self.error = error

    def note_success(self) -> None:
        """Note that a write worked.

        Some of the waiting operations retry now. Their writes end the waits of the next operations.
        """
        self._writes += 1
        if self.error is not None:
            self.error = None
            self._publish(LedgerRecovered())
            for listener in self._listeners:
                listener()
        for waiter in list(islice(self._waiters, _RETRIED_AT_ONCE)):
            del self._waiters[waiter]
            waiter.set_result(None)

    async def wait_for_retry(self, seconds: float) -> None:
        """Wait ``seconds`` before a retry, or less when another write works meanwhile.

        An eighth of the time always passes: a write that fails for a reason of its own must not be
        retried after each success of another write.
        """
        writes = self._writes
        await asyncio.sleep(seconds / 8)
        if self._writes > writes:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await asyncio.wait({waiter}, timeout=seconds * 7 / 8)
        finally:
            self._waiters.pop(waiter, None)


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
