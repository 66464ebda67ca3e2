"""The automations of a target that may be gone: absent from the list, or denied by their own answers.

The absences are separate from the timetable because they decide only whether an automation still exists, and
never when an automation fires.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from math import inf
from typing import Final

from scheduler.core.model import Snapshot

_CLOCK_TICK: Final = 0.001
"""Seconds by which a poll may begin before the whole interval has passed: waits are rounded."""


class Absences:
    """Absent and denied automations. Numbers are seconds on the clock that counts suspend."""

    def __init__(self) -> None:
        # By id: the begin of the first snapshot counted against the automation, see `find_gone`.
        # inf: no snapshot counts yet.
        self._absent: dict[str, float] = {}
        # Listed automations with a run answered by 404: the begin of the last GET answered by 404, if any.
        self._denied: dict[str, float | None] = {}
        self._snapshot_begun = -inf  # begin of the newest snapshot
        # Automations missing from the newest snapshot: the begin of the last snapshot with the automation.
        self._unseen: dict[str, datetime] = {}
        self._reported: Mapping[str, datetime] = {}  # `_unseen` at the last `report_unseen`

    def recall(self, unseen: Mapping[str, datetime]) -> None:
        """Restore the absent automations of the last snapshot in the ledger."""
        self._unseen, self._reported, self._absent = dict(unseen), dict(unseen), dict.fromkeys(unseen, inf)

    @property
    def absent(self) -> Collection[str]:
        """Ids of the automations missing from the newest complete snapshot and not decided otherwise yet.

        Before the first snapshot of this process: ids missing from the last snapshot in the ledger.
        """
        return self._absent.keys()

    def note_absence(self, automation_id: str, begun: float) -> None:
        """Note that the automation answered 404 and is missing from a snapshot, complete or not.

        ``begun`` is the begin of the snapshot.
        """
        self._absent[automation_id] = min(self._absent.get(automation_id, inf), begun)

    @property
    def doubtful(self) -> Collection[str]:
        """Ids of the automations with a run answered by 404, and present in each snapshot since."""
        return self._denied.keys()

    @property
    def denied(self) -> Collection[str]:
        """Ids of the automations with a run and a GET answered by 404, and present in each snapshot since."""
        return [automation_id for automation_id, begun in self._denied.items() if begun is not None]

    def find_denial(self, automation_id: str) -> str | None:
        """Return why an automation in the list may be gone, for people; None without a denial."""
        if automation_id not in self._denied:
            return None
        if self._denied[automation_id] is None:
            return "run of the automation answered 404, although the list shows the automation"
        return "run and GET of the automation answer 404, although the list shows the automation"

    def note_denial(self, automation_id: str) -> None:
        """Note that the automation answered 404 to a run, although the list shows it."""
        self._denied.setdefault(automation_id, None)

    def confirm_denial(self, automation_id: str, begun: float) -> None:
        """Note that a GET of the automation, begun at ``begun``, answered 404 too.

        The next snapshot removes the automation when the automation is missing from it, complete or not. A
        later snapshot does not remove the automation for this reason: the automation may exist again by then.
        """
        self._denied[automation_id] = begun

    def revoke_denial(self, automation_id: str) -> None:
        """Note that a GET of the automation returned a definition other than the list's.

        The list decides which definition counts.
        """
        if automation_id in self._denied:
            self._denied[automation_id] = None

    def confirm_presence(self, automation_id: str) -> None:
        """Note that the automation itself was read: only two more snapshots without it can remove it."""
        self._absent.pop(automation_id, None)
        self._denied.pop(automation_id, None)

    def forget(self, automation_id: str) -> None:
        """Forget a removed automation."""
        self.confirm_presence(automation_id)
        self._unseen.pop(automation_id, None)

    def note_clock_step(self, seconds: float) -> None:
        """Move the instants of polls by a clock step, in seconds; positive: the clock was set ahead."""
        self._unseen = {each: at + timedelta(seconds=seconds) for each, at in self._unseen.items()}

    def find_last_poll(self, automation_id: str, previous_poll: datetime) -> datetime:
        """Return the begin of the last snapshot with the automation, given the snapshot before the newest."""
        return self._unseen.get(automation_id, previous_poll)

    def find_gone(
        self, snapshot: Snapshot, confirm_after: float, previous_poll: datetime, known: Iterable[str]
    ) -> Iterable[str]:
        """Note the absent ones of the ``known`` automations. Return the ids to remove, sorted.

        These are the automations absent for long enough, and denied automations. An unidentified object may
        be one of the absent automations: a snapshot with such an object counts against no automation. An
        incomplete snapshot does not count either. Both kinds of snapshot are enough to remove an automation
        denied since the snapshot before.
        """
        begun = inf if snapshot.unidentified else snapshot.begun
        missed = [each for each in known if each not in snapshot.automations and each not in snapshot.broken]
        self._unseen = {each: self._unseen.get(each, previous_poll) for each in missed}
        gone = {
            each
            for each in missed
            if (denied := self._denied.get(each)) is not None and denied >= self._snapshot_begun
        }
        self._snapshot_begun = snapshot.begun
        if snapshot.complete:
            self._absent = {each: min(self._absent.get(each, inf), begun) for each in missed}
        else:
            self._absent = {each: self._absent[each] for each in missed if each in self._absent}
        if snapshot.complete and not snapshot.unidentified:
            long_enough = max(confirm_after - _CLOCK_TICK, _CLOCK_TICK)  # never a single snapshot
            gone |= {each for each, since in self._absent.items() if snapshot.begun - since >= long_enough}
        return sorted(gone)

    def report_unseen(self, known: Collection[str]) -> Mapping[str, datetime | None]:
        """Return the differences from the last report, also differences caused by a change of the clock.

        An automation back in the list maps to None.
        """
        told, self._reported = self._reported, dict(self._unseen)
        shown_again: dict[str, datetime | None] = {
            each: None for each in told if each not in self._unseen and each in known
        }
        return shown_again | {each: since for each, since in self._unseen.items() if told.get(each) != since}
