"""Looks after the others, and tells what is due for longer than its policy allows.

It asks neither the planner nor the dispatcher what they have done, but the ledger, for what `core.expected` derives from the definitions in
force. So it also tells of what was forgotten, of what the ledger did not take, and of a planner that waits for what will never come.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import OccurrenceOverdue
from scheduler.core.expected import Expected
from scheduler.core.instants import to_text_seconds
from scheduler.core.model import Occurrence
from scheduler.daemon.clearance import Clearance
from scheduler.daemon.context import Context
from scheduler.daemon.dispatcher import Dispatcher

LOOK_EVERY: Final = 30.0
"""Seconds between two looks. What both of them find is overdue: one alone may have come between a deadline and its outcome."""
UNPLANNED: Final = "not planned"
"""In place of a state: the occurrence has no row."""


@dataclass(frozen=True, slots=True)
class Late:
    """An overdue occurrence, for people."""

    name: str
    state: str


class Overdue:
    """The overdue occurrences of one target."""

    def __init__(self, context: Context, clearance: Clearance, dispatcher: Dispatcher) -> None:
        self._context = context
        self._clearance = clearance
        self._dispatcher = dispatcher
        # From here on: whether what came due before is still meant, only a good poll can tell, and it shows that there was none.
        self._expected = Expected(context.target, context.clock.now())
        self._seen: Mapping[Occurrence, Late] = {}
        self.found: Mapping[Occurrence, Late] = {}

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self.look()

    async def look(self) -> None:
        """Look once. While the clock is in doubt, nobody can tell what is late."""
        self._context.watch.look()
        if self._context.watch.in_doubt:
            return
        before, self._seen = self._seen, await self._late(self._context.clock.now())
        known, self.found = self.found, {each: late for each, late in self._seen.items() if each in before}
        self._tell_of([each for each in self.found if each not in known])

    def lines(self) -> list[str]:
        """What was found, for people, in the order of time."""
        found = sorted(self.found.items(), key=lambda pair: (pair[0].scheduled_for, pair[1].name))
        return [f"{late.name} {to_text_seconds(each.scheduled_for)} ({late.state})" for each, late in found]

    def begin_anew(self) -> None:
        """The clock was set, or schedules are evaluated otherwise."""
        self._expected.begin_anew(self._context.clock.now())

    def _tell_of(self, new: Sequence[Occurrence]) -> None:
        """In one line, with the first of them: a ledger that is full has thousands overdue at once."""
        if not new:
            return
        first = min(new, key=lambda each: each.scheduled_for)
        late = self.found[first]
        self._context.publish(
            OccurrenceOverdue(occurrence=first, automation=late.name, state=late.state, count=len(new), overdue=len(self.found))
        )

    async def _late(self, now: datetime) -> dict[Occurrence, Late]:
        context = self._context
        expected = self._expected.past(context.timetable.entries, now)
        try:
            lacking = await context.ledger.lacking(context.target, list(expected))
            late = await context.ledger.late(context.target, now)
        except LedgerUnavailable as error:
            context.health.failed("overdue", str(error))
            return {each: Late(name, UNPLANNED) for each, name in expected.items()}  # nobody can show their rows
        self._expected.confirm(expected.keys() - lacking)
        rightly = self._rightly_open(now)
        unplanned = {each: Late(expected[each], UNPLANNED) for each in lacking}
        return unplanned | {each.occurrence: Late(each.name, each.state) for each in late if each.occurrence not in rightly}

    def _rightly_open(self, now: datetime) -> set[Occurrence]:
        """What was sent in time and is being found out, or waits for the run before it."""
        return {each.occurrence for each in self._dispatcher.open() if each.may_have_started or now <= self._clearance.deadline(each)}
