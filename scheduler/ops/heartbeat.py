"""When the loop was last seen alive. Apart, because both the health check and the metrics ask it, and only its owner makes it beat."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

INTERVAL: Final = 1.0
"""Seconds between two beats."""


class Heartbeat:
    """The last instant at which the loop turned. ``now`` is the wall clock in UTC, ``seconds`` a clock that only goes forward."""

    def __init__(self, now: Callable[[], datetime], seconds: Callable[[], float]) -> None:
        self._now = now
        self._seconds = seconds
        self.beat()

    def beat(self) -> None:
        """The loop turns."""
        self._at, self._beaten = self._now(), self._seconds()

    def get_last_beat(self) -> datetime:
        """When it last turned, by the wall clock."""
        return self._at

    def get_age(self) -> float:
        """Seconds since then, whatever was done to the wall clock meanwhile."""
        return self._seconds() - self._beaten

    async def run(self) -> None:
        """Beat for ever."""
        while True:
            self.beat()
            await asyncio.sleep(INTERVAL)
