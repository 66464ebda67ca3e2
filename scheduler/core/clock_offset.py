"""How far an API's clock is from ours, told from the ``Date`` of its answers.

``Date`` counts whole seconds and drops the rest, so one answer leaves an interval of more than a second. The true offset lies in all of
them, so their intersection narrows with every answer that was given just after or just before a second began. This is the reasoning of
Marzullo, *Maintaining the Time in a Distributed System* (1984), with one clock to read.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from scheduler.core.instants import is_credible

_RESOLUTION: Final = 1.0
"""Seconds that ``Date`` may have dropped (RFC 9110, section 5.6.7)."""
_DATE_CACHE: Final = 1.0
"""Seconds for which servers keep the text of ``Date`` before they make it anew; uvicorn does."""
_DRIFT: Final = 500e-6
"""The most by which a disciplined clock runs fast or slow, in seconds a second (adjtimex(2), 500 ppm)."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Seconds that the API's clock is ahead of ours: between ``low`` and ``high``, as known at ``at``."""

    low: float
    high: float
    at: datetime

    @property
    def seconds(self) -> float:
        """What of the possible is nearest to zero; negative when the API's clock is behind.

        Nearly all machines keep their clocks by NTP, so a difference is believed only as far as the answers prove it. The middle of what is
        possible would move the instant of every edit by up to a second, and an automation made just after the full minute to before it.
        """
        return min(max(0.0, self.low), self.high)

    @property
    def margin(self) -> float:
        """How far off `seconds` may be, either way."""
        return max(self.high - self.seconds, self.seconds - self.low)

    def narrow(self, sample: Self) -> Self:
        """What is known after one more answer. When the two contradict each other a clock was set, and only the new one counts."""
        drift = _DRIFT * max(0.0, (sample.at - self.at).total_seconds())
        low = max(self.low - drift, sample.low)
        high = min(self.high + drift, sample.high)
        return type(self)(low, high, sample.at) if low <= high else sample


def sample_offset(date: datetime, *, sent: datetime, received: datetime) -> ClockOffset | None:
    """What one answer says: its ``date``, and our wall clock before the request left and after the answer came.

    None when they say nothing: our own clock was set back in between, or no clock can have shown that date.
    """
    if received < sent or not is_credible(date):
        return None
    low = (date - received).total_seconds()
    high = (date - sent).total_seconds() + _RESOLUTION + _DATE_CACHE
    return ClockOffset(low, high, received)
