"""The heartbeat: the instant at which the loop was last alive.

The health check and the metrics read the heartbeat. Only the loop beats.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

INTERVAL: Final = 1.0
"""Seconds between two beats."""


class Heartbeat:
    """The last instant at which the loop made progress.

    ``now`` is the wall clock in UTC, ``seconds`` a clock that only moves forward.
    """

    def __init__(self, now: Callable[[], datetime], seconds: Callable[[], float]) -> None:
        self._now = now
        self._seconds = seconds
        self.beat()

    def beat(self) -> None:
        """Record progress of the loop."""
        self._at, self._beaten = self._now(), self._seconds()

    def get_last_beat(self) -> datetime:
        """Return the instant of the last beat, by the wall clock."""
        return self._at

    def get_age(self) -> float:
        """Return the seconds since the last beat. Changes of the wall clock have no effect."""
        return self._seconds() - self._beaten

    async def run(self) -> None:
        """Beat until the task is cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(INTERVAL)
