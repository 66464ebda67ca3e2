"""Media types: the types that a client accepts, and the type and the charset of a body.

The module `bodies` is separate, because the Accept header is judged before anything else in a request. The
rules are the rules of Django REST framework's default negotiation (rest_framework.negotiation), for a server
that speaks only JSON.
"""

from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value
from http import HTTPStatus
from typing import Final

from scheduler.localapi.http.errors import ApiError

JSON: Final = "application/json"
_MAX_INDENT: Final = 8
_MAX_HEADER: Final = 8192
_MAX_TYPES: Final = 64
MAX_MEDIA_TYPE: Final = 256
"""Characters of a media type with parameters; a longer media type is invalid."""
_MAX_PARAMETERS: Final = 16
"""Parameters of a header's value: the library takes quadratic time for parameters."""

CHARSETS: Final = (
    *("utf-8", "ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16", "utf-16le", "utf-16be"),
)
"""The charsets, by the names of their codecs.

The list is closed, because some of Python's codecs take quadratic time (punycode) or are not for text (zip),
and Python searches the file system for every name that a client invents.
"""
_ALIASES: Final = {
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "latin-1": "iso-8859-1",
    "latin1": "iso-8859-1",
    "cp1252": "windows-1252",
}


def find_codec(charset: str) -> str | None:
    """Return the name of the codec for a charset, None for an unsupported charset."""
    name = charset.lower().replace("_", "-")
    codec = _ALIASES.get(name, name)
    return codec if codec in CHARSETS else None


def _collapse_parameter(value: str | tuple[str | None, str | None, str]) -> str:
    if isinstance(value, str):
        return value
    if value[0] and find_codec(value[0]) is None:
        raise ValueError(f"unsupported charset {value[0]!r}")
    return collapse_rfc2231_value(value)


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type or range with parameters, such as ``text/*; q=0.5``."""

    kind: str
    parameters: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> "MediaType":
        """Parse a Content-Type, or a range of an Accept header, into the kind and the parameters.

        The rules are in RFC 2045, 5.1, and RFC 2231. Contradictory parameters, too many parameters, and an
        unsupported charset make a type that matches nothing. The caller has to bound the length of the text.
        """
        if ";" not in text:
            return cls(text.strip().lower(), {})
        if text.count(";") > _MAX_PARAMETERS:
            return cls("", {})
        message = Message()
        message["content-type"] = text
        try:
            (kind, _), *parameters = message.get_params(failobj=[("", "")])
            return cls(kind.lower(), {name: _collapse_parameter(value) for name, value in parameters if name})
        except (TypeError, ValueError):  # TypeError: email.utils does not foresee ``x*=`` beside ``x*0=``
            return cls("", {})

    def covers(self, other: str) -> bool:
        """Return whether ``other``, a plain ``type/subtype``, is within this range."""
        main, _, sub = self.kind.partition("/")
        other_main, _, other_sub = other.partition("/")
        return main in {"*", other_main} and sub in {"*", other_sub}

    @property
    def precedence(self) -> int:
        """The precision of the range: 0 for ``*/*``, 3 for a type with parameters other than the quality."""
        main, _, sub = self.kind.partition("/")
        if main == "*":
            return 0
        if sub == "*":
            return 1
        return 3 if set(self.parameters) - {"q"} else 2


def negotiate_indent(accept: str | None) -> int | None:
    """Return the number of blanks to indent the JSON of the answer by; None for compact JSON.

    ``application/json; indent=4`` asks for an indent. Raises `ApiError` (406) when the client accepts no
    JSON. A missing header accepts everything.
    """
    if accept is None or accept in {"*/*", JSON}:
        return None
    ranges = [MediaType.parse(text) for text in _split_ranges(accept)]
    fitting = [media for media in ranges if media.covers(JSON)]
    if not fitting:
        raise ApiError(HTTPStatus.NOT_ACCEPTABLE, "Could not satisfy the request Accept header.")
    return _read_indent(max(fitting, key=lambda media: media.precedence))


def _split_ranges(accept: str) -> list[str]:
    if len(accept) > _MAX_HEADER:  # cut at the end of a range: half a range could be another range
        accept = accept[: accept.rfind(",", 0, _MAX_HEADER) + 1]
    return [text for text in (part.strip() for part in accept.split(",")) if 0 < len(text) <= MAX_MEDIA_TYPE][
        :_MAX_TYPES
    ]


def _read_indent(media: MediaType) -> int | None:
    try:
        indent = int(media.parameters.get("indent", 0))
    except ValueError:
        return None
    return max(min(indent, _MAX_INDENT), 0) or None
