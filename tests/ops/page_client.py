"""Asking the pages as a browser does, and reading what comes back without one."""

import asyncio
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Final

import httpx

from scheduler.ops.web import ProgramRoutes, build_app
from tests.ops.support import pages

_VOID: Final = {"meta", "link", "input", "br", "img", "hr"}


def asked(
    path: str,
    of: ProgramRoutes | None = None,
    *,
    method: str = "GET",
    listen: str = "127.0.0.1:9464",
    **headers: str,
) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(build_app(of or pages(), listen=listen))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9464") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(ask())


def all_asked(paths: Sequence[str], of: ProgramRoutes) -> list[httpx.Response]:
    """At once."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(build_app(of, listen="127.0.0.1:9464"))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9464") as client:
            return await asyncio.gather(*(client.get(path) for path in paths))

    return asyncio.run(ask())


Attributes = dict[str, str | None]


class Parsed(HTMLParser):
    """A page's elements in order, each with its attributes; its text; and what is wrong with how elements
    begin and end.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, Attributes]] = []
        self.wrong: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.wrong.extend(f"{each} is never closed" for each in self._open)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        self.wrong.extend(f"{tag} has {name} twice" for name in names if names.count(name) > 1)
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"{tag} is closed out of order at line {self.getpos()[0]}")

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def words(self) -> str:
        """The text on one line."""
        return " ".join(self.text.split())

    def all(self, tag: str) -> list[Attributes]:
        return [attributes for each, attributes in self.elements if each == tag]

    def values(self, attribute: str) -> list[str]:
        return [
            value or ""
            for _, attributes in self.elements
            for name, value in attributes.items()
            if name == attribute
        ]

    @property
    def links(self) -> list[str]:
        return [str(each["href"]) for each in self.all("a")]


def parsed(path: str, of: ProgramRoutes | None = None, *, code: int = 200) -> Parsed:
    answer = asked(path, of)
    assert answer.status_code == code, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Parsed(answer.text)
