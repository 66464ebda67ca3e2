"""The sources of the pages' content: functions of other packages, passed in where the daemon is set up."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

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
from scheduler.ops.gauges import Exposition
from scheduler.ops.page_worker import PageWorker
from scheduler.ops.views import Json

AutomationKey = tuple[str, str]
"""A target and the id of an automation."""
Upcoming = Callable[
    [str, timedelta, Callable[[Automation], bool] | None], Iterator[tuple[datetime, TimetableEntry]]
]
UpcomingBySchedule = Callable[[str, timedelta], Iterator[tuple[datetime, Sequence[AutomationDetails]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSources:
    """The functions that the pages call on the loop.

    A returned iterator is read on another thread, by the ``worker``.

    - ``waits`` returns the waits of a target's occurrences, and ``automation_waits`` the waits of one
      automation.
    - ``idle_seconds`` returns the seconds since the loop last made progress.
    - ``upcoming`` returns the fire times of a target within a span, of all automations or of chosen
      automations. ``upcoming_by_schedule`` returns the same fire times, with all automations of a schedule
      together.
    - ``details`` returns the known facts about one automation of a target, and ``all_details`` about each
      automation.
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
    status: Callable[[], DaemonStatus]
    idle_seconds: Callable[[], float]
    exposition: Exposition
    upcoming: Upcoming
    upcoming_by_schedule: UpcomingBySchedule
    details: Callable[[str, str], AutomationDetails | None]
    waits: Callable[[str], Awaitable[WaitsStatus]]
    automation_waits: Callable[[str, str], Sequence[WaitStatus]]
    all_details: Callable[[str], Iterator[AutomationDetails]]
    occurrences: Callable[[OccurrenceQuery], Awaitable[Sequence[Json]]]
    recent: Callable[[datetime], Awaitable[RecentActivity]]
    failing: Callable[[], Awaitable[FailingAutomations]]
    failing_ids: Callable[[], Awaitable[Collection[AutomationKey]]]
    finished_runs: Callable[[Collection[AutomationKey]], Awaitable[Mapping[AutomationKey, FinishedRun]]]
    run_output: Callable[[str, str], Awaitable[RunOutputTail | None]]
