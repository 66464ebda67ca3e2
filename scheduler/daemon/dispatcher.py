"""Carries every claimed occurrence to its one outcome.

Each automation with open occurrences has a lane, and each lane one task, which has the `Deliverer` carry the lane's head: wait until it may
be sent, make the attempt durable, send it, judge the answer, and find out where the answer does not tell. A lane's next occurrence waits
for that. The rules are those of `docs/semantics.md`; the decisions are pure and live in `core.policy`, `core.verdict` and `admission`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import DeliveryFailed, StopShortened
from scheduler.core.model import Occurrence, OpenOccurrence, Run, State
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.status import WaitStatus
from scheduler.daemon.admission import Admission
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.clock import Alarm
from scheduler.daemon.context import LONGEST_BACK_OFF, Context
from scheduler.daemon.deliverer import Deliverer
from scheduler.daemon.delivery import AutomationQueue, Delivery
from scheduler.daemon.places import Places
from scheduler.daemon.presence import Presence
from scheduler.daemon.recovery import OccurrenceRecovery

_MOST_FAULTS: Final = 5
"""After so many faults of our own an occurrence is left open in the ledger for the next start, and those behind it go on."""
_AT_ONCE: Final = 2_000
"""Occurrences that one of the last writes is for: some hundredths of a second."""
_FAULT: Final = "an error of the scheduler itself: see occurrence.faulted in the log"
_GIVEN_UP: Final = "errors of the scheduler itself: see occurrence.faulted in the log; it waits for the next start of the daemon"

_LastWrite = tuple[Occurrence, Sequence[Step] | None]
"""Steps to record; None: the newest attempt was never sent."""


class Dispatcher:
    """Sends what is claimed, and sees to its outcome."""

    def __init__(self, context: Context, readings: AutomationCache, clearance: Admission, presence: Presence) -> None:
        self._context = context
        self._deliverer = Deliverer(context, readings, clearance, presence, self._note_run_start)
        self._recovery = OccurrenceRecovery(context)
        self._queues: dict[str, AutomationQueue] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.abandoned_deliveries: list[Delivery] = []  # after faults of ours; the next start goes on with them
        self._stopped_at = context.clock.now()  # since when nothing is sent any more
        self._listeners: list[Callable[[Run], None]] = []

    # ------------------------------------------------------------ what others ask

    def find_queue(self, automation_id: str) -> AutomationQueue | None:
        """The automation's open occurrences, if it has any."""
        return self._queues.get(automation_id)

    def iterate_waits(self) -> Iterator[tuple[Delivery, WaitStatus | None]]:
        """Yield each open occurrence with what it waits for now; None: for nothing that takes time. Others may have a turn in between."""
        for lane in self.list_queues():
            yield from list(lane.iterate_waits(self._context.clock))
        yield from [(carried, carried.find_current_wait(self._context.clock)) for carried in self.abandoned_deliveries]

    def list_queues(self) -> list[AutomationQueue]:
        """Return the lanes of all automations with open occurrences."""
        return list(self._queues.values())

    def is_undecided(self, automation_id: str) -> bool:
        """Whether an attempt for the automation is on its way or in doubt: a new run may be ours."""
        lane = self._queues.get(automation_id)
        return lane is not None and any(each.is_undecided for each in lane.deliveries)

    def iterate_open(self) -> Iterable[Delivery]:
        """Every open occurrence."""
        return (each for lane in self._queues.values() for each in lane.deliveries)

    def count_states(self) -> Counter[State]:
        """How many open occurrences there are in each state."""
        return Counter(each.state for each in self.iterate_open())

    @property
    def is_sending(self) -> bool:
        """Whether attempts are in flight."""
        return bool(self._in_flight)

    def listen(self, listener: Callable[[Run], None]) -> None:
        """Call ``listener`` with every run that an attempt started."""
        self._listeners.append(listener)

    def wake(self) -> None:
        """Something changed that lanes may be waiting for."""
        for lane in self._queues.values():
            lane.alarm.ring()
        self.places.serve()

    @property
    def places(self) -> Places:
        """The places of its attempts."""
        return self._deliverer.sender.places

    @property
    def _in_flight(self) -> set[str]:
        return self._deliverer.sender.in_flight

    # ------------------------------------------------------------ coming and going

    def recover(self, opened: Iterable[OpenOccurrence]) -> None:
        """Go on with what another process, or this one before it was killed, left open.

        What is in doubt first: a run of another would hide its own. By due it may come later when the clock was set back.
        """
        self.take(sorted(map(self._recovery.recover_delivery, opened), key=lambda each: each.unknown_attempt is None))

    def take_backfill(self, opened: OpenOccurrence) -> None:
        """Go on with what somebody asked for: it had its outcome, and has no attempt under way."""
        self.take([self._recovery.make_backfill_delivery(opened)])

    def take(self, carried: Iterable[Delivery]) -> None:
        """Carry these to their outcomes."""
        for each in carried:
            each.queued_at = self._context.clock.now()
            automation_id = each.occurrence.automation_id
            lane = self._queues.get(automation_id)
            if lane is None:
                lane = self._queues[automation_id] = AutomationQueue(Alarm(self._context.clock))
                lane.add(each)
                self._tasks[automation_id] = asyncio.create_task(self._deliver_queue(automation_id, lane))
            else:
                lane.add(each)

    async def drain(self, seconds: float) -> int:
        """Send nothing more; give what is in flight so long. Returns how many attempts are left to be found out at the next start."""
        self._deliverer.is_stopping, stopped_at = True, self._context.clock.now()
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
        self._stopped_at = stopped_at
        return left

    async def discard_unsent_attempts(self, seconds: float) -> None:
        """Take back the attempts that were never sent, and record what each open occurrence waited for until now.

        First the attempts: an occurrence without one simply waits for the next start, which finds out about all others. A part is one
        transaction, so that a stop takes these seconds and little more, however many occurrences are open. An event tells what is left.
        """
        clock = self._context.clock
        ends_at = clock.boottime() + seconds
        unsent = [each for each in self.iterate_open() if each.state is not State.IN_FLIGHT and each.unknown_attempt is None]
        unsent.sort(key=lambda each: each.state is not State.CLAIMED)  # few others have an attempt that was never sent
        work: Iterator[_LastWrite] = chain(((each.occurrence, None) for each in unsent), self._iterate_last_steps())
        attempts, waits = len(unsent), sum(len(lane.deliveries) for lane in self._queues.values()) + len(self.abandoned_deliveries)
        while part := list(islice(work, _AT_ONCE)):
            occurrences = [occurrence for occurrence, steps in part if steps is None]
            taken = [(occurrence, steps) for occurrence, steps in part if steps]
            try:
                async with asyncio.timeout(ends_at - clock.boottime()):
                    if occurrences or taken:
                        await self._context.ledger.discard_attempts(occurrences, taken)
            except LedgerUnavailable as error:
                self._context.health.note_failure("unsend", str(error))
                return
            except TimeoutError:
                self._context.publish(StopShortened(target=self._context.target, attempts=attempts, waits=waits, seconds=seconds))
                return
            attempts -= len(occurrences)
            waits -= len(part) - len(occurrences)

    def _iterate_last_steps(self) -> Iterator[_LastWrite]:
        """Yield each open occurrence with the steps that are not on record. Ends the waits of a lane at a time: many lanes take long."""
        for lane in self._queues.values():
            lane.end_waits(self._context.clock, self._stopped_at)
            yield from self._iterate_steps(lane.deliveries)
        yield from self._iterate_steps(self.abandoned_deliveries)

    def _iterate_steps(self, some: Iterable[Delivery]) -> Iterator[_LastWrite]:
        return ((carried.occurrence, carried.list_steps(self._context.clock)) for carried in some)

    def abandon(self) -> None:
        """Let go of everything, at once."""
        self._deliverer.is_stopping = True
        self.places.close()
        for task in self._tasks.values():
            task.cancel()

    # ------------------------------------------------------------ one lane

    async def _deliver_queue(self, automation_id: str, lane: AutomationQueue) -> None:
        while lane.deliveries and not self._deliverer.is_stopping:
            head = lane.deliveries[0]
            try:
                await self._deliverer.deliver(lane, head)
            except Exception as error:  # noqa: BLE001  a fault of ours in one lane must not stop the others
                await self._handle_fault(head, error)
            finally:
                self._in_flight.discard(automation_id)
            if head.is_concluded or head.faults >= _MOST_FAULTS:
                lane.deliveries.remove(head)
                if not head.is_concluded:
                    head.begin_wait(Cause.BACK_OFF, self._context.clock, _GIVEN_UP)
                    self.abandoned_deliveries.append(head)
                try:
                    await self._conclude_behind_head(lane, head)
                except Exception as error:  # noqa: BLE001  they are carried one after the other then
                    self._context.publish(DeliveryFailed(occurrence=head.occurrence, automation=head.name, error=error))
            elif lane.deliveries[0] is not head:  # an older one has come before it
                lane.deliveries[0].note_turn_wait(head, self._context.clock.now())
        if not lane.deliveries:
            del self._queues[automation_id], self._tasks[automation_id]

    async def _conclude_behind_head(self, lane: AutomationQueue, head: Delivery) -> None:
        """Conclude those behind a head that became too late or were coalesced while it was carried, all at once.

        One after the other, each with a commit of its own, they would keep the newest of them waiting.
        """
        if len(lane.deliveries) > 1 and not self._deliverer.is_stopping:
            stopped, now = await self._deliverer.find_unsent_outcomes(lane), self._context.clock.now()
            for carried, _ in stopped:
                carried.note_turn_wait(head, now)
            await self._deliverer.record_outcomes(stopped)
            for carried, _ in stopped:
                if carried.is_concluded:
                    lane.deliveries.remove(carried)
        if lane.deliveries:
            lane.deliveries[0].note_turn_wait(head, self._context.clock.now())

    async def _handle_fault(self, carried: Delivery, error: Exception) -> None:
        carried.faults += 1
        self._context.publish(DeliveryFailed(occurrence=carried.occurrence, automation=carried.name, error=error))
        if carried.state is State.IN_FLIGHT:
            carried.mark_unknown(self._context.clock.boottime(), self._context.settings.settle_time)
        with carried.record_wait(Cause.BACK_OFF, self._context.clock, _FAULT):
            await asyncio.sleep(LONGEST_BACK_OFF)

    def _note_run_start(self, run: Run) -> None:
        """The target works, also when it was held or throttled."""
        was_half_open = self._context.breaker.is_half_open
        self._context.breaker.release()
        if was_half_open:
            self.wake()
        for listener in self._listeners:
            listener(run)
