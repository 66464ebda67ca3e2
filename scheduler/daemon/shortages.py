"""Shortages: the causes of the waits for a place.

Each attempt can report its wait in a few steps, however often the cause changed.
At any moment, all waiting attempts of one target have the same cause. The causes are kept once, not for each
attempt: a change costs the same for a single waiting attempt and for ten thousand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from scheduler.core.occurrence_log import MIN_WAIT, Cause, Step
from scheduler.daemon.ports import DaemonClock

_MAX_PAUSE: Final = 180.0
"""Seconds. A cause goes on when the cause comes back within this pause, for example every minute."""


@dataclass(slots=True)
class _Streak:
    """Time of one cause from ``begin`` on, with pauses of at most `_MAX_PAUSE`.

    ``end`` (wall clock) and ``ended`` (boot-time clock) belong to the last stretch.
    """

    begin: datetime
    end: datetime
    ended: float
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class WaitStart:
    """Start of an attempt's wait for a place, and the total seconds of each cause until the start."""

    at: datetime
    totals: Mapping[Cause, float]
    begins: dict[Cause, datetime] = field(default_factory=dict)  # as first reported: a step keeps its start


class Shortages:
    """Causes of the waits for a place of one target."""

    def __init__(self, clock: DaemonClock) -> None:
        self._clock = clock
        self._cause: Cause | None = None
        self._stretch_begin = clock.now()
        self._since = 0.0
        self._totals: dict[Cause, float] = {}
        self._streaks: dict[Cause, _Streak] = {}

    def set_cause(self, cause: Cause | None, detail: str | None = None) -> None:
        """Set the cause of all waits from now on; None: no attempt waits.

        The newest ``detail`` holds for the whole streak of the cause.
        """
        self._end_stretch()
        if cause is not self._cause:
            self._stretch_begin = self._clock.now()
        self._cause = cause
        if cause is not None:
            now, seconds = self._clock.now(), self._clock.boottime()
            streak = self._streaks.get(cause)
            if streak is None or seconds - streak.ended > _MAX_PAUSE:
                streak = self._streaks[cause] = _Streak(now, now, seconds)
            streak.detail = detail or streak.detail

    def join(self) -> WaitStart:
        """Begin the wait of an attempt now, and return the start of the wait."""
        self._end_stretch()
        return WaitStart(self._clock.now(), dict(self._totals))

    def list_steps(self, joined: WaitStart) -> list[Step]:
        """Return the wait of an attempt: one step for each cause that held for `MIN_WAIT` or more in all."""
        self._end_stretch()
        return [
            Step(
                self._find_begin(cause, joined),
                cause,
                max(streak.end, self._find_begin(cause, joined)),
                streak.detail,
            )
            for cause, streak in self._streaks.items()
            if self._is_notable(cause, joined)
        ]

    def find_current_wait(self, joined: WaitStart) -> Step | None:
        """Return the current wait of an attempt, without an end; None before a shortage is known.

        A cause that `list_steps` does not report yet begins with its last stretch.
        """
        self._end_stretch()
        if self._cause is None:
            return None
        is_told = self._is_notable(self._cause, joined)
        begin = self._find_begin(self._cause, joined) if is_told else max(joined.at, self._stretch_begin)
        return Step(begin, self._cause, detail=self._streaks[self._cause].detail)

    def _is_notable(self, cause: Cause, joined: WaitStart) -> bool:
        return self._totals.get(cause, 0.0) - joined.totals.get(cause, 0.0) >= MIN_WAIT

    def _find_begin(self, cause: Cause, joined: WaitStart) -> datetime:
        return joined.begins.setdefault(cause, max(joined.at, self._streaks[cause].begin))

    def _end_stretch(self) -> None:
        """Add the time since the last call to the total of the current cause."""
        seconds = self._clock.boottime()
        if self._cause is not None:
            self._totals[self._cause] = self._totals.get(self._cause, 0.0) + seconds - self._since
            streak = self._streaks[self._cause]
            streak.end, streak.ended = self._clock.now(), seconds
        self._since = seconds
