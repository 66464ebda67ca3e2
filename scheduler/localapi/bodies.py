"""Request bodies: bytes and a Content-Type become plain data, as Django REST framework's three parsers do it.

Apart from `contract`, which judges the data and need not know how it travelled.
"""

import asyncio
import codecs
import io
import json
from typing import Final, NoReturn
from urllib.parse import parse_qsl

from starlette.requests import Request

from scheduler.localapi.errors import too_large, too_slow, unreadable, unsupported_media_type
from scheduler.localapi.fields import Form
from scheduler.localapi.multipart import parse_multipart
from scheduler.localapi.negotiation import JSON, MAX_MEDIA_TYPE, MediaType

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
PARSED: Final = (JSON, URLENCODED, MULTIPART)

MAX_BODY: Final = 10 * 2**20
"""Bytes of a body: room for any prompt, and nothing that fills the memory."""
ARRIVES_WITHIN: Final = 30.0
"""Seconds for the whole body: who is slower holds a place that others wait for."""
_MAX_FIELDS: Final = 1000


async def read_body(request: Request) -> bytes:
    """The whole body of a request. Raises `ApiError`: 413 for one over `MAX_BODY`, 408 for one that takes longer than `ARRIVES_WITHIN`.

    One that says beforehand that it is too large is not read at all.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BODY:
        raise too_large(MAX_BODY)
    body = bytearray()
    try:
        async with asyncio.timeout(ARRIVES_WITHIN):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise too_large(MAX_BODY)
    except TimeoutError:
        raise too_slow(ARRIVES_WITHIN) from None
    return bytes(body)


def parse_body(raw: bytes, content_type: str) -> object:
    """What a body says: a `Form` for a form, otherwise whatever its JSON is. An empty body says nothing, whatever its type.

    Raises `ApiError`: 415 for a type that is none of `PARSED`, 400 for a body that is not what its type says.
    """
    media = MediaType.parse(content_type)
    if not raw:
        return Form() if media.kind in {URLENCODED, MULTIPART} else {}
    if len(content_type) > MAX_MEDIA_TYPE:
        raise unsupported_media_type(content_type)
    if media.covers(JSON):
        return _json(raw, _charset(media))
    if media.covers(URLENCODED):
        return _urlencoded(raw, _charset(media))
    if media.covers(MULTIPART):
        return parse_multipart(raw, content_type, _charset(media))
    raise unsupported_media_type(content_type)


def _charset(media: MediaType) -> str:
    """The charset that the type names, UTF-8 without one or for an unknown one; refuses codecs that are not for text, such as zip."""
    charset = media.parameters.get("charset", "utf-8")
    try:
        codecs.lookup(charset)
    except LookupError:
        return "utf-8"
    try:
        "".encode(charset)
    except (LookupError, UnicodeError):
        raise unreadable(f'Unsupported charset "{charset}" in request Content-Type header.') from None
    return charset


def _json(raw: bytes, charset: str) -> object:
    try:
        text = codecs.getreader(charset)(io.BytesIO(raw)).read()
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise unreadable(f"JSON parse error - {error}") from None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"Out of range float values are not JSON compliant: {constant!r}")


def _urlencoded(raw: bytes, charset: str) -> Form:
    try:
        text = raw.decode(charset)
    except UnicodeDecodeError:
        text = raw.decode("iso-8859-1")
    try:
        return Form(parse_qsl(text, keep_blank_values=True, encoding=charset, max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise unreadable(f"Form parse error - {error}") from None
