"""Where the pages have their content from: questions that something else answers, put together where the daemon is."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduler.core.model import Automation
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
from scheduler.ops.queries import OccurrenceQuery
from scheduler.ops.views import Json

AutomationKey = tuple[str, str]
"""A target and the id of an automation."""
Upcoming = Callable[[str, timedelta, Callable[[Automation], bool] | None], Iterator[tuple[datetime, TimetableEntry]]]
UpcomingBySchedule = Callable[[str, timedelta], Iterator[tuple[datetime, Sequence[AutomationDetails]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSources:
    """What is asked on the loop. An iterator that is given there is gone through on another thread: on the ``worker``.

    ``waits`` is what the occurrences of a target wait for, ``automation_waits`` the same of one automation.
    ``idle_seconds`` is the seconds since the loop last turned. ``upcoming`` gives what a target has scheduled
    within a span, of all automations or
    only of some, ``upcoming_by_schedule`` the same with those that share a schedule at once. ``details`` is
    what is known of one automation of a
    target, ``all_details`` of each. ``occurrences`` gives records with the keys of ``history --json``, the newest first, and ``recent``
    what the ledger holds since an instant. ``failing`` gives the failing automations, and
    ``finished_runs`` the newest finished runs of some automations, by target and id; ``failing_ids`` gives target and id of each
    automation whose newest finished run failed or was lost. These may raise `LedgerUnavailable`.
    ``run_output`` is what a run of a target has printed, None for what is not known or not to be shown.
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
