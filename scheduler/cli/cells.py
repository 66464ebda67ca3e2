"""Text in the cells of a terminal: its width, and its division into lines."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

import click

_WORD: Final = re.compile(r" *(?:`[^`]*`|[^ ])+")
"""A word with the spaces before. A command between backticks is a single word, so that a copy is complete."""
_TITLE: Final = re.compile(r"( *)(?:[^ ]+(?: [^ ]+)*?  +)?")
"""The indentation of a line, and its title: the text up to the first two spaces."""
_INDENT: Final = 2


def measure_width(text: str) -> int:
    """Return the width of a printable text, in cells of a terminal.

    A wide character takes two cells. Combining marks and joiners take none.
    """
    if text.isascii():
        return len(text)
    return sum(_measure_character(character) for character in text)


def take(text: str, width: int) -> str:
    """Return the longest beginning of the text that fits into the width."""
    taken = 0
    for number, character in enumerate(text):
        taken += measure_width(character)
        if taken > width:
            return text[:number]
    return text


def cut(text: str, width: int) -> str:
    """Return the text, or with an ellipsis the longest beginning that fits."""
    return text if measure_width(text) <= width else take(text, width - 1) + "…"


def wrap(text: str, width: int, margin: int | None = None) -> list[str]:
    """Wrap a text, which may be styled, at words into lines that fit into the width.

    Lines after the first line are indented by ``margin``. Without ``margin``, these lines begin below the
    text after a title and two or more spaces (``open         none``), or two cells to the right of the
    beginning of the text. Line breaks of the text stay. A word wider than a line is broken, except a command
    between backticks.
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
    title = _TITLE.match(plain)
    assert title is not None  # matches any text
    for margin in (title.end() if title.end() > title.end(1) else width, title.end(1) + _INDENT):
        if margin <= width // 2:
            return margin
    return 0


def _split(text: str, width: int) -> Iterator[str]:
    """Yield the words of a text with the spaces before; a word too wide for a line comes in pieces."""
    for word in _WORD.findall(text):
        is_command = " " in word.strip(" ")  # only backticks hold words together
        if is_command or measure_width(click.unstyle(word).strip(" ")) <= width:
            yield word  # the terminal breaks a long command, and a copy is still one line
        else:
            yield from _split_word(word, width)


def _split_word(word: str, width: int) -> Iterator[str]:
    if "\x1b" in word:  # no piece may end within a colour code
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
