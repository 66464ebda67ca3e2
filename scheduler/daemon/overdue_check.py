"""Overdue check: finds occurrences that are due for longer than their policy allows.

The check does not rely on the planner or the dispatcher. The check asks the ledger two questions:

- Which of the occurrences that `core.expected_occurrences` derives from the definitions in force have no row?
- Which rows are open after their deadline?

Therefore the check also finds forgotten occurrences, occurrences that the ledger did not record, and a
planner that waits forever. While the planner makes no progress, a due occurrence without a row counts as
overdue after `STALLED_AFTER` seconds, without regard to the deadline.

`core.expected_occurrences` bounds the number of expected occurrences. Each query to the ledger is bounded.
While the ledger does not answer, an expected occurrence counts as one without a row, unless an earlier
answer confirmed the row. The open occurrences known to this process replace the rows that are open.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import nsmallest
from itertools import islice
from typing import Final

from scheduler.core.delivery import Delivery
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import OccurrenceOverdue
from scheduler.core.expected_occurrences import ExpectedOccurrence, ExpectedOccurrences
from scheduler.core.instants import to_text_seconds
from scheduler.core.model import Occurrence, OpenOccurrence
from scheduler.core.status import MOST_NAMED, STALLED_AFTER
from scheduler.daemon.context import Context
from scheduler.daemon.dispatcher import Dispatcher

CHECK_INTERVAL: Final = 30.0
"""Seconds between two checks. An occurrence is overdue when two checks in a row find it.

A single check may fall between a deadline and the outcome.
"""
ANSWER_WITHIN: Final = 5.0
"""Maximum number of seconds for one answer of the ledger."""
AT_ONCE: Final = 1_000
"""Number of occurrences in one query."""
UNPLANNED: Final = "not planned"
"""State of an occurrence without a row."""


@dataclass(frozen=True, slots=True)
class OverdueOccurrence:
    """Overdue occurrence, for people."""

    name: str
    state: str


class OverdueCheck:
    """The check of one target, with its newest results.

    ``stalled_for`` returns the seconds for which the planner has made no progress.
    """

    def __init__(self, context: Context, dispatcher: Dispatcher, stalled_for: Callable[[], float]) -> None:
        self._context = context
        self._measure_stall = stalled_for
        self._dispatcher = dispatcher
        # Expectations begin now. Earlier occurrences are planned after the first poll without an error, and
        # the status shows when there was no such poll.
        self._expected = ExpectedOccurrences(context.target, context.clock.now())
        self._last_found: Mapping[Occurrence, OverdueOccurrence] = {}
        self.overdue: Mapping[Occurrence, OverdueOccurrence] = {}
        self.first_lines: Sequence[str] = ()  # overdue occurrences as text for people, in the order of time

    async def run(self) -> None:
        """Check forever."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            await self.check()

    async def check(self) -> None:
        """Check once. While the clock is in doubt, nothing can be judged, and the last results stay."""
        self._context.watch.check()
        if self._context.watch.is_in_doubt:
            return
        found = await self._find_late(self._context.clock.now())
        known = self.overdue
        self.overdue = {key: occurrence for key, occurrence in found.items() if key in self._last_found}
        self._last_found = found
        self.first_lines = self._format_first()
        self._publish_overdue([each for each in self.overdue if each not in known])

    def _format_first(self) -> Sequence[str]:
        first = nsmallest(
            MOST_NAMED, self.overdue.items(), key=lambda pair: (pair[0].scheduled_for, pair[1].name)
        )
        return [f"{late.name} {to_text_seconds(each.scheduled_for)} ({late.state})" for each, late in first]

    def restart(self) -> None:
        """Derive the expected occurrences again.

        The clock was set, or schedules are evaluated by other settings or zone data.
        """
        self._expected.restart(self._context.clock.now())

    def _publish_overdue(self, new: Sequence[Occurrence]) -> None:
        """Publish one event for all new overdue occurrences, with the first occurrence.

        When the ledger's disk is full, thousands of occurrences may become overdue at once.
        """
        if not new:
            return
        first = min(new, key=lambda each: each.scheduled_for)
        late = self.overdue[first]
        self._context.publish(
            OccurrenceOverdue(
                occurrence=first,
                automation=late.name,
                state=late.state,
                count=len(new),
                overdue=len(self.overdue),
            )
        )

    async def _find_late(self, now: datetime) -> dict[Occurrence, OverdueOccurrence]:
        for _ in self._expected.derive(self._context.timetable.entries, now):
            await asyncio.sleep(0)  # other tasks go on between two parts
        late: Sequence[OpenOccurrence | Delivery] | None = None
        try:
            await self._confirm_rows(list(self._expected.find_due(now)))
            async with asyncio.timeout(ANSWER_WITHIN):
                late = await self._context.ledger.read_late_occurrences(self._context.target, now)
        except LedgerUnavailable as error:
            self._context.health.note_failure("overdue", str(error))
        except TimeoutError:
            pass  # the writes and reads that wait for the same ledger report it
        if late is None:
            late = [delivery for delivery in self._list_open() if delivery.deadline < now]
        rightly = self._find_rightly_open(now)
        unplanned = self._find_unplanned_occurrences(self._expected.find_due(now), now)
        return unplanned | {
            each.occurrence: OverdueOccurrence(each.name, each.state)
            for each in late
            if each.occurrence not in rightly
        }

    def _list_open(self) -> list[Delivery]:
        """Return the open deliveries known to this process."""
        return [delivery.value for delivery in self._dispatcher.iterate_open()]

    async def _confirm_rows(self, expected: Sequence[Occurrence]) -> None:
        """Ask the ledger which expected occurrences have a row, in parts."""
        context, left = self._context, iter(expected)
        while some := list(islice(left, AT_ONCE)):
            async with asyncio.timeout(ANSWER_WITHIN):
                lacking = await context.ledger.find_missing(context.target, some)
            self._expected.confirm(each for each in some if each not in lacking)

    def _find_unplanned_occurrences(
        self, expected: Mapping[Occurrence, ExpectedOccurrence], now: datetime
    ) -> dict[Occurrence, OverdueOccurrence]:
        """Return the expected occurrences without a row that may not start any more.

        While the planner makes no progress, all occurrences that should have been planned are included.
        """
        stalled = self._measure_stall() >= STALLED_AFTER
        latest = now - timedelta(seconds=STALLED_AFTER)
        return {
            each: OverdueOccurrence(expectation.name, UNPLANNED)
            for each, expectation in expected.items()
            if expectation.deadline < now or (stalled and expectation.due < latest)
        }

    def _find_rightly_open(self, now: datetime) -> set[Occurrence]:
        """Return the occurrences that are rightly open after their deadline.

        Such an occurrence is in flight or being reconciled, or waits for the run of the occurrence before.
        """
        run_timeout = self._context.settings.run_timeout
        return {
            delivery.occurrence
            for delivery in self._list_open()
            if delivery.may_have_started or now <= delivery.find_deadline(run_timeout)
        }
