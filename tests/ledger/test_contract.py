"""What every ledger owes the daemon, whatever it is made of: the promises of
`scheduler.daemon.ports.Ledger`.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.model import (
    Attempt,
    AttemptResult,
    ClaimPlan,
    OpenOccurrence,
    Outcome,
    Reason,
    Run,
    RunOrigin,
    RunStatus,
    RunUpdate,
    SnapshotUpdate,
    State,
)
from scheduler.core.occurrence_log import Cause, Step
from scheduler.ledger.schema import open_ledger
from scheduler.ledger.sql_batch import Contradiction
from tests.ledger.support import (
    HOURLY,
    MAIN,
    NIGHTLY,
    URL,
    Stand,
    accepted,
    at,
    attempt,
    automation,
    claim,
    concluded,
    end,
    occurrence,
    removal,
    run,
    skip,
    sqlite_ledger,
    stand,
    version,
)


def _claimed(on: Stand, minute: int = 1, automation_id: str = NIGHTLY) -> None:
    """An occurrence of ours, with its first attempt written."""
    made = on.do(
        on.ledger.claim(MAIN, ClaimPlan([claim(minute, automation_id, first=attempt())], [], at(minute)))
    )
    assert made == {occurrence(minute, automation_id): 1}


def _open(on: Stand) -> OpenOccurrence:
    (found,) = on.do(on.ledger.read_open_occurrences(MAIN))
    return found


# ---------------------------------------------------------------- claiming


def test_an_occurrence_is_claimed_once(ledger: Stand) -> None:
    assert ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1), claim(2)], [], at(2)))).keys() == {
        occurrence(1),
        occurrence(2),
    }
    assert ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(2), claim(3)], [], at(3)))).keys() == {
        occurrence(3)
    }


def test_the_same_instant_of_another_automation_is_another_occurrence(ledger: Stand) -> None:
    assert len(ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1), claim(1, HOURLY)], [], at(1))))) == 2


def test_an_occurrence_that_is_given_twice_is_made_once(ledger: Stand) -> None:
    assert ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1), claim(1)], [], at(1)))).keys() == {
        occurrence(1)
    }
    assert ledger.outcomes() == [(1, 1, None)]


def test_of_two_daemons_that_claim_the_same_one_wins(ledger: Stand) -> None:
    other = open_ledger(ledger.path)
    wanted = [
        claim(minute, automation_id, first=attempt())
        for minute in range(50)
        for automation_id in (NIGHTLY, HOURLY)
    ]
    try:
        rival = sqlite_ledger(other, "node-2")
        outcomes = ledger.together(
            *(
                who.claim(MAIN, ClaimPlan(wanted[begin : begin + 10], [], at(50)))
                for begin in range(0, 100, 10)
                for who in (ledger.ledger, rival)
            )
        )
    finally:
        other.close()
    won = [each for outcome in outcomes if isinstance(outcome, dict) for each in outcome]
    assert sorted(map(repr, won)) == sorted(repr(each.occurrence) for each in wanted), "each by exactly one"


def test_a_claim_without_an_attempt_waits(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1)], [], at(1))))
    found = _open(ledger)
    assert (found.state, found.attempt, found.end) == (State.WAITING, None, None)
    assert (found.due, found.deadline, found.claimed_at, found.name) == (
        at(1),
        at(6),
        at(0.98),
        "nightly report",
    )


def test_a_first_attempt_is_durable_with_its_claim(ledger: Stand) -> None:
    _claimed(ledger)
    found = _open(ledger)
    assert (found.state, found.attempt, found.end) == (State.CLAIMED, attempt(), None)


def test_an_attempt_rides_only_with_a_claim_that_was_won(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1)], [], at(1))))
    assert ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1, first=attempt())], [], at(1)))) == {}
    assert _open(ledger).attempt is None
    assert ledger.rows("SELECT * FROM attempt") == []


def test_the_watermark_is_what_the_caller_gives(ledger: Stand) -> None:
    assert ledger.watermark() is None
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(9)], [], at(5))))
    assert ledger.watermark() == at(5)


def test_nothing_is_claimed_for_a_target_that_was_never_bound(ledger: Stand) -> None:
    with pytest.raises(Contradiction, match="has no row in the ledger"):
        ledger.do(ledger.ledger.claim("nobody", ClaimPlan([], [], at(1))))


def test_open_occurrences_come_in_the_order_of_due(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(3), claim(1, HOURLY), claim(2)], [], at(3))))
    assert [each.occurrence for each in ledger.do(ledger.ledger.read_open_occurrences(MAIN))] == [
        occurrence(1, HOURLY),
        occurrence(2),
        occurrence(3),
    ]
    assert ledger.do(ledger.ledger.read_open_occurrences("nobody")) == []


# ---------------------------------------------------------------- passing over


def test_what_is_passed_over_has_its_outcome_at_once(ledger: Stand) -> None:
    assert ledger.do(
        ledger.ledger.claim(
            MAIN, ClaimPlan([], [skip(1, reason=Reason.PAUSED), skip(3, 4, 5, automation_id=HOURLY)], at(5))
        )
    ).keys() == {
        occurrence(1),
        occurrence(3, HOURLY),
    }
    assert ledger.outcomes() == [(1, 1, "paused"), (3, 3, "missed")]
    assert ledger.do(ledger.ledger.read_open_occurrences(MAIN)) == []


def test_nothing_in_a_span_can_be_claimed_or_passed_over_again(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(1, 2, 3)], at(3))))
    again = [skip(2), skip(1, 2), skip(1, 2, 3)]
    for minute in (1, 2, 3):
        assert ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(minute)], [], at(3)))) == {}
    for each in again:
        assert ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [each], at(3)))) == {}
    assert ledger.outcomes() == [(1, 3, "missed")]


@pytest.mark.parametrize(
    ("there", "minutes", "made"),
    [
        ([claim(3)], (1, 2, 3, 4, 5), [(1, 2, "missed"), (3, 1, None), (4, 2, "missed")]),
        ([claim(1)], (1, 2, 3), [(1, 1, None), (2, 2, "missed")]),
        ([claim(3)], (1, 2, 3), [(1, 2, "missed"), (3, 1, None)]),
        (
            [claim(2), claim(3)],
            (1, 2, 3, 4),
            [(1, 1, "missed"), (2, 1, None), (3, 1, None), (4, 1, "missed")],
        ),
        ([claim(2)], (1, 3), [(1, 1, "missed"), (2, 1, None), (3, 1, "missed")]),
        ([claim(9)], (1, 2), [(1, 2, "missed"), (9, 1, None)]),
    ],
)
def test_a_span_is_written_around_what_is_there(
    ledger: Stand,
    there: Sequence[object],
    minutes: Sequence[int],
    made: Sequence[tuple[int, int, str | None]],
) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan(there, [], at(0))))  # type: ignore[arg-type]  # claims, as the table says
    rows = ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(*minutes)], at(9))))
    assert ledger.outcomes() == made
    assert rows == {occurrence(minute): count for minute, count, reason in made if reason is not None}


def test_a_span_is_written_around_another_that_began_before(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(1, 2, 3)], at(3))))
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(2, 3, 4, 5, reason=Reason.COALESCED)], at(5))))
    assert ledger.outcomes() == [(1, 3, "missed"), (4, 2, "coalesced")]


def test_spans_that_come_together_are_written_around_each_other(ledger: Stand) -> None:
    ledger.do(
        ledger.ledger.claim(
            MAIN, ClaimPlan([claim(2)], [skip(1, 2, 3), skip(3, 4, reason=Reason.COALESCED), skip(4)], at(5))
        )
    )
    assert ledger.outcomes() == [(1, 1, "missed"), (2, 1, None), (3, 1, "missed"), (4, 1, "coalesced")]


_some = st.sets(st.integers(0, 12), min_size=1).map(sorted)
_consecutive = st.tuples(st.integers(0, 12), st.integers(1, 8)).map(lambda span: [*range(span[0], sum(span))])
_steps = st.lists(
    st.tuples(st.sampled_from([NIGHTLY, HOURLY]), st.booleans()).flatmap(
        lambda step: st.tuples(st.just(step[0]), st.just(step[1]), _some if step[1] else _consecutive)
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(steps=_steps)
def test_no_instant_ever_has_two_rows_and_none_is_left_out(
    steps: Sequence[tuple[str, bool, list[int]]],
) -> None:
    """However claims and spans of a schedule that fires every minute come, overlapping as they like."""
    wanted = {(automation_id, minute) for automation_id, _, minutes in steps for minute in minutes}
    with tempfile.TemporaryDirectory() as folder, stand(Path(folder) / "ledger.db") as on:
        for automation_id, claiming, minutes in steps:
            claims = [claim(minute, automation_id) for minute in minutes] if claiming else []
            on.do(
                on.ledger.claim(
                    MAIN,
                    ClaimPlan(
                        claims, [] if claiming else [skip(*minutes, automation_id=automation_id)], at(0)
                    ),
                )
            )
        lines = on.lines()
        spans = on.rows(
            "SELECT automation_id, scheduled_for, last FROM occurrence ORDER BY automation_id, scheduled_for"
        )
    assert sum(int(line["count"] or 0) for line in lines) == len(wanted)
    for (this, _, last), (following, first, _) in pairwise(spans):
        assert this != following or str(last) < str(first)


# ---------------------------------------------------------------- attempts


def test_the_same_attempt_again_moves_its_instant_and_baseline(ledger: Stand) -> None:
    _claimed(ledger)
    ledger.do(ledger.ledger.write_attempt(occurrence(1), attempt(1, 7, "run-7")))
    found = _open(ledger)
    assert (found.attempt, found.state) == (attempt(1, 7, "run-7"), State.IN_FLIGHT)


def test_an_attempt_that_has_ended_is_not_made_again(ledger: Stand) -> None:
    _claimed(ledger)
    ledger.do(ledger.ledger.end_attempt(occurrence(1), end(), State.WAITING))
    with pytest.raises(Contradiction, match="ended"):
        ledger.do(ledger.ledger.write_attempt(occurrence(1), attempt(1, 7)))
    assert _open(ledger).attempt == attempt()


def test_the_first_attempt_has_the_number_one(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1)], [], at(1))))
    with pytest.raises(Contradiction, match="out of its turn"):
        ledger.do(ledger.ledger.write_attempt(occurrence(1), attempt(0)))


@pytest.mark.parametrize("number", [0, 3])
def test_attempts_are_numbered_one_after_the_other(ledger: Stand, number: int) -> None:
    _claimed(ledger)
    with pytest.raises(Contradiction, match="out of its turn"):
        ledger.do(ledger.ledger.write_attempt(occurrence(1), attempt(number)))


def test_an_attempt_that_was_open_when_the_next_is_made_was_never_seen_to_end(ledger: Stand) -> None:
    _claimed(ledger)
    ledger.do(ledger.ledger.write_attempt(occurrence(1), attempt(2, 3)))
    assert ledger.rows("SELECT number, result, ended_at FROM attempt") == [
        (1, "unknown", None),
        (2, None, None),
    ]


@pytest.mark.parametrize(
    ("results", "number"),
    [
        (["unknown", "throttled", "unknown"], 1),
        (["throttled", "unknown", "not_sent"], 2),
        (["throttled", "not_sent", None], 3),
        (["throttled", "not_sent"], None),
    ],
)
def test_the_first_attempt_in_doubt_is_remembered(
    ledger: Stand, results: Sequence[str | None], number: int | None
) -> None:
    _claimed(ledger)
    for tried, result in enumerate(results, start=1):
        if tried > 1:
            ledger.do(ledger.ledger.write_attempt(occurrence(1), attempt(tried, minute=tried)))
        if result is not None:
            ledger.do(
                ledger.ledger.end_attempt(
                    occurrence(1), end(tried, minute=tried, result=AttemptResult(result)), State.WAITING
                )
            )
    first = _open(ledger).first_in_doubt
    assert first == (None if number is None else attempt(number, minute=0 if number == 1 else number))


def test_an_end_is_kept_with_its_attempt_and_the_occurrence_goes_on(ledger: Stand) -> None:
    _claimed(ledger)
    ended = end(error="HTTP 502")
    ledger.do(ledger.ledger.end_attempt(occurrence(1), ended, State.UNKNOWN))
    found = _open(ledger)
    assert (found.end, found.state) == (ended, State.UNKNOWN)
    assert ledger.lines()[0]["error"] == "HTTP 502"


def test_an_attempt_ends_once(ledger: Stand) -> None:
    _claimed(ledger)
    ledger.do(ledger.ledger.end_attempt(occurrence(1), end(result=AttemptResult.NOT_SENT), State.WAITING))
    with pytest.raises(Contradiction, match="not open"):
        ledger.do(ledger.ledger.end_attempt(occurrence(1), end(), State.UNKNOWN))
    assert _open(ledger).state is State.WAITING


def test_nothing_is_attempted_for_what_has_its_outcome(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(1)], at(1))))
    for verb in (
        ledger.ledger.write_attempt(occurrence(1), attempt()),
        ledger.ledger.end_attempt(occurrence(1), end(), State.WAITING),
        ledger.ledger.resolve_not_started(occurrence(1)),
        ledger.ledger.write_attempt(occurrence(2), attempt()),
    ):
        with pytest.raises(Contradiction):
            ledger.do(verb)
    assert ledger.outcomes() == [(1, 1, "missed")]


def test_what_is_settled_waits_and_may_be_attempted_again(ledger: Stand) -> None:
    _claimed(ledger)
    ledger.do(ledger.ledger.resolve_not_started(occurrence(1)))
    found = _open(ledger)
    assert found.state is State.WAITING
    assert found.end is not None, "so that nobody doubts it again"
    assert found.end.result is AttemptResult.UNKNOWN
    ledger.do(ledger.ledger.write_attempt(occurrence(1), attempt(2, 4, None)))
    assert _open(ledger).attempt == attempt(2, 4, None)


def test_what_was_not_sent_was_not_attempted(ledger: Stand) -> None:
    _claimed(ledger)
    ledger.do(ledger.ledger.end_attempt(occurrence(1), end(result=AttemptResult.NOT_SENT), State.WAITING))
    ledger.do(ledger.ledger.write_attempt(occurrence(1), attempt(2)))
    for _ in range(2):
        ledger.do(ledger.ledger.discard_attempts([occurrence(1)]))
        found = _open(ledger)
        assert found.attempt == attempt(1)
        assert found.end == end(result=AttemptResult.NOT_SENT)
        assert found.state is State.WAITING
    ledger.do(ledger.ledger.write_attempt(occurrence(1), attempt(2, 8)))


# ---------------------------------------------------------------- outcomes


def test_an_outcome_its_run_and_the_end_of_its_attempt_are_one(ledger: Stand) -> None:
    _claimed(ledger)
    assert ledger.do(
        ledger.ledger.conclude(occurrence(1), accepted("run-1"), end(result=AttemptResult.ANSWERED))
    )
    assert ledger.do(ledger.ledger.read_open_occurrences(MAIN)) == []
    assert ledger.lines() == [
        {
            "target": "main",
            "automation_id": NIGHTLY,
            "name": "nightly report",
            "scheduled_for": "2026-11-23T12:01:00Z",
            "due": "2026-11-23T12:01:00.000000Z",
            "outcome": "accepted",
            "reason": "answered",
            "attempts": 1,
            "claimed_at": "2026-11-23T12:00:58.800000Z",
            "sent_at": "2026-11-23T12:01:00.000000Z",
            "finished_at": "2026-11-23T12:01:36.000000Z",
            "lateness_seconds": 0.25,
            "task_run_id": "run-1",
            "run_status": "running",
            "error": None,
            "node": "node-1",
            "count": 1,
        }
    ]
    assert ledger.rows("SELECT number, result FROM attempt") == [(1, "answered")]
    assert (
        ledger.do(ledger.ledger.find_run_origin(MAIN, Run("run-1", NIGHTLY, None, RunStatus.RUNNING)))
        is RunOrigin.OCCURRENCE
    )


def test_the_first_outcome_stays_and_a_second_one_is_refused_loudly(ledger: Stand) -> None:
    _claimed(ledger)
    ledger.do(ledger.ledger.conclude(occurrence(1), accepted("run-1"), end(result=AttemptResult.ANSWERED)))
    for conclusion in (accepted("run-1"), concluded(Outcome.EXPIRED, Reason.NOT_STARTED)):
        with pytest.raises(Contradiction, match="not open"):
            ledger.do(ledger.ledger.conclude(occurrence(1), conclusion))
    assert ledger.outcomes() == [(1, 1, "answered")]


def test_what_was_never_claimed_gets_no_outcome(ledger: Stand) -> None:
    with pytest.raises(Contradiction):
        ledger.do(ledger.ledger.conclude(occurrence(1), concluded(Outcome.SKIPPED, Reason.OVERLAP)))
    assert ledger.lines() == []


def test_a_run_belongs_to_one_occurrence_and_nothing_is_written_of_the_second(ledger: Stand) -> None:
    for automation_id in (NIGHTLY, HOURLY):
        _claimed(ledger, 1, automation_id)
    assert ledger.do(
        ledger.ledger.conclude(occurrence(1), accepted("run-1"), end(result=AttemptResult.ANSWERED))
    )
    for reason in (Reason.ANSWERED, Reason.FOUND):
        thief = accepted("run-1", reason, automation_id=HOURLY)
        assert not ledger.do(
            ledger.ledger.conclude(occurrence(1, HOURLY), thief, end(result=AttemptResult.ANSWERED))
        )
    found = _open(ledger)
    assert (found.occurrence, found.state, found.end) == (occurrence(1, HOURLY), State.CLAIMED, None)


@pytest.mark.parametrize(
    ("origin", "reason", "ours"),
    [
        (RunOrigin.FOREIGN, Reason.ANSWERED, False),
        (RunOrigin.FOREIGN, Reason.FOUND, True),
        (RunOrigin.MANUAL, Reason.FOUND, False),
        (RunOrigin.BEFORE, Reason.FOUND, False),
    ],
)
def test_a_run_of_somebody_else_becomes_ours_only_when_it_was_found_to_be(
    ledger: Stand, origin: RunOrigin, reason: Reason, ours: bool
) -> None:
    _claimed(ledger)
    ledger.do(ledger.ledger.record_runs(MAIN, RunUpdate([(run("run-1"), origin)], at(2))))
    assert ledger.do(ledger.ledger.conclude(occurrence(1), accepted("run-1", reason))) is ours
    expected = RunOrigin.OCCURRENCE if ours else origin
    assert (
        ledger.do(ledger.ledger.find_run_origin(MAIN, Run("run-1", NIGHTLY, None, RunStatus.RUNNING)))
        is expected
    )
    assert ledger.outcomes() == [(1, 1, "found" if ours else None)]


def test_an_attempt_that_is_open_at_the_outcome_was_never_seen_to_end(ledger: Stand) -> None:
    _claimed(ledger)
    ledger.do(ledger.ledger.conclude(occurrence(1), concluded(Outcome.UNRESOLVED, Reason.UNREADABLE)))
    assert ledger.rows("SELECT result, ended_at FROM attempt") == [("unknown", None)]


@pytest.mark.parametrize(
    ("outcome", "reason"), [(Outcome.SKIPPED, Reason.PAUSED), (Outcome.EXPIRED, Reason.NOT_STARTED)]
)
def test_an_attempt_that_is_open_when_nothing_was_started_was_never_made(
    ledger: Stand, outcome: Outcome, reason: Reason
) -> None:
    _claimed(ledger)
    ledger.do(ledger.ledger.conclude(occurrence(1), concluded(outcome, reason)))
    assert ledger.lines()[0]["attempts"] == 0
    assert ledger.rows("SELECT * FROM attempt") == []


def test_of_many_that_wait_together_only_the_wrong_ones_are_refused(ledger: Stand) -> None:
    ledger.do(
        ledger.ledger.claim(
            MAIN, ClaimPlan([claim(minute, first=attempt()) for minute in range(100)], [], at(100))
        )
    )
    outcomes = ledger.together(
        *(
            ledger.ledger.conclude(
                occurrence(minute), accepted(f"run-{minute % 97}"), end(result=AttemptResult.ANSWERED)
            )
            for minute in [*range(50), 7, *range(50, 100)]
        )
    )
    refused = [(index, outcome) for index, outcome in enumerate(outcomes) if outcome is not True]
    assert [index for index, _ in refused] == [50, 98, 99, 100], (
        "a second outcome, and three runs that are taken"
    )
    assert isinstance(refused[0][1], Contradiction)
    assert [outcome for _, outcome in refused[1:]] == [False] * 3
    assert [each.occurrence for each in ledger.do(ledger.ledger.read_open_occurrences(MAIN))] == [
        occurrence(each) for each in (97, 98, 99)
    ]


def test_attempts_and_ends_that_wait_together_are_each_kept(ledger: Stand) -> None:
    verbs, minutes = ledger.ledger, range(40)
    ledger.do(
        verbs.claim(MAIN, ClaimPlan([claim(minute, first=attempt()) for minute in minutes], [], at(40)))
    )
    ends = ledger.together(
        *(
            verbs.end_attempt(occurrence(minute), end(error=str(minute)), State.WAITING)
            for minute in [*minutes, 99]
        )
    )
    assert ends[:40] == [None] * 40
    assert isinstance(ends[40], Contradiction)
    again = ledger.together(
        *(verbs.write_attempt(occurrence(minute), attempt(2, minute)) for minute in [99, *minutes])
    )
    assert isinstance(again[0], Contradiction)
    assert [(each.attempt, each.end) for each in ledger.do(verbs.read_open_occurrences(MAIN))] == [
        (attempt(2, each), None) for each in minutes
    ]
    assert ledger.rows(
        "SELECT count(*) FROM attempt WHERE number = 1 AND error = (SELECT (occurrence_id - 1) || '')"
    ) == [(40,)]


# ---------------------------------------------------------------- taking back


def test_what_is_withdrawn_was_never_claimed(ledger: Stand) -> None:
    _claimed(ledger, 5)
    ledger.do(ledger.ledger.withdraw([occurrence(5)]))
    assert ledger.lines() == []
    assert ledger.rows("SELECT * FROM attempt") == []
    watermark = ledger.watermark()
    assert watermark is not None
    assert watermark < at(5), "since it has no row below it any more"
    ledger.do(ledger.ledger.withdraw([occurrence(5)]))
    assert ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(5)], [], at(5)))).keys() == {occurrence(5)}


@pytest.mark.parametrize("result", list(AttemptResult))
def test_what_was_tried_is_not_withdrawn_even_when_nothing_was_started(
    ledger: Stand, result: AttemptResult
) -> None:
    for minute in (1, 2):
        _claimed(ledger, minute)
    ledger.do(ledger.ledger.end_attempt(occurrence(2), end(result=result), State.UNKNOWN))
    with pytest.raises(Contradiction, match="have had an attempt"):
        ledger.do(ledger.ledger.withdraw([occurrence(1), occurrence(2)]))
    assert len(ledger.lines()) == 2


def test_what_has_its_outcome_is_not_withdrawn(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(1)], at(1))))
    with pytest.raises(Contradiction):
        ledger.do(ledger.ledger.withdraw([occurrence(1)]))
    assert ledger.outcomes() == [(1, 1, "missed")]


def _rewound(on: Stand, now: datetime) -> list[tuple[int, int, str | None]]:
    on.do(on.ledger.rewind(MAIN, now))
    watermark = on.watermark()
    assert watermark is not None
    assert watermark <= now
    return on.outcomes()


@pytest.mark.parametrize("reason", [Reason.MISSED, Reason.COALESCED, Reason.PAUSED, Reason.OVERLAP])
def test_a_clock_that_went_back_takes_back_what_was_passed_over_ahead_of_it(
    ledger: Stand, reason: Reason
) -> None:
    ledger.do(
        ledger.ledger.claim(
            MAIN,
            ClaimPlan([], [skip(1, reason=reason), skip(5, reason=reason), skip(6, reason=reason)], at(6)),
        )
    )
    assert _rewound(ledger, at(5)) == [(1, 1, reason), (5, 1, reason)]
    assert ledger.watermark() == at(5)


def test_a_clock_that_went_back_leaves_claims_and_what_was_attempted(ledger: Stand) -> None:
    verbs = ledger.ledger
    ledger.do(
        verbs.claim(
            MAIN,
            ClaimPlan(
                [claim(6, first=attempt()), claim(7), claim(8, first=attempt()), claim(9)],
                [skip(10)],
                at(10),
            ),
        )
    )
    ledger.do(verbs.conclude(occurrence(6), accepted("run-6"), end(result=AttemptResult.ANSWERED)))
    ledger.do(verbs.end_attempt(occurrence(8), end(result=AttemptResult.NOT_SENT), State.WAITING))
    ledger.do(verbs.conclude(occurrence(8), concluded(Outcome.EXPIRED, Reason.NOT_STARTED)))
    ledger.do(verbs.conclude(occurrence(9), concluded(Outcome.EXPIRED, Reason.NOT_STARTED)))
    assert _rewound(ledger, at(0)) == [(6, 1, "answered"), (7, 1, None), (8, 1, "not_started")]
    assert ledger.do(
        verbs.claim(MAIN, ClaimPlan([claim(minute) for minute in (6, 7, 8, 9, 10)], [], at(10)))
    ).keys() == {
        occurrence(9),
        occurrence(10),
    }


def test_what_was_skipped_as_deleted_stays_so_when_its_automation_is_gone(ledger: Stand) -> None:
    seen = automation()
    ledger.do(ledger.ledger.record_snapshot(MAIN, SnapshotUpdate(at(1), [version(seen, 1)], [seen], [])))
    ledger.do(ledger.ledger.record_snapshot(MAIN, SnapshotUpdate(at(4), [removal(seen, 4)], [], [NIGHTLY])))
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(5, reason=Reason.DELETED)], at(5))))
    assert _rewound(ledger, at(0)) == [(5, 1, "deleted")]


def test_what_an_edit_took_back_lies_ahead_again(ledger: Stand) -> None:
    """A span that began before stays: its past has been decided, and the version that implied it is in force
    no more.
    """
    seen = automation()
    ledger.do(ledger.ledger.record_snapshot(MAIN, SnapshotUpdate(at(1), [version(seen, 1)], [seen], [])))
    ledger.do(
        ledger.ledger.claim(
            MAIN, ClaimPlan([], [skip(2, 3, 4, reason=Reason.DELETED), skip(5, reason=Reason.DELETED)], at(5))
        )
    )
    assert _rewound(ledger, at(3)) == [(2, 3, "deleted")]


def test_a_span_that_the_present_divides_is_taken_back_whole_and_implied_anew(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1)], [skip(2, 3, 4, 5)], at(5))))
    assert _rewound(ledger, at(3.5)) == [(1, 1, None)]
    watermark = ledger.watermark()
    assert watermark is not None
    assert at(1) < watermark < at(2)


def test_a_span_that_ends_now_stays(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(2, 3)], at(5))))
    assert _rewound(ledger, at(3)) == [(2, 2, "missed")]


def test_a_watermark_that_lies_before_the_present_stays(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [], at(2))))
    ledger.do(ledger.ledger.rewind(MAIN, at(5)))
    assert ledger.watermark() == at(2)


def test_a_version_that_would_come_into_force_ahead_of_the_present_is_in_force(ledger: Stand) -> None:
    seen, later = automation(), automation(HOURLY)
    ledger.do(
        ledger.ledger.record_snapshot(
            MAIN, SnapshotUpdate(at(9), [version(seen, 3), version(later, 8)], [seen, later], [])
        )
    )
    ledger.do(ledger.ledger.rewind(MAIN, at(5)))
    known_target = ledger.do(ledger.ledger.bind(MAIN, URL, "1"))
    assert known_target.snapshot_at == at(5)
    recorded = known_target.automations
    assert {each: known.effective_from for each, known in recorded.items()} == {NIGHTLY: at(3), HOURLY: at(5)}
    assert ledger.rows("SELECT effective_from FROM definition ORDER BY id") == [
        ("2026-11-23T12:03:00.000000Z",),
        ("2026-11-23T12:05:00.000000Z",),
    ]


def test_before_the_first_poll_there_is_nothing_to_rewind(ledger: Stand) -> None:
    ledger.do(ledger.ledger.rewind(MAIN, at(5)))
    assert ledger.watermark() is None


def test_rewinding_one_target_leaves_the_others(ledger: Stand) -> None:
    ledger.do(ledger.ledger.bind("other", "https://eu.posthog.com", "1"))
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(5)], at(5))))
    ledger.do(ledger.ledger.rewind("other", at(0)))
    assert ledger.outcomes() == [(5, 1, "missed")]


# ---------------------------------------------------------------- runs


def test_a_run_is_followed_to_its_end(ledger: Stand) -> None:
    _claimed(ledger)
    ledger.do(ledger.ledger.conclude(occurrence(1), accepted("run-1"), end(result=AttemptResult.ANSWERED)))
    ledger.do(
        ledger.ledger.record_runs(
            MAIN, RunUpdate([(run("run-1", status=RunStatus.FAILED), RunOrigin.OCCURRENCE)], at(4))
        )
    )
    line = ledger.lines()[0]
    assert (line["outcome"], line["run_status"], line["error"]) == ("accepted", "failed", "it broke")
    assert ledger.rows("SELECT finished_at, occurrence_id IS NOT NULL FROM run") == [
        ("2026-11-23T12:04:00.000000Z", 1)
    ]


@pytest.mark.parametrize(
    ("first", "then", "stays"),
    [
        (RunStatus.RUNNING, RunStatus.SUPERSEDED, RunStatus.SUPERSEDED),
        (RunStatus.SUCCESS, RunStatus.RUNNING, RunStatus.SUCCESS),
        (RunStatus.LOST, RunStatus.RUNNING, RunStatus.LOST),
        (RunStatus.LOST, RunStatus.SUCCESS, RunStatus.SUCCESS),
    ],
)
def test_no_reading_makes_a_run_that_has_ended_run_again(
    ledger: Stand, first: RunStatus, then: RunStatus, stays: RunStatus
) -> None:
    for status in (first, then):
        ledger.do(
            ledger.ledger.record_runs(
                MAIN, RunUpdate([(run("run-1", status=status), RunOrigin.MANUAL)], at(4))
            )
        )
    assert ledger.rows("SELECT status FROM run") == [(stays,)]


def test_who_started_a_run_stays_as_it_was_first_recorded(ledger: Stand) -> None:
    for origin, status in ((RunOrigin.FOREIGN, RunStatus.RUNNING), (RunOrigin.OCCURRENCE, RunStatus.SUCCESS)):
        ledger.do(ledger.ledger.record_runs(MAIN, RunUpdate([(run("run-1", status=status), origin)], at(4))))
    assert (
        ledger.do(ledger.ledger.find_run_origin(MAIN, Run("run-1", NIGHTLY, None, RunStatus.RUNNING)))
        is RunOrigin.FOREIGN
    )


def test_an_unattributed_run_is_noted_as_last_shown_until_its_origin_is_known(ledger: Stand) -> None:
    verbs = ledger.ledger
    ledger.do(verbs.bind("other", "https://eu.posthog.com", "1"))
    elsewhere, first, second = (
        run("run-1", HOURLY),
        run("run-1", minute=None),
        run("run-2", status=RunStatus.FAILED),
    )
    ledger.do(verbs.record_runs("other", RunUpdate([], at(3), unattributed=[elsewhere])))
    ledger.do(verbs.record_runs(MAIN, RunUpdate([], at(3), unattributed=[second, first])))
    assert ledger.do(verbs.read_unattributed_runs(MAIN)) == [first, second]
    ended = replace(first, status=RunStatus.SUCCESS, started_at=at(1))
    ledger.do(verbs.record_runs(MAIN, RunUpdate([], at(3), attributed=["run-9"], unattributed=[ended])))
    assert ledger.do(verbs.read_unattributed_runs(MAIN)) == [ended, second]
    assert ledger.do(verbs.read_newest_runs(MAIN)) == []
    ledger.do(
        verbs.record_runs(
            MAIN,
            RunUpdate(
                [(ended, RunOrigin.FOREIGN)],
                at(4),
                attributed=["run-1"],
                unattributed=[replace(second, error=None)],
            ),
        )
    )
    assert ledger.do(verbs.read_unattributed_runs(MAIN)) == [replace(second, error=None)]
    assert (
        ledger.do(verbs.find_run_origin(MAIN, Run("run-1", NIGHTLY, None, RunStatus.RUNNING)))
        is RunOrigin.FOREIGN
    )
    assert ledger.do(verbs.read_unattributed_runs("other")) == [elsewhere]
    ledger.do(verbs.record_runs(MAIN, RunUpdate([], at(5), attributed=["run-2"], unattributed=[second])))
    assert ledger.do(verbs.read_unattributed_runs(MAIN)) == [second], "set aside again in the same moment"


def test_nothing_is_known_of_a_run_that_nobody_announced(ledger: Stand) -> None:
    assert (
        ledger.do(ledger.ledger.find_run_origin(MAIN, Run("run-1", NIGHTLY, at(1), RunStatus.RUNNING)))
        is None
    )


def test_the_newest_run_of_each_automation_is_gone_on_with(ledger: Stand) -> None:
    ledger.do(
        ledger.ledger.record_runs(
            MAIN,
            RunUpdate(
                [(run("old", minute=1), RunOrigin.FOREIGN), (run("new", minute=2), RunOrigin.FOREIGN)],
                at(4),
            ),
        )
    )
    ledger.do(
        ledger.ledger.record_runs(
            MAIN, RunUpdate([(run("other", HOURLY, minute=1), RunOrigin.MANUAL)], at(4))
        )
    )
    newest = ledger.do(ledger.ledger.read_newest_runs(MAIN))
    assert {each.automation_id: each.id for each in newest} == {NIGHTLY: "new", HOURLY: "other"}
    assert run("new", minute=2) in newest
    assert ledger.do(ledger.ledger.read_newest_runs("nobody")) == []


# ---------------------------------------------------------------- late doubles


def _unknown(on: Stand) -> None:
    """An attempt sent at minute 1 whose outcome was never told."""
    _claimed(on)
    on.do(on.ledger.end_attempt(occurrence(1), end(minute=1), State.UNKNOWN))


def _stranger(
    on: Stand, minute: float, *, automation_id: str = NIGHTLY, origin: RunOrigin = RunOrigin.FOREIGN
) -> dict[str, datetime]:
    return dict(
        on.do(
            on.ledger.record_runs(
                MAIN, RunUpdate([(run("stranger", automation_id, minute=minute), origin)], at(9))
            )
        ).doubles
    )


def test_a_foreign_run_after_an_attempt_taken_for_not_started_is_its_late_double(ledger: Stand) -> None:
    _unknown(ledger)
    ledger.do(ledger.ledger.resolve_not_started(occurrence(1)))
    ledger.do(ledger.ledger.write_attempt(occurrence(1), attempt(2, 2)))
    ledger.do(
        ledger.ledger.conclude(
            occurrence(1), accepted("run-2", minute=2), end(2, AttemptResult.ANSWERED, minute=2)
        )
    )
    assert _stranger(ledger, 7) == {"stranger": at(1)}
    assert ledger.rows("SELECT origin, doubles FROM run WHERE run_id = 'stranger'") == [
        ("foreign", "2026-11-23T12:01:00Z")
    ]
    assert _stranger(ledger, 7) == {}, "it is told once"


def test_a_run_that_was_found_is_nobodys_double(ledger: Stand) -> None:
    _unknown(ledger)
    ledger.do(ledger.ledger.conclude(occurrence(1), accepted("run-1", Reason.FOUND)))
    assert _stranger(ledger, 7) == {}


@pytest.mark.parametrize(
    ("minute", "automation_id", "origin"),
    [
        (-1, NIGHTLY, RunOrigin.FOREIGN),
        (24 * 60 + 2, NIGHTLY, RunOrigin.FOREIGN),
        (7, HOURLY, RunOrigin.FOREIGN),
        (7, NIGHTLY, RunOrigin.MANUAL),
    ],
)
def test_other_runs_are_no_late_doubles(
    ledger: Stand, minute: float, automation_id: str, origin: RunOrigin
) -> None:
    _unknown(ledger)
    assert _stranger(ledger, minute, automation_id=automation_id, origin=origin) == {}


@pytest.mark.parametrize(
    ("known", "now"), [(-600.0, None), (None, -600.0), (-7200.0, -7200.0), (None, -7200.0)]
)
def test_a_late_double_is_known_by_the_clock_of_the_api(
    ledger: Stand, known: float | None, now: float | None
) -> None:
    """It is ten minutes or two hours behind ours: so the run began after the attempt, though its time says
    before.
    """
    behind = -(known or now or 0.0) / 60
    first = Attempt(1, at(30), None, known)
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(30, first=first)], [], at(30))))
    ledger.do(ledger.ledger.end_attempt(occurrence(30), end(minute=30), State.UNKNOWN))
    stranger = [(run("stranger", minute=31 - behind), RunOrigin.FOREIGN)]
    assert ledger.do(
        ledger.ledger.record_runs(MAIN, RunUpdate(stranger, at(31), clock_offset=now))
    ).doubles == {"stranger": at(30)}


def test_a_run_before_the_attempt_by_the_clock_of_the_api_is_not_its_double(ledger: Stand) -> None:
    first = Attempt(1, at(30), None, 5.0)
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(30, first=first)], [], at(30))))
    ledger.do(ledger.ledger.end_attempt(occurrence(30), end(minute=30), State.UNKNOWN))
    assert (
        ledger.do(
            ledger.ledger.record_runs(
                MAIN,
                RunUpdate([(run("stranger", minute=21), RunOrigin.FOREIGN)], at(31), clock_offset=-600.0),
            )
        ).doubles
        == {}
    )


# ---------------------------------------------------------------- spans that are divided


def spans(on: Stand) -> list[tuple[int, int, str | None]]:
    """Of each row the minute, the count, and how its instants follow each other."""
    rows = on.rows("SELECT scheduled_for, count, intervals FROM occurrence ORDER BY scheduled_for")
    return [
        (int(str(row[0])[14:16]), int(str(row[1])), None if row[2] is None else str(row[2])) for row in rows
    ]


def test_what_lies_in_a_span_and_is_none_of_it_divides_the_span(ledger: Stand) -> None:
    """An edit that was seen late implied it, and so it has a row of its own."""
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(2, 4, 6, 8, 12)], at(12))))
    assert spans(ledger) == [(2, 5, "[[120,3],[240,1]]")]
    made = ledger.do(
        ledger.ledger.claim(
            MAIN, ClaimPlan([claim(6), claim(7), claim(20)], [skip(9, 10, 11, 12, 13)], at(13))
        )
    )
    assert made == {occurrence(7): 1, occurrence(20): 1, occurrence(9): 3, occurrence(13): 1}
    assert spans(ledger) == [
        (2, 3, "[[120,2]]"),
        (7, 1, None),
        (8, 1, None),
        (9, 3, "[[60,2]]"),
        (12, 1, None),
        (13, 1, None),
        (20, 1, None),
    ]
    lines = [(line["reason"], line["count"]) for line in ledger.lines() if line["outcome"] == "skipped"]
    assert lines == [("missed", 3), ("missed", 1), ("missed", 3), ("missed", 1), ("missed", 1)]


def test_what_a_span_stands_for_divides_nothing(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(2, 4, 6)], at(6))))
    assert ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(4)], [skip(2, 4, 6)], at(6)))) == {}
    assert spans(ledger) == [(2, 3, "[[120,2]]")]


def test_the_spans_of_other_automations_and_targets_are_not_divided(ledger: Stand) -> None:
    ledger.do(ledger.ledger.bind("other", "https://eu.posthog.com", "1"))
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [skip(2, 4, 6)], at(6))))
    ledger.do(
        ledger.ledger.claim(MAIN, ClaimPlan([claim(3, HOURLY)], [skip(5, 7, automation_id=HOURLY)], at(7)))
    )
    elsewhere = replace(claim(3), occurrence=replace(occurrence(3), target="other"))
    assert ledger.do(ledger.ledger.claim("other", ClaimPlan([elsewhere], [], at(6)))) == {
        elsewhere.occurrence: 1
    }
    assert spans(ledger) == [(2, 3, "[[120,2]]"), (3, 1, None), (3, 1, None), (5, 2, "[[120,1]]")]


def test_a_divided_span_is_due_where_its_jitter_says(ledger: Stand) -> None:
    late = replace(skip(2, 4, 6), due=at(2.5))
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [late], at(6))))
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(3)], [], at(6))))
    assert [
        str(row[0])[14:19] for row in ledger.rows("SELECT due FROM occurrence ORDER BY scheduled_for")
    ] == ["02:30", "03:00", "04:30"]


# ---------------------------------------------------------------- what is late


def test_what_has_a_row_of_its_own_or_in_a_span_is_not_lacking(ledger: Stand) -> None:
    ledger.do(ledger.ledger.bind("other", "https://eu.posthog.com", "1"))
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1), claim(7, HOURLY)], [skip(3, 4, 5)], at(5))))
    expected = [*(occurrence(minute) for minute in range(1, 8)), occurrence(7, HOURLY)]
    assert ledger.do(ledger.ledger.find_missing(MAIN, expected)) == {
        occurrence(2),
        occurrence(6),
        occurrence(7),
    }
    assert ledger.do(ledger.ledger.find_missing(MAIN, [])) == set()


def test_late_is_what_is_open_past_its_deadline(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1), claim(2), claim(3)], [], at(5))))
    ledger.do(ledger.ledger.conclude(occurrence(1), concluded(Outcome.EXPIRED, Reason.NOT_STARTED)))
    assert [each.occurrence for each in ledger.do(ledger.ledger.read_late_occurrences(MAIN, at(7)))] == []
    assert [each.occurrence for each in ledger.do(ledger.ledger.read_late_occurrences(MAIN, at(7.5)))] == [
        occurrence(2)
    ]
    assert [each.occurrence for each in ledger.do(ledger.ledger.read_late_occurrences(MAIN, at(9)))] == [
        occurrence(2),
        occurrence(3),
    ]


# ---------------------------------------------------------------- steps

_TWO_STEPS = (Step(at(1), Cause.HELD, at(2), "no such key"), Step(at(2), Cause.ADOPTED))


def _taken_down(on: Stand) -> list[tuple[object, ...]]:
    return on.rows("SELECT at, cause, until, detail FROM step ORDER BY at")


def test_steps_ride_in_every_write_of_their_occurrence(ledger: Stand) -> None:
    verbs = ledger.ledger
    _claimed(ledger)
    ledger.do(
        verbs.end_attempt(occurrence(1), end(), State.UNKNOWN, [Step(at(1), Cause.BACK_OFF, at(2), "reset")])
    )
    ledger.do(verbs.resolve_not_started(occurrence(1), [Step(at(3), Cause.NOTHING_STARTED)]))
    ledger.do(verbs.write_attempt(occurrence(1), attempt(2, 4), [Step(at(4), Cause.THROTTLED, at(5))]))
    ledger.do(
        verbs.conclude(
            occurrence(1), accepted("run-1"), end(2, AttemptResult.ANSWERED), [Step(at(5), Cause.ADOPTED)]
        )
    )
    assert [cause for _, cause, _, _ in _taken_down(ledger)] == [
        "back_off",
        "nothing_started",
        "throttled",
        "adopted",
    ]


def test_a_step_that_is_written_again_is_one(ledger: Stand) -> None:
    _claimed(ledger)
    for number in (1, 2):
        ledger.do(ledger.ledger.write_attempt(occurrence(1), attempt(number, number), _TWO_STEPS))
    assert _taken_down(ledger) == [
        ("2026-11-23T12:01:00.000000Z", "held", "2026-11-23T12:02:00.000000Z", "no such key"),
        ("2026-11-23T12:02:00.000000Z", "adopted", None, None),
    ]


def test_a_wait_that_is_noted_gets_its_end_later_and_keeps_it(ledger: Stand) -> None:
    _claimed(ledger)
    lasting, ended = (
        Step(at(1), Cause.HELD, None, "no such key"),
        Step(at(1), Cause.HELD, at(3), "no such key"),
    )
    ledger.do(ledger.ledger.record_steps([(occurrence(1), [lasting]), (occurrence(99), [lasting])]))
    assert _taken_down(ledger) == [("2026-11-23T12:01:00.000000Z", "held", None, "no such key")]
    for step in (ended, lasting):
        ledger.do(ledger.ledger.discard_attempts([], [(occurrence(1), [step])]))
        assert _taken_down(ledger) == [
            ("2026-11-23T12:01:00.000000Z", "held", "2026-11-23T12:03:00.000000Z", "no such key")
        ]


def test_the_steps_of_what_contradicts_are_not_written(ledger: Stand) -> None:
    _claimed(ledger)
    with pytest.raises(Contradiction):
        ledger.do(ledger.ledger.end_attempt(occurrence(1), end(7), State.UNKNOWN, _TWO_STEPS))
    assert _taken_down(ledger) == []
