"""JSON of requests and answers, parsed and encoded so that other threads can run meanwhile.

Python's parser in C reads a whole body in a single call, and its encoder in C makes a whole value in a single
call: no other thread runs meanwhile. Ten megabytes of ``[],`` are three million lists. The scanner in Python
has the same rules and messages, and calls this module for each value, to count the values. Texts are still
scanned in C. A page is encoded automation by automation.
"""

import json
from collections.abc import Callable
from functools import partial
from json.decoder import JSONArray, JSONObject  # type: ignore[attr-defined]  # what the decoder itself is made of
from json.scanner import py_make_scanner  # type: ignore[attr-defined]  # the scanner of interpreters without the one in C
from typing import Any, Final, NoReturn

MAX_VALUES: Final = 10_000
"""The largest number of values in a body: an automation has sixteen."""
MAX_DEPTH: Final = 100
"""The largest depth of arrays and objects: an automation is a single object of plain values."""

_COMPACT_SEPARATORS: Final = (",", ":")
_INDENT_SEPARATORS: Final = (",", ": ")

_Scan = Callable[[str, int], tuple[Any, int]]


def parse_json(text: str) -> object:
    """Return the value of a text. Raises ValueError for a text that is not JSON or exceeds a bound."""
    parsed: object = json.loads(text, cls=_BoundedDecoder)
    return parsed


class _BoundedDecoder(json.JSONDecoder):
    """A decoder for a single text."""

    def __init__(self) -> None:
        super().__init__(parse_constant=_refuse_constant)
        self._values = 0
        self._depth = 0
        self.parse_array = partial(self._parse_nested, JSONArray)
        self.parse_object = partial(self._parse_nested, JSONObject)
        self.scan_once = py_make_scanner(self)

    def _parse_nested(
        self, parse: Callable[..., tuple[Any, int]], start: tuple[str, int], *arguments: Any
    ) -> tuple[Any, int]:
        """Parse an array or an object. The scanner is the only function among the arguments."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
        bounded = (self._count(argument) if callable(argument) else argument for argument in arguments)
        parsed = parse(start, *bounded)
        self._depth -= 1
        return parsed

    def _count(self, scan_once: _Scan) -> _Scan:
        def scan_next(text: str, index: int) -> tuple[Any, int]:
            self._values += 1
            if self._values > MAX_VALUES:
                raise ValueError(f"more than {MAX_VALUES} values")
            return scan_once(text, index)

        return scan_next


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"Out of range float values are not JSON compliant: {constant!r}")


def encode(body: dict[str, Any], indent: int | None) -> bytes:
    """Return the JSON of a body, compact unless ``indent`` sets the number of blanks to indent by."""
    if indent is not None:  # Python's encoder in Python: slow, but other threads can run
        return _encode(body, indent=indent, separators=_INDENT_SEPARATORS)
    return b"{" + b",".join(_encode_field(name, value) for name, value in body.items()) + b"}"


def _encode_field(name: str, value: Any) -> bytes:
    content = b"[" + b",".join(map(_encode, value)) + b"]" if isinstance(value, list) else _encode(value)
    return _encode(name) + b":" + content


def _encode(
    value: Any, *, indent: int | None = None, separators: tuple[str, str] = _COMPACT_SEPARATORS
) -> bytes:
    """Return JSON in UTF-8. Two characters are escaped: legal in JSON, but line ends in JavaScript."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()
