"""The way of one occurrence from its claim to its outcome: wait, send, find out what the answer does not tell, make the outcome durable."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from itertools import takewhile

from scheduler.core.events import OccurrenceConcluded
from scheduler.core.model import AttemptEnd, AttemptResult, Conclusion, Outcome, Reason, Run, RunOrigin, RunStatus, State
from scheduler.core.steps import Cause, Step
from scheduler.daemon.clearance import Clearance, Withdraw
from scheduler.daemon.context import Context
from scheduler.daemon.inquiry import Cleared, Inquiry, Resolved
from scheduler.daemon.lane import Carried, Lane
from scheduler.daemon.presence import Presence
from scheduler.daemon.readings import Readings
from scheduler.daemon.sending import Sender, write_down, write_once
from scheduler.daemon.waiting import Anew, Ending, Waiting


class Carrier:
    """Carries the occurrences of one target. ``started`` is called with every run that an attempt started."""

    def __init__(
        self, context: Context, readings: Readings, clearance: Clearance, presence: Presence, started: Callable[[Run], None]
    ) -> None:
        self._context = context
        self._readings = readings
        self._started = started
        self._waiting = Waiting(context, readings, clearance, presence)
        self._inquiry = Inquiry(context, readings)
        self.sender = Sender(context, readings, clearance, self._waiting, self._inquiry)
        self.stopping = False  # what is in flight comes to its end, and nothing else is begun

    async def conclude(self, lane: Lane, carried: Carried) -> None:
        """Carry the head of a lane until it has its outcome, is withdrawn, or is the head no more."""
        while not self.stopping and lane.waiting[0] is carried:
            self.sender.in_flight.discard(carried.occurrence.automation_id)
            if carried.doubt is None or self._may_resend(carried):
                ending = await self._tried(lane, carried)
                if ending is None or isinstance(ending, Anew):
                    continue
                if isinstance(ending, Withdraw):
                    with carried.waiting_for(Cause.LEDGER, self._context.clock):
                        await self._context.durably("withdraw", lambda: self._context.ledger.withdraw([carried.occurrence]))
                    carried.concluded = True
                    return
                if carried.doubt is None or ending.outcome is Outcome.ACCEPTED:
                    if await self._finish(carried, ending):
                        return
                    continue
                if ending.end is not None:
                    await self.sender.ended(carried, ending.end, State.UNKNOWN)
                carried.resend = False  # something forbids to send again; whether it was started, only reading can tell
            elif (found := await self._find_out(lane, carried)) is not None and await self._finish(carried, found):
                return
        if not self.stopping:
            await self._put_off(carried)

    async def find_stopped(self, lane: Lane) -> Sequence[tuple[Carried, Ending]]:
        """Look at the first occurrences of a lane. Return those that get their outcome now without an attempt, with these outcomes.

        Up to one whose run may have turned up.
        """
        return list(takewhile(lambda each: self._inquiry.turned_up(each[0]) is None, await self._waiting.find_stopped(lane)))

    async def finish_together(self, stopped: Iterable[tuple[Carried, Ending]]) -> None:
        """Write many outcomes at once, which makes them one transaction.

        Each is tried once. One that the ledger does not take is not concluded: it is carried as the head of its lane next, which asks
        again what becomes of it, and tells what went wrong.
        """
        await asyncio.gather(*(self._finish(carried, ending, once=True) for carried, ending in stopped), return_exceptions=True)

    async def _tried(self, lane: Lane, carried: Carried) -> Ending | Withdraw | Anew | None:
        """Wait for its time and make an attempt: what came of it, or of the one before, when its run turns up only now."""
        ending = await self._waiting.clear(lane, carried) or await self.sender.attempt(lane, carried)
        late = self._inquiry.turned_up(carried)
        if late is not None and await self._is_known(carried, late):
            carried.disproved = late = None
        if late is None:
            return ending
        await self._put_off(carried)
        return _ending(carried, late)

    async def _is_known(self, carried: Carried, late: Resolved) -> bool:
        """Whether the run is on record as another occurrence's, or as begun by hand."""
        context, of = self._context, carried.occurrence
        assert late.run_id is not None
        run_id = late.run_id
        with carried.waiting_for(Cause.LEDGER, context.clock):
            origin = await context.readably("origin", lambda: context.ledger.origin(of.target, run_id, of.automation_id, late.run_at))
        return origin not in {None, RunOrigin.FOREIGN}

    async def _put_off(self, carried: Carried) -> None:
        """An attempt that was written and is not sent has not been made: another goes first, or none is needed any more.

        Else the next process would find it in doubt, behind the run of the one that went first.
        """
        if carried.attempt is None or carried.state is not State.CLAIMED or carried.doubt is not None:
            return
        with carried.waiting_for(Cause.LEDGER, self._context.clock):
            await self._context.durably("unsend", lambda: self._context.ledger.unsend([carried.occurrence]))
        number = carried.attempt.number - 1
        carried.attempt = replace(carried.attempt, number=number) if number else None
        carried.written, carried.state = None, State.WAITING

    def _may_resend(self, carried: Carried) -> bool:
        return self._context.settings.idempotent and carried.resend and self._context.clock.now() <= carried.deadline

    async def _find_out(self, lane: Lane, carried: Carried) -> Ending | None:
        assert carried.doubt is not None
        resolved = await self._inquiry.resolve(carried.occurrence.automation_id, carried.doubt, not_before=carried.not_before)
        if isinstance(resolved, Cleared):
            await self._clear(carried, [each for each in lane.waiting if each is not carried and self._is_cleared(each, resolved)])
            return None
        return _ending(carried, resolved)

    def _is_cleared(self, carried: Carried, by: Cleared) -> bool:
        return carried.doubt is not None and self._inquiry.is_cleared(carried.doubt, by)

    async def _clear(self, carried: Carried, others: Sequence[Carried]) -> None:
        """Let it wait, and the others as far as the ledger takes that at once: what a killed process left in doubt can be many.

        One that the ledger does not take stays in doubt, and is found out as the head of its lane, where the error is told.
        """
        settled = [self._context.durably("state", lambda: self._settle(carried)), *map(self._settle, others)]
        with carried.waiting_for(Cause.LEDGER, self._context.clock):
            head, *_ = await asyncio.gather(*settled, return_exceptions=True)
        if isinstance(head, BaseException):
            raise head

    async def _settle(self, carried: Carried) -> None:
        """Write down that nothing was started, and let it wait; not before, or a stop would take its attempt for one that was not sent."""
        step = Step(self._context.clock.now(), Cause.NOTHING_STARTED)
        await write_once(self._context, carried, lambda steps: self._context.ledger.settled(carried.occurrence, (*steps, step)))
        carried.wait_again()

    async def _finish(self, carried: Carried, ending: Ending, *, once: bool = False) -> bool:
        """Make the outcome durable. False when its run turns out to be another occurrence's: then it is unknown again.

        ``once``: raise `LedgerUnavailable` when the ledger does not take it at the first time.
        """
        # What another process sent, it sent at its due instant or later: only the window of the inquiry begins with the attempt's row.
        sent_at = max(carried.sent_at, carried.due) if carried.sent_at is not None and ending.run is not None else None
        if carried.asked and ending.run is not None:
            ending = replace(ending, reason=Reason.MANUAL)
        lateness = None if sent_at is None else max((sent_at - carried.due).total_seconds(), 0.0)
        conclusion = Conclusion(ending.outcome, ending.reason, self._context.clock.now(), sent_at, lateness, ending.error, ending.run)

        def conclude(steps: Sequence[Step]) -> Awaitable[bool]:
            return self._context.ledger.conclude(carried.occurrence, conclusion, ending.end, steps)

        done = await (write_once(self._context, carried, conclude) if once else write_down(self._context, "conclude", carried, conclude))
        if not done:
            return await self._disowned(carried, ending)
        if ending.run is not None:
            self._readings.started(carried.occurrence.automation_id, ending.run.id)
            self._started(ending.run)
        carried.concluded = True
        self._tell(carried, ending, lateness)
        return True

    async def _disowned(self, carried: Carried, ending: Ending) -> bool:
        """The run that we took for ours is recorded as another's: as an answer it says nothing, and found it hides ours."""
        if ending.end is None or ending.run is None:
            covered = Ending(Outcome.UNRESOLVED, Reason.COVERED, f"run {ending.run.id if ending.run else ''} belongs to another occurrence")
            return await self._finish(carried, covered)
        error = f"the answer named run {ending.run.id}, which belongs to another occurrence"
        end = AttemptEnd(ending.end.number, AttemptResult.UNKNOWN, ending.end.ended_at, ending.end.sent_at, ending.end.http_status, error)
        carried.fall_into_doubt(self._context.clock.seconds(), self._context.settings.settle_time)
        carried.error = error
        await self.sender.ended(carried, end, State.UNKNOWN)
        return False

    def _tell(self, carried: Carried, ending: Ending, lateness: float | None) -> None:
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


def _ending(carried: Carried, resolved: Resolved) -> Ending:
    run = None
    if resolved.run_id is not None:
        run = Run(resolved.run_id, carried.occurrence.automation_id, resolved.run_at, RunStatus.RUNNING)
    return Ending(resolved.outcome, resolved.reason, resolved.error, run)


def _kind(carried: Carried) -> str:
    if carried.late:
        return "catch_up"
    return "retry" if carried.attempts > 1 or carried.held_up else "on_time"
