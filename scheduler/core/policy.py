"""The policies of one automation, and what they decide: pure functions from facts to decisions.

Instants are aware UTC; lateness and deadlines count from *due*, which is the scheduled instant plus the jitter.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from scheduler.core.model import Reason

_SHORTEST: Final = timedelta(minutes=5)
_LONGEST: Final = timedelta(hours=1)
RESTART_GRACE: Final = timedelta(seconds=60)
"""What came due while nobody ran is never missed up to this late: a restart."""


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


def start_within(policies: Policies, to_the_next: timedelta | None) -> timedelta:
    """How long after it is due an occurrence may start. Auto: half the time to the next one, at least 5 min, at most 1 h."""
    if policies.start_within is not None:
        return policies.start_within
    if to_the_next is None:
        return _LONGEST
    return min(max(to_the_next / 2, _SHORTEST), _LONGEST)


def jitter(policies: Policies, target: str, automation_id: str, to_the_next: timedelta | None) -> timedelta:
    """The automation's own share of its jitter: the same every time, and less than half the time to the next occurrence."""
    if not policies.jitter:
        return timedelta(0)
    digest = hashlib.sha256(f"{target}\0{automation_id}".encode()).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    most = policies.jitter if to_the_next is None else min(policies.jitter, to_the_next / 2)
    return timedelta(milliseconds=share * most / timedelta(milliseconds=1) // 1)


@dataclass(frozen=True, slots=True)
class Moment:
    """One scheduled instant of an automation, when it is due, and until when it may start."""

    scheduled_for: datetime
    due: datetime
    deadline: datetime


def moment(policies: Policies, target: str, automation_id: str, scheduled_for: datetime, following: datetime | None) -> Moment:
    """The moment of ``scheduled_for``, given the instant that follows it in the schedule."""
    to_the_next = None if following is None else following - scheduled_for
    due = scheduled_for + jitter(policies, target, automation_id, to_the_next)
    return Moment(scheduled_for, due, due + start_within(policies, to_the_next))


@dataclass(frozen=True, slots=True)
class Start:
    """Claim this one, and send it when it is due."""

    moment: Moment


@dataclass(frozen=True, slots=True)
class PassOver:
    """These, consecutive and in order, get their outcome now, without an attempt."""

    moments: Sequence[Moment]
    reason: Reason


Decision = Start | PassOver


def decide(moments: Sequence[Moment], policies: Policies, *, now: datetime, absent_until: datetime, paused: bool = False) -> list[Decision]:
    """What becomes of the moments of one automation that are planned together, in their order.

    ``absent_until``: nobody ran before this instant. ``paused``: by an operator, beyond what the policies say.
    """
    if paused or policies.paused:
        return [PassOver(moments, Reason.PAUSED)]
    startable = [_startable(each, policies, now, absent_until) for each in moments]
    if policies.catch_up is CatchUp.ALL:
        return _grouped(moments, lambda index: None if startable[index] else Reason.MISSED)
    newest = max((index for index, can in enumerate(startable) if can), default=-1)
    return _grouped(moments, lambda index: _beside(index, newest))


def _startable(each: Moment, policies: Policies, now: datetime, absent_until: datetime) -> bool:
    if now > each.deadline:
        return False
    nobody_ran = each.due <= absent_until and now - each.due > RESTART_GRACE
    return not (policies.catch_up is CatchUp.NONE and nobody_ran)


def _beside(index: int, newest: int) -> Reason | None:
    if index == newest:
        return None
    return Reason.COALESCED if index < newest else Reason.MISSED


def _grouped(moments: Sequence[Moment], reason_of: Callable[[int], Reason | None]) -> list[Decision]:
    decisions: list[Decision] = []
    begin = 0
    reasons = [reason_of(index) for index in range(len(moments))]
    while begin < len(moments):
        reason = reasons[begin]
        if reason is None:
            decisions.append(Start(moments[begin]))
            begin += 1
            continue
        end = begin
        while end < len(moments) and reasons[end] is reason:
            end += 1
        decisions.append(PassOver(moments[begin:end], reason))
        begin = end
    return decisions


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


def effective_from(
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
    if updated_at is None or run_moved_it:
        return previous_poll
    return min(max(updated_at - timedelta(seconds=clock_offset), previous_poll), this_poll)
