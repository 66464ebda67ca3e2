"""``scheduler status`` says what is wrong with a target's list."""

from scheduler.cli.commands.status import _format_list_problems


def test_nothing_wrong_is_nothing_said() -> None:
    assert (
        list(
            _format_list_problems(
                {"unidentified": {"count": 0, "objects": []}, "absent": 0, "disappeared": None}
            )
        )
        == []
    )
    assert list(_format_list_problems({})) == [], "a daemon of an earlier version"


def test_objects_that_cannot_be_identified_and_automations_that_are_absent_are_said() -> None:
    told = "\n".join(
        _format_list_problems(
            {
                "unidentified": {"count": 12, "objects": ["Nightly\x1b: its id is not a UUID"]},
                "absent": 6,
                "disappeared": {"at": "2026-11-23T19:20:00Z", "count": 6, "automations": 10},
            }
        )
    )
    for text in (
        "12",
        "Nightly\\x1b: its id is not a UUID",
        "absent",
        "6 of 10 automations",
        "at 2026-11-23T19:20:00Z",
    ):
        assert text in told


def test_a_list_that_cannot_be_trusted_is_said_with_the_reason_and_since_when() -> None:
    said = list(
        _format_list_problems(
            {
                "inconsistent": {
                    "since": "2026-11-23T19:20:00Z",
                    "reason": "it shows Nightly\x1b, whose run and GET answer 404",
                }
            }
        )
    )
    assert "not trusted since" in said[0]
    assert "2026-11-23T19:20:00Z" in said[0]
    assert said[1].strip() == "it shows Nightly\\x1b, whose run and GET answer 404"
