"""A TCP server that misbehaves on purpose: what a broken API, proxy or network can do to a client, on real
sockets.

A behaviour is a coroutine that is given one connection. It reads requests and writes bytes as it pleases;
what it read is kept in `FaultServer.received`, so that a test can count what really arrived.
"""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

DATE = "Mon, 23 Nov 2026 19:20:00 GMT"
REASONABLE = 20.0  # seconds; a condition that takes longer is a failure


@dataclass(frozen=True)
class Received:
    """One request as it came off the wire. Header names are in lower case."""

    connection: int
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Visit:
    """One connection, from the server's side."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: list[Received]

    async def request(self) -> Received | None:
        """The next whole request; None when the client hung up."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        self.received.append(Received(self.number, method, target, headers, body))
        return self.received[-1]

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close so that the client sees a reset, not an end."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def hang(self) -> None:
        """Say nothing for ever."""
        await asyncio.Event().wait()


Behaviour = Callable[[Visit], Awaitable[None]]


@dataclass
class FaultServer:
    """What runs, and what it has seen."""

    port: int
    scheme: str
    connections: int = 0
    open: int = 0
    received: list[Received] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def https_url(self) -> str:
        """For a client that expects TLS of a server without it."""
        return f"https://127.0.0.1:{self.port}"


@asynccontextmanager
async def fault_server(
    behaviour: Behaviour, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[FaultServer]:
    """Serve on a free port until the block ends. Errors of a behaviour whose client went away are its
    business.
    """
    visits: set[asyncio.Task[None]] = set()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        server.open += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await behaviour(Visit(server.connections, reader, writer, server.received))
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            server.open -= 1

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(visit(reader, writer))
        visits.add(task)
        task.add_done_callback(visits.discard)

    listener = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=tls, limit=2**20)
    server = FaultServer(listener.sockets[0].getsockname()[1], "https" if tls else "http")
    try:
        yield server
    finally:
        listener.close()
        for task in visits:
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)


def response(status: int = 200, body: bytes | object = b"", headers: dict[str, str] | None = None) -> bytes:
    """A whole response; a ``body`` that is no bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    all_headers = {
        "Date": DATE,
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        **(headers or {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + content


def always(data: bytes) -> Behaviour:
    """Answer every request with these bytes, on connections that stay open."""

    async def behave(visit: Visit) -> None:
        while await visit.request():
            await visit.send(data)

    return behave


def by_request(answer: Callable[[Received], bytes]) -> Behaviour:
    """Answer every request with what ``answer`` makes of it, on connections that stay open."""

    async def behave(visit: Visit) -> None:
        while request := await visit.request():
            await visit.send(answer(request))

    return behave


async def until(condition: Callable[[], bool], within: float = REASONABLE) -> None:
    """Wait for a condition; a test fails when it does not come true in time."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  the condition may be anything, and nobody announces it
            await asyncio.sleep(0.002)
