"""Instants as text sort as time does, and come back as they were."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.instants import from_text, to_text, to_text_seconds

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
INSTANTS = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 -- as hypothesis wants them


def test_both_forms() -> None:
    instant = NOON.replace(microsecond=5)
    assert to_text(instant) == "2026-11-23T12:00:00.000005Z"
    assert to_text(NOON) == "2026-11-23T12:00:00.000000Z"
    assert to_text_seconds(instant) == "2026-11-23T12:00:00Z"


def test_another_zone_becomes_utc() -> None:
    vienna = timezone(timedelta(hours=1))
    assert to_text(NOON.astimezone(vienna)) == to_text(NOON)
    assert to_text_seconds(NOON.astimezone(vienna)) == to_text_seconds(NOON)
    assert from_text("2026-11-23T13:00:00+01:00") == NOON
    assert from_text("2026-11-23T13:00:00+01:00").tzinfo is UTC


@pytest.mark.parametrize("write", [to_text, to_text_seconds])
def test_an_instant_without_a_zone_is_refused(write: object) -> None:
    assert callable(write)
    with pytest.raises(ValueError, match="no zone"):
        write(datetime(2026, 11, 23, 12))  # noqa: DTZ001 -- that is the point


@pytest.mark.parametrize(
    "text", ["", "now", "2026-11-23", "2026-11-23T12:00:00", "2026-13-01T00:00:00Z", "2026-11-23T12:00:00Q"]
)
def test_what_names_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"offset|isoformat|month"):
        from_text(text)


@given(INSTANTS)
def test_what_was_written_is_read(instant: datetime) -> None:
    assert from_text(to_text(instant)) == instant
    assert from_text(to_text_seconds(instant)) == instant.replace(microsecond=0)
    assert len(to_text(instant)) == 27
    assert len(to_text_seconds(instant)) == 20


@given(INSTANTS, INSTANTS)
def test_text_sorts_as_time_does(one: datetime, other: datetime) -> None:
    assert (to_text(one) < to_text(other)) == (one < other)
