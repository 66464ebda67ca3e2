"""Which connections may be used: aiohttp's pool, made stricter about what it hands out again.

Two kinds of kept-alive connection make the outcome of a POST unknown or, worse, wrong. One has been idle for so long that the server closes
it just as we send. The other has received something unasked: aiohttp takes what arrives on an idle connection for the answer to the next
request on it, so that a proxy's late "408" would be read as the answer to a POST that was in fact carried out.
"""

import asyncio
import select
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import aiohttp  # noqa: TID251  this is the room that talks to the API

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler  # noqa: TID251  the same
    from aiohttp.connector import Connection  # noqa: TID251  the same
    from aiohttp.tracing import Trace  # noqa: TID251  the same

KEPT_ALIVE: Final = 4.0
"""A connection that has been idle for longer is not used again. Seconds."""


class NeverConnected(aiohttp.ClientConnectionError):
    """There was no connection for a request, so nothing of the request was sent; the cause says why."""


class Pool(aiohttp.TCPConnector):
    """Connections without a limit: whoever sends limits requests, so that none of them ever waits for another's connection."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(ssl=tls, limit=0, keepalive_timeout=KEPT_ALIVE)
        self._opened: WeakKeyDictionary[ResponseHandler, float] = WeakKeyDictionary()  # when, on the loop's clock

    async def connect(self, req: aiohttp.ClientRequest, traces: list["Trace"], timeout: aiohttp.ClientTimeout) -> "Connection":  # noqa: ASYNC109  aiohttp's signature
        """A connection that is new, or that has been idle for a short time and silent since its last answer.

        Raises `NeverConnected`, or TimeoutError.
        """
        headers = req.proxy_headers
        while True:
            try:
                req.proxy_headers = headers.copy() if headers else None  # aiohttp adds a Host, and finds kept connections by them
                connection = await super().connect(req, traces, timeout)
            except TimeoutError:
                raise
            except Exception as error:  # with a proxy before the API this can be whatever an answer can be wrong with
                raise NeverConnected from error
            finally:
                req.proxy_headers = headers
            protocol = connection.protocol
            assert protocol is not None
            if protocol not in self._opened:
                self._opened[protocol] = self._loop.time()
                return connection
            if not protocol.should_close and _is_silent(connection):
                return connection
            connection.close()

    async def warm(
        self,
        make_request: Callable[[], aiohttp.ClientRequest],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  as above
        count: int,
    ) -> None:
        """Have ``count`` connections open and idle, as far as they can be had: over TLS a burst then takes a quarter of the time."""
        held: list[Connection] = []

        async def hold() -> None:
            with suppress(aiohttp.ClientError, OSError):  # a TimeoutError is an OSError
                held.append(await self._connect_recent(make_request(), timeout))

        try:
            await asyncio.gather(*(hold() for _ in range(count)))
        finally:
            for connection in held:
                connection.release()

    async def _connect_recent(self, request: aiohttp.ClientRequest, timeout: aiohttp.ClientTimeout) -> "Connection":  # noqa: ASYNC109  as above
        """A connection opened within the last seconds. Handing it back counts as use, so an older one would be kept alive by that alone."""
        while True:
            connection = await self.connect(request, [], timeout)
            protocol = connection.protocol
            assert protocol is not None
            if self._loop.time() - self._opened[protocol] <= KEPT_ALIVE:
                return connection
            connection.close()


def _is_silent(connection: "Connection") -> bool:
    """Whether nothing has come that the event loop has yet to read: in a burst it does not look for a while, and the server may hang up."""
    transport = connection.transport
    if transport is None:
        return False
    look = select.poll()
    look.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not look.poll(0)
