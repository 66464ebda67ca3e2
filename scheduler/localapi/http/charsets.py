"""The charsets for bodies.

The list is closed, because some of Python's codecs take quadratic time (punycode) or are not for text (zip),
and Python searches the file system for every name that a client invents.
"""

from typing import Final

_CODECS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "iso-8859-1",
    "latin-1": "iso-8859-1",
    "latin1": "iso-8859-1",
    "iso-8859-15": "iso-8859-15",
    "windows-1252": "windows-1252",
    "cp1252": "windows-1252",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
}
CHARSETS: Final = tuple(dict.fromkeys(_CODECS.values()))
"""The names of the charsets, for errors."""


def find_codec(charset: str) -> str | None:
    """Return the name of the codec for a charset, None for an unsupported charset."""
    return _CODECS.get(charset.lower().replace("_", "-"))
