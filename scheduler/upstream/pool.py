"""The connection pool: aiohttp's pool with stricter rules for the reuse of connections.

Two kinds of kept-alive connection make the outcome of a POST unknown or, worse, wrong. The first kind has
been idle for so long that the server closes the connection just as the request leaves. The second kind has
received unexpected bytes. aiohttp takes bytes on an idle connection for the answer to the next request. A
proxy's late "408" would therefore be read as the answer to a POST, although the POST was carried out.
"""

import asyncio
import select
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import aiohttp  # noqa: TID251  this package talks to the API

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler  # noqa: TID251  the same
    from aiohttp.connector import Connection  # noqa: TID251  the same
    from aiohttp.tracing import Trace  # noqa: TID251  the same

KEPT_ALIVE: Final = 4.0
"""Longest idle time, in seconds, of a reusable connection."""


class NeverConnected(aiohttp.ClientConnectionError):
    """No connection was made for a request, so no part of the request was sent. The cause has the reason."""


class Pool(aiohttp.TCPConnector):
    """A pool without a limit.

    The sender limits requests, so no request waits for another request's connection.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(ssl=tls, limit=0, keepalive_timeout=KEPT_ALIVE)
        # instant of opening, on the loop's clock
        self._opened: WeakKeyDictionary[ResponseHandler, float] = WeakKeyDictionary()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list["Trace"],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  aiohttp's signature
    ) -> "Connection":
        """Return a new connection, or an idle connection without unexpected bytes since its last answer.

        A reused connection has been idle for at most `KEPT_ALIVE` seconds. Raise `NeverConnected` or
        TimeoutError.
        """
        headers = req.proxy_headers
        while True:
            try:
                # aiohttp adds a Host, and finds kept connections by these headers
                req.proxy_headers = headers.copy() if headers else None
                connection = await super().connect(req, traces, timeout)
            except TimeoutError:
                raise
            # with a proxy before the API, this error can be any error of an answer
            except Exception as error:
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
        """Open up to ``count`` connections and keep them idle, as far as possible.

        Over TLS, a burst then takes a quarter of the time.
        """
        held: list[Connection] = []

        async def hold() -> None:
            with suppress(aiohttp.ClientError, OSError):  # a TimeoutError is an OSError
                held.append(await self._connect_recent(make_request(), timeout))

        try:
            await asyncio.gather(*(hold() for _ in range(count)))
        finally:
            for connection in held:
                connection.release()

    async def _connect_recent(
        self,
        request: aiohttp.ClientRequest,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  as above
    ) -> "Connection":
        """Return a connection opened within the last seconds.

        The return of a connection to the pool counts as use. An older connection would stay alive by this
        alone.
        """
        while True:
            connection = await self.connect(request, [], timeout)
            protocol = connection.protocol
            assert protocol is not None
            if self._loop.time() - self._opened[protocol] <= KEPT_ALIVE:
                return connection
            connection.close()


def _is_silent(connection: "Connection") -> bool:
    """Return whether no unread bytes have arrived.

    In a burst the event loop does not read for some time, and the server may close the connection meanwhile.
    """
    transport = connection.transport
    if transport is None:
        return False
    look = select.poll()
    look.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not look.poll(0)
