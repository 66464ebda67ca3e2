"""How a span says which instants it stands for."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.cron.schedule import Schedule
from scheduler.core.model import Occurrence
from scheduler.ledger.schema import MIGRATIONS
from scheduler.ledger.spans import decode_intervals, encode_intervals, find_span

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


def test_a_span_of_unknown_instants_may_cover_what_a_span_within_its_bounds_does_not() -> None:
    connection = sqlite3.connect(":memory:")
    for statement in (statement for migration in MIGRATIONS for statement in migration.statements):
        connection.execute(statement)
    for first, last, count, intervals in (("12:00", "20:00", 20, None), ("14:00", "16:00", 3, "[[3600,2]]")):
        connection.execute(
            """
            INSERT INTO occurrence (target, automation_id, scheduled_for, last, count, intervals, name, due,
                outcome, reason, finished_at, node)
            VALUES ('main', 'a', ?1, ?2, ?3, ?4, 'a', ?1, 'skipped', 'missed', ?2, 'node')
            """,
            (f"2026-11-23T{first}:00Z", f"2026-11-23T{last}:00Z", count, intervals),
        )

    def find_count(hours: float) -> int | None:
        span = find_span(connection, Occurrence("main", "a", NOON + timedelta(hours=hours)))
        return None if span is None else span.count

    assert [find_count(hours) for hours in (2, 2.5, 5, 9)] == [3, 20, 20, None]
    connection.close()
