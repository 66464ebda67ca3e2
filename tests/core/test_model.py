"""One object of the API becomes an automation, or an error that says which field is wrong; nothing else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.clock_offset import sample_offset
from scheduler.core.model import (
    MAX_NAME,
    REASONS,
    Automation,
    Definition,
    InvalidAutomation,
    Occurrence,
    Outcome,
    Reason,
    Skip,
    parse_automation,
    to_canonical_id,
)
from scheduler.core.policy import compute_effective_from

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
OBJECT: dict[str, Any] = {
    "id": ID,
    "name": "Nightly",
    "prompt": "Tidy up.",
    "repository": "acme/app",
    "cron_expression": "0 3 * * *",
    "timezone": "Europe/Vienna",
    "enabled": True,
    "last_run_at": "2026-11-23T12:00:00.000000Z",
    "last_run_status": "running",
    "last_task_run_id": "run-1",
    "last_error": None,
    "updated_at": "2026-11-23T13:00:00+01:00",
}


def without(*fields: str) -> dict[str, Any]:
    return {field: value for field, value in OBJECT.items() if field not in fields}


def test_an_object_becomes_an_automation() -> None:
    definition = Definition("0 3 * * *", "Europe/Vienna", enabled=True)
    assert parse_automation(OBJECT) == Automation(
        ID, "Nightly", definition, NOON, "run-1", NOON, "running", None
    )


def test_one_that_never_ran_has_no_run() -> None:
    never = parse_automation(
        without("last_run_at", "last_run_status", "last_task_run_id", "last_error", "updated_at")
    )
    assert (never.run_id, never.run_at, never.run_status, never.run_error, never.updated_at) == (None,) * 5


@pytest.mark.parametrize(
    "extra", [{"repository": None}, {"prompt": None}, {"new_field": {"nested": [1]}}, {"last_task_id": 7}]
)
def test_what_the_schedule_does_not_need_is_taken_as_it_comes(extra: dict[str, Any]) -> None:
    assert parse_automation(OBJECT | extra) == parse_automation(OBJECT)


@pytest.mark.parametrize("name", [None, "", 7, ["Nightly"]])
def test_without_a_name_it_goes_by_its_id(name: object) -> None:
    assert parse_automation(OBJECT | {"name": name}).name == ID


def test_texts_for_people_are_cut_and_made_whole() -> None:
    parsed = parse_automation(
        OBJECT | {"name": "n" * 1000, "last_error": "half \ud800 a \0 pair " + "e" * 5000}
    )
    assert parsed.name == "n" * MAX_NAME
    assert parsed.run_error is not None
    assert parsed.run_error.startswith("half ? a \ufffd pair e")
    assert len(parsed.run_error) == 500


@pytest.mark.parametrize("value", [None, 7, "text", [], [OBJECT], True])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(InvalidAutomation, match="expected an object") as refused:
        parse_automation(value)
    assert refused.value.automation_id is None


@pytest.mark.parametrize(
    "bad", [None, "", 7, "not-a-uuid", ID + "0", ID[:-1], "g" * 32, ID + " " * 5000, {"id": ID}]
)
def test_without_an_id_it_cannot_be_named(bad: object) -> None:
    with pytest.raises(InvalidAutomation, match="its id is not a UUID") as refused:
        parse_automation(OBJECT | {"id": bad})
    assert refused.value.automation_id is None


@pytest.mark.parametrize(
    ("field", "bad", "reason"),
    [
        ("cron_expression", None, "its cron_expression is missing or null, expected str"),
        ("cron_expression", 5, "its cron_expression is int, expected str"),
        ("cron_expression", "* " * 2000, "its cron_expression is 4000 characters long"),
        ("cron_expression", "\udc00", "its cron_expression holds half a surrogate pair"),
        ("cron_expression", "0 3 * * *\0 L", "its cron_expression holds a NUL character"),
        ("timezone", "UTC\0/x", "its timezone holds a NUL character"),
        ("last_task_run_id", "run-1\0b", "its last_task_run_id holds a NUL character"),
        ("last_run_status", "success\0", "its last_run_status holds a NUL character"),
        ("timezone", None, "its timezone is missing or null, expected str"),
        ("timezone", ["UTC"], "its timezone is list, expected str"),
        ("enabled", None, "its enabled is missing or null, expected bool"),
        ("enabled", 1, "its enabled is int, expected bool"),
        ("enabled", "true", "its enabled is str, expected bool"),
        ("updated_at", 7, "its updated_at is int, expected str or null"),
        ("updated_at", "yesterday", "its updated_at is not an ISO 8601 instant with an offset"),
        ("updated_at", "2026-11-23T12:00:00", "its updated_at is not an ISO 8601 instant with an offset"),
        ("last_run_at", True, "its last_run_at is bool, expected str or null"),
        ("last_run_status", 3, "its last_run_status is int, expected str or null"),
        ("last_task_run_id", 3, "its last_task_run_id is int, expected str or null"),
        ("last_task_run_id", "r" * 1001, "its last_task_run_id is 1001 characters long"),
    ],
)
def test_a_field_that_decides_must_be_what_it_should_be(field: str, bad: object, reason: str) -> None:
    with pytest.raises(InvalidAutomation) as refused:
        parse_automation(OBJECT | {field: bad})
    assert (refused.value.reason, refused.value.automation_id, refused.value.name) == (reason, ID, "Nightly")


NO_CLOCK_SHOWED = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "1969-12-31T23:59:59Z",
    "3000-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
]


@pytest.mark.parametrize("text", NO_CLOCK_SHOWED)
def test_an_instant_that_no_clock_can_have_shown_counts_as_none(text: str) -> None:
    parsed = parse_automation(OBJECT | {"updated_at": text, "last_run_at": text})
    assert parsed == replace(parse_automation(OBJECT), updated_at=None, run_at=None)


@pytest.mark.parametrize("text", [*NO_CLOCK_SHOWED, "1970-01-01T00:00:00Z", "2999-12-31T23:59:59.999999Z"])
@pytest.mark.parametrize("date", [datetime.min, datetime(1970, 1, 1), datetime(2999, 12, 31), datetime.max])  # noqa: DTZ001, DTZ901  # all in UTC
def test_whatever_the_api_says_of_time_an_edit_of_it_can_be_placed(text: str, date: datetime) -> None:
    offset = sample_offset(date.replace(tzinfo=UTC), sent=NOON, received=NOON)
    counted = compute_effective_from(
        parse_automation(OBJECT | {"updated_at": text}).updated_at,
        clock_offset=offset.seconds if offset else 0.0,
        previous_poll=NOON,
        this_poll=NOON + timedelta(minutes=1),
        run_moved_it=False,
    )
    assert NOON <= counted <= NOON + timedelta(minutes=1)


@pytest.mark.parametrize("spelt", [ID, ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}"])
def test_an_id_has_one_spelling(spelt: str) -> None:
    assert to_canonical_id(spelt) == ID


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    value=JSON
    | st.fixed_dictionaries({}, optional={field: JSON | st.just(value) for field, value in OBJECT.items()})
)
def test_whatever_comes_is_an_automation_or_an_invalid_one(value: object) -> None:
    try:
        parsed = parse_automation(value)
    except InvalidAutomation as error:
        error.reason.encode()
    else:
        assert parsed.id == to_canonical_id(parsed.id)
        for text in (
            parsed.name,
            parsed.run_id,
            parsed.run_error,
            parsed.run_status,
            *vars_of(parsed.definition),
        ):
            (text or "").encode()  # what could not be kept in a database is not there
            assert "\0" not in (text or "")


def vars_of(definition: Definition) -> tuple[str, str]:
    return definition.cron_expression, definition.timezone


def test_every_outcome_has_its_reasons_and_no_reason_has_two() -> None:
    assert set(REASONS) == set(Outcome)
    assert sorted(reason for reasons in REASONS.values() for reason in reasons) == sorted(Reason)


def test_a_skip_says_how_far_it_goes() -> None:
    instants = [NOON, NOON.replace(minute=5), NOON.replace(minute=10)]
    skip = Skip(Occurrence("main", ID, NOON), "Nightly", NOON, instants, Reason.COALESCED, NOON)
    assert (skip.last, skip.count) == (NOON.replace(minute=10), 3)
