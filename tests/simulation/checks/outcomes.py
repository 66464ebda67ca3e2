"""Whether the reason of an outcome is true: that it was paused then, that there was a newer one, that it was
too late, and so on.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.policy import CatchUp, Concurrency, Policies
from tests.simulation.evidence import Check, Evidence, Row
from tests.simulation.network import Sent
from tests.simulation.script import Ledger
from tests.simulation.violation import Violation

_AHEAD = timedelta(seconds=1.1)
_SLACK = timedelta(seconds=2)
_LONG_AGO = timedelta(days=4)


def reasons_are_true(evidence: Evidence) -> Check:
    """Each outcome's reason, looked at from outside."""
    for row in evidence.rows:
        untrue = _RULES.get(row.reason or "")
        at = evidence.concluded_at(row)
        if untrue is not None and at is not None and (why := untrue(evidence, row, at)) is not None:
            yield Violation(
                "reason", f"{row.fate}, but {why} ({row.error})", row.automation_id, row.scheduled_for
            )


def _paused(evidence: Evidence, row: Row, at: datetime) -> str | None:
    """Paused when that was decided. A decision is on record after the commit before it and its own."""
    slowest = max(
        (each.took for each in evidence.world.script.actions if isinstance(each, Ledger)), default=0.0
    )
    claimed = min(row.claimed_at or at, row.scheduled_for, at) - _SLACK - timedelta(seconds=2 * slowest)
    if any(each.paused for each in evidence.policies(row, claimed, at)):
        return None
    for pause in evidence.world.pauses:
        held = pause.begin <= at and (pause.end is None or pause.end >= claimed - timedelta(seconds=1))
        if held and pause.target == row.target and pause.what in {"*", row.automation_id}:
            return None
    return "nobody had paused it"


def _missed(evidence: Evidence, row: Row, at: datetime) -> str | None:
    """Planned after its deadline, or not to be made up for."""
    assert row.finished_at is not None
    policies = evidence.policies(row, at - _LONG_AGO, at)
    if any(row.finished_at > _due(each, row) + _start_within(evidence, each, row) for each in policies):
        return None
    if any(each.catch_up is CatchUp.NONE for each in policies) and row.finished_at > row.due + timedelta(
        seconds=60
    ):
        return None
    return f"it was planned at {row.finished_at}, due at {row.due}, with {policies}"


def _due(policies: Policies, row: Row) -> datetime:
    return row.due if policies.jitter else row.scheduled_for


def _start_within(evidence: Evidence, policies: Policies, row: Row) -> timedelta:
    """How long after it was due it may start; of what is possible the shortest."""
    if policies.start_within is not None:
        return policies.start_within
    versions = evidence.versions[row.target, row.automation_id]
    spans = [
        _to_the_next(version.schedule, row.scheduled_for, rules)
        for version in versions
        for rules in evidence.variants
    ]
    shortest = min((each for each in spans if each is not None), default=timedelta(0))
    return min(max(shortest / 2, timedelta(minutes=5)), timedelta(hours=1))


def _to_the_next(
    schedule: tuple[str, str] | None, instant: datetime, rules: tuple[str, str] = ("after", "once")
) -> timedelta | None:
    if schedule is None:
        return None
    try:
        following = Schedule.parse(*schedule, dst_gap=rules[0], dst_repeat=rules[1]).find_next(instant)  # type: ignore[arg-type]  # as settings
    except InvalidSchedule:
        return None
    return None if following is None else following - instant


def _coalesced(evidence: Evidence, row: Row, at: datetime) -> str | None:
    """A newer one was due by then."""
    wall = row.finished_at or at
    rows = evidence.rows_of[row.target, row.automation_id]
    newer = [each for each in rows if each.scheduled_for > row.last and each.scheduled_for <= wall + _AHEAD]
    if not newer and not evidence.was_set_back:
        return f"there was no newer one at {wall}"
    policies = evidence.policies(row, at - _LONG_AGO, at)
    if all(each.catch_up is CatchUp.ALL and each.concurrency is not Concurrency.QUEUE for each in policies):
        return "all were to be caught up with"
    return None


def _overlap(evidence: Evidence, row: Row, at: datetime) -> str | None:
    """Its policy forbids, and some run of it was not finished when it was looked at after it was due."""
    if not any(
        each.concurrency is Concurrency.FORBID for each in evidence.policies(row, at - timedelta(hours=3), at)
    ):
        return "its policy does not forbid that"
    begin = min(row.due, at) - timedelta(seconds=30)
    if not evidence.right(begin, at):
        return None
    for run in evidence.runs_of.get((row.target, row.automation_id), []):
        ended = evidence.link(row.target).api.ends.get(run.id)
        if run.at <= at and (ended is None or ended >= begin):
            return None
    return "no run of it was unfinished"


def _deleted(evidence: Evidence, row: Row, at: datetime) -> str | None:
    """By then it was gone, disabled, not to be evaluated, or edited so that it does not fire at this
    instant.
    """
    api = evidence.link(row.target).api
    first = api.shapes[row.automation_id][0].at
    shapes = api.shapes_between(row.automation_id, max(row.scheduled_for - timedelta(hours=1), first), at)
    zones = any(each.zones_missing for each in evidence.world.configured)
    if evidence.is_hidden(row.automation_id, row.scheduled_for - timedelta(hours=1), at):
        return None
    if (
        any(shape.fires is None or _to_the_next(shape.fires, row.scheduled_for) is None for shape in shapes)
        or zones
        or evidence.was_set
    ):
        return None
    just_before = row.scheduled_for - timedelta(microseconds=1)
    if row.count == 1 and any(
        not evidence.implied(shape.fires, just_before, row.scheduled_for)[0] for shape in shapes
    ):
        return None
    return f"the API had it all the time: {[shape.text for shape in shapes]}"


def _expired(_evidence: Evidence, row: Row, at: datetime) -> str | None:
    """Its deadline was over."""
    assert row.finished_at is not None
    if row.deadline is None or row.finished_at >= row.deadline - timedelta(seconds=0.01):
        return None
    return f"its deadline was {row.deadline}, and it was {row.finished_at}, at {at}"


def _refused(evidence: Evidence, row: Row, _at: datetime) -> str | None:
    sent = evidence.sent.get(evidence.key(row.occurrence), [])
    refusals = [each for each in sent if _refuses(each)]
    return None if refusals else f"the API refused nothing: {sent}"


def _refuses(sent: Sent) -> bool:
    return (
        sent.status is not None and 400 <= sent.status < 500 and sent.status not in {401, 404, 408, 425, 429}
    )


def _answered(evidence: Evidence, row: Row, _at: datetime) -> str | None:
    sent = evidence.sent.get(evidence.key(row.occurrence), [])
    return (
        None
        if any(each.status is not None and 200 <= each.status < 300 for each in sent)
        else f"no request was answered well: {sent}"
    )


def _unreadable(evidence: Evidence, row: Row, at: datetime) -> str | None:
    sent = evidence.sent.get(evidence.key(row.occurrence), [])
    if sent and at - sent[-1].at < timedelta(hours=24):
        return "it had not been tried for 24 hours"
    return None


def _gone(evidence: Evidence, row: Row, at: datetime) -> str | None:
    shapes = evidence.link(row.target).api.shapes[row.automation_id]
    if any(shape.document is None and shape.at <= at for shape in shapes):
        return None
    return "it was never deleted"


_RULES: Final[Mapping[str, Callable[[Evidence, Row, datetime], str | None]]] = {
    "paused": _paused,
    "missed": _missed,
    "coalesced": _coalesced,
    "overlap": _overlap,
    "deleted": _deleted,
    "not_started": _expired,
    "refused": _refused,
    "answered": _answered,
    "unreadable": _unreadable,
    "gone": _gone,
}
