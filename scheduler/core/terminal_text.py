"""Text that others wrote, made safe to print: it can move no cursor, ring no bell, and forge no line."""

import re
from typing import Final

_EMOJI: Final = "\u2190-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff"
_JOINING_SCRIPTS: Final = "\u0620-\u08e1\u0900-\u0dff\u0f00-\u109f\u1780-\u18af"

# Format characters without a sign of their own that change how their neighbours look, where they do so. Everywhere else they are
# invisible, and two texts that differ by them look the same. Source: Unicode Technical Standard 51 (emoji), Unicode chapter 23.2 (joiners).
_HARMLESS_FORMAT: Final = re.compile(
    f"(?<=[{_EMOJI}])\u200d(?=[{_EMOJI}])"  # joins two emoji to one picture
    f"|(?<=[{_JOINING_SCRIPTS}])[\u200c\u200d](?=[{_JOINING_SCRIPTS}])"  # decides whether two letters are joined
    "|(?<=\U0001f3f4)[\U000e0030-\U000e0039\U000e0061-\U000e007a]{2,6}\U000e007f"  # the flag of a region, after a black flag
    "|[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]"  # signs that stand around or under numbers
)

_TERMINAL_CODES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
"""What sets colours, moves the cursor or names the window (ECMA-48, 5.4 and 5.6)."""


def to_printable(text: str) -> str:
    """Return the text on one line, with an escape for every character that does not print itself.

    Joined emoji and other harmless format characters stay as they are. Characters that can deceive are escaped: those that
    change the direction of the text, and those that are invisible where they stand.
    """
    if text.isprintable():
        return text
    parts = []
    end = 0
    for harmless in _HARMLESS_FORMAT.finditer(text):
        parts += [_escape_characters(text[end : harmless.start()]), harmless[0]]
        end = harmless.end()
    return "".join([*parts, _escape_characters(text[end:])])


def _escape_characters(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)


def strip_terminal_codes(text: str) -> str:
    """Return the text without colours and the like, which programs print also where there is no terminal."""
    return _TERMINAL_CODES.sub("", text)
