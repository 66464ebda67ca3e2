"""HTML forms in the notation of a query (``a=1&b=x+y%C3%A9``), decoded in bounded pieces.

The rules are those of `urllib.parse.parse_qsl`. The library's function splits a whole value at each ``%``:
ten times the memory of the body, in a single call, and no other thread runs meanwhile.
"""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from scheduler.localapi.http.fields import Form

MAX_FIELDS: Final = 1000
_PIECE: Final = 64 * 1024
_SAME_KIND: Final = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]+")
_ESCAPE: Final = 3  # characters


def parse_form(text: str, charset: str) -> Form:
    """Return the fields of a form. For a repeated name the last field counts.

    Raises ValueError for more than `MAX_FIELDS`.
    """
    if text.count("&") >= MAX_FIELDS:
        raise ValueError("Max number of fields exceeded")
    form = Form()
    for pair in text.split("&"):
        if pair:
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
        end = _find_piece_end(run, start)
        yield run[start:end]
        start = end


def _find_piece_end(run: str, start: int) -> int:
    """Return the end of a piece: never within an escape."""
    end = start + _PIECE
    if end >= len(run):
        return len(run)
    begun = run.rfind("%", end - _ESCAPE + 1, end)
    return end if begun < 0 else begun
