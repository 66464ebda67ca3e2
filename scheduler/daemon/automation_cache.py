"""What the API was last seen to say of an automation: from the snapshot, or from a reading of its own when that is newer.

A reading says nothing about what began after it, so each one carries when it began, on the clock that counts suspend.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from scheduler.core.errors import UpstreamError
from scheduler.core.model import Automation, InvalidAutomation, Run, Snapshot
from scheduler.daemon.background_need import BackgroundNeed
from scheduler.daemon.context import Context, back_off

AT_ONCE: Final = 8
"""Automations read on their own at the same time; when more are wanted, the next snapshot is quicker and cheaper."""


@dataclass(frozen=True, slots=True)
class AutomationReading:
    """An automation as read, and when that reading began."""

    automation: Automation
    begun: float


class AutomationCache:
    """The newest reading of every automation of a target, and how to get a newer one."""

    def __init__(self, context: Context, background_need: BackgroundNeed, poll: Callable[[], None]) -> None:
        self._context = context
        self._background_need = background_need
        self._request_poll = poll
        self._snapshot_begun = float("-inf")
        self._unseen_ids: frozenset[str] = frozenset()
        self._poll_begun = float("-inf")
        self._single_readings: dict[str, AutomationReading] = {}
        self._newest_own_runs: dict[str, tuple[str, float]] = {}  # newest run started by us, and when we knew
        self._own_run_ids: set[str] = set()
        self._recalled_run_ids: dict[str, str] = {}  # of the process before: counts until a reading of this one shows the automation
        self._read_slots = asyncio.Semaphore(AT_ONCE)
        self._demand = 0
        self._listeners: list[Callable[[AutomationReading], None]] = []
        self._poll_event = asyncio.Event()
        self._snapshot_event = asyncio.Event()

    def listen(self, listener: Callable[[AutomationReading], None]) -> None:
        """Call ``listener`` with every single reading."""
        self._listeners.append(listener)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """The timetable holds this snapshot. It says nothing of the automations that are not in it."""
        begun = self._snapshot_begun = snapshot.begun
        self._unseen_ids = frozenset(each for each in self._context.timetable.entries if each not in snapshot.automations)
        self._single_readings = {
            each: seen for each, seen in self._single_readings.items() if seen.begun > begun or each in self._unseen_ids
        }
        self._newest_own_runs = {each: own for each, own in self._newest_own_runs.items() if own[1] >= begun or each in self._unseen_ids}
        self._own_run_ids = {own[0] for own in self._newest_own_runs.values()}
        self._snapshot_event.set()
        self._snapshot_event = asyncio.Event()
        self.note_poll_end(begun)

    def note_poll_end(self, begun: float) -> None:
        """A poll that began then ended, well or not."""
        self._poll_begun = begun
        self._poll_event.set()
        self._poll_event = asyncio.Event()

    def find_newest(self, automation_id: str) -> AutomationReading | None:
        """The newest reading, which began in no time that counts when no reading of this process showed it; None: it is not known."""
        if (single := self._single_readings.get(automation_id)) is not None:
            return single
        entry = self._context.timetable.entries.get(automation_id)
        if entry is None:
            return None
        return AutomationReading(entry.automation, float("-inf") if automation_id in self._unseen_ids else self._snapshot_begun)

    def recall_runs(self, runs: Iterable[Run]) -> None:
        """The newest runs that the ledger knows. It may not have the snapshot that showed them: its process was killed before that."""
        self._recalled_run_ids = {run.automation_id: run.id for run in runs}

    def note_own_run(self, automation_id: str, run_id: str) -> None:
        """We started this run just now."""
        self._newest_own_runs[automation_id] = (run_id, self._context.clock.boottime())
        self._own_run_ids.add(run_id)

    def find_baseline(self, automation_id: str) -> str | None:
        """The newest run id known, our own attempts' included."""
        seen = self.find_newest(automation_id)
        own = self._newest_own_runs.get(automation_id)
        if own is not None and (seen is None or seen.begun < own[1]):
            return own[0]
        if seen is None or (seen.begun == float("-inf") and automation_id in self._recalled_run_ids):
            return self._recalled_run_ids.get(automation_id)
        return seen.automation.run_id

    def is_taken(self, run_id: str) -> bool:
        """Whether a run is known to be another attempt's. The ledger, which knows all of them, has the last word."""
        return run_id in self._own_run_ids

    async def read(self, automation_id: str, *, since: float) -> AutomationReading | None:
        """A reading begun at ``since`` or later; asks until there is one. None: the automation is gone, the list says so too."""
        failures = 0
        self._change_demand(1)
        try:
            while True:
                seen = self.find_newest(automation_id)
                if seen is not None and seen.begun >= since:
                    return seen
                if self._demand > AT_ONCE:
                    self._request_poll()
                try:
                    if await self._read_unless_shown(automation_id, since):
                        return None
                except (UpstreamError, InvalidAutomation) as error:
                    failures += 1
                    self._context.note_refused_reading(error)
                    await self._wait_for_snapshot(automation_id, since, max(back_off(failures), getattr(error, "retry_after", None) or 0.0))
        finally:
            self._change_demand(-1)

    def _change_demand(self, more: int) -> None:
        self._demand += more
        self._background_need.set_parallel_readings(min(self._demand, AT_ONCE))

    def note_reading(self, begun: float) -> None:
        """A single automation is about to be read."""
        self._background_need.note_reading(begun)

    async def is_gone(self, automation_id: str) -> bool:
        """Return whether the list, read anew, does not have the automation, which itself answered 404.

        One object that nobody can identify, or pages that do not agree, are no reason to ask for ever: the automation said so itself.
        Raises `UpstreamError` when the list cannot be read.
        """
        since = self._context.clock.boottime()
        if not await self.wait_for_poll(since):
            raise UpstreamError("the list could not be read")
        timetable = self._context.timetable
        entry = timetable.entries.get(automation_id)
        if entry is not None and automation_id in self._unseen_ids and not entry.broken:
            timetable.note_absence(automation_id, self._snapshot_begun)
        return timetable.is_absent(automation_id)

    async def wait_for_poll(self, since: float) -> bool:
        """Ask for a poll, and wait for the end of one that began at ``since`` or later. Return whether it could read the list."""
        while self._poll_begun < since:  # the first poll to end may have begun before
            polled = self._poll_event
            self._request_poll()
            await polled.wait()
        return self._snapshot_begun >= since

    async def _read_unless_shown(self, automation_id: str, since: float) -> bool:
        """Read it once; True when it is gone. A snapshot that shows it ends the wait: the request may wait for the budget for hours."""
        asking = asyncio.ensure_future(self._read_once(automation_id, since))
        try:
            while not asking.done() and not self._is_read(automation_id, since):
                taken = asyncio.ensure_future(self._snapshot_event.wait())
                await asyncio.wait({asking, taken}, return_when=asyncio.FIRST_COMPLETED)
                taken.cancel()
            return asking.done() and asking.result()
        finally:
            asking.cancel()

    async def _read_once(self, automation_id: str, since: float) -> bool:
        """Read it once; True when it is gone."""
        async with self._read_slots:
            if self._is_read(automation_id, since):
                return False
            begun = self._context.clock.boottime()
            self.note_reading(begun)
            automation = await self._context.upstream.retrieve(automation_id)
        if automation is None:
            gone = await self.is_gone(automation_id)
            if not gone and not self._is_read(automation_id, since):
                raise UpstreamError("the API answers 404 for an automation that is not gone from its list")
            return gone
        self.take_reading(automation, begun)
        return False

    def take_reading(self, automation: Automation, begun: float) -> None:
        """Take a reading of one automation that began then, unless a newer one, or a newer snapshot, has come meanwhile."""
        seen = self.find_newest(automation.id)
        if seen is None or seen.begun < begun:
            self._single_readings[automation.id] = AutomationReading(automation, begun)
            for listener in self._listeners:
                listener(self._single_readings[automation.id])

    def _is_read(self, automation_id: str, since: float) -> bool:
        seen = self.find_newest(automation_id)
        return seen is not None and seen.begun >= since

    async def _wait_for_snapshot(self, automation_id: str, since: float, seconds: float) -> None:
        """Wait, but not beyond a snapshot that shows it: one that does not is no reason to ask again sooner."""
        try:
            async with asyncio.timeout(seconds):
                while not self._is_read(automation_id, since):
                    await self._snapshot_event.wait()
        except TimeoutError:
            pass
