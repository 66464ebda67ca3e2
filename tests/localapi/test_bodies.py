"""Bodies of every kind. The expected answers are those of Django REST framework's parsers, unless a comment
says otherwise.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.requests import Request

from scheduler.localapi.http import bodies
from scheduler.localapi.http.bodies import MAX_BODY, MAX_FORM, parse_body, read_body
from scheduler.localapi.http.errors import ApiError
from scheduler.localapi.http.fields import Form
from scheduler.localapi.http.negotiation import CHARSETS
from tests.localapi.support import COLLECTION, VALID, serving

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=edge"


def parsed(raw: bytes, content_type: str) -> object:
    return parse_body(raw, content_type)


@pytest.mark.parametrize(
    ("raw", "content_type", "data"),
    [
        (b"", "", {}),
        (b"", "text/plain", {}),
        (b"", "application/json", {}),
        (b"", FORM, {}),
        (b"", MULTIPART, {}),
        (b'{"a": [1, null]}', "application/json", {"a": [1, None]}),
        (b'{"a": 1, "a": 2}', "application/json", {"a": 2}),
        (b"null", "APPLICATION/JSON; charset=utf-8", None),
        (b"1", "application/*", 1),
        ('"é"'.encode("latin-1"), "application/json; charset=latin-1", "é"),
        ('"é"'.encode("utf-16"), "application/json; charset=utf-16", "é"),
    ],
)
def test_json_is_read_in_the_charset_that_it_names(raw: bytes, content_type: str, data: object) -> None:
    assert parsed(raw, content_type) == data


@pytest.mark.parametrize(
    ("raw", "content_type", "data"),
    [
        (b"a=1&a=2&b=&c=x+y%C3%A9", FORM, {"a": "2", "b": "", "c": "x yé"}),
        (b"a=%E9", FORM + "; charset=latin-1", {"a": "é"}),
        (b"a=\xe9", FORM, {"a": "é"}),
    ],
)
def test_a_form_is_read_field_by_field_the_last_one_wins(
    raw: bytes, content_type: str, data: dict[str, str]
) -> None:
    read = parsed(raw, content_type)
    assert isinstance(read, Form)
    assert read == data


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (
            b"{",
            "JSON parse error - Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        (b"{} x", "JSON parse error - Extra data: line 1 column 4 (char 3)"),
        (b"[NaN]", "JSON parse error - Out of range float values are not JSON compliant: 'NaN'"),
        (b"-Infinity", "JSON parse error - Out of range float values are not JSON compliant: '-Infinity'"),
        (
            b"\xff",
            "JSON parse error - 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
        (
            b"\xef\xbb\xbf{}",
            "JSON parse error - Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)",
        ),
        (b'{"a": "\xc3', "JSON parse error - Unterminated string starting at: line 1 column 7 (char 6)"),
    ],
)
def test_json_that_is_none_is_answered_in_pythons_own_words(raw: bytes, detail: str) -> None:
    with pytest.raises(ApiError) as caught:
        parsed(raw, "application/json")
    assert (caught.value.status, caught.value.kind, caught.value.code, caught.value.detail) == (
        400,
        "invalid_request",
        "parse_error",
        detail,
    )


@pytest.mark.parametrize(
    ("raw", "content_type", "says"),
    [
        # The framework answers 500 to JSON that is nested too deeply, and to a form with too many fields.
        (b"[" * 100_000, "application/json", "JSON parse error - nested more than 100 levels deep"),
        (b"&".join([b"a=1"] * 1001), FORM, "Form parse error - Max number of fields exceeded"),
        (b"[" + b"1," * 10_000 + b"1]", "application/json", "JSON parse error - more than 10000 values"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(raw: bytes, content_type: str, says: str) -> None:
    with pytest.raises(ApiError) as caught:
        parsed(raw, content_type)
    assert (caught.value.status, caught.value.code) == (400, "parse_error")
    assert caught.value.detail.startswith(says)


@pytest.mark.parametrize(
    "content_type",
    [
        *("text/plain", "", "json", "text/json", "application/vnd.api+json"),
        *("application/xml; charset=utf-8", MULTIPART, "multipart/form-data", "multipart/*"),
    ],
)
def test_a_body_of_another_type_is_refused_with_its_type(content_type: str) -> None:
    with pytest.raises(ApiError) as caught:
        parsed(json.dumps({}).encode(), content_type)
    assert (caught.value.status, caught.value.code) == (415, "unsupported_media_type")
    assert caught.value.detail == f'Unsupported media type "{content_type}" in request.'


@pytest.mark.parametrize(
    "charset", ["nonsense", "zip", "punycode", "idna", "unicode_escape", "utf-7", "mbcs", ""]
)
def test_a_body_in_a_charset_that_is_not_on_the_list_is_refused_with_the_list(charset: str) -> None:
    with pytest.raises(ApiError) as caught:
        parsed(b"{}", f'application/json; charset="{charset}"')
    assert (caught.value.status, caught.value.code) == (415, "unsupported_media_type")
    assert caught.value.detail.startswith(
        f'Unsupported charset "{charset}" in request Content-Type header; use one of utf-8, '
    )


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_body_in_a_charset_on_that_list_is_read(charset: str) -> None:
    assert parsed('{"a": 1}'.encode(charset), f"application/json; charset={charset}") == {"a": 1}


def test_a_form_that_is_too_large_is_refused() -> None:
    with pytest.raises(ApiError, match="The form is larger than 2621440 bytes") as caught:
        parsed(b"a" * (MAX_FORM + 1), FORM)
    assert caught.value.status == 413


# ---------------------------------------------------------------- reading


async def pieces(*chunks: bytes, pause: float = 0.0) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(pause)


def refused(
    tmp_path: Path, content: AsyncIterator[bytes] | bytes, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    async def story() -> tuple[int, str]:
        async with serving(tmp_path) as served:
            answer = await served.client.post(
                COLLECTION, content=content, headers={"Content-Type": "application/json", **(headers or {})}
            )
            return answer.status_code, answer.json()["code"]

    return asyncio.run(story())


def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    half = b" " * (MAX_BODY // 2)
    assert refused(tmp_path, pieces(half, half, b" ")) == (413, "payload_too_large")


def test_the_largest_body_is_read(tmp_path: Path) -> None:
    start = json.dumps(VALID).encode()
    assert refused(tmp_path, pieces(start[:-1] + b" " * (MAX_BODY - len(start)), b"]")) == (
        400,
        "parse_error",
    )


def test_one_that_says_beforehand_that_it_is_too_large_is_not_read() -> None:
    request = Request(
        {"type": "http", "method": "POST", "headers": [(b"content-length", str(MAX_BODY + 1).encode())]}
    )  # with nothing to read
    with pytest.raises(ApiError, match="larger than"):
        asyncio.run(read_body(request))


def test_a_body_that_takes_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT", 0.05)
    assert refused(tmp_path, pieces(b"{", b"}", pause=30.0)) == (408, "request_timeout")
