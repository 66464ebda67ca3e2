"""The daemon broken on purpose, one way at a time: whether the simulation notices, and after how many seeds.

Each sabotage is a small patch of what keeps a promise. One that goes unnoticed is a hole in the checks or in
what is drawn.
"""

import asyncio
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from scheduler.app import ledger_startup
from scheduler.core import backlog_decisions, policy, reconcile
from scheduler.core.actions import NewestReading
from scheduler.core.cron import schedule
from scheduler.core.model import Attempt, ClaimPlan, Occurrence
from scheduler.core.reconcile import ReconcileResult, RunReading, UnknownAttempt
from scheduler.core.timetable import Timetable
from scheduler.daemon import reconciler
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.context import TargetKnowledge
from scheduler.daemon.overdue_check import OverdueCheck
from scheduler.daemon.sender import Sender
from scheduler.daemon.waits import WaitRecorder
from scheduler.ledger.sqlite import SqliteLedger
from scheduler.upstream import snapshot
from tests.simulation import evidence
from tests.simulation.judging import judge_script, judge_seed
from tests.simulation.load_sabotages import LOAD_SABOTAGES, TOLD_BY
from tests.simulation.stories import STORIES

if TYPE_CHECKING:
    from scheduler.core.actions import Conclude
    from scheduler.daemon.automation_queue import OpenDelivery

Patch = tuple[object, str, object]
_ours: Final = reconcile.reconcile
_claim: Final = SqliteLedger.claim
_attempt: Final = SqliteLedger.write_attempt
_pages: Final = snapshot.SnapshotReader._read_pass
_start_within: Final = policy.compute_start_within


def _meanwhile(work: Any) -> None:
    """Have it done, sometime, by a process that may be dead by then."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _claim_not_durable(self: SqliteLedger, target: str, plan: ClaimPlan) -> Mapping[Occurrence, int]:
    """Goes on before its rows are there."""
    if plan.skips or not plan.claims:
        return await _claim(self, target, plan)
    _meanwhile(_claim(self, target, plan))
    return {each.occurrence: 1 for each in plan.claims}


async def _second_attempt_not_durable(
    self: SqliteLedger, occurrence: Occurrence, attempt: Attempt, *more: Any
) -> None:
    """Only the first attempt is on record before it is sent."""
    if attempt.number == 1:
        await _attempt(self, occurrence, attempt, *more)
    else:
        _meanwhile(_attempt(self, occurrence, attempt, *more))


async def _sent_before_the_commit(
    self: SqliteLedger, occurrence: Occurrence, attempt: Attempt, *more: Any
) -> None:
    """The write of an attempt is on its way when it is sent."""
    _meanwhile(_attempt(self, occurrence, attempt, *more))


async def _retry_without_looking(self: Sender, delivery: "OpenDelivery", _action: object) -> None:
    """What is unknown is taken for not started."""
    await self._resolve_not_started(delivery, [])


def _foreign_run_adopted(
    doubt: UnknownAttempt, reading: RunReading, earlier: RunReading | None, *, margin: float, taken: Any
) -> ReconcileResult:
    """Any new run is the attempt's, whenever it began."""
    if reading.run_id is not None and reading.run_id != doubt.baseline and not taken(reading.run_id):
        return ReconcileResult.FOUND
    return _ours(doubt, reading, earlier, margin=margin, taken=taken)


async def _without_the_lock(_self: object, _node: str, _now: object) -> object:
    """A second daemon does not wait for the first one."""
    return SimpleNamespace(release=lambda: None, wait_until_lost=asyncio.Event().wait)


def _deadline_too_early(policies: policy.Policies, to_the_next: timedelta | None) -> timedelta:
    """Every occurrence is over a minute before its time."""
    return _start_within(policies, to_the_next) - timedelta(minutes=1)


async def _short_page_trusted(self: snapshot.SnapshotReader, *, to_the_end: bool) -> Any:
    """What the pages show is all that there is."""
    current = await _pages(self, to_the_end=to_the_end)
    current.disagreement = None
    return current


def _watermark_ahead(self: Timetable, now: datetime, planned: Sequence[object] = ()) -> datetime:
    """Everything up to now is said to be planned."""
    del self, planned
    return now


async def _old_reading_believed(
    self: AutomationCache, automation_id: str, *, since: float
) -> NewestReading | None:
    """Whatever was read last will do."""
    if (seen := self.find_newest(automation_id)) is not None:
        await asyncio.sleep(0.01)
        return NewestReading(seen.automation, max(seen.begun, since))
    return await _read(self, automation_id, since=since)


_read: Final = AutomationCache.read


def _never_overdue(_self: OverdueCheck, _new: Sequence[Occurrence]) -> None:
    """The overdue check says nothing."""


async def _told_before_it_is_so(self: Sender, delivery: "OpenDelivery", action: "Conclude") -> None:
    """An outcome is told, and then written."""
    self._publish_outcome(delivery, action.conclusion)
    await _conclude(self, delivery, action)


_conclude: Final = Sender._conclude


async def _nothing_noted(_self: WaitRecorder, _waits: object) -> bool:
    """A wait is not written while it lasts."""
    return True


_Settled = property(lambda doubt: doubt.ended)
_SettledFromStart = property(lambda doubt: doubt.sent + doubt.settle_time)

SABOTAGES: Final[Mapping[str, Sequence[Patch]]] = {
    "claim not durable": [(SqliteLedger, "claim", _claim_not_durable)],
    "attempt 2 not durable": [(SqliteLedger, "write_attempt", _second_attempt_not_durable)],
    "sending before the commit": [(SqliteLedger, "write_attempt", _sent_before_the_commit)],
    "retry without looking": [(Sender, "_reconcile", _retry_without_looking)],
    "settle time ignored": [(UnknownAttempt, "settles_at", _Settled)],
    "settle time from the start of the attempt": [(UnknownAttempt, "settles_at", _SettledFromStart)],
    "foreign run adopted": [(reconciler, "reconcile", _foreign_run_adopted)],
    "open claims adopted without the lock": [
        (ledger_startup.LedgerStartup, "acquire_lock", _without_the_lock)
    ],
    "overdue off by one": [(policy, "compute_start_within", _deadline_too_early)],
    "overdue and not told": [(OverdueCheck, "_publish_overdue", _never_overdue)],
    "trusting a short page": [(snapshot.SnapshotReader, "_read_pass", _short_page_trusted)],
    "watermark ahead of its rows": [(Timetable, "compute_watermark", _watermark_ahead)],
    "a reading older than the attempt believed": [(AutomationCache, "read", _old_reading_believed)],
    "told before it is so": [(Sender, "_conclude", _told_before_it_is_so)],
    "pauses ignored": [(TargetKnowledge, "is_paused", lambda _self, _automation_id: False)],
    "waits lost when the process is killed": [(WaitRecorder, "_record_steps", _nothing_noted)],
    **LOAD_SABOTAGES,
}


@contextmanager
def sabotaged(name: str) -> Iterator[None]:
    """The daemon is broken in this way."""
    with ExitStack() as patches:
        _forget_schedules()
        patches.callback(_forget_schedules)
        for owner, attribute, stand_in in SABOTAGES[name]:
            patches.enter_context(mock.patch.object(owner, attribute, stand_in))
        yield


def _forget_schedules() -> None:
    """Forget what was evaluated before: many simulations share a process, and only some of them are
    sabotaged.
    """
    backlog_decisions.clear_caches()
    schedule._make_schedule.cache_clear()
    evidence._instants.cache_clear()


def noticed(name: str, seeds: Iterable[int]) -> tuple[int, int | str, str] | None:
    """After how many seeds a sabotage is noticed, by which one, and what is said of it; None when it is not.

    One that has a story of its own is to be noticed by that.
    """
    with sabotaged(name):
        if name in TOLD_BY:
            violations = judge_script(STORIES[TOLD_BY[name]]()).violations
            return (1, TOLD_BY[name], violations[0][1]) if violations else None
        for tried, seed in enumerate(seeds, 1):
            gc.collect()
            if found := judge_seed(seed).violations:
                return tried, seed, found[0][1]
    return None


def report(names: Sequence[str], seeds: range, say: Callable[[str], None] = print) -> int:
    """The table; 1 when one was not noticed."""
    unnoticed = 0
    for name in names or list(SABOTAGES):
        found = noticed(name, seeds)
        unnoticed += found is None
        tried, seed, text = found or (len(seeds), None, "NOT NOTICED")
        say(f"{name:52} {tried:4} seeds  (seed {seed})  {text[:160]}")
    return 1 if unnoticed else 0
