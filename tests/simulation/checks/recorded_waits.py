"""What is recorded as waiting agrees with what the world saw: each recorded wait had its cause, and each long
wait has one on record.

A wall clock that was set makes recorded instants incomparable, so such worlds are left out.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.events import DaemonStarted, DeliveryFailed, TargetHeld, TargetReleased
from scheduler.core.model import AttemptResult
from scheduler.core.occurrence_log import WAITS_FOR, Cause
from scheduler.core.policy import Concurrency
from tests.simulation.evidence import Check, Evidence, Row, StepRow
from tests.simulation.violation import Violation

_TICK = timedelta(seconds=2)
"""Between what a process does and what is told of it lie a commit and a turn of its loop."""
_LONG = timedelta(seconds=25)
"""A shorter wait may have no cause on record when its process was killed.

A wait is written after it has lasted for some seconds.
"""
_UNTOLD = timedelta(seconds=15)
_REQUEST = timedelta(seconds=35)
"""The longest time of a request."""
_BACK_OFF = timedelta(seconds=90)
_SLOW_COMMITS = timedelta(seconds=5)
"""A disk that takes half a second for a commit makes some writes wait for others."""

Span = tuple[datetime, datetime]


def recorded_waits_are_true(evidence: Evidence) -> Check:
    """A recorded wait had the cause that it names, it ended after it began, and only a killed process leaves
    it without its end.
    """
    if evidence.was_set:
        return
    for row in evidence.rows:
        for step in row.steps:
            if why := _find_wrong(evidence, row, step):
                text = f"{step.cause} from {step.at} to {step.until}, {why}"
                yield Violation("recorded wait", text, row.automation_id, row.scheduled_for)


def _find_wrong(evidence: Evidence, row: Row, step: StepRow) -> str | None:
    if step.until is not None and step.until < step.at:
        return "which ends before it begins"
    if (
        step.cause in WAITS_FOR
        and step.until is None
        and row.finished_at is not None
        and not _was_cut_off(evidence, step.at, row.finished_at)
    ):
        return "which has no end although no process was killed"
    return (
        None
        if _had_cause(evidence, row, step, step.until or evidence.world.ended or step.at)
        else "when there was no such cause"
    )


def _was_cut_off(evidence: Evidence, begin: datetime, end: datetime) -> bool:
    """Whether the process that ran at the beginning could not write the end: it was killed, or the ledger
    took nothing when it stopped.
    """
    ran = [
        each
        for each in evidence.world.processes
        if each.began <= begin and (each.ended_at is None or each.ended_at >= begin)
    ]
    return any(each.killed and each.ended_at is not None and each.ended_at <= end for each in ran) or any(
        each.ended_at is not None and evidence.is_ledger_in_trouble(each.ended_at - _REQUEST, each.ended_at)
        for each in ran
    )


def _had_cause(evidence: Evidence, row: Row, step: StepRow, until: datetime) -> bool:
    """Whether the world had the cause at some moment of the wait, as far as that can be seen from outside."""
    look = _LOOKS.get(Cause(step.cause))
    return look is None or look(evidence, row, (step.at, until))


def _was_held(evidence: Evidence, row: Row, span: Span) -> bool:
    return any(begin - _TICK <= span[0] <= end + _TICK for begin, end in _held(evidence, row.target))


def _held(evidence: Evidence, target: str) -> Iterator[Span]:
    """From when to when any process held the target: until it was released, or the process ended."""
    since: dict[int, datetime] = {}
    for told in evidence.world.events:
        if isinstance(told.event, TargetHeld) and told.event.target == target:
            since.setdefault(told.process, told.at)
        elif isinstance(told.event, TargetReleased) and told.event.target == target and told.process in since:
            yield since.pop(told.process), told.at
    for process, begin in since.items():
        yield begin, evidence.process(process).ended_at or evidence.world.ended or begin


def _was_slow(evidence: Evidence, _: Row, span: Span) -> bool:
    is_short = span[1] - span[0] < _SLOW_COMMITS or evidence.slept(
        *span
    )  # a machine that sleeps takes a commit along
    return is_short or evidence.is_ledger_in_trouble(span[0] - _BACK_OFF, span[1])


def _was_full(evidence: Evidence, row: Row, span: Span) -> bool:
    """An attempt that waits for the ledger has its place already, and so has an attempt that finds no
    connection: the API sees nothing of the latter.
    """
    link = evidence.link(row.target)
    under_way = sum(
        each.at <= span[1] and (each.ended is None or each.ended >= span[0]) for each in link.sent
    )
    return (
        under_way >= link.plan.max_in_flight
        or evidence.is_ledger_in_trouble(*span)
        or under_way + _count_unsent(evidence, row.target, span) >= link.plan.max_in_flight
    )


def _count_unsent(evidence: Evidence, target: str, span: Span) -> int:
    """Count the attempts of a target during the span of which nothing was sent."""
    return sum(
        each.result == AttemptResult.NOT_SENT
        and each.written_at <= span[1]
        and (each.ended_at is None or each.ended_at >= span[0])
        for other in evidence.rows
        if other.target == target
        for each in other.attempts
    )


def _had_failed(evidence: Evidence, row: Row, _: Span) -> bool:
    return bool(row.attempts) or any(isinstance(each.event, DeliveryFailed) for each in evidence.world.events)


def _may_wait_for_runs(evidence: Evidence, row: Row, span: Span) -> bool:
    policies = evidence.policies(row, row.due - timedelta(days=1), span[1])
    return any(each.concurrency is not Concurrency.ALLOW for each in policies)


def _was_behind(evidence: Evidence, row: Row, span: Span) -> bool:
    others = [other for other in evidence.rows_of[row.target, row.automation_id] if other is not row]
    return any(_is_open(evidence, other, span[0] - _TICK, span[1]) for other in others)


_LOOKS: Final[Mapping[Cause, Callable[[Evidence, Row, Span], bool]]] = {
    Cause.HELD: _was_held,
    Cause.LEDGER: _was_slow,
    Cause.BUDGET: lambda evidence, row, span: evidence.is_budget_busy(row.target, *span),
    Cause.IN_FLIGHT: _was_full,
    Cause.BACK_OFF: _had_failed,
    Cause.QUEUED: _may_wait_for_runs,
    Cause.READING: _may_wait_for_runs,
    Cause.TURN: _was_behind,
}


def _is_open(evidence: Evidence, row: Row, begin: datetime, end: datetime) -> bool:
    """Whether a row was open at some moment from ``begin`` to ``end``: until its outcome, which a ledger in
    trouble takes later.
    """
    if row.claimed_at is None or row.claimed_at > end:
        return False
    if row.finished_at is None or row.finished_at >= begin:
        return True
    return any(
        first - _TICK <= row.finished_at <= last and last >= begin for first, last in _troubled(evidence)
    )


def what_waited_long_has_its_causes(evidence: Evidence) -> Check:
    """Of the time between due and sent no long part is without a cause on record, unless no process ran or
    the ledger took no writes.
    """
    if evidence.was_set:
        return
    excused = [*_without_process(evidence), *_troubled(evidence)]
    for row in evidence.rows:
        begin, end = _waited(evidence, row)
        if end - begin < _LONG:
            continue
        told = [(step.at, step.until or _end_of(evidence, step.at, end)) for step in row.steps]
        tried = [(each.written_at, each.written_at + _REQUEST) for each in row.attempts]
        for untold in _uncovered((begin, end), [*excused, *told, *tried]):
            if untold[1] - untold[0] > _UNTOLD:
                text = (
                    f"{row.fate}, waited from {begin} to {end}, "
                    f"and nothing is on record from {untold[0]} to {untold[1]}"
                )
                yield Violation("unrecorded wait", text, row.automation_id, row.scheduled_for)
                break


def _waited(evidence: Evidence, row: Row) -> Span:
    """From when to when a claimed occurrence could have been sent and was not."""
    known = evidence.known_since(row)
    if row.count > 1 or row.claimed_at is None or known is None:
        return row.due, row.due
    sent = evidence.sent.get(evidence.key(row.occurrence), [])
    begin = max(row.due, known)
    return begin, max(begin, sent[0].at if sent else row.finished_at or begin)


def _end_of(evidence: Evidence, begin: datetime, end: datetime) -> datetime:
    """Until when the process ran that began a wait then."""
    return min(
        (
            each.ended_at
            for each in evidence.world.processes
            if each.ended_at is not None and each.ended_at >= begin
        ),
        default=end,
    )


def _without_process(evidence: Evidence) -> Iterator[Span]:
    """Times in which no process served: from the end of one until the next one had opened its ledger."""
    opened = {
        told.process: told.at
        for told in reversed(evidence.world.events)
        if isinstance(told.event, DaemonStarted)
    }
    before = evidence.world.setting.begin
    for process in sorted(evidence.world.processes, key=lambda each: each.began):
        if process.number in opened:
            yield before, opened[process.number] + _UNTOLD
            before = process.ended_at or evidence.world.ended or before


def _troubled(evidence: Evidence) -> Iterator[Span]:
    for trouble in evidence.world.troubles:
        if trouble.what.startswith("ledger") or trouble.what == "suspended":
            yield trouble.begin, (trouble.end or evidence.world.ended or trouble.begin) + _BACK_OFF


def _uncovered(whole: Span, spans: list[Span]) -> Iterator[Span]:
    begin, end = whole
    for first, last in sorted(spans):
        if first > begin:
            yield begin, min(first, end)
        begin = max(begin, last)
        if begin >= end:
            return
    yield begin, end
