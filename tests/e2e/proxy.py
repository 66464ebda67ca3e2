"""A proxy between daemon and API that reads HTTP well enough to spoil chosen requests: lose them, lose their
answers, or answer itself.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.ports import free_port


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    raw: bytes

    @property
    def is_run(self) -> bool:
        return self.method == "POST" and self.path.endswith("/run/")

    @property
    def is_list(self) -> bool:
        return self.method == "GET" and self.path.partition("?")[0].endswith("/task_automations/")

    @property
    def automation_id(self) -> str:
        return self.path.split("/task_automations/")[1].split("/")[0]


class Lose(Exception):
    """Cut the connection: before the request reaches the API, or instead of handing on its answer."""


class Cut(Lose):
    """Hand on the beginning of an answer, and cut the connection then."""

    def __init__(self, beginning: bytes) -> None:
        super().__init__(beginning)
        self.beginning = beginning


_STEPS = 20
"""So many times a second a bit of an answer leaves when it is throttled."""

Rule = Callable[[Request, Callable[[], Awaitable[bytes]]], Awaitable[bytes]]


async def pass_on(request: Request, forward: Callable[[], Awaitable[bytes]]) -> bytes:
    del request
    return await forward()


@dataclass
class Proxy:
    """``rule(request, forward)`` gives the bytes of the answer; ``forward()`` carries the request out at the
    API and gives its answer.
    """

    api_port: int
    rule: Rule = pass_on
    drops: bytes = b""  # the name, in lower case, of a header that the API never gets to see
    bytes_per_second: float = float("inf")  # of answers
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    _idle: set[asyncio.StreamWriter] = field(default_factory=set)
    _visits: set[asyncio.Task[None]] = field(
        default_factory=set
    )  # held here, since a server that was closed holds them no more
    _server: asyncio.Server | None = None
    port: int = field(default_factory=free_port)

    async def start(self) -> None:
        """Listen; after a `close`, on the same port again."""
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", self.port, backlog=1024)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.close_idle()

    def close_idle(self) -> int:
        """Close every kept-alive connection on which nothing is going on, as servers do after their
        time-out.
        """
        idle, self._idle = self._idle, set()
        for writer in idle:
            writer.close()
        return len(idle)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = asyncio.create_task(self._serve(reader, writer))
        self._visits.add(visit)
        visit.add_done_callback(self._visits.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while True:
                self._idle.add(writer)
                request = await _read_request(reader)
                self._idle.discard(writer)
                if request is None:
                    return
                self.seen[request.method, request.path.partition("?")[0]] += 1

                async def forward(request: Request = request) -> bytes:
                    nonlocal upstream
                    if upstream is None:
                        upstream = await asyncio.open_connection("127.0.0.1", self.api_port)
                    upstream[1].write(_without(self.drops, request.raw))
                    return await _read_answer(upstream[0])

                await self._answer(writer, await self.rule(request, forward))
        except Cut as cut:
            writer.write(cut.beginning)  # sent at once: it is less than a socket holds
            writer.close()
        except (Lose, ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._idle.discard(writer)
            for each in (writer, upstream[1] if upstream else None):
                if each is not None:
                    with contextlib.suppress(ConnectionError):
                        each.close()

    async def _answer(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        step = (
            len(answer)
            if self.bytes_per_second == float("inf")
            else max(int(self.bytes_per_second / _STEPS), 1)
        )
        for begin in range(0, len(answer), step):
            writer.write(answer[begin : begin + step])
            await writer.drain()
            if begin + step < len(answer):
                await asyncio.sleep(1 / _STEPS)


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
    return Request(method, path, head + await reader.readexactly(_length(head)))


async def _read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(_length(head))


def _without(name: bytes, raw: bytes) -> bytes:
    """A request without the header of this name."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not name or line.partition(b":")[0].lower() != name]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def answer(status: int, reason: str, body: bytes = b"{}") -> bytes:
    """An answer of the proxy's own."""
    return (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
