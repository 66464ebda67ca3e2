"""Open occurrences from the ledger: what another process, or this one before it was killed, left on its way.

Apart from the dispatcher because nothing of it concerns what this process claims itself. Its instants are the wall clock's, which may have
been set since; what an attempt knew of the API's clock tells where they were.
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
"""An attempt whose end nobody saw is taken to have ended so long after it was written, when that was before the start."""


class OccurrenceRecovery:
    """Makes of recorded occurrences what a lane carries."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def recover_delivery(self, found: OpenOccurrence) -> Delivery:
        """One that another process left open: in doubt, when it may have been sent."""
        carried = self.make_backfill_delivery(found)
        attempt, end = found.attempt, found.end
        if attempt is not None and end is None:
            carried.sent_at = attempt.written_at
            self._mark_unknown(carried, self._find_first_unknown(found, attempt), attempt.written_at + _ABANDONED_AFTER)
        elif attempt is not None and end is not None and (found.state is State.UNKNOWN or end.result is AttemptResult.UNKNOWN):
            carried.sent_at = end.sent_at or end.ended_at
            self._mark_unknown(carried, self._find_first_unknown(found, attempt), end.ended_at)
            if found.state is State.WAITING:
                carried.mark_not_started()
            if found.asked_at is not None and attempt.written_at < found.asked_at:
                carried.unstarted_attempt = (
                    None  # it had its outcome since, and whatever began until it was asked for is not what is asked for
                )
        elif attempt is not None and found.state is State.WAITING and (earlier := self._find_unstarted_attempt(found)) is not None:
            carried.sent_at = earlier.written_at
            self._mark_unknown(carried, earlier, attempt.written_at)
            carried.mark_not_started()
        carried.is_queued = self._has_waited_for_run(found)
        carried.recovered_under = self._context.timetable.entries.get(found.occurrence.automation_id)
        carried.steps.append(Step(self._context.clock.now(), Cause.ADOPTED))
        return carried

    def make_backfill_delivery(self, found: OpenOccurrence) -> Delivery:
        """One that had its outcome and was asked for by hand: no attempt of it is under way."""
        carried = Delivery(found.occurrence, found.name, found.due, found.deadline, is_late=True, entry=None, state=State.WAITING)
        carried.attempt, carried.is_backfill, carried.maybe_sent = found.attempt, found.asked_at is not None, found.maybe_sent
        carried.error = None if found.end is None else found.end.error
        return carried

    def _has_waited_for_run(self, found: OpenOccurrence) -> bool:
        """Whether it waited for the run before it, and so has beyond its deadline: as far as the newest recorded snapshot tells."""
        entry = self._context.timetable.entries.get(found.occurrence.automation_id)
        if found.asked_at is not None or entry is None or entry.policies.concurrency is not Concurrency.QUEUE:
            return False
        return entry.automation.run_id is not None and not is_finished(entry.automation.run_status)

    def _mark_unknown(self, carried: Delivery, attempt: Attempt, ended_at: datetime) -> None:
        """Whatever began since ``attempt`` was written may be its run, since the clock may have been set before the first byte left."""
        clock = self._context.clock
        carried.sent_by_api = to_api_time(attempt.written_at, attempt.clock_offset)
        age = (clock.now() - min(attempt.written_at, carried.sent_at or ended_at)).total_seconds()
        carried.sent_boottime = clock.boottime() - age if age >= 0 else float("-inf")  # set back since: any run may be the one
        ended = clock.boottime() - max((clock.now() - ended_at).total_seconds(), 0.0)
        carried.mark_unknown(ended, self._context.settings.settle_time)

    def _find_unstarted_attempt(self, found: OpenOccurrence) -> Attempt | None:
        """Return the first attempt that readings took for not started, before a newer one that started nothing for sure."""
        first = found.first_in_doubt
        return None if first is None or (found.asked_at is not None and first.written_at < found.asked_at) else first

    def _find_first_unknown(self, found: OpenOccurrence, newest: Attempt) -> Attempt:
        """Return the first attempt whose run may be the occurrence's: the API may show that run late, or carry it out late.

        Where the target ignores keys, an attempt from before somebody asked for the occurrence by hand does not count: the
        occurrence had its outcome since.
        """
        first = found.first_in_doubt or newest
        is_before = found.asked_at is not None and first.written_at < found.asked_at
        return newest if is_before and not self._context.settings.idempotent else first


def to_api_time(instant: datetime, clock_offset: float | None) -> datetime | None:
    """What the API's clock showed at an instant of ours; None when the difference was not known."""
    return None if clock_offset is None else instant + timedelta(seconds=clock_offset)
