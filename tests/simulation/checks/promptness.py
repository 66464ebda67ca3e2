"""When what was sent: not before its time, not after somebody had stopped it, and in time when nothing was in
its way.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from scheduler.core.events import DaemonStarted, OccurrenceOverdue, TargetHeld, TargetReleased
from scheduler.core.policy import CatchUp, Concurrency
from tests.simulation.api import Shape
from tests.simulation.evidence import Check, Evidence, Row
from tests.simulation.network import AskedWait, Link, Request
from tests.simulation.script import LIST
from tests.simulation.violation import Violation
from tests.simulation.world import Told

_TICK = timedelta(milliseconds=1)
_RECOVERY = timedelta(seconds=150)
"""The longest hold of a target, or back-off, and what follows it."""
_PAUSED_WITHIN = timedelta(seconds=15)
"""A durable attempt is sent within ten seconds, also during a pause; and connections take their time."""
_MANY = 50
"""With fewer requests at once or a minute, automations that are due together wait for each other."""
_TOLD_WITHIN = timedelta(seconds=150)
"""The overdue check looks every half minute, and twice; a ledger in trouble makes it slower."""
_ROOM = timedelta(seconds=20)
_AT_ONCE = timedelta(seconds=1)
"""Attempts that were about to be sent when their target was held leave within this time."""
_LONG_WAIT = 60.0
"""Seconds. A longer wait that the API asks for outlives a restart."""
_LONGEST_WAIT = 24 * 3600.0
"""A longer ``Retry-After`` counts as a day, and the API is asked again then (THROTTLE-2)."""
_RECORDED_WITHIN = timedelta(seconds=5)


def nothing_before_its_time(evidence: Evidence) -> Check:
    """No request leaves before it is due, by the machine's clock; nor by the true one, unless the machine's
    was wrong.
    """
    for row in evidence.rows:
        for sent in evidence.sent.get(evidence.key(row.occurrence), []):
            if sent.wall < row.due - _TICK and not _set_back_before(evidence, sent.at):
                yield Violation(
                    "early",
                    f"sent at {sent.wall} by its clock, due at {row.due}",
                    row.automation_id,
                    row.scheduled_for,
                )
            if sent.at < row.scheduled_for - _TICK and not evidence.was_set:
                yield Violation("early", f"sent at {sent.at}", row.automation_id, row.scheduled_for)


def _set_back_before(evidence: Evidence, at: datetime) -> bool:
    """Whether the clock was set back while the request was on its way out: it was due by the clock that let
    it go.
    """
    offsets = evidence.world.offsets
    return any(
        after[1] < before[1] and _ROOM >= at - after[0] >= timedelta(0) for before, after in pairwise(offsets)
    )


def nothing_that_was_stopped(evidence: Evidence) -> Check:
    """Nothing is sent for an automation that the list had shown to the process as disabled, or unusable."""
    for link in evidence.world.links.values():
        for sent in link.sent if link.plan.has_one_page else ():
            stopped = _stopped_since(
                link.api.shapes_between(sent.automation_id, evidence.world.setting.begin, sent.at)
            )
            if stopped is None:
                continue
            for each in evidence.shown(sent.automation_id, stopped, sent.at - timedelta(milliseconds=50)):
                if (
                    each.process == sent.process
                    and each.endpoint == LIST
                    and each.begun - timedelta(seconds=each.lag) > stopped
                ):
                    text = f"sent at {sent.at}, stopped at {stopped}, shown at {each.ended}"
                    yield Violation("stopped", text, sent.automation_id)
                    break


def _stopped_since(shapes: Sequence[Shape]) -> datetime | None:
    """Since when an automation that is there fires nothing; None while it does, and when it is gone."""
    since = None
    for shape in reversed(shapes):
        if shape.document is None or shape.fires is not None:
            break
        since = shape.at
    return since


def nothing_that_was_paused(evidence: Evidence) -> Check:
    """Nothing is sent of what an operator had paused some seconds before."""
    for pause in evidence.world.pauses:
        for sent in evidence.link(pause.target or "").sent:
            paused = pause.begin + _PAUSED_WITHIN < sent.at and (pause.end is None or sent.at < pause.end)
            if paused and pause.what in {"*", sent.automation_id}:
                yield Violation(
                    "paused", f"sent at {sent.at}, paused since {pause.begin}", sent.automation_id
                )


def what_had_its_chance_was_sent(evidence: Evidence) -> Check:
    """What was not sent, or was sent late, had something in its way, all the time that it could have been
    sent.
    """
    for row in evidence.rows:
        if row.count == 1 and evidence.right(
            row.scheduled_for - _RECOVERY, row.scheduled_for + timedelta(hours=2)
        ):
            if (
                row.outcome == "expired"
                or row.reason == "missed"
                or (row.reason == "coalesced" and _is_known(evidence, row, row.due))
            ):
                yield from _not_sent(evidence, row)
            elif row.outcome == "accepted":
                yield from _late(evidence, row)


def what_is_overdue_is_told(evidence: Evidence) -> Check:
    """What has no outcome for minutes after its deadline, and is not being found out, shows in an event."""
    overdue = [told for told in evidence.world.events if isinstance(told.event, OccurrenceOverdue)]
    for row in evidence.rows:
        at, deadline = evidence.concluded_at(row), _deadline(evidence, row)
        if at is None or deadline is None or at < deadline + _TOLD_WITHIN or evidence.was_set:
            continue
        if any(each.result in {None, "unknown"} for each in row.attempts) or _may_queue(evidence, row, at):
            continue
        if row.outcome == "accepted" and any(
            each.at <= deadline for each in evidence.sent.get(evidence.key(row.occurrence), [])
        ):
            continue  # it was sent in time, and its answer could not be recorded
        if (known := evidence.known_since(row)) is None or known + _TOLD_WITHIN > at:
            continue  # an edit that was seen only then had implied it
        served = [
            each for each in _opened(evidence) if each.at < row.due - _ROOM and _outlived(evidence, each, at)
        ]
        told = [
            each
            for each in overdue
            if row.due <= each.at <= deadline + _TOLD_WITHIN and _target_of(each) == row.target
        ]
        if served and not told and not evidence.slept(deadline, at):
            yield Violation(
                "overdue",
                f"{row.fate} at {at}, due until {deadline}, and nothing was told",
                row.automation_id,
                row.scheduled_for,
            )


def a_held_target_is_probed(evidence: Evidence) -> Check:
    """While a target is held, one attempt is under way at most: the probe."""
    for begin, end, process, target in _holds(evidence):
        sent = [
            each
            for each in evidence.link(target).sent
            if each.process == process and begin + _AT_ONCE < each.at < end
        ]
        for before, after in pairwise(sent):
            if before.ended is None or before.ended > after.at:
                yield Violation(
                    "probe",
                    f"sent at {after.at} to {target}, held since {begin}, beside another",
                    after.automation_id,
                )


def _holds(evidence: Evidence) -> Iterator[tuple[datetime, datetime, int, str]]:
    """Find from when to when which process held which target."""
    since: dict[tuple[int, str], datetime] = {}
    for told in evidence.world.events:
        match told.event:
            case TargetHeld(target=target):
                since.setdefault((told.process, target), told.at)
            case TargetReleased(target=target) if (
                begin := since.pop((told.process, target), None)
            ) is not None:
                yield begin, told.at, told.process, target


def _opened(evidence: Evidence) -> list[Told]:
    """When each process had opened its ledger: before that it has no definitions, and tells that the ledger
    fails.
    """
    return [told for told in evidence.world.events if isinstance(told.event, DaemonStarted)]


def _outlived(evidence: Evidence, told: Told, at: datetime) -> bool:
    ended = evidence.process(told.process).ended_at
    return ended is None or ended > at


def _deadline(evidence: Evidence, row: Row) -> datetime | None:
    """Until when it may start, at the latest; what was missed was never claimed, and has none on record."""
    if row.deadline is not None or row.reason not in {"missed", "coalesced"} or row.finished_at is None:
        return row.deadline
    allowed = [
        each.start_within or timedelta(hours=1) for each in evidence.policies(row, row.due, row.finished_at)
    ]
    return row.due + max(allowed) if allowed else None


def _target_of(told: Told) -> str | None:
    return told.event.occurrence.target if isinstance(told.event, OccurrenceOverdue) else None


def _may_queue(evidence: Evidence, row: Row, at: datetime) -> bool:
    return any(each.concurrency is Concurrency.QUEUE for each in evidence.policies(row, row.due, at))


def _not_sent(evidence: Evidence, row: Row) -> Check:
    policies = evidence.policies(
        row, row.scheduled_for - timedelta(days=1), row.scheduled_for + timedelta(hours=3)
    )
    if any(
        each.concurrency is not Concurrency.ALLOW or each.start_within is not None or each.paused
        for each in policies
    ):
        return
    begin = row.due
    # A definition that was seen later, an edit or the end of a broken object, implied the occurrence.
    if (known := evidence.known_since(row)) is None or known > begin:
        return
    settle = timedelta(seconds=60)
    if evidence.is_budget_busy(row.target, begin - _RECOVERY, row.finished_at or begin):
        return
    if evidence.quiet(row.target, begin - _RECOVERY - settle, begin + _ROOM, row.automation_id):
        yield Violation(
            "no chance",
            f"{row.fate}, and nothing was in its way from the beginning",
            row.automation_id,
            row.scheduled_for,
        )


def _is_known(evidence: Evidence, row: Row, at: datetime) -> bool:
    """Whether the definition that implied it was there long before, and did not change until then."""
    begin = row.scheduled_for - _RECOVERY - timedelta(seconds=90)
    shapes = evidence.link(row.target).api.shapes_between(row.automation_id, begin, at)
    return bool(shapes) and shapes[0].at <= begin and len({shape.fires for shape in shapes}) == 1


def _in_turn(evidence: Evidence, row: Row) -> timedelta:
    """Return how late it may be: two seconds, and the time that all who are due with it take through the
    slots.
    """
    plan = evidence.link(row.target).plan
    turns = evidence.crowd(row) / plan.max_in_flight
    return timedelta(seconds=2 + 2 * plan.latency * turns)


def _late(evidence: Evidence, row: Row) -> Check:
    sent, plan = evidence.sent.get(evidence.key(row.occurrence), []), evidence.link(row.target).plan
    if (
        not sent
        or sent[0].at <= row.due + _in_turn(evidence, row)
        or plan.max_in_flight < _MANY
        or plan.requests_per_minute < _MANY
    ):
        return
    policies = evidence.policies(row, row.scheduled_for - timedelta(days=1), sent[0].at)
    if any(each.concurrency is not Concurrency.ALLOW or each.catch_up is CatchUp.ALL for each in policies):
        return
    known = evidence.known_since(row)  # the end of a broken object is seen as late as an edit
    if known is None or known > row.due:
        return
    if not _is_known(evidence, row, sent[0].at) or evidence.is_budget_busy(row.target, row.due, sent[0].at):
        return  # it may be due by a definition that nobody knew at the time
    begin = row.scheduled_for - _RECOVERY - timedelta(seconds=90)
    if evidence.quiet(row.target, begin, sent[0].at, row.automation_id):
        yield Violation(
            "late",
            f"sent at {sent[0].at}, due at {row.due}, and nothing was in its way",
            row.automation_id,
            row.scheduled_for,
        )


def nothing_while_the_api_asks_to_wait(evidence: Evidence) -> Check:
    """No request leaves before the end of a long wait that the API asked for: not in the process that heard
    it, nor in later ones.

    A process that was killed at once, or could not write, may leave nothing to the next one. Nor can the next
    one know the end of the wait when the wall clock was set.
    """
    for link in evidence.world.links.values():
        times = sorted(request.at for request in link.requests)
        for wait in link.throttled:
            if wait.seconds > _LONG_WAIT:
                seconds = min(wait.seconds, _LONGEST_WAIT)
                begin, end = wait.at + _AT_ONCE, wait.at + timedelta(seconds=seconds) - _AT_ONCE
                if begin < end and bisect_left(times, begin) < bisect_left(times, end):
                    yield from _find_impatient(evidence, link, wait, end)


def _find_impatient(evidence: Evidence, link: Link, wait: AskedWait, end: datetime) -> Check:
    """Find the first request that left during a wait without an excuse."""
    for request in link.requests:
        if not wait.at + _AT_ONCE < request.at < end:
            continue
        if request.process == wait.process or _knew(evidence, wait, request):
            text = (
                f"process {request.process} sent {request.endpoint} at {request.at}, "
                f"asked at {wait.at} to wait {wait.seconds:g} s"
            )
            yield Violation("impatient", text)
            return


def _knew(evidence: Evidence, wait: AskedWait, request: Request) -> bool:
    """Return whether a later process can be expected to know of a wait.

    A ledger from a backup holds no wait that began after the backup.
    """
    if any(
        each.backed_up <= wait.at + _RECORDED_WITHIN and wait.at < each.restored <= request.at
        for each in evidence.world.restorations
    ):
        return False
    heard_by = evidence.process(wait.process)
    ended = heard_by.ended_at or request.at
    had_time = ended - wait.at > _RECORDED_WITHIN and not evidence.is_ledger_in_trouble(wait.at, ended)
    return had_time and not evidence.was_set
