"""The policies of one automation, and their decisions: pure functions from facts to decisions.

Instants are aware UTC. Lateness and deadlines count from *due*: the scheduled instant plus the jitter.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from scheduler.core.model import Reason

if TYPE_CHECKING:
    from scheduler.core.cron.schedule import Schedule  # at run time `--help` would load croniter

_SHORTEST: Final = timedelta(minutes=5)
_LONGEST: Final = timedelta(hours=1)
_MILLISECOND: Final = timedelta(milliseconds=1)
RESTART_GRACE: Final = timedelta(seconds=60)
"""Time from the due instant to a daemon's start within which the occurrence is not missed.

Such a short downtime was a restart.
"""


class CatchUp(StrEnum):
    """The occurrences to send when several occurrences of one automation are overdue at once."""

    LATEST = "latest"
    ALL = "all"
    NONE = "none"


class Concurrency(StrEnum):
    """The rule for an occurrence while the automation's newest run is not finished."""

    ALLOW = "allow"
    FORBID = "forbid"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class Policies:
    """All policies of one automation. ``start_within`` None is *auto*."""

    start_within: timedelta | None
    catch_up: CatchUp
    concurrency: Concurrency
    jitter: timedelta
    paused: bool


def compute_start_within(policies: Policies, to_the_next: timedelta | None) -> timedelta:
    """Return how long after its due instant an occurrence may start.

    *Auto* is half the time to the next occurrence, at least 5 minutes and at most 1 hour.
    """
    if policies.start_within is not None:
        return policies.start_within
    if to_the_next is None:
        return _LONGEST
    return min(max(to_the_next / 2, _SHORTEST), _LONGEST)


def compute_longest_delay(policies: Policies) -> timedelta:
    """Return the longest delay from scheduled instant to start, for any time to the next occurrence."""
    return policies.jitter + (_LONGEST if policies.start_within is None else policies.start_within)


def compute_jitter(
    policies: Policies, target: str, automation_id: str, to_the_next: timedelta | None
) -> timedelta:
    """Return the automation's own share of its jitter.

    The share is always the same, and less than half the time to the next occurrence.
    """
    if not policies.jitter:
        return timedelta(0)
    digest = hashlib.sha256(f"{target}\0{automation_id}".encode(errors="replace")).digest()
    most = policies.jitter if to_the_next is None else min(policies.jitter, to_the_next / 2)
    # Integers keep the share below the whole jitter.
    share = int.from_bytes(digest[:8]) * (most // _MILLISECOND) >> 64
    return share * _MILLISECOND


@dataclass(frozen=True, slots=True)
class FireTime:
    """One scheduled instant of an automation, with its due instant and its deadline."""

    scheduled_for: datetime
    due: datetime
    deadline: datetime


def make_fire_time(
    policies: Policies, target: str, automation_id: str, scheduled_for: datetime, following: datetime | None
) -> FireTime:
    """Return the fire time of ``scheduled_for``, given the schedule's following instant."""
    to_the_next = None if following is None else following - scheduled_for
    due = scheduled_for + compute_jitter(policies, target, automation_id, to_the_next)
    return FireTime(scheduled_for, due, due + compute_start_within(policies, to_the_next))


def compute_due(
    policies: Policies, target: str, automation_id: str, schedule: "Schedule | None", scheduled_for: datetime
) -> datetime:
    """Return the due instant of a scheduled instant. The schedule is evaluated only with jitter."""
    if not policies.jitter or schedule is None:
        return scheduled_for
    following = schedule.find_next(scheduled_for)
    return make_fire_time(policies, target, automation_id, scheduled_for, following).due


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision on consecutive occurrences, in order.

    Without a reason: claim these occurrences, and send each when due. With a reason: skip these occurrences
    now, without an attempt.
    """

    fire_times: Sequence[FireTime]
    reason: Reason | None


def decide(
    moments: Sequence[FireTime],
    policies: Policies,
    *,
    now: datetime,
    absent_until: datetime,
    paused: bool = False,
    claimed: datetime | None = None,
) -> list[Decision]:
    """Decide the fire times of one automation planned together, in their order.

    ``absent_until``: no daemon ran before this instant, a start or a resume after a suspend. ``paused``: an
    operator paused the automation, in addition to the policies. ``claimed``: the newest scheduled instant
    with a claim. An older occurrence, delayed until now, is overdue together with the claimed occurrence.
    """
    if paused or policies.paused:
        return [Decision(moments, Reason.PAUSED)]
    missed = [now > each.deadline or _is_forgone(each, policies, absent_until) for each in moments]
    pairs = list(zip(moments, missed, strict=True))
    able = [each.scheduled_for for each, is_missed in pairs if not is_missed]
    newest = max(able if claimed is None else [*able, claimed], default=None)
    reasons = [_find_skip_reason(each, policies, newest, is_missed=is_missed) for each, is_missed in pairs]
    return [
        Decision([each for each, _ in group], reason)
        for reason, group in groupby(zip(moments, reasons, strict=True), key=itemgetter(1))
    ]


def _is_forgone(each: FireTime, policies: Policies, absent_until: datetime) -> bool:
    """Return whether no daemon ran at the due instant or soon after, and ``catch_up`` is ``none``."""
    return policies.catch_up is CatchUp.NONE and absent_until - each.due > RESTART_GRACE


def _find_skip_reason(
    each: FireTime, policies: Policies, newest: datetime | None, *, is_missed: bool
) -> Reason | None:
    """Return why the occurrence is not started; None when it is started.

    ``newest`` is the scheduled instant of the newest occurrence that may start or has a claim.
    """
    coalesces = policies.catch_up is CatchUp.LATEST or (policies.catch_up is CatchUp.NONE and not is_missed)
    if coalesces and newest is not None and each.scheduled_for < newest:
        return Reason.COALESCED
    return Reason.MISSED if is_missed else None


class Permission(StrEnum):
    """The answer of the concurrency policy to an occurrence about to be sent."""

    GO = "go"
    WAIT = "wait"
    OVERLAP = "overlap"


def permit(policies: Policies, *, newest_run_unfinished: bool | None) -> Permission:
    """Return whether the occurrence may start beside the automation's newest run.

    ``newest_run_unfinished`` is None while no reading begun after the due instant shows the run's state.
    """
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
    """Return the instant from which an edit counts.

    The instant is the API's ``updated_at`` on the local clock, clamped to between the two polls.
    ``clock_offset`` is the API's clock minus the local clock, in seconds. ``run_moved_it``: a run began or
    ended between the polls and moved ``updated_at`` too. Then only the previous poll is certain.
    """
    counted = previous_poll
    if updated_at is not None and not run_moved_it:
        counted = max(updated_at - timedelta(seconds=clock_offset), previous_poll)
    return min(counted, this_poll)  # also when the clock was set back between the polls
