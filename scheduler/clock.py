"""The clocks of the machine. Only this module reads a clock, and the subreaper, a program of its own.

The wall clock steps when somebody sets it. The boot-time clock only goes forward and counts suspend
(clock_gettime(2), CLOCK_BOOTTIME). The monotonic clock stops in a suspend.
"""

import time
from datetime import UTC, datetime


class SystemClock:
    """Clocks of the machine."""

    def now(self) -> datetime:
        """Return the wall clock: aware, UTC."""
        return datetime.now(UTC)  # noqa: TID251  this is the one place

    def boottime(self) -> float:
        """Return the seconds since the machine started, including the time in suspend."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def monotonic(self) -> float:
        """Return the seconds since the machine started, without the time in suspend."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)
