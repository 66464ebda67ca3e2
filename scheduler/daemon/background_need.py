"""How many requests polls and readings of single automations need, told to the target's request budget whenever that changes."""

from collections import deque
from typing import Final

from scheduler.daemon.context import Context

_HOUR: Final = 3600.0


class _Rate:
    """How often something happened in the last hour."""

    def __init__(self) -> None:
        self._instants: deque[float] = deque()

    def note(self, now: float) -> None:
        """It happens now; instants are seconds of a clock that only goes forward."""
        self._instants.append(now)

    def measure(self, now: float) -> float:
        """Return how often a second, since the first time within the last hour."""
        while self._instants and self._instants[0] <= now - _HOUR:
            self._instants.popleft()
        if not self._instants:
            return 0.0
        return (len(self._instants) - 1) / max(now - self._instants[0], 1.0)


class BackgroundNeed:
    """The need of one target's polls and readings: as much as in the last hour, and the readings that are under way now."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._polls = _Rate()
        self._readings = _Rate()
        self._parallel_readings = 0

    def note_poll(self, begun: float) -> None:
        """A poll begins."""
        self._polls.note(begun)
        self._update_reserve(begun)

    def note_reading(self, begun: float) -> None:
        """A reading of a single automation is about to be sent."""
        self._readings.note(begun)
        self._update_reserve(begun)

    def set_parallel_readings(self, readings: int) -> None:
        """So many automations are read on their own at the same time, from now on."""
        if readings != self._parallel_readings:
            self._parallel_readings = readings
            self._update_reserve(self._context.clock.boottime())

    def _update_reserve(self, now: float) -> None:
        self._context.upstream.expect(
            poll_interval=max(self._context.settings.poll_interval.total_seconds(), 1.0),
            polls=self._polls.measure(now),
            readings=self._readings.measure(now),
            at_once=self._parallel_readings,
        )
