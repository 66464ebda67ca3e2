"""Dispatcher of a target: takes every claimed occurrence to its one outcome.

Each automation with open occurrences has an automation queue, and each queue has one task. The task has the
`Sender` deliver the head of the queue. The next occurrence of the queue waits for the outcome of the head.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

from scheduler.core.delivery import Delivery, Faulted
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import DeliveryFailed, StopShortened
from scheduler.core.model import Occurrence, OpenOccurrence, Run, State
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.status import WaitStatus
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.automation_queue import AutomationQueue, OpenDelivery
from scheduler.daemon.clock import LONGEST_BACK_OFF
from scheduler.daemon.context import Context
from scheduler.daemon.presence import Presence
from scheduler.daemon.recovery import recover_delivery
from scheduler.daemon.sender import Sender

_MOST_FAULTS: Final = 5
"""Internal errors after which an occurrence stays open in the ledger until the next start.

The queue goes on with the next occurrence.
"""
_AT_ONCE: Final = 2_000
"""Occurrences in one write at the stop of the daemon: some hundredths of a second."""
_FAULT: Final = "an error of the scheduler itself: see occurrence.faulted in the log"
_GIVEN_UP: Final = (
    "errors of the scheduler itself: see occurrence.faulted in the log; "
    "it waits for the next start of the daemon"
)

_LastWrite = tuple[Occurrence, Sequence[Step] | None]
"""Occurrence with its steps to record; None: discard the newest attempt, which was never sent."""


class Dispatcher:
    """Delivers the claimed occurrences of one target."""

    def __init__(self, context: Context, cache: AutomationCache, presence: Presence) -> None:
        self._context = context
        self._sender = Sender(context, cache, presence, self._note_run_start)
        self.places = self._sender.places
        self.queues: dict[str, AutomationQueue] = {}  # by the ids of automations with open occurrences
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # Abandoned after internal errors. The next start recovers them.
        self.abandoned_deliveries: list[OpenDelivery] = []
        self._stopped_at = context.clock.now()  # nothing is sent after this instant
        self.run_listeners: list[Callable[[Run], None]] = []  # called with every run of an attempt

    # ------------------------------------------------------------ queries

    def iterate_waits(self) -> Iterator[tuple[OpenDelivery, WaitStatus | None]]:
        """Yield each open delivery with its current wait; None: nothing lasting delays the occurrence.

        The caller may let other tasks run between two deliveries.
        """
        for queue in list(self.queues.values()):
            yield from list(queue.iterate_waits())
        yield from [(delivery, delivery.find_current_wait()) for delivery in self.abandoned_deliveries]

    def is_undecided(self, automation_id: str) -> bool:
        """Return whether a new run of the automation may belong to an attempt of the scheduler."""
        queue = self.queues.get(automation_id)
        return queue is not None and any(delivery.value.is_undecided for delivery in queue.deliveries)

    def iterate_open(self) -> Iterable[OpenDelivery]:
        """Return an iterator over the deliveries in all automation queues."""
        return (delivery for queue in self.queues.values() for delivery in queue.deliveries)

    def count_states(self) -> Counter[State]:
        """Return the number of open occurrences in each state."""
        return Counter(delivery.value.state for delivery in self.iterate_open())

    @property
    def is_sending(self) -> bool:
        """Whether attempts are in flight."""
        return bool(self._sender.in_flight)

    def wake(self) -> None:
        """Wake all automation queues after a change that may end their waits."""
        for queue in self.queues.values():
            queue.alarm.ring()
        self.places.serve()

    # ------------------------------------------------------------ start and stop

    def recover(self, opened: Iterable[OpenOccurrence]) -> None:
        """Recover the open occurrences of another process, or of this daemon before a kill.

        Occurrences with an unknown attempt come first: the run of another occurrence would hide their own
        run. After the clock was set back, the order of due may put them later.
        """
        recovered = [recover_delivery(self._context, each) for each in opened]
        for value in sorted(recovered, key=lambda value: value.unknown_attempt is None):
            self.take(value, [Step(self._context.clock.now(), Cause.ADOPTED)])

    def take(self, value: Delivery, steps: Sequence[Step] = ()) -> None:
        """Add a delivery to its automation queue, and deliver it. ``steps`` are not in the ledger yet."""
        automation_id = value.occurrence.automation_id
        queue = self.queues.get(automation_id)
        if queue is None:
            queue = self.queues[automation_id] = AutomationQueue(self._context.clock)
            self._tasks[automation_id] = asyncio.create_task(
                self._deliver_queue(automation_id, queue), name=f"deliveries of {automation_id}"
            )
        queue.add(value, steps)

    async def drain(self, seconds: float) -> int:
        """Send nothing more, and wait at most ``seconds`` for the attempts in flight.

        Return the number of attempts still in flight. The next start reconciles these attempts.
        """
        self._sender.is_stopping, stopped_at = True, self._context.clock.now()
        for automation_id, task in self._tasks.items():
            if automation_id not in self._sender.in_flight:
                task.cancel()
        flying = [self._tasks[each] for each in self._sender.in_flight]
        if flying:
            await asyncio.wait(flying, timeout=seconds)
        left = len(self._sender.in_flight)
        tasks = list(self._tasks.values())
        self.abandon()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._stopped_at = stopped_at
        return left

    async def discard_unsent_attempts(self, seconds: float) -> None:
        """Discard the unsent attempts, and record the waits of each open occurrence until now.

        The attempts come first: an occurrence without an attempt simply waits for the next start, but the
        next start must reconcile all others. Each part is one transaction, and the stop takes little more
        than ``seconds``, however many occurrences are open. An event reports the number of unrecorded
        attempts and waits.
        """
        clock = self._context.clock
        ends_at = clock.boottime() + seconds
        unsent = [
            delivery
            for delivery in self.iterate_open()
            if delivery.value.state is not State.IN_FLIGHT and delivery.value.unknown_attempt is None
        ]
        # Few occurrences in another state have an unsent attempt.
        unsent.sort(key=lambda delivery: delivery.value.state is not State.CLAIMED)
        work: Iterator[_LastWrite] = chain(
            ((delivery.occurrence, None) for delivery in unsent), self._iterate_last_steps()
        )
        attempts = len(unsent)
        waits = sum(len(queue.deliveries) for queue in self.queues.values()) + len(self.abandoned_deliveries)
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
                self._context.publish(
                    StopShortened(
                        target=self._context.target, attempts=attempts, waits=waits, seconds=seconds
                    )
                )
                return
            attempts -= len(occurrences)
            waits -= len(part) - len(occurrences)

    def _iterate_last_steps(self) -> Iterator[_LastWrite]:
        """Yield each open occurrence with the steps that are not in the ledger.

        The waits end queue by queue: all queues at once would take long.
        """
        for queue in self.queues.values():
            queue.end_waits(self._stopped_at)
            yield from _iterate_steps(queue.deliveries)
        yield from _iterate_steps(self.abandoned_deliveries)

    def abandon(self) -> None:
        """Stop all deliveries at once."""
        self._sender.is_stopping = True
        self.places.close()
        for task in self._tasks.values():
            task.cancel()

    # ------------------------------------------------------------ one automation queue

    async def _deliver_queue(self, automation_id: str, queue: AutomationQueue) -> None:
        while queue.deliveries and not self._sender.is_stopping:
            head = queue.deliveries[0]
            try:
                await self._sender.deliver(head)
            except Exception as error:  # noqa: BLE001  an error in one queue must not stop the others
                await self._handle_fault(head, error)
            finally:
                self._sender.in_flight.discard(automation_id)
            if head.value.end is not None or head.value.faults >= _MOST_FAULTS:
                await self._remove_head(head)
            elif queue.deliveries[0] is not head:  # an older occurrence is the head now
                queue.deliveries[0].note_turn_wait(head, self._context.clock.now())
        if not queue.deliveries:
            del self.queues[automation_id], self._tasks[automation_id]

    async def _remove_head(self, head: OpenDelivery) -> None:
        """Remove a head that ended or failed too often. Conclude all deliveries that end behind the head.

        Single conclusions, each with its own commit, would delay the newest delivery of the queue.
        """
        queue = head.queue
        queue.deliveries.remove(head)
        if head.value.end is None:
            head.waits.begin(Cause.BACK_OFF, _GIVEN_UP)
            self.abandoned_deliveries.append(head)
        try:
            if len(queue.deliveries) > 1 and not self._sender.is_stopping:
                await self._sender.conclude_unsent(head)
            if queue.deliveries:
                queue.deliveries[0].note_turn_wait(head, self._context.clock.now())
        except Exception as error:  # noqa: BLE001  the deliveries are then concluded one by one
            self._publish_fault(head, error)

    async def _handle_fault(self, delivery: OpenDelivery, error: Exception) -> None:
        self._publish_fault(delivery, error)
        if delivery.value.end is not None:
            return
        settle_time = self._context.settings.settle_time.total_seconds()
        delivery.apply(Faulted(self._context.clock.boottime(), settle_time))
        with delivery.waits.record(Cause.BACK_OFF, _FAULT):
            await asyncio.sleep(LONGEST_BACK_OFF)

    def _publish_fault(self, delivery: OpenDelivery, error: Exception) -> None:
        self._context.publish(
            DeliveryFailed(occurrence=delivery.occurrence, automation=delivery.value.name, error=error)
        )

    def _note_run_start(self, run: Run) -> None:
        """Release a held or throttled target, since a started run shows that the target works."""
        was_half_open = self._context.breaker.is_half_open
        self._context.breaker.release()
        if was_half_open:
            self.wake()
        for listener in self.run_listeners:
            listener(run)


def _iterate_steps(deliveries: Iterable[OpenDelivery]) -> Iterator[_LastWrite]:
    return ((delivery.occurrence, delivery.waits.list_steps()) for delivery in deliveries)
