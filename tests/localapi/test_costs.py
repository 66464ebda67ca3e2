"""Every parser of the embedded API takes time that is linear in its input, up to the input's limit."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.datastructures import QueryParams
from starlette.types import Message

from scheduler.localapi.http.bodies import MAX_BODY, MAX_FORM, URLENCODED, parse_body
from scheduler.localapi.http.contract import Contract
from scheduler.localapi.http.errors import ApiError
from scheduler.localapi.http.negotiation import CHARSETS, JSON, MAX_MEDIA_TYPE, negotiate_indent
from scheduler.localapi.http.paging import PageRequest
from scheduler.localapi.keys import Scope
from scheduler.ops.bounds import MAX_FIELD, MAX_TARGET, RequestSizeLimit
from tests.costs import assert_linear
from tests.localapi.support import COLLECTION, VALID, serving

HEADER = (
    ";",
    ",",
    "=",
    '"',
    "\\",
    "'",
    "*",
    "%",
    "%41",
    " ",
    "\t",
    "a",
    "/",
    "*0=",
    "*0*=utf-8''",
    ";a*1=b",
    "q=0.1,",
    '\\"',
    "é",
)
BODY_JSON = (
    "[",
    "]",
    "{",
    "}",
    "[],",
    "{},",
    '"',
    '"a":',
    ",",
    ":",
    "1",
    "1,",
    "-",
    ".",
    "e",
    "\\",
    '\\"',
    "\\u00e9",
    " ",
    "\n",
    "a",
    "é",
    "0,",
)
BODY_FORM = ("&", "=", "%", "%41", "%C3%A9", "%C3", "+", ";", "a", "a=b&", "é", " ", "\0")
QUERY = ("&", "=", "%", "%41", "+", ";", "limit=1&", "offset=1&", "a=b&", "9", "_", "é", "limit=", "x[]=1&")


def tolerate(parse: Callable[[str], object]) -> Callable[[str], None]:
    """The parser, whatever it refuses."""

    def carry_out(text: str) -> None:
        with contextlib.suppress(ApiError):
            parse(text)

    return carry_out


def body(media: str, *, codec: str = "utf-8") -> Callable[[str], None]:
    """The parser of bodies of this type."""
    return tolerate(lambda text: parse_body(text.encode(codec), media))


def test_a_content_type() -> None:
    for prefix in ("", "application/json;", "multipart/form-data;", "application/json; charset="):
        assert_linear(tolerate(lambda text: parse_body(b"{}", text)), HEADER, MAX_MEDIA_TYPE, prefix=prefix)


def test_a_content_type_beyond_its_limit_is_not_looked_into() -> None:
    assert_linear(tolerate(lambda text: parse_body(b"{}", text)), HEADER, 60_000, prefix="application/json;")


def test_an_accept_header() -> None:
    for prefix in ("", "application/json;", "a/b,"):
        assert_linear(tolerate(negotiate_indent), HEADER, MAX_FIELD, prefix=prefix)


@pytest.mark.parametrize("prefix", ["", "[", '{"a":"', "[1"])
def test_a_json_body(prefix: str) -> None:
    assert_linear(body(JSON), BODY_JSON, MAX_BODY, prefix=prefix, count=30)


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_json_body_in_each_charset(charset: str) -> None:
    assert_linear(
        body(f"{JSON}; charset={charset}", codec="utf-16-le"),
        ('"', "a", "é", "\ud7ff", "-"),
        MAX_BODY // 2,
        prefix='"',
        count=7,
    )


@pytest.mark.parametrize("charset", ["punycode", "idna", "unicode_escape", "utf-7", "uu", "bz2"])
def test_a_json_body_in_a_charset_that_is_not_taken(charset: str) -> None:
    assert_linear(body(f"{JSON}; charset={charset}"), ("a", "-", "a-", "+", "\\"), 200_000, count=6)


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "utf-16"])
def test_a_form(charset: str) -> None:
    assert_linear(body(f"{URLENCODED}; charset={charset}"), BODY_FORM, MAX_FORM // 2, prefix="a=", count=14)


def test_a_query_and_the_links_that_are_made_of_it() -> None:
    def page(query: str) -> object:
        page = PageRequest.parse(QueryParams(query), 10_000)
        url = f"http://api.test{COLLECTION}?{query}"
        return page.make_next_link(url, 10**6, 100), page.make_previous_link(url)

    for prefix in ("", "limit=1&offset=1&", "limit="):
        assert_linear(page, QUERY, MAX_TARGET, prefix=prefix)


@pytest.mark.parametrize("field", [*VALID, "timezone", "template_id", "enabled", "github_integration"])
def test_the_value_of_each_field(field: str) -> None:
    contract = Contract({7})
    judge = tolerate(lambda text: contract.parse_new({**VALID, field: text}))
    assert_linear(judge, (" ", "a", "7", "/", "\n", "\0", "é", "* "), MAX_BODY, count=10)


# ---------------------------------------------------------------- whole requests


class Asker:
    """Requests to the application in this thread, as raw as a server hands them over."""

    def __init__(self, app: object, loop: asyncio.AbstractEventLoop, key: str) -> None:
        self._app = RequestSizeLimit(app)  # type: ignore[arg-type]
        self._loop = loop
        self._key = key.encode()

    def ask(self, path: str, header: tuple[str, str] = ("x", "")) -> None:
        name, text = header[0].lower().encode(), header[1].encode("latin-1")
        headers = [
            (b"host", b"api.test"),
            (b"authorization", b"Bearer " + self._key),
            (b"content-length", b"0"),
        ]
        headers = [each for each in headers if each[0] != name] + [(name, text)]
        scope = {
            "type": "http",
            "method": "GET",
            "headers": headers,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
        }
        scope |= {"scheme": "http", "root_path": "", "server": ("api.test", 80), "http_version": "1.1"}

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_: Message) -> None:
            return None

        self._loop.run_until_complete(self._app(scope, receive, send))


@pytest.fixture
def asker(tmp_path: Path) -> object:
    with asyncio.Runner() as runner:
        context = serving(tmp_path)
        served = runner.run(context.__aenter__())
        try:
            key = runner.run(served.api.keys.create([Scope.READ])).text
            yield Asker(served.api.app, runner.get_loop(), key)
        finally:
            runner.run(context.__aexit__(None, None, None))


HEADERS = (
    *(
        "Authorization",
        "Accept",
        "Content-Type",
        "Content-Length",
        "Host",
        "Idempotency-Key",
        "Date",
        "Range",
        "If-Range",
    ),
    *(
        "If-None-Match",
        "If-Match",
        "If-Modified-Since",
        "If-Unmodified-Since",
        "Cookie",
        "X-Forwarded-For",
        "Expect",
    ),
)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("path", ["/openapi.yaml", COLLECTION])
def test_each_header_of_a_request(asker: Asker, header: str, path: str) -> None:
    for prefix in ("", "Bearer ", "bytes=0-0,"):
        assert_linear(
            lambda text: asker.ask(path, (header, text)),
            (*HEADER[:8], "0-0,", "1"),
            MAX_FIELD,
            prefix=prefix,
            count=12,
        )


def test_each_part_of_a_path(asker: Asker) -> None:
    for prefix in ("/", COLLECTION, "/api/projects/"):
        assert_linear(
            asker.ask,
            ("/", "a", "-", "{", "urn:", "uuid:", "0", ".", "\n", "é"),
            MAX_TARGET // 2,
            prefix=prefix,
        )
