"""One of everything that an observer can meet: every event, a busy daemon's state, and a daemon's pages with
nothing behind them.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from scheduler.core.cron.schedule import Schedule
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import (
    AttemptBegun,
    AttemptEnded,
    AutomationAdded,
    AutomationChanged,
    AutomationQuarantined,
    AutomationRemoved,
    AutomationsDisappeared,
    AutomationsUnidentified,
    BudgetExhausted,
    BudgetRecovered,
    ClockJumped,
    ConfigReloaded,
    ConfigReloading,
    DaemonStarted,
    DaemonStopped,
    DaemonStopping,
    DaemonWaiting,
    DeliveryFailed,
    EarlierRunSeen,
    Event,
    FireRefused,
    LedgerCommitted,
    LedgerFailed,
    LedgerRecovered,
    LedgerRestored,
    ListAgreed,
    ListDisagreed,
    OccurrenceClaimed,
    OccurrenceConcluded,
    OccurrenceOverdue,
    OccurrenceReopened,
    RequestEnded,
    RunDoubled,
    RunFinished,
    RunForeign,
    SnapshotFailed,
    SnapshotTaken,
    StopShortened,
    TargetHeld,
    TargetReleased,
    TargetRelieved,
    TargetSaturated,
    TargetThrottled,
    WakeFailed,
)
from scheduler.core.model import (
    REASONS,
    AttemptResult,
    Automation,
    Definition,
    Occurrence,
    Outcome,
    Reason,
    RunStatus,
    State,
)
from scheduler.core.occurrence_log import Cause
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.core.status import (
    AutomationDetails,
    DaemonStatus,
    FailingAutomations,
    FinishedRun,
    RecentActivity,
    RunOutputTail,
    TargetStatus,
    WaitsStatus,
    WaitStatus,
)
from scheduler.core.timetable import TimetableEntry
from scheduler.ops.metrics import Metrics
from scheduler.ops.page_sources import AutomationKey
from scheduler.ops.page_worker import PageWorker
from scheduler.ops.views import Json
from scheduler.ops.web import ProgramRoutes
from tests.defaults import make_policies

NOW = datetime(2026, 11, 23, 19, 20, tzinfo=UTC)
ID = "0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e6f"
RUN = "0192c4e8-0000-7c3a-9d1b-2f6a3c4d5e6f"
OCCURRENCE = Occurrence("main", ID, NOW)
HOSTILE = 'a\nb\r\x1b[31m\x9b2J\u202e\u2028\x00" ]}\\ level=error <script>alert(1)</script>' + "é" * 150


def concluded(
    outcome: Outcome = Outcome.ACCEPTED, reason: Reason = Reason.ANSWERED, **values: object
) -> OccurrenceConcluded:
    base = OccurrenceConcluded(occurrence=OCCURRENCE, automation="nightly", outcome=outcome, reason=reason)
    return replace(base, **values)  # type: ignore[arg-type]  # what a test wants to differ


def attempt(result: AttemptResult, error: str | None = None) -> AttemptEnded:
    return AttemptEnded(
        occurrence=OCCURRENCE, automation="nightly", attempt=1, result=result, seconds=0.2, error=error
    )


def run_finished(status: RunStatus, automation_id: str = ID, **values: object) -> RunFinished:
    base = RunFinished(
        target="main",
        automation_id=automation_id,
        automation="nightly",
        run_id=RUN,
        status=status,
        error=None,
    )
    return replace(base, **values)  # type: ignore[arg-type]  # what a test wants to differ


def every_event() -> list[Event]:
    """At least one event of every class, and one of every outcome, reason, result and status."""
    of = {"target": "main", "automation_id": ID, "automation": "nightly"}
    definition = Definition("0 3 * * *", "Europe/Berlin", enabled=True)
    return [
        DaemonStarted(node="vm1", version="0.1.0", targets=("main",), croniter="6.0.0", tzdata="2026b"),
        DaemonWaiting(holder="vm2, process 7"),
        SnapshotTaken(target="main", automations=3, seconds=0.3, incomplete=False, clock_offset=0.25),
        SnapshotTaken(target="main", automations=3, seconds=0.3, incomplete=True, clock_offset=None),
        SnapshotFailed(target="main", error="HTTP 500", seconds=1.5, first=True),
        AutomationAdded(**of, definition=definition, effective_from=NOW),
        AutomationChanged(**of, definition=definition, effective_from=NOW),
        AutomationRemoved(**of),
        AutomationQuarantined(**of, reason="no such zone"),
        AutomationsUnidentified(
            target="main",
            count=2,
            objects="Nightly: its id is not a UUID; object 3 of the list: its id is not a UUID",
        ),
        AutomationsUnidentified(target="main", count=0, objects=None),
        AutomationsDisappeared(target="main", count=6, automations=10),
        ListDisagreed(target="main", since=NOW, reason="its count is 3, but its pages hold 2"),
        ListAgreed(target="main", since=NOW),
        OccurrenceClaimed(occurrence=OCCURRENCE, automation="nightly"),
        OccurrenceOverdue(occurrence=OCCURRENCE, automation="nightly", state="waiting", count=1, overdue=2),
        *(concluded(outcome, reason, count=2) for outcome, reasons in REASONS.items() for reason in reasons),
        *(
            concluded(lateness=0.012, kind=kind, run_id=RUN, attempts=1)
            for kind in ("on_time", "catch_up", "retry")
        ),
        DeliveryFailed(occurrence=OCCURRENCE, automation="nightly", error=ValueError("a fault")),
        OccurrenceReopened(occurrence=OCCURRENCE, automation="nightly", by="ada"),
        FireRefused(occurrence=OCCURRENCE, by="ada", reason="the automation is gone"),
        AttemptBegun(target="main"),
        *(
            attempt(result, None if result is AttemptResult.ANSWERED else "because")
            for result in AttemptResult
        ),
        *(run_finished(status) for status in RunStatus if status is not RunStatus.RUNNING),
        *(
            run_finished(status, scheduled_for=NOW, duration=90.5)
            for status in (RunStatus.SUCCESS, RunStatus.FAILED)
        ),
        run_finished(RunStatus.SUPERSEDED, gone=True),
        EarlierRunSeen(**of, status=RunStatus.FAILED),
        RunForeign(**of, run_id=RUN, started_at=NOW, scheduled_for=None, hint="ask around"),
        RunDoubled(**of, run_id=RUN, started_at=NOW, scheduled_for=NOW, hint="raise settle_time"),
        TargetHeld(target="main", error="401"),
        TargetReleased(target="main"),
        TargetThrottled(target="main", until=NOW, seconds=3600.0),
        TargetSaturated(target="main", hanging=256),
        TargetRelieved(target="main", since=NOW),
        BudgetExhausted(target="main", waiting=7),
        BudgetRecovered(target="main", since=NOW),
        ClockJumped(seconds=3600.0, suspended=False),
        ClockJumped(seconds=-3600.0, suspended=False),
        ClockJumped(seconds=3600.0, suspended=True),
        LedgerFailed(operation="claim", error="disk full", first=True),
        LedgerRecovered(),
        LedgerRestored(target="main", runs=2, restored_at=NOW),
        WakeFailed(error="/var/lib/scheduler/scheduler.db.wake: Permission denied"),
        LedgerCommitted(seconds=0.004),
        ConfigReloading(),
        ConfigReloading(),
        ConfigReloaded(error=None),
        ConfigReloaded(error="unknown key"),
        RequestEnded(target="main", endpoint="run", code="200", seconds=0.02),
        DaemonStopping(reason="SIGTERM"),
        DaemonStopped(in_flight=0),
        StopShortened(target="main", attempts=2, waits=3, seconds=5.0),
    ]


TARGET = TargetStatus(
    name="main",
    url="https://us.example.com",
    project_id="12345",
    held=None,
    error=None,
    snapshot_at=NOW - timedelta(seconds=12),
    stale=False,
    automations={"enabled": 2, "invalid": 1},
    open={State.CLAIMED: 0, State.IN_FLIGHT: 4},
    in_flight=4,
    planned=True,
    stalled_for=0.0,
    overdue=["nightly 2026-11-23T18:20:00Z (waiting)"],
    overdue_count=1,
    next_fire=NOW + timedelta(seconds=40),
    clock_offset=0.25,
)
STATUS = DaemonStatus(
    node="vm1",
    version="0.1.0",
    at=NOW,
    started_at=NOW - timedelta(hours=1),
    lock_holder=None,
    ledger_error=None,
    clock_in_doubt=False,
    stopping=False,
    targets=[TARGET],
)
EMPTY_TARGET = replace(
    TARGET,
    snapshot_at=None,
    next_fire=None,
    clock_offset=None,
    automations={},
    open={},
    in_flight=0,
    overdue=[],
    overdue_count=0,
)

NO_WAITS = WaitsStatus()
WAITS = WaitsStatus(
    causes={Cause.DUE: 1, Cause.HELD: 1},
    first=[
        WaitStatus(
            ID,
            "nightly",
            NOW - timedelta(minutes=5),
            NOW - timedelta(minutes=5),
            Cause.HELD,
            NOW - timedelta(minutes=4),
            "bad key",
        ),
        WaitStatus(ID, "nightly", NOW, NOW + timedelta(minutes=7, seconds=13), Cause.DUE, NOW),
    ],
    unclaimed=1,
)


def entry(
    name: str, expression: str = "*/10 * * * *", automation_id: str = ID, timezone: str = "Europe/Berlin"
) -> TimetableEntry:
    automation = Automation(automation_id, name, Definition(expression, timezone, enabled=True))
    return TimetableEntry(
        automation, NOW - timedelta(days=1), make_policies(), Schedule.parse(expression, timezone)
    )


LINE: Json = {
    "target": "main",
    "automation_id": ID,
    "name": "nightly",
    "scheduled_for": "2026-11-23T19:10:00Z",
    "due": "2026-11-23T19:10:00.000000Z",
    "outcome": "accepted",
    "reason": "answered",
    "attempts": 1,
    "claimed_at": "2026-11-23T19:09:59.000000Z",
    "sent_at": "2026-11-23T19:10:00.004000Z",
    "finished_at": "2026-11-23T19:10:00.104000Z",
    "lateness_seconds": 0.004,
    "task_run_id": RUN,
    "run_status": "success",
    "error": None,
    "node": "vm1",
    "count": 1,
}


class Recorded:
    """A ledger's lines, and what was asked of it."""

    def __init__(self, *lines: Json, broken: bool = False) -> None:
        self.lines = lines
        self.broken = broken
        self.asked: list[OccurrenceQuery] = []

    async def __call__(self, query: OccurrenceQuery) -> Sequence[Json]:
        self.asked.append(query)
        if self.broken:
            raise LedgerUnavailable("the ledger cannot be read: disk I/O error")
        return self.lines[query.offset : query.offset + query.limit]


def details(
    each: TimetableEntry, target: str = "main", *, paused_by_hand: bool = False, now: datetime = NOW
) -> AutomationDetails:
    """What a target tells of an entry of its timetable."""
    next_fire = None if each.schedule is None else each.schedule.find_next(now)
    state = "paused" if each.state == "enabled" and paused_by_hand else each.state
    return AutomationDetails(
        target,
        each.automation,
        state,
        each.invalid,
        paused_by_hand,
        each.policies,
        each.schedule,
        next_fire,
        each.effective_from,
        Schedule.parse,
    )


AUTOMATION = replace(details(entry("nightly", "0 3 * * *")), next_fire=NOW + timedelta(hours=6))


def named(name: str, automation_id: str = ID) -> AutomationDetails:
    """`AUTOMATION` under another name or id."""
    return replace(AUTOMATION, automation=replace(AUTOMATION.automation, name=name, id=automation_id))


class Remembered:
    """What a ledger holds of late."""

    def __init__(self, recent: RecentActivity | None = None, *, broken: bool = False) -> None:
        self.recent = recent
        self.broken = broken

    async def __call__(self, since: datetime) -> RecentActivity:
        if self.broken:
            raise LedgerUnavailable("the ledger cannot be read: disk I/O error")
        return self.recent or RecentActivity(since, complete=True, tallies=(), foreign=(), pauses=())


class FailingNow:
    """The failing automations that a ledger knows."""

    def __init__(self, *runs: FinishedRun, more: int = 0, broken: bool = False) -> None:
        self.runs = runs
        self.more = more
        self.broken = broken

    async def __call__(self) -> FailingAutomations:
        if self.broken:
            raise LedgerUnavailable("the ledger cannot be read: disk I/O error")
        counts = Counter(run.target for run in self.runs)
        counts["main"] += self.more
        return FailingAutomations(counts, self.runs)


class FinishedRuns:
    """The newest finished runs of automations that a ledger knows."""

    def __init__(self, *runs: FinishedRun, broken: bool = False) -> None:
        self.runs = {(run.target, run.automation_id): run for run in runs}
        self.broken = broken

    async def __call__(self, automations: Collection[AutomationKey]) -> Mapping[AutomationKey, FinishedRun]:
        if self.broken:
            raise LedgerUnavailable("the ledger cannot be read: disk I/O error")
        return {key: self.runs[key] for key in automations if key in self.runs}

    async def failing_ids(self) -> Collection[AutomationKey]:
        """Return the automations whose run failed."""
        return [key for key, run in (await self(self.runs)).items() if run.failures]


FAILED_RUN = FinishedRun(
    "main", ID, "nightly", RUN, RunStatus.FAILED, NOW - timedelta(minutes=2), 3, "exit status 3: no room"
)


class Printed:
    """What every run has printed."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text

    async def __call__(self, *_: object) -> RunOutputTail | None:
        return None if self.text is None else RunOutputTail(len(self.text), self.text)


def pages(
    *,
    status: DaemonStatus = STATUS,
    idle: float = 0.5,
    entries: Sequence[TimetableEntry] = (),
    automations: Sequence[AutomationDetails] = (),
    occurrences: Callable[[OccurrenceQuery], Awaitable[Sequence[Json]]] | None = None,
    recent: Callable[[datetime], Awaitable[RecentActivity]] | None = None,
    failing: Callable[[], Awaitable[FailingAutomations]] | None = None,
    finished_runs: "FinishedRuns | None" = None,
    metrics: Metrics | None = None,
    busy: Callable[[], bool] = lambda: False,
    waits: WaitsStatus = NO_WAITS,
    run_output: Callable[[str, str], Awaitable[RunOutputTail | None]] | None = None,
) -> ProgramRoutes:
    """A daemon's pages. ``entries`` are on every target; ``automations`` on their own, and for the pages for
    people.
    """
    return ProgramRoutes(
        worker=PageWorker(busy),
        metrics=metrics or Metrics(["main"], now=lambda: NOW),
        status=lambda: status,
        targets=lambda: {
            each.name: StandInTarget(each.name, status.at, entries, automations, waits)
            for each in status.targets
        },
        last_beat=lambda: NOW,
        idle_seconds=lambda: idle,
        per_automation="auto",
        ledger_size=lambda: 4096,
        occurrences=occurrences or Recorded(LINE),
        recent=recent or Remembered(),
        failing=failing or FailingNow(),
        failing_ids=(finished_runs or FinishedRuns()).failing_ids,
        finished_runs=finished_runs or FinishedRuns(),
        run_output=run_output or Printed(),
    )


class StandInTarget:
    """A target with these entries in its timetable, and with its own of these automations."""

    def __init__(
        self,
        name: str,
        now: datetime,
        entries: Sequence[TimetableEntry],
        automations: Sequence[AutomationDetails],
        waits: WaitsStatus,
    ) -> None:
        self.name, self.now, self.entries, self.automations = name, now, entries, automations
        self.waits = StandInWaits(waits)

    def iterate_upcoming(
        self, span: timedelta, only: Callable[[Automation], bool] | None = None
    ) -> Iterator[tuple[datetime, TimetableEntry]]:
        """The fires of the entries."""
        fires = [
            (instant, each)
            for each in self.entries
            if each.schedule is not None and (only is None or only(each.automation))
            for instant in each.schedule.iterate_between(self.now, self.now + span)
        ]
        return iter(sorted(fires, key=lambda fire: fire[0]))

    def iterate_by_schedule(self, span: timedelta) -> Iterator[tuple[datetime, Sequence[AutomationDetails]]]:
        """The fires of all, those with one schedule together."""
        shared: dict[Schedule, list[AutomationDetails]] = {}
        for each in self.iterate_details():
            if each.schedule is not None:
                shared.setdefault(each.schedule, []).append(each)
        fires = [
            (instant, those)
            for schedule, those in shared.items()
            for instant in schedule.iterate_between(self.now, self.now + span)
        ]
        return iter(sorted(fires, key=lambda fire: fire[0]))

    def iterate_details(self) -> Iterator[AutomationDetails]:
        """Each automation."""
        yield from (details(each, self.name, now=self.now) for each in self.entries)
        yield from (each for each in self.automations if each.target == self.name)

    def find_details(self, automation_id: str) -> AutomationDetails | None:
        """The automation with this id."""
        return next((each for each in self.iterate_details() if each.id == automation_id), None)


class StandInWaits:
    """The waits of a target."""

    def __init__(self, waits: WaitsStatus) -> None:
        self._waits = waits

    async def make_status(self) -> WaitsStatus:
        """All of them."""
        return self._waits

    def list_for_automation(self, automation_id: str) -> Sequence[WaitStatus]:
        """One automation's."""
        return [each for each in self._waits.first if each.automation_id == automation_id]


def pages_with(**methods: Callable[..., Any]) -> ProgramRoutes:
    """Pages of one target, some of whose methods are these."""
    target = StandInTarget("main", NOW, (), (), NO_WAITS)
    vars(target).update(methods)
    return replace(pages(), targets=lambda: {"main": target})


class ShownTarget(StandInTarget):
    """A target with any automation that is asked for."""

    def __init__(
        self, name: str, automations: Sequence[AutomationDetails], fires: Callable[[str, str], bool]
    ) -> None:
        super().__init__(name, NOW, (), [replace(each, target=name) for each in automations], NO_WAITS)
        self._fires = fires

    def find_details(self, automation_id: str) -> AutomationDetails | None:
        """It is paused when it does not fire."""
        automation = replace(AUTOMATION.automation, id=automation_id)
        state = "enabled" if self._fires(self.name, automation_id) else "paused"
        return replace(AUTOMATION, automation=automation, state=state)


def exposition(
    metrics: Metrics | None = None,
    *,
    status: Callable[[], DaemonStatus] = lambda: STATUS,
    automations: Sequence[AutomationDetails] = (AUTOMATION,),
    per_automation: bool | str = "auto",
    ledger_size: int | None = 4096,
    fires: Callable[[str, str], bool] = lambda *_: True,
) -> ProgramRoutes:
    return replace(
        pages(metrics=metrics),
        status=status,
        targets=lambda: {each.name: ShownTarget(each.name, automations, fires) for each in status().targets},
        per_automation=per_automation,  # type: ignore[arg-type]  # a test's own word
        ledger_size=lambda: ledger_size,
    )


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, "still not so"
        time.sleep(0.005)
