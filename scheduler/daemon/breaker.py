"""Circuit breaker and throttle of a target: whether attempts may be sent now."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.actions import BreakerFacts
from scheduler.core.events import TargetHeld, TargetReleased, TargetThrottled
from scheduler.core.instants import to_text_seconds
from scheduler.core.occurrence_log import Cause
from scheduler.core.recorded_state import ThrottleSpan
from scheduler.daemon.clock import LONGEST_BACK_OFF, back_off
from scheduler.daemon.ports import DaemonClock, Ledger, Publish

_LOOK_AGAIN: Final = 1.0
"""Seconds after which an attempt checks again while another attempt is the probe and is not sent yet."""
LONG_WAIT: Final = 60.0
"""Seconds. A longer wait is logged, recorded, and ended by a probe."""
_MIN_EXTENSION: Final = 1.0
"""Seconds. An answer with a smaller extension changes nothing: requests under way are refused in a row."""


class TargetThrottle:
    """Throttle of one target: the newest wait that the API asked for with a 429 and a ``Retry-After``.

    Within a process, the wait is a time on the boot-time clock.
    A clock step makes the wait neither longer nor shorter.
    The ledger holds the wait as a span of the wall clock, because a restart must not end the wait.
    Only the wall clock tells the rest of a recalled wait. The rest is never more than the API asked for.
    """

    def __init__(self, target: str, clock: DaemonClock, publish: Publish) -> None:
        self._target = target
        self._clock = clock
        self._publish = publish
        self._span: ThrottleSpan | None = None
        self._is_recalled = False  # the span comes from an earlier process
        self._logged_end = float("-inf")
        self._span_to_record: ThrottleSpan | None = None
        self._recorded_span: ThrottleSpan | None = None
        self._record_event = asyncio.Event()
        self.end = float("-inf")
        """End of the wait on the boot-time clock."""
        self.needs_probe = False
        """Whether a probe must go first: the wait was long, and the API has not answered since."""

    @property
    def seconds_left(self) -> float:
        """Seconds until the end of the wait; 0 without a wait."""
        return max(0.0, self.end - self._clock.boottime())

    @property
    def until(self) -> datetime | None:
        """End of the wait on the wall clock; None without a wait."""
        return None if self._span is None or not self.seconds_left else self._span.until

    @property
    def end_text(self) -> str | None:
        """End of the wait as a text, as in the ledger's steps; None without a wait."""
        until = self.until
        return None if until is None else f"until {to_text_seconds(until)}"

    def begin(self, seconds: float) -> None:
        """Wait for ``seconds`` from now on, unless this moves the end by less than `_MIN_EXTENSION`."""
        now, end = self._clock.now(), self._clock.boottime() + seconds
        if end < self.end + _MIN_EXTENSION:
            return
        since = self._span.since if self._span is not None and self.seconds_left else now
        self._span = ThrottleSpan(since, now + timedelta(seconds=seconds))
        self._is_recalled, self.end = False, end
        if seconds > LONG_WAIT:
            self.needs_probe = True
            self._log()
            self._set_record(self._span)

    def recall(self, span: ThrottleSpan) -> None:
        """Go on with the rest of the wait that an earlier process recorded."""
        self._recorded_span = self._span_to_record = span
        self._resume(span)
        if self.seconds_left:
            self.needs_probe = True
            self._log()

    def note_clock_step(self, seconds: float) -> bool:
        """Note a clock step of ``seconds`` (positive: ahead). Return whether the rest of the wait changed."""
        if self._span is None:
            return False
        if self._is_recalled and self._span_to_record is not None:
            self._resume(self._span_to_record)
            return True
        step = timedelta(seconds=seconds)
        self._span = ThrottleSpan(self._span.since + step, self._span.until + step)
        if self._span_to_record is not None:
            self._set_record(self._span)
        return False

    def end_if_over(self) -> None:
        """Note that a request was not refused by a 429.

        A wait that is over needs no probe any more, and no place in the ledger.
        """
        if self.seconds_left:
            return  # the request was under way when the API asked for the wait
        self.needs_probe = False
        if self._span_to_record is not None:
            self._set_record(None)

    async def record(self, ledger: Ledger) -> None:
        """Have the ledger hold the newest wait. Raises `LedgerUnavailable`."""
        while self._recorded_span != (span := self._span_to_record):
            await ledger.record_throttle(self._target, span)
            self._recorded_span = span

    async def wait_for_news(self) -> None:
        """Wait until the recorded wait must change."""
        await self._record_event.wait()
        self._record_event.clear()

    def _resume(self, span: ThrottleSpan) -> None:
        """Compute the rest of a recorded wait.

        With a clock that is behind, the rest is the whole wait, and no more.
        """
        now = self._clock.now()
        left = min(max(span.until - now, timedelta(0)), max(span.until - span.since, timedelta(0)))
        self._span, self._is_recalled = ThrottleSpan(span.since, now + left), True
        self.end = self._clock.boottime() + left.total_seconds()

    def _log(self) -> None:
        """Publish the wait once, and again when its end moves by more than `LONG_WAIT`."""
        if self._span is not None and self.end > self._logged_end + LONG_WAIT:
            self._logged_end = self.end
            self._publish(
                TargetThrottled(target=self._target, until=self._span.until, seconds=self.seconds_left)
            )

    def _set_record(self, span: ThrottleSpan | None) -> None:
        self._span_to_record = span
        self._record_event.set()


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

    def measure_wait(self, attempt: object | None = None) -> float:
        """Return the seconds until an attempt may be made. The probe waits only for the end of a throttle."""
        if attempt is not None and attempt is self._probe:
            return max(0.0, self._find_send_time() - self._clock.boottime())
        until = max(self._find_send_time(), self._probe_at if self.hold_error is not None else 0.0)
        left = max(0.0, until - self._clock.boottime())
        return max(left, _LOOK_AGAIN) if self._probe is not None and self.is_half_open else left

    def make_facts(self, attempt: object) -> BreakerFacts:
        """Return the facts for the decision about an attempt."""
        wait, throttle_end = self.measure_wait(attempt), self._throttle.end_text
        if self.hold_error is not None:
            return BreakerFacts(wait, Cause.HELD, self.hold_error, self.hold_error)
        obstacle = None if throttle_end is None else f"the API asked to send nothing {throttle_end}"
        return BreakerFacts(wait, Cause.THROTTLED, throttle_end, obstacle)

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
