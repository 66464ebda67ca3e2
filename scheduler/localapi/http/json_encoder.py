"""The body of an answer as JSON in UTF-8.

A page is encoded automation by automation: the encoder in C makes a whole value in a single call, and no
other thread runs meanwhile.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

_COMPACT_SEPARATORS: Final = (",", ":")
_INDENT_SEPARATORS: Final = (",", ": ")


def encode(body: dict[str, Any], indent: int | None) -> bytes:
    """Return the JSON of a body, compact unless ``indent`` sets the number of blanks to indent by."""
    if indent is not None:  # Python's encoder in Python: slow, but other threads can run
        return _escape(
            json.dumps(
                body, ensure_ascii=False, allow_nan=False, indent=indent, separators=_INDENT_SEPARATORS
            )
        )
    return b"{" + b",".join(_encode_field(name, value) for name, value in body.items()) + b"}"


def _encode_field(name: str, value: Any) -> bytes:
    content = b"[" + b",".join(_encode_values(value)) + b"]" if isinstance(value, list) else _encode(value)
    return _encode(name) + b":" + content


def _encode_values(values: list[Any]) -> Iterator[bytes]:
    for value in values:
        yield _encode(value)


def _encode(value: Any) -> bytes:
    return _escape(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=_COMPACT_SEPARATORS))


def _escape(text: str) -> bytes:
    """Return a text in UTF-8. Two characters are escaped: legal in JSON, but line ends in JavaScript."""
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()
