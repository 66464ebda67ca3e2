"""Asks the reference and ours the same, and says where the answers differ."""

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.localapi.framework.reference import application, empty, prepare

_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")  # the framework leaves out a fraction that is zero
_HEADERS = ("content-type", "allow")
"""Of an answer. Not the challenge of a 401: RFC 9110 asks for one, and drf-exceptions-hog leaves it out."""
_THREAD = ThreadPoolExecutor(1)
_THREAD.submit(prepare).result()


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. ``{id}`` in its path is the automation that both have, ``{hex}`` the same without dashes, ``{key}`` in a header a key.

    ``key`` is the name of one of `reference.KEYS`, another text for a key that there is not, None for none.
    """

    method: str
    path: str = ""
    key: str | None = "both"
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
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
    """One of the two: a client, the text of each key, and the id of its automation."""

    client: httpx.AsyncClient
    keys: dict[str, str]
    automation_id: str

    async def answer(self, ask: Ask) -> httpx.Response:
        path = ask.path.replace("{id}", self.automation_id).replace("{hex}", self.automation_id.replace("-", ""))
        headers = {name: text.replace("{key}", self.keys["both"]) for name, text in ask.headers.items()}
        if ask.key is not None:
            headers["Authorization"] = f"Bearer {self.keys.get(ask.key, ask.key)}"
        url = path if path.startswith("/") else ask.host + path
        return await self.client.request(ask.method, url, content=ask.content, headers=headers)


class Framework(httpx.AsyncBaseTransport):
    """The reference, asked within this process. A new one has no automations."""

    def __init__(self) -> None:
        self._sync = httpx.WSGITransport(application)
        _THREAD.submit(empty).result()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer it."""
        whole = httpx.Request(request.method, request.url, headers=request.headers, content=await request.aread())
        return await asyncio.get_running_loop().run_in_executor(_THREAD, self._answered, whole)

    def _answered(self, request: httpx.Request) -> httpx.Response:
        answer = self._sync.handle_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.read())


def differences(theirs: httpx.Response, ours: httpx.Response) -> Iterator[str]:
    """What is not the same, but for ids and instants, which only have to be there."""
    if theirs.status_code != ours.status_code:
        yield f"status: {theirs.status_code} and ours {ours.status_code}"
    for name in _HEADERS:
        if theirs.headers.get(name) != ours.headers.get(name):
            yield f"{name}: {theirs.headers.get(name)} and ours {ours.headers.get(name)}"
    if (mine := _masked(ours)) != (good := _masked(theirs)):
        yield f"body: {good[:600]} and ours {mine[:600]}"


def _masked(answer: httpx.Response) -> str:
    """The body as text, so that the order of fields, blanks and escapes count too. A HEAD has none once a server sends it."""
    if answer.request.method == "HEAD":
        return ""
    return _INSTANT.sub("(instant)", _UUID.sub("(uuid)", answer.text))
