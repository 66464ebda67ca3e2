"""Request bodies: bytes and a Content-Type become plain data.

The results are those of the JSON parser and the form parser of Django REST framework, since the hosted API
used both. The module `contract` then checks the data, and does not know the format of the body.
"""

import asyncio
import codecs
import io
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from scheduler.localapi.http.errors import ApiError, make_parse_error
from scheduler.localapi.http.fields import Form
from scheduler.localapi.http.json_codec import parse_json
from scheduler.localapi.http.negotiation import CHARSETS, JSON, MAX_MEDIA_TYPE, MediaType, find_codec

URLENCODED: Final = "application/x-www-form-urlencoded"
PARSED_TYPES: Final = (JSON, URLENCODED)

MAX_BODY: Final = 10 * 2**20
"""Largest body, in bytes: enough for any prompt, and too little to fill the memory."""
MAX_FORM: Final = 2_621_440
"""Largest form, in bytes, as Django's DATA_UPLOAD_MAX_MEMORY_SIZE.

The limit is lower than `MAX_BODY`, because a form full of escapes is slow to decode.
"""
MAX_FIELDS: Final = 1000
"""Largest number of fields of a form."""
BODY_TIMEOUT: Final = 30.0
"""Seconds for the whole body. A slower client would occupy a connection that others need."""
_ASCII_OR_NOT: Final = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]+")
_ESCAPE_LENGTH: Final = len("%C3")
_PIECE: Final = 64 * 1024
"""Characters of a form that are decoded in a call."""


async def read_body(request: Request) -> bytes:
    """Read the whole body of a request.

    Raises `ApiError`: 413 for a body over `MAX_BODY`, 408 for a body that takes longer than `BODY_TIMEOUT`. A
    body whose Content-Length is too large is not read at all.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BODY:
        raise _make_too_large_error("body", MAX_BODY)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise _make_too_large_error("body", MAX_BODY)
    except TimeoutError:
        detail = f"The body did not arrive within {BODY_TIMEOUT:g} seconds."
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, detail) from None
    return bytes(body)


def _make_too_large_error(subject: str, most: int) -> ApiError:
    """Make a 413 in words of our own: Django REST framework has none for this status."""
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The {subject} is larger than {most} bytes.")


def parse_body(raw: bytes, content_type: str) -> object:
    """Parse a body into a `Form` or a value of JSON. An empty body becomes an empty object, for any type.

    Sizes are checked before the parsing. Raises `ApiError`: 415 for a type outside `PARSED_TYPES`, for a type
    longer than `MAX_MEDIA_TYPE` and for an unsupported charset; 413 for a form over `MAX_FORM`; 400 for a
    body that is no valid JSON or no valid form.
    """
    if not raw:
        return {}
    # A type that is too long counts as the empty type, which is unsupported.
    media = MediaType.parse(content_type if len(content_type) <= MAX_MEDIA_TYPE else "")
    if media.covers(JSON):
        return _parse_json_text(raw, _choose_codec(media))
    if media.covers(URLENCODED):
        if len(raw) > MAX_FORM:
            raise _make_too_large_error("form", MAX_FORM)
        return _parse_form_text(raw, _choose_codec(media))
    raise _make_unsupported_error(f'Unsupported media type "{content_type}" in request.')


def _choose_codec(media: MediaType) -> str:
    """Return the codec for the charset of the type, UTF-8 without a charset."""
    charset = media.parameters.get("charset", "utf-8")
    codec = find_codec(charset)
    if codec is None:
        detail = f'Unsupported charset "{charset}" in request Content-Type header; use one of '
        raise _make_unsupported_error(f"{detail}{', '.join(CHARSETS)}.")
    return codec


def _make_unsupported_error(detail: str) -> ApiError:
    return ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)


def _parse_json_text(raw: bytes, codec: str) -> object:
    # As in the framework, an incomplete last character is ignored. A wrong byte is a ValueError.
    try:
        return parse_json(codecs.getreader(codec)(io.BytesIO(raw)).read())
    except ValueError as error:
        raise make_parse_error(f"JSON parse error - {error}") from None


def _parse_form_text(raw: bytes, codec: str) -> Form:
    # As in Django, a form with bytes outside its charset is read as Latin-1. Its charset still decodes its
    # escapes.
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError:
        text = raw.decode("iso-8859-1")
    try:
        return parse_form(text, codec)
    except ValueError as error:
        raise make_parse_error(f"Form parse error - {error}") from None


def parse_form(text: str, codec: str) -> Form:
    """Return the fields of a form such as ``a=1&b=x+y%C3%A9``. For a repeated name the last field counts.

    Apart from that, the result is that of `urllib.parse.parse_qsl` with ``keep_blank_values``. The library's
    function needs many times the memory of the body, and one long call that lets no other thread run. This
    function decodes pieces of a bounded size. Raises ValueError for more than `MAX_FIELDS` fields. Empty
    fields count too.
    """
    if text.count("&") >= MAX_FIELDS:
        raise ValueError("Max number of fields exceeded")
    form = Form()
    for pair in filter(None, text.split("&")):
        name, _, value = pair.replace("+", " ").partition("=")
        form[_unquote(name, codec)] = _unquote(value, codec)
    return form


def _unquote(text: str, codec: str) -> str:
    """Return a text with resolved escapes.

    Only the ASCII parts are decoded: `unquote_to_bytes` would encode all other characters as UTF-8.
    """
    if "%" not in text:
        return text
    # One part after the other: a single call for all parts would stop all other threads.
    parts = (match[0] for match in _ASCII_OR_NOT.finditer(text))
    return "".join(_decode(part, codec) if part.isascii() else part for part in parts)


def _decode(text: str, codec: str) -> str:
    """Resolve the escapes of an ASCII text, piece by piece."""
    return b"".join(map(unquote_to_bytes, _cut(text))).decode(codec, "replace")


def _cut(text: str) -> Iterator[str]:
    """Cut a text into pieces of a bounded size, without cutting an escape."""
    start = 0
    while start < len(text):
        end = start + _PIECE
        # An escape that begins in the last two characters would be cut: the piece ends before this escape.
        escape = text.rfind("%", end - _ESCAPE_LENGTH + 1, end) if end < len(text) else -1
        end = end if escape < 0 else escape
        yield text[start:end]
        start = end
