"""One request and what came of it, bounded in time and in size, as a value: nothing that a network or a server does is raised.

A `Failure` says the one thing that matters about a request without an answer: whether it may have been carried out. The errors of the
libraries end here; they carry the request, and with it the key. What the other side wrote is in no ``repr``, for it may be anything.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx  # noqa: TID251  this is the room that talks to the API

MAX_BODY: Final = 8 * 2**20
"""Bytes of an answer that are taken."""
MAX_VALUES: Final = 200_000
"""JSON values of an answer that are taken, by its commas and brackets; those within strings count too. Eight megabytes of ``[],[],`` would
otherwise become two hundred megabytes of lists, and hold up the loop for most of a second."""

UNREACHABLE: Final = "unreachable"
TIMEOUT: Final = "timeout"
BROKEN: Final = "broken"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. ``body`` is None when it was not taken, and ``problem`` says why."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # by their names in lower case; of several with one name, the last
    body: bytes | None = field(repr=False)
    problem: str | None = field(default=None, repr=False)
    too_large: bool = False

    @property
    def code(self) -> str:
        """Its status, as the request's code in the metrics."""
        return str(self.status)


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer, or half of one. ``sent``: the request may have been carried out."""

    sent: bool
    code: str
    error: str = field(repr=False)


async def exchange(transport: httpx.AsyncBaseTransport, request: httpx.Request, *, seconds: float) -> Reply | Failure:
    """Send ``request`` and take the whole answer within so many seconds. Only its cancellation is raised."""
    try:
        async with asyncio.timeout(seconds):
            return await _answered(transport, request)
    except TimeoutError:
        return Failure(sent=True, code=TIMEOUT, error=f"no whole answer within {seconds:g} s")
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        return Failure(sent=False, code=UNREACHABLE, error=str(error))
    except httpx.TransportError as error:
        return Failure(sent=True, code=BROKEN, error=str(error))
    except Exception as error:  # noqa: BLE001  whatever else a library raises of an answer: it may have been sent, and its text may show the key
        return Failure(sent=True, code=BROKEN, error=f"the answer could not be read ({type(error).__name__})")


async def _answered(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> Reply:
    response = await transport.handle_async_request(request)
    try:
        return await _taken(response)
    finally:
        await response.aclose()


async def _taken(response: httpx.Response) -> Reply:
    """The answer with its body. What is encoded or too large is not taken: its status alone may be all that is needed."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
    encoding = headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        return Reply(response.status_code, headers, None, f"its body is encoded, though that was not asked for: {encoding}")
    body = await _read(response)
    problem = _excess(body)
    return Reply(response.status_code, headers, None if problem else bytes(body), problem, too_large=problem is not None)


async def _read(response: httpx.Response) -> bytearray:
    """The body, or the beginning of one that is too large."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    body = bytearray()
    async for chunk in response.stream:
        body += chunk
        if len(body) > MAX_BODY:
            break
    return body


def _excess(body: bytearray) -> str | None:
    """What there is too much of in a body; None when it is fit to be parsed."""
    if len(body) > MAX_BODY:
        return f"its body is larger than {MAX_BODY // 2**20} MiB"
    if sum(body.count(mark) for mark in b",[{") > MAX_VALUES:
        return f"its body holds more than {MAX_VALUES} values"
    return None
