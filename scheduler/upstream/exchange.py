"""One request and its result as a value, bounded in time and in size.

No failure of a network or a server is raised. A `Failure` gives the important fact about a request without an
answer: whether the API may have carried out the request. The errors of the libraries end here, because they
hold the request and with it the key. Text from the API is in no ``repr``, because this text may be anything.
"""

import asyncio
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx  # noqa: TID251  this package talks to the API

MAX_BODY: Final = 8 * 2**20
"""Largest part of an answer's body, in bytes."""
_PIECE: Final = 2**18
"""Bytes unpacked before other tasks may run."""
_WINDOWS: Final[Mapping[str, int]] = {"gzip": 31, "x-gzip": 31, "deflate": 47}
"""The accepted content codings (RFC 9110, section 8.4.1), with the format for zlib.

47 accepts zlib's own format and gzip.
"""

UNREACHABLE: Final = "unreachable"
TIMEOUT: Final = "timeout"
BROKEN: Final = "broken"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. ``problem`` is the reason for an incomplete ``body``.

    ``body`` is None when unpacking failed. An incomplete body is otherwise the beginning.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)  # by names in lower case; the last header of each name
    body: bytes | None = field(repr=False)
    problem: str | None = field(default=None, repr=False)
    too_large: bool = False

    @property
    def code(self) -> str:
        """The status, as the request's code in the metrics."""
        return str(self.status)


@dataclass(frozen=True, slots=True)
class Failure:
    """The absence of a whole answer. ``sent``: the API may have carried out the request."""

    sent: bool
    code: str
    error: str = field(repr=False)


async def exchange(
    transport: httpx.AsyncBaseTransport, request: httpx.Request, *, seconds: float
) -> Reply | Failure:
    """Send ``request`` and read the whole answer within ``seconds`` seconds.

    Only a cancellation is raised.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _read_answer(transport, request)
    except TimeoutError:
        return Failure(sent=True, code=TIMEOUT, error=f"no whole answer within {seconds:g} s")
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        return Failure(sent=False, code=UNREACHABLE, error=str(error))
    except httpx.TransportError as error:
        return Failure(sent=True, code=BROKEN, error=str(error))
    except Exception as error:  # noqa: BLE001  whatever else a library raises of an answer: it may have been sent, and its text may show the key
        return Failure(sent=True, code=BROKEN, error=f"the answer could not be read ({type(error).__name__})")


async def _read_answer(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> Reply:
    response = await transport.handle_async_request(request)
    try:
        return await _read_reply(response)
    finally:
        await response.aclose()


async def _read_reply(response: httpx.Response) -> Reply:
    """Return the answer with its body. A bad body becomes a problem, since the status alone may be enough."""
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw
    }
    coding = _find_coding(headers)
    if coding is not None and coding not in _WINDOWS:
        encoded = f"its body has an encoding that was not requested: {coding}"
        return Reply(response.status_code, headers, None, encoded)
    body = bytearray()
    try:
        await _read_body(response, body, coding)
    except zlib.error:
        return Reply(response.status_code, headers, None, f"its body is no valid {coding}")
    problem = f"its body is larger than {MAX_BODY // 2**20} MiB" if len(body) > MAX_BODY else None
    # The number of bytes beyond the limit depends on the network, and no result may depend on the network.
    taken = bytes(body[:MAX_BODY])
    return Reply(response.status_code, headers, taken, problem, too_large=problem is not None)


def _find_coding(headers: Mapping[str, str]) -> str | None:
    """Return the coding of the body, although this client asks for none. Return None for an unpacked body.

    An empty header means no coding.
    """
    codings = [coding.strip().lower() for coding in headers.get("content-encoding", "").split(",")]
    return ", ".join(coding for coding in codings if coding not in {"", "identity"}) or None


async def _read_body(response: httpx.Response, body: bytearray, coding: str | None) -> None:
    """Append the answer to ``body`` until its end, or until it is too large.

    Raise `zlib.error` when the body does not match its content coding.
    """
    assert isinstance(response.stream, httpx.AsyncByteStream)
    unpacked = None if coding is None else _Unpacker(_WINDOWS[coding])
    async for chunk in response.stream:
        if unpacked is None:
            body += chunk
        else:
            await unpacked.take(chunk, body)
        if len(body) > MAX_BODY:
            return
    if unpacked is not None and not unpacked.is_whole:
        raise zlib.error("it ends too early")


class _Unpacker:
    """A packed body, unpacked into another body.

    The other body never becomes much larger than `MAX_BODY`, even with extreme compression.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._stream = zlib.decompressobj(window)
        self._begun = False

    @property
    def is_whole(self) -> bool:
        """Whether the received body is complete. An empty body is complete."""
        return self._stream.eof or not self._begun

    async def take(self, chunk: bytes, body: bytearray) -> None:
        """Unpack ``chunk`` in pieces, and let other tasks run between the pieces. Raise `zlib.error`."""
        while chunk and len(body) <= MAX_BODY:
            if self._stream.eof:  # gzip allows several members, one behind the other (RFC 1952, section 2.2)
                self._stream = zlib.decompressobj(self._window)
            self._begun = True
            body += self._stream.decompress(chunk, _PIECE)
            chunk = self._stream.unconsumed_tail or self._stream.unused_data
            await asyncio.sleep(0)
