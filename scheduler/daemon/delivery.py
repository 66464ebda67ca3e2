"""One automation's open occurrences, in the order in which they came due. Its head is the only one that is being carried on."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from scheduler.core.instants import to_text_seconds
from scheduler.core.model import Attempt, Occurrence, State
from scheduler.core.occurrence_log import RECORDED_CAUSES, WAITS_FOR, Cause, Step
from scheduler.core.status import WaitStatus
from scheduler.core.timetable import TimetableEntry
from scheduler.core.verdict import UnknownAttempt
from scheduler.daemon.clock import Alarm
from scheduler.daemon.ports import DaemonClock

_MIN_WAIT: Final = 1.0
"""What held an occurrence up for fewer seconds is not told."""


LASTING_WAIT: Final = timedelta(seconds=5)
"""A wait is written down by itself when it has lasted so long; a shorter one, with the next change of its occurrence."""


_NOTED_CAUSES: Final = RECORDED_CAUSES - {Cause.LEDGER}
"""Waits that are written while they last. One for the ledger is written by the write that it waits for, and would get no end after it."""


_NOTE_INTERVAL: Final = timedelta(minutes=1)
"""The end of a throttle that moves is written for a waiting occurrence at most so often: ten thousand may wait."""


class PlaceWait(Protocol):
    """A place for an attempt that is waited for."""

    def find_current_wait(self) -> Step | None:
        """Return what it waits for now."""

    def list_steps(self) -> list[Step]:
        """Return what it has waited for so far."""


@dataclass(frozen=True, slots=True)
class _Wait:
    """What an occurrence waits for now, and since when on both clocks."""

    cause: Cause
    detail: str | None
    at: datetime
    since: float


@dataclass(slots=True)
class Delivery:
    """An open occurrence on its way to its outcome, with what this process knows of it beyond the ledger's row."""

    occurrence: Occurrence
    name: str
    due: datetime
    deadline: datetime
    is_late: bool  # it was planned after it was due, or adopted from another process
    entry: TimetableEntry | None  # the version that implied it; None when it was adopted
    state: State
    attempt: Attempt | None = None
    written_boottime: float | None = (
        None  # when the attempt's instant was, on the clock that counts suspend; None: not to be sent on its strength
    )
    sent_at: datetime | None = None  # of the attempt under way, or in doubt
    sent_boottime: float = 0.0  # the same on the clock that counts suspend
    sent_by_api: datetime | None = None  # the same on the API's clock, as far as it was known then
    unknown_attempt: UnknownAttempt | None = None
    unstarted_attempt: UnknownAttempt | None = (
        None  # the doubt about attempts that have started nothing, as readings say, until another may have
    )
    may_resend: bool = True  # under its idempotency key, where the target honours it
    maybe_sent: bool = False  # an attempt was in doubt once, whatever was found out about it
    failures: int = 0
    faults: int = 0  # of our own, while it was carried
    not_before: float = 0.0
    due_seen: float | None = None  # when it was first seen to be due; a reading that counts began later
    is_held_up: bool = False  # something made it wait after it was due
    is_queued: bool = False  # that was the run before it, under `queue`
    has_coalesced: bool = False  # an older one, which its row explains
    recovered_under: TimetableEntry | None = None  # the version that was in force when this process adopted it
    queued_at: datetime | None = None  # when it came to its lane
    is_backfill: bool = False  # for by hand: pauses, catching up and concurrency are no matter
    is_concluded: bool = False  # the ledger has its outcome, or it was withdrawn
    error: str | None = None
    steps: list[Step] = field(default_factory=list)  # that are not in the ledger yet
    wait: _Wait | None = None
    place: PlaceWait | None = None  # that it waits for
    noted_wait: Step | None = None  # the wait that is in the ledger without its end
    noted_at: datetime | None = None  # when that was written
    waiting_since: float | None = None  # on the clock that counts suspend: due, or the first one that it coalesced was

    @property
    def attempt_count(self) -> int:
        """How many attempts were written."""
        return 0 if self.attempt is None else self.attempt.number

    @property
    def is_attempted(self) -> bool:
        """Whether an attempt was made, whatever came of it. One that is only written has not been made."""
        return self.attempt_count > (1 if self.state is State.CLAIMED else 0)

    @property
    def is_under_way(self) -> bool:
        """Whether it has been due, or an attempt for it is on its way or in doubt."""
        return self.due_seen is not None or self.may_have_started

    @property
    def may_have_started(self) -> bool:
        """Whether an attempt is on its way or in doubt. In doubt it stays while another one is written."""
        return self.state is State.IN_FLIGHT or self.unknown_attempt is not None

    @property
    def is_undecided(self) -> bool:
        """Whether a run that turns up now may be its."""
        return self.may_have_started or self.unstarted_attempt is not None

    def begin_wait(self, cause: Cause | None, clock: DaemonClock, detail: str | None = None) -> None:
        """It waits for this from now on, or still; None: for nothing that is worth telling."""
        if self.wait is not None and (self.wait.cause, self.wait.detail) == (cause, detail):
            return
        if self.wait is not None and self.wait.cause is cause is Cause.THROTTLED:
            # However often the end of a throttle moves, the wait stays one step.
            self.wait = replace(self.wait, detail=detail or self.wait.detail)
            return
        wait, now = self.wait, clock.now()
        if wait is not None and clock.boottime() - wait.since >= _MIN_WAIT:
            self.steps.append(Step(wait.at, wait.cause, now, wait.detail))
        self.wait = None if cause is None else _Wait(cause, detail, now, clock.boottime())

    def end_wait(self, clock: DaemonClock) -> None:
        """It waits no more."""
        self.begin_wait(None, clock)

    @contextmanager
    def record_wait(self, cause: Cause, clock: DaemonClock, detail: str | None = None) -> Iterator[None]:
        """Wait for this as long as the block lasts, however it ends."""
        self.begin_wait(cause, clock, detail)
        try:
            yield
        finally:
            self.end_wait(clock)

    @contextmanager
    def record_place_wait(self, place: PlaceWait) -> Iterator[None]:
        """Wait for a place as long as the block lasts, however it ends."""
        self.place = place
        try:
            yield
        finally:
            self.place = None
            self.steps += place.list_steps()

    def list_steps(self, clock: DaemonClock) -> tuple[Step, ...]:
        """Return the steps that are not in the ledger yet, with what it waits for now, if that has lasted, up to now."""
        wait = self.wait
        if wait is None or clock.boottime() - wait.since < _MIN_WAIT:
            return tuple(self.steps)
        return *self.steps, Step(wait.at, wait.cause, clock.now(), wait.detail)

    def forget_steps(self, steps: Sequence[Step]) -> None:
        """These steps are in the ledger."""
        self.steps = [step for step in self.steps if step not in steps]

    def find_unrecorded_steps(self, lasting: WaitStatus | None, now: datetime) -> Sequence[Step]:
        """Return the steps to write although nothing else is written of it: its wait lasts, or they have been left for long.

        ``lasting`` is what it waits for now. Its step has no end and is written once.
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
        """Return whether the wait is not in the ledger, or, once a minute, whether its throttle ends at another time."""
        noted = self.noted_wait
        if noted is None or self.noted_at is None or (noted.at, noted.cause) != (lasting.since, lasting.cause):
            return True
        is_changed = noted.cause is Cause.THROTTLED and noted.detail != lasting.detail
        return is_changed and abs(now - self.noted_at) >= _NOTE_INTERVAL

    def note_steps_recorded(self, steps: Sequence[Step], now: datetime) -> None:
        """These steps of `find_unrecorded_steps` are in the ledger."""
        self.forget_steps(steps)
        if steps[-1].until is None and steps[-1].cause in WAITS_FOR:
            self.noted_wait, self.noted_at = steps[-1], now

    def find_current_wait(self, clock: DaemonClock) -> WaitStatus | None:
        """Return what it waits for now as the head of its lane; None for nothing that takes time."""
        now = clock.now()
        if self.wait is not None:
            return self._make_wait_status(self.wait.cause, self.wait.at, self.wait.detail)
        if self.place is not None and (short := self.place.find_current_wait()) is not None:
            return self._make_wait_status(short.cause, short.at, short.detail)
        if self.state is State.IN_FLIGHT:
            return self._make_wait_status(Cause.ANSWER, self.sent_at or now)
        if self.unknown_attempt is not None:
            return self._make_wait_status(Cause.OUTCOME, now - timedelta(seconds=max(clock.boottime() - self.unknown_attempt.ended, 0.0)))
        return self._make_wait_status(Cause.DUE, self.occurrence.scheduled_for) if now < self.due else None

    def find_wait_behind(self, head: "Delivery", now: datetime) -> WaitStatus:
        """Return what it waits for now behind the head of its lane."""
        if now < self.due and not self.is_backfill:
            return self._make_wait_status(Cause.DUE, self.occurrence.scheduled_for)
        return self._make_wait_status(Cause.TURN, self.turn_since, to_text_seconds(head.occurrence.scheduled_for))

    def note_turn_wait(self, head: "Delivery", now: datetime) -> None:
        """Note that it waited until now behind the head. A wait for its turn that is not on record yet is part of this one."""
        if now - self.turn_since >= timedelta(seconds=_MIN_WAIT):
            self.steps[:] = [step for step in self.steps if step.cause is not Cause.TURN]
            self.steps.append(Step(self.turn_since, Cause.TURN, now, to_text_seconds(head.occurrence.scheduled_for)))

    @property
    def turn_since(self) -> datetime:
        """Since when it waits for its turn while another one is the head: due, and in its lane."""
        if self.queued_at is None:
            return self.due
        return self.queued_at if self.is_backfill else max(self.due, self.queued_at)

    def _make_wait_status(self, cause: Cause, since: datetime, detail: str | None = None) -> WaitStatus:
        of = self.occurrence
        return WaitStatus(
            of.automation_id, self.name, of.scheduled_for, self.due, cause, since, detail, None if self.is_queued else self.deadline
        )

    def mark_unknown(self, ended: float, settle_time: timedelta) -> None:
        """Note that the newest attempt ended at ``ended``, on the clock that counts suspend, and that nobody knows what it started.

        A run that an earlier attempt in doubt started counts too: the API may have shown it too late, or carried it out too late.
        """
        earlier = self.unknown_attempt or self.unstarted_attempt
        if earlier is not None:
            self.sent_boottime, self.sent_by_api = earlier.sent, earlier.sent_by_api
        baseline = self.attempt.baseline if self.attempt else None
        self.unknown_attempt = UnknownAttempt(baseline, self.sent_boottime, ended, settle_time.total_seconds(), self.sent_by_api)
        self.state, self.maybe_sent, self.unstarted_attempt = State.UNKNOWN, True, None

    def mark_not_started(self) -> None:
        """Readings agree that its newest attempt started nothing: it is to be sent again."""
        self.unstarted_attempt, self.unknown_attempt = self.unknown_attempt, None
        self.state, self.may_resend = State.WAITING, True


@dataclass(slots=True)
class AutomationQueue:
    """The queue of one automation."""

    alarm: Alarm
    deliveries: deque[Delivery] = field(default_factory=deque)

    def add(self, carried: Delivery) -> None:
        """Queue it behind those that came due before it, and behind a head that is on its way.

        Before a head that is not: one that was claimed by a clock that was ahead may have hours to wait.
        """
        self.deliveries.insert(self._find_backfill_position() if carried.is_backfill else self._find_position_by_due(carried), carried)
        self.alarm.ring()

    def iterate_waits(self, clock: DaemonClock) -> Iterator[tuple[Delivery, WaitStatus | None]]:
        """Yield each of its occurrences with what it waits for now; None: for nothing that takes time."""
        if self.deliveries:
            head, now = self.deliveries[0], clock.now()
            yield head, head.find_current_wait(clock)
            yield from ((each, each.find_wait_behind(head, now)) for each in self.deliveries if each is not head)

    def end_waits(self, clock: DaemonClock, stopped_at: datetime) -> None:
        """End every wait now, because the process ends: the waits until now are to be recorded.

        A wait that the stop cut off at ``stopped_at`` or later went on until now: an attempt in flight keeps a stop waiting for long.
        """
        head, now = self.deliveries[0] if self.deliveries else None, clock.now()
        for carried in self.deliveries:
            carried.end_wait(clock)
            if head is not None and carried is not head:
                carried.note_turn_wait(head, now)
            elif carried.steps and carried.steps[-1].until is not None and stopped_at <= carried.steps[-1].until < now:
                carried.steps[-1] = replace(carried.steps[-1], until=now)

    def reorder_head(self) -> None:
        """Put a head that is not on its way behind those that are due before it.

        A clock that was ahead may have claimed the head, and older occurrences came while nobody knew what its attempt had started.
        """
        head = self.deliveries[0]
        if head.is_under_way or head.is_backfill or len(self.deliveries) == 1 or self.deliveries[1].due >= head.due:
            return
        self.deliveries.popleft()
        self.deliveries.insert(self._find_position_by_due(head), head)

    def _find_position_by_due(self, carried: Delivery) -> int:
        at, first = len(self.deliveries), int(bool(self.deliveries) and self.deliveries[0].is_under_way)
        while at > first and self.deliveries[at - 1].due > carried.due:
            at -= 1
        return at

    def _find_backfill_position(self) -> int:
        """Behind the head, which is to be on time; before one that only waits for the run before it; in the order of the requests."""
        at = (
            0
            if self.deliveries and self.deliveries[0].is_queued and self.deliveries[0].unknown_attempt is None
            else min(1, len(self.deliveries))
        )
        return next((place for place in range(at, len(self.deliveries)) if not self.deliveries[place].is_backfill), len(self.deliveries))

    def coalesce_into_newest(self, coalesced: Sequence[Delivery], now: datetime) -> Delivery | None:
        """Return the newest occurrence that is due, which coalesces these, the oldest first, and inherits the longest time they waited."""
        newer = list(self.iterate_newer_due(coalesced[0], now))
        for each in newer:
            each.has_coalesced = True
        heir = max(newer, key=lambda each: each.due, default=None)
        since = min((each.waiting_since for each in coalesced if each.waiting_since is not None), default=None)
        if heir is not None and since is not None:
            heir.waiting_since = since if heir.waiting_since is None else min(heir.waiting_since, since)
        return heir

    def note_coalescence(self, instant: datetime) -> None:
        """Note that an occurrence of this instant, which is in no lane, is coalesced into the newest one, due or not."""
        newest = max(self.deliveries, key=lambda each: each.occurrence.scheduled_for)
        newest.has_coalesced = newest.has_coalesced or newest.occurrence.scheduled_for > instant

    def find_next_due(self, now: datetime) -> datetime | None:
        """Return when the first of the newer occurrences that are not due yet comes due."""
        return min((each.due for each in self.deliveries if each.due > now and not each.is_backfill), default=None)

    def iterate_newer_due(self, carried: Delivery, now: datetime) -> Iterator[Delivery]:
        """Yield the newer occurrences than this one that are due, the last first; none that was asked for by hand.

        Not whatever waits behind it: what came due before it may have been confirmed only when it was on its way.
        """
        than = carried.occurrence.scheduled_for
        return (
            each for each in reversed(self.deliveries) if each.occurrence.scheduled_for > than and each.due <= now and not each.is_backfill
        )
