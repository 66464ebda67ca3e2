"""The automations that a person means by an id, a name or a pattern for the name."""

import pytest

from scheduler.core.automation_filter import find_id, make_glob, make_match

ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.mark.parametrize(
    ("text", "automation_id", "name", "expected"),
    [
        (ID.upper(), ID, "nightly", True),
        (ID, ID.replace("5", "6"), ID, False),
        ("nightly", ID, "nightly", True),
        ("nightly-*", ID, "nightly-a", True),
        ("nightly-[!a]", ID, "nightly-a", False),
        ("[x]", ID, "[x]", True),
        ("Nightly", ID, "nightly", False),
    ],
)
def test_an_automation_matches_by_id_name_or_pattern(
    text: str, automation_id: str, name: str, *, expected: bool
) -> None:
    assert make_match(text)(automation_id, name) is expected


def test_only_an_id_has_a_canonical_form() -> None:
    assert [find_id(text) for text in (ID.upper(), "nightly", None)] == [ID, None, None]


def test_a_pattern_is_negated_as_in_sqlite() -> None:
    assert (make_glob("[!a]*"), make_glob(None)) == ("[^a]*", None)
