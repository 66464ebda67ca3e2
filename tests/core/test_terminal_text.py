"""Texts of others on a terminal and on the page: nothing deceives, and what is harmless stays readable."""

import pytest

from scheduler.core.terminal_text import to_printable


@pytest.mark.parametrize(
    "text",
    [
        "nightly report",
        "\U0001f469\u200d\U0001f4bb coder",  # woman, joiner, laptop
        "\U0001f469\U0001f3fd\u200d\U0001f680",  # with a colour of skin
        "\U0001f3f3\ufe0f\u200d\U0001f308",  # a flag, with the selector of its form
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # the flag of England
        "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian: a verb with unjoined parts
        "\u0915\u094d\u200d\u0937",  # Devanagari: a half form
        "\u0600\u0661\u0662",  # the Arabic sign before a number
        "caf\u00e9 e\u0301 \u65e5\u672c",
    ],
)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert to_printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("pay\u202egpj.exe", "pay\\u202egpj.exe"),  # turns the direction around
        ("a\u2066b\u2069", "a\\u2066b\\u2069"),
        ("ad\u200dmin", "ad\\u200dmin"),  # invisible between Latin letters
        ("\u0430\u200d\u0431", "\u0430\\u200d\u0431"),  # and between Cyrillic ones
        ("ad\u200bmin", "ad\\u200bmin"),
        ("ad\u00admin", "ad\\xadmin"),
        ("\u200d\U0001f469", "\\u200d\U0001f469"),  # joins nothing
        ("\U0001f469\u200d\u200d\U0001f469", "\U0001f469\\u200d\\u200d\U0001f469"),
        ("x\U000e0067\U000e007f", "x\\U000e0067\\U000e007f"),  # no flag before them
        ("\U0001f3f4\U000e0067\U000e0062", "\U0001f3f4\\U000e0067\\U000e0062"),  # without an end
        ("\U0001f469\u200d\U0001f4bb\x07", "\U0001f469\u200d\U0001f4bb\\x07"),
        ("\ufeffname", "\\ufeffname"),
    ],
)
def test_what_can_deceive_is_escaped(text: str, shown: str) -> None:
    assert to_printable(text) == shown
