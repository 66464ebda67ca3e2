"""What must hold when all has calmed down, from the two databases alone: facts in, violations out.

The API's database has every run that it ever started. The ledger's has the definitions as they were seen, and
what became of each occurrence. Nothing here goes by what the daemon decided, except that the schedules are
evaluated with its own `Schedule`, which has tests of its own.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from scheduler.core.cron.schedule import Schedule
from scheduler.core.instants import from_text
from tests.e2e.stand import Stand

Row = Mapping[str, Any]
Pair = tuple[str, str]
"""An automation's id and a run's."""

AHEAD = timedelta(seconds=2)
"""A claim may be made so long before it is due, by the definition of then."""

ALWAYS = frozenset(
    {"accepted: answered", "accepted: found", "skipped: coalesced", "skipped: overlap", "skipped: deleted"}
)
"""What an occurrence may come to whatever the faults were: nothing that is due for seconds or a few minutes
is missed or expires.
"""


@dataclass(frozen=True, slots=True)
class Books:
    """What is on record in the end. ``until``: the watermark, up to which every occurrence has its row.

    ``clock_was_set``: rows may have been made under a clock that was ahead, by versions that ended before it
    once it was right again.
    """

    until: datetime
    occurrences: Sequence[Row]
    definitions: Sequence[Row]
    recorded_runs: Sequence[Row]  # by the ledger
    runs: Sequence[Row]  # by the API
    clock_was_set: bool = False


def read(stand: Stand, *, clock_was_set: bool = False) -> Books:
    """Both databases."""
    (target,) = stand.rows("SELECT watermark FROM target")
    return Books(
        from_text(target["watermark"]),
        stand.rows(
            "SELECT occurrence.*, cron_expression, timezone FROM occurrence LEFT JOIN definition ON "
            "definition.id = definition_id "
            "ORDER BY scheduled_for"
        ),
        stand.rows("SELECT * FROM definition ORDER BY id"),
        stand.rows("SELECT * FROM run"),
        stand.rows("SELECT automation_id, id, created_at FROM runs", database=Path(stand.api_database)),
        clock_was_set,
    )


def violations(books: Books, allowed: Collection[str] = ()) -> Iterator[str]:
    """Everything that is not as it was promised. ``allowed``: outcomes that the faults may have cost beyond
    those that are `ALWAYS`.
    """
    return chain(_runs(books), _outcomes(books, ALWAYS | set(allowed)), _occurrences(books))


# ---------------------------------------------------------------- runs and accepted occurrences are the same


def accepted(books: Books) -> list[Pair]:
    return [
        (row["automation_id"], row["task_run_id"])
        for row in books.occurrences
        if row["outcome"] == "accepted"
    ]


def _runs(books: Books) -> Iterator[str]:
    ours, theirs = (
        Counter(accepted(books)),
        {(row["automation_id"], row["id"]): row["created_at"] for row in books.runs},
    )
    for automation_id, run_id in ours - Counter(theirs.keys()):
        yield (
            f"lost: an occurrence of {automation_id} has run {run_id}, which the API never started, or "
            "which another occurrence has"
        )
    for pair in theirs.keys() - ours.keys():
        begun = theirs[pair]
        yield (
            f"doubled: run {pair[1]} of {pair[0]}, begun at {begun}, belongs to no occurrence: "
            f"{_near(books, pair[0], begun)}"
        )
    for row in books.recorded_runs:
        if row["origin"] != "occurrence" or row["doubles"] is not None:
            yield (
                f"a run is on record as {row['origin']}, doubles {row['doubles']}: {row['run_id']} of "
                f"{row['automation_id']}"
            )


def _near(books: Books, automation_id: str, begun: str) -> Sequence[Row]:
    """The occurrence of which it may be a second run."""
    earlier = [
        dict(row)
        for row in books.occurrences
        if row["automation_id"] == automation_id and row["scheduled_for"] <= begun
    ]
    return earlier[-2:]


# ---------------------------------------------------------------- each has one outcome that something
# explains


def _outcomes(books: Books, allowed: Collection[str]) -> Iterator[str]:
    versions = _by_automation(books.definitions)
    for row in books.occurrences:
        if row["outcome"] is None:
            if from_text(row["due"]) <= books.until:  # later: claimed, and not due yet
                yield f"open: {dict(row)}"
        elif len(instants := list(_instants(row))) != row["count"] or instants[-1] != from_text(row["last"]):
            yield f"a span that does not add up: {dict(row)}"
        elif f"{row['outcome']}: {row['reason']}" not in allowed and not _is_taken_back(
            row, versions[row["automation_id"]]
        ):
            yield f"not explained by any fault: {dict(row)}"


def _is_taken_back(row: Row, versions: Sequence[Row]) -> bool:
    """Whether an edit that counts from before its instant was seen when its attempt was on record: it is not
    tried again.
    """
    instant = from_text(row["scheduled_for"])
    return row["outcome"] == "expired" and any(
        each["effective_from"] < row["due"]
        and row["claimed_at"] < each["observed_at"] <= row["finished_at"]
        and not _may_have_implied(each, None, instant)
        for each in versions
    )


# ---------------------------------------------------------------- the occurrences are those that the
# definitions imply


def _occurrences(books: Books) -> Iterator[str]:
    versions, rows = _by_automation(books.definitions), _by_automation(books.occurrences)
    for automation_id, of_it in versions.items():
        yield from _missing(automation_id, of_it, rows[automation_id], books.until)
        yield from _unimplied(of_it, rows[automation_id], clock_was_set=books.clock_was_set)
    for automation_id in rows.keys() - versions.keys():
        yield f"unexplained: {automation_id} has occurrences and was never seen"


def _by_automation(rows: Sequence[Row]) -> Mapping[str, Sequence[Row]]:
    sorted_out: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        sorted_out[row["automation_id"]].append(row)
    return sorted_out


def _missing(
    automation_id: str, versions: Sequence[Row], rows: Sequence[Row], until: datetime
) -> Iterator[str]:
    recorded = {instant for row in rows for instant in _instants(row)}
    for version, following in pairwise([*versions, None]):
        assert version is not None
        end = until if following is None else min(from_text(following["effective_from"]), until)
        for instant in _implied(version, end):
            if instant not in recorded:
                yield (
                    f"missing: {automation_id} at {instant} has no row; {version['cron_expression']} "
                    f"{version['timezone']} implied it"
                )


def _implied(version: Row, end: datetime) -> Iterator[datetime]:
    """What a version schedules from when it came into force until ``end``."""
    begin = from_text(version["effective_from"])
    if version["enabled"] and not version["removed"] and version["invalid"] is None and begin < end:
        yield from Schedule.parse(version["cron_expression"], version["timezone"]).iterate_between(begin, end)


def _instants(row: Row) -> Iterator[datetime]:
    """The instants that a row stands for: one, or those of a span by the intervals between them, or by the
    definition that it names.
    """
    instant = from_text(row["scheduled_for"])
    yield instant
    if row["cron_expression"] is not None:
        yield from Schedule.parse(row["cron_expression"], row["timezone"]).iterate_between(
            instant, from_text(row["last"])
        )
    for seconds, times in json.loads(row["intervals"] or "[]"):
        for _ in range(times):
            instant += timedelta(seconds=seconds)
            yield instant


def _unimplied(versions: Sequence[Row], rows: Sequence[Row], *, clock_was_set: bool) -> Iterator[str]:
    """A version is fired by until the next one is observed, if that was later than when it came into
    force.
    """
    successions = [
        (version, None if clock_was_set else following)
        for version, following in pairwise([*versions, None])
        if version
    ]
    for row in rows:
        instant = from_text(row["scheduled_for"])
        if not any(_may_have_implied(version, following, instant) for version, following in successions):
            yield f"unexplained: no version of its definition implied {dict(row)}"


def _may_have_implied(version: Row, following: Row | None, instant: datetime) -> bool:
    if not version["enabled"] or not from_text(version["effective_from"]) < instant:
        return False
    if (
        following is not None
        and instant > max(from_text(following[each]) for each in ("effective_from", "observed_at")) + AHEAD
    ):
        return False
    return Schedule.parse(version["cron_expression"], version["timezone"]).is_fire_time(instant)
