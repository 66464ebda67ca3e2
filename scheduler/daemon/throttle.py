"""Throttle of one target: the wait that the API asked for with a 429 and a ``Retry-After``.

Within a process, the wait is a time on the boot-time clock.
A clock step makes the wait neither longer nor shorter.
The ledger holds the wait as a span of the wall clock, because a restart must not end the wait.
Only the wall clock tells the rest of a recalled wait. The rest is never more than the API asked for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.events import TargetThrottled
from scheduler.core.recorded_state import ThrottleSpan
from scheduler.daemon.ports import DaemonClock, Publish

LONG_WAIT: Final = 60.0
"""Seconds. A longer wait is logged, recorded, and ended by a probe."""
_MIN_EXTENSION: Final = 1.0
"""Seconds. An answer with a smaller extension changes nothing: requests under way are refused in a row."""


class TargetThrottle:
    """Newest wait of a target."""

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

    async def record(self, write: Callable[[ThrottleSpan | None], Awaitable[None]]) -> None:
        """Have the ledger hold the newest wait. Raises `LedgerUnavailable`."""
        while self._recorded_span != (span := self._span_to_record):
            await write(span)
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
