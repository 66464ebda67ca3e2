"""The request budget and the places under load: never exceeded, always used, and polls go on.

Requests are counted where they leave a process, as the API counts them. Nothing here knows how the daemon
divides its budget: what polls need (``R`` in `docs/semantics.md`) is estimated from above, out of the
settings alone.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import accumulate, pairwise

from scheduler.core.events import DaemonStarted, SnapshotTaken, TargetSaturated
from tests.simulation.checks.waits import JITTER, Turn, find_turns
from tests.simulation.evidence import Check, Evidence
from tests.simulation.network import Request, Sent
from tests.simulation.script import LIST, RETRIEVE, RUN
from tests.simulation.violation import Violation

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
RECOVERY = timedelta(seconds=150)
"""The longest hold of a target, or back-off, and what follows it."""
_RAREST_POLL = timedelta(minutes=2)
_POLL_SLACK = timedelta(seconds=30)
_SLACK = 0.05
_SHARE_OF_POLLS = 4
"""Polls and readings get one request of so many at most, however much they need."""
_MANY = 50
"""With fewer requests at once, the slots are the limit and not the budget."""
_WAITING_SHARE = 4
"""``max_waiting`` is so many times ``max_in_flight``, unless it is set."""
_HANGS = timedelta(seconds=2)
"""A request without an answer after a second hangs."""
_FEW = 3


# ---------------------------------------------------------------- the budget, from the side of the API


def the_budget_is_kept(evidence: Evidence) -> Check:
    """No process sends more requests than it may, in any minute and in any hour."""
    for target, link in evidence.world.links.items():
        limits = ((MINUTE, link.plan.requests_per_minute), (HOUR, link.plan.requests_per_hour))
        for process, times in _times_by_process(link.requests).items():
            for length, limit in limits:
                yield from _find_excess(evidence, f"process {process} of {target}", times, length, limit)


def _times_by_process(requests: Sequence[Request]) -> dict[int, list[datetime]]:
    found: defaultdict[int, list[datetime]] = defaultdict(list)
    for request in requests:
        found[request.process].append(request.at)
    return dict(found)


def _find_excess(
    evidence: Evidence, whose: str, times: Sequence[datetime], length: timedelta, limit: int
) -> Iterator[Violation]:
    for first, over in zip(times, times[limit:], strict=False):
        if over - first < length - JITTER and not evidence.is_ledger_in_trouble(first, over):
            yield Violation(
                "budget", f"{whose} sent {limit + 1} requests from {first} to {over}, in less than {length}"
            )
            return


def polls_go_on(evidence: Evidence) -> Check:
    """The list is read at least once per ``max(poll_interval, 2 min)`` while the API answers, whatever fires
    do.
    """
    interval = max(each.settings.schedule.poll_interval for each in evidence.world.configured)
    longest = max(interval, _RAREST_POLL) + _POLL_SLACK
    served = {
        told.process: told.at for told in evidence.world.events if isinstance(told.event, DaemonStarted)
    }
    for target in evidence.world.links:
        for process, begin in served.items():
            end: datetime = evidence.process(process).ended_at or evidence.world.clock.true_now()
            for before, after in pairwise([begin, *_find_readings(evidence, target, process), end]):
                if after - before > longest and evidence.quiet(target, before - RECOVERY, after - JITTER):
                    yield Violation(
                        "polls",
                        f"process {process} of {target} did not read the list from {before} to {after}",
                    )
                    break


def _find_readings(evidence: Evidence, target: str, process: int) -> list[datetime]:
    """Find when a process had read the whole list: it told so, and the API was asked."""
    lists = {
        request.at
        for request in evidence.link(target).requests
        if request.process == process and request.endpoint == LIST
    }
    told = (each for each in evidence.world.events if each.process == process)
    taken = [
        each.at for each in told if isinstance(each.event, SnapshotTaken) and each.event.target == target
    ]
    return taken if lists else []


def the_budget_is_used(evidence: Evidence) -> Check:
    """While something waits all the time, as much is sent as the budget allows."""
    if evidence.was_set:
        return
    interval = max(each.settings.schedule.poll_interval for each in evidence.world.configured)
    for target, link in evidence.world.links.items():
        plan = link.plan
        if plan.max_in_flight < _MANY:
            continue
        fires, readings = (
            [each.at for each in link.requests if each.endpoint == endpoint] for endpoint in (RUN, RETRIEVE)
        )
        waits = _merge(find_turns(evidence, target))
        for length, limit in ((MINUTE, plan.requests_per_minute), (HOUR, plan.requests_per_hour)):
            least = fires_of(evidence, target, length) * (1 - _SLACK) - 1
            for begin, end in _cut(waits, length + JITTER):
                quiet_since = (
                    begin - RECOVERY - interval
                )  # what a garbled list did not show waits for the next poll
                count = _count(fires, begin, end) + min(
                    _count(readings, begin, end), limit // _SHARE_OF_POLLS
                )
                if (
                    count < least
                    and not _binds_otherwise(evidence, target, length, end)
                    and evidence.quiet(target, quiet_since, end)
                ):
                    yield Violation(
                        "throughput",
                        f"{count} fires and readings of {target} from {begin} to {end}, "
                        f"of {limit} requests, while others wait",
                    )
                    break


def _count(times: Sequence[datetime], begin: datetime, end: datetime) -> int:
    return bisect_left(times, end) - bisect_left(times, begin)


def _merge(waits: Sequence[Turn]) -> list[tuple[datetime, datetime]]:
    """Merge the turns into the spans in which something waited all the time. The first second of each is not
    waiting yet.
    """
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


def _cut(
    spans: Sequence[tuple[datetime, datetime]], length: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """Cut the spans into pieces of this length, which overlap by half."""
    for begin, end in spans:
        for number in range(int((end - begin) / length * 2) - 1):
            yield begin + number * length / 2, begin + number * length / 2 + length


def _binds_otherwise(evidence: Evidence, target: str, length: timedelta, end: datetime) -> bool:
    """Return whether the other window of the budget was full at any time in the piece that ends then."""
    plan = evidence.link(target).plan
    if length is HOUR:
        return plan.requests_per_minute * 60 < plan.requests_per_hour
    times = [request.at for request in evidence.link(target).requests]
    count = bisect_left(times, end) - bisect_left(times, end - HOUR - length)
    return count >= plan.requests_per_hour * (1 - 1 / _SHARE_OF_POLLS) - _FEW


def fires_of(evidence: Evidence, target: str, length: timedelta) -> float:
    """Return how many fires fit in a window of this length at least: what is left when polls have what they
    need.
    """
    plan = evidence.link(target).plan
    limit = plan.requests_per_minute if length is MINUTE else plan.requests_per_hour
    interval = min(each.settings.schedule.poll_interval for each in evidence.world.configured)
    pages = max(1, -(-len(evidence.link(target).api.shapes) // min(plan.page, 1000)))
    needed = pages * (length / interval + length / MINUTE) + _FEW  # one before each minute at most, too
    return limit - min(needed, limit // _SHARE_OF_POLLS)


# ---------------------------------------------------------------- places


def no_more_are_under_way_than_allowed(evidence: Evidence) -> Check:
    """Requests to run that hang hold ``max_waiting`` places at most, and then those of ``max_in_flight``;
    that is shown.
    """
    for target, link in evidence.world.links.items():
        in_flight = link.plan.max_in_flight
        told = [
            each
            for each in evidence.world.events
            if isinstance(each.event, TargetSaturated) and each.event.target == target
        ]
        for process, sent in _sent_by_process(link.sent).items():
            most, at = _count_most(sent, timedelta(0))
            if most > in_flight + _WAITING_SHARE * in_flight:
                yield Violation(
                    "under way",
                    f"{most} requests of process {process} to {target} at {at}, "
                    f"with max_in_flight = {in_flight}",
                )
            hang, at = _count_most(sent, _HANGS)
            if hang >= _WAITING_SHARE * in_flight and not any(each.process == process for each in told):
                yield Violation(
                    "under way",
                    f"{hang} requests of process {process} to {target} hung at {at}, and nothing was told",
                )


def _sent_by_process(sent: Sequence[Sent]) -> dict[int, list[Sent]]:
    found: defaultdict[int, list[Sent]] = defaultdict(list)
    for each in sent:
        found[each.process].append(each)
    return dict(found)


def _count_most(sent: Sequence[Sent], after: timedelta) -> tuple[int, datetime | None]:
    """Return the largest number of requests that had no answer ``after`` they were sent, at one time, and
    that time.
    """
    changes = [(each.at + after, 1) for each in sent if each.ended is None or each.ended > each.at + after]
    changes += [(each.ended, -1) for each in sent if each.ended is not None and each.ended > each.at + after]
    counts = list(accumulate((change for _, change in sorted(changes)), initial=0))
    most = max(counts)
    return most, sorted(changes)[counts.index(most) - 1][0] if most else None
