"""Which recorded version was in force when, and until when one may have gone on firing."""

from datetime import UTC, datetime, timedelta

from scheduler.audit.versions import find_periods
from scheduler.core.instants import END_OF_TIME
from scheduler.core.model import Definition
from scheduler.ledger.versions import RecordedVersion

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def version(effective_from: float, observed_at: float) -> RecordedVersion:
    definition = Definition("* * * * *", "UTC", enabled=True)
    return RecordedVersion(
        *("a", "nightly", definition, at(effective_from), at(observed_at)),
        removed=False,
        croniter="6.0",
        tzdata="2026f",
        newest_occurrence=None,
    )


def test_a_version_counts_until_the_next_one_and_is_tolerated_until_that_was_seen() -> None:
    first, second = find_periods([version(0, 0), version(5, 6)])
    assert (first.begin, first.end, first.tolerated_until) == (at(0), at(5), at(6) + timedelta(seconds=10))
    assert (second.begin, second.end, second.tolerated_until) == (at(5), END_OF_TIME, END_OF_TIME)


def test_when_the_clock_went_back_before_the_next_one_was_seen_it_may_have_fired_at_any_later_time() -> None:
    """It was seen at 12:43; the clock went on to 12:53, back to 12:30, and the next one was seen at 12:33."""
    first, _ = find_periods([version(0, 43), version(0, 33)])
    assert first.tolerated_until == END_OF_TIME
