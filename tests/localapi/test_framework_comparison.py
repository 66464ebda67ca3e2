"""The embedded API beside Django REST framework: the same requests to both, and every difference is a
failure.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.localapi.keys import Scope
from tests.localapi.framework import reference
from tests.localapi.framework.comparison import Ask, Framework, Side, asked, differences
from tests.localapi.support import VALID, serving

BASE = "http://api.test"
NOWHERE = "11111111-2222-4333-8444-555555555555"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, -1, 7, 8, 7.0, 7.9, 1e20, 1e400, 0.1, 10**30, [], [1], ["x"], {}, {"a": 1}),
    *(
        "",
        " ",
        "x",
        " x ",
        "7",
        " 07 ",
        "٣",
        "seven",
        "true",
        "True",
        "TRUE",
        "t",
        "yes",
        "on",
        "off",
        "N",
        "f",
        "null",
        "None",
        "maybe",
    ),
    *(
        "a\0b",
        "\0",
        "\ud800",
        "a\u2028b",
        "é",
        "n" * 100,
        "n" * 101,
        "n" * 128,
        "n" * 129,
        "n" * 255,
        "n" * 256,
        " " * 300 + "n",
    ),
    *(
        "a/b",
        "A/B",
        " a/b ",
        "a / b",
        "a/b/c",
        "/b",
        "a/",
        "/",
        "ab",
        "a/b\n",
        "a/" + "b" * 253,
        "a/" + "b" * 254,
    ),
    *(
        "* * * * *",
        " */5 * * * 1-5 ",
        "0\t3  * * *",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "@daily",
        "a b c d e",
    ),
    *(
        "UTC",
        "utc",
        "Europe/Zurich",
        " Europe/Zurich ",
        "europe/zurich",
        "UTC+99",
        "EST",
        "Etc/GMT+5",
        "posix/UTC",
        "../UTC",
    ),
)
FIELDS = (
    "name",
    "prompt",
    "repository",
    "github_integration",
    "cron_expression",
    "timezone",
    "template_id",
    "enabled",
)
NEW = {"name": "n", "prompt": "p", "repository": "a/b", "cron_expression": "0 3 * * *"}


def compared(folder: Path, asks: list[Ask]) -> str:
    """Ask both, one after the other, of a new automation each; what differs comes back, as lines."""

    async def ask_all() -> str:
        async with AsyncExitStack() as closing:
            theirs, ours = await _sides(closing, folder)
            found = []
            for ask in asks:
                good, mine = await theirs.answer(ask), await ours.answer(ask)
                found += [f"{ask}\n    {difference}" for difference in differences(theirs, good, ours, mine)]
            return "\n".join(found)

    return asyncio.run(ask_all())


async def _sides(closing: AsyncExitStack, folder: Path, **config: Any) -> tuple[Side, Side]:
    framework = await closing.enter_async_context(httpx.AsyncClient(transport=Framework(), base_url=BASE))
    served = await closing.enter_async_context(serving(folder, command=("/bin/sleep", "60"), **config))
    keys = {
        name: (await served.key(*map(Scope, scopes)))["Authorization"][7:]
        for name, scopes in reference.KEYS.items()
    }
    ours = await closing.enter_async_context(
        httpx.AsyncClient(transport=httpx.ASGITransport(served.api.app), base_url=BASE)
    )
    theirs = Side(framework, {name: name for name in keys}, "")
    new = asked("POST", "", VALID)
    ids = [(await side.answer(new)).json()["id"] for side in (theirs, Side(ours, keys, ""))]
    return Side(framework, theirs.keys, ids[0]), Side(ours, keys, ids[1])


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("field", FIELDS)
def test_each_value_of_a_field_is_taken_or_refused_as_the_framework_does(tmp_path: Path, field: str) -> None:
    asks = [asked("POST", "", NEW | {field: value}) for value in VALUES]
    asks += [asked("PATCH", "{id}/", {field: value}) for value in VALUES]
    asks.append(asked("POST", "", {name: value for name, value in NEW.items() if name != field}))
    assert compared(tmp_path, asks) == ""


@pytest.mark.parametrize("field", FIELDS)
def test_each_text_in_a_form_too(tmp_path: Path, field: str) -> None:
    texts = [value for value in VALUES if isinstance(value, str) and "\ud800" not in value]
    asks = [Ask("POST", content=urlencode(NEW | {field: text}).encode(), headers=FORM) for text in texts]
    asks += [Ask("PATCH", "{id}/", content=urlencode({field: text}).encode(), headers=FORM) for text in texts]
    assert compared(tmp_path, asks) == ""


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_an_object_holds(tmp_path: Path, data: st.DataObject) -> None:
    """Several mistakes at once, and fields that nobody knows."""
    value = (
        st.sampled_from(VALUES)
        | st.text(max_size=12)
        | st.integers()
        | st.floats(allow_nan=False)
        | st.booleans()
        | st.none()
    )
    objects = st.dictionaries(st.sampled_from((*FIELDS, "id", "last_error", "stranger")), value)
    asks = [asked("POST", "", {**NEW, **data.draw(objects)}) for _ in range(10)]
    asks += [asked("PATCH", "{id}/", data.draw(objects)) for _ in range(10)]
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    assert compared(folder, asks) == ""


# ---------------------------------------------------------------- bodies


def _bodies() -> Iterator[Ask]:
    whole = json.dumps(NEW).encode()
    types: tuple[str, ...] = (
        "",
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        "application/json; charset=latin-1",
    )
    types += (
        "application/json;charset=utf-16",
        "application/json; charset=US_ASCII",
        "application/json; charset=cp1252",
        "application/*",
    )
    types += (
        "text/plain",
        "text/json",
        "*/*",
        "application/xml",
        "application",
        "application/json/x",
        ";",
        "application/json;",
    )
    types += (
        "application/vnd.api+json",
        "application/octet-stream",
        "application/x-www-form-urlencoded; charset=latin-1",
    )
    for media in types:
        for content in (whole, b"", b"{}"):
            yield Ask("POST", content=content, headers={"Content-Type": media})
    raw: tuple[bytes, ...] = (
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"true",
        b"[1]",
        b"{",
        b"}",
        b"{'a': 1}",
        b'{"a":}',
        b"nonsense",
        b"\xff\xfe",
        b'{"name": NaN}',
        b" ",
    )
    raw += (
        b'{"name": Infinity}',
        b'{"name": "a", "name": "b"}',
        b"\xef\xbb\xbf{}",
        b'{"name": "\xff"}',
        b"1" * 5000,
    )
    for content in raw:
        for method, path in (("POST", ""), ("PATCH", "{id}/"), ("PATCH", f"{NOWHERE}/")):
            yield Ask(method, path, content=content, headers={"Content-Type": "application/json"})
    for content in (
        b"",
        b"a",
        b"&&",
        b"name=a;prompt=b",
        b"name=%",
        b"name=%FF",
        b"name=\xff",
        b"name=a&name=b",
        b"=x",
        b"a=1&" * 900,
    ):
        yield Ask("POST", content=content, headers=FORM)
    yield Ask("POST", content=urlencode(NEW | {"name": "+ é"}).encode(), headers=FORM)


def test_each_body_is_read_or_refused_as_the_framework_does(tmp_path: Path) -> None:
    assert compared(tmp_path, list(_bodies())) == ""


MULTIPART_TYPES = (
    *("multipart/form-data", "multipart/form-data; boundary=edge", "Multipart/Form-Data; boundary=edge"),
    *("multipart/form-data; boundary", 'multipart/form-data; boundary="edge"', "multipart/*", "*/form-data"),
    *("multipart/mixed; boundary=edge", "multipart/form-data; charset=latin-1; boundary=edge"),
)


@pytest.mark.parametrize("media", MULTIPART_TYPES)
def test_each_multipart_body_is_refused_as_the_framework_does_without_its_parser(
    tmp_path: Path, media: str
) -> None:
    whole = b'--edge\r\nContent-Disposition: form-data; name="template_id"\r\n\r\nx\r\n--edge--\r\n'
    headers = {"Content-Type": media}
    asks = [
        Ask(method, path, content=content, headers=headers, key=key)
        for method, path in (("POST", ""), ("PATCH", "{id}/"), ("PATCH", f"{NOWHERE}/"), ("PUT", ""))
        for content in (whole, whole[:40], b"--edge--\r\n", b" ", b"")
        for key in ("both", "reads")
    ]
    asks.append(Ask("POST", "{id}/run/", content=whole, headers=headers))
    assert compared(tmp_path, asks) == ""


def test_a_content_type_has_a_length(tmp_path: Path) -> None:
    types = [f"application/json; x={'y' * length}" for length in (230, 236, 237, 300)] + [
        "application/json; x*=utf-8''y"
    ]
    asks = [
        Ask("POST", content=content, headers={"Content-Type": each})
        for each in types
        for content in (json.dumps(NEW).encode(), b"")
    ]
    assert compared(tmp_path, asks) == ""


# ---------------------------------------------------------------- routes, methods, keys


METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")
PATHS = (
    "",
    "{id}/",
    "{id}",
    "{hex}/",
    f"{NOWHERE}/",
    "nonsense/",
    "{id}/run/",
    "{id}/run",
    f"{NOWHERE}/run/",
    "{id}/other/",
    "{id}/run/x/",
)


@pytest.mark.parametrize("key", ["reads", "writes", "both", "wrong", None])
def test_each_method_on_each_path_with_each_key(tmp_path: Path, key: str | None) -> None:
    deletes_last = sorted(METHODS, key=lambda method: method == "DELETE")
    asks = [asked(method, path, {}, key=key) for method in deletes_last for path in PATHS]
    assert compared(tmp_path, asks) == ""


def test_projects_paths_and_ids(tmp_path: Path) -> None:
    hosts = [
        f"/api/projects/{project}/task_automations/"
        for project in ("1", "@current", "01", "2", "x", "1.0", "%31", "@me", "-1")
    ]
    asks = [asked("GET", path, host=host) for host in hosts for path in ("", "{id}/", "nonsense/")]
    asks += [asked("POST", "", body, host=host) for host in hosts for body in (NEW, {})]
    ids = ("{{{id}}}", "urn:uuid:{id}", "{id}x", "%20", "1", "0" * 32, "{hex}", "a.b")
    asks += [asked("GET", f"{each}/") for each in ids]
    asks += [
        asked(method, f"{path}%0A")
        for path in ("", "{id}/", "{id}", "{id}/run/", "{id}/run")
        for method in ("GET", "POST")
    ]
    asks += [asked("GET", f"{each}/") for each in ("%EF%BC%91", "%FF", "%00", "{id}%0D", "a%2Fb")]
    paths = (
        "/",
        "/api",
        "/api/",
        "/api/projects/1/",
        "/api/projects/1/task_automations",
        "/api/projects/1/task_automations//",
        "/x?y=z",
    )
    asks += [asked(method, path) for path in paths for method in ("GET", "POST", "HEAD")]
    assert compared(tmp_path, asks) == ""


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "bearer {key}",
        "BEARER {key}",
        "Basic {key}",
        "{key}",
        "Bearer {key} x",
        "Bearer  {key}  ",
        "Bearer  x",
        "Bearer x y",
        "",
    ],
)
def test_odd_authorizations(tmp_path: Path, authorization: str) -> None:
    assert compared(tmp_path, [asked("GET", key=None, headers={"Authorization": authorization})]) == ""


ACCEPTS: tuple[str, ...] = (
    "*/*",
    "",
    "application/json",
    "APPLICATION/JSON",
    "application/*",
    "text/html",
    "text/html, */*;q=0.1",
    "*",
    ",",
    ";",
    "a;b;c",
)
ACCEPTS += (
    "application/json; indent=4",
    "application/json;indent=99",
    "application/json;indent=-1",
    "application/json;indent=x",
)
ACCEPTS += (
    "*/*;indent=2",
    "application/json;q=0.5, application/json;indent=2",
    "application/json, */*;indent=2",
    "application/json;q=0",
)
ACCEPTS += ("application/jsonp", "application/json;version=1", "image/*", "x" * 9000 + ", */*")


@pytest.mark.parametrize("key", ["both", None])
def test_each_accept_header(tmp_path: Path, key: str | None) -> None:
    asks = [
        asked(method, path, headers={"Accept": each}, key=key)
        for each in ACCEPTS
        for method, path in (("GET", "{id}/"), ("PUT", ""))
    ]
    lines: tuple[tuple[str, ...], ...] = (
        ("text/html", "application/json"),
        ("application/json;indent=1", "*/*"),
        ("", "text/html"),
        ("", ""),
    )
    lines += (
        (f"application/json;x={'y' * 239}, text/html",),
        (f"application/json;x={'y' * 238}",),
        ("application/json;indent*=utf-8''4",),
    )
    lines += ((",".join(["text/html;x=1234567"] * 450) + ",*/*",), (",".join(["a/b"] * 70) + ",*/*",))
    asks += [asked("GET", "{id}/", headers={"Accept": each}, key=key) for each in lines]
    asks += [asked("GET", f"?format={each}", key=key) for each in ("json", "", "api", "JSON", "xml")]
    assert compared(tmp_path, asks) == ""


def test_a_rate_is_counted_before_a_method_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference.Throttle, "limit", "4/min")
    asks = [
        asked("POST", key="reads"),
        asked("PUT", "{id}/", {}),
        asked("GET", "{id}/", key=None),
        asked("TRACE"),
        asked("OPTIONS"),
    ]
    asks += [
        asked("PUT", "{id}/", {}),
        asked("GET", key="wrong"),
        asked("POST", "", {}),
        asked("GET", "", headers={"Accept": "a/b"}),
    ]

    async def story() -> None:
        async with AsyncExitStack() as closing:
            sides = await _sides(closing, tmp_path, requests_per_minute=4)
            theirs, ours = [[(await side.answer(ask)) for ask in asks] for side in sides]
        assert [answer.status_code for answer in ours] == [403, 405, 401, 405, 200, 429, 401, 429, 406]
        for good, mine in zip(theirs, ours, strict=True):
            assert (mine.status_code, mine.text[:60]) == (good.status_code, good.text[:60])
            assert ("Retry-After" in mine.headers) == (mine.status_code == 429)

    asyncio.run(story())


# ---------------------------------------------------------------- pages


NUMBERS = (
    "",
    "0",
    "1",
    "2",
    "3",
    "5",
    "100",
    "1000000",
    "-1",
    "x",
    "1.0",
    "%20" + "2",
    "%2B2",
    "٢",
    "1_0",
    "9" * 18,
)


def test_each_limit_and_offset(tmp_path: Path) -> None:
    asks = [asked("POST", "", NEW | {"name": name}) for name in ("b", "a", "B", "ä", "10", "9", "_")]
    asks += [asked("GET", f"?limit={limit}") for limit in NUMBERS]
    asks += [asked("GET", f"?offset={offset}") for offset in NUMBERS]
    asks += [asked("GET", f"?limit={limit}&offset={offset}") for limit in NUMBERS for offset in NUMBERS]
    queries = (
        "?limit=2&limit=3",
        "?limit=2&x=1&y=&a=%20b",
        "?x=%FF&limit=2",
        "?limit=2&offset=2#x",
        "?LIMIT=2",
        "?limit",
        "?&&limit=2&",
        "?x=a+b&limit=1",
    )
    asks += [asked("GET", query) for query in queries]
    asks += [
        asked("GET", "?limit=2", headers={"Host": host})
        for host in ("example.com", "example.com:8080", "[::1]:80")
    ]
    assert compared(tmp_path, asks) == ""


# ---------------------------------------------------------------- runs


def test_a_run_and_what_it_does_to_the_automation(tmp_path: Path) -> None:
    bodies = (b"", b"{}", b"nonsense", b"\xff")
    asks = [
        Ask("POST", "{id}/run/", content=body, headers={"Content-Type": media})
        for body in bodies
        for media in ("application/json", "text/plain")
    ]
    asks += [
        asked("GET", "{id}/"),
        asked("DELETE", "{id}/"),
        asked("DELETE", "{id}/"),
        asked("GET", "{id}/"),
        asked("POST", "{id}/run/"),
    ]
    assert compared(tmp_path, asks) == ""


# ---------------------------------------------------------------- where ours differs on purpose


ON_PURPOSE = [
    pytest.param(
        asked("POST", "", NEW | {"cron_expression": "0 0 31 2 *"}),
        201,
        "invalid_input",
        id="no day ever matches: nothing would fire",
    ),
    pytest.param(
        asked("POST", "", NEW | {"cron_expression": "R * * * *"}),
        201,
        "invalid_input",
        id="random: each evaluation another",
    ),
    pytest.param(
        Ask("POST", content=b"[" * 100_000, headers={"Content-Type": "application/json"}),
        500,
        "parse_error",
        id="too deep for the parser",
    ),
    pytest.param(
        Ask(
            "POST",
            content=json.dumps(NEW | {"github_integration": 7}).replace("7", "1e400").encode(),
            headers=JSON,
        ),
        500,
        "incorrect_type",
        id="a number without an end",
    ),
    pytest.param(Ask("POST", content=b"a=1&" * 1001, headers=FORM), 500, "parse_error", id="too many fields"),
]
"""What the framework answers with, and our code. docs/api.md names them."""


@pytest.mark.parametrize(("ask", "status", "code"), ON_PURPOSE)
def test_where_ours_differs_it_refuses_more(tmp_path: Path, ask: Ask, status: int, code: str) -> None:
    async def story() -> None:
        async with AsyncExitStack() as closing:
            theirs, ours = await _sides(closing, tmp_path)
            good, mine = await theirs.answer(ask), await ours.answer(ask)
            assert good.status_code == status
            assert (mine.status_code, mine.json()["code"]) == (400, code)

    asyncio.run(story())


def test_a_401_carries_the_challenge_that_http_asks_for(tmp_path: Path) -> None:
    async def story() -> None:
        async with AsyncExitStack() as closing:
            theirs, ours = await _sides(closing, tmp_path)
            ask = asked("GET", key=None)
            assert "WWW-Authenticate" not in (await theirs.answer(ask)).headers
            assert (await ours.answer(ask)).headers["WWW-Authenticate"] == "Bearer"

    asyncio.run(story())
