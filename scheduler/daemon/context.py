"""What all parts that serve one target share: its settings, its ports, and what is known of it right now."""

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
"""Events that are told before others have a turn: some five milliseconds."""
_RETRIED_AT_ONCE: Final = 500
"""Waits for a retry that one write ends: ten thousand retries in one turn would hold up the event loop."""
_LOOK_AGAIN: Final = 1.0
"""Seconds after which an attempt looks again while another one is the probe and has not been sent yet."""


def back_off(failures: int, draw: Callable[[], float] = random.random) -> float:
    """Seconds to wait after so many failures in a row: exponential with full jitter (Exponential Backoff And Jitter, AWS, 2015)."""
    return max(0.1, draw() * min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2.0 ** min(failures, 10)))


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """The settings of one target, as its parts need them."""

    name: str
    url: str
    project_id: str
    policies: Callable[[str, str], Policies]
    idempotent: bool = False
    max_in_flight: int = 64
    max_waiting: int = 256
    poll_interval: timedelta = timedelta(seconds=30)
    fresh_for: timedelta = timedelta(seconds=10)
    stale_limit: timedelta = timedelta(hours=24)
    settle_time: timedelta = timedelta(seconds=30)
    run_timeout: timedelta = timedelta(hours=24)


class CircuitBreaker:
    """Whether the target may be sent to now. Held: not before somebody mends it. Throttled: not before an instant.

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
        self._probe_at = max(self._probe_at, probe_at) if by_list else probe_at  # a probe may be on its way
        if self.hold_error != error:
            self._publish(TargetHeld(target=self._target, error=error))
        self.hold_error, self.is_held_by_list = error, by_list

    def release(self) -> None:
        """It works."""
        if self.hold_error is not None:
            self._publish(TargetReleased(target=self._target))
        self.hold_error = self._probe = None
        self._failures = 0
        self._throttle.end_if_over()

    def note_good_poll(self) -> None:
        """End a hold of the list, and the need of a probe after a throttle: the list could be read."""
        if self.is_held_by_list:
            self.release()
        self._throttle.end_if_over()

    def throttle(self, seconds: float | None) -> None:
        """Send nothing for so many seconds; None, or none at all: for a back-off."""
        if seconds:
            self._throttle.begin(seconds)
        else:
            self._failures += 1
            self._not_before = max(self._not_before, self._clock.boottime() + back_off(self._failures))

    @property
    def is_half_open(self) -> bool:
        """Whether one attempt, the probe, has to go first."""
        return self.hold_error is not None or self._throttle.needs_probe

    @property
    def obstacle(self) -> str | None:
        """Why nothing is sent now, for people; None when something may be sent."""
        until = self._throttle.until
        if self.hold_error is not None or until is None:
            return self.hold_error
        return f"the API asked to send nothing until {to_text_seconds(until)}"

    @property
    def throttle_end(self) -> str | None:
        """The end of the throttle, for the record; None when the target is not throttled."""
        until = self._throttle.until
        return None if until is None else f"until {to_text_seconds(until)}"

    def measure_wait(self) -> float:
        """Seconds until an attempt may be made."""
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
        """The first byte of an attempt is about to leave. The answer to the probe is waited for from now on."""
        if self._probe is attempt:
            self._probe_at = self._clock.boottime() + LONGEST_BACK_OFF

    def note_attempt_end(self, attempt: object) -> None:
        """An attempt ended, or was never sent: when it was the probe, another one may become it."""
        if self._probe is attempt:
            self._probe = None


class LedgerHealth:
    """Whether the ledger can be written. Publishes each change, and ends the waits for a retry when the ledger can be written again."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._writes = 0  # that worked
        self._waiters: dict[asyncio.Future[None], None] = {}  # in the order in which they came
        self._listeners: list[Callable[[], None]] = []
        self.error: str | None = None

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever the ledger can be written again."""
        self._listeners.append(listener)

    def note_failure(self, operation: str, error: str) -> None:
        """A write or read was not possible."""
        self._publish(LedgerFailed(operation=operation, error=error, first=self.error is None))
        self.error = error

    def note_success(self) -> None:
        """A write was possible. Some of those who wait for a retry try now: their writes end the waits of the next ones."""
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
        """Wait so many seconds before a retry, or less when another write works meanwhile.

        An eighth of the time is waited in any case, so that a write that fails for a reason of its own is not tried at every turn.
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
    """One target's shared state. ``settings`` and ``upstream`` are replaced when the configuration is reloaded."""

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
        """The target's name."""
        return self.settings.name

    @property
    def clock_offset(self) -> float | None:
        """How many seconds the API's clock is ahead of ours, None as long as it has shown no ``Date``."""
        offset = self.upstream.clock_offset
        return None if offset is None else offset[0]

    def note_refused_reading(self, error: Exception) -> None:
        """Have the whole target wait when a reading of an automation was answered by a 429 with ``Retry-After``."""
        if isinstance(error, UpstreamError) and error.status == HTTPStatus.TOO_MANY_REQUESTS and error.retry_after:
            self.breaker.throttle(error.retry_after)

    async def publish_all(self, events: Iterable[Event]) -> None:
        """Publish these, a few at a time: ten thousand lines of the log take a second, and what is due must not wait for them."""
        for number, event in enumerate(events, 1):
            self.publish(event)
            if number % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def retry_write(self, operation: str, write: Callable[[], Awaitable[_T]]) -> _T:
        """Do a write of the ledger, again and again until it is durable. Nothing may go on without it."""
        done = await self.retry_read(operation, write)
        self.health.note_success()
        return done

    async def retry_read(self, operation: str, read: Callable[[], Awaitable[_T]], failed: Callable[[], None] | None = None) -> _T:
        """Read the ledger, again and again until it can be read. That says nothing about whether it can be written.

        ``failed`` is called each time that it cannot.
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
