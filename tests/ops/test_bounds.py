"""What comes before a body is bounded before anything reads it, in the embedded API as in the daemon's
pages.
"""

import asyncio
import json

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from scheduler.ops.bounds import MAX_FIELD, MAX_FIELDS, MAX_TARGET
from scheduler.ops.connection import MAX_PIECE
from scheduler.ops.http_server import HttpServer

GIVEN_BY_CLIENT = 5  # headers that httpx sends by itself


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with how much there is of each part."""
    request = Request(scope, receive)
    sizes = [
        len(scope["raw_path"]) + len(scope["query_string"]),
        len(scope["headers"]),
        len(await request.body()),
    ]
    await JSONResponse(sizes)(scope, receive, send)


def ask(target: str = "/", headers: dict[str, str] | None = None) -> httpx.Response:
    async def main() -> httpx.Response:
        async with (
            HttpServer(application, "127.0.0.1:0", setting="[server] listen") as serving,
            httpx.AsyncClient(base_url=f"http://{serving.address}", verify=False) as client,
        ):
            return await client.get(target, headers=headers)

    return asyncio.run(main())


@pytest.mark.parametrize("query", ["", "?limit=1"])
def test_the_longest_target_is_served_and_a_longer_one_is_not(query: str) -> None:
    longest = "/" + "a" * (MAX_TARGET - 1 - len(query.removeprefix("?"))) + query
    assert ask(longest).json()[0] == MAX_TARGET
    refused = ask("/a" + longest[1:])
    assert (refused.status_code, refused.json()["code"], refused.headers["connection"]) == (
        414,
        "uri_too_long",
        "close",
    )


def test_the_longest_header_is_served_and_a_longer_one_is_not() -> None:
    assert ask(headers={"x": "a" * (MAX_FIELD - 1)}).status_code == 200
    refused = ask(headers={"x": "a" * MAX_FIELD})
    assert (refused.status_code, refused.json()["code"]) == (431, "headers_too_large")
    assert refused.json()["detail"] == f"A header is longer than {MAX_FIELD} bytes."


def test_as_many_headers_as_may_be_are_served_and_one_more_is_not() -> None:
    most = {f"x{number}": "" for number in range(MAX_FIELDS - GIVEN_BY_CLIENT)}
    assert ask(headers=most).json()[1] == MAX_FIELDS
    refused = ask(headers=most | {"y": ""})
    assert (refused.status_code, refused.json()["detail"]) == (
        431,
        f"The request has more than {MAX_FIELDS} headers.",
    )


def test_a_body_in_a_great_many_chunks_is_taken_piece_by_piece_and_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A chunk of one byte costs a step, and the loop must turn between a few thousand of them."""
    pieces: list[int] = []
    take = H11Protocol.data_received

    def count(self: H11Protocol, data: bytes) -> None:
        pieces.append(len(data))
        take(self, data)

    monkeypatch.setattr(H11Protocol, "data_received", count)
    chunks = 40_000

    async def main() -> bytes:
        async with HttpServer(application, "127.0.0.1:0", setting="[server] listen") as serving:
            host, port = serving.address.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            writer.write(head + b"1\r\na\r\n" * chunks + b"0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer

    answer = asyncio.run(main())
    assert json.loads(answer.partition(b"\r\n\r\n")[2])[2] == chunks
    assert max(pieces) <= MAX_PIECE
