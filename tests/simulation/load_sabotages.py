"""The promise under load broken on purpose, one way at a time, and the story that notices each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from scheduler.app import daemon
from scheduler.cli import restoration
from scheduler.core import admission, backlog, model
from scheduler.core.absences import Absences
from scheduler.core.actions import Withdraw
from scheduler.core.backlog import Backlog
from scheduler.core.cron import ranges
from scheduler.core.cron.schedule import Schedule
from scheduler.core.fair_queue import FairQueue, Ticket
from scheduler.core.model import ClaimPlan, Occurrence
from scheduler.core.occurrence_log import Cause
from scheduler.core.request_budget import ComingRequests, Purpose, RequestBudget, Window
from scheduler.core.timetable import SnapshotChanges, Timetable
from scheduler.daemon import refresh
from scheduler.daemon.breaker import CircuitBreaker, TargetThrottle
from scheduler.daemon.places import AttemptPlace, Places
from scheduler.daemon.planner import Planner
from scheduler.daemon.presence import Presence, SnapshotWatch
from scheduler.daemon.reconciler import Reconciler
from scheduler.daemon.refresh import Refresh
from scheduler.daemon.sender import Sender
from scheduler.daemon.snapshot_outbox import SnapshotOutbox
from scheduler.daemon.wait_log import Shortages
from scheduler.ledger import unattributed_runs
from scheduler.ledger.sqlite import SqliteLedger

Patch = tuple[object, str, object]
_add: Final = SnapshotOutbox.add
_claim: Final = SqliteLedger.claim
_count: Final = Schedule.count
_leave: Final = Places.leave
_load: Final = Timetable.load
_overdue: Final = Timetable.find_late
_plan: Final = Planner._plan
_choose: Final = FairQueue.choose
_required: Final = model._require_field
_miss: Final = Absences.find_gone


def _expect_nothing(_self: RequestBudget, _need: object, _now: float) -> None:
    """Keep no reserve for polls."""


def _count_fires_as_polls(self: RequestBudget, now: float, _requests: int = 1) -> float:
    """Let polls have a quarter of each window, and count fires against that quarter."""
    return max(window.find_free_instant(now, 0, window.limit // 4) for window in self._windows)


def _look_back_only(self: RequestBudget, now: float, _requests: int) -> bool:
    """Keep spare polls to their quarter, and count only those that were sent."""
    background = zip(self._windows, self._background[Purpose.POLL], strict=True)
    return all(recent.count(now) < window.limit // 4 for window, recent in background)


def _keep_all(_self: RequestBudget, window: Window, _now: float, _reserves: object) -> ComingRequests:
    """Keep the whole share of polls and readings from fires, however little of it they need."""
    return ComingRequests(float(window.limit // 4), 0.0, window.limit // 4)


def _keep_slot(_self: Places, _place: object) -> None:
    """Leave a request that hangs in flight."""


def _keep_unused_place(self: Places, place: AttemptPlace) -> None:
    """Keep a place that was granted and not used."""
    if place.hang_timer or not place.is_granted:
        _leave(self, place)


def _hang_without_end(self: Places) -> None:
    """Let every request that hangs leave ``max_in_flight``."""
    self._in_flight -= len(self._stuck)
    self._hanging.update(self._stuck)
    self._stuck.clear()


def _choose_by_deadline(self: FairQueue) -> Ticket | None:
    """Give the fourth place by deadline, too."""
    ticket = self._by_deadline.pop()
    if ticket is not None:
        self.leave(ticket)
    return ticket


def _choose_again(self: FairQueue) -> Ticket | None:
    """Prefer the automation of which an occurrence was sent before."""
    for ticket in self._waiting:
        if ticket.automation_id in self._sent:
            self.leave(ticket)
            return ticket
    return _choose(self)


async def _claim_without_spans(self: SqliteLedger, target: str, plan: ClaimPlan) -> Mapping[Occurrence, int]:
    """Make a slice of the recovery durable without its rows."""
    return await _claim(self, target, replace(plan, spans=()))


async def _claim_without_gaps(self: SqliteLedger, target: str, plan: ClaimPlan) -> Mapping[Occurrence, int]:
    """Move the watermark, and record no gap."""
    return await _claim(self, target, replace(plan, gaps=()))


def _forget_gaps(
    self: Timetable, recorded: Mapping[str, Any], **more: Any
) -> Iterator[list[model.DefinitionVersion]]:
    """Start without the gaps that the ledger holds."""
    return _load(self, recorded, **(more | {"gaps": ()}))


def _recover_at_once(self: Timetable, limit: int) -> list[backlog.BacklogInterval]:
    """Take a slice of the past for recovered before its rows are durable."""
    overdue = _overdue(self, limit)
    self.mark_late_durable(overdue)
    return overdue


async def _plan_once(self: Planner) -> bool:
    """Stop after a slice of the recovery, until something else is due."""
    await _plan(self)
    return False


def _count_one_more(self: Schedule, after: datetime, until: datetime) -> int:
    """Count one instant too many."""
    return _count(self, after, until) + 1


def _add_as_whole(
    self: SnapshotOutbox, snapshot: model.Snapshot, changes: SnapshotChanges, *, whole: bool = True
) -> None:
    """Take a part of a snapshot for all of it."""
    del whole
    _add(self, snapshot, changes)


def _require_cut(value: Mapping[str, object], field: str, kind: type[Any]) -> Any:
    """Cut a text where a C string ends."""
    found = value.get(field)
    return _required(
        value | {field: found.partition("\0")[0]} if isinstance(found, str) else value,  # type: ignore[operator]
        field,
        kind,
    )


def _miss_at_once(
    self: Absences, snapshot: model.Snapshot, _confirm_after: float, *more: Any
) -> Iterable[str]:
    """Remove what the next snapshot does not show either, however soon that comes."""
    return _miss(self, snapshot, 0.0, *more)


def _is_removed(self: Timetable, automation_id: str) -> bool:
    """Take what the list does not show for present until it is removed."""
    return automation_id not in self.entries


def _say_nothing_of_unseen(_self: Absences, _known: object) -> Mapping[str, datetime | None]:
    """Record nothing of automations that are not shown."""
    return {}


def _withdraw_what_was_tried(_delivery: object, _facts: object, _entry: object) -> Withdraw:
    """Take back what an edit took back, whether it was sent or not."""
    return Withdraw()


async def _find_none_unsent(_self: Sender, _queue: object) -> Sequence[object]:
    """Let every occurrence be the head of its queue, and commit its outcome alone."""
    return ()


async def _forget_waits(self: SqliteLedger, occurrences: Sequence[Occurrence], _steps: object = ()) -> None:
    """Record nothing of what is waited for when the process stops."""
    await _unsend(self, occurrences)


_unsend: Final = SqliteLedger.discard_attempts


def _another_cause(self: Shortages, cause: Cause | None, detail: str | None = None) -> None:
    """Whoever waits for the request budget is told to wait for other requests."""
    _see(self, cause and Cause.IN_FLIGHT, detail)


_see: Final = Shortages.set_cause


async def _do_nothing(_self: Refresh) -> None:
    """Take up nothing of what a command changed."""


LOAD_SABOTAGES: Final[Mapping[str, Sequence[Patch]]] = {
    "fires count as polls": [(RequestBudget, "find_earliest_poll", _count_fires_as_polls)],
    "no reserve for polls": [(RequestBudget, "expect", _expect_nothing)],
    "polls spend early what they need later": [(RequestBudget, "_has_share", _look_back_only)],
    "the second waiting occurrence precedes the first": [(FairQueue, "choose", _choose_again)],
    "no place for the longest waiting": [(FairQueue, "choose", _choose_by_deadline)],
    "the place is not handed over": [(Places, "hand_over", lambda _self, _place: None)],
    "an unused place is kept": [(Places, "leave", _keep_unused_place)],
    "every attempt is a probe": [(CircuitBreaker, "admit", lambda _self, _attempt: True)],
    "a hanging request keeps its slot": [(Places, "note_hanging", _keep_slot)],
    "max_waiting ignored": [(Places, "_release_hanging", _hang_without_end)],
    "a shortage is not told": [(Places, "note_exhaustion", lambda _self: None)],
    "the reserve is kept although nobody needs it": [(RequestBudget, "_estimate_coming", _keep_all)],
    "a standstill is not shown": [(Planner, "measure_stall", lambda _self: 0.0)],
    "the watermark moves over a gap that is not recorded": [(SqliteLedger, "claim", _claim_without_gaps)],
    "recorded gaps are forgotten": [(Timetable, "load", _forget_gaps)],
    "a slice of the recovery is lost": [(SqliteLedger, "claim", _claim_without_spans)],
    "a span counts one too many": [(Schedule, "count", _count_one_more)],
    "recovered before it is durable": [(Timetable, "find_late", _recover_at_once)],
    "one slice of the recovery for each fire": [(Planner, "_plan", _plan_once)],
    "a part of a snapshot taken for all of it": [(SnapshotOutbox, "add", _add_as_whole)],
    "a removal by an immediate second reading": [(Absences, "find_gone", _miss_at_once)],
    "every absent automation is read": [(Presence, "reserve_reading", lambda _self, _automation_id: True)],
    "an absent automation fires": [(Timetable, "is_absent", _is_removed)],
    "a mass disappearance is not told": [(SnapshotWatch, "check", lambda _self, _snapshot: None)],
    "strangers are not told": [(SnapshotWatch, "_check_unidentified_objects", lambda _self, _snapshot: None)],
    "nothing recorded of what is not shown": [(Absences, "report_unseen", _say_nothing_of_unseen)],
    "what was tried is withdrawn": [(admission, "_take_back", _withdraw_what_was_tried)],
    "an automation that denies itself is sent again": [
        (Absences, "note_denial", lambda _self, _automation_id: None)
    ],
    "the wait that the API asked for is forgotten at a restart": [
        (TargetThrottle, "recall", lambda _self, _span: None)
    ],
    "waits lost when the process stops": [(SqliteLedger, "discard_attempts", _forget_waits)],
    "a wait under another cause": [(Shortages, "set_cause", _another_cause)],
    "no note of a run that is set aside": [(unattributed_runs, "note", lambda *_: None)],
    "doubts of one automation cleared one after the other": [
        (Reconciler, "is_not_started", lambda _self, _doubt, _by: False)
    ],
    "outcomes of one automation recorded one after the other": [(Sender, "_find_unsent", _find_none_unsent)],
    "too late by a clock that was ahead": [(Backlog, "reopen_late", lambda _self: None)],
    "a time examined twice": [(backlog, "_find_uncovered_parts", lambda stretch, _others: [stretch])],
    "a wake is not heard": [(Refresh, "request", _do_nothing)],
    "every wake is a poll": [(refresh, "REFRESH_INTERVAL", 0.0), (daemon, "_HEAR_EVERY", 0.0)],
    "what a command deleted is not read": [(Refresh, "_read_absent", _do_nothing)],
    "a restoration is not noted": [(restoration, "note_restoration", lambda *_: None)],
    "a restored ledger is not paused": [(restoration, "pause_all", lambda *_: [])],
    "text cut at NUL": [(model, "_require_field", _require_cut)],
    "ranges as croniter reads them": [(ranges, "_write_out", lambda item, _field, _rules_version: item)],
}

TOLD_BY: Final[Mapping[str, str]] = {
    "fires count as polls": "polls starved by fires",
    "no reserve for polls": "budget of an hour spent in half of it",
    "polls spend early what they need later": "polls want more than their quarter",
    "the second waiting occurrence precedes the first": "budget exceeded by half",
    "no place for the longest waiting": "budget exceeded by a tenth",
    "the place is not handed over": "budget exceeded by half",
    "an unused place is kept": "slow ledger and few slots",
    "every attempt is a probe": "held in between",
    "a hanging request keeps its slot": "hanging requests",
    "max_waiting ignored": "more hang than may wait",
    "a shortage is not told": "budget exceeded by half",
    "the reserve is kept although nobody needs it": "budget exceeded by half",
    "a standstill is not shown": "nothing can be planned",
    "the watermark moves over a gap that is not recorded": "killed while it recovers",
    "recorded gaps are forgotten": "killed while it recovers",
    "a slice of the recovery is lost": "killed while it recovers",
    "a span counts one too many": "killed while it recovers",
    "recovered before it is durable": "full ledger while it recovers",
    "one slice of the recovery for each fire": "full ledger while it recovers",
    "a part of a snapshot taken for all of it": "killed while it records an edit of all",
    "a removal by an immediate second reading": "short list between polls",
    "every absent automation is read": "short list between polls",
    "an absent automation fires": "empty list for seconds",
    "a mass disappearance is not told": "empty list for seconds",
    "strangers are not told": "strangers, and an automation that is not shown",
    "nothing recorded of what is not shown": "strangers, and an automation that is not shown",
    "what was tried is withdrawn": "an edit is seen after the request",
    "an automation that denies itself is sent again": "the list shows what is gone",
    "the wait that the API asked for is forgotten at a restart": "restarted while the API asks to wait",
    "waits lost when the process stops": "restarted while the API asks to wait",
    "a wait under another cause": "budget exceeded by a tenth",
    "no note of a run that is set aside": "a run is hidden while an attempt is in doubt",
    "doubts of one automation cleared one after the other": "hundreds in doubt after a restart",
    "outcomes of one automation recorded one after the other": "hundreds in doubt after a restart",
    "too late by a clock that was ahead": "settings reloaded by a clock that is ahead",
    "a time examined twice": "settings reloaded by a clock that is ahead",
    "a wake is not heard": "changed by commands",
    "every wake is a poll": "changed by commands",
    "what a command deleted is not read": "changed by commands",
    "a restoration is not noted": "restored from a backup",
    "a restored ledger is not paused": "restored from a backup",
    "text cut at NUL": "text with NUL",
    "ranges as croniter reads them": "ranges that wrap",
}
"""The story that notices each of them."""
