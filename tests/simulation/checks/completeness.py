"""Definitions and occurrences: what a version implied while it was in force has its one row, and no row is
without such a version.

Once by the versions that the ledger recorded, and once by what the API really had, for what the daemon cannot
help knowing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate, pairwise

from scheduler.core.events import SnapshotTaken
from scheduler.core.instants import from_text
from tests.simulation.api import Shape
from tests.simulation.evidence import Check, Evidence, Row, VersionRow
from tests.simulation.script import Fault, Weather
from tests.simulation.violation import Violation
from tests.simulation.world import Configured

_JUST_BEFORE = timedelta(microseconds=1)
_AHEAD = timedelta(seconds=2)
"""Claims are made so long before they are due at most."""
_LONGEST_POLL = timedelta(seconds=60)
"""A snapshot shows what the API had at most so long before the snapshot ended."""
_CLOCKS = timedelta(seconds=2)
"""How far the difference between the two clocks may be mistaken: a ``Date`` counts whole seconds."""


def every_implied_occurrence_has_a_row(evidence: Evidence) -> Check:
    """By the recorded versions: what one implied while it was in force, up to the watermark, has a row."""
    for (target, automation_id), versions in evidence.versions.items():
        watermark = evidence.watermark(target)
        if watermark is None:
            continue
        # Zone data without the zone cannot derive the instants again, in a new process or after a step back.
        if any(each.schedule and each.schedule[1] in _zones_missing(evidence) for each in versions):
            continue
        rows = _Rows(evidence.rows_of.get((target, automation_id), []))
        for version, end in zip(versions, _find_ends(versions, watermark), strict=True):
            for instant in rows.find_uncovered(evidence, version.schedule, version.effective_from, end):
                if not _lies_in_a_gap(evidence, target, automation_id, instant):
                    yield Violation(
                        "missing", f"implied by {version}, and has no row", automation_id, instant
                    )
        yield from rows.overlaps()


def every_kept_ledger_is_complete(evidence: Evidence) -> Check:
    """What a killed process left is complete, too: below the watermark every occurrence has a row or lies in
    a recorded gap.
    """
    for number, ledger in enumerate(evidence.world.ledgers):
        for violation in every_implied_occurrence_has_a_row(Evidence(evidence.world, ledger)):
            yield replace(violation, text=f"when process {number} was killed: {violation.text}")


def no_gap_is_left(evidence: Evidence) -> Check:
    """After the calm everything is decided, so that no gap is left."""
    for target, gaps in evidence.gaps.items():
        yield Violation("gap", f"{target} has gaps after the calm: {gaps[:5]}")


def _find_ends(versions: Sequence[VersionRow], last: datetime) -> Sequence[datetime]:
    """Find until when each version surely is in force, at most until ``last``.

    A version that is seen later may begin before a version that was seen earlier.
    """
    begins = (version.effective_from for version in reversed(versions[1:]))
    return [*accumulate(begins, min, initial=last)][::-1]


def _lies_in_a_gap(evidence: Evidence, target: str, automation_id: str, instant: datetime) -> bool:
    gaps = evidence.gaps.get(target, ())
    return any(gap.since <= instant <= gap.until and automation_id >= gap.automation_id for gap in gaps)


def no_row_without_a_version_that_implied_it(evidence: Evidence) -> Check:
    """A version fires until the one after it is observed; a span counts what is in it."""
    for (target, automation_id), rows in evidence.rows_of.items():
        versions = evidence.versions.get((target, automation_id), [])
        if _is_all_implied_by_one(evidence, versions, rows):
            continue
        surely, maybe = _all_implied(evidence, versions, rows)
        for row in rows:
            for instant in {row.scheduled_for, row.last}:
                if instant not in maybe and not evidence.was_set:
                    yield Violation(
                        "unimplied",
                        f"{row.fate}, and no version implies it: {versions}",
                        automation_id,
                        instant,
                    )
            if row.count > 1 and not evidence.was_set:
                least = sum(row.scheduled_for <= each <= row.last for each in surely)
                most = sum(row.scheduled_for <= each <= row.last for each in maybe)
                if not least <= row.count <= most:
                    yield Violation(
                        "span",
                        f"counts {row.count}, and holds {least} to {most}",
                        automation_id,
                        row.scheduled_for,
                    )


def the_definitions_of_the_api_are_honoured(evidence: Evidence) -> Check:
    """What the API had unchanged from one good poll to the next one was due by that, whatever the ledger
    recorded.
    """
    if evidence.was_set:
        return
    for target, link in evidence.world.links.items():
        polls = _polls(evidence, target)
        watermark = evidence.watermark(target)
        for automation_id in link.api.shapes:
            versions = evidence.versions.get((target, automation_id), [])
            rows = _Rows(evidence.rows_of.get((target, automation_id), []))
            if _is_covered_by_one_schedule(evidence, link.api.shapes[automation_id], rows, polls, watermark):
                continue
            for before, after in pairwise(polls):
                shapes = link.api.shapes_between(automation_id, before.begun, after.ended)
                fires = {shape.fires for shape in shapes}
                known = [each for each in versions if each.observed_at <= before.ended]
                missing = evidence.world.zones_missing or any(
                    each.zones_missing for each in evidence.world.configured
                )
                if evidence.is_hidden(automation_id, before.begun, after.ended):
                    continue
                if (
                    len(fires) != 1
                    or not known
                    or watermark is None
                    or missing
                    or shapes[0].at > before.begun
                ):
                    continue
                surely, _ = evidence.implied(fires.pop(), before.ended, min(after.begun, watermark))
                for instant in surely:
                    if not rows.covers(instant):
                        yield Violation(
                            "not honoured",
                            f"the API had {shapes[-1].text}, and there is no row",
                            automation_id,
                            instant,
                        )


def edits_count_from_their_time(evidence: Evidence) -> Check:
    """What an edit implied from its own time on has rows, however late it was seen, when a poll before it was
    recorded.
    """
    if evidence.was_set or any(each.zones_missing for each in evidence.world.configured):
        return
    for target, link in evidence.world.links.items():
        polls = _polls(evidence, target)
        for automation_id in link.api.shapes:
            versions = evidence.versions.get((target, automation_id), [])
            if len(versions) <= 1:
                continue
            rows = _Rows(evidence.rows_of.get((target, automation_id), []))
            for before, version in pairwise(versions):
                edited_at = _find_edit(evidence, target, version, polls)
                if before.removed or edited_at is None:
                    continue
                for instant in rows.find_uncovered(
                    evidence, version.schedule, edited_at, version.effective_from
                ):
                    text = f"edited at {edited_at}, counts from {version.effective_from}, and there is no row"
                    yield Violation("edit", text, automation_id, instant)


def _find_edit(
    evidence: Evidence, target: str, version: VersionRow, polls: Sequence["_Poll"]
) -> datetime | None:
    """Find the time of the edit that a version shows, on the true clock; None when no poll before it is
    surely on record.
    """
    api, plan = evidence.link(target).api, evidence.link(target).plan
    lag = timedelta(seconds=_longest_lag(evidence))
    shapes = api.shapes_between(
        version.automation_id, version.observed_at - _LONGEST_POLL - lag, version.observed_at
    )
    edits = [
        from_text(str(each.document["updated_at"]))
        for each in shapes
        if each.document and each.fires == version.schedule
    ]
    if version.schedule is None or not edits:
        return None
    edited_at = max(edits) - timedelta(seconds=plan.skew)
    return edited_at + lag + _CLOCKS if any(poll.ended <= edited_at for poll in polls) else None


def _is_all_implied_by_one(evidence: Evidence, versions: Sequence[VersionRow], rows: Sequence[Row]) -> bool:
    """Return whether the first version alone implies each row and its count. Quick, since thousands of
    automations have one version.
    """
    if evidence.was_set or not versions:
        return False
    version, end = versions[0], max(row.last for row in rows)
    if _find_ends(versions, end)[0] < end:
        return False
    return all(
        version.effective_from < row.scheduled_for
        and _count_of(evidence, version.schedule, row) == (row.count, row.count)
        and _count_at(evidence, version.schedule, row.scheduled_for)
        == _count_at(evidence, version.schedule, row.last)
        == (1, 1)
        for row in rows
    )


def _count_of(evidence: Evidence, schedule: tuple[str, str] | None, row: Row) -> tuple[int, int]:
    return evidence.count_implied(schedule, row.scheduled_for - _JUST_BEFORE, row.last)


def _count_at(evidence: Evidence, schedule: tuple[str, str] | None, instant: datetime) -> tuple[int, int]:
    return evidence.count_implied(schedule, instant - _JUST_BEFORE, instant)


def _is_covered_by_one_schedule(
    evidence: Evidence,
    shapes: Sequence[Shape],
    rows: "_Rows",
    polls: Sequence["_Poll"],
    watermark: datetime | None,
) -> bool:
    """Return whether the API never had another schedule for it, and each of its instants between the polls
    has a row.
    """
    fires = {shape.fires for shape in shapes}
    if len(fires) != 1 or not polls or watermark is None:
        return False
    end = min(polls[-1].begun, watermark)
    return next(iter(rows.find_uncovered(evidence, fires.pop(), polls[0].ended, end)), None) is None


# ---------------------------------------------------------------- rows


def _zones_missing(evidence: Evidence) -> set[str]:
    """Zones that were missing when a process began; or ever, when the clock was set back."""
    begun = [
        max((each for each in evidence.world.configured if each.at <= process.began), key=_at)
        for process in evidence.world.processes
    ]
    return {
        zone
        for each in (evidence.world.configured if evidence.was_set_back else begun)
        for zone in each.zones_missing
    }


def _at(configured: Configured) -> datetime:
    return configured.at


class _Rows:
    """The rows of one automation, by the time that they cover."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = sorted(rows, key=lambda row: row.scheduled_for)
        self._single = {row.scheduled_for for row in rows}
        self._spans = [row for row in self._rows if row.count > 1]

    def covers(self, instant: datetime) -> bool:
        return instant in self._single or any(row.scheduled_for <= instant <= row.last for row in self._spans)

    def find_uncovered(
        self, evidence: Evidence, schedule: tuple[str, str] | None, begin: datetime, end: datetime
    ) -> Sequence[datetime]:
        """Find the instants after ``begin`` up to ``end`` that a schedule surely implies and no row covers;
        counts first.
        """
        implied, _ = evidence.count_implied(schedule, begin, end)
        covered = (
            evidence.count_implied(
                schedule, max(row.scheduled_for - _JUST_BEFORE, begin), min(row.last, end)
            )[0]
            for row in self._rows
            if row.last > begin and row.scheduled_for <= end
        )
        if not any(self.overlaps()) and implied == sum(covered):
            return ()
        surely, _ = evidence.implied(schedule, begin, end)
        return [instant for instant in sorted(surely) if not self.covers(instant)]

    def overlaps(self) -> Iterator[Violation]:
        for row, following in pairwise(self._rows):
            if following.scheduled_for <= row.last:
                yield Violation(
                    "overlapping", f"{row} and {following}", row.automation_id, following.scheduled_for
                )


def _all_implied(
    evidence: Evidence, versions: Sequence[VersionRow], rows: Sequence[Row]
) -> tuple[set[datetime], set[datetime]]:
    surely, maybe = set(), set()
    last = max(row.last for row in rows)
    seen = [min(max(later.effective_from, later.observed_at + _AHEAD), last) for later in versions[1:]]
    for version, end, latest in zip(versions, _find_ends(versions, last), [*seen, last], strict=True):
        surely |= evidence.implied(version.schedule, version.effective_from, end)[0]
        maybe |= evidence.implied(version.schedule, version.effective_from, max(end, latest))[1]
    return surely, maybe


# ---------------------------------------------------------------- polls


@dataclass(frozen=True, slots=True)
class _Poll:
    """A good poll: what was read in this time was taken up."""

    begun: datetime
    ended: datetime


def _polls(evidence: Evidence, target: str) -> list[_Poll]:
    """The good polls of a target that were surely recorded, too; with room for readings that lag behind."""
    polls, lag = [], _longest_lag(evidence)
    for told in evidence.world.events:
        event = told.event
        if isinstance(event, SnapshotTaken) and event.target == target and not event.incomplete:
            begun = told.at - timedelta(seconds=event.seconds + lag)
            if _is_kept(evidence, told.process, told.at):
                polls.append(_Poll(begun, told.at))
    return polls


def _longest_lag(evidence: Evidence) -> float:
    """Return how many seconds a reading lags behind at most."""
    lagging = (
        each
        for each in evidence.world.script.actions
        if isinstance(each, Weather) and each.fault is Fault.LAGGING
    )
    return max((each.amount for each in lagging), default=0.0)


def _is_kept(evidence: Evidence, process: int, at: datetime) -> bool:
    """Whether the process lived on for a while in which the ledger could be written."""
    end = at + timedelta(seconds=20)
    ended = evidence.process(process).ended_at
    trouble = any(
        each.what.startswith("ledger") and each.begin <= end and (each.end is None or each.end >= at)
        for each in evidence.world.troubles
    )
    return not trouble and (ended is None or ended > end)
