"""Request bodies: bytes and a Content-Type become plain data, as in two parsers of Django REST framework.

The module `contract` judges the data, and does not know the format of the body.
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
"""Bytes of a body: enough for any prompt, and too little to fill the memory."""
MAX_FORM: Final = 2_621_440
"""Bytes of a form, as Django's DATA_UPLOAD_MAX_MEMORY_SIZE.

Each escape costs a step: a form takes longer than JSON.
"""
MAX_FIELDS: Final = 1000
"""Fields of a form."""
BODY_TIMEOUT: Final = 30.0
"""Seconds for the whole body: a slower client blocks a place for other clients."""
_SAME_KIND: Final = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]+")
_ESCAPE: Final = 3  # characters
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
    """Make a 413. The framework has no answer of this kind."""
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The {subject} is larger than {most} bytes.")


def parse_body(raw: bytes, content_type: str) -> object:
    """Parse a body into a `Form` or a value of JSON. An empty body is empty data, for any type.

    Sizes are checked before the parsing. Raises `ApiError`: 415 for a type outside `PARSED_TYPES`, for a type
    longer than `MAX_MEDIA_TYPE` and for an unsupported charset; 413 for a form over `MAX_FORM`; 400 for a
    body that contradicts the type.
    """
    if not raw:
        return {}
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
    try:
        return parse_json(codecs.getreader(codec)(io.BytesIO(raw)).read())
    except ValueError as error:
        raise make_parse_error(f"JSON parse error - {error}") from None


def _parse_form_text(raw: bytes, codec: str) -> Form:
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError:
        text = raw.decode("iso-8859-1")
    try:
        return parse_form(text, codec)
    except ValueError as error:
        raise make_parse_error(f"Form parse error - {error}") from None


def parse_form(text: str, charset: str) -> Form:
    """Return the fields of a form such as ``a=1&b=x+y%C3%A9``. For a repeated name the last field counts.

    The rules are those of `urllib.parse.parse_qsl`. The library's function splits a whole value at each
    ``%``: many times the memory of the body, in a single call, and no other thread runs meanwhile. This
    function decodes bounded pieces. Raises ValueError for more than `MAX_FIELDS`.
    """
    if text.count("&") >= MAX_FIELDS:
        raise ValueError("Max number of fields exceeded")
    form = Form()
    for pair in filter(None, text.split("&")):
        name, _, value = pair.replace("+", " ").partition("=")
        form[_unquote(name, charset)] = _unquote(value, charset)
    return form


def _unquote(text: str, charset: str) -> str:
    """Return a text with resolved escapes.

    Each sequence of ASCII is decoded separately: other characters were decoded with the body.
    """
    if "%" not in text:
        return text
    return "".join(
        _decode(run[0], charset) if run[0].isascii() else run[0] for run in _SAME_KIND.finditer(text)
    )


def _decode(run: str, charset: str) -> str:
    return b"".join(map(unquote_to_bytes, _cut(run))).decode(charset, "replace")


def _cut(run: str) -> Iterator[str]:
    """Cut a text into pieces of a bounded size, without cutting an escape."""
    start = 0
    while start < len(run):
        end = start + _PIECE
        escape = run.rfind("%", end - _ESCAPE + 1, end) if end < len(run) else -1
        end = end if escape < 0 else escape
        yield run[start:end]
        start = end
