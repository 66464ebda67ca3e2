"""One request and its result as a value, bounded in time and in size.

No failure of a network or a server is raised. A `Failure` gives the important fact about a request without an
answer: whether the API may have carried out the request. The errors of the libraries end here, because they
hold the request and with it the key. Text from the API is in no ``repr``, because this text may be anything.
"""

import asyncio
import zlib
from collections.abc import AsyncIterable, Mapping
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
    assert isinstance(response.stream, httpx.AsyncByteStream)
    body = bytearray()
    try:
        if coding is None:
            await _read_plain(response.stream, body)
        else:
            await _read_packed(response.stream, _WINDOWS[coding], body)
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


async def _read_plain(chunks: AsyncIterable[bytes], body: bytearray) -> None:
    """Append the chunks to ``body`` until their end, or until it is too large."""
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_BODY:
            return


async def _read_packed(chunks: AsyncIterable[bytes], window: int, body: bytearray) -> None:
    """Append the unpacked chunks to ``body`` as `_read_plain` does, and let other tasks run between pieces.

    The body never becomes much larger than `MAX_BODY`, even with extreme compression. Raise `zlib.error` when
    the chunks do not match the format or end too early. No chunks are an empty body.
    """
    stream, is_begun = zlib.decompressobj(window), False
    async for chunk in chunks:
        packed, is_begun = chunk, True
        while packed:
            if stream.eof:  # gzip allows several members, one behind the other (RFC 1952, section 2.2)
                stream = zlib.decompressobj(window)
            body += stream.decompress(packed, _PIECE)
            if len(body) > MAX_BODY:
                return
            packed = stream.unconsumed_tail or stream.unused_data
            await asyncio.sleep(0)
    if is_begun and not stream.eof:
        raise zlib.error("it ends too early")
