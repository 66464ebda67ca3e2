"""Takes up what people ask to be made up for by hand, and hands it to the dispatcher.

Apart from the planner, which makes rows of what is due: here a row that had its outcome is opened again, because somebody said so.
"""

from typing import Final

from scheduler.core.events import FireRefused, OccurrenceReopened
from scheduler.core.fires import FireRequest, Reopening
from scheduler.core.model import OpenOccurrence
from scheduler.core.policy import moment
from scheduler.core.timetable import Entry
from scheduler.daemon.context import Context
from scheduler.daemon.dispatcher import Dispatcher

_GONE: Final = "the automation is gone"
_FUTURE: Final = "it is still to come"
_TOO_LONG_AGO: Final = "it was asked for longer ago than it may wait to be started; ask again"


class MakingUp:
    """One target's requests."""

    def __init__(self, context: Context, dispatcher: Dispatcher) -> None:
        self._context = context
        self._dispatcher = dispatcher

    async def take_up(self) -> None:
        """Take up what is asked for now. Raises `LedgerUnavailable`; what is left then waits for the next time."""
        for request in await self._context.ledger.fire_requests(self._context.target):
            await self._take_up(request)

    async def _take_up(self, request: FireRequest) -> None:
        context, entry = self._context, self._context.timetable.entries.get(request.occurrence.automation_id)
        reopening = None if entry is None else self._reopening(request, entry)
        why = _GONE if reopening is None else self._objection(request, reopening)
        if reopening is None or why is not None:
            await context.ledger.refuse(request, why or _GONE)
            self._refused(request, why or _GONE)
            return
        opened = await context.ledger.reopen(request, reopening)
        context.health.worked()
        if isinstance(opened, OpenOccurrence):
            context.publish(OccurrenceReopened(occurrence=request.occurrence, automation=opened.name, by=request.by))
            self._dispatcher.reopened(opened)
        else:
            self._refused(request, opened)

    def _reopening(self, request: FireRequest, entry: Entry) -> Reopening:
        """How it goes on, under the policies of now: as if it had come due when it was asked for."""
        scheduled_for = request.occurrence.scheduled_for
        following = None if entry.schedule is None else entry.schedule.next(scheduled_for)
        planned = moment(entry.policies, self._context.target, entry.automation.id, scheduled_for, following)
        deadline = request.at + (planned.deadline - planned.due)
        return Reopening(entry.automation.name, planned.due, deadline, self._context.clock.now())

    def _objection(self, request: FireRequest, reopening: Reopening) -> str | None:
        if request.occurrence.scheduled_for > reopening.at:
            return _FUTURE
        return _TOO_LONG_AGO if reopening.at > reopening.deadline else None

    def _refused(self, request: FireRequest, why: str) -> None:
        self._context.publish(FireRefused(occurrence=request.occurrence, by=request.by, reason=why))
