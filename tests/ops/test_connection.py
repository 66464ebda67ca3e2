"""Clients that take their time, on real sockets: each is given up after a while, and one that goes on is
not.
"""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from scheduler.ops import connection
from scheduler.ops.http_server import HttpServer

DEADLINE = 20.0
LARGE = 16 * 2**20  # bytes: more than all buffers between two sockets hold


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """``/echo`` answers with its body, ``/large`` with a lot, and everything else at once, without looking at
    a body.
    """
    request = Request(scope, receive)
    if request.url.path == "/echo":
        await PlainTextResponse(await request.body())(scope, receive, send)
    elif request.url.path == "/large":
        await PlainTextResponse(b"x" * LARGE)(scope, receive, send)
    else:
        await PlainTextResponse("hello")(scope, receive, send)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ARRIVES_WITHIN", 0.4)
    monkeypatch.setattr(connection, "READ_WITHIN", 0.4)


class Client:
    """A client that says what it wants, as slowly as it wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, text: bytes, *, pause: float = 0.0) -> None:
        """Say it at once, or with a pause after each byte, as far as the server listens."""
        for part in [text] if not pause else [bytes([byte]) for byte in text]:
            if self.reader.at_eof():
                return
            self.writer.write(part)
            await asyncio.sleep(pause)

    async def answer(self) -> bytes:
        """The next answer's body, which has a length."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE)
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return await asyncio.wait_for(self.reader.readexactly(length), DEADLINE)

    async def is_given_up(self) -> bool:
        """Wait until the server ends the connection; what it said until then does not matter."""
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(self.reader.read(), DEADLINE)
        return True


def story(tell: Any, **how: Any) -> None:
    async def told() -> None:
        async with HttpServer(application, "127.0.0.1:0", setting="server.listen", **how) as serving:
            host, port = serving.address.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                await tell(Client(reader, writer))
            finally:
                writer.close()

    asyncio.run(told())


async def took(waiting: Any) -> float:
    clock = asyncio.get_running_loop().time
    began = clock()
    assert await waiting
    return clock() - began


def test_a_client_that_says_nothing_is_given_up() -> None:
    async def tell(client: Client) -> None:
        assert await took(client.is_given_up()) >= 0.3

    story(tell)


def test_a_head_that_trickles_is_given_up_however_steadily() -> None:
    async def tell(client: Client) -> None:
        talking = asyncio.create_task(client.say(b"GET / HTTP/1.1\r\nX: " + b"x" * 1000, pause=0.05))
        assert 0.3 <= await took(client.is_given_up()) < 10
        talking.cancel()

    story(tell)


def test_a_second_head_that_trickles_is_given_up_too() -> None:
    async def tell(client: Client) -> None:
        await client.say(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert await client.answer() == b"hello"
        talking = asyncio.create_task(client.say(b"GET / HTTP/1.1\r\nX: " + b"x" * 1000, pause=0.05))
        assert await took(client.is_given_up()) < 10
        talking.cancel()

    story(tell)


def test_the_rest_of_a_body_that_nobody_wants_is_not_waited_for() -> None:
    async def tell(client: Client) -> None:
        await client.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n")
        assert await client.answer() == b"hello"
        talking = asyncio.create_task(client.say(b"x" * 1000, pause=0.05))
        assert await took(client.is_given_up()) < 10
        talking.cancel()

    story(tell, keep_alive=60)


def test_a_client_that_does_not_read_its_answer_is_given_up() -> None:
    async def tell(client: Client) -> None:
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await client.say(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
        await asyncio.sleep(2)
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        read = 0
        with contextlib.suppress(ConnectionError):
            while part := await asyncio.wait_for(client.reader.read(2**20), DEADLINE):
                read += len(part)
        assert read < LARGE

    story(tell)


def test_a_client_that_reads_slowly_gets_all_of_it() -> None:
    async def tell(client: Client) -> None:
        await client.say(b"GET /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        read = 0
        while part := await asyncio.wait_for(client.reader.read(2**20), DEADLINE):
            read += len(part)
            await asyncio.sleep(0.2 if read % 7 == 0 else 0)
        assert read > LARGE

    story(tell)


def test_an_idle_connection_stays_for_its_time_and_a_slow_body_for_as_long_as_the_application_waits() -> None:
    async def tell(client: Client) -> None:
        for _ in range(2):
            await client.say(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n")
            await client.say(b"slow one", pause=0.1)
            assert await client.answer() == b"slow one"
            await asyncio.sleep(0.8)

    story(tell, keep_alive=60)


def test_a_connection_goes_on_after_a_body_that_came_too_late_and_ends_when_it_is_idle() -> None:
    async def tell(client: Client) -> None:
        await client.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n")
        assert await client.answer() == b"hello"
        await client.say(b"late")
        await asyncio.sleep(0.6)
        await client.say(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert await client.answer() == b"hello"
        await client.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n")
        assert await client.answer() == b"hello"
        await client.say(b"late")
        assert await took(client.is_given_up()) < 10

    story(tell, keep_alive=1)


async def refused(client: Client) -> bytes:
    """The body of a 400, after which the connection is closed."""
    head, _, body = (await asyncio.wait_for(client.reader.read(), DEADLINE)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head.lower()
    return body


@pytest.mark.parametrize(
    "request_line", [b"nonsense", "GET /?search=é HTTP/1.1".encode(), b"GET / HTTP/1.1\r\nContent-Length: x"]
)
def test_what_is_no_request_is_told_so_in_json(request_line: bytes) -> None:
    async def tell(client: Client) -> None:
        await client.say(request_line + b"\r\nHost: h\r\n\r\n")
        assert json.loads(await refused(client))["code"] == "bad_request"

    story(tell)


def test_a_head_may_be_so_large_and_no_larger() -> None:
    async def tell(client: Client) -> None:
        await client.say(b"GET / HTTP/1.1\r\nHost: h\r\n" + (b"X: " + b"x" * 8_000 + b"\r\n") * 7 + b"\r\n")
        assert await client.answer() == b"hello"
        await client.say(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 70_000)
        assert json.loads(await refused(client)) == {
            "type": "invalid_request",
            "code": "bad_request",
            "detail": "Invalid HTTP request received.",
            "attr": None,
        }

    story(tell)
