"""Outbox: changes on their way into the ledger, in their order.

The changes come from snapshots, from reloads, and from clock steps back. The outbox is separate from the
poller for two reasons. The poller must not wait for the ledger, and the planner must wait for the outbox. A
plan may use only recorded definition versions. Otherwise nobody could explain the plan later.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeVar

from scheduler.core.model import DefinitionVersion, Snapshot, SnapshotUpdate
from scheduler.core.timetable import SnapshotChanges
from scheduler.daemon.context import Context

_T = TypeVar("_T")

_MOST_AT_ONCE: Final = 5_000
"""Number of automations in one transaction: 0.1 to 0.2 s, for which a due claim may have to wait."""


_Item = SnapshotUpdate | datetime
"""Update for the ledger, or the instant to which the clock stepped back.

Earlier items with instants after this instant come from a clock that was ahead.
"""


class SnapshotOutbox:
    """Changes of one target that are not durable yet, in their order."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._items: deque[_Item] = deque()
        self._write_lock = asyncio.Lock()

    @property
    def is_behind(self) -> bool:
        """Whether a prerequisite of plans is not durable yet: a definition version or a clock step back."""
        return any(isinstance(each, datetime) or each.versions for each in self._items)

    def add(self, snapshot: Snapshot, changes: SnapshotChanges, *, whole: bool = True) -> None:
        """Add the changes of a snapshot. ``whole`` is False when the rest of the snapshot is added later.

        Updates without a change are coalesced: the new update replaces them, except the update that is being
        written.
        """
        while len(self._items) > 1 and _is_empty(self._items[-1]):
            self._items.pop()
        self._items.extend(_divide(_make_update(snapshot, changes, whole=whole)))

    def revise(self, versions: Sequence[DefinitionVersion], snapshot_at: datetime | None) -> None:
        """Add versions that follow from other settings or zone data.

        ``snapshot_at`` is the instant of the snapshot with the automations. None: no snapshot exists, and
        nothing is added.
        """
        if versions and snapshot_at is not None:
            self._items.extend(_divide(SnapshotUpdate(snapshot_at, versions)))

    def remove(self, version: DefinitionVersion, snapshot_at: datetime | None) -> None:
        """Add the removal of an automation whose GET answered 404.

        The newest snapshot is still the snapshot of ``snapshot_at``.
        """
        if snapshot_at is not None:
            self._items.append(SnapshotUpdate(snapshot_at, [version], removed=[version.automation_id]))

    def add_rewind(self, now: datetime) -> None:
        """Add a clock step back to ``now``."""
        self._items.append(now)

    async def write_prerequisites(self) -> None:
        """Make durable all prerequisites of plans. Raises `LedgerUnavailable`."""
        while self.is_behind:
            await self.write()

    async def write(self) -> None:
        """Make the waiting items durable, in their order.

        Raises `LedgerUnavailable`; the items that are not durable stay in the outbox.
        """
        async with self._write_lock:
            while self._items:
                await self._write_item(self._items[0])
                self._items.popleft()

    async def _write_item(self, item: _Item) -> None:
        ledger, target = self._context.ledger, self._context.target
        if isinstance(item, datetime):
            await ledger.rewind(target, item)
        else:
            await ledger.record_snapshot(target, item)


def _divide(update: SnapshotUpdate) -> Iterator[SnapshotUpdate]:
    """Yield parts of at most `_MOST_AT_ONCE` automations. Only the last part is whole.

    Each part contains all changes of its automations. The parts are in the order of automation ids:
    neighbours in a part are neighbours in the tables, so that a part writes few pages.
    """
    automation_ids = {
        *(version.automation_id for version in update.versions),
        *(automation.id for automation in update.changed),
        *update.unseen,
    }
    part_of = {
        automation_id: place // _MOST_AT_ONCE for place, automation_id in enumerate(sorted(automation_ids))
    }
    versions = _group(update.versions, lambda version: part_of[version.automation_id])
    changed = _group(update.changed, lambda automation: part_of[automation.id])
    removed = _group(update.removed, lambda automation_id: part_of[automation_id])
    unseen = _group(update.unseen.items(), lambda item: part_of[item[0]])
    last = max(part_of.values(), default=0)
    for part in range(last + 1):
        whole = update.whole and part == last
        yield SnapshotUpdate(
            update.at, versions[part], changed[part], removed[part], dict(unseen[part]), whole
        )


def _group(items: Iterable[_T], find_part: Callable[[_T], int]) -> Mapping[int, list[_T]]:
    parts: dict[int, list[_T]] = defaultdict(list)
    for item in items:
        parts[find_part(item)].append(item)
    return parts


def _is_empty(item: _Item) -> bool:
    """Return whether an item is a whole snapshot without a change."""
    return (
        isinstance(item, SnapshotUpdate) and item.whole and not (item.versions or item.changed or item.unseen)
    )


def _make_update(snapshot: Snapshot, changes: SnapshotChanges, *, whole: bool) -> SnapshotUpdate:
    added = (version.automation_id for version in changes.added)
    fresh = [snapshot.automations[each] for each in added if each in snapshot.automations]
    return SnapshotUpdate(
        snapshot.begun_at,
        [*changes.added, *changes.changed, *changes.removed],
        [*changes.updated, *fresh],
        [each.automation_id for each in changes.removed],
        changes.unseen,
        whole,
    )
