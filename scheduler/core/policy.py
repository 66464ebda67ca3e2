"""The policies of one automation, and what they decide: pure functions from facts to decisions.

Instants are aware UTC; lateness and deadlines count from *due*, which is the scheduled instant plus the jitter.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from scheduler.core.model import Reason

if TYPE_CHECKING:
    from scheduler.core.cron import Schedule  # at run time `--help` would load croniter

_SHORTEST: Final = timedelta(minutes=5)
_LONGEST: Final = timedelta(hours=1)
_MILLISECOND: Final = timedelta(milliseconds=1)
RESTART_GRACE: Final = timedelta(seconds=60)
"""What came due while nobody ran is not missed when somebody ran again so soon after: that was a restart."""


class CatchUp(StrEnum):
    """What is sent when several occurrences of one automation are overdue at once."""

    LATEST = "latest"
    ALL = "all"
    NONE = "none"


class Concurrency(StrEnum):
    """What happens while the automation's newest run is not finished."""

    ALLOW = "allow"
    FORBID = "forbid"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class Policies:
    """All policies of one automation. ``start_within`` None is *auto*."""

    start_within: timedelta | None = None
    catch_up: CatchUp = CatchUp.LATEST
    concurrency: Concurrency = Concurrency.ALLOW
    jitter: timedelta = timedelta(0)
    paused: bool = False


def compute_start_within(policies: Policies, to_the_next: timedelta | None) -> timedelta:
    """How long after it is due an occurrence may start. Auto: half the time to the next one, at least 5 min, at most 1 h."""
    if policies.start_within is not None:
        return policies.start_within
    if to_the_next is None:
        return _LONGEST
    return min(max(to_the_next / 2, _SHORTEST), _LONGEST)


def compute_longest_delay(policies: Policies) -> timedelta:
    """How long after its scheduled instant any occurrence may start at most, whatever the time to the next one."""
    return policies.jitter + (_LONGEST if policies.start_within is None else policies.start_within)


def compute_jitter(policies: Policies, target: str, automation_id: str, to_the_next: timedelta | None) -> timedelta:
    """The automation's own share of its jitter: the same every time, and less than half the time to the next occurrence."""
    if not policies.jitter:
        return timedelta(0)
    digest = hashlib.sha256(f"{target}\0{automation_id}".encode(errors="replace")).digest()
    most = policies.jitter if to_the_next is None else min(policies.jitter, to_the_next / 2)
    share = int.from_bytes(digest[:8]) * (most // _MILLISECOND) >> 64  # in whole numbers, so that it never comes to all of it
    return share * _MILLISECOND


@dataclass(frozen=True, slots=True)
class FireTime:
    """One scheduled instant of an automation, when it is due, and until when it may start."""

    scheduled_for: datetime
    due: datetime
    deadline: datetime


def make_fire_time(policies: Policies, target: str, automation_id: str, scheduled_for: datetime, following: datetime | None) -> FireTime:
    """The moment of ``scheduled_for``, given the instant that follows it in the schedule."""
    to_the_next = None if following is None else following - scheduled_for
    due = scheduled_for + compute_jitter(policies, target, automation_id, to_the_next)
    return FireTime(scheduled_for, due, due + compute_start_within(policies, to_the_next))


def compute_due(policies: Policies, target: str, automation_id: str, schedule: "Schedule | None", scheduled_for: datetime) -> datetime:
    """Return when an instant of this schedule is due. The schedule is evaluated only where there is jitter."""
    if not policies.jitter or schedule is None:
        return scheduled_for
    return make_fire_time(policies, target, automation_id, scheduled_for, schedule.find_next(scheduled_for)).due


@dataclass(frozen=True, slots=True)
class StartDecision:
    """Claim this one, and send it when it is due."""

    fire_time: FireTime


@dataclass(frozen=True, slots=True)
class SkipDecision:
    """These, consecutive and in order, get their outcome now, without an attempt."""

    fire_times: Sequence[FireTime]
    reason: Reason


Decision = StartDecision | SkipDecision


def decide(
    moments: Sequence[FireTime],
    policies: Policies,
    *,
    now: datetime,
    absent_until: datetime,
    paused: bool = False,
    claimed: datetime | None = None,
) -> list[Decision]:
    """What becomes of the moments of one automation that are planned together, in their order.

    ``absent_until``: nobody ran before this instant. ``paused``: by an operator, beyond what the policies say. ``claimed``: the newest
    scheduled instant of which there is a claim; an older one that was held up until now is overdue together with it.
    """
    if paused or policies.paused:
        return [SkipDecision(moments, Reason.PAUSED)]
    missed = [now > each.deadline or _is_forgone(each, policies, absent_until) for each in moments]
    able = [each.scheduled_for for each, is_missed in zip(moments, missed, strict=True) if not is_missed]
    newest = max(able if claimed is None else [*able, claimed], default=None)
    reasons = [_find_skip_reason(each, policies, newest, is_missed=is_missed) for each, is_missed in zip(moments, missed, strict=True)]
    return list(_group_decisions(moments, reasons))


def _is_forgone(each: FireTime, policies: Policies, absent_until: datetime) -> bool:
    """Whether nobody ran when it came due, nor soon after, and it is not to be made up for."""
    return policies.catch_up is CatchUp.NONE and absent_until - each.due > RESTART_GRACE


def _find_skip_reason(each: FireTime, policies: Policies, newest: datetime | None, *, is_missed: bool) -> Reason | None:
    """Why it is not started; None when it is. ``newest`` is when the newest one is scheduled that can be or was."""
    coalesces = policies.catch_up is CatchUp.LATEST or (policies.catch_up is CatchUp.NONE and not is_missed)
    if coalesces and newest is not None and each.scheduled_for < newest:
        return Reason.COALESCED
    return Reason.MISSED if is_missed else None


def _group_decisions(moments: Sequence[FireTime], reasons: Sequence[Reason | None]) -> Iterator[Decision]:
    for reason, group in groupby(zip(moments, reasons, strict=True), key=itemgetter(1)):
        together = [each for each, _ in group]
        if reason is None:
            yield from map(StartDecision, together)
        else:
            yield SkipDecision(together, reason)


class Permission(StrEnum):
    """What concurrency says to an occurrence that is about to be sent."""

    GO = "go"
    WAIT = "wait"
    OVERLAP = "overlap"


def permit(policies: Policies, *, newest_run_unfinished: bool | None) -> Permission:
    """Whether to start beside the automation's newest run; None as its state: no reading begun after the due instant can tell."""
    if policies.concurrency is Concurrency.ALLOW or newest_run_unfinished is False:
        return Permission.GO
    if newest_run_unfinished is None or policies.concurrency is Concurrency.QUEUE:
        return Permission.WAIT
    return Permission.OVERLAP


def compute_effective_from(
    updated_at: datetime | None,
    *,
    clock_offset: float,
    previous_poll: datetime,
    this_poll: datetime,
    run_moved_it: bool,
) -> datetime:
    """From when an edit counts: the API's ``updated_at`` on our clock, clamped to between the two polls.

    ``clock_offset`` is how many seconds the API's clock is ahead. ``run_moved_it``: a run began or ended in between, which moves
    ``updated_at`` too, so that only the previous poll is certain.
    """
    counted = previous_poll
    if updated_at is not None and not run_moved_it:
        counted = max(updated_at - timedelta(seconds=clock_offset), previous_poll)
    return min(counted, this_poll)  # also when the clock was set back in between
