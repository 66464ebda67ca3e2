"""Looks after the others, and tells what is due for longer than its policy allows.

It asks neither the planner nor the dispatcher what they have done, but the ledger, for what `core.expected` derives from the definitions in
force. So it also tells of what was forgotten, of what the ledger did not take, and of a planner that waits for what will never come: while
the planner makes no progress, whatever is due and has no row counts as overdue at once.

The number of occurrences looked at is bounded, and so is each question to the ledger. While no answer comes,
the open occurrences that this process knows of stand for the rows.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import nsmallest
from itertools import islice
from typing import Final

from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import OccurrenceOverdue
from scheduler.core.expected import Expectation, Expected
from scheduler.core.instants import to_text_seconds
from scheduler.core.model import Occurrence, OpenOccurrence
from scheduler.core.status import MOST_NAMED, STALLED
from scheduler.daemon.clearance import Clearance
from scheduler.daemon.context import Context
from scheduler.daemon.dispatcher import Dispatcher
from scheduler.daemon.lane import Carried

LOOK_EVERY: Final = 30.0
"""Seconds between two looks. What both of them find is overdue: one alone may have come between a deadline and its outcome."""
ANSWER_WITHIN: Final = 5.0
"""Seconds for one answer of the ledger."""
AT_ONCE: Final = 1_000
"""Occurrences that one question names."""
UNPLANNED: Final = "not planned"
"""In place of a state: the occurrence has no row."""


@dataclass(frozen=True, slots=True)
class Late:
    """An overdue occurrence, for people."""

    name: str
    state: str


class Overdue:
    """The overdue occurrences of one target."""

    def __init__(self, context: Context, clearance: Clearance, dispatcher: Dispatcher, stalled_for: Callable[[], float]) -> None:
        self._context = context
        self._stalled_for = stalled_for
        self._clearance = clearance
        self._dispatcher = dispatcher
        # From here on: whether what came due before is still meant, only a good poll can tell, and it shows that there was none.
        self._expected = Expected(context.target, context.clock.now())
        self._seen: Mapping[Occurrence, Late] = {}
        self.found: Mapping[Occurrence, Late] = {}
        self.first: Sequence[str] = ()  # of these, for people, in the order of time

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
        self.first = self._lines()
        self._tell_of([each for each in self.found if each not in known])

    def _lines(self) -> Sequence[str]:
        first = nsmallest(MOST_NAMED, self.found.items(), key=lambda pair: (pair[0].scheduled_for, pair[1].name))
        return [f"{late.name} {to_text_seconds(each.scheduled_for)} ({late.state})" for each, late in first]

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
        for _ in self._expected.derive(self._context.timetable.entries, now):
            await asyncio.sleep(0)
        expected = self._expected.due(now)
        late: Sequence[OpenOccurrence | Carried]
        try:
            await self._confirm(list(expected))
            late = await self._ask_for_late(now)
        except LedgerUnavailable as error:
            self._context.health.failed("overdue", str(error))
            late = self._known_late(now)
        except TimeoutError:
            late = self._known_late(now)
        rightly = self._rightly_open(now)
        unplanned = self._unplanned(self._expected.due(now), now)
        return unplanned | {each.occurrence: Late(each.name, each.state) for each in late if each.occurrence not in rightly}

    async def _confirm(self, expected: Sequence[Occurrence]) -> None:
        """Ask the ledger which of these have a row, a few at a time."""
        context, left = self._context, iter(expected)
        while some := list(islice(left, AT_ONCE)):
            async with asyncio.timeout(ANSWER_WITHIN):
                lacking = await context.ledger.lacking(context.target, some)
            self._expected.confirm(each for each in some if each not in lacking)

    async def _ask_for_late(self, now: datetime) -> Sequence[OpenOccurrence]:
        async with asyncio.timeout(ANSWER_WITHIN):
            return await self._context.ledger.late(self._context.target, now)

    def _known_late(self, now: datetime) -> Sequence[Carried]:
        """Return the open occurrences that this process knows of and that may not start any more, in place of the ledger's answer."""
        return [carried for carried in self._dispatcher.open() if carried.deadline < now]

    def _unplanned(self, expected: Mapping[Occurrence, Expectation], now: datetime) -> dict[Occurrence, Late]:
        """Those without a row that may not start any more; while the planner makes no progress, all that it should have planned."""
        stalled = self._stalled_for() >= STALLED
        latest = now - timedelta(seconds=STALLED)
        return {
            each: Late(expectation.name, UNPLANNED)
            for each, expectation in expected.items()
            if expectation.deadline < now or (stalled and expectation.due < latest)
        }

    def _rightly_open(self, now: datetime) -> set[Occurrence]:
        """What was sent in time and is being found out, or waits for the run before it."""
        return {each.occurrence for each in self._dispatcher.open() if each.may_have_started or now <= self._clearance.deadline(each)}
