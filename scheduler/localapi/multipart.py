"""Multipart forms, parsed as in the framework (django.http.multipartparser), from complete bytes.

No library is used: each library refuses something that the framework accepts, or accepts something that the
framework refuses, and clients were written for the framework. The framework finds the boundary anywhere, uses
the available part of a truncated body, and ignores parts without a field.
"""

import base64
import binascii
import html
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from scheduler.localapi.errors import make_parse_error
from scheduler.localapi.fields import Form, InMemoryUploadedFile
from scheduler.localapi.negotiation import parse_header

_BOUNDARY: Final = re.compile("[ -~]{0,200}[!-~]")  # RFC 2046, 5.1.1, with the framework's greater length
_END_OF_HEAD: Final = b"\r\n\r\n"
_MAX_HEAD: Final = 1024
_MAX_PARTS: Final = 1002
"""A thousand fields, and the text before the first boundary and after the last boundary."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A field of the form; ``filename`` is "" for a field without a file."""

    name: str
    content: bytes
    filename: str


def parse_multipart(raw: bytes, content_type: str, charset: str) -> Form:
    """Parse the fields of a form. For a repeated name the last field counts, and a file before a text.

    Raises `ApiError` (400).
    """
    separator = b"--" + _parse_boundary(content_type).encode()
    pieces = raw.split(separator, _MAX_PARTS)
    if len(pieces) > _MAX_PARTS:
        raise _make_error("Too many fields.")
    whole, cut_off = [_strip_line_end(piece) for piece in pieces[:-1]], pieces[-1]
    if whole and not cut_off:  # nothing follows the last boundary
        cut_off = whole.pop()
    parts = [part for piece in whole for part in _parse_part(piece, charset)]
    # a truncated text counts, a truncated file does not
    parts += (part for part in _parse_part(cut_off, charset) if not part.filename)
    texts = [(part.name, _decode_text(part.content, charset)) for part in parts if not part.filename]
    return Form(
        [*texts, *((part.name, InMemoryUploadedFile(part.filename)) for part in parts if part.filename)]
    )


def _parse_boundary(content_type: str) -> str:
    if not content_type.startswith("multipart/"):
        raise _make_error(f"Invalid Content-Type: {content_type}")
    boundary = parse_header(content_type)[1].get("boundary")
    if not boundary or not _BOUNDARY.fullmatch(boundary):
        raise _make_error(f"Invalid boundary in multipart: {boundary}")
    return boundary


def _strip_line_end(piece: bytes) -> bytes:
    """Return the content before a boundary: the line end in between belongs to the boundary."""
    return piece.removesuffix(b"\n").removesuffix(b"\r")


def _parse_part(piece: bytes, charset: str) -> Iterator[_Part]:
    """Parse the field in a piece between two boundaries; nothing for a piece without a field."""
    end = piece.find(_END_OF_HEAD, 0, _MAX_HEAD)
    if end < 0 and len(piece) >= _MAX_HEAD:
        raise _make_error("Request max total header size exceeded.")
    head = dict(_parse_head(piece[: max(end, 0)]))
    disposition = head.get("content-disposition", ("", {}))[1]
    if "name" not in disposition:
        return
    given = disposition.get("filename", "")
    filename = _sanitize_filename(given)
    if given and not filename:
        return
    content = piece[end + len(_END_OF_HEAD) :]
    if head.get("content-transfer-encoding", ("", {}))[0].strip() == "base64":
        content = _decode_content(content, is_file=bool(filename))
    yield _Part(_decode_text(disposition["name"].strip().encode(), charset), content, filename)


def _parse_head(lines: bytes) -> Iterator[tuple[str, tuple[str, dict[str, str]]]]:
    """Yield each readable header in lower case: the name, the value and the value's parameters."""
    for line in lines.split(b"\r\n"):
        try:
            main, parameters = parse_header(line.decode())
        except ValueError:
            continue
        name, colon, value = main.partition(":")
        if colon:
            yield name, (value, parameters)


def _sanitize_filename(filename: str) -> str:
    """Return a file's name as cleaned by the framework, without folders; "" when nothing is left."""
    last = html.unescape(filename).rpartition("/")[2].rpartition("\\")[2]
    name = "".join(filter(str.isprintable, last))
    return "" if name in {".", ".."} else name


def _decode_content(content: bytes, *, is_file: bool) -> bytes:
    """Decode base64.

    An undecodable text stays unchanged; a file must be decodable, and must have been padded.
    """
    with suppress(binascii.Error):
        if not is_file or len(b"".join(content.split())) % 4 == 0:
            return base64.b64decode(content)
    if is_file:
        raise _make_error("Could not decode base64 data.")
    return content


def _decode_text(content: bytes, charset: str) -> str:
    try:
        return content.decode(charset, errors="replace")
    except UnicodeError as error:  # a codec without replacement
        raise _make_error(str(error)) from None


def _make_error(detail: str) -> Exception:
    return make_parse_error(f"Multipart form parse error - {detail}")
