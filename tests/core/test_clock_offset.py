from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.clock_offset import ClockOffset, sample_offset

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def seconds(amount: float) -> timedelta:
    return timedelta(seconds=amount)


def answer(offset: float, *, at: float, took: float = 0.05, kept: float = 0.0) -> ClockOffset:
    """What an answer says whose server is ``offset`` ahead, read its clock halfway, and had made its ``Date``
    ``kept`` seconds before.
    """
    sent = NOON + seconds(at)
    read = sent + seconds(took / 2 + offset - kept)
    sample = sample_offset(read.replace(microsecond=0), sent=sent, received=sent + seconds(took))
    assert sample is not None
    return sample


def test_one_answer_tells_the_offset_to_within_about_a_second() -> None:
    sample = answer(7.0, at=0.3)
    assert abs(sample.seconds - 7.0) <= sample.margin
    assert 2.0 <= sample.high - sample.low <= 2.2


def test_answers_around_the_beginning_of_a_second_narrow_it() -> None:
    known = answer(7.0, at=0.0)
    for at in (1.97, 2.99, 4.0, 5.02):
        known = known.narrow(answer(7.0, at=at))
    assert known.high - known.low < 1.12
    assert abs(known.seconds - 7.0) <= known.margin


def test_an_answer_that_contradicts_starts_anew() -> None:
    stepped = answer(-120.0, at=60.0)
    assert answer(7.0, at=0.0).narrow(stepped) == stepped


def test_what_is_known_widens_with_time_as_clocks_drift() -> None:
    known = ClockOffset(0.0, 0.1, NOON)
    an_hour_on = ClockOffset(0.5, 2.0, NOON + seconds(3600))
    narrowed = known.narrow(an_hour_on)
    assert (narrowed.low, narrowed.high) == pytest.approx((0.5, 1.9))


def test_a_clock_of_ours_that_went_back_during_the_request_says_nothing() -> None:
    assert sample_offset(NOON, sent=NOON, received=NOON - seconds(0.5)) is None


@given(
    offset=st.floats(-86_400, 86_400),
    answers=st.lists(
        st.tuples(st.floats(0, 3600), st.floats(0, 30), st.floats(0, 1.0)), min_size=1, max_size=20
    ),
)
def test_the_truth_is_never_outside_of_what_is_known(
    offset: float, answers: list[tuple[float, float, float]]
) -> None:
    known: ClockOffset | None = None
    for at, took, kept in sorted(answers):
        sample = answer(offset, at=at, took=took, kept=kept)
        known = known.narrow(sample) if known else sample
        assert known.low - 1e-4 <= offset <= known.high + 1e-4


@pytest.mark.parametrize(
    ("low", "high", "estimate", "margin"),
    [(-0.1, 1.9, 0.0, 1.9), (-1.5, 0.5, 0.0, 1.5), (2.0, 2.5, 2.0, 0.5), (-7.0, -6.0, -6.0, 1.0)],
)
def test_the_estimate_is_what_is_possible_nearest_to_zero_and_the_margin_reaches_both_ends(
    low: float, high: float, estimate: float, margin: float
) -> None:
    offset = ClockOffset(low, high, NOON)
    assert (offset.seconds, offset.margin) == (estimate, margin)
