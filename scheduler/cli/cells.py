"""Text in the cells of a terminal: how many it takes, how much of it fits, and on which lines it stands."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

import click

_WORD: Final = re.compile(r" *(?:`[^`]*`|[^ ])+")
"""A word with the spaces before it. A command between backticks is one word, so that it can be copied from one line."""
_TITLE: Final = re.compile(r"( *)(?:[^ ]+(?: [^ ]+)*?  +)?")
"""The indentation of a line, and its title: the text up to the first two spaces."""
_INDENT: Final = 2


def measure_width(text: str) -> int:
    """Return the cells of a terminal that a printable text takes: two for wide characters, none for combining marks and joiners."""
    if text.isascii():
        return len(text)
    return sum(_measure_character(character) for character in text)


def take(text: str, width: int) -> str:
    """Return as much of the beginning of a text as fits into the width."""
    taken = 0
    for number, character in enumerate(text):
        taken += measure_width(character)
        if taken > width:
            return text[:number]
    return text


def cut(text: str, width: int) -> str:
    """Return the text, or as much of its beginning as fits, with an ellipsis."""
    return text if measure_width(text) <= width else take(text, width - 1) + "…"


def wrap(text: str, width: int, margin: int | None = None) -> list[str]:
    """Break a text, which may be styled, at words into lines that fit into the width.

    The lines after the first one hang, by ``margin`` or else: below the text after a title and two spaces or more
    (``open         none``), or two cells deeper than the text. A line break of the text stays. A word that is wider than a line is
    broken, but no command between backticks.
    """
    return [part for line in text.split("\n") for part in _wrap_line(line, max(width, 1), margin)]


def _wrap_line(text: str, width: int, hang: int | None) -> Iterator[str]:
    plain = click.unstyle(text)
    if measure_width(plain) <= width:
        yield text
        return
    margin = " " * (_find_margin(plain, width) if hang is None else hang)
    line = ""
    for word in _split(text, width - len(margin)):
        if line.strip() and measure_width(click.unstyle(line + word)) > width:
            yield line
            line = margin + word.lstrip(" ")
        else:
            line += word
    yield line


def _find_margin(plain: str, width: int) -> int:
    found = _TITLE.match(plain)
    assert found is not None  # it matches any text
    for margin in (found.end() if found.end() > found.end(1) else width, found.end(1) + _INDENT):
        if margin <= width // 2:
            return margin
    return 0


def _split(text: str, width: int) -> Iterator[str]:
    """Yield the words of a text with the spaces before them, and what is too wide for a line in pieces."""
    for word in _WORD.findall(text):
        is_command = " " in word.strip(" ")  # only backticks hold words together
        if is_command or measure_width(click.unstyle(word).strip(" ")) <= width:
            yield word  # the terminal itself breaks a long command, which is copied as one line all the same
        else:
            yield from _split_word(word, width)


def _split_word(word: str, width: int) -> Iterator[str]:
    if "\x1b" in word:  # no piece may end within the code of a colour
        yield word
        return
    indent = len(word) - len(word.lstrip(" "))
    spaces, rest = word[:indent], word[indent:]
    while measure_width(rest) > width:
        piece = take(rest, width) or rest[0]
        yield spaces + piece
        spaces, rest = "", rest[len(piece) :]
    yield spaces + rest


def _measure_character(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
