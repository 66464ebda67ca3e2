"""Waits of deliveries: the log of one delivery, and the causes of the waits for a place.

A `WaitLog` has the current wait of one delivery, and the steps that the ledger does not have yet.
At any moment, all waiting attempts of one target lack a place for the same cause. `Shortages` keeps the
causes once, not for each attempt: a change costs the same for a single waiting attempt and for ten thousand.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.occurrence_log import MIN_WAIT, RECORDED_CAUSES, WAITS_FOR, Cause, Step
from scheduler.core.status import WaitStatus
from scheduler.daemon.ports import DaemonClock

LASTING_WAIT: Final = timedelta(seconds=5)
"""Duration after which a wait is recorded alone.

A shorter wait is recorded with the next change of its occurrence.
"""
_NOTED_CAUSES: Final = RECORDED_CAUSES - {Cause.LEDGER}
"""Causes of the waits that are recorded before their end.

A wait for the ledger is excluded: the write that ends the wait also records the wait, and no later write
would add an end.
"""
_NOTE_INTERVAL: Final = timedelta(minutes=1)
"""Shortest time between two records of a moving throttle end, for each occurrence: ten thousand may wait."""
_MAX_PAUSE: Final = 180.0
"""Seconds. A shortage goes on when its cause comes back within this pause, for example every minute."""


@dataclass(slots=True)
class _Streak:
    """Time of one cause from ``begin`` on, with pauses of at most `_MAX_PAUSE`.

    ``end`` (wall clock) and ``ended`` (boot-time clock) belong to the last stretch.
    """

    begin: datetime
    end: datetime
    ended: float
    detail: str | None = None


class Shortages:
    """Causes of the waits for a place of one target."""

    def __init__(self, clock: DaemonClock) -> None:
        self._clock = clock
        self._since = 0.0
        self.cause: Cause | None = None
        self.stretch_begin = clock.now()
        self.totals: dict[Cause, float] = {}
        self.streaks: dict[Cause, _Streak] = {}

    def set_cause(self, cause: Cause | None, detail: str | None = None) -> None:
        """Set the cause of all waits from now on; None: no attempt waits.

        The newest ``detail`` holds for the whole streak of the cause.
        """
        self.end_stretch()
        if cause is not self.cause:
            self.stretch_begin = self._clock.now()
        self.cause = cause
        if cause is not None:
            now, seconds = self._clock.now(), self._clock.boottime()
            streak = self.streaks.get(cause)
            if streak is None or seconds - streak.ended > _MAX_PAUSE:
                streak = self.streaks[cause] = _Streak(now, now, seconds)
            streak.detail = detail or streak.detail

    def begin_wait(self) -> "PlaceWait":
        """Begin the wait of an attempt for a place now."""
        self.end_stretch()
        return PlaceWait(self, self._clock.now(), dict(self.totals))

    def end_stretch(self) -> None:
        """Add the time since the last call to the total of the current cause."""
        seconds = self._clock.boottime()
        if self.cause is not None:
            self.totals[self.cause] = self.totals.get(self.cause, 0.0) + seconds - self._since
            streak = self.streaks[self.cause]
            streak.end, streak.ended = self._clock.now(), seconds
        self._since = seconds


@dataclass(slots=True)
class PlaceWait:
    """Wait of one attempt for a place: a few steps, however often the cause changed.

    ``at`` is the start of the wait, ``totals`` the total seconds of each cause until the start.
    """

    shortages: Shortages
    at: datetime
    totals: Mapping[Cause, float]
    is_over: bool = False  # the place is granted
    _begins: dict[Cause, datetime] = field(default_factory=dict)  # as first reported: a step keeps its start

    def list_steps(self) -> list[Step]:
        """Return the wait so far: one step for each cause that held for `MIN_WAIT` or more in all."""
        self.shortages.end_stretch()
        return [
            Step(begin := self._find_begin(cause), cause, max(streak.end, begin), streak.detail)
            for cause, streak in self.shortages.streaks.items()
            if self._is_notable(cause)
        ]

    def find_current(self) -> Step | None:
        """Return the current wait, without an end; None before a shortage is known, and after the grant.

        A cause that `list_steps` does not report yet begins with its last stretch.
        """
        shortages, cause = self.shortages, self.shortages.cause
        if self.is_over or cause is None:
            return None
        shortages.end_stretch()
        is_notable = self._is_notable(cause)
        begin = self._find_begin(cause) if is_notable else max(self.at, shortages.stretch_begin)
        return Step(begin, cause, detail=shortages.streaks[cause].detail)

    def _is_notable(self, cause: Cause) -> bool:
        return self.shortages.totals.get(cause, 0.0) - self.totals.get(cause, 0.0) >= MIN_WAIT

    def _find_begin(self, cause: Cause) -> datetime:
        return self._begins.setdefault(cause, max(self.at, self.shortages.streaks[cause].begin))


@dataclass(slots=True)
class WaitLog:
    """Waits of one delivery."""

    clock: DaemonClock
    steps: list[Step] = field(default_factory=list)  # not in the ledger yet
    place_wait: PlaceWait | None = None
    _wait: Step | None = None  # the current wait, without an end
    _since: float = 0.0  # start of the current wait, on the boot-time clock
    _noted_wait: Step | None = None  # the wait in the ledger without an end
    _noted_at: datetime | None = None  # when `_noted_wait` was recorded

    def begin(self, cause: Cause | None, detail: str | None = None) -> None:
        """Begin a wait for ``cause``, or go on with the same wait. None: only end the current wait."""
        wait = self._wait
        if wait is not None and (wait.cause, wait.detail) == (cause, detail):
            return
        if wait is not None and wait.cause is cause is Cause.THROTTLED:
            # The wait stays one step, however often the end of the throttle moves.
            self._wait = replace(wait, detail=detail or wait.detail)
            return
        self.steps = [*self.list_steps()]
        now, self._since = self.clock.now(), self.clock.boottime()
        self._wait = None if cause is None else Step(now, cause, detail=detail)

    def end(self) -> None:
        """End the current wait."""
        self.begin(None)

    @contextmanager
    def record(self, cause: Cause, detail: str | None = None) -> Iterator[None]:
        """Record a wait for ``cause`` during the block, however the block ends."""
        self.begin(cause, detail)
        try:
            yield
        finally:
            self.end()

    def end_place_wait(self) -> None:
        """End the wait for a place, if any, and keep its steps."""
        if self.place_wait is not None:
            self.steps += self.place_wait.list_steps()
            self.place_wait = None

    def find_current(self) -> Step | None:
        """Return the current wait as a step without an end; None without a wait."""
        if self._wait is not None:
            return self._wait
        return None if self.place_wait is None else self.place_wait.find_current()

    def list_steps(self) -> tuple[Step, ...]:
        """Return the steps outside the ledger, and the current wait up to now.

        A current wait shorter than `MIN_WAIT` is left out.
        """
        wait = self._wait
        if wait is None or self.clock.boottime() - self._since < MIN_WAIT:
            return tuple(self.steps)
        return *self.steps, replace(wait, until=self.clock.now())

    def forget_steps(self, steps: Sequence[Step]) -> None:
        """Remove ``steps``, which the ledger has now."""
        self.steps = [step for step in self.steps if step not in steps]

    def find_unrecorded_steps(self, lasting: WaitStatus | None, now: datetime) -> Sequence[Step]:
        """Return the steps to record although nothing else of the occurrence is written.

        Steps are due for a record when the current wait lasts, or when the first step is `LASTING_WAIT` old.
        ``lasting`` is the current wait. Its step has no end and is recorded once.
        A throttle with a moving end is recorded again, at most once a minute.
        """
        if lasting is not None and self._is_due_for_record(lasting, now):
            return *self.steps, Step(lasting.since, lasting.cause, None, lasting.detail)
        return tuple(self.steps) if self.steps and now - self.steps[0].at >= LASTING_WAIT else ()

    def _is_due_for_record(self, lasting: WaitStatus, now: datetime) -> bool:
        """Return whether a wait lasts, and the ledger lacks the wait or the new end of a throttle."""
        if lasting.cause not in _NOTED_CAUSES or now - lasting.since < LASTING_WAIT:
            return False
        noted, noted_at = self._noted_wait, self._noted_at
        if noted is None or noted_at is None or (noted.at, noted.cause) != (lasting.since, lasting.cause):
            return True
        is_changed = noted.cause is Cause.THROTTLED and noted.detail != lasting.detail
        return is_changed and abs(now - noted_at) >= _NOTE_INTERVAL

    def note_steps_recorded(self, steps: Sequence[Step], now: datetime) -> None:
        """Note the record of ``steps``, which `find_unrecorded_steps` returned."""
        self.forget_steps(steps)
        if steps[-1].until is None and steps[-1].cause in WAITS_FOR:
            self._noted_wait, self._noted_at = steps[-1], now

    def note_turn_wait(self, since: datetime, until: datetime, detail: str) -> None:
        """Note a wait for the turn. The step replaces an unrecorded earlier wait for the turn."""
        if until - since >= timedelta(seconds=MIN_WAIT):
            self.steps = [step for step in self.steps if step.cause is not Cause.TURN]
            self.steps.append(Step(since, Cause.TURN, until, detail))

    def extend_last_step(self, stopped_at: datetime, now: datetime) -> None:
        """Extend a wait that a stop of the daemon cut off at ``stopped_at`` or later until ``now``."""
        last = self.steps[-1].until if self.steps else None
        if last is not None and stopped_at <= last < now:
            self.steps[-1] = replace(self.steps[-1], until=now)
