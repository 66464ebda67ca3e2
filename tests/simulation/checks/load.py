"""The request budget under load: never exceeded, always used, shared fairly, and polls go on.

Requests are counted where they leave a process, as the API counts them. Nothing here knows how the daemon divides its budget: what polls
need (``R`` in `docs/semantics.md`) is estimated from above, out of the settings alone.
"""

import heapq
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from scheduler.core.events import DaemonStarted, SnapshotTaken
from scheduler.core.policy import Concurrency
from tests.simulation.evidence import Check, Evidence, Row
from tests.simulation.network import Request
from tests.simulation.script import LIST, RUN
from tests.simulation.violation import Violation

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
_JITTER = timedelta(seconds=2)
"""Between the place that a request gets in the budget and its first byte lie a commit and a connection."""
_RECOVERY = timedelta(seconds=150)
"""The longest hold of a target, or back-off, and what follows it."""
_RAREST_POLL = timedelta(minutes=2)
_POLL_SLACK = timedelta(seconds=30)
_SLACK = 0.05
_SHARE_OF_POLLS = 4
"""Polls and readings get one request of so many at most, however much they need."""
_MANY = 50
"""With fewer requests at once, the slots are the limit and not the budget."""
_EXCESS_SLACK = 0.10
_FEW = 3


# ---------------------------------------------------------------- the budget, from the side of the API


def the_budget_is_kept(evidence: Evidence) -> Check:
    """No process sends more requests than it may, in any minute and in any hour."""
    for target, link in evidence.world.links.items():
        limits = ((_MINUTE, link.plan.requests_per_minute), (_HOUR, link.plan.requests_per_hour))
        for process, times in _times_by_process(link.requests).items():
            for length, limit in limits:
                yield from _find_excess(evidence, f"process {process} of {target}", times, length, limit)


def _times_by_process(requests: Sequence[Request]) -> dict[int, list[datetime]]:
    found: defaultdict[int, list[datetime]] = defaultdict(list)
    for request in requests:
        found[request.process].append(request.at)
    return dict(found)


def _find_excess(evidence: Evidence, whose: str, times: Sequence[datetime], length: timedelta, limit: int) -> Iterator[Violation]:
    for first, over in zip(times, times[limit:], strict=False):
        if over - first < length - _JITTER and not _is_ledger_in_trouble(evidence, first, over):
            yield Violation("budget", f"{whose} sent {limit + 1} requests from {first} to {over}, in less than {length}")
            return


def _is_ledger_in_trouble(evidence: Evidence, begin: datetime, end: datetime) -> bool:
    """Return whether commits took long then: requests that had their place left later, and together."""
    return any(
        trouble.what.startswith("ledger") and trouble.begin <= end and (trouble.end is None or trouble.end >= begin)
        for trouble in evidence.world.troubles
    )


def polls_go_on(evidence: Evidence) -> Check:
    """The list is read at least once per ``max(poll_interval, 2 min)`` while the API answers, whatever fires do."""
    interval = max(each.settings.schedule.poll_interval for each in evidence.world.configured)
    longest = max(interval, _RAREST_POLL) + _POLL_SLACK
    served = {told.process: told.at for told in evidence.world.events if isinstance(told.event, DaemonStarted)}
    for target in evidence.world.links:
        for process, begin in served.items():
            end: datetime = evidence.process(process).ended_at or evidence.world.clock.true_now()
            for before, after in pairwise([begin, *_find_readings(evidence, target, process), end]):
                if after - before > longest and evidence.quiet(target, before - _RECOVERY, after - _JITTER):
                    yield Violation("polls", f"process {process} of {target} did not read the list from {before} to {after}")
                    break


def _find_readings(evidence: Evidence, target: str, process: int) -> list[datetime]:
    """Find when a process had read the whole list: it told so, and the API was asked."""
    lists = {request.at for request in evidence.link(target).requests if request.process == process and request.endpoint == LIST}
    told = (each for each in evidence.world.events if each.process == process)
    taken = [each.at for each in told if isinstance(each.event, SnapshotTaken) and each.event.target == target]
    return taken if lists else []


# ---------------------------------------------------------------- who waited, and for how long


@dataclass(frozen=True, slots=True)
class Wait:
    """An occurrence that was due at ``begin`` and had neither been sent nor got its outcome before ``end``."""

    row: Row
    begin: datetime
    end: datetime
    sent: bool


def _find_waits(evidence: Evidence, target: str) -> list[Wait]:
    """Find how long each occurrence waited that could have been sent at any time, in the order of due."""
    waits = []
    for row in evidence.rows:
        if row.target == target and row.count == 1 and not row.error and _is_free(evidence, row):
            sent = evidence.sent.get(evidence.key(row.occurrence), [])
            end = sent[0].at if sent else row.finished_at
            if end is not None and end > row.due:
                waits.append(Wait(row, row.due, end, bool(sent)))
    return sorted(waits, key=lambda wait: wait.begin)


def _is_free(evidence: Evidence, row: Row) -> bool:
    """Return whether nothing but its budget may hold it up."""
    policies = evidence.policies(row, row.due, row.finished_at or row.due)
    return all(each.concurrency is Concurrency.ALLOW and not each.paused for each in policies)


def the_budget_is_used(evidence: Evidence) -> Check:
    """While something waits all the time, as much is sent as the budget allows."""
    if evidence.was_set:
        return
    for target, link in evidence.world.links.items():
        plan = link.plan
        if plan.max_in_flight < _MANY:
            continue
        fires = [request.at for request in link.requests if request.endpoint == RUN]
        waits = _merge(_find_waits(evidence, target))
        for length, limit in ((_MINUTE, plan.requests_per_minute), (_HOUR, plan.requests_per_hour)):
            least = _fires_of(evidence, target, length) * (1 - _SLACK) - 1
            for begin, end in _cut(waits, length + _JITTER):
                count = bisect_left(fires, end) - bisect_left(fires, begin)
                if count < least and not _binds_otherwise(evidence, target, length, end) and evidence.quiet(target, begin - _RECOVERY, end):
                    yield Violation(
                        "throughput", f"{count} fires of {target} from {begin} to {end}, of {limit} requests, while others wait"
                    )
                    break


def _merge(waits: Sequence[Wait]) -> list[tuple[datetime, datetime]]:
    """Merge the waits into the spans in which something waited all the time. The first second of each is not waiting yet."""
    spans: list[tuple[datetime, datetime]] = []
    for wait in waits:
        begin = wait.begin + timedelta(seconds=1)
        if wait.end <= begin:
            continue
        if spans and begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], wait.end))
        else:
            spans.append((begin, wait.end))
    return spans


def _cut(spans: Sequence[tuple[datetime, datetime]], length: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Cut the spans into pieces of this length, which overlap by half."""
    for begin, end in spans:
        for number in range(int((end - begin) / length * 2) - 1):
            yield begin + number * length / 2, begin + number * length / 2 + length


def _binds_otherwise(evidence: Evidence, target: str, length: timedelta, end: datetime) -> bool:
    """Return whether the other window of the budget was full at any time in the piece that ends then."""
    plan = evidence.link(target).plan
    if length is _HOUR:
        return plan.requests_per_minute * 60 < plan.requests_per_hour
    times = [request.at for request in evidence.link(target).requests]
    count = bisect_left(times, end) - bisect_left(times, end - _HOUR - length)
    return count >= plan.requests_per_hour * (1 - 1 / _SHARE_OF_POLLS) - _FEW


def _fires_of(evidence: Evidence, target: str, length: timedelta) -> float:
    """Return how many fires fit in a window of this length at least: what is left when polls have what they need."""
    plan = evidence.link(target).plan
    limit = plan.requests_per_minute if length is _MINUTE else plan.requests_per_hour
    interval = min(each.settings.schedule.poll_interval for each in evidence.world.configured)
    pages = max(1, -(-len(evidence.link(target).api.shapes) // min(plan.page, 1000)))
    needed = pages * (length / interval + length / _MINUTE) + _FEW  # one before each minute at most, too
    return limit - min(needed, limit // _SHARE_OF_POLLS)


# ---------------------------------------------------------------- who lost


def no_automation_loses_more_than_the_excess(evidence: Evidence) -> Check:
    """Where the budget alone binds: beyond it by x %, no automation loses more than x % + 10 points of its occurrences."""
    for target in _where_the_budget_alone_counts(evidence):
        rows = _rows_of_the_storm(evidence, target)
        asked, lost = Counter[str](), Counter[str]()
        for row in rows:
            asked[row.automation_id] += row.count
            lost[row.automation_id] += row.count if _is_lost(row) else 0
        excess = max(0.0, asked.total() / _fires_of_the_storm(evidence, target) - 1)
        for automation_id, count in lost.items():
            if count > (excess + _EXCESS_SLACK) * asked[automation_id] + 1:
                text = f"{count} of {asked[automation_id]} are lost, and the budget is exceeded by {excess:.0%}"
                yield Violation("unfair", text, automation_id)


def what_fits_is_not_lost(evidence: Evidence) -> Check:
    """Where the budget alone binds: when it suffices for everything in the order of deadlines, nothing is lost."""
    for target in _where_the_budget_alone_counts(evidence):
        rows = _rows_of_the_storm(evidence, target)
        lost = [row for row in rows if _is_lost(row)]
        if lost and (evidence.world.setting.loses_nothing or _fits(evidence, target, rows)):
            text = f"{lost[0].fate}, one of {len(lost)}, and the budget suffices for all {len(rows)}"
            yield Violation("lost", text, lost[0].automation_id, lost[0].scheduled_for)


def the_first_precedes_the_second(evidence: Evidence) -> Check:
    """An occurrence that waits behind another one of its automation is not sent before one that nobody of its automation precedes."""
    if evidence.was_set:
        return
    for target in evidence.world.links:
        waits = [wait for wait in _find_waits(evidence, target) if wait.end - wait.begin > _JITTER]
        yield from _find_passed(evidence, target, waits)


def _find_passed(evidence: Evidence, target: str, waits: Sequence[Wait]) -> Iterator[Violation]:
    """Find a second one that was sent while the first one of another automation waited, since before its own first one was sent."""
    by_automation: defaultdict[str, list[Wait]] = defaultdict(list)
    for wait in waits:
        by_automation[wait.row.automation_id].append(wait)
    firsts = _Firsts(by_automation)
    for automation_id, own in by_automation.items():
        for first, second in pairwise(wait for wait in own if wait.sent):
            if second.begin > first.end - _JITTER:
                continue  # it did not wait behind the first one
            other = firsts.find_last_to_end(first.end - _JITTER, automation_id)
            if other is not None and other.end > second.end + _JITTER and evidence.quiet(target, other.row.due - _RECOVERY, other.end):
                text = f"sent at {second.end}, the second of its automation, and {other.row.occurrence} waited till {other.end}"
                yield Violation("passed", text, automation_id, second.row.scheduled_for)
                return


class _Firsts:
    """The waits of those that no other occurrence of their automation preceded, by when that began."""

    def __init__(self, by_automation: Mapping[str, Sequence[Wait]]) -> None:
        spans = [
            (max(wait.begin, before.end) if before else wait.begin, wait)
            for own in by_automation.values()
            for before, wait in pairwise((None, *own))
            if wait is not None
        ]
        spans.sort(key=lambda span: span[0])
        self._begins = [begin for begin, _ in spans]
        self._last: list[tuple[Wait, Wait | None]] = []  # of those up to here: the last to end, and the last of another automation
        for _, wait in spans:
            self._last.append(_keep_the_last(self._last[-1] if self._last else None, wait))

    def find_last_to_end(self, begin: datetime, but: str) -> Wait | None:
        """Find the wait that ended last of those that had begun by then, without those of one automation."""
        index = bisect_right(self._begins, begin)
        if not index:
            return None
        last, other = self._last[index - 1]
        return last if last.row.automation_id != but else other


def _keep_the_last(last: tuple[Wait, Wait | None] | None, wait: Wait) -> tuple[Wait, Wait | None]:
    if last is None:
        return wait, None
    best, other = last
    if wait.row.automation_id == best.row.automation_id:
        return (wait if wait.end > best.end else best), other
    if wait.end > best.end:
        return wait, best
    return best, (wait if other is None or wait.end > other.end else other)


def _where_the_budget_alone_counts(evidence: Evidence) -> Iterator[str]:
    """Return the targets where nothing else happens: no action, nothing queued, everything caught up with the newest."""
    if evidence.world.script.actions or evidence.world.setting.policies:
        return
    yield from evidence.world.links


def _rows_of_the_storm(evidence: Evidence, target: str) -> list[Row]:
    begin, end = evidence.world.setting.begin, evidence.world.calm_since
    assert end is not None
    return [row for row in evidence.rows if row.target == target and begin <= row.due < end - _JITTER]


def _is_lost(row: Row) -> bool:
    return row.outcome == "expired" or (row.outcome == "skipped" and row.reason in {"coalesced", "missed"})


def _fires_of_the_storm(evidence: Evidence, target: str) -> float:
    begin, end = evidence.world.setting.begin, evidence.world.calm_since
    assert end is not None
    return min(_fires_of(evidence, target, length) * max(1.0, (end - begin) / length) for length in (_MINUTE, _HOUR))


def _fits(evidence: Evidence, target: str, rows: Sequence[Row]) -> bool:
    """Return whether three of four places in each minute, given by deadline, suffice for all; the fourth goes by waiting time."""
    places = int(_fires_of(evidence, target, _MINUTE) * 3 / 4)
    per_hour = int(_fires_of(evidence, target, _HOUR))
    minutes: defaultdict[datetime, list[datetime]] = defaultdict(list)
    following = _find_following(rows)
    for row in rows:
        deadline = row.deadline or row.due + _MINUTE
        minutes[row.due.replace(second=0, microsecond=0)].append(min(deadline, following.get(row.id, deadline)))
    return _fit_all(minutes, places, per_hour)


def _find_following(rows: Sequence[Row]) -> dict[int, datetime]:
    """Find when the next occurrence of the same automation is due: it coalesces the one before."""
    by_automation: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_automation[row.automation_id].append(row)
    return {before.id: after.due for own in by_automation.values() for before, after in pairwise(own)}


def _fit_all(minutes: dict[datetime, list[datetime]], places: int, per_hour: int) -> bool:
    waiting: list[datetime] = []
    served: list[tuple[datetime, int]] = []
    minute, last = min(minutes), max(minutes)
    while minute <= last or waiting:
        for deadline in minutes.get(minute, ()):
            heapq.heappush(waiting, deadline)
        recent = sum(count for at, count in served if at > minute - _HOUR)
        count = min(places, len(waiting), per_hour - recent)
        for _ in range(count):
            if heapq.heappop(waiting) < minute + _MINUTE:
                return False
        served.append((minute, count))
        minute += _MINUTE
        if waiting and waiting[0] < minute:
            return False
    return True
