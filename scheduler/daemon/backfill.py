"""Backfill: run skipped, expired or rejected occurrences on an operator's request.

The module is separate from the planner, which makes rows for due occurrences. A backfill opens a row with an
outcome again, and hands the occurrence to the dispatcher.
"""

from typing import Final

from scheduler.core.backfill import FireRequest, Reopening
from scheduler.core.events import FireRefused, OccurrenceReopened
from scheduler.core.model import OpenOccurrence
from scheduler.core.policy import make_fire_time
from scheduler.core.timetable import TimetableEntry
from scheduler.daemon.context import Context
from scheduler.daemon.dispatcher import Dispatcher
from scheduler.daemon.recovery import make_delivery

_GONE: Final = "the automation is gone"
_FUTURE: Final = "it is still to come"
_TOO_LONG_AGO: Final = "it was asked for longer ago than it may wait to be started; ask again"


class Backfill:
    """Processes the backfill requests of one target."""

    def __init__(self, context: Context, dispatcher: Dispatcher) -> None:
        self._context = context
        self._dispatcher = dispatcher

    async def process_requests(self) -> None:
        """Process all current requests.

        Raise `LedgerUnavailable` when the ledger fails. The remaining requests wait for the next call.
        """
        for request in await self._context.ledger.read_fire_requests(self._context.target):
            await self._process_request(request)

    async def _process_request(self, request: FireRequest) -> None:
        context, entry = self._context, self._context.timetable.entries.get(request.occurrence.automation_id)
        reopening = None if entry is None else self._plan_reopening(request, entry)
        why = _GONE if reopening is None else self._find_objection(request, reopening)
        if reopening is None or why is not None:
            await context.ledger.refuse(request, why or _GONE)
            self._publish_refusal(request, why or _GONE)
            return
        opened = await context.ledger.reopen(request, reopening)
        context.health.note_success()
        if isinstance(opened, OpenOccurrence):
            context.publish(
                OccurrenceReopened(occurrence=request.occurrence, automation=opened.name, by=request.by)
            )
            self._dispatcher.take(make_delivery(opened))
        else:
            self._publish_refusal(request, opened)

    def _plan_reopening(self, request: FireRequest, entry: TimetableEntry) -> Reopening:
        """Return the due instant and the new deadline, under the present policies.

        The time to start counts from the request, as if the occurrence had come due at the request.
        """
        scheduled_for = request.occurrence.scheduled_for
        following = None if entry.schedule is None else entry.schedule.find_next(scheduled_for)
        planned = make_fire_time(
            entry.policies, self._context.target, entry.automation.id, scheduled_for, following
        )
        deadline = request.at + (planned.deadline - planned.due)
        return Reopening(entry.automation.name, planned.due, deadline, self._context.clock.now())

    def _find_objection(self, request: FireRequest, reopening: Reopening) -> str | None:
        if request.occurrence.scheduled_for > reopening.at:
            return _FUTURE
        return _TOO_LONG_AGO if reopening.at > reopening.deadline else None

    def _publish_refusal(self, request: FireRequest, why: str) -> None:
        self._context.publish(FireRefused(occurrence=request.occurrence, by=request.by, reason=why))
