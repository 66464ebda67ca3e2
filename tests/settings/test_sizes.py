"""Sizes: what people write, in bytes, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.settings.problems import InvalidSetting
from scheduler.settings.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"), [("1KiB", 1024), ("10MiB", 10 * 1024**2), ("999999GiB", 999_999 * 1024**3)]
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value",
    [
        "",
        "10",
        "10MB",
        "10mib",
        "0MiB",
        "-1MiB",
        "1.5MiB",
        " 1MiB",
        "1MiB ",
        "1000000GiB",
        "\u0661MiB",
        10,
        1.5,
        True,
        None,
    ],
)
def test_what_is_no_size_is_refused_with_a_remedy(value: object) -> None:
    with pytest.raises(InvalidSetting, match="should be a size") as raised:
        parse_size(value)
    assert '"10MiB"' in raised.value.remedy


@given(st.integers(1, 999_999), st.sampled_from(["KiB", "MiB", "GiB"]))
def test_what_is_written_is_read_back_to_the_same(number: int, unit: str) -> None:
    size = parse_size(f"{number}{unit}")
    assert parse_size(format_size(size)) == size
