"""Cache of the newest readings of automations, from snapshots and from single readings.

A reading says nothing about later runs. Therefore each reading includes its start, on the clock that counts
suspend. The reserve of the request budget follows the polls and the readings of the last hour, and the
readings in progress.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from scheduler.core.actions import NewestReading
from scheduler.core.errors import UpstreamError
from scheduler.core.model import Automation, InvalidAutomation, Run, Snapshot
from scheduler.daemon.clock import back_off
from scheduler.daemon.context import Context

_HOUR: Final = 3600.0
AT_ONCE: Final = 8
"""Number of automations read alone in parallel. For more, the next snapshot is quicker and cheaper."""


class AutomationCache:
    """Newest reading of every automation of a target, with methods that get a newer reading."""

    def __init__(self, context: Context, poll: Callable[[], None]) -> None:
        self._context = context
        self._request_poll = poll
        self._snapshot_begun = float("-inf")
        self._unseen_ids: frozenset[str] = frozenset()
        self._poll_begun = float("-inf")
        self._single_readings: dict[str, NewestReading] = {}
        # newest run that this daemon started, and when its id was known
        self._newest_own_runs: dict[str, tuple[str, float]] = {}
        self._own_run_ids: set[str] = set()
        # of the earlier process: used until a reading of this process shows the automation
        self._recalled_run_ids: dict[str, str] = {}
        self._read_slots = asyncio.Semaphore(AT_ONCE)
        self._demand = 0  # readings in progress or waiting
        self._polls = deque[float]()  # begins within the last hour, on the boot-time clock
        self._readings = deque[float]()
        self.reading_listeners: list[Callable[[NewestReading], None]] = []  # called with single readings
        self._poll_event = asyncio.Event()
        self._snapshot_event = asyncio.Event()

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Use a snapshot, after the timetable was updated.

        The snapshot says nothing about automations that are not in the snapshot.
        """
        begun = self._snapshot_begun = snapshot.begun
        self._unseen_ids = frozenset(
            each for each in self._context.timetable.entries if each not in snapshot.automations
        )
        self._single_readings = {
            each: seen
            for each, seen in self._single_readings.items()
            if seen.begun > begun or each in self._unseen_ids
        }
        self._newest_own_runs = {
            each: own
            for each, own in self._newest_own_runs.items()
            if own[1] >= begun or each in self._unseen_ids
        }
        self._own_run_ids = {own[0] for own in self._newest_own_runs.values()}
        self._snapshot_event.set()
        self._snapshot_event = asyncio.Event()
        self.note_poll_end(begun)

    def note_poll_end(self, begun: float) -> None:
        """Note the end of a poll that began at ``begun``, successful or not."""
        self._poll_begun = begun
        self._poll_event.set()
        self._poll_event = asyncio.Event()

    def find_newest(self, automation_id: str) -> NewestReading | None:
        """Return the newest reading of an automation, or None when the automation is not known.

        The start of the reading is -inf when no reading of this process has shown the automation.
        """
        if (single := self._single_readings.get(automation_id)) is not None:
            return single
        entry = self._context.timetable.entries.get(automation_id)
        if entry is None:
            return None
        begun = float("-inf") if automation_id in self._unseen_ids else self._snapshot_begun
        return NewestReading(entry.automation, begun)

    def recall_runs(self, runs: Iterable[Run]) -> None:
        """Load the newest runs known to the ledger.

        The ledger may lack the snapshot with these runs: the earlier process may have been killed before its
        record.
        """
        self._recalled_run_ids = {run.automation_id: run.id for run in runs}

    def note_own_run(self, automation_id: str, run_id: str) -> None:
        """Note that an attempt of this daemon has just started a run."""
        self._newest_own_runs[automation_id] = (run_id, self._context.clock.boottime())
        self._own_run_ids.add(run_id)

    def find_baseline(self, automation_id: str) -> str | None:
        """Return the id of the newest known run, including runs of this daemon's attempts."""
        seen = self.find_newest(automation_id)
        own = self._newest_own_runs.get(automation_id)
        if own is not None and (seen is None or seen.begun < own[1]):
            return own[0]
        if seen is None or (seen.begun == float("-inf") and automation_id in self._recalled_run_ids):
            return self._recalled_run_ids.get(automation_id)
        return seen.automation.run_id

    def is_taken(self, run_id: str) -> bool:
        """Return whether a run is known to belong to another attempt.

        The ledger knows all runs and makes the final decision.
        """
        return run_id in self._own_run_ids

    async def read(self, automation_id: str, *, since: float) -> NewestReading | None:
        """Return a reading begun at ``since`` or later. Reads until such a reading exists.

        Return None when the automation was removed: its GET answers 404, and the list lacks the automation
        too.
        """
        failures = 0
        self._change_demand(1)
        try:
            while True:
                if self._is_read(automation_id, since):
                    return self.find_newest(automation_id)
                if self._demand > AT_ONCE:
                    self._request_poll()
                try:
                    if await self._read_unless_shown(automation_id, since):
                        return None
                except (UpstreamError, InvalidAutomation) as error:
                    failures += 1
                    pause = max(back_off(failures), getattr(error, "retry_after", None) or 0.0)
                    await self._wait_for_snapshot(automation_id, since, pause)
        finally:
            self._change_demand(-1)

    def _change_demand(self, more: int) -> None:
        before, self._demand = self._demand, self._demand + more
        if min(before, AT_ONCE) != min(self._demand, AT_ONCE):
            self._update_reserve(self._context.clock.boottime())

    def note_poll(self, begun: float) -> None:
        """Note that a poll begins."""
        self._polls.append(begun)
        self._update_reserve(begun)

    def _update_reserve(self, now: float) -> None:
        self._context.upstream.expect(
            poll_interval=max(self._context.settings.poll_interval.total_seconds(), 1.0),
            polls=_measure_rate(self._polls, now),
            readings=_measure_rate(self._readings, now),
            at_once=min(self._demand, AT_ONCE),
        )

    async def retrieve(self, automation_id: str) -> tuple[Automation | None, float]:
        """Read the automation alone. Return the answer (None: 404) and the begin of the reading.

        A 429 with ``Retry-After`` throttles the target. Raises `UpstreamError` or `InvalidAutomation`.
        """
        begun = self._context.clock.boottime()
        self._readings.append(begun)
        self._update_reserve(begun)
        try:
            return await self._context.upstream.retrieve(automation_id), begun
        except UpstreamError as error:
            if error.status == HTTPStatus.TOO_MANY_REQUESTS and error.retry_after:
                self._context.breaker.throttle(error.retry_after)
            raise

    async def is_gone(self, automation_id: str) -> bool:
        """Return whether the list, read again, lacks an automation whose GET answered 404.

        An unidentified object or disagreeing pages do not prolong the wait: the GET of the automation
        answered 404 itself. Raises `UpstreamError` when the list cannot be read.
        """
        since = self._context.clock.boottime()
        if not await self.wait_for_poll(since):
            raise UpstreamError("the list could not be read")
        timetable = self._context.timetable
        entry = timetable.entries.get(automation_id)
        if entry is not None and automation_id in self._unseen_ids and not entry.broken:
            timetable.absences.note_absence(automation_id, self._snapshot_begun)
        return timetable.is_absent(automation_id)

    async def wait_for_poll(self, since: float) -> bool:
        """Request a poll, and wait for the end of a poll begun at ``since`` or later.

        Return whether the poll could read the list.
        """
        while self._poll_begun < since:  # the first poll to end may have begun before ``since``
            polled = self._poll_event
            self._request_poll()
            await polled.wait()
        return self._snapshot_begun >= since

    async def _read_unless_shown(self, automation_id: str, since: float) -> bool:
        """Read the automation once. Return True when the automation was removed.

        A snapshot that shows the automation ends the wait: the request may wait for the request budget for
        hours.
        """
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
        """Read the automation once. Return True when the automation was removed."""
        async with self._read_slots:
            if self._is_read(automation_id, since):
                return False
            automation, begun = await self.retrieve(automation_id)
        if automation is None:
            gone = await self.is_gone(automation_id)
            if not gone and not self._is_read(automation_id, since):
                raise UpstreamError("the API answers 404 for an automation that is not gone from its list")
            return gone
        self.take_reading(automation, begun)
        return False

    def take_reading(self, automation: Automation, begun: float) -> None:
        """Store a single reading begun at ``begun``, unless a newer reading or snapshot has arrived."""
        seen = self.find_newest(automation.id)
        if seen is None or seen.begun < begun:
            self._single_readings[automation.id] = NewestReading(automation, begun)
            for listener in self.reading_listeners:
                listener(self._single_readings[automation.id])

    def _is_read(self, automation_id: str, since: float) -> bool:
        seen = self.find_newest(automation_id)
        return seen is not None and seen.begun >= since

    async def _wait_for_snapshot(self, automation_id: str, since: float, seconds: float) -> None:
        """Wait for ``seconds``, or until a snapshot shows the automation.

        A snapshot without the automation does not shorten the wait.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._is_read(automation_id, since):
                    await self._snapshot_event.wait()


def _measure_rate(instants: deque[float], now: float) -> float:
    """Return the events per second since the first event within the last hour. Forget older events."""
    while instants and instants[0] <= now - _HOUR:
        instants.popleft()
    return (len(instants) - 1) / max(now - instants[0], 1.0) if instants else 0.0
