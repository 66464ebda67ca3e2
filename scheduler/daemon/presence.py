"""Absent automations: read alone when one of their occurrences is due, and reported when many disappear.

A list may be empty for a moment, or filtered by mistake. Therefore an absence alone removes nothing. Until
the absence is confirmed, occurrences of the automation wait. A reading of the automation alone decides at
once. The list may also show an automation whose run answered 404. Such an automation is read without a due
occurrence too: the doubt ends when its cause ends, and not only with the next occurrence.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.disappearance import DisappearanceWatch
from scheduler.core.errors import UpstreamError
from scheduler.core.events import AutomationsDisappeared, AutomationsUnidentified, ListAgreed, ListDisagreed
from scheduler.core.model import InvalidAutomation, Snapshot
from scheduler.core.quantities import pluralize
from scheduler.core.recorded_state import RecordedTargetState
from scheduler.core.status import Disappearance, Inconsistency
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.context import Context

READINGS_PER_POLL: Final = 20
"""Number of absent automations read alone between two polls. Other due occurrences wait for the next poll."""
DISAPPEARANCE_SHOWN_FOR: Final = timedelta(hours=24)
"""Time for which a disappearance is shown."""


class Presence:
    """Absent automations of one target.

    ``remove`` is called with the id of a removed automation and the instant of the removal: the start of the
    reading that was answered with 404. ``confirm`` is called with the id of an automation that was in doubt
    and still exists.
    """

    def __init__(
        self,
        context: Context,
        readings: AutomationCache,
        remove: Callable[[str, datetime], None],
        confirm: Callable[[str], None],
    ) -> None:
        self._context = context
        self._cache = readings
        self._remove = remove
        self._confirm = confirm
        self._read_ids: set[str] = set()
        self._is_list_read = False
        self._poll_event = asyncio.Event()
        self._last_read_id = ""  # id of the automation that `run` read last

    async def run(self) -> None:
        """Read one doubtful automation after each good poll, in turn, forever.

        An automation already read for an occurrence is not read again before the next poll.
        """
        while True:
            await self._poll_event.wait()
            self._poll_event.clear()
            doubtful = sorted(filter(self._is_enabled, self._context.timetable.absences.doubtful))
            following = [each for each in doubtful if each > self._last_read_id] or doubtful
            if following and self.reserve_reading(following[0]):
                self._last_read_id = following[0]
                await self.read(following[0])

    def _is_enabled(self, automation_id: str) -> bool:
        entry = self._context.timetable.entries.get(automation_id)
        return entry is not None and entry.automation.definition.enabled

    def note_snapshot(self) -> None:
        """Note that the poll in progress has read the list. `note_poll_end` follows."""
        self._is_list_read = True

    def note_poll_end(self) -> None:
        """Note the end of a poll: the number of single readings starts again at zero."""
        self._read_ids.clear()
        if self._is_list_read:
            self._poll_event.set()
        self._is_list_read = False

    def reserve_reading(self, automation_id: str) -> bool:
        """Reserve a single reading of this automation until the next poll.

        Return False when no reading is left, or when the automation was read since the last poll.
        """
        if automation_id in self._read_ids or len(self._read_ids) >= READINGS_PER_POLL:
            return False
        self._read_ids.add(automation_id)
        return True

    async def read(self, automation_id: str) -> None:
        """Read an automation alone that is absent, or whose run answered 404.

        The answer decides whether the automation exists. Two answers decide nothing: an error, and a changed
        definition. The next list shows since when a changed definition counts.
        """
        context = self._context
        at = context.clock.now()
        try:
            automation, begun = await self._cache.retrieve(automation_id)
        except (UpstreamError, InvalidAutomation):
            return
        if not context.timetable.needs_reading(automation_id):
            return  # the list has shown the automation meanwhile
        if automation is None:
            self._take_not_found(automation_id, at, begun)
            return
        self._cache.take_reading(automation, begun)
        entry = context.timetable.entries.get(automation_id)
        if entry is None or entry.automation.definition != automation.definition:
            context.timetable.absences.revoke_denial(automation_id)
            return
        context.timetable.absences.confirm_presence(automation_id)
        self._confirm(automation_id)

    def _take_not_found(self, automation_id: str, at: datetime, begun: float) -> None:
        """Handle the answer 404: remove an automation that the list does not show.

        When the list shows the automation, the next snapshot without the automation removes it.
        """
        if not self._context.timetable.is_absent(automation_id):
            self._context.timetable.absences.confirm_denial(automation_id, begun)
            return
        self._remove(automation_id, at)


class SnapshotWatch:
    """Watch for unidentified objects, inconsistent lists and disappearances. Each is reported once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        # number of unidentified objects in the newest snapshot, and descriptions of the first objects
        self.unidentified_objects: tuple[int, tuple[str, ...]] = (0, ())
        # number and fingerprint of the unidentified objects in the last event
        self._last_unidentified = (0, 0)
        self._disappearances = DisappearanceWatch()
        self._suspicion: Inconsistency | None = None  # according to the newest snapshots
        self.inconsistency: Inconsistency | None = None
        """Reason why the list cannot be trusted, and since when. None when the list is trusted."""

    def recall(self, recorded: RecordedTargetState) -> None:
        """Load the removals from the ledger.

        After a restart, a disappearance within a day before the newest good poll is still shown.
        """
        self._disappearances = DisappearanceWatch()
        self._disappearances.recall(len(recorded.automations), recorded.removals)

    @property
    def disappearance(self) -> Disappearance | None:
        """Newest disappearance of more than half of the automations within an hour.

        A disappearance is shown for a day, or until half of the automations are there again.
        """
        newest = self._disappearances.newest
        if newest is None or self._context.clock.now() - newest.at > DISAPPEARANCE_SHOWN_FOR:
            return None
        return newest

    def check(self, snapshot: Snapshot) -> None:
        """Check a snapshot. An incomplete snapshot cannot show a disappearance."""
        self._check_unidentified_objects(snapshot)
        self._check_consistency(snapshot)
        shown = len(snapshot.automations) + len(snapshot.broken)
        begun = self._disappearances.note(snapshot.begun_at, shown) if snapshot.complete else None
        if begun is not None:
            self._context.publish(
                AutomationsDisappeared(target=self._context.target, count=begun.gone, automations=begun.known)
            )

    def _check_unidentified_objects(self, snapshot: Snapshot) -> None:
        count, objects = self.unidentified_objects = (snapshot.unidentified, tuple(snapshot.anonymous))
        told, self._last_unidentified = self._last_unidentified, (count, snapshot.fingerprint)
        if told != self._last_unidentified:
            self._context.publish(
                AutomationsUnidentified(
                    target=self._context.target, count=count, objects="; ".join(objects) or None
                )
            )

    def _check_consistency(self, snapshot: Snapshot) -> None:
        """Distrust a list with denied automations, or with disagreeing pages in two snapshots in a row.

        Pages disagree once when somebody creates or renames automations during the reading.
        """
        denied = sorted(
            each
            for each in self._context.timetable.absences.denied
            # a disabled automation is not read again
            if (shown := snapshot.automations.get(each)) is not None and shown.definition.enabled
        )
        reason = _describe_denials(snapshot, denied) if denied else snapshot.disagreement
        before, distrusted = self._suspicion, self.inconsistency
        since = snapshot.begun_at if before is None else before.since
        self._suspicion = None if reason is None else Inconsistency(since, reason)
        self.inconsistency = new = self._suspicion if before is not None or denied else None
        if distrusted is None and new is not None:
            self._context.publish(
                ListDisagreed(target=self._context.target, since=new.since, reason=new.reason)
            )
        elif distrusted is not None and new is None:
            self._context.publish(ListAgreed(target=self._context.target, since=distrusted.since))


def _describe_denials(snapshot: Snapshot, denied: Sequence[str]) -> str:
    others = f" and {pluralize(len(denied) - 1, 'other')}" if len(denied) > 1 else ""
    return f"it shows {snapshot.automations[denied[0]].name}{others}, whose run and GET answer 404"
