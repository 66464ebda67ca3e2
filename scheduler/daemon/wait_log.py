"""Log of the waits of one delivery: the current wait, and the steps that the ledger does not have yet."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

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


class PlaceWait(Protocol):
    """Wait of an attempt for a place."""

    def find_current_wait(self) -> Step | None:
        """Return the current wait, without an end; None when the attempt does not wait."""

    def list_steps(self) -> list[Step]:
        """Return all waits so far as steps."""


@dataclass(frozen=True, slots=True)
class _Wait:
    """Current wait of an occurrence: the cause, and the start on both clocks."""

    cause: Cause
    detail: str | None
    at: datetime
    since: float


@dataclass(slots=True)
class WaitLog:
    """Waits of one delivery."""

    clock: DaemonClock
    steps: list[Step] = field(default_factory=list)  # not in the ledger yet
    place: PlaceWait | None = None  # the place for the attempt, during a wait
    _wait: _Wait | None = None
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
        now, since = self.clock.now(), self.clock.boottime()
        if wait is not None and since - wait.since >= MIN_WAIT:
            self.steps.append(Step(wait.at, wait.cause, now, wait.detail))
        self._wait = None if cause is None else _Wait(cause, detail, now, since)

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
        if self.place is not None:
            self.steps += self.place.list_steps()
            self.place = None

    def find_current(self) -> Step | None:
        """Return the current wait as a step without an end; None without a wait."""
        if self._wait is not None:
            return Step(self._wait.at, self._wait.cause, None, self._wait.detail)
        return None if self.place is None else self.place.find_current_wait()

    def list_steps(self) -> tuple[Step, ...]:
        """Return the steps outside the ledger, and the current wait up to now.

        A current wait shorter than `MIN_WAIT` is left out.
        """
        wait = self._wait
        if wait is None or self.clock.boottime() - wait.since < MIN_WAIT:
            return tuple(self.steps)
        return *self.steps, Step(wait.at, wait.cause, self.clock.now(), wait.detail)

    def forget_steps(self, steps: Sequence[Step]) -> None:
        """Remove ``steps``, which the ledger has now."""
        self.steps = [step for step in self.steps if step not in steps]

    def find_unrecorded_steps(self, lasting: WaitStatus | None, now: datetime) -> Sequence[Step]:
        """Return the steps to record although nothing else of the occurrence is written.

        Steps are due for a record when the current wait lasts, or when the first step is `LASTING_WAIT` old.
        ``lasting`` is the current wait. Its step has no end and is recorded once.
        A throttle with a moving end is recorded again, at most once a minute.
        """
        is_new = (
            lasting is not None
            and lasting.cause in _NOTED_CAUSES
            and now - lasting.since >= LASTING_WAIT
            and self._is_unrecorded(lasting, now)
        )
        if not is_new or lasting is None:
            return tuple(self.steps) if self.steps and now - self.steps[0].at >= LASTING_WAIT else ()
        return *self.steps, Step(lasting.since, lasting.cause, None, lasting.detail)

    def _is_unrecorded(self, lasting: WaitStatus, now: datetime) -> bool:
        """Return whether the ledger lacks the wait, or, once a minute, whether a throttle has a new end."""
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
