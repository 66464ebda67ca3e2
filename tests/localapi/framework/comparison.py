"""Asks the reference and ours the same, and says where the answers differ."""

import asyncio
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx

from tests.localapi.framework.reference import application, empty, prepare

_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z"
)  # the framework leaves out a fraction that is zero
_HEADERS = ("content-type", "allow", "vary", "location")
"""Of an answer.

Not the challenge of a 401 and the time of a 429: RFC 9110 asks for them, and drf-exceptions-hog leaves them
out.
"""
_THREAD = ThreadPoolExecutor(1)
_THREAD.submit(prepare).result()


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. ``{id}`` in its path is the automation that both have, ``{hex}`` the same without dashes,
    ``{key}`` in a header a key.

    ``key`` is the name of one of `reference.KEYS`, another text for a key that there is not, None for none.
    """

    method: str
    path: str = ""
    key: str | None = "both"
    content: bytes | None = None
    headers: Mapping[str, str | Sequence[str]] = field(default_factory=dict)  # several texts: several lines
    host: str = "/api/projects/1/task_automations/"

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.headers} {(self.content or b'')[:60]!r} as {self.key}"


def asked(method: str, path: str = "", /, json_body: Any = ..., **given: Any) -> Ask:
    """A request with a JSON body, if there is one."""
    if json_body is ...:
        return Ask(method, path, **given)
    headers = {"Content-Type": "application/json", **given.pop("headers", {})}
    return Ask(method, path, content=json.dumps(json_body).encode(), headers=headers, **given)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: a client, the text of each key, the id of its automation, and what each id that it has
    shown is called here.
    """

    client: httpx.AsyncClient
    keys: dict[str, str]
    automation_id: str
    names: dict[str, str] = field(default_factory=dict)

    async def answer(self, ask: Ask) -> httpx.Response:
        path = ask.path.replace("{id}", self.automation_id).replace(
            "{hex}", self.automation_id.replace("-", "")
        )
        lines = [
            (name, text)
            for name, given in ask.headers.items()
            for text in ([given] if isinstance(given, str) else given)
        ]
        headers = [(name, text.replace("{key}", self.keys["both"])) for name, text in lines]
        if ask.key is not None:
            headers.append(("Authorization", f"Bearer {self.keys.get(ask.key, ask.key)}"))
        url = path if path.startswith("/") else ask.host + path
        return await self.client.request(ask.method, url, content=ask.content, headers=headers)

    def body(self, answer: httpx.Response) -> str:
        """Of an answer, as text, so that the order of fields, blanks and escapes count too; none of a HEAD,
        since none is sent.

        Instants only have to be there. Ids are called by the order in which they were first shown: so it is
        the same one or another.
        """
        if answer.request.method == "HEAD":
            return ""
        named = _UUID.sub(
            lambda found: self.names.setdefault(found[0], f"(id {len(self.names) + 1})"), answer.text
        )
        return _INSTANT.sub("(instant)", named)


class Framework(httpx.AsyncBaseTransport):
    """The reference, asked within this process as a WSGI server would (PEP 3333). A new one has no
    automations.
    """

    def __init__(self) -> None:
        _THREAD.submit(empty).result()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer it."""
        return await asyncio.get_running_loop().run_in_executor(
            _THREAD, _answered, request, await request.aread()
        )


def _answered(request: httpx.Request, content: bytes) -> httpx.Response:
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    with closing(
        application(_environment(request, content), lambda status, headers: begun.append((status, headers)))
    ) as answer:
        body = b"".join(answer)
    ((status, headers),) = begun
    return httpx.Response(int(status.split()[0]), headers=headers, content=body)


def _environment(request: httpx.Request, content: bytes) -> dict[str, Any]:
    path, _, query = request.url.raw_path.partition(b"?")
    environment: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "SERVER_NAME": request.url.host,
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(content),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for raw_name, raw_text in request.headers.raw:
        name, text = raw_name.decode().upper().replace("-", "_"), raw_text.decode("latin-1")
        key = name if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{name}"
        environment[key] = f"{environment[key]},{text}" if key in environment else text
    return environment


def differences(theirs: Side, good: httpx.Response, ours: Side, mine: httpx.Response) -> Iterator[str]:
    """What is not the same in two answers. Where the framework fails, it is no model: ours only must not fail
    too.
    """
    if (
        good.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
        and mine.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
    ):
        return
    if good.status_code != mine.status_code:
        yield f"status: {good.status_code} and ours {mine.status_code}"
    for name in _HEADERS:
        if good.headers.get(name) != mine.headers.get(name):
            yield f"{name}: {good.headers.get(name)} and ours {mine.headers.get(name)}"
    if (body := theirs.body(good)) != (own := ours.body(mine)):
        yield f"body: {body[:600]} and ours {own[:600]}"
