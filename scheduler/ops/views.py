"""The content of the pages as JSON: the state of the daemon, coming fires, and past occurrences.

Every answer consists of values without prompts and keys, and can therefore contain neither.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice

from scheduler.core.cron.zones import load_zone
from scheduler.core.instants import to_text, to_text_seconds
from scheduler.core.model import State
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.core.policy import compute_due
from scheduler.core.quantities import pluralize
from scheduler.core.status import (
    AUTOMATION_STATES,
    STALLED_AFTER,
    DaemonStatus,
    FailingAutomations,
    FinishedRun,
    TargetStatus,
    WaitsStatus,
    WaitStatus,
)
from scheduler.core.timetable import TimetableEntry
from scheduler.ops.queries import UpcomingQuery

Json = Mapping[str, object]


def make_health(status: DaemonStatus, idle: float) -> tuple[bool, Json]:
    """Return whether the loop makes progress, and the body of ``/healthz``.

    ``idle`` is the number of seconds since the loop last made progress.
    """
    alive = idle < STALLED_AFTER
    return alive, {
        "alive": alive,
        "seconds_since_progress": round(idle, 3),
        "overdue": {target.name: _make_overdue(target) for target in status.targets},
    }


def describe_status(status: DaemonStatus) -> str:
    """Return the current work of the daemon in one line, for the status of its service."""
    if problems := status.problems:
        return f"not ready: {'; '.join(problems)}"
    open_now = sum(sum(target.open.values()) + target.before_due for target in status.targets)
    targets, occurrences = pluralize(len(status.targets), "target"), pluralize(open_now, "occurrence")
    return f"{targets}, {occurrences} open, {_describe_next_fire(status.targets)}"


def _describe_next_fire(targets: Sequence[TargetStatus]) -> str:
    """Return the instant of the next fire, in words.

    A throttled target fires nothing before the end of its throttle.
    """
    firing = [target for target in targets if not target.is_paused]
    fires = [
        max(target.next_fire, target.throttled_until or target.next_fire)
        for target in firing
        if target.next_fire
    ]
    if not fires:
        return "next fire never"
    first = min(fires)
    if any(target.next_fire == first for target in firing):
        return f"next fire {to_text_seconds(first)}"
    return f"nothing fires before {to_text_seconds(first)} (throttled)"


def make_readiness(status: DaemonStatus, warnings: Sequence[str]) -> tuple[bool, Json]:
    """Return whether the daemon is ready, and the body of ``/readyz``.

    ``warnings`` are findings without effect on readiness.
    """
    problems = status.problems
    return not problems, {"ready": not problems, "missing": problems, "warnings": list(warnings)}


def make_status(
    status: DaemonStatus,
    failing: FailingAutomations | None,
    waits: Mapping[str, WaitsStatus],
    warnings: Sequence[str] = (),
) -> Json:
    """Return the body of ``/api/v1/status``.

    ``failing`` is None when the ledger cannot be read. ``waits`` contains the waits of each target's
    occurrences. ``warnings`` are the warnings of `make_readiness`.
    """
    return {
        "node": status.node,
        "version": status.version,
        "at": to_text(status.at),
        "started_at": to_text(status.started_at),
        **make_readiness(status, warnings)[1],
        "stopping": status.stopping,
        "lock_holder": status.lock_holder,
        "ledger_error": status.ledger_error,
        "clock_in_doubt": status.clock_in_doubt,
        "targets": [
            {**_make_target(target, waits[target.name]), "failing": _make_failing(target.name, failing)}
            for target in status.targets
        ],
    }


def _make_target(target: TargetStatus, waits: WaitsStatus) -> Json:
    return {
        "name": target.name,
        "url": target.url,
        "project_id": target.project_id,
        "held": target.held,
        "error": target.error,
        "throttled_until": target.throttled_until and to_text_seconds(target.throttled_until),
        "snapshot_at": target.snapshot_at and to_text(target.snapshot_at),
        "stale": target.stale,
        "automations": {state: target.automations.get(state, 0) for state in AUTOMATION_STATES},
        "open": {state: target.open.get(state, 0) for state in State},
        "in_flight": target.in_flight,
        "waiting": {
            "count": waits.count,
            "unclaimed": waits.unclaimed,
            "causes": dict(waits.causes),
            "occurrences": [make_wait(wait) for wait in waits.first],
        },
        "hanging": target.places.hanging,
        "budget_exhausted_since": target.places.exhausted_since and to_text(target.places.exhausted_since),
        "saturated_since": target.places.saturated_since and to_text(target.places.saturated_since),
        "overdue": _make_overdue(target),
        "recovering": _make_recovering(target),
        "next_fire": target.next_fire and to_text_seconds(target.next_fire),
        "clock_offset_seconds": target.clock_offset,
        "unidentified": {"count": target.unidentified, "objects": list(target.anonymous)},
        "absent": target.absent,
        "inconsistent": target.inconsistent
        and {"since": to_text_seconds(target.inconsistent.since), "reason": target.inconsistent.reason},
        "disappeared": target.disappeared
        and {
            "at": to_text(target.disappeared.at),
            "count": target.disappeared.gone,
            "automations": target.disappeared.known,
        },
    }


def _make_failing(target: str, failing: FailingAutomations | None) -> Json | None:
    if failing is None:
        return None
    runs = [_make_run(run) for run in failing.newest if run.target == target]
    return {"count": failing.counts.get(target, 0), "automations": runs}


def _make_run(run: FinishedRun) -> Json:
    return {
        "automation_id": run.automation_id,
        "name": run.name,
        "run_id": run.run_id,
        "run_status": run.status,
        "finished_at": to_text(run.finished_at),
        "failures": run.failures,
        "error": run.error,
    }


def make_wait(wait: WaitStatus) -> Json:
    """Return an occurrence without an outcome, and the cause of its wait."""
    return {
        "automation_id": wait.automation_id,
        "name": wait.name,
        "scheduled_for": to_text_seconds(wait.scheduled_for),
        "due": to_text(wait.due),
        "waits_for": wait.cause,
        "since": to_text(wait.since),
        "detail": wait.detail,
        "deadline": wait.deadline and to_text(wait.deadline),
    }


def _make_overdue(target: TargetStatus) -> Json:
    return {"count": target.overdue_count, "occurrences": list(target.overdue)}


def _make_recovering(target: TargetStatus) -> Json | None:
    past = target.recovering
    if past is None:
        return None
    return {"automations": past.automations, "since": to_text(past.since), "until": to_text(past.until)}


# ------------------------------------------------------------ records, by pages


def make_page(records: Iterable[Json], query: OccurrenceQuery | UpcomingQuery) -> Json:
    """Return one page of records.

    ``records`` may contain one more record than the page has; then ``more`` is true.
    """
    listed = list(records)
    return {
        "results": listed[: query.limit],
        "limit": query.limit,
        "offset": query.offset,
        "more": len(listed) > query.limit,
    }


def make_fires(
    upcoming: Iterator[tuple[datetime, str, TimetableEntry]], query: UpcomingQuery
) -> Sequence[Json]:
    """Return the fires of the page, and one more.

    Evaluates schedules, and must therefore not run on the loop's thread.
    """
    return [_make_fire(*fire) for fire in islice(upcoming, query.offset, query.offset + query.limit + 1)]


def _make_fire(scheduled_for: datetime, target: str, entry: TimetableEntry) -> Json:
    definition = entry.automation.definition
    due = compute_due(entry.policies, target, entry.automation.id, entry.schedule, scheduled_for)
    return {
        "target": target,
        "automation_id": entry.automation.id,
        "name": entry.automation.name,
        "scheduled_for": to_text_seconds(scheduled_for),
        "due": to_text(due),
        "local": scheduled_for.astimezone(load_zone(definition.timezone)).isoformat(timespec="seconds"),
        "timezone": definition.timezone,
        "note": entry.schedule and entry.schedule.find_note(scheduled_for),
    }
