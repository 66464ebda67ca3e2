"""The clock offset: how far an API's clock is from the local clock, by the ``Date`` of its answers.

``Date`` counts whole seconds and drops the rest, so one answer leaves an interval of more than a second. The
true offset lies in all these intervals. Their intersection narrows with every answer from just before or just
after the beginning of a second. The method is from Marzullo, *Maintaining the Time in a Distributed System*
(1984), with one clock to read.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from scheduler.core.instants import is_credible

_RESOLUTION: Final = 1.0
"""Seconds that ``Date`` may have dropped (RFC 9110, section 5.6.7)."""
_DATE_CACHE: Final = 1.0
"""Seconds for which servers, for example uvicorn, keep the text of ``Date``."""
_DRIFT: Final = 500e-6
"""Largest drift of a disciplined clock, in seconds per second (adjtimex(2), 500 ppm)."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """API clock minus local clock, in seconds: between ``low`` and ``high``, as known at ``at``."""

    low: float
    high: float
    at: datetime

    @property
    def seconds(self) -> float:
        """The possible offset nearest to zero; negative when the API's clock is behind.

        Nearly all machines keep their clocks by NTP, so an offset counts only as far as the answers prove it.
        The middle of the interval would move the instant of every edit by up to a second. An automation
        created just after the full minute would then seem to be created before the minute.
        """
        return min(max(0.0, self.low), self.high)

    @property
    def margin(self) -> float:
        """The largest possible error of `seconds`, in either direction."""
        return max(self.high - self.seconds, self.seconds - self.low)

    def narrow(self, sample: Self) -> Self:
        """Return the offset after one more answer.

        When the two intervals contradict each other, a clock was set, and only the new interval counts.
        """
        drift = _DRIFT * max(0.0, (sample.at - self.at).total_seconds())
        low = max(self.low - drift, sample.low)
        high = min(self.high + drift, sample.high)
        return type(self)(low, high, sample.at) if low <= high else sample


def sample_offset(date: datetime, *, sent: datetime, received: datetime) -> ClockOffset | None:
    """Return the offset proved by one answer.

    ``date`` is the answer's ``Date``. ``sent`` and ``received`` are readings of the local wall clock: before
    the request left and after the answer came. Return None when the answer proves nothing: the local clock
    was set back in between, or no clock can have shown this date.
    """
    if received < sent or not is_credible(date):
        return None
    low = (date - received).total_seconds()
    high = (date - sent).total_seconds() + _RESOLUTION + _DATE_CACHE
    return ClockOffset(low, high, received)


def to_api_time(instant: datetime, clock_offset: float | None) -> datetime | None:
    """Convert an instant of the local clock to the API's clock; None without a clock offset (in seconds)."""
    return None if clock_offset is None else instant + timedelta(seconds=clock_offset)
