"""httpx on aiohttp's connections.

httpx's own pool scans all its connections at both ends of every request. Its throughput therefore falls with
the number of connections; ``bench.transport`` measures the throughput beside the alternatives. The package
httpx-aiohttp is not used, for a reason more important than speed. It reports a *connect* time-out when a
server hangs up after reading a POST, but the scheduler must distinguish "never sent" from "maybe carried
out". This module therefore translates aiohttp's errors itself, by one rule. Only an error of aiohttp before
the connection exists becomes a ``ConnectError`` or a ``ConnectTimeout``. Every later error is another
``TransportError``.

Through a proxy, TLS to the API begins after CONNECT, so every answer of the proxy comes before a connection
exists. A request without TLS goes to the proxy unchanged. Among the proxy's own answers to such a request,
only 407 differs from the answers of the API.

No setting comes from the environment: no proxy, no netrc, no cookies. Redirects are not followed. aiohttp
sends an idempotent request a second time when a kept-alive connection turns out to be dead, but never a POST
or PATCH.
"""

import asyncio
import os
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final, Self

import aiohttp  # noqa: TID251  this package talks to the API
import httpx  # noqa: TID251  the same
from yarl import URL

from scheduler.core.proxy import Proxy
from scheduler.upstream.pool import NeverConnected, Pool

LONGEST_HEADER: Final = 2**16
"""Largest header or status line, in bytes.

aiohttp's own limit of 8,190 is less than some policies for browsers need.
"""
MOST_HEADERS: Final = 256


class Transport(httpx.AsyncBaseTransport, ABC):
    """The interface for sending requests and receiving answers.

    A simulated network, for example, may implement it.
    """

    @abstractmethod
    async def warm(self, url: str, connections: int) -> None:
        """Open up to ``connections`` idle connections to the host of ``url``, as far as possible.

        Send no request.
        """


class PooledTransport(Transport):
    """A transport for requests with a body in memory."""

    def __init__(self, *, tls: ssl.SSLContext, connect_timeout: float, proxy: Proxy | None = None) -> None:
        self._tls = tls
        self._proxy = proxy
        self._proxy_url = URL(proxy.url, encoded=True) if proxy else None
        self._proxy_headers: dict[str, str] = {}
        if proxy and proxy.has_credentials:
            self._proxy_headers["Proxy-Authorization"] = _HiddenText(proxy.authorization)
        self._timeout = aiohttp.ClientTimeout(connect=connect_timeout, ceil_threshold=float("inf"))
        self._opened: tuple[aiohttp.ClientSession, Pool] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the head of the answer. Raise ``httpx.TransportError``.

        The caller may read the body, and must close the body in any case.
        """
        session, _ = self._open_session()
        headers = _to_aiohttp_headers(request.headers)
        if request.url.scheme == "http":  # with TLS, these headers are for CONNECT alone
            headers += self._proxy_headers.items()
        try:
            answer = await session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=headers,
                data=request.content or None,
                allow_redirects=False,
                proxy=self._proxy_url,
                proxy_headers=self._proxy_headers,
            )
        except aiohttp.ClientError as error:
            raise _translate_error(error, self._proxy) from None
        if self._proxy and answer.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            answer.close()
            raise httpx.ConnectError(_describe_proxy_refusal(self._proxy, answer.status, answer.reason))
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer))

    async def warm(self, url: str, connections: int) -> None:
        """See `Transport`."""
        session, pool = self._open_session()
        await pool.warm(lambda: self._make_unsent_request(url, session), self._timeout, connections)

    def _make_unsent_request(self, url: str, session: aiohttp.ClientSession) -> aiohttp.ClientRequest:
        """Make a request that is never sent: aiohttp finds a connection by a request."""
        return aiohttp.ClientRequest(
            "GET",
            URL(url, encoded=True),
            loop=asyncio.get_running_loop(),
            session=session,
            proxy=self._proxy_url,
            proxy_headers=self._proxy_headers,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._opened is not None:
            await self._opened[0].close()
            self._opened = None

    def _open_session(self) -> tuple[aiohttp.ClientSession, Pool]:
        """Return the session and its connections, made on first use.

        Before the first use, no event loop exists for them.
        """
        if self._opened is None:
            pool = Pool(self._tls)
            session = aiohttp.ClientSession(
                connector=pool,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                auto_decompress=False,
                max_line_size=LONGEST_HEADER,
                max_field_size=LONGEST_HEADER,
                max_headers=MOST_HEADERS,
            )
            self._opened = session, pool
        return self._opened


class _Body(httpx.AsyncByteStream, AsyncIterator[bytes]):
    """The body of an answer as a stream.

    An early close closes the connection. After the end of the body, the connection is kept.
    """

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._answer.content.readany()
        except aiohttp.ClientError as error:
            raise _translate_late_error(error) from None
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        self._answer.close()


class _HiddenText(str):
    """A header's value that no ``repr`` shows: aiohttp's errors hold the headers of their request."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


def _to_aiohttp_headers(headers: httpx.Headers) -> list[tuple[str, str]]:
    decoded = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw)
    return [
        (name, _HiddenText(value) if name.lower() == "authorization" else value) for name, value in decoded
    ]


# ---------------------------------------------------------------- errors


def _translate_error(error: aiohttp.ClientError, proxy: Proxy | None) -> httpx.TransportError:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return httpx.ConnectTimeout(
                "no connection within connect_timeout" + (f", through the proxy {proxy}" if proxy else "")
            )
        case NeverConnected():
            return httpx.ConnectError(_explain_no_connection(error.__cause__, proxy))
        case _:
            return _translate_late_error(error)


def _explain_no_connection(cause: BaseException | None, proxy: Proxy | None) -> str:
    through = f"through the proxy {proxy}: " if proxy else ""
    match cause:
        case aiohttp.ClientSSLError():
            return through + _explain_os_error(cause.os_error)
        case aiohttp.ClientConnectorError():
            to_proxy = f"no connection to the proxy {proxy}: " if proxy else ""
            return to_proxy + _explain_os_error(cause.os_error)
        case aiohttp.InvalidURL():  # the pool's judgement of the host
            return f"{through}its address is not usable: {cause.description}"
        case _ if proxy:
            return _explain_proxy_failure(proxy, cause)
        case _:
            return str(cause) or type(cause).__name__


def _explain_proxy_failure(proxy: Proxy, cause: BaseException | None) -> str:
    match cause:
        case aiohttp.ClientHttpProxyError():
            return _describe_proxy_refusal(proxy, cause.status, cause.message)
        case aiohttp.ClientResponseError():
            return f"the proxy {proxy} answered, but not with HTTP: {cause.message}"
        case _:
            return f"the proxy {proxy} closed the connection before it reached the API"


def _describe_proxy_refusal(proxy: Proxy, status: int, reason: str | None) -> str:
    text = (
        f"the proxy {proxy} made no connection to the API: it answered HTTP {status} {reason or ''}".rstrip()
    )
    asked = status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
    return f"{text}; check the user name and password in the target's proxy" if asked else text


def _translate_late_error(error: aiohttp.ClientError) -> httpx.TransportError:
    match error:
        case aiohttp.ServerDisconnectedError():
            return httpx.RemoteProtocolError("the server hung up without a whole answer")
        case aiohttp.ClientPayloadError():
            return httpx.RemoteProtocolError("the answer was cut off")
        case aiohttp.ClientResponseError():
            return httpx.RemoteProtocolError(f"the answer is no HTTP: {error.message}")
        case _:
            return httpx.ReadError(str(error))


def _explain_os_error(cause: OSError) -> str:
    match cause:
        case ssl.SSLCertVerificationError():
            return f"its TLS certificate is not trusted: {cause.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {cause.reason or cause}"
        case socket.gaierror():
            return f"its name could not be resolved: {cause.strerror}"
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number).lower()
        case _:
            return str(cause)
