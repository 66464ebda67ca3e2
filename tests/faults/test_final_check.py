"""The final check finds what it is for: books that are in order, each spoiled in one way, and nothing else is
found.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler.core.instants import to_text, to_text_seconds
from tests.faults.final_check import Books, Row, violations

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTES = [NOON + timedelta(minutes=number) for number in range(1, 6)]


def occurrence(at: datetime, **differs: Any) -> Row:
    scheduled_for, run = to_text_seconds(at), f"run {at:%H:%M}"
    row = {
        "automation_id": "a",
        "scheduled_for": scheduled_for,
        "last": scheduled_for,
        "count": 1,
        "intervals": None,
        "cron_expression": None,
        "timezone": None,
        "due": to_text(at),
        "claimed_at": to_text(at - timedelta(seconds=1)),
        "finished_at": to_text(at),
    }
    return {**row, "outcome": "accepted", "reason": "answered", "task_run_id": run, **differs}


def version(begin: datetime, **differs: Any) -> Row:
    row = {
        "automation_id": "a",
        "cron_expression": "* * * * *",
        "timezone": "UTC",
        "enabled": 1,
        "invalid": None,
        "removed": 0,
    }
    return {**row, "effective_from": to_text(begin), "observed_at": to_text(begin), **differs}


def in_order() -> Books:
    return Books(
        until=MINUTES[-1],
        occurrences=[occurrence(each) for each in MINUTES],
        definitions=[version(NOON)],
        recorded_runs=[
            {"automation_id": "a", "run_id": f"run {each:%H:%M}", "origin": "occurrence", "doubles": None}
            for each in MINUTES
        ],
        runs=[
            {"automation_id": "a", "id": f"run {each:%H:%M}", "created_at": to_text(each)} for each in MINUTES
        ],
    )


def with_occurrence(books: Books, number: int, **differs: Any) -> Books:
    rows = list(books.occurrences)
    rows[number] = {**rows[number], **differs}
    return replace(books, occurrences=rows)


def test_books_in_order_have_no_violations() -> None:
    assert list(violations(in_order())) == []


OFF = {"scheduled_for": "2026-11-23T12:01:30Z", "last": "2026-11-23T12:01:30Z"}
SPOILED: list[tuple[str, Callable[[Books], Books], list[str]]] = [
    (
        "a run that nobody claims",
        lambda books: replace(books, runs=[*books.runs, {**books.runs[0], "id": "another"}]),
        ["doubled"],
    ),
    ("a run that never was", lambda books: replace(books, runs=books.runs[1:]), ["lost"]),
    (
        "two occurrences with one run",
        lambda books: with_occurrence(books, 1, task_run_id="run 12:01"),
        ["lost", "doubled"],
    ),
    (
        "a run of another automation",
        lambda books: replace(books, runs=[{**books.runs[0], "automation_id": "b"}, *books.runs[1:]]),
        ["lost", "doubled"],
    ),
    (
        "a row that is missing",
        lambda books: replace(books, occurrences=books.occurrences[1:], runs=books.runs[1:]),
        ["missing"],
    ),
    ("a row at another time", lambda books: with_occurrence(books, 0, **OFF), ["missing", "unexplained"]),
    (
        "a row of nobody",
        lambda books: with_occurrence(books, 0, automation_id="b"),
        ["lost", "doubled", "missing", "unexplained"],
    ),
    (
        "a row without an outcome",
        lambda books: with_occurrence(books, 0, outcome=None, reason=None),
        ["open", "doubled"],
    ),
    (
        "an outcome that nothing explains",
        lambda books: replace(
            with_occurrence(books, 0, outcome="expired", reason="not_started"), runs=books.runs[1:]
        ),
        ["not explained"],
    ),
    (
        "a foreign run",
        lambda books: replace(books, recorded_runs=[{**books.recorded_runs[0], "origin": "foreign"}]),
        ["a run is on record as foreign"],
    ),
    (
        "a late double",
        lambda books: replace(
            books, recorded_runs=[{**books.recorded_runs[0], "doubles": "2026-11-23T12:01:00Z"}]
        ),
        ["a run is on record as occurrence, doubles"],
    ),
]


@pytest.mark.parametrize(
    ("spoil", "kinds"), [each[1:] for each in SPOILED], ids=[each[0] for each in SPOILED]
)
def test_what_is_spoiled_is_found_and_nothing_else(spoil: Callable[[Books], Books], kinds: list[str]) -> None:
    found = sorted(violations(spoil(in_order())))
    assert [violation.startswith(kind) for violation, kind in zip(found, sorted(kinds), strict=True)] == [
        True
    ] * len(kinds), found


def test_an_outcome_that_a_fault_may_cost_is_allowed() -> None:
    books = with_occurrence(in_order(), 0, outcome="skipped", reason="missed", task_run_id=None)
    books = replace(books, runs=books.runs[1:])
    assert list(violations(books, {"skipped: missed"})) == []


def test_what_is_claimed_and_not_due_yet_may_be_open() -> None:
    due = to_text(MINUTES[-1] + timedelta(seconds=20))
    books = with_occurrence(in_order(), -1, outcome=None, reason=None, task_run_id=None, due=due)
    assert list(violations(replace(books, runs=books.runs[:-1]))) == []


def test_what_an_edit_took_back_after_an_attempt_may_have_expired() -> None:
    before, seen = MINUTES[-1] - timedelta(seconds=1), MINUTES[-1] + timedelta(seconds=9)
    books = with_occurrence(
        in_order(), -1, outcome="expired", reason="not_started", task_run_id=None, finished_at=to_text(seen)
    )
    books = replace(books, runs=books.runs[:-1])
    assert len(list(violations(books))) == 1
    edit = version(before, enabled=0, observed_at=to_text(seen))
    assert list(violations(replace(books, definitions=[*books.definitions, edit]))) == []


def test_a_span_stands_for_all_of_its_instants() -> None:
    books = in_order()
    skipped = {"outcome": "skipped", "reason": "coalesced", "task_run_id": None}
    span = occurrence(MINUTES[0], last=to_text_seconds(MINUTES[3]), count=4, intervals="[[60, 3]]", **skipped)
    books = replace(books, occurrences=[span, books.occurrences[4]], runs=books.runs[4:])
    assert list(violations(books)) == []
    (wrong,) = violations(replace(books, occurrences=[{**span, "count": 3}, books.occurrences[1]]))
    assert wrong.startswith("a span that does not add up")
    (missing,) = violations(
        replace(
            books,
            occurrences=[{**span, "count": 3, "intervals": "[[60, 1], [120, 1]]"}, books.occurrences[1]],
        )
    )
    assert missing.startswith("missing: a at 2026-11-23 12:03")


def test_an_edit_ends_what_was_implied_before_when_it_counts_and_what_may_be_fired_when_it_was_seen() -> None:
    books = in_order()
    counts, seen = MINUTES[2] + timedelta(seconds=30), MINUTES[3] + timedelta(seconds=5)
    disabled = version(counts, enabled=0, observed_at=to_text(seen))
    books = replace(
        books,
        definitions=[*books.definitions, disabled],
        occurrences=books.occurrences[:4],
        runs=books.runs[:4],
    )
    assert list(violations(books)) == []
    assert list(violations(replace(books, occurrences=books.occurrences[:3], runs=books.runs[:3]))) == []
    (unexplained,) = violations(replace(in_order(), definitions=books.definitions))
    assert unexplained.startswith("unexplained")
