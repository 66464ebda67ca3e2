"""The instants that the checks count by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.simulation.counting import list_instants

_BEGIN = datetime(2026, 6, 3, tzinfo=UTC)  # a Wednesday
_DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("expression", "times"),
    [
        ("50-10/15 22 * * *", ["22:05", "22:50"]),
        ("0 23-5/4 * * *", ["03:00", "23:00"]),
        ("7 */8 * * *", ["00:07", "08:07", "16:07"]),
        ("5,45/10 1 * * *", ["01:05", "01:45", "01:55"]),
        ("0 9 28-3/3 * *", ["09:00"]),
        ("0 9 * 11-6/7 *", ["09:00"]),
        ("0 9 * 11-6/2 *", []),
        ("0 9 * * 6-3/2", ["09:00"]),
        ("0 9 * * 6-2/2", []),
        ("0 9 1 * 3", ["09:00"]),  # the date or the day of week
        ("0 9 1 * *", []),
        ("0 9 */2 * 4", []),  # both
    ],
)
def test_plain_expressions_are_counted_by_hand(expression: str, times: list[str]) -> None:
    instants = list_instants(expression, _BEGIN, _BEGIN + _DAY)
    assert instants is not None
    assert [f"{instant:%H:%M}" for instant in instants] == times


def test_the_end_counts_and_the_begin_does_not() -> None:
    assert list_instants("0 0 * * *", _BEGIN, _BEGIN + _DAY) == (_BEGIN + _DAY,)


@pytest.mark.parametrize(
    "expression",
    [
        "0 9 * * mon",
        "0 9 L * *",
        "0 9 * * 5#2",
        "@daily",
        "60 * * * *",
        "*/0 * * * *",
        "* * * *",
        "0 9 * * 7",
    ],
)
def test_what_is_not_plain_is_left_to_others(expression: str) -> None:
    assert list_instants(expression, _BEGIN, _BEGIN + _DAY) is None
