"""Forms, read in pieces as `urllib.parse.parse_qsl` reads them at once."""

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.localapi.http import bodies
from scheduler.localapi.http.bodies import MAX_FIELDS, parse_form

SCRAPS = st.sampled_from(
    [
        "a",
        "é",
        "%",
        "%4",
        "%41",
        "%C3",
        "%A9",
        "%C3%A9",
        "%E2%82%AC",
        "%zz",
        "+",
        "&",
        "=",
        ";",
        "%00",
        "%FF",
        "\ud800",
    ]
)


@pytest.mark.parametrize("piece", [4, 7, 64 * 1024])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "windows-1252", "utf-16", "utf-16-le", "ascii"])
@given(scraps=st.lists(SCRAPS, max_size=30))
def test_a_form_says_what_the_library_reads_in_it(piece: int, charset: str, scraps: list[str]) -> None:
    text = "".join(scraps)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bodies, "_PIECE", piece)
        assert parse_form(text, charset) == dict(parse_qsl(text, keep_blank_values=True, encoding=charset))


def test_a_form_has_so_many_fields_and_no_more() -> None:
    assert parse_form("a=1&" * (MAX_FIELDS - 1), "utf-8") == {"a": "1"}
    with pytest.raises(ValueError, match="Max number of fields exceeded"):
        parse_form("a=1&" * MAX_FIELDS, "utf-8")
