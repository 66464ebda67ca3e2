"""What is asked for by hand: an occurrence is opened again, once, and what it had come to stays on record."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

import pytest

from scheduler.core.backfill import FireRequest, Reopening
from scheduler.core.model import (
    AttemptResult,
    ClaimPlan,
    OpenOccurrence,
    Outcome,
    Reason,
    RunOrigin,
    RunUpdate,
    State,
)
from scheduler.ledger.fire_requests import (
    has_request,
    is_requested,
    read_refusal,
    request_fire,
    withdraw_request,
)
from tests.ledger.support import (
    HOURLY,
    MAIN,
    NIGHTLY,
    Stand,
    accepted,
    at,
    attempt,
    claim,
    concluded,
    end,
    occurrence,
    run,
    skip,
)

REOPENING = Reopening("nightly report", at(1), at(90), at(61))


def request(minute: int, automation_id: str = NIGHTLY, *, instants: Sequence[datetime] = ()) -> FireRequest:
    return FireRequest(occurrence(minute, automation_id), at(60), "ada", tuple(instants))


def reopened(on: Stand, wanted: FireRequest) -> OpenOccurrence | str:
    """What comes of a request that is written and taken up."""
    assert on.write(partial(request_fire, request=wanted))
    (found,) = on.do(on.ledger.read_fire_requests(MAIN))
    assert found == wanted
    return on.do(on.ledger.reopen(found, REOPENING))


def steps(on: Stand) -> list[tuple[object, ...]]:
    return on.rows('SELECT cause, at, until, detail, "by" FROM step')


def _expired(on: Stand, minute: int = 1) -> None:
    on.do(on.ledger.claim(MAIN, ClaimPlan([claim(minute, first=attempt())], [], at(minute))))
    on.do(
        on.ledger.conclude(
            occurrence(minute),
            concluded(Outcome.EXPIRED, Reason.NOT_STARTED, "no way"),
            end(result=AttemptResult.NOT_SENT),
        )
    )


def test_what_was_skipped_is_open_again_and_the_request_is_gone(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(1)], at(2))))
    opened = reopened(ledger, request(1))
    assert isinstance(opened, OpenOccurrence)
    assert (opened.occurrence, opened.state, opened.attempt) == (occurrence(1), State.WAITING, None)
    assert (opened.due, opened.deadline, opened.claimed_at, opened.asked_at) == (
        at(1),
        at(90),
        at(61),
        at(60),
    )
    assert ledger.do(ledger.ledger.read_open_occurrences(MAIN)) == [opened]
    assert ledger.rows("SELECT * FROM fire_request") == []
    assert steps(ledger) == [
        ("reopened", "2026-11-24T04:40:00.000000Z", "2026-11-23T13:01:00.000000Z", "skipped: missed", "ada")
    ]


@pytest.mark.parametrize(
    ("outcome", "reason"), [(Outcome.EXPIRED, Reason.NOT_STARTED), (Outcome.REJECTED, Reason.REFUSED)]
)
def test_what_was_tried_goes_on_with_the_next_attempt(
    ledger: Stand, outcome: Outcome, reason: Reason
) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1, first=attempt())], [], at(1))))
    ledger.do(
        ledger.ledger.conclude(
            occurrence(1), concluded(outcome, reason, "no way"), end(result=AttemptResult.REFUSED)
        )
    )
    opened = reopened(ledger, request(1))
    assert isinstance(opened, OpenOccurrence)
    assert (opened.attempt, opened.claimed_at) == (attempt(), at(0.98))
    ledger.do(ledger.ledger.write_attempt(occurrence(1), attempt(2, 62)))
    manual = accepted("run-1", Reason.MANUAL, minute=62)
    assert ledger.do(ledger.ledger.conclude(occurrence(1), manual, end(2, AttemptResult.ANSWERED, minute=62)))
    assert ledger.rows("SELECT outcome, reason, attempts, task_run_id FROM occurrence") == [
        ("accepted", "manual", 2, "run-1")
    ]
    assert ledger.rows("SELECT occurrence_id, origin FROM run") == [(1, "occurrence")]


def test_what_has_no_row_gets_one(ledger: Stand) -> None:
    opened = reopened(ledger, request(1))
    assert isinstance(opened, OpenOccurrence)
    assert (opened.name, opened.due, opened.deadline) == ("nightly report", at(1), at(90))
    assert [step[3] for step in steps(ledger)] == ["not on record"]


@pytest.mark.parametrize(
    ("minute", "rows"),
    [
        (1, [(1, 1, None), (2, 4, "missed")]),
        (3, [(1, 2, "missed"), (3, 1, None), (4, 2, "missed")]),
        (4, [(1, 3, "missed"), (4, 1, None), (5, 1, "missed")]),
        (5, [(1, 4, "missed"), (5, 1, None)]),
    ],
)
@pytest.mark.parametrize("knows_itself", [True, False])
def test_one_of_a_span_is_taken_out_of_it(
    ledger: Stand, minute: int, rows: list[tuple[int, int, str | None]], knows_itself: bool
) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(1, 2, 3, 4, 5)], at(5))))
    if not knows_itself:  # as one that the first version of the ledger wrote
        ledger.write(lambda connection: connection.execute("UPDATE occurrence SET intervals = NULL").rowcount)
    instants = () if knows_itself else [at(each) for each in range(1, 6)]
    assert isinstance(reopened(ledger, request(minute, instants=instants)), OpenOccurrence)
    assert ledger.outcomes() == rows
    assert len(steps(ledger)) == 1
    gaps = "count > 1 AND intervals <> '[[60,' || (count - 1) || ']]'"
    assert (
        ledger.rows(
            f"SELECT 1 FROM occurrence WHERE {gaps} OR due <> substr(scheduled_for, 1, 19) || '.000000Z'"
        )
        == []
    )


@pytest.mark.parametrize("instants", [(), range(1, 5), range(6), (1, 2, 4, 5, 6)])
def test_a_span_that_is_another_by_now_stays_whole(ledger: Stand, instants: Sequence[int]) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(1, 2, 3, 4, 5)], at(5))))
    ledger.write(lambda connection: connection.execute("UPDATE occurrence SET intervals = NULL").rowcount)
    why = reopened(ledger, request(3, instants=[at(each) for each in instants]))
    assert why == "what is on record of it has changed meanwhile; ask again"
    assert ledger.outcomes() == [(1, 5, "missed")]
    assert ledger.write(partial(read_refusal, occurrence=occurrence(3))) == why


def _accepted(on: Stand) -> None:
    on.do(on.ledger.claim(MAIN, ClaimPlan([claim(1, first=attempt())], [], at(1))))
    on.do(on.ledger.conclude(occurrence(1), accepted("run-1"), end(result=AttemptResult.ANSWERED)))


def _open(on: Stand) -> None:
    on.do(on.ledger.claim(MAIN, ClaimPlan([claim(1)], [], at(1))))


def _unresolved(on: Stand) -> None:
    on.do(on.ledger.claim(MAIN, ClaimPlan([claim(1, first=attempt())], [], at(1))))
    on.do(on.ledger.conclude(occurrence(1), concluded(Outcome.UNRESOLVED, Reason.COVERED), end()))


def _started_late(on: Stand) -> None:
    on.do(on.ledger.claim(MAIN, ClaimPlan([claim(1, first=attempt())], [], at(1))))
    on.do(on.ledger.end_attempt(occurrence(1), end(), State.UNKNOWN))
    on.do(on.ledger.resolve_not_started(occurrence(1)))
    on.do(on.ledger.conclude(occurrence(1), concluded(Outcome.EXPIRED, Reason.NOT_STARTED)))
    assert on.do(
        on.ledger.record_runs(MAIN, RunUpdate([(run("late", minute=9), RunOrigin.FOREIGN)], at(10)))
    ).doubles == {"late": at(1)}


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (_accepted, "it is accepted: answered"),
        (_open, "it is open (waiting)"),
        (_unresolved, "it is unresolved: covered"),
        (_started_late, "run late is most likely a late attempt for it"),
    ],
)
def test_what_may_have_started_a_run_is_refused_and_stays_as_it_is(
    ledger: Stand, prepare: object, why: str
) -> None:
    assert callable(prepare)
    prepare(ledger)
    before = ledger.rows("SELECT * FROM occurrence")
    assert reopened(ledger, request(1)) == why
    assert ledger.rows("SELECT * FROM occurrence") == before
    assert steps(ledger) == []
    assert ledger.do(ledger.ledger.read_fire_requests(MAIN)) == []
    assert ledger.write(partial(read_refusal, occurrence=occurrence(1))) == why


def test_a_second_request_finds_it_open(ledger: Stand) -> None:
    _expired(ledger)
    assert isinstance(reopened(ledger, request(1)), OpenOccurrence)
    assert reopened(ledger, request(1)) == "it is open (waiting)"


def test_a_request_waits_until_it_is_taken_up_or_taken_back(ledger: Stand) -> None:
    for _ in range(2):
        assert not ledger.write(has_request)
        assert ledger.write(partial(request_fire, request=request(1)))
        assert not ledger.write(partial(request_fire, request=request(1))), "somebody has asked already"
        assert ledger.write(has_request)
        assert ledger.write(partial(is_requested, occurrence=occurrence(1)))
        assert ledger.write(partial(withdraw_request, occurrence=occurrence(1)))
        assert not ledger.write(partial(withdraw_request, occurrence=occurrence(1)))


def test_what_was_refused_may_be_asked_for_again(ledger: Stand) -> None:
    _expired(ledger)
    ledger.write(partial(request_fire, request=request(1)))
    ledger.do(ledger.ledger.refuse(request(1), "the automation is gone"))
    assert not ledger.write(has_request)
    assert not ledger.write(partial(withdraw_request, occurrence=occurrence(1)))
    assert isinstance(reopened(ledger, request(1)), OpenOccurrence)


def test_requests_come_in_their_order_and_by_their_target(ledger: Stand) -> None:
    for minute, automation_id in ((2, NIGHTLY), (1, HOURLY)):
        ledger.write(
            partial(
                request_fire, request=FireRequest(occurrence(minute, automation_id), at(60 + minute), "ada")
            )
        )
    assert [each.occurrence for each in ledger.do(ledger.ledger.read_fire_requests(MAIN))] == [
        occurrence(1, HOURLY),
        occurrence(2),
    ]
    assert ledger.do(ledger.ledger.read_fire_requests("other")) == []


def test_a_run_that_is_found_for_what_was_asked_for_is_its_own(ledger: Stand) -> None:
    _expired(ledger)
    assert isinstance(reopened(ledger, request(1)), OpenOccurrence)
    ledger.do(ledger.ledger.write_attempt(occurrence(1), attempt(2, 62)))
    ledger.do(ledger.ledger.end_attempt(occurrence(1), end(2, minute=62), State.UNKNOWN))
    assert ledger.do(
        ledger.ledger.record_runs(MAIN, RunUpdate([(run("run-2", minute=62), RunOrigin.FOREIGN)], at(63)))
    ).doubles == {"run-2": at(1)}
    assert ledger.do(ledger.ledger.conclude(occurrence(1), accepted("run-2", Reason.MANUAL, minute=62)))
    assert ledger.rows("SELECT origin, doubles FROM run") == [("occurrence", None)]
    assert (
        ledger.do(
            ledger.ledger.record_runs(MAIN, RunUpdate([(run("run-3", minute=70), RunOrigin.FOREIGN)], at(71)))
        ).doubles
        == {}
    )
