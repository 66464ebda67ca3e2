"""Recovery: take over the open occurrences of another process, or of this daemon before a kill.

The module is separate from the dispatcher because recovery does not concern the claims of this process.
Recorded instants come from the wall clock, which may have been set since. The clock offset of an attempt
tells the send time by the API's clock.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.delivery import Delivery, SendInstant, mark_not_started, mark_unknown
from scheduler.core.model import Attempt, AttemptResult, OpenOccurrence, State, is_finished
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.policy import Concurrency
from scheduler.daemon.automation_queue import OpenDelivery
from scheduler.daemon.context import Context
from scheduler.daemon.wait_log import WaitLog

_ABANDONED_AFTER: Final = timedelta(seconds=10)
"""Time from the write of an attempt to its assumed end, when the end is not recorded.

The assumed end is never later than the recovery.
"""


class OccurrenceRecovery:
    """Makes deliveries from recorded occurrences."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def recover_delivery(self, recorded: OpenOccurrence) -> OpenDelivery:
        """Make the delivery of an open occurrence from another process.

        An attempt that may have been sent is unknown.
        """
        delivery = replace(
            self._recover_attempts(_make_delivery(recorded), recorded),
            is_queued=self._has_waited_for_run(recorded),
            recovered_under=self._context.timetable.entries.get(recorded.occurrence.automation_id),
        )
        clock = self._context.clock
        return OpenDelivery(delivery, WaitLog(clock, [Step(clock.now(), Cause.ADOPTED)]))

    def make_backfill_delivery(self, recorded: OpenOccurrence) -> OpenDelivery:
        """Make the delivery of a backfill. The occurrence had an outcome, and no attempt is under way."""
        return OpenDelivery(_make_delivery(recorded), WaitLog(self._context.clock))

    def _recover_attempts(self, delivery: Delivery, recorded: OpenOccurrence) -> Delivery:
        attempt, end = recorded.attempt, recorded.end
        if attempt is None:
            return delivery
        if end is None:
            ended_at = attempt.written_at + _ABANDONED_AFTER
            first = self._find_first_unknown(recorded, attempt)
            return self._mark_unknown(delivery, first, attempt.written_at, ended_at)
        if recorded.state is State.UNKNOWN or end.result is AttemptResult.UNKNOWN:
            first = self._find_first_unknown(recorded, attempt)
            unknown = self._mark_unknown(delivery, first, end.sent_at or end.ended_at, end.ended_at)
            return self._settle(unknown, recorded, attempt)
        earlier = self._find_unstarted_attempt(recorded) if recorded.state is State.WAITING else None
        if earlier is None:
            return delivery
        return mark_not_started(self._mark_unknown(delivery, earlier, earlier.written_at, attempt.written_at))

    def _settle(self, delivery: Delivery, recorded: OpenOccurrence, attempt: Attempt) -> Delivery:
        """Return the delivery with the recorded result of its unknown attempt, if there is a result."""
        if recorded.state is State.WAITING:
            delivery = mark_not_started(delivery)
        if recorded.asked_at is not None and attempt.written_at < recorded.asked_at:
            # The occurrence had an outcome since the attempt. A run from before the request does not
            # answer the request.
            delivery = replace(delivery, unstarted_attempt=None)
        return delivery

    def _has_waited_for_run(self, recorded: OpenOccurrence) -> bool:
        """Return whether the occurrence waited for the run before, and may start after its deadline.

        The newest recorded snapshot decides: the newest run is not finished.
        """
        entry = self._context.timetable.entries.get(recorded.occurrence.automation_id)
        if (
            recorded.asked_at is not None
            or entry is None
            or entry.policies.concurrency is not Concurrency.QUEUE
        ):
            return False
        return entry.automation.run_id is not None and not is_finished(entry.automation.run_status)

    def _mark_unknown(
        self, delivery: Delivery, attempt: Attempt, sent_at: datetime, ended_at: datetime
    ) -> Delivery:
        """Mark the delivery as unknown. Any run since the write of ``attempt`` may belong to the attempt.

        The clock may have been set between the write and the first byte.
        """
        clock = self._context.clock
        age = (clock.now() - min(attempt.written_at, sent_at)).total_seconds()
        # After the clock was set back, any run may belong to the attempt.
        sent = clock.boottime() - age if age >= 0 else float("-inf")
        ended = clock.boottime() - max((clock.now() - ended_at).total_seconds(), 0.0)
        return mark_unknown(
            delivery,
            SendInstant(sent_at, sent, to_api_time(attempt.written_at, attempt.clock_offset)),
            ended=ended,
            settle_time=self._context.settings.settle_time.total_seconds(),
        )

    def _find_unstarted_attempt(self, recorded: OpenOccurrence) -> Attempt | None:
        """Return the first attempt that readings resolved as not started.

        The newest attempt is another attempt, and surely started nothing. For a backfill, attempts from
        before the request do not count.
        """
        first = recorded.first_in_doubt
        return (
            None
            if first is None or (recorded.asked_at is not None and first.written_at < recorded.asked_at)
            else first
        )

    def _find_first_unknown(self, recorded: OpenOccurrence, newest: Attempt) -> Attempt:
        """Return the first attempt with a possible run: the API may show or start such a run late.

        Where the target ignores keys, an attempt from before the request for a backfill does not count: the
        occurrence had an outcome since.
        """
        first = recorded.first_in_doubt or newest
        is_before = recorded.asked_at is not None and first.written_at < recorded.asked_at
        return newest if is_before and not self._context.settings.idempotent else first


def _make_delivery(recorded: OpenOccurrence) -> Delivery:
    return Delivery(
        recorded.occurrence,
        recorded.name,
        recorded.due,
        recorded.deadline,
        State.WAITING,
        is_late=True,
        is_backfill=recorded.asked_at is not None,
        attempt=recorded.attempt,
        maybe_sent=recorded.maybe_sent,
        error=None if recorded.end is None else recorded.end.error,
    )


def to_api_time(instant: datetime, clock_offset: float | None) -> datetime | None:
    """Convert an instant of the local clock to the API's clock; None without a clock offset (in seconds)."""
    return None if clock_offset is None else instant + timedelta(seconds=clock_offset)
