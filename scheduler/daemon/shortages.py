"""What kept attempts waiting for a place, so that each of them can tell in a few steps what it waited for, however often that changed.

All that wait for a place of one target wait for the same at any moment. So the causes are kept once, and not for each that waits: a change
costs the same whether one or ten thousand wait.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from scheduler.core.occurrence_log import Cause, Step
from scheduler.daemon.ports import DaemonClock

MIN_WAIT: Final = 1.0
"""A cause that kept an attempt waiting for fewer seconds is not told."""
_MAX_PAUSE: Final = 180.0
"""Seconds: a cause that comes back within them goes on, as one that comes back every minute does."""


@dataclass(slots=True)
class _Streak:
    """A cause that held from ``begin`` on, with pauses of at most `_MAX_PAUSE`; ``end`` and ``ended`` are of its last stretch."""

    begin: datetime
    end: datetime
    ended: float
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class WaitStart:
    """When an attempt began to wait for a place, and for how many seconds each cause had held by then."""

    at: datetime
    totals: Mapping[Cause, float]
    begins: dict[Cause, datetime] = field(default_factory=dict)  # as told first, so that a step keeps its beginning


class Shortages:
    """The causes of one target."""

    def __init__(self, clock: DaemonClock) -> None:
        self._clock = clock
        self._cause: Cause | None = None
        self._stretch_begin = clock.now()
        self._since = 0.0
        self._totals: dict[Cause, float] = {}
        self._streaks: dict[Cause, _Streak] = {}

    def set_cause(self, cause: Cause | None, detail: str | None = None) -> None:
        """From now on, or still, attempts wait for this; None: none waits. The newest ``detail`` is for all of a streak."""
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
        """An attempt begins to wait now."""
        self._end_stretch()
        return WaitStart(self._clock.now(), dict(self._totals))

    def list_steps(self, joined: WaitStart) -> list[Step]:
        """Return what an attempt waited for since it joined: one step for each cause that held for a second or more in all."""
        self._end_stretch()
        return [
            Step(self._find_begin(cause, joined), cause, max(streak.end, self._find_begin(cause, joined)), streak.detail)
            for cause, streak in self._streaks.items()
            if self._is_notable(cause, joined)
        ]

    def find_current_wait(self, joined: WaitStart) -> Step | None:
        """Return what an attempt waits for now, without an end; None before anything is known to be short.

        A cause that `list_steps` does not tell yet begins with its last stretch.
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
        """Count what has passed since the last look."""
        seconds = self._clock.boottime()
        if self._cause is not None:
            self._totals[self._cause] = self._totals.get(self._cause, 0.0) + seconds - self._since
            streak = self._streaks[self._cause]
            streak.end, streak.ended = self._clock.now(), seconds
        self._since = seconds
