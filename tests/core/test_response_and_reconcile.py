"""What an answer means, and what a reading says of an attempt whose outcome is unknown: row by row."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.model import Automation, Definition, is_finished
from scheduler.core.reconcile import (
    ReconcileResult,
    RunReading,
    UnknownAttempt,
    reconcile,
)
from scheduler.core.response import (
    AttemptAccepted,
    AttemptResponse,
    AttemptVerdict,
    AutomationNotFound,
    Held,
    MaybeStarted,
    NotStarted,
    Rejected,
    Throttled,
    judge,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
OURS, THEIRS = "01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8058"


def automation(run_id: str | None, automation_id: str = OURS) -> Automation:
    return Automation(
        automation_id, "Nightly", Definition("0 3 * * *", "UTC", enabled=True), run_id=run_id, run_at=NOON
    )


def judged(came_back: AttemptResponse | NotStarted | MaybeStarted) -> AttemptVerdict:
    return judge(came_back, automation_id=OURS, taken=lambda run_id: run_id in {"baseline", "another's"})


# ---------------------------------------------------------------- the answer to an attempt


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_a_new_run_of_ours_is_accepted(status: int) -> None:
    assert judged(AttemptResponse(status, automation("new"))) == AttemptAccepted(automation("new"))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, "without the automation"),
        (automation("new", THEIRS), f"with another automation, {THEIRS}"),
        (automation(None), "without a run"),
        (automation("baseline"), "with a run that was there before, baseline"),
        (automation("another's"), "with a run that was there before, another's"),
    ],
)
@pytest.mark.parametrize("status", [200, 204])
def test_a_success_with_anything_else_is_unknown(status: int, body: Automation | None, says: str) -> None:
    verdict = judged(AttemptResponse(status, body, retry_after=7.0))
    assert isinstance(verdict, MaybeStarted)
    assert verdict.error.startswith(f"HTTP {status} {says}")
    assert verdict.retry_after == 7.0


def test_what_never_left_started_nothing() -> None:
    assert judged(NotStarted("no connection")) == NotStarted("no connection")


def test_what_was_lost_is_unknown() -> None:
    assert judged(MaybeStarted("connection reset")) == MaybeStarted("connection reset")


@pytest.mark.parametrize("status", [408, 425, 500, 501, 502, 503, 504, 520, 599, 100, 103, 199, 600, 999])
def test_unknown_unless_told_otherwise(status: int) -> None:
    assert judged(AttemptResponse(status, retry_after=3.0)) == MaybeStarted(f"HTTP {status}", 3.0)


@pytest.mark.parametrize("retry_after", [None, 0.0, 12.0])
def test_429_started_nothing_and_says_how_long_to_wait(retry_after: float | None) -> None:
    assert judged(AttemptResponse(429, retry_after=retry_after)) == Throttled("HTTP 429", retry_after)


@pytest.mark.parametrize(("status", "missing_scope"), [(401, False), (401, True), (403, True)])
def test_a_key_or_scope_that_is_missing_holds_the_target(status: int, missing_scope: bool) -> None:
    assert judged(AttemptResponse(status, missing_scope=missing_scope, error="why")) == Held(
        f"HTTP {status}: why"
    )


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_a_redirect_holds_the_target_and_is_named(status: int) -> None:
    verdict = judged(AttemptResponse(status, location="https://elsewhere.example/"))
    assert isinstance(verdict, Held)
    assert "https://elsewhere.example/" in verdict.error


def test_404_asks_for_a_look_at_the_list() -> None:
    assert judged(AttemptResponse(404, error="Not found.")) == AutomationNotFound("HTTP 404: Not found.")


@pytest.mark.parametrize(
    "status", [400, 402, 403, 405, 406, 407, 409, 410, 411, 413, 414, 415, 418, 422, 426, 428, 431, 451, 499]
)
def test_any_other_4xx_is_for_good(status: int) -> None:
    assert judged(AttemptResponse(status, error="why")) == Rejected(f"HTTP {status}: why")


@given(
    status=st.integers(100, 999),
    body=st.none()
    | st.builds(
        automation, st.none() | st.sampled_from(["new", "baseline"]), st.sampled_from([OURS, THEIRS])
    ),
    missing_scope=st.booleans(),
)
def test_only_a_success_that_names_a_new_run_of_ours_is_accepted(
    status: int, body: Automation | None, missing_scope: bool
) -> None:
    verdict = judged(AttemptResponse(status, body, missing_scope=missing_scope))
    names_ours = body is not None and body.id == OURS and body.run_id == "new"
    assert isinstance(verdict, AttemptAccepted) == (200 <= status < 300 and names_ours)


@pytest.mark.parametrize(
    ("status", "finished"),
    [("success", True), ("failed", True), ("running", False), (None, False), ("paused", False)],
)
def test_a_run_is_finished_when_the_api_says_so_in_its_own_words(status: str | None, finished: bool) -> None:
    assert is_finished(status) is finished


# ---------------------------------------------------------------- finding out

SENT, ENDED, SETTLE = 1000.0, 1030.0, 30.0
SETTLED = ENDED + SETTLE
MARGIN = 1.0
DOUBT = UnknownAttempt("baseline", SENT, ENDED, SETTLE)


def found(
    reading: RunReading, earlier: RunReading | None = None, doubt: UnknownAttempt = DOUBT
) -> ReconcileResult:
    return reconcile(doubt, reading, earlier, margin=MARGIN, taken=lambda run_id: run_id == "taken")


@pytest.mark.parametrize(
    ("began", "expected"),
    [
        (SENT - MARGIN - 0.001, ReconcileResult.UNDECIDED),  # earlier: a foreign run; read on
        (SENT - MARGIN, ReconcileResult.FOUND),  # as early as the two clocks may differ
        (SENT, ReconcileResult.FOUND),
        (ENDED, ReconcileResult.FOUND),
        (SETTLED, ReconcileResult.FOUND),
        (SETTLED + MARGIN, ReconcileResult.FOUND),
        (SETTLED + MARGIN + 0.001, ReconcileResult.COVERED),  # later: ours may lie beneath it
    ],
)
def test_a_new_run_is_ours_when_it_began_between_the_first_byte_and_the_settling(
    began: float, expected: object
) -> None:
    assert found(RunReading(SETTLED + 60, "new", began)) == expected


@pytest.mark.parametrize(
    ("begun", "expected"), [(ENDED + 1, ReconcileResult.FOUND), (SETTLED + 60, ReconcileResult.COVERED)]
)
def test_a_run_that_seems_to_begin_after_the_reading_began_before_it(
    begun: float, expected: ReconcileResult
) -> None:
    """The API's clock was set back since, and nobody knows what it showed when the attempt was sent."""
    assert found(RunReading(begun, "new", SETTLED + 3600)) == expected


def test_a_run_that_is_another_occurrences_hides_ours() -> None:
    assert found(RunReading(ENDED + 1, "taken", SENT + 1)) == ReconcileResult.COVERED


def test_a_run_of_which_the_api_does_not_say_when_it_began_tells_nothing() -> None:
    reading = RunReading(SETTLED + 60, "new", None)
    assert found(reading, reading) == ReconcileResult.UNDECIDED


@pytest.mark.parametrize("run_id", ["baseline", None, "foreign"])
@pytest.mark.parametrize(
    ("earlier", "begun", "expected"),
    [
        (None, SETTLED + 60, ReconcileResult.UNDECIDED),  # one reading, however late
        ("the same", SETTLED - 0.001, ReconcileResult.UNDECIDED),  # two, but it may still be carried out
        ("the same", SETTLED, ReconcileResult.NOTHING_STARTED),
        ("another", SETTLED + 60, ReconcileResult.UNDECIDED),
    ],
)
def test_two_readings_agree_that_nothing_was_started(
    run_id: str | None, earlier: str | None, begun: float, expected: object
) -> None:
    began = SENT - 100 if run_id is not None else None
    before = (
        None
        if earlier is None
        else RunReading(ENDED + 1, run_id if earlier == "the same" else "another one", began)
    )
    assert found(RunReading(begun, run_id, began), before) == expected


def test_without_a_baseline_the_first_run_may_be_ours() -> None:
    doubt = UnknownAttempt(None, SENT, ENDED, SETTLE)
    assert found(RunReading(ENDED + 1, "first", SENT + 1), doubt=doubt) == ReconcileResult.FOUND
    assert (
        found(RunReading(SETTLED, None, None), RunReading(ENDED + 1, None, None), doubt)
        == ReconcileResult.NOTHING_STARTED
    )


def test_the_baseline_is_not_ours_even_when_it_began_just_before() -> None:
    assert found(RunReading(ENDED + 1, "baseline", SENT - 0.5)) == ReconcileResult.UNDECIDED


@given(
    began=st.floats(SENT - 100, SETTLED + 100),
    begun=st.floats(ENDED, SETTLED + 200),
    earlier=st.none() | st.sampled_from(["new", "baseline"]),
)
def test_our_own_run_is_never_taken_for_nothing(began: float, begun: float, earlier: str | None) -> None:
    """Whatever was read: when a run began while ours could have, it is never said that nothing was
    started.
    """
    finding = found(
        RunReading(begun, "new", began), None if earlier is None else RunReading(ENDED, earlier, SENT - 1)
    )
    if began >= SENT - MARGIN:
        assert finding in {ReconcileResult.FOUND, ReconcileResult.COVERED}


NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("by_now", "by_then", "expected"),
    [
        (SENT + 5, 5, ReconcileResult.FOUND),
        (
            SENT - 3600,
            5,
            ReconcileResult.FOUND,
        ),  # the API's clock was set forward since, or ours back while nobody ran
        (SETTLED + 3600, 5, ReconcileResult.FOUND),  # the other way round
        (SENT + 5, -3600, ReconcileResult.FOUND),  # it was set before the run began
        (SENT - 3600, -60, ReconcileResult.UNDECIDED),  # before the attempt, whichever clock is right
        (SETTLED + 3600, -60, ReconcileResult.COVERED),  # after it by one clock, so that ours may lie beneath
        (SENT - 3600, 3600, ReconcileResult.COVERED),
    ],
)
def test_a_run_is_ours_by_either_clock_when_one_was_set_meanwhile(
    by_now: float, by_then: float, expected: ReconcileResult
) -> None:
    doubt = UnknownAttempt("baseline", SENT, ENDED, SETTLE, sent_by_api=NOON)
    assert (
        found(RunReading(ENDED + 1, "new", by_now, NOON + timedelta(seconds=by_then)), doubt=doubt)
        == expected
    )
