"""The Accept header. The expected answers are those of Django REST framework with only its JSON renderer."""

import pytest

from scheduler.localapi.http.errors import ApiError
from scheduler.localapi.http.negotiation import negotiate_indent


@pytest.mark.parametrize(
    ("accept", "indent"),
    [
        (None, None),
        ("*/*", None),
        ("application/json", None),
        ("APPLICATION/JSON", None),
        ("application/*", None),
        ("application/json;q=0", None),
        ("application/json;version=1", None),
        ("text/html, */*;q=0.1", None),
        ("application/json; indent=4", 4),
        ("application/json;indent=99", 8),
        ("application/json;indent=-1", None),
        ("application/json;indent=x", None),
        ("*/*;indent=2", 2),
        ("application/json;q=0.5, application/json;indent=2", 2),
        ("application/json, */*;indent=2", None),
    ],
)
def test_json_is_answered_to_whoever_takes_it(accept: str | None, indent: int | None) -> None:
    assert negotiate_indent(accept) == indent


@pytest.mark.parametrize(
    "accept", ["", "text/html", "*", ",", ";", ";;", "a;b;c", "application/jsonp", "x" * 10_000 + ", */*"]
)
def test_a_client_that_takes_no_json_is_told_so(accept: str) -> None:
    with pytest.raises(ApiError) as caught:
        negotiate_indent(accept)
    assert (caught.value.status, caught.value.code) == (406, "not_acceptable")
