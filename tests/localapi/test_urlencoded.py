"""Forms are read in pieces as `urllib.parse.parse_qsl` reads them at once, with a bound on their fields."""

import tracemalloc
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.localapi.http import bodies
from scheduler.localapi.http.bodies import MAX_FIELDS, MAX_FORM, URLENCODED, parse_body, parse_form
from scheduler.localapi.http.errors import ApiError
from scheduler.localapi.http.fields import Form

SCRAPS = st.sampled_from(
    [
        *("a", "é", "+", "&", "=", ";", "\ud800"),
        *("%", "%4", "%41", "%C3", "%A9", "%C3%A9", "%E2%82%AC", "%zz", "%00", "%FF"),
    ]
)


def parse(text: str, charset: str = "utf-8") -> object:
    return parse_body(text.encode(charset), f"{URLENCODED}; charset={charset}")


@pytest.mark.parametrize(
    ("text", "charset", "fields"),
    [
        ("a=1&b=x+y%C3%A9", "utf-8", {"a": "1", "b": "x yé"}),
        ("a=%E9&é=é", "iso-8859-1", {"a": "é", "é": "é"}),
        ("a=%80", "windows-1252", {"a": "€"}),
        ("a=%AC%20", "utf-16le", {"a": "€"}),
        ("a=1&a=2", "utf-8", {"a": "2"}),
        ("&&a&b=", "utf-8", {"a": "", "b": ""}),
        ("a=b=c;d", "utf-8", {"a": "b=c;d"}),
        ("a=%&b=%4&c=%zz", "utf-8", {"a": "%", "b": "%4", "c": "%zz"}),
        ("a=%FF%00", "utf-8", {"a": "\ufffd\0"}),
    ],
)
def test_a_form_is_read_with_its_escapes_in_its_charset(
    text: str, charset: str, fields: dict[str, str]
) -> None:
    form = parse(text, charset)
    assert isinstance(form, Form)
    assert form == fields


@pytest.mark.parametrize("piece", [4, 7, 64 * 1024])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "windows-1252", "utf-16", "utf-16-le", "ascii"])
@given(scraps=st.lists(SCRAPS, max_size=30))
def test_a_form_says_what_the_library_reads_in_it(piece: int, charset: str, scraps: list[str]) -> None:
    text = "".join(scraps)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bodies, "_PIECE", piece)
        assert parse_form(text, charset) == dict(parse_qsl(text, keep_blank_values=True, encoding=charset))


def test_a_form_of_escapes_takes_a_few_times_its_own_memory() -> None:
    raw = b"a=" + b"%41" * (MAX_FORM // 3 - 1)
    tracemalloc.start()
    try:
        parse_body(raw, URLENCODED)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 * MAX_FORM


def test_a_form_has_so_many_fields_and_no_more() -> None:
    assert parse("a=1&" * (MAX_FIELDS - 1)) == {"a": "1"}
    with pytest.raises(ApiError, match="Max number of fields exceeded"):
        parse("a=1&" * MAX_FIELDS)
