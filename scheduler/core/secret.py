"""An API key, hidden unless code asks for the key by name."""

from typing import NoReturn


class SecretKey:
    """A personal API key.

    Printing, formatting, logging and pickling never show the key. Only `reveal` does.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Take the key.

        Raise ValueError, without the key in its text, when the key cannot stand in an HTTP header.
        """
        if not text:
            raise ValueError("the key is empty")
        if not text.isascii():
            raise ValueError("the key holds a character that is not ASCII")
        if not all("!" <= character <= "~" for character in text):
            raise ValueError("the key holds a space, a line break or another control character")
        self._text = text

    def reveal(self) -> str:
        """Return the key as text, for the only header with the key."""
        return self._text

    def __repr__(self) -> str:
        return "Key(…)"

    def __format__(self, format_spec: str) -> str:
        return format(repr(self), format_spec)

    def __getstate__(self) -> NoReturn:
        raise TypeError("a key is not copied or pickled")
