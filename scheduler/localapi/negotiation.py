"""Media types: what a client accepts, and what its body is.

Apart from `bodies`, since the Accept header is judged before anything else is known of a request. The rules are those of
Django REST framework's default negotiation (rest_framework.negotiation), for a server that speaks only JSON.
"""

from dataclasses import dataclass
from email.message import Message
from typing import Final

from scheduler.localapi.errors import not_acceptable

JSON: Final = "application/json"
_MAX_INDENT: Final = 8
_MAX_HEADER: Final = 8192
_MAX_TYPES: Final = 64


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type or range with its parameters, such as ``text/*; q=0.5``."""

    kind: str
    parameters: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> "MediaType":
        """Read a Content-Type, or one range of an Accept header. Anything can be read; nonsense matches nothing."""
        if ";" not in text:
            return cls(text.strip().lower(), {})
        message = Message()
        message["content-type"] = text
        (kind, _), *parameters = message.get_params(failobj=[("", "")])
        return cls(kind.lower(), {name: value for name, value in parameters if name and isinstance(value, str)})

    def covers(self, other: str) -> bool:
        """Whether ``other``, a plain ``type/subtype``, is within this range."""
        mine, theirs = self.kind.partition("/"), other.partition("/")
        return mine[0] in {"*", theirs[0]} and mine[2] in {"*", theirs[2]}

    @property
    def precedence(self) -> int:
        """How particular the range is: 0 for ``*/*``, 3 for a type with parameters other than its quality."""
        main, _, sub = self.kind.partition("/")
        if main == "*":
            return 0
        if sub == "*":
            return 1
        return 3 if set(self.parameters) - {"q"} else 2


def accepted_indent(accept: str | None) -> int | None:
    """By how many blanks the JSON of the answer is to be indented: ``application/json; indent=4`` asks for it. None: compact.

    Raises `ApiError` (406) when the client accepts no JSON. No header accepts everything.
    """
    if accept is None or accept in {"*/*", JSON}:
        return None
    ranges = [MediaType.parse(text) for text in _listed(accept[:_MAX_HEADER])]
    fitting = [media for media in ranges if media.covers(JSON)]
    if not fitting:
        raise not_acceptable()
    return _indent(max(fitting, key=lambda media: media.precedence))


def _listed(accept: str) -> list[str]:
    return [text for text in (part.strip() for part in accept.split(",")) if text][:_MAX_TYPES]


def _indent(media: MediaType) -> int | None:
    try:
        asked = int(media.parameters.get("indent", 0))
    except ValueError:
        return None
    return max(min(asked, _MAX_INDENT), 0) or None
