"""The occurrences that should have a row by now, derived only from the definitions in force.

The derivation is separate from the timetable on purpose: the timetable plans the occurrences and cannot tell
whether it forgot an occurrence. Therefore every unique schedule is evaluated here a second time, with another
cursor.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.cron.schedule import Schedule
from scheduler.core.model import Occurrence
from scheduler.core.timetable import TimetableEntry

MOST_UNCONFIRMED: Final = 50_000
"""Most occurrences without a known row to keep, to bound the memory.

More occurrences are derived only after confirmations.
"""
LOOK_BACK: Final = timedelta(hours=1)
"""Age of the oldest instant to derive: after a suspend of a month, today must not wait for the month."""
_SLICE: Final = 100
"""Steps of a derivation between two pauses: some milliseconds."""


@dataclass(frozen=True, slots=True)
class ExpectedOccurrence:
    """An occurrence that should have a row: its automation, due instant and deadline."""

    entry: TimetableEntry  # the version with this occurrence
    name: str
    due: datetime
    deadline: datetime


class ExpectedOccurrences:
    """The occurrences scheduled after ``since`` for a target's automations, until they are confirmed.

    Confirmed occurrences are in the ledger.
    """

    def __init__(self, target: str, since: datetime) -> None:
        self._target = target
        self._cursor = since
        self._next: dict[Schedule, datetime | None] = {}
        self._open: dict[Occurrence, ExpectedOccurrence] = {}
        self._is_restarted = True  # no derivation has begun since `restart`

    def restart(self, now: datetime) -> None:
        """Derive the time after ``now`` again: the clock was set, or schedules are evaluated differently."""
        self._cursor = min(self._cursor, now)
        self._next.clear()
        self._is_restarted = True
        self._open = {key: each for key, each in self._open.items() if key.scheduled_for <= now}

    def derive(self, entries: Mapping[str, TimetableEntry], now: datetime) -> Iterator[None]:
        """Derive the occurrences scheduled in `LOOK_BACK` up to ``now``, at most `MOST_UNCONFIRMED`.

        The generator yields after each slice, to give other tasks a turn. After `restart` in between, the
        rest is left to the next derivation.
        """
        self._is_restarted = False
        sharing: dict[Schedule, list[TimetableEntry]] = {}
        for number, entry in enumerate(list(entries.values()), 1):
            if entry.schedule is not None:
                sharing.setdefault(entry.schedule, []).append(entry)
            if number % _SLICE == 0:
                yield
        self._next = {each: following for each, following in self._next.items() if each in sharing}
        for number, _ in enumerate(self._derive_steps(sharing, now), 1):
            if number % _SLICE == 0:
                yield
            if self._is_restarted:
                break
        if not self._is_restarted:
            self._cursor = max(self._cursor, now)

    def find_due(self, now: datetime) -> dict[Occurrence, ExpectedOccurrence]:
        """Return every derived occurrence with due before ``now`` and without confirmation."""
        self._open = {key: each for key, each in self._open.items() if _is_implied(each.entry, key)}
        return {key: each for key, each in self._open.items() if each.due < now}

    def confirm(self, occurrences: Iterable[Occurrence]) -> None:
        """Remove occurrences from the expected occurrences: they are in the ledger."""
        for each in occurrences:
            self._open.pop(each, None)

    def _derive_steps(
        self, sharing: Mapping[Schedule, list[TimetableEntry]], now: datetime
    ) -> Iterator[None]:
        """Check a schedule, or derive an occurrence, in each step."""
        earliest = now - LOOK_BACK
        for schedule, sharers in sharing.items():
            begin = max(self._cursor, earliest)
            instant = self._next[schedule] if schedule in self._next else schedule.find_next(begin)
            if instant is not None and instant <= earliest:
                instant = schedule.find_next(earliest)
            while instant is not None and instant <= now and len(self._open) < MOST_UNCONFIRMED:
                following = schedule.find_next(instant)
                for entry in sharers:
                    self._expect(entry, instant, following)
                    yield
                instant = following
            self._next[schedule] = instant
            yield

    def _expect(self, entry: TimetableEntry, instant: datetime, following: datetime | None) -> None:
        if instant > entry.effective_from:
            automation = entry.automation
            made = entry.make_fire_time(self._target, instant, following)
            self._open[Occurrence(self._target, automation.id, instant)] = ExpectedOccurrence(
                entry, automation.name, made.due, made.deadline
            )


def _is_implied(entry: TimetableEntry, occurrence: Occurrence) -> bool:
    """Return whether the version still implies the occurrence.

    An edit observed late, which counts from before the occurrence, takes the occurrence back.
    """
    return entry.until is None or occurrence.scheduled_for <= entry.until
