"""Foreign text made safe to print: the text moves no cursor, rings no bell, and forges no line."""

import re
from typing import Final

_EMOJI: Final = "\u2190-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff"
_JOINING_SCRIPTS: Final = "\u0620-\u08e1\u0900-\u0dff\u0f00-\u109f\u1780-\u18af"

# Format characters without a sign of their own, at places where they change the look of their neighbours.
# Everywhere else these characters are invisible, and two texts with no other difference look the same.
# Source: Unicode Technical Standard 51 (emoji), Unicode chapter 23.2 (joiners).
_HARMLESS_FORMAT: Final = re.compile(
    f"(?<=[{_EMOJI}])\u200d(?=[{_EMOJI}])"  # joins two emoji to one picture
    # decides whether two letters are joined
    f"|(?<=[{_JOINING_SCRIPTS}])[\u200c\u200d](?=[{_JOINING_SCRIPTS}])"
    # the flag of a region, after a black flag
    "|(?<=\U0001f3f4)[\U000e0030-\U000e0039\U000e0061-\U000e007a]{2,6}\U000e007f"
    "|[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]"  # signs around or under numbers
)

_TERMINAL_CODES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
"""Codes that set colours, move the cursor or name the window (ECMA-48, 5.4 and 5.6)."""


def to_printable(text: str) -> str:
    """Return the text on one line, with an escape for every unprintable character.

    Joined emoji and other harmless format characters stay as they are. Deceptive characters are escaped:
    characters for a change of the text's direction, and characters without a visible effect at their place.
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
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def strip_terminal_codes(text: str) -> str:
    """Return the text without colours and other terminal codes.

    Some programs print these codes without a terminal too.
    """
    return _TERMINAL_CODES.sub("", text)
