"""Background need: the number of requests for polls and single readings, reserved in the request budget."""

from collections import deque
from typing import Final

from scheduler.daemon.context import Context

_HOUR: Final = 3600.0


class _Rate:
    """Rate of an event in the last hour."""

    def __init__(self) -> None:
        self._instants: deque[float] = deque()

    def note(self, now: float) -> None:
        """Note that the event happens at ``now``, in seconds of a clock that only goes forward."""
        self._instants.append(now)

    def measure(self, now: float) -> float:
        """Return the events per second since the first event within the last hour."""
        while self._instants and self._instants[0] <= now - _HOUR:
            self._instants.popleft()
        if not self._instants:
            return 0.0
        return (len(self._instants) - 1) / max(now - self._instants[0], 1.0)


class BackgroundNeed:
    """Need of one target's polls and readings: the rates of the last hour, and the readings in progress."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._polls = _Rate()
        self._readings = _Rate()
        self._parallel_readings = 0

    def note_poll(self, begun: float) -> None:
        """Note that a poll begins."""
        self._polls.note(begun)
        self._update_reserve(begun)

    def note_reading(self, begun: float) -> None:
        """Note that the reading of a single automation is about to be sent."""
        self._readings.note(begun)
        self._update_reserve(begun)

    def set_parallel_readings(self, readings: int) -> None:
        """Set the number of automations that are read alone in parallel, from now on."""
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
