"""How a span says which instants it stands for."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.cron.schedule import Schedule
from scheduler.ledger.spans import decode_intervals, encode_intervals

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=50, unique=True))
def test_what_is_written_is_read_back(seconds: list[int]) -> None:
    instants = [NOON + timedelta(seconds=each) for each in sorted(seconds)]
    text = encode_intervals(instants)
    assert text is not None
    assert list(decode_intervals(instants[0], text)) == instants


def test_a_single_instant_follows_nothing() -> None:
    assert encode_intervals([NOON]) is None


@pytest.mark.parametrize("expression", ["* * * * *", "*/7 * * * *", "1-59/3 8-17 * * *", "0 9 * * 1-5"])
def test_a_weekend_is_not_much(expression: str) -> None:
    instants = list(
        Schedule.parse(expression, "Europe/Berlin").iterate_between(NOON, NOON + timedelta(days=3))
    )
    assert len(encode_intervals(instants) or "") < 2500
