"""Forms are read as `urllib.parse.parse_qsl` reads them, with a bound on the number of fields."""

import pytest

from scheduler.localapi.http.bodies import MAX_FIELDS, URLENCODED, parse_body
from scheduler.localapi.http.errors import ApiError
from scheduler.localapi.http.fields import Form


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


def test_a_form_has_so_many_fields_and_no_more() -> None:
    assert parse("a=1&" * (MAX_FIELDS - 1)) == {"a": "1"}
    with pytest.raises(ApiError, match="Max number of fields exceeded"):
        parse("a=1&" * MAX_FIELDS)
