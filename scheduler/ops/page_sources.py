"""The sources of the pages' content: functions of other packages, passed in where the daemon is set up."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from scheduler.core.model import Automation
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.core.status import (
    AutomationDetails,
    DaemonStatus,
    FailingAutomations,
    FinishedRun,
    RecentActivity,
    RunOutputTail,
    WaitsStatus,
    WaitStatus,
)
from scheduler.core.timetable import TimetableEntry
from scheduler.ops.metrics import Metrics
from scheduler.ops.page_worker import PageWorker
from scheduler.ops.views import Json

AutomationKey = tuple[str, str]
"""A target and the id of an automation."""


class WaitSource(Protocol):
    """The waits of a target's occurrences."""

    async def make_status(self) -> WaitsStatus:
        """Return the number of waits by cause, and the first waits."""

    def list_for_automation(self, automation_id: str) -> Sequence[WaitStatus]:
        """Return the waits of one automation."""


class TargetSource(Protocol):
    """A target, as its pages see it. Its methods are called on the loop.

    A returned iterator is read on another thread, by the worker.
    """

    @property
    def waits(self) -> WaitSource:
        """The waits of the target's occurrences."""

    def iterate_upcoming(
        self, span: timedelta, only: Callable[[Automation], bool] | None = None
    ) -> Iterator[tuple[datetime, TimetableEntry]]:
        """Return the fire times within a span, of all automations or of chosen automations."""

    def iterate_by_schedule(self, span: timedelta) -> Iterator[tuple[datetime, Sequence[AutomationDetails]]]:
        """Return the same fire times, with all automations of a schedule together."""

    def iterate_details(self) -> Iterator[AutomationDetails]:
        """Return the known facts about each automation."""

    def find_details(self, automation_id: str) -> AutomationDetails | None:
        """Return the known facts about one automation, None for an unknown automation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSources:
    """The functions that the pages call on the loop, except ``ledger_size``: it is called on a thread.

    - ``targets`` returns the targets by name.
    - ``last_beat`` returns the instant at which the loop last made progress, and ``idle_seconds`` the seconds
      since then.
    - ``per_automation`` is the setting for metrics of each automation. ``ledger_size`` returns the bytes of
      the ledger's files.
    - ``occurrences`` returns records with the keys of ``history --json``, the newest first. ``recent``
      returns the facts in the ledger since an instant.
    - ``failing`` returns the failing automations, and ``finished_runs`` the newest finished runs of chosen
      automations, by target and id. ``failing_ids`` returns target and id of each automation whose newest
      finished run failed or was lost.
    - ``run_output`` returns the output of a run of a target, None for an output that is unknown or must not
      be shown.

    The functions that read the ledger may raise `LedgerUnavailable`: ``occurrences``, ``recent``,
    ``failing``, ``failing_ids`` and ``finished_runs``.
    """

    worker: PageWorker
    metrics: Metrics
    status: Callable[[], DaemonStatus]
    targets: Callable[[], Mapping[str, TargetSource]]
    last_beat: Callable[[], datetime]
    idle_seconds: Callable[[], float]
    per_automation: bool | Literal["auto"]
    ledger_size: Callable[[], int | None]
    occurrences: Callable[[OccurrenceQuery], Awaitable[Sequence[Json]]]
    recent: Callable[[datetime], Awaitable[RecentActivity]]
    failing: Callable[[], Awaitable[FailingAutomations]]
    failing_ids: Callable[[], Awaitable[Collection[AutomationKey]]]
    finished_runs: Callable[[Collection[AutomationKey]], Awaitable[Mapping[AutomationKey, FinishedRun]]]
    run_output: Callable[[str, str], Awaitable[RunOutputTail | None]]
