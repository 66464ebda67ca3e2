"""Carries every claimed occurrence to its one outcome.

Each automation with open occurrences has a lane, and each lane one task, which carries the lane's head: wait until it may be sent, make
the attempt durable, send it, judge the answer, and find out where the answer does not tell. A lane's next occurrence waits for that.
The rules are those of `docs/semantics.md`; the decisions are pure and live in `core.policy`, `core.verdict` and `clearance`.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from scheduler.core.errors import LedgerUnavailable, UpstreamError
from scheduler.core.events import AttemptBegun, AttemptEnded, CarryFailed, OccurrenceConcluded
from scheduler.core.identity import idempotency_key
from scheduler.core.instants import to_text_seconds
from scheduler.core.model import Attempt, AttemptEnd, AttemptResult, Conclusion, OpenOccurrence, Outcome, Reason, Run, RunStatus, State
from scheduler.core.policy import Concurrency
from scheduler.core.steps import Cause, Step
from scheduler.core.verdict import (
    Absent,
    Accepted,
    Answer,
    Doubt,
    Held,
    NotStarted,
    Rejected,
    Throttled,
    Unknown,
    Verdict,
    is_finished,
    judge,
)
from scheduler.daemon.clearance import Clearance, Go, NeedReading, Stop, Wait, Withdraw
from scheduler.daemon.clock import Alarm
from scheduler.daemon.context import LONGEST_BACK_OFF, Context, back_off
from scheduler.daemon.inquiry import Inquiry
from scheduler.daemon.lane import Carried, Lane
from scheduler.daemon.readings import Readings

_T = TypeVar("_T")

SEND_WITHIN: Final = 10.0
"""An attempt may be sent this many seconds after its durable instant; later it is written anew."""
_MOST_FAULTS: Final = 5
"""After so many faults of our own an occurrence is left open in the ledger for the next start, and those behind it go on."""
PAUSES_HOLD: Final = 0.5
"""Seconds for which it is taken for granted what operators have paused."""
_ABANDONED_AFTER: Final = timedelta(seconds=10)
_NOTABLE: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Ending:
    """An outcome, with the run and the attempt's end that belong to it."""

    outcome: Outcome
    reason: Reason
    error: str | None = None
    run: Run | None = None
    end: AttemptEnd | None = None


@dataclass(frozen=True, slots=True)
class _Behind:
    """Another one is the head of its lane now."""


class Dispatcher:
    """Sends what is claimed, and sees to its outcome."""

    def __init__(self, context: Context, readings: Readings, clearance: Clearance) -> None:
        self._context = context
        self._readings = readings
        self._clearance = clearance
        self._inquiry = Inquiry(context, readings)
        self._lanes: dict[str, Lane] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(context.settings.max_in_flight)
        self._in_flight: set[str] = set()
        self._reading_pauses = asyncio.Lock()
        self._pauses_read = float("-inf")
        self._listeners: list[Callable[[Run], None]] = []
        self._stopping = False

    # ------------------------------------------------------------ what others ask

    def lane(self, automation_id: str) -> Lane | None:
        """The automation's open occurrences, if it has any."""
        return self._lanes.get(automation_id)

    def is_undecided(self, automation_id: str) -> bool:
        """Whether an attempt for the automation is on its way or in doubt: a new run may be ours."""
        lane = self._lanes.get(automation_id)
        return lane is not None and any(each.state in {State.IN_FLIGHT, State.UNKNOWN} for each in lane.waiting)

    def open(self) -> Iterable[Carried]:
        """Every open occurrence."""
        return (each for lane in self._lanes.values() for each in lane.waiting)

    def states(self) -> Counter[State]:
        """How many open occurrences there are in each state."""
        return Counter(each.state for each in self.open())

    def listen(self, listener: Callable[[Run], None]) -> None:
        """Call ``listener`` with every run that an attempt started."""
        self._listeners.append(listener)

    def wake(self) -> None:
        """Something changed that lanes may be waiting for."""
        for lane in self._lanes.values():
            lane.alarm.ring()

    def resize(self, max_in_flight: int) -> None:
        """From now on so many attempts may be in flight at once; those that are stay so."""
        self._slots = asyncio.Semaphore(max_in_flight)

    # ------------------------------------------------------------ coming and going

    def adopt(self, opened: Iterable[OpenOccurrence]) -> None:
        """Go on with what another process, or this one before it was killed, left open.

        What is in doubt first: a run of another would hide its own. By due it may come later when the clock was set back.
        """
        self.take(sorted(map(self._adopted, opened), key=lambda each: each.doubt is None))

    def reopened(self, opened: OpenOccurrence) -> None:
        """Go on with what somebody asked for: it had its outcome, and has no attempt under way."""
        self.take([self._waiting(opened)])

    def take(self, carried: Iterable[Carried]) -> None:
        """Carry these to their outcomes."""
        for each in carried:
            automation_id = each.occurrence.automation_id
            lane = self._lanes.get(automation_id)
            if lane is None:
                lane = self._lanes[automation_id] = Lane(Alarm(self._context.clock))
                lane.add(each)
                self._tasks[automation_id] = asyncio.create_task(self._carry(automation_id, lane))
            else:
                lane.add(each)

    async def drain(self, seconds: float) -> int:
        """Send nothing more; give what is in flight so long. Returns how many attempts are left to be found out at the next start."""
        self._stopping = True
        for automation_id, task in self._tasks.items():
            if automation_id not in self._in_flight:
                task.cancel()
        flying = [self._tasks[each] for each in self._in_flight]
        if flying:
            await asyncio.wait(flying, timeout=seconds)
        left = len(self._in_flight)
        tasks = list(self._tasks.values())
        self.abandon()
        await asyncio.gather(*tasks, return_exceptions=True)
        return left

    async def take_back(self, seconds: float) -> None:
        """What was never sent simply waits for the next start. What the ledger does not take back in time is found out then instead."""
        unsent = [each.occurrence for each in self.open() if each.state is not State.IN_FLIGHT and each.doubt is None]
        if not unsent:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._context.ledger.unsend(unsent)
        except (LedgerUnavailable, TimeoutError) as error:
            self._context.health.failed("unsend", str(error) or f"it took longer than {seconds:g} s")

    def abandon(self) -> None:
        """Let go of everything, at once."""
        self._stopping = True
        for task in self._tasks.values():
            task.cancel()

    def _adopted(self, found: OpenOccurrence) -> Carried:
        carried = self._waiting(found)
        if found.attempt is not None and found.end is None:
            carried.sent_at = found.attempt.written_at
            self._doubt_again(carried, found, found.attempt.written_at + _ABANDONED_AFTER)
        elif found.end is not None and found.state is State.UNKNOWN:
            carried.sent_at = found.end.sent_at or found.end.ended_at
            self._doubt_again(carried, found, found.end.ended_at)
        carried.queued = self._queued(found)
        carried.steps.append(Step(self._context.clock.now(), Cause.ADOPTED))
        return carried

    def _waiting(self, found: OpenOccurrence) -> Carried:
        carried = Carried(found.occurrence, found.name, found.due, found.deadline, late=True, entry=None, state=State.WAITING)
        carried.attempt, carried.asked, carried.maybe_sent = found.attempt, found.asked_at is not None, found.maybe_sent
        carried.error = None if found.end is None else found.end.error
        return carried

    def _queued(self, found: OpenOccurrence) -> bool:
        """Whether it waited for the run before it, and so has beyond its deadline: as far as the newest recorded snapshot tells."""
        entry = self._context.timetable.entries.get(found.occurrence.automation_id)
        if found.asked_at is not None or entry is None or entry.policies.concurrency is not Concurrency.QUEUE:
            return False
        return entry.automation.run_id is not None and not is_finished(entry.automation.run_status)

    # ------------------------------------------------------------ one lane

    async def _carry(self, automation_id: str, lane: Lane) -> None:
        while lane.waiting and not self._stopping:
            head = lane.waiting[0]
            try:
                await self._conclude(lane, head)
            except Exception as error:  # noqa: BLE001  a fault of ours in one lane must not stop the others
                await self._survive(head, error)
            finally:
                self._in_flight.discard(automation_id)
            if head.concluded or head.faults >= _MOST_FAULTS:
                lane.waiting.remove(head)
                self._had_its_turn(lane, head)
        if not lane.waiting:
            del self._lanes[automation_id], self._tasks[automation_id]

    def _had_its_turn(self, lane: Lane, head: Carried) -> None:
        now = self._context.clock.now()
        if lane.waiting and not lane.waiting[0].asked and now - lane.waiting[0].due >= _NOTABLE:
            behind, occurrence = lane.waiting[0], head.occurrence
            behind.steps.append(Step(behind.due, Cause.TURN, now, to_text_seconds(occurrence.scheduled_for)))

    async def _survive(self, carried: Carried, error: Exception) -> None:
        carried.faults += 1
        self._context.publish(CarryFailed(occurrence=carried.occurrence, automation=carried.name, error=error))
        if carried.state is State.IN_FLIGHT:
            self._doubt(carried, self._context.clock.seconds())
        await asyncio.sleep(LONGEST_BACK_OFF)

    async def _conclude(self, lane: Lane, carried: Carried) -> None:
        while not self._stopping and lane.waiting[0] is carried:
            self._in_flight.discard(carried.occurrence.automation_id)
            if carried.doubt is None or self._may_resend(carried):
                ending = await self._clear(lane, carried) or await self._attempt(lane, carried)
                if ending is None or isinstance(ending, _Behind):
                    continue
                if isinstance(ending, Withdraw):
                    await self._context.durably("withdraw", lambda: self._context.ledger.withdraw([carried.occurrence]))
                    carried.concluded = True
                    return
                if carried.doubt is None or ending.outcome is Outcome.ACCEPTED:
                    if await self._finish(carried, ending):
                        return
                    continue
                if ending.end is not None:
                    await self._ended(carried, ending.end, State.UNKNOWN)
                carried.resend = False  # something forbids to send again; whether it was started, only reading can tell
            elif (found := await self._find_out(carried)) is not None and await self._finish(carried, found):
                return

    def _may_resend(self, carried: Carried) -> bool:
        return self._context.settings.idempotent and carried.resend and self._context.clock.now() <= carried.deadline

    # ------------------------------------------------------------ waiting

    async def _clear(self, lane: Lane, carried: Carried) -> _Ending | Withdraw | _Behind | None:
        """Wait until it may be sent; what comes back otherwise is what becomes of it."""
        clock = self._context.clock
        while True:
            answer = await self._ask(lane, carried)
            match answer:
                case Wait(seconds=seconds, cause=cause, detail=detail):
                    carried.waits_for(cause, clock, detail)
                    await lane.alarm.sleep(seconds)
                    if lane.waiting[0] is not carried:
                        carried.goes_on(clock)
                        return _Behind()
                    continue
                case NeedReading(since=since):
                    carried.waits_for(Cause.READING, clock)
                    if await self._read(carried, since):
                        carried.goes_on(clock)
                        return _Ending(Outcome.SKIPPED, Reason.DELETED, "the automation was deleted before it could be sent")
                    continue
            carried.goes_on(clock)
            return self._stopped(carried, answer)

    def _stopped(self, carried: Carried, answer: Go | Stop | Withdraw) -> _Ending | Withdraw | None:
        match answer:
            case Go():
                return None
            case Stop(outcome=outcome, reason=reason, error=error):
                return _Ending(outcome, reason, error)
            case Withdraw() as withdraw:
                return _Ending(Outcome.EXPIRED, Reason.NOT_STARTED, carried.error) if carried.maybe_sent else withdraw

    async def _ask(self, lane: Lane, carried: Carried) -> Go | Wait | NeedReading | Stop | Withdraw:
        paused = False if self._is_fresh(carried) else await self._is_paused(carried)
        return self._clearance.ask(carried, lane, paused=paused)

    async def _is_paused(self, carried: Carried) -> bool:
        """As the ledger said a moment ago: when a target is released, thousands ask at the same time."""
        context = self._context
        async with self._reading_pauses:
            if context.clock.seconds() - self._pauses_read > PAUSES_HOLD:
                self._clearance.paused = await context.readably("pauses", lambda: context.ledger.pauses(context.target))
                self._pauses_read = context.clock.seconds()
        return self._clearance.is_paused(carried.occurrence.automation_id)

    def _is_fresh(self, carried: Carried) -> bool:
        return carried.written is not None and self._context.clock.seconds() - carried.written <= SEND_WITHIN

    def _is_outdated(self, carried: Carried) -> bool:
        """Whether a run was seen to begin since the attempt was written: it is none of ours, and the attempt must know it."""
        assert carried.attempt is not None
        return carried.doubt is None and carried.attempt.baseline != self._readings.baseline(carried.occurrence.automation_id)

    async def _read(self, carried: Carried, since: float) -> bool:
        """Get a reading begun then or later, until the deadline; True when the automation is gone."""
        left = (self._clearance.deadline(carried) - self._context.clock.now()).total_seconds()
        try:
            async with asyncio.timeout(max(left, 0.0) + 0.001):
                return await self._readings.read(carried.occurrence.automation_id, since=since) is None
        except TimeoutError:
            carried.error = carried.error or "the automation could not be read, so it could not be told whether its newest run was finished"
            return False

    # ------------------------------------------------------------ sending

    async def _attempt(self, lane: Lane, carried: Carried) -> _Ending | Withdraw | None:
        async with self._slots:
            if not await self._admitted(carried) or not isinstance(await self._ask(lane, carried), Go):
                return None
            self._context.gate.sending()
            if not self._is_fresh(carried) or self._is_outdated(carried):
                await self._write(carried)
                if not self._is_fresh(carried):
                    return None
            verdict, end = await self._send(carried)
        return await self._follow(carried, verdict, end)

    async def _admitted(self, carried: Carried) -> bool:
        """Wait for a place in the request budget; False when that took until the deadline."""
        left = (self._clearance.deadline(carried) - self._context.clock.now()).total_seconds()
        carried.waits_for(Cause.BUDGET, self._context.clock)
        try:
            async with asyncio.timeout(max(left, 0.0) + 0.001):
                await self._context.upstream.admit()
        except TimeoutError:
            carried.error = carried.error or "the request budget of the target had no place for it"
            return False
        finally:
            carried.goes_on(self._context.clock)
        return True

    async def _write(self, carried: Carried) -> None:
        """Make the attempt durable before its first byte."""
        number = carried.attempts if carried.state is State.CLAIMED and carried.attempt else carried.attempts + 1
        baseline = self._readings.baseline(carried.occurrence.automation_id) if carried.doubt is None else carried.doubt.baseline
        attempt = Attempt(number, self._context.clock.now(), baseline, self._context.clock_offset)
        written = self._context.clock.seconds()
        carried.waits_for(Cause.LEDGER, self._context.clock)
        await self._written("attempt", carried, lambda steps: self._context.ledger.attempt(carried.occurrence, attempt, steps))
        carried.goes_on(self._context.clock)
        carried.attempt, carried.written, carried.state = attempt, written, State.CLAIMED

    async def _send(self, carried: Carried) -> tuple[Verdict, AttemptEnd]:
        context, automation_id = self._context, carried.occurrence.automation_id
        attempt = carried.attempt
        assert attempt is not None
        key = idempotency_key(context.settings.url, context.settings.project_id, automation_id, carried.occurrence.scheduled_for)
        carried.state, carried.written = State.IN_FLIGHT, None
        carried.sent_at, carried.sent = context.clock.now(), context.clock.seconds()
        carried.sent_by_api = _by_api(carried.sent_at, context.clock_offset)
        self._in_flight.add(automation_id)
        context.publish(AttemptBegun(target=context.target))
        came_back = await context.upstream.run(automation_id, key)
        verdict = judge(
            came_back, automation_id=automation_id, taken=lambda run_id: run_id == attempt.baseline or self._readings.is_taken(run_id)
        )
        end = AttemptEnd(
            number=attempt.number,
            result=verdict.result,
            ended_at=context.clock.now(),
            sent_at=None if isinstance(verdict, NotStarted) else carried.sent_at,
            http_status=came_back.status if isinstance(came_back, Answer) else None,
            error=None if isinstance(verdict, Accepted) else verdict.error,
        )
        context.publish(
            AttemptEnded(
                occurrence=carried.occurrence,
                automation=carried.name,
                attempt=attempt.number,
                result=verdict.result,
                seconds=context.clock.seconds() - carried.sent,
                error=end.error,
            )
        )
        return verdict, end

    async def _follow(self, carried: Carried, verdict: Verdict, end: AttemptEnd) -> _Ending | None:
        """Do what the verdict asks for; its outcome, or None to go on."""
        carried.error = end.error
        match verdict:
            case Accepted(automation=automation):
                run = Run(automation.run_id or "", automation.id, automation.run_at, RunStatus.RUNNING)
                return _Ending(Outcome.ACCEPTED, Reason.ANSWERED, None, run, end)
            case Rejected(error=error):
                return _Ending(Outcome.REJECTED, Reason.REFUSED, error, None, end)
            case Unknown(retry_after=retry_after):
                carried.failures += 1
                again = 0.0 if carried.doubt is None else back_off(carried.failures)  # sent again at once, but once
                self._doubt(carried, self._context.clock.seconds())
                carried.not_before = self._context.clock.seconds() + max(retry_after or 0.0, again)
                await self._ended(carried, end, State.UNKNOWN)
            case Throttled(retry_after=retry_after):
                self._context.gate.throttle(retry_after)
                await self._ended(carried, end, State.WAITING)
            case Held(error=error):
                self._context.gate.hold(error)
                await self._ended(carried, end, State.WAITING)
            case NotStarted():
                self._back_off(carried)
                await self._ended(carried, end, State.WAITING)
            case Absent():
                self._back_off(carried)
                await self._ended(carried, end, State.WAITING)
                return await self._look_at_the_list(carried)
        return None

    async def _ended(self, carried: Carried, end: AttemptEnd, state: State) -> None:
        if carried.doubt is not None:
            state = State.UNKNOWN  # an earlier attempt still is
        carried.state = state
        await self._written("ended", carried, lambda steps: self._context.ledger.ended(carried.occurrence, end, state, steps))

    async def _written(self, operation: str, carried: Carried, write: Callable[[Sequence[Step]], Awaitable[_T]]) -> _T:
        """Make durable what happened to it, and with it what did before that nobody has written down yet."""
        steps = tuple(carried.steps)
        done = await self._context.durably(operation, lambda: write(steps))
        if done is not False:
            del carried.steps[: len(steps)]
        return done

    def _back_off(self, carried: Carried) -> None:
        carried.failures += 1
        carried.not_before = self._context.clock.seconds() + back_off(carried.failures)

    async def _look_at_the_list(self, carried: Carried) -> _Ending | None:
        try:
            gone = await self._readings.gone(carried.occurrence.automation_id)
        except UpstreamError:
            return None
        return _Ending(Outcome.SKIPPED, Reason.DELETED, carried.error) if gone else None

    # ------------------------------------------------------------ doubt, and the end of it

    def _doubt(self, carried: Carried, ended: float) -> None:
        if carried.doubt is not None:  # sent again under its key: what the first one started counts too
            carried.sent, carried.sent_by_api = carried.doubt.sent, carried.doubt.sent_by_api
        baseline = carried.attempt.baseline if carried.attempt else None
        carried.doubt = Doubt(baseline, carried.sent, ended, self._context.settings.settle_time.total_seconds(), carried.sent_by_api)
        carried.state, carried.maybe_sent = State.UNKNOWN, True

    def _doubt_again(self, carried: Carried, found: OpenOccurrence, ended_at: datetime) -> None:
        """What a process that is no more left in doubt. Its instants are the wall clock's, which may have been set since."""
        clock = self._context.clock
        sent_at, placed = carried.sent_at, found.attempt
        if self._context.settings.idempotent and found.first is not None:  # earlier ones under the same key count too
            sent_at, placed = found.first.written_at, found.first
        carried.sent_by_api = _by_api(sent_at or ended_at, placed.clock_offset if placed else None)
        age = (clock.now() - (sent_at or ended_at)).total_seconds()
        carried.sent = clock.seconds() - age if age >= 0 else float("-inf")  # set back since: any run may be the one
        self._doubt(carried, clock.seconds() - max((clock.now() - ended_at).total_seconds(), 0.0))

    async def _find_out(self, carried: Carried) -> _Ending | None:
        assert carried.doubt is not None
        resolved = await self._inquiry.resolve(carried.occurrence.automation_id, carried.doubt, not_before=carried.not_before)
        if resolved.outcome is None or resolved.reason is None:
            await self._not_started(carried)
            return None
        run = None
        if resolved.run_id is not None:
            run = Run(resolved.run_id, carried.occurrence.automation_id, resolved.run_at, RunStatus.RUNNING)
        return _Ending(resolved.outcome, resolved.reason, resolved.error, run)

    async def _not_started(self, carried: Carried) -> None:
        carried.doubt, carried.state, carried.resend = None, State.WAITING, True
        carried.steps.append(Step(self._context.clock.now(), Cause.NOTHING_STARTED))
        await self._written("state", carried, lambda steps: self._context.ledger.settled(carried.occurrence, steps))

    async def _finish(self, carried: Carried, ending: _Ending) -> bool:
        """Make the outcome durable. False when its run turns out to be another occurrence's: then it is unknown again."""
        # What another process sent, it sent at its due instant or later: only the window of the inquiry begins with the attempt's row.
        sent_at = max(carried.sent_at, carried.due) if carried.sent_at is not None and ending.run is not None else None
        if carried.asked and ending.run is not None:
            ending = replace(ending, reason=Reason.MANUAL)
        lateness = None if sent_at is None else max((sent_at - carried.due).total_seconds(), 0.0)
        conclusion = Conclusion(ending.outcome, ending.reason, self._context.clock.now(), sent_at, lateness, ending.error, ending.run)
        done = await self._written(
            "conclude", carried, lambda steps: self._context.ledger.conclude(carried.occurrence, conclusion, ending.end, steps)
        )
        if not done:
            return await self._disowned(carried, ending)
        if ending.run is not None:
            self._readings.started(carried.occurrence.automation_id, ending.run.id)
            self._release()
            for listener in self._listeners:
                listener(ending.run)
        carried.concluded = True
        self._tell(carried, ending, lateness)
        return True

    def _release(self) -> None:
        was_held = self._context.gate.held is not None
        self._context.gate.release()
        if was_held:
            self.wake()

    async def _disowned(self, carried: Carried, ending: _Ending) -> bool:
        """The run that we took for ours is recorded as another's: as an answer it says nothing, and found it hides ours."""
        if ending.end is None or ending.run is None:
            covered = _Ending(
                Outcome.UNRESOLVED, Reason.COVERED, f"run {ending.run.id if ending.run else ''} belongs to another occurrence"
            )
            return await self._finish(carried, covered)
        error = f"the answer named run {ending.run.id}, which belongs to another occurrence"
        end = AttemptEnd(ending.end.number, AttemptResult.UNKNOWN, ending.end.ended_at, ending.end.sent_at, ending.end.http_status, error)
        self._doubt(carried, self._context.clock.seconds())
        carried.error = error
        await self._ended(carried, end, State.UNKNOWN)
        return False

    def _tell(self, carried: Carried, ending: _Ending, lateness: float | None) -> None:
        self._context.publish(
            OccurrenceConcluded(
                occurrence=carried.occurrence,
                automation=carried.name,
                outcome=ending.outcome,
                reason=ending.reason,
                attempts=carried.attempts,
                lateness=lateness,
                kind=None if lateness is None or carried.asked else _kind(carried),
                run_id=ending.run.id if ending.run else None,
                error=ending.error,
            )
        )


def _by_api(instant: datetime, clock_offset: float | None) -> datetime | None:
    return None if clock_offset is None else instant + timedelta(seconds=clock_offset)


def _kind(carried: Carried) -> str:
    if carried.late:
        return "catch_up"
    return "retry" if carried.attempts > 1 or carried.held_up else "on_time"
