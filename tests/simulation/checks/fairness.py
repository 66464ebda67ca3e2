"""Who waits for the request budget, who goes first, and who loses: a shortage is shared.

Nothing here knows how the daemon chooses. Waiting is seen from outside: from when an occurrence was due until
its request left.
"""

import heapq
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise

from scheduler.core.events import BudgetExhausted
from tests.simulation.checks.load import HOUR, MINUTE, RECOVERY, fires_of
from tests.simulation.checks.waits import JITTER, Wait, find_turns, find_waits
from tests.simulation.evidence import Check, Evidence, Row
from tests.simulation.violation import Violation

_EXCESS_SLACK = 0.10
_UNDER_WAY = 10
"""Requests that had their place when somebody began to wait, or have it and are not sent yet."""


def no_automation_loses_more_than_the_excess(evidence: Evidence) -> Check:
    """Where the budget alone binds: beyond it by x %, no automation loses more than x % + 10 points of its
    occurrences.
    """
    for target in _where_the_budget_alone_counts(evidence):
        rows = _rows_of_the_storm(evidence, target)
        asked, lost = Counter[str](), Counter[str]()
        for row in rows:
            asked[row.automation_id] += row.count
            lost[row.automation_id] += row.count if _is_lost(row) else 0
        excess = max(0.0, asked.total() / _fires_of_the_storm(evidence, target) - 1)
        for automation_id, count in lost.items():
            if count > (excess + _EXCESS_SLACK) * asked[automation_id] + 1:
                text = (
                    f"{count} of {asked[automation_id]} are lost, and the budget is exceeded by {excess:.0%}"
                )
                yield Violation("unfair", text, automation_id)


def what_fits_is_not_lost(evidence: Evidence) -> Check:
    """Where the budget alone binds: when it suffices for everything in the order of deadlines, nothing is
    lost.
    """
    for target in _where_the_budget_alone_counts(evidence):
        rows = _rows_of_the_storm(evidence, target)
        lost = [row for row in rows if _is_lost(row)]
        if lost and (evidence.world.setting.loses_nothing or _fits(evidence, target, rows)):
            text = f"{lost[0].fate}, one of {len(lost)}, and the budget suffices for all {len(rows)}"
            yield Violation("lost", text, lost[0].automation_id, lost[0].scheduled_for)


def a_shortage_is_told(evidence: Evidence) -> Check:
    """Where the budget alone binds: what is lost to the request budget is lost while the shortage is
    shown.
    """
    for target in _where_the_budget_alone_counts(evidence):
        told = [
            each.at
            for each in evidence.world.events
            if isinstance(each.event, BudgetExhausted) and each.event.target == target
        ]
        for row in filter(_is_lost, _rows_of_the_storm(evidence, target)):
            end = row.finished_at or row.due
            if evidence.is_budget_busy(target, row.due, end) and not any(at <= end for at in told):
                yield Violation(
                    "shortage",
                    f"{row.fate} at {end}, and no shortage was told",
                    row.automation_id,
                    row.scheduled_for,
                )
                break


def the_first_precedes_the_second(evidence: Evidence) -> Check:
    """An occurrence that waits behind another one of its automation is not sent before one that nobody of its
    automation precedes.
    """
    if evidence.was_set:
        return
    for target in evidence.world.links:
        waits = [wait for wait in find_waits(evidence, target) if wait.end - wait.begin > JITTER]
        yield from _find_passed(evidence, target, waits)


def _find_passed(evidence: Evidence, target: str, waits: Sequence[Wait]) -> Iterator[Violation]:
    """Find a second one that was sent while the first one of another automation waited, since before its own
    first one was sent.
    """
    by_automation: defaultdict[str, list[Wait]] = defaultdict(list)
    for wait in waits:
        by_automation[wait.row.automation_id].append(wait)
    firsts = _Firsts(by_automation)
    for automation_id, own in by_automation.items():
        for first, second in pairwise(wait for wait in own if wait.sent):
            if second.begin > first.end - JITTER:
                continue  # it did not wait behind the first one
            other = firsts.find_last_to_end(first.end - JITTER, automation_id)
            if (
                other is not None
                and other.end > second.end + JITTER
                and evidence.quiet(target, other.row.due - RECOVERY, other.end)
            ):
                text = (
                    f"sent at {second.end}, the second of its automation, "
                    f"and {other.row.occurrence} waited till {other.end}"
                )
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
        self._last: list[
            tuple[Wait, Wait | None]
        ] = []  # of those up to here: the last to end, and the last of another automation
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


def every_fourth_goes_to_the_longest_waiting(evidence: Evidence) -> Check:
    """Where the budget alone binds: whoever waits is sent when four for each automation that waits longer,
    and for itself, were sent.
    """
    for target in _where_the_budget_alone_counts(evidence):
        turns = find_turns(evidence, target)
        begins, ends = sorted(turn.begin for turn in turns), sorted(turn.end for turn in turns)
        sent = sorted(each.at for each in evidence.link(target).sent)
        for turn in turns:
            longer = bisect_right(begins, turn.begin) - bisect_right(ends, turn.begin)  # and itself
            count = bisect_left(sent, turn.end - JITTER) - bisect_right(
                sent, turn.begin
            )  # it had its place by then, or soon after
            if count > 4 * longer + _UNDER_WAY and evidence.quiet(target, turn.begin, turn.end):
                text = (
                    f"waited from {turn.begin} until {turn.end} while {count} were sent, "
                    f"and {longer - 1} had waited longer"
                )
                yield Violation("longest waiting", text, turn.row.automation_id, turn.row.scheduled_for)
                break


def _where_the_budget_alone_counts(evidence: Evidence) -> Iterator[str]:
    """Return the targets where nothing else happens: no action, nothing queued, everything caught up with the
    newest.
    """
    if evidence.world.script.actions or evidence.world.setting.policies:
        return
    yield from evidence.world.links


def _rows_of_the_storm(evidence: Evidence, target: str) -> list[Row]:
    begin, end = evidence.world.setting.begin, evidence.world.calm_since
    assert end is not None
    return [row for row in evidence.rows if row.target == target and begin <= row.due < end - JITTER]


def _is_lost(row: Row) -> bool:
    return row.outcome == "expired" or (row.outcome == "skipped" and row.reason in {"coalesced", "missed"})


def _fires_of_the_storm(evidence: Evidence, target: str) -> float:
    begin, end = evidence.world.setting.begin, evidence.world.calm_since
    assert end is not None
    return min(
        fires_of(evidence, target, length) * max(1.0, (end - begin) / length) for length in (MINUTE, HOUR)
    )


def _fits(evidence: Evidence, target: str, rows: Sequence[Row]) -> bool:
    """Return whether three of four places in each minute, given by deadline, suffice for all; the fourth goes
    by waiting time.
    """
    places = int(fires_of(evidence, target, MINUTE) * 3 / 4)
    per_hour = int(fires_of(evidence, target, HOUR))
    minutes: defaultdict[datetime, list[datetime]] = defaultdict(list)
    following = _find_following(rows)
    for row in rows:
        deadline = row.deadline or row.due + MINUTE
        minutes[row.due.replace(second=0, microsecond=0)].append(
            min(deadline, following.get(row.id, deadline))
        )
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
        recent = sum(count for at, count in served if at > minute - HOUR)
        count = min(places, len(waiting), per_hour - recent)
        for _ in range(count):
            if heapq.heappop(waiting) < minute + MINUTE:
                return False
        served.append((minute, count))
        minute += MINUTE
        if waiting and waiting[0] < minute:
            return False
    return True
