"""Occurrences and the runs that the API really started: at most one each, and the ledger names it.

What the API cannot tell is allowed, and only that: a request that is carried out after two readings, the
second one after the settle time, had shown nothing of it. Whether those readings were made is looked up among
what the API was asked.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from tests.simulation.api import NOBODY, StartedRun
from tests.simulation.evidence import Check, Evidence, Row
from tests.simulation.network import Link, Sent, Shown
from tests.simulation.script import LIST, RETRIEVE
from tests.simulation.violation import Violation

_MARGIN = timedelta(seconds=4)
"""How far off the difference of the two clocks may be, with room."""
_LATEST_START = timedelta(seconds=60)
"""A reload may have made the settle time longer."""


def at_most_one_run(evidence: Evidence) -> Check:
    """Of two requests for one occurrence the second one leaves only when the first one started nothing, as
    far as can be known.
    """
    for row in evidence.rows:
        plan = evidence.link(row.target).plan
        key = evidence.key(row.occurrence)
        sent, runs = evidence.sent.get(key, []), evidence.link(row.target).api.by_key.get(key, [])
        if row.count > 1 and sent:
            yield _violation("sent", "was sent and is part of a span", row)
        if plan.idempotent:
            if len(runs) > 1:
                yield _violation("double", f"{len(runs)} runs under one key that is honoured", row)
            continue
        for first, second in pairwise(sent):
            if (
                not _is_refused(first)
                and (why := _careless(evidence, first, second.at, second.process)) is not None
            ):
                started = [run for run in runs if run.at == first.arrived]
                yield _violation(
                    "double" if started else "resent", f"sent at {second.at:%H:%M:%S.%f} again, {why}", row
                )
    keys = {evidence.key(row.occurrence) for row in evidence.rows}
    for key, requests in evidence.sent.items():
        if key not in keys:
            yield Violation(
                "sent", f"a request at {requests[0].at} for what has no row", requests[0].automation_id
            )


def outcomes_name_the_run_that_was_started(evidence: Evidence) -> Check:
    """Accepted: the run that was started for it. Anything else that is final: nothing was started, as far as
    can be known.
    """
    for row in evidence.rows:
        if row.outcome is None:
            continue
        runs = evidence.link(row.target).api.by_key.get(evidence.key(row.occurrence), [])
        if row.outcome == "accepted":
            yield from _accepted(evidence, row, runs)
        elif row.outcome != "unresolved" and runs:
            yield from _disregarded(evidence, row, runs)


def foreign_runs_are_known(evidence: Evidence) -> Check:
    """What is recorded as foreign was started by somebody else, or is a late double; what is recorded as ours
    is ours.
    """
    for (target, run_id), recorded in evidence.run_rows.items():
        run = evidence.runs.get((target, run_id))
        if run is None:
            yield Violation(
                "run", f"run {run_id} is recorded, and was never started", recorded["automation_id"]
            )
        elif recorded["origin"] == "foreign" and run.key != NOBODY and recorded["doubles"] is None:
            row = _row_of(evidence, target, run)
            if row is None or (row.outcome != "unresolved" and row.reason != "found"):
                fate = None if row is None else row.fate
                at = None if row is None else row.scheduled_for
                yield Violation(
                    "foreign", f"run {run_id} is ours ({fate}) and taken for foreign", run.automation_id, at
                )


def what_was_shown_is_on_record(evidence: Evidence) -> Check:
    """Every run that a process was shown, and that process was not killed, is in the ledger: ours, or as
    foreign, or as a late double. While an attempt of an open occurrence may have started the run, the ledger
    has the run without an origin.
    """
    for target, link in evidence.world.links.items():
        runs = {run.id: run for run in link.api.runs}
        overruled = evidence.overruled.get(target, [])
        kept = (
            each
            for each in link.shown
            if _is_kept(evidence, link, each) and not _is_overruled(overruled, each)
        )
        shown = {run_id for each in kept for run_id in each.runs.values() if run_id is not None}
        known = evidence.run_rows.keys() | evidence.unattributed
        for run in (runs[each] for each in sorted(shown) if (target, each) not in known and _is_text(each)):
            yield Violation(
                "not on record", f"run {run.id}, which began at {run.at}, was shown", run.automation_id
            )


def _is_text(run_id: str) -> bool:
    """Return whether an id can be kept: an object with NUL in its texts is refused as a whole."""
    return "\0" not in run_id


def _is_kept(evidence: Evidence, link: Link, shown: Shown) -> bool:
    process = evidence.process(shown.process)
    whole = link.plan.has_one_page or shown.endpoint == RETRIEVE
    ended = process.ended_at
    soon = ended is not None and ended < max(
        [shown.ended, *_recoveries(evidence, shown.ended, ended)]
    ) + timedelta(seconds=60)
    return whole and not process.killed and not soon and process.began <= shown.begun


def _is_overruled(overruled: Sequence[tuple[int, datetime, datetime]], shown: Shown) -> bool:
    """Whether it is a page of a list that was not read to its end, or whose pages disagree: what its last
    pass saw counts.
    """
    return shown.endpoint == LIST and any(
        process == shown.process and begin <= shown.begun <= end for process, begin, end in overruled
    )


def _recoveries(evidence: Evidence, begin: datetime, end: datetime) -> Iterator[datetime]:
    """When each trouble of the ledger in that time was over: what was seen in it is recorded at the next
    try.
    """
    for each in evidence.world.troubles:
        if (
            each.what.startswith("ledger")
            and each.end is not None
            and each.begin <= end
            and each.end >= begin
        ):
            yield each.end


# ---------------------------------------------------------------- what came of a request


def _is_refused(sent: Sent) -> bool:
    """Whether its answer said for sure that nothing was started."""
    status = sent.status
    return status is not None and 300 <= status < 500 and status not in {408, 425}


def _careless(evidence: Evidence, first: Sent, decided: datetime, process: int) -> str | None:
    """Why it was wrong to decide then that ``first`` had started nothing; None when it was right."""
    base = first.at
    if first.process == process and first.ended is not None:
        base = first.ended
    elif evidence.was_set:
        return None  # what a dead process wrote down stands on a clock that nobody remembers
    settled = base + evidence.settle(first.at, decided) - timedelta(milliseconds=1)
    reads = evidence.shown(first.automation_id, base, decided)
    run = next(
        (
            each
            for each in evidence.link(_target(evidence, first)).api.by_key.get(first.key, [])
            if each.at == first.arrived
        ),
        None,
    )
    if run is not None and (seen := _first_showing(evidence, first, run, reads)) is not None:
        return f"though its run was shown at {seen.ended:%H:%M:%S.%f}"
    if not any(each.begun >= settled for each in reads):
        return f"without a reading that was begun after it was settled at {settled:%H:%M:%S.%f}"
    if all(_looks(reads, each.number, settled) < 2 for each in evidence.world.processes):
        return "after a single reading"
    return None


def _looks(reads: list[Shown], process: int, settled: datetime) -> int:
    """How many readings a process had, when one of them was late enough; it may have died after it had
    decided.
    """
    own = [each for each in reads if each.process == process]
    return len(own) if any(each.begun >= settled for each in own) else 0


def _first_showing(evidence: Evidence, first: Sent, run: StartedRun, reads: list[Shown]) -> Shown | None:
    whole = evidence.link(_target(evidence, first)).plan.has_one_page
    return next(
        (
            each
            for each in reads
            if each.runs.get(run.automation_id) == run.id and (whole or each.endpoint == "retrieve")
        ),
        None,
    )


def _target(evidence: Evidence, sent: Sent) -> str:
    return next(name for name, link in evidence.world.links.items() if sent.automation_id in link.api.shapes)


# ---------------------------------------------------------------- the run of an outcome


def _accepted(evidence: Evidence, row: Row, runs: list[StartedRun]) -> Iterator[Violation]:
    run = evidence.runs.get((row.target, row.run_id or ""))
    if run is None or run.automation_id != row.automation_id:
        yield _violation("accepted", f"by run {row.run_id}, which the API never started for it", row)
    elif run not in runs:
        yield from _mistaken(evidence, row, run)


def _mistaken(evidence: Evidence, row: Row, run: StartedRun) -> Iterator[Violation]:
    """A run that somebody else started was taken for ours: that must have looked just the same."""
    sent = evidence.sent.get(evidence.key(row.occurrence), [])
    if row.reason != "found":
        yield _violation("accepted", f"{row.reason} by run {run.id}, which was not started for it", row)
    elif not _looks_like_ours(evidence, row, run, sent) and not _appeared_late(evidence, row, run, sent):
        yield _violation(
            "adopted",
            f"run {run.id} at {run.at:%H:%M:%S.%f}, which began at another time than what was sent: {sent}",
            row,
        )


def _looks_like_ours(evidence: Evidence, row: Row, run: StartedRun, sent: list[Sent]) -> bool:
    """Whether it began between the beginning of an attempt whose end is unknown and the time when that could
    no longer be carried out.
    """
    if evidence.was_set:
        return True
    for attempt in row.attempts:
        if attempt.result in {None, "unknown"}:
            ends = [each.ended for each in sent if each.ended is not None and each.at >= attempt.written_at]
            end = max([attempt.written_at + timedelta(seconds=10), *ends]) + evidence.settle(
                attempt.written_at, run.at
            )
            if attempt.written_at - _MARGIN <= run.at <= end + _MARGIN + _LATEST_START:
                return True
    return False


def _appeared_late(evidence: Evidence, row: Row, run: StartedRun, sent: list[Sent]) -> bool:
    """Return whether the run began after a reading had shown that nothing was started, and before the next
    request (RECONCILE-5).

    An attempt of a killed process without a request counts: the next process cannot know that nothing was
    sent.
    """
    if sent and sent[-1].at > run.at:
        return False
    maybe_sent = [each.written_at for each in row.attempts if each.result in {None, "unknown"}]
    ends = [each.ended or each.at for each in sent] + [each for each in maybe_sent if each <= run.at]
    if not ends:
        return False
    settled = max(ends) + evidence.settle(max(ends), run.at)
    return any(each.begun >= settled for each in evidence.shown(run.automation_id, max(ends), run.at))


def _disregarded(evidence: Evidence, row: Row, runs: list[StartedRun]) -> Iterator[Violation]:
    """Runs were started for what is said to have started none."""
    told = evidence.conclusions.get(row.occurrence, [])
    sent = [
        each
        for each in evidence.sent[evidence.key(row.occurrence)]
        if any(each.arrived == run.at for run in runs)
    ]
    for each in sent:
        later = [other for other in evidence.sent[evidence.key(row.occurrence)] if other.at > each.at]
        if later:
            continue  # at_most_one_run looks at that
        if not told:
            continue
        if (why := _careless(evidence, each, told[-1].at, told[-1].process)) is not None:
            yield _violation("lost run", f"{row.fate} at {told[-1].at:%H:%M:%S.%f}, {why}", row)


def _row_of(evidence: Evidence, target: str, run: StartedRun) -> Row | None:
    rows = evidence.rows_of.get((target, run.automation_id), [])
    return next((row for row in rows if evidence.key(row.occurrence) == run.key), None)


def _violation(rule: str, text: str, row: Row) -> Violation:
    return Violation(rule, text, row.automation_id, row.scheduled_for)
