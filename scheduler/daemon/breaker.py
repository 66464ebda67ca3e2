"""Circuit breaker of a target: whether attempts may be sent now."""

from typing import Final

from scheduler.core.admission import BreakerFacts
from scheduler.core.events import TargetHeld, TargetReleased
from scheduler.core.instants import to_text_seconds
from scheduler.core.occurrence_log import Cause
from scheduler.daemon.back_off import LONGEST_BACK_OFF, back_off
from scheduler.daemon.ports import DaemonClock, Publish
from scheduler.daemon.throttle import TargetThrottle

_LOOK_AGAIN: Final = 1.0
"""Seconds after which an attempt checks again while another attempt is the probe and is not sent yet."""


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
    def _throttle_obstacle(self) -> str | None:
        until = self._throttle.until
        return None if until is None else f"the API asked to send nothing until {to_text_seconds(until)}"

    @property
    def throttle_end(self) -> str | None:
        """End of the throttle, in the words of the ledger; None when the target is not throttled."""
        until = self._throttle.until
        return None if until is None else f"until {to_text_seconds(until)}"

    def measure_wait(self, attempt: object | None = None) -> float:
        """Return the seconds until an attempt may be made. The probe waits only for the end of a throttle."""
        if attempt is not None and attempt is self._probe:
            return max(0.0, self._find_send_time() - self._clock.boottime())
        until = max(self._find_send_time(), self._probe_at if self.hold_error is not None else 0.0)
        left = max(0.0, until - self._clock.boottime())
        return max(left, _LOOK_AGAIN) if self._probe is not None and self.is_half_open else left

    def make_facts(self, attempt: object) -> BreakerFacts:
        """Return the facts for the decision about an attempt."""
        if self.hold_error is not None:
            return BreakerFacts(self.measure_wait(attempt), Cause.HELD, self.hold_error, self.hold_error)
        return BreakerFacts(
            self.measure_wait(attempt), Cause.THROTTLED, self.throttle_end, self._throttle_obstacle
        )

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
