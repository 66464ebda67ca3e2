"""What snapshots showed, on its way into the ledger.

Apart from the poller because it must not wait for the ledger, and because the planner must wait for this: nothing may be planned by a
version of a definition that is not on record, or nobody could say afterwards why it was.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from scheduler.core.model import Automation, Snapshot, Version
from scheduler.core.timetable import Changes
from scheduler.daemon.context import Context


@dataclass(frozen=True, slots=True)
class _Sighting:
    """What the ledger is to know of one snapshot."""

    at: datetime
    versions: Sequence[Version]
    changed: Sequence[Automation]
    removed: Sequence[str]

    def not_after(self, now: datetime) -> "_Sighting":
        """The same, seen and in force by now, since the clock that says otherwise was ahead."""
        versions = [replace(each, effective_from=min(each.effective_from, now)) for each in self.versions]
        return replace(self, at=min(self.at, now), versions=versions)


class Record:
    """One target's sightings that are not durable yet, in their order."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: deque[_Sighting] = deque()
        self._writing = asyncio.Lock()

    @property
    def lacks_versions(self) -> bool:
        """Whether a version of a definition is not durable yet."""
        return any(each.versions for each in self._waiting)

    def add(self, snapshot: Snapshot, changes: Changes) -> None:
        """Take a snapshot down. One that tells of no change stands for those before it that told of none, except the one being written."""
        while len(self._waiting) > 1 and not (self._waiting[-1].versions or self._waiting[-1].changed):
            self._waiting.pop()
        self._waiting.append(_sighting(snapshot, changes))

    def clock_was_set(self) -> None:
        """Nothing that waits may lie ahead of the present."""
        now = self._context.clock.now()
        self._waiting = deque(each.not_after(now) for each in self._waiting)

    async def write(self) -> None:
        """Make durable what waits, as far as the ledger takes it. Raises `LedgerUnavailable`."""
        async with self._writing:
            while self._waiting:
                seen = self._waiting[0]
                await self._context.ledger.observe(self._context.target, seen.at, seen.versions, seen.changed, seen.removed)
                self._waiting.popleft()


def _sighting(snapshot: Snapshot, changes: Changes) -> _Sighting:
    fresh = [snapshot.automations[each.automation_id] for each in changes.added if each.automation_id in snapshot.automations]
    return _Sighting(
        snapshot.begun_at,
        [*changes.added, *changes.changed, *changes.removed],
        [*changes.updated, *fresh],
        [each.automation_id for each in changes.removed],
    )
