"""What a client may write. The expected answers are those that Django REST framework itself gave to the same
values.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.localapi.http.contract import Contract
from scheduler.localapi.http.errors import ApiError
from scheduler.localapi.http.fields import Form
from scheduler.localapi.store import FIELDS
from tests.localapi.support import VALID

CONTRACT = Contract({7})

NOT_A_STRING = ("invalid_input", "Not a valid string.")
BLANK = ("blank", "This field may not be blank.")
NULL = ("null", "This field may not be null.")
REQUIRED = ("required", "This field is required.")
NUL_CHARACTER = ("null_characters_not_allowed", "Null characters are not allowed.")
SURROGATE = ("surrogate_characters_not_allowed", "Surrogate characters are not allowed: U+D800.")
NOT_A_BOOLEAN = ("invalid_input", "Must be a valid boolean.")
NO_REPOSITORY = ("invalid_input", "Repository must be in the format organization/repository")
NOT_FIVE_FIELDS = (
    "invalid_input",
    (
        "Only standard 5-field cron expressions are supported (minute hour day month weekday). Example: "
        "'0 9 * * 1-5'."
    ),
)
NO_CRON = (
    "invalid_input",
    "Invalid cron expression. Use standard 5-field cron syntax (e.g., '0 9 * * 1-5').",
)


def too_long(length: int) -> tuple[str, str]:
    return ("max_length", f"Ensure this field has no more than {length} characters.")


def wrong_type(name: str) -> tuple[str, str]:
    return ("incorrect_type", f"Incorrect type. Expected pk value, received {name}.")


def unknown_zone(name: str) -> tuple[str, str]:
    return ("invalid_input", f"'{name}' is not a valid IANA timezone.")


def no_integration(pk: str) -> tuple[str, str]:
    return ("does_not_exist", f'Invalid pk "{pk}" - object does not exist.')


NO_TEXTS: tuple[object, ...] = (True, [], ["x"], {})
NO_BOOLEANS: tuple[object, ...] = ("", "maybe", " true", "null", 2, [], {})

TAKEN: list[tuple[str, object, object]] = [
    ("name", " x ", "x"),
    ("name", 7, "7"),
    ("name", 1.0, "1.0"),
    ("name", "é\u2028", "é"),
    ("name", "n" * 255, "n" * 255),
    ("prompt", "p" * 100_000, "p" * 100_000),
    ("repository", " Acme/Widgets\n", "acme/widgets"),
    ("repository", "a b/c", "a b/c"),
    ("github_integration", None, None),
    ("github_integration", "", None),
    ("github_integration", 7, 7),
    ("github_integration", " 07 ", 7),
    ("github_integration", 7.9, 7),
    ("cron_expression", " */5 * * * 1-5 ", "*/5 * * * 1-5"),
    ("cron_expression", "0\t3  * * *", "0\t3  * * *"),
    ("timezone", " Europe/Zurich ", "Europe/Zurich"),
    ("template_id", None, None),
    ("template_id", "  ", ""),
    ("template_id", "t" * 255, "t" * 255),
    *[("enabled", value, True) for value in (True, 1, 1.0, "1", "t", "Y", "yes", "TRUE", "on")],
    *[("enabled", value, False) for value in (False, 0, 0.0, "0", "f", "N", "no", "False", "off")],
]

REFUSED: list[tuple[str, object, tuple[str, str]]] = [
    *[
        (field, None, NULL)
        for field in ("name", "prompt", "repository", "cron_expression", "timezone", "enabled")
    ],
    *[(field, " \n", BLANK) for field in ("name", "prompt", "repository", "cron_expression", "timezone")],
    *[
        (field, value, NOT_A_STRING)
        for field in ("name", "prompt", "timezone", "template_id")
        for value in NO_TEXTS
    ],
    *[
        (field, "a\0b", NUL_CHARACTER)
        for field in ("name", "prompt", "repository", "cron_expression", "timezone", "template_id")
    ],
    ("name", "\ud800", SURROGATE),
    ("name", "n" * 256, too_long(255)),
    ("name", "\0" * 256, too_long(255)),
    ("repository", "r/" + "r" * 254, too_long(255)),
    ("cron_expression", "0 " * 51, too_long(100)),
    ("timezone", "z" * 129, too_long(128)),
    ("template_id", "t" * 256, too_long(255)),
    *[
        ("repository", value, NO_REPOSITORY)
        for value in ("acme", "/", "acme/", "/widgets", "a/b/c", "a//b", 7)
    ],
    *[("cron_expression", value, NOT_FIVE_FIELDS) for value in ("* * * *", "0 0 0 * * *", "@daily", 5)],
    *[
        ("cron_expression", value, NO_CRON)
        for value in ("61 * * * *", "0 0 31 2 *", "R * * * *", "a b c d e", "*/0 * * * *")
    ],
    *[
        ("timezone", value, unknown_zone(value))
        for value in ("UTC+99", "utc", "Europe/zurich", "../etc/passwd", "localtime", "Factory")
    ],
    ("github_integration", 8, no_integration("8")),
    ("github_integration", "1_0", no_integration("1_0")),
    ("github_integration", 10**30, no_integration(str(10**30))),
    ("github_integration", True, wrong_type("bool")),
    ("github_integration", "x", wrong_type("str")),
    ("github_integration", "7.0", wrong_type("str")),
    ("github_integration", float("inf"), wrong_type("float")),
    ("github_integration", [7], wrong_type("list")),
    ("github_integration", {}, wrong_type("dict")),
    *[("enabled", value, NOT_A_BOOLEAN) for value in NO_BOOLEANS],
]


def refusal(data: object, *, change: bool = False) -> tuple[str | None, str, str]:
    with pytest.raises(ApiError) as caught:
        (CONTRACT.parse_changes if change else CONTRACT.parse_new)(data)
    assert (caught.value.status, caught.value.kind) == (400, "validation_error")
    return caught.value.attr, caught.value.code, caught.value.detail


@pytest.mark.parametrize(("field", "value", "becomes"), TAKEN)
def test_a_value_is_taken_as_the_framework_takes_it(field: str, value: object, becomes: object) -> None:
    for taken in (
        CONTRACT.parse_new({**VALID, field: value})[field],
        CONTRACT.parse_changes({field: value})[field],
    ):
        assert (taken, type(taken)) == (becomes, type(becomes))


@pytest.mark.parametrize(("field", "value", "error"), REFUSED)
def test_a_value_is_refused_in_the_frameworks_words(
    field: str, value: object, error: tuple[str, str]
) -> None:
    assert refusal({**VALID, field: value}) == (field, *error)
    assert refusal({field: value}, change=True) == (field, *error)


@pytest.mark.parametrize("field", sorted(VALID))
def test_a_new_automation_needs_each_required_field(field: str) -> None:
    assert refusal({name: value for name, value in VALID.items() if name != field}) == (field, *REQUIRED)


def test_what_is_left_out_of_a_new_automation_has_its_default() -> None:
    assert CONTRACT.parse_new(VALID) == {
        **VALID,
        "github_integration": None,
        "timezone": "UTC",
        "template_id": None,
        "enabled": True,
    }


def test_a_change_holds_only_what_it_names() -> None:
    assert CONTRACT.parse_changes({"enabled": "off"}) == {"enabled": False}
    assert CONTRACT.parse_changes({}) == {}


@pytest.mark.parametrize(
    "field", [*sorted(set(FIELDS) - {field.name for field in CONTRACT.fields}), "next_run_at", ""]
)
def test_read_only_and_unknown_fields_are_ignored(field: str) -> None:
    assert CONTRACT.parse_changes({field: ["anything"]}) == {}


def test_of_several_mistakes_the_first_field_of_the_contract_is_named() -> None:
    wrong: dict[str, Any] = {field: [] for field in ("enabled", "timezone", "cron_expression", "repository")}
    for field in ("repository", "cron_expression", "timezone", "enabled"):
        assert refusal({**VALID, **wrong})[0] == field
        del wrong[field]


@pytest.mark.parametrize(
    ("data", "code", "detail"),
    [
        (None, "null", "No data provided"),
        ([], "invalid_input", "Invalid data. Expected a dictionary, but got list."),
        ("x", "invalid_input", "Invalid data. Expected a dictionary, but got str."),
        (0, "invalid_input", "Invalid data. Expected a dictionary, but got int."),
        (True, "invalid_input", "Invalid data. Expected a dictionary, but got bool."),
    ],
)
def test_data_that_is_no_object_is_nobodys_fault_in_particular(data: object, code: str, detail: str) -> None:
    assert refusal(data) == (None, code, detail)
    assert refusal(data, change=True) == (None, code, detail)


@pytest.mark.parametrize(
    ("field", "becomes"),
    [("github_integration", None), ("timezone", "UTC"), ("template_id", ""), ("enabled", True)],
)
def test_a_blank_in_a_form_means_nothing_said_unless_the_field_takes_blanks(
    field: str, becomes: object
) -> None:
    assert CONTRACT.parse_new(Form({**VALID, field: ""}))[field] == becomes


def test_a_blank_in_a_form_is_no_value_for_a_required_field() -> None:
    assert refusal(Form({**VALID, "name": ""})) == ("name", *BLANK)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


# How long it takes to make the first text, and the table of Unicode for it, says nothing about the contract.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([field.name for field in CONTRACT.fields]), JSON))
def test_any_json_is_either_refused_or_becomes_valid_values_that_stay_as_they_are(
    data: dict[str, object],
) -> None:
    try:
        values = CONTRACT.parse_changes(data)
    except ApiError as error:
        assert error.attr in data  # noqa: PT017 - which of the two happens is the data's business
    else:
        assert CONTRACT.parse_changes(values) == values
