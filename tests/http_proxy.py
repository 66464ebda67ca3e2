"""A small HTTP proxy on real sockets: CONNECT for TLS, absolute addresses for the rest. A behaviour of
`tests.fault_server`.
"""

import asyncio
import base64
from contextlib import suppress
from urllib.parse import urlsplit

from tests.fault_server import Behaviour, Received, Visit


def http_proxy(user: str | None = None, password: str = "") -> Behaviour:
    """Pass on what is asked for; with a ``user`` only for a client that shows these credentials."""
    expected = None if user is None else "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    async def behave(visit: Visit) -> None:
        while request := await visit.request():
            if expected is not None and request.headers.get("proxy-authorization") != expected:
                await visit.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            elif request.method == "CONNECT":
                await _tunnel(visit, request)
                return
            else:
                await visit.send(await _pass_on(request))

    return behave


async def _tunnel(visit: Visit, request: Received) -> None:
    host, port = request.target.split(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        await visit.send(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        return
    await visit.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
    try:
        await asyncio.gather(_pipe(visit.reader, writer), _pipe(reader, visit.writer))
    finally:
        writer.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _pass_on(request: Received) -> bytes:
    """The whole answer to a request without TLS, which goes on without what was for the proxy alone."""
    parts = urlsplit(request.target)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        headers = {name: value for name, value in request.headers.items() if not name.startswith("proxy-")}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, "connection": "close"}.items())
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        writer.write(f"{request.method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + request.body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        return head + await reader.readexactly(length)
    finally:
        writer.transport.abort()
