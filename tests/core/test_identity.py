"""One key for all attempts of an occurrence, and none for two."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import product

from scheduler.core.model import make_idempotency_key

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_it_is_the_same_for_the_same_occurrence_however_that_is_written() -> None:
    vienna = timezone(timedelta(hours=1))
    key = make_idempotency_key("https://us.posthog.com", "1", ID, NOON)
    assert key == make_idempotency_key("https://us.posthog.com/", "1", ID, NOON.astimezone(vienna))
    assert len(key) == 64
    assert set(key) <= set("0123456789abcdef")


def test_it_stays_what_it_is_from_one_release_to_the_next() -> None:
    """A new release that resolves what the old one left open must send the same key."""
    key = make_idempotency_key("https://us.posthog.com", "1", ID, NOON)
    assert key == "f1997d1c17ace5710e7ad23baefe81309ca4fd8c43185b4b26f63963985f3f68"


def test_every_part_of_the_identity_makes_it_another() -> None:
    parts = product(
        ["https://us.posthog.com", "https://eu.posthog.com"],
        ["1", "11"],
        [ID, ID.replace("7", "8")],
        [NOON, NOON + timedelta(minutes=1)],
    )
    keys = [make_idempotency_key(*each) for each in parts]
    assert len(set(keys)) == len(keys) == 16
