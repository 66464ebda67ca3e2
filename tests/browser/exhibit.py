"""A daemon in the middle of its work, to be looked at: several targets and zones, outcomes of all kinds, and
much that is wrong at once.
"""

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.instants import to_text, to_text_seconds
from scheduler.core.model import Automation, Definition, Outcome, Reason, RunStatus, State
from scheduler.core.policy import CatchUp, Concurrency, Policies
from scheduler.core.status import (
    AutomationDetails,
    DaemonStatus,
    FinishedRun,
    ForeignRunTally,
    OperatorPause,
    OutcomeTally,
    RecentActivity,
    TargetStatus,
)
from scheduler.core.timetable import TimetableEntry
from scheduler.ops.views import Json
from scheduler.ops.web import ProgramRoutes
from tests.defaults import make_policies
from tests.ops.support import FailingNow, FinishedRuns, Printed, Recorded, Remembered, details, pages

NOW: Final = datetime(2026, 3, 27, 8, 41, 12, tzinfo=UTC)
HOSTILE: Final = (
    (
        '<script>document.title="owned"</script><img src=x onerror=alert(1)>" onmouseover="alert(1)" '
        "\u202egnp.exe\u200b\n\x1b[31m javascript:"
    ),
    "x" * 255,
    "שלום עולם",
    "{{ 7*7 }} ${7*7} %s \\u0000",
)
_LOCAL: Final = (
    ("standup notes", "0 9 * * 1-5", "Europe/Berlin"),
    ("nightly report", "30 2 * * *", "Europe/Berlin"),
    ("weekly digest", "0 7 * * 1", "America/New_York"),
    ("sync labels", "*/15 * * * *", "UTC"),
    ("triage new issues", "5 * * * *", "America/Los_Angeles"),
    ("close stale pull requests", "0 4 * * *", "Asia/Kolkata"),
    ("dependency updates", "0 6 * * 1", "Europe/London"),
    ("changelog draft", "0 16 * * 5", "Australia/Lord_Howe"),
    ("backup check", "50 8 * * *", "UTC"),
    ("flaky tests", "0 */2 * * *", "Asia/Tokyo"),
    ("release notes", "0 10 1,15 * *", "Europe/Berlin"),
    ("licence audit", "0 12 * * 3#1", "America/Sao_Paulo"),
)


def _id(number: int) -> str:
    return str(uuid.UUID(int=0x0192C4E8_5F0E_7C3A_9D1B_000000000000 + number))


def _entry(number: int, name: str, expression: str, timezone: str, **more: object) -> TimetableEntry:
    automation = Automation(
        _id(number), name, Definition(expression, timezone, enabled=bool(more.get("enabled", True)))
    )
    policies = more.get("policies")
    entry = TimetableEntry(
        automation,
        NOW - timedelta(days=9, hours=3),
        policies if isinstance(policies, Policies) else make_policies(),
        None,
    )
    if not automation.definition.enabled:
        return entry
    try:
        return replace(entry, schedule=Schedule.parse(expression, timezone))
    except InvalidSchedule as error:
        return replace(entry, invalid=str(error))


def automations() -> Iterator[AutomationDetails]:
    """Forty of them, and some more that nobody would want."""
    for number, (name, expression, timezone) in enumerate(_LOCAL):
        entry = _entry(number, name, expression, timezone)
        if number == 1:
            run = replace(
                entry.automation,
                run_id=_id(900),
                run_at=NOW - timedelta(hours=7),
                run_status="failed",
                run_error="exit status 1",
            )
            entry = replace(
                entry,
                automation=run,
                policies=make_policies(
                    start_within=timedelta(minutes=30),
                    catch_up=CatchUp.ALL,
                    concurrency=Concurrency.QUEUE,
                    jitter=timedelta(minutes=2),
                ),
            )
        yield details(entry, "main", paused_by_hand=number == 4, now=NOW)
    zones = ("Europe/Paris", "America/Chicago", "Asia/Singapore", "Pacific/Auckland")
    for number in range(20):
        expression = f"{number * 7 % 60} {'*' if number % 3 else number} * * *"
        yield details(
            _entry(100 + number, f"review queue {number + 1}", expression, zones[number % 4]), "eu", now=NOW
        )
    yield details(_entry(200, "rotate tokens", "0 3 * * *", "Mars/Olympus"), "eu", now=NOW)
    yield details(_entry(201, "never", "0 0 30 2 *", "UTC"), "eu", now=NOW)
    yield details(_entry(202, "old report", "0 3 * * *", "UTC", enabled=False), "main", now=NOW)
    yield details(_entry(300, "experiment", "*/10 * * * *", "UTC"), "lab", now=NOW)


def hostile() -> Iterator[AutomationDetails]:
    """Automations with names that want something."""
    for number, name in enumerate(HOSTILE):
        yield details(_entry(400 + number, name, "*/20 * * * *", "UTC"), "main", now=NOW)


_KINDS: Final[Sequence[tuple[Outcome | None, Reason | None, str | None, str | None]]] = (
    *[(Outcome.ACCEPTED, Reason.ANSWERED, "success", None)] * 12,
    *[(Outcome.ACCEPTED, Reason.ANSWERED, "running", None)] * 2,
    (Outcome.ACCEPTED, Reason.FOUND, "success", None),
    (Outcome.ACCEPTED, Reason.ANSWERED, "failed", "exit status 1"),
    (Outcome.SKIPPED, Reason.OVERLAP, None, "the newest run is not finished"),
    (Outcome.SKIPPED, Reason.PAUSED, None, None),
    (Outcome.REJECTED, Reason.REFUSED, None, "HTTP 400: the repository is archived"),
    (Outcome.UNRESOLVED, Reason.COVERED, None, "a run that began later hides whether this one was started"),
    (Outcome.EXPIRED, Reason.NOT_STARTED, None, "connection refused"),
)


def lines(among: Sequence[AutomationDetails]) -> list[Json]:
    """What came due in the hours before."""
    draw = random.Random(7)
    found: list[Json] = [
        _line(draw, among[0], NOW.replace(second=0), (None, None, None, None), state=State.IN_FLIGHT)
    ]
    at = NOW.replace(second=0) - timedelta(minutes=1)
    for number in range(60):
        at -= timedelta(minutes=draw.choice((1, 4, 5, 10, 15)))
        became = _KINDS[(number * 5 + 3) % len(_KINDS)] if number < len(_KINDS) else draw.choice(_KINDS)
        found.append(_line(draw, draw.choice(among), at, became))
    missed = _line(draw, among[3], at - timedelta(hours=3), (Outcome.SKIPPED, Reason.MISSED, None, None))
    found.append({**missed, "count": 12})
    return found


def _line(
    draw: random.Random,
    of: AutomationDetails,
    at: datetime,
    became: tuple[Outcome | None, Reason | None, str | None, str | None],
    *,
    state: State | None = None,
) -> Json:
    outcome, reason, run, error = became
    late = (
        round(draw.choice((0.003, 0.004, 0.004, 0.006, 0.011, 2.4)), 3)
        if outcome is Outcome.ACCEPTED
        else None
    )
    line: dict[str, object] = {
        "target": of.target,
        "automation_id": of.id,
        "name": of.name,
        "scheduled_for": to_text_seconds(at),
        "outcome": outcome,
        "reason": reason,
        "attempts": 0 if outcome is Outcome.SKIPPED else 2 if late and late > 1 else 1,
        "claimed_at": to_text(at),
        "sent_at": to_text(at) if late else None,
        "finished_at": None if outcome is None else to_text(at),
        "lateness_seconds": late,
        "task_run_id": _id(5000) if run else None,
        "run_status": run,
        "error": error,
        "node": "vm1",
        "count": 1,
    }
    return line if state is None else {**line, "state": state}


def status(among: Sequence[AutomationDetails]) -> DaemonStatus:
    """Three targets: one is well, one has something overdue, one is held."""
    held = "HTTP 401: the key is refused; give the target a key that is valid"
    return DaemonStatus(
        node="vm1",
        version="0.9.0",
        at=NOW,
        started_at=NOW - timedelta(days=3, hours=4),
        lock_holder=None,
        ledger_error=None,
        clock_in_doubt=False,
        stopping=False,
        targets=[
            _target(
                among,
                "main",
                "https://us.posthog.com",
                "12345",
                {State.IN_FLIGHT: 1, State.WAITING: 1},
                age=12,
                offset=0.21,
            ),
            _target(among, "eu", "https://eu.posthog.com", "77", {}, age=8, offset=-1.4),
            replace(
                _target(
                    among,
                    "lab",
                    "https://lab.example.org/a/rather/long/path/to/an/api",
                    "3",
                    {State.WAITING: 1},
                    age=3600,
                    offset=None,
                ),
                held=held,
                error=held,
                overdue=["experiment 2026-03-27T08:10:00Z (waiting)"],
                overdue_count=1,
            ),
        ],
    )


def _target(
    among: Sequence[AutomationDetails],
    name: str,
    url: str,
    project: str,
    opened: dict[State, int],
    *,
    age: float,
    offset: float | None,
) -> TargetStatus:
    mine = [each for each in among if each.target == name]
    return TargetStatus(
        name=name,
        url=url,
        project_id=project,
        held=None,
        error=None,
        snapshot_at=NOW - timedelta(seconds=age),
        stale=False,
        automations={
            state: sum(each.state == state for each in mine)
            for state in ("enabled", "disabled", "paused", "invalid")
        },
        open=opened,
        in_flight=opened.get(State.IN_FLIGHT, 0),
        planned=True,
        stalled_for=0.0,
        overdue=[],
        overdue_count=0,
        next_fire=min((each.next_fire for each in mine if each.next_fire), default=None),
        clock_offset=offset,
    )


def recent() -> RecentActivity:
    """A day's outcomes, runs of somebody else, and a pause."""
    return RecentActivity(
        NOW - timedelta(days=1),
        complete=True,
        tallies=[
            OutcomeTally("eu", Outcome.ACCEPTED, Reason.ANSWERED, 331, NOW),
            OutcomeTally("main", Outcome.ACCEPTED, Reason.ANSWERED, 148, NOW),
            OutcomeTally("main", Outcome.REJECTED, Reason.REFUSED, 2, NOW - timedelta(hours=2)),
            OutcomeTally("main", Outcome.SKIPPED, Reason.MISSED, 12, NOW - timedelta(hours=9)),
            OutcomeTally("main", Outcome.SKIPPED, Reason.PAUSED, 9, NOW - timedelta(minutes=36)),
            OutcomeTally("main", Outcome.UNRESOLVED, Reason.COVERED, 1, NOW - timedelta(hours=3)),
        ],
        foreign=[ForeignRunTally("eu", _id(103), "review queue 4", 2, 0, NOW - timedelta(minutes=50))],
        pauses=[OperatorPause("main", _id(4), "triage new issues", NOW - timedelta(days=2), "ada")],
        failed_runs={RunStatus.FAILED: 3},
    )


def finished_runs(among: Sequence[AutomationDetails], *, error: str = "exit status 1") -> list[FinishedRun]:
    """Every automation but a few has run once; the newest run of every eighth one failed or was lost."""
    runs = []
    for number, each in enumerate(among[:-2]):
        status = (
            (RunStatus.FAILED if number % 3 else RunStatus.LOST) if number % 8 == 1 else RunStatus.SUCCESS
        )
        finished_at = NOW - timedelta(minutes=7 * number + 3)
        failures = 0 if status is RunStatus.SUCCESS else number
        runs.append(
            FinishedRun(
                each.target,
                each.id,
                each.name,
                _id(900 + number),
                status,
                finished_at,
                failures,
                error if failures else None,
            )
        )
    return runs


def exhibit(*, hostile_too: bool = False) -> ProgramRoutes:
    """All of it, to be served."""
    among = [_with_run(each) for each in (*automations(), *(hostile() if hostile_too else ()))]
    shown = among[-4:] + among[:32] if hostile_too else among[:32]
    refused = _line(random.Random(1), shown[0], NOW, (Outcome.REJECTED, Reason.REFUSED, None, HOSTILE[0]))
    recorded = Recorded(*([refused] if hostile_too else []), *lines(shown))
    runs = finished_runs(among, error=HOSTILE[0] if hostile_too else "exit status 1")
    failed = [run for run in reversed(runs) if run.failures]
    return pages(
        status=status(among),
        automations=among,
        occurrences=recorded,
        recent=Remembered(recent()),
        failing=FailingNow(*failed, more=3),
        finished_runs=FinishedRuns(*runs),
        run_output=Printed(
            "".join(f"step {number} of 99\n" for number in range(1, 100))
            + (HOSTILE[0] if hostile_too else "")
        ),
    )


def _with_run(automation: AutomationDetails) -> AutomationDetails:
    run_id = automation.id.replace("0192", "0193")
    return replace(
        automation, automation=replace(automation.automation, run_id=run_id, run_at=NOW, run_status="failed")
    )


def calm() -> ProgramRoutes:
    """The same on a better day: one schedule is wrong, one run failed, and one automation is paused."""
    among = [each for each in automations() if each.target != "lab" and each.name != "never"]
    well = status(among)
    known = recent()
    kept = [
        each for each in known.tallies if each.outcome is Outcome.ACCEPTED or each.reason is Reason.PAUSED
    ]
    return pages(
        status=replace(well, targets=well.targets[:2]),
        automations=among,
        occurrences=Recorded(
            *(
                each
                for each in lines(among[:32])
                if each["outcome"] in {None, Outcome.ACCEPTED, Outcome.SKIPPED}
            )
        ),
        recent=Remembered(replace(known, tallies=kept, foreign=())),
        failing=FailingNow(replace(finished_runs(among)[1], error="The command ended with exit status 1.")),
    )
