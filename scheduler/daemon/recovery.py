"""Recovery: take over the open occurrences of another process, or of this daemon before a kill.

The module is separate from the dispatcher because recovery does not concern the claims of this process.
Recorded instants come from the wall clock, which may have been set since. The clock offset of an attempt
tells the send time by the API's clock.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.clock_offset import to_api_time
from scheduler.core.delivery import Delivery, SendInstant
from scheduler.core.model import Attempt, AttemptResult, OpenOccurrence, State, is_finished
from scheduler.core.policy import Concurrency
from scheduler.core.timetable import TimetableEntry
from scheduler.daemon.context import Context

_ABANDONED_AFTER: Final = timedelta(seconds=10)
"""Time from the write of an attempt to its assumed end, when the end is not recorded.

The assumed end is never later than the recovery.
"""


def recover_delivery(context: Context, recorded: OpenOccurrence) -> Delivery:
    """Make the delivery of an open occurrence from another process.

    An attempt that may have been sent is unknown.
    """
    entry = context.timetable.entries.get(recorded.occurrence.automation_id)
    return replace(
        _recover_attempts(context, make_delivery(recorded), recorded),
        waits_for_run_before=_has_waited_for_run(recorded, entry),
        recovered_under=entry,
    )


def _recover_attempts(context: Context, delivery: Delivery, recorded: OpenOccurrence) -> Delivery:
    attempt, end = recorded.attempt, recorded.end
    if attempt is None:
        return delivery
    first = _find_first_unknown(context, recorded, attempt)
    if end is None:
        ended_at = attempt.written_at + _ABANDONED_AFTER
        return _mark_unknown(context, delivery, first, attempt.written_at, ended_at)
    if recorded.state is State.UNKNOWN or end.result is AttemptResult.UNKNOWN:
        unknown = _mark_unknown(context, delivery, first, end.sent_at or end.ended_at, end.ended_at)
        return _settle(unknown, recorded, attempt)
    # The newest attempt surely started nothing. Readings may have resolved the first unknown attempt.
    earlier = recorded.first_in_doubt
    if recorded.state is not State.WAITING or earlier is None or _precedes_request(earlier, recorded):
        return delivery
    unknown = _mark_unknown(context, delivery, earlier, earlier.written_at, attempt.written_at)
    return unknown.mark_not_started()


def _find_first_unknown(context: Context, recorded: OpenOccurrence, newest: Attempt) -> Attempt:
    """Return the first attempt with a possible run: the API may show or start such a run late.

    Where the target ignores keys, an attempt from before the request for a backfill does not count: the
    occurrence had an outcome since.
    """
    first = recorded.first_in_doubt or newest
    is_over = _precedes_request(first, recorded) and not context.settings.idempotent
    return newest if is_over else first


def _mark_unknown(
    context: Context, delivery: Delivery, attempt: Attempt, sent_at: datetime, ended_at: datetime
) -> Delivery:
    """Mark the delivery as unknown. Any run since the write of ``attempt`` may belong to the attempt.

    The clock may have been set between the write and the first byte.
    """
    clock = context.clock
    age = (clock.now() - min(attempt.written_at, sent_at)).total_seconds()
    # After the clock was set back, any run may belong to the attempt.
    sent = clock.boottime() - age if age >= 0 else float("-inf")
    ended = clock.boottime() - max((clock.now() - ended_at).total_seconds(), 0.0)
    return delivery.mark_unknown(
        SendInstant(sent_at, sent, to_api_time(attempt.written_at, attempt.clock_offset)),
        ended=ended,
        settle_time=context.settings.settle_time.total_seconds(),
    )


def make_delivery(recorded: OpenOccurrence) -> Delivery:
    """Make the delivery of an open occurrence without an attempt under way."""
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


def _settle(delivery: Delivery, recorded: OpenOccurrence, attempt: Attempt) -> Delivery:
    """Return the delivery with the recorded result of its unknown attempt, if there is a result."""
    if recorded.state is State.WAITING:
        delivery = delivery.mark_not_started()
    if _precedes_request(attempt, recorded):
        # A run from before the request does not answer the request.
        delivery = replace(delivery, unstarted_attempt=None)
    return delivery


def _precedes_request(attempt: Attempt, recorded: OpenOccurrence) -> bool:
    """Return whether the occurrence had an outcome since the attempt, and is a backfill now."""
    return recorded.asked_at is not None and attempt.written_at < recorded.asked_at


def _has_waited_for_run(recorded: OpenOccurrence, entry: TimetableEntry | None) -> bool:
    """Return whether the occurrence waited for the run before, and may start after its deadline.

    The newest recorded snapshot decides: the newest run is not finished.
    """
    if recorded.asked_at is not None or entry is None or entry.policies.concurrency is not Concurrency.QUEUE:
        return False
    return entry.automation.run_id is not None and not is_finished(entry.automation.run_status)
