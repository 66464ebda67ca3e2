"""Which occurrences should have their row by now, derived from the definitions in force and from nothing else.

Apart from the timetable on purpose: what plans the occurrences cannot be asked whether it forgot one. So every unique schedule is evaluated
here a second time, with a cursor of its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from scheduler.core.model import Occurrence
from scheduler.core.policy import moment
from scheduler.core.timetable import Entry

if TYPE_CHECKING:
    from scheduler.core.cron import Schedule


@dataclass(frozen=True, slots=True)
class _Expectation:
    entry: Entry  # in the version that implied it
    name: str
    deadline: datetime


class Expected:
    """What was scheduled after ``since`` for the automations of one target, until somebody has seen that it is on record."""

    def __init__(self, target: str, since: datetime) -> None:
        self._target = target
        self._cursor = since
        self._next: dict[Schedule, datetime | None] = {}
        self._open: dict[Occurrence, _Expectation] = {}

    def begin_anew(self, now: datetime) -> None:
        """The clock was set, or schedules are evaluated otherwise: what lies after ``now`` is to be derived again."""
        self._cursor = min(self._cursor, now)
        self._next.clear()
        self._open = {each: expectation for each, expectation in self._open.items() if each.scheduled_for <= now}

    def past(self, entries: Mapping[str, Entry], now: datetime) -> dict[Occurrence, str]:
        """Every occurrence that may not start any more and is not confirmed to be on record, with the automation's name."""
        self._derive(entries.values(), now)
        self._open = {each: expectation for each, expectation in self._open.items() if _answers(expectation.entry, each)}
        return {each: expectation.name for each, expectation in self._open.items() if expectation.deadline < now}

    def confirm(self, occurrences: Iterable[Occurrence]) -> None:
        """These are on record."""
        for each in occurrences:
            self._open.pop(each, None)

    def _derive(self, entries: Iterable[Entry], now: datetime) -> None:
        sharing: dict[Schedule, list[Entry]] = {}
        for entry in entries:
            if entry.schedule is not None:
                sharing.setdefault(entry.schedule, []).append(entry)
        self._next = {each: self._next[each] if each in self._next else each.next(self._cursor) for each in sharing}
        for schedule, sharers in sharing.items():
            while (instant := self._next[schedule]) is not None and instant <= now:
                following = self._next[schedule] = schedule.next(instant)
                for entry in sharers:
                    self._expect(entry, instant, following)
        self._cursor = max(self._cursor, now)

    def _expect(self, entry: Entry, instant: datetime, following: datetime | None) -> None:
        if instant > entry.effective_from:
            automation = entry.automation
            deadline = moment(entry.policies, self._target, automation.id, instant, following).deadline
            self._open[Occurrence(self._target, automation.id, instant)] = _Expectation(entry, automation.name, deadline)


def _answers(entry: Entry, occurrence: Occurrence) -> bool:
    """Whether the version that implied it still does: not when an edit that is seen late counts from before it."""
    return entry.until is None or occurrence.scheduled_for <= entry.until
