"""Deliveries and automation queues: the open occurrences of one automation, in the order of due.

Only the head of an automation queue is sent.
"""

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
"""Seconds. A shorter wait is not recorded."""


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
class Delivery:
    """Delivery of one open occurrence, with the knowledge of this process beyond the ledger's row."""

    occurrence: Occurrence
    name: str
    due: datetime
    deadline: datetime
    is_late: bool  # planned after the due instant, recovered, or a backfill
    # The definition version of the occurrence. None after recovery and for a backfill.
    entry: TimetableEntry | None
    state: State
    attempt: Attempt | None = None
    # Instant of the written attempt, on the boot-time clock. None: write the attempt anew before a send.
    written_boottime: float | None = None
    sent_at: datetime | None = None  # of the attempt in flight, or of the unknown attempt
    sent_boottime: float = 0.0  # `sent_at` on the boot-time clock
    sent_by_api: datetime | None = None  # `sent_at` on the API's clock; None without a clock offset
    unknown_attempt: UnknownAttempt | None = None
    # An unknown attempt that readings resolved as not started. Kept until a later attempt may have
    # started a run.
    unstarted_attempt: UnknownAttempt | None = None
    may_resend: bool = True  # under the same idempotency key, where the target honours keys
    maybe_sent: bool = False  # an attempt was unknown once, reconciled or not
    failures: int = 0
    faults: int = 0  # internal errors of the scheduler during this delivery
    not_before: float = 0.0
    # When this process first saw the occurrence due, on the boot-time clock. Older readings do not count.
    due_seen: float | None = None
    is_held_up: bool = False  # something delayed the occurrence after its due instant
    is_queued: bool = False  # the run before delayed the occurrence, under `queue`
    # An older occurrence was coalesced into this occurrence, and the row of this occurrence explains
    # the older outcome.
    has_coalesced: bool = False
    recovered_under: TimetableEntry | None = None  # the definition version in force at the recovery
    queued_at: datetime | None = None  # when the delivery joined its automation queue
    is_backfill: bool = False  # ignores pauses, catch-up and concurrency
    is_concluded: bool = False  # the ledger has the outcome, or the claim was withdrawn
    error: str | None = None
    steps: list[Step] = field(default_factory=list)  # not in the ledger yet
    wait: _Wait | None = None
    place: PlaceWait | None = None  # the place for the attempt, during a wait
    noted_wait: Step | None = None  # the wait in the ledger without an end
    noted_at: datetime | None = None  # when `noted_wait` was recorded
    # Start of the wait, on the boot-time clock: the due instant of this occurrence, or of the first
    # coalesced occurrence.
    waiting_since: float | None = None

    @property
    def attempt_count(self) -> int:
        """Number of written attempts."""
        return 0 if self.attempt is None else self.attempt.number

    @property
    def is_attempted(self) -> bool:
        """Whether an attempt was made, with any result. A written but unsent attempt does not count."""
        return self.attempt_count > (1 if self.state is State.CLAIMED else 0)

    @property
    def is_under_way(self) -> bool:
        """Whether the occurrence was seen due, or has an attempt in flight or unknown."""
        return self.due_seen is not None or self.may_have_started

    @property
    def may_have_started(self) -> bool:
        """Whether an attempt is in flight or unknown.

        An unknown attempt stays unknown while another attempt is written.
        """
        return self.state is State.IN_FLIGHT or self.unknown_attempt is not None

    @property
    def is_undecided(self) -> bool:
        """Whether a run that appears now may belong to this occurrence."""
        return self.may_have_started or self.unstarted_attempt is not None

    def begin_wait(self, cause: Cause | None, clock: DaemonClock, detail: str | None = None) -> None:
        """Begin a wait for ``cause``, or go on with the same wait. None: only end the current wait."""
        if self.wait is not None and (self.wait.cause, self.wait.detail) == (cause, detail):
            return
        if self.wait is not None and self.wait.cause is cause is Cause.THROTTLED:
            # The wait stays one step, however often the end of the throttle moves.
            self.wait = replace(self.wait, detail=detail or self.wait.detail)
            return
        wait, now = self.wait, clock.now()
        if wait is not None and clock.boottime() - wait.since >= _MIN_WAIT:
            self.steps.append(Step(wait.at, wait.cause, now, wait.detail))
        self.wait = None if cause is None else _Wait(cause, detail, now, clock.boottime())

    def end_wait(self, clock: DaemonClock) -> None:
        """End the current wait."""
        self.begin_wait(None, clock)

    @contextmanager
    def record_wait(self, cause: Cause, clock: DaemonClock, detail: str | None = None) -> Iterator[None]:
        """Record a wait for ``cause`` during the block, however the block ends."""
        self.begin_wait(cause, clock, detail)
        try:
            yield
        finally:
            self.end_wait(clock)

    @contextmanager
    def record_place_wait(self, place: PlaceWait) -> Iterator[None]:
        """Record the wait for a place during the block, however the block ends."""
        self.place = place
        try:
            yield
        finally:
            self.place = None
            self.steps += place.list_steps()

    def list_steps(self, clock: DaemonClock) -> tuple[Step, ...]:
        """Return the steps outside the ledger, and the current wait up to now.

        A current wait shorter than `_MIN_WAIT` is left out.
        """
        wait = self.wait
        if wait is None or clock.boottime() - wait.since < _MIN_WAIT:
            return tuple(self.steps)
        return *self.steps, Step(wait.at, wait.cause, clock.now(), wait.detail)

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
        noted = self.noted_wait
        if (
            noted is None
            or self.noted_at is None
            or (noted.at, noted.cause) != (lasting.since, lasting.cause)
        ):
            return True
        is_changed = noted.cause is Cause.THROTTLED and noted.detail != lasting.detail
        return is_changed and abs(now - self.noted_at) >= _NOTE_INTERVAL

    def note_steps_recorded(self, steps: Sequence[Step], now: datetime) -> None:
        """Note the record of ``steps``, which `find_unrecorded_steps` returned."""
        self.forget_steps(steps)
        if steps[-1].until is None and steps[-1].cause in WAITS_FOR:
            self.noted_wait, self.noted_at = steps[-1], now

    def find_current_wait(self, clock: DaemonClock) -> WaitStatus | None:
        """Return the current wait as the head of the automation queue; None: nothing lasting delays it."""
        now = clock.now()
        if self.wait is not None:
            return self._make_wait_status(self.wait.cause, self.wait.at, self.wait.detail)
        if self.place is not None and (short := self.place.find_current_wait()) is not None:
            return self._make_wait_status(short.cause, short.at, short.detail)
        if self.state is State.IN_FLIGHT:
            return self._make_wait_status(Cause.ANSWER, self.sent_at or now)
        if self.unknown_attempt is not None:
            return self._make_wait_status(
                Cause.OUTCOME,
                now - timedelta(seconds=max(clock.boottime() - self.unknown_attempt.ended, 0.0)),
            )
        return self._make_wait_status(Cause.DUE, self.occurrence.scheduled_for) if now < self.due else None

    def find_wait_behind(self, head: "Delivery", now: datetime) -> WaitStatus:
        """Return the current wait behind the head of the automation queue."""
        if now < self.due and not self.is_backfill:
            return self._make_wait_status(Cause.DUE, self.occurrence.scheduled_for)
        return self._make_wait_status(
            Cause.TURN, self.turn_since, to_text_seconds(head.occurrence.scheduled_for)
        )

    def note_turn_wait(self, head: "Delivery", now: datetime) -> None:
        """Note the wait behind the head until now.

        The new step includes any unrecorded earlier wait for the turn.
        """
        if now - self.turn_since >= timedelta(seconds=_MIN_WAIT):
            self.steps[:] = [step for step in self.steps if step.cause is not Cause.TURN]
            self.steps.append(
                Step(self.turn_since, Cause.TURN, now, to_text_seconds(head.occurrence.scheduled_for))
            )

    @property
    def turn_since(self) -> datetime:
        """Start of the wait for the turn while another occurrence is the head.

        The wait starts when the occurrence is due and in its queue. A backfill waits from the moment it joins
        the queue.
        """
        if self.queued_at is None:
            return self.due
        return self.queued_at if self.is_backfill else max(self.due, self.queued_at)

    def _make_wait_status(self, cause: Cause, since: datetime, detail: str | None = None) -> WaitStatus:
        of = self.occurrence
        return WaitStatus(
            of.automation_id,
            self.name,
            of.scheduled_for,
            self.due,
            cause,
            since,
            detail,
            None if self.is_queued else self.deadline,
        )

    def mark_unknown(self, ended: float, settle_time: timedelta) -> None:
        """Mark the newest attempt as unknown, with its end at ``ended`` on the boot-time clock.

        A run of an earlier unknown attempt counts too: the API may have shown or started that run late.
        """
        earlier = self.unknown_attempt or self.unstarted_attempt
        if earlier is not None:
            self.sent_boottime, self.sent_by_api = earlier.sent, earlier.sent_by_api
        baseline = self.attempt.baseline if self.attempt else None
        self.unknown_attempt = UnknownAttempt(
            baseline, self.sent_boottime, ended, settle_time.total_seconds(), self.sent_by_api
        )
        self.state, self.maybe_sent, self.unstarted_attempt = State.UNKNOWN, True, None

    def mark_not_started(self) -> None:
        """Resolve the unknown attempt as not started, since readings agree. The occurrence waits."""
        self.unstarted_attempt, self.unknown_attempt = self.unknown_attempt, None
        self.state, self.may_resend = State.WAITING, True


@dataclass(slots=True)
class AutomationQueue:
    """Open deliveries of one automation, in the order of due."""

    alarm: Alarm
    deliveries: deque[Delivery] = field(default_factory=deque)

    def add(self, carried: Delivery) -> None:
        """Add a delivery behind all deliveries with an earlier due instant, and behind a head under way.

        A delivery that is due earlier precedes a head that is not under way. Such a head may wait for hours
        when a clock that was ahead claimed it.
        """
        self.deliveries.insert(
            self._find_backfill_position() if carried.is_backfill else self._find_position_by_due(carried),
            carried,
        )
        self.alarm.ring()

    def iterate_waits(self, clock: DaemonClock) -> Iterator[tuple[Delivery, WaitStatus | None]]:
        """Yield each delivery with its current wait; None: nothing lasting delays the occurrence."""
        if self.deliveries:
            head, now = self.deliveries[0], clock.now()
            yield head, head.find_current_wait(clock)
            yield from (
                (each, each.find_wait_behind(head, now)) for each in self.deliveries if each is not head
            )

    def end_waits(self, clock: DaemonClock, stopped_at: datetime) -> None:
        """End every wait now, because the process ends and records the waits until now.

        A wait that the stop cut off at ``stopped_at`` or later is extended until now:
        an attempt in flight may delay a stop for long.
        """
        head, now = self.deliveries[0] if self.deliveries else None, clock.now()
        for carried in self.deliveries:
            carried.end_wait(clock)
            if head is not None and carried is not head:
                carried.note_turn_wait(head, now)
            elif (
                carried.steps
                and carried.steps[-1].until is not None
                and stopped_at <= carried.steps[-1].until < now
            ):
                carried.steps[-1] = replace(carried.steps[-1], until=now)

    def reorder_head(self) -> None:
        """Move a head behind all deliveries with an earlier due instant, unless the head is under way.

        The head may have been claimed while the clock was ahead. Older occurrences came later, while an
        attempt of the head was unknown.
        """
        head = self.deliveries[0]
        if (
            head.is_under_way
            or head.is_backfill
            or len(self.deliveries) == 1
            or self.deliveries[1].due >= head.due
        ):
            return
        self.deliveries.popleft()
        self.deliveries.insert(self._find_position_by_due(head), head)

    def _find_position_by_due(self, carried: Delivery) -> int:
        at, first = len(self.deliveries), int(bool(self.deliveries) and self.deliveries[0].is_under_way)
        while at > first and self.deliveries[at - 1].due > carried.due:
            at -= 1
        return at

    def _find_backfill_position(self) -> int:
        """Return the position of a backfill: behind the head, and behind earlier requests.

        The head is to be on time. A backfill precedes a head that only waits for the run before.
        """
        at = (
            0
            if self.deliveries and self.deliveries[0].is_queued and self.deliveries[0].unknown_attempt is None
            else min(1, len(self.deliveries))
        )
        return next(
            (place for place in range(at, len(self.deliveries)) if not self.deliveries[place].is_backfill),
            len(self.deliveries),
        )

    def coalesce_into_newest(self, coalesced: Sequence[Delivery], now: datetime) -> Delivery | None:
        """Coalesce occurrences, the oldest first, into the newest due occurrence, and return the newest.

        The newest occurrence inherits the longest waiting time. Return None when no newer occurrence is due.
        """
        newer = list(self.iterate_newer_due(coalesced[0], now))
        for each in newer:
            each.has_coalesced = True
        heir = max(newer, key=lambda each: each.due, default=None)
        since = min(
            (each.waiting_since for each in coalesced if each.waiting_since is not None), default=None
        )
        if heir is not None and since is not None:
            heir.waiting_since = since if heir.waiting_since is None else min(heir.waiting_since, since)
        return heir

    def note_coalescence(self, instant: datetime) -> None:
        """Note a coalescence into the newest occurrence, due or not. The older one is in no queue."""
        newest = max(self.deliveries, key=lambda each: each.occurrence.scheduled_for)
        newest.has_coalesced = newest.has_coalesced or newest.occurrence.scheduled_for > instant

    def find_next_due(self, now: datetime) -> datetime | None:
        """Return the first due instant after ``now``, without backfills."""
        return min(
            (each.due for each in self.deliveries if each.due > now and not each.is_backfill), default=None
        )

    def iterate_newer_due(self, carried: Delivery, now: datetime) -> Iterator[Delivery]:
        """Yield the due occurrences newer than ``carried``, from the end of the queue, without backfills.

        The position in the queue does not decide: an older occurrence may be behind this one, because the
        older one was confirmed when this one was already under way.
        """
        than = carried.occurrence.scheduled_for
        return (
            each
            for each in reversed(self.deliveries)
            if each.occurrence.scheduled_for > than and each.due <= now and not each.is_backfill
        )
