"""Recovery: take over the open occurrences of another process, or of this daemon before a kill.

The module is separate from the dispatcher because recovery does not concern the claims of this process.
Recorded instants come from the wall clock, which may have been set since. The clock offset of an attempt
tells the send time by the API's clock.
"""

from datetime import datetime, timedelta
from typing import Final

from scheduler.core.model import Attempt, AttemptResult, OpenOccurrence, State
from scheduler.core.occurrence_log import Cause, Step
from scheduler.core.policy import Concurrency
from scheduler.core.verdict import is_finished
from scheduler.daemon.context import Context
from scheduler.daemon.delivery import Delivery

_ABANDONED_AFTER: Final = timedelta(seconds=10)
"""Time from the write of an attempt to its assumed end, when the end is not recorded.

The assumed end is never later than the recovery.
"""


class OccurrenceRecovery:
    """Makes deliveries from recorded occurrences."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def recover_delivery(self, found: OpenOccurrence) -> Delivery:
        """Make the delivery of an open occurrence from another process.

        An attempt that may have been sent is unknown.
        """
        carried = self.make_backfill_delivery(found)
        attempt, end = found.attempt, found.end
        if attempt is not None and end is None:
            carried.sent_at = attempt.written_at
            self._mark_unknown(
                carried, self._find_first_unknown(found, attempt), attempt.written_at + _ABANDONED_AFTER
            )
        elif (
            attempt is not None
            and end is not None
            and (found.state is State.UNKNOWN or end.result is AttemptResult.UNKNOWN)
        ):
            carried.sent_at = end.sent_at or end.ended_at
            self._mark_unknown(carried, self._find_first_unknown(found, attempt), end.ended_at)
            if found.state is State.WAITING:
                carried.mark_not_started()
            if found.asked_at is not None and attempt.written_at < found.asked_at:
                # The occurrence had an outcome since the attempt. A run from before the request does not
                # answer the request.
                carried.unstarted_attempt = None
        elif (
            attempt is not None
            and found.state is State.WAITING
            and (earlier := self._find_unstarted_attempt(found)) is not None
        ):
            carried.sent_at = earlier.written_at
            self._mark_unknown(carried, earlier, attempt.written_at)
            carried.mark_not_started()
        carried.is_queued = self._has_waited_for_run(found)
        carried.recovered_under = self._context.timetable.entries.get(found.occurrence.automation_id)
        carried.steps.append(Step(self._context.clock.now(), Cause.ADOPTED))
        return carried

    def make_backfill_delivery(self, found: OpenOccurrence) -> Delivery:
        """Make the delivery of a backfill. The occurrence had an outcome, and no attempt is under way."""
        carried = Delivery(
            found.occurrence,
            found.name,
            found.due,
            found.deadline,
            is_late=True,
            entry=None,
            state=State.WAITING,
        )
        carried.attempt, carried.is_backfill, carried.maybe_sent = (
            found.attempt,
            found.asked_at is not None,
            found.maybe_sent,
        )
        carried.error = None if found.end is None else found.end.error
        return carried

    def _has_waited_for_run(self, found: OpenOccurrence) -> bool:
        """Return whether the occurrence waited for the run before, and may start after its deadline.

        The newest recorded snapshot decides: the newest run is not finished.
        """
        entry = self._context.timetable.entries.get(found.occurrence.automation_id)
        if found.asked_at is not None or entry is None or entry.policies.concurrency is not Concurrency.QUEUE:
            return False
        return entry.automation.run_id is not None and not is_finished(entry.automation.run_status)

    def _mark_unknown(self, carried: Delivery, attempt: Attempt, ended_at: datetime) -> None:
        """Mark the delivery as unknown. Any run since the write of ``attempt`` may belong to the attempt.

        The clock may have been set between the write and the first byte.
        """
        clock = self._context.clock
        carried.sent_by_api = to_api_time(attempt.written_at, attempt.clock_offset)
        age = (clock.now() - min(attempt.written_at, carried.sent_at or ended_at)).total_seconds()
        # After the clock was set back, any run may belong to the attempt.
        carried.sent_boottime = clock.boottime() - age if age >= 0 else float("-inf")
        ended = clock.boottime() - max((clock.now() - ended_at).total_seconds(), 0.0)
        carried.mark_unknown(ended, self._context.settings.settle_time)

    def _find_unstarted_attempt(self, found: OpenOccurrence) -> Attempt | None:
        """Return the first attempt that readings resolved as not started.

        The newest attempt is another attempt, and surely started nothing. For a backfill, attempts from
        before the request do not count.
        """
        first = found.first_in_doubt
        return (
            None
            if first is None or (found.asked_at is not None and first.written_at < found.asked_at)
            else first
        )

    def _find_first_unknown(self, found: OpenOccurrence, newest: Attempt) -> Attempt:
        """Return the first attempt with a possible run: the API may show or start such a run late.

        Where the target ignores keys, an attempt from before the request for a backfill does not count: the
        occurrence had an outcome since.
        """
        first = found.first_in_doubt or newest
        is_before = found.asked_at is not None and first.written_at < found.asked_at
        return newest if is_before and not self._context.settings.idempotent else first


def to_api_time(instant: datetime, clock_offset: float | None) -> datetime | None:
    """Convert an instant of the local clock to the API's clock; None without a clock offset (in seconds)."""
    return None if clock_offset is None else instant + timedelta(seconds=clock_offset)
