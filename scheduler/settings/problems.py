"""Problems of a configuration, as values: all mistakes are collected first and reported together.

The module is separate from the models: code that only catches a `SettingsError` does not import the models.
"""

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from scheduler.core.errors import ConfigurationError

KEY_PREFIX: Final = "phx_"  # of a personal API key, which people paste into the wrong place
_CREDENTIALS: Final = re.compile(r"://[^/\s]*@")  # in a URL
_MAX_SHOWN: Final = 60  # characters of a faulty value in an error


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake: the place, the mistake and the remedy. Never contains a key."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}\n  {self.what}\n  {self.remedy}"


class SettingsError(ConfigurationError):
    """The configuration has mistakes; `problems` are all mistakes."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        many = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        super().__init__("\n".join([f"the configuration has {many}", *map(str, problems)]))
        self.problems = tuple(problems)


class SettingsUnreadable(SettingsError):
    """The requested configuration file is missing or cannot be read.

    Nothing can be said about its content.
    """


class InvalidSetting(ValueError):
    """An invalid value of a setting, without the place: only the caller of the parser knows the place."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what
        self.remedy = remedy


def format_value(value: object) -> str:
    """Format a value for an error: as JSON, on a single line, cut short; never a possible key or password."""
    try:
        text = json.dumps(value, ensure_ascii=True, default=str)
    # an integer of more digits than Python writes, or a list nested very deep
    except (ValueError, RecursionError):
        return f"this {type(value).__name__}"
    if KEY_PREFIX in text:
        return "a text that looks like a key"
    if _CREDENTIALS.search(text):
        return "a text that looks like a URL with a password"
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def find_nearest(unknown: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Find the known name most similar to an unknown name, ignoring case; None without a similar name."""
    folded = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(unknown.lower(), folded, n=1, cutoff=cutoff)
    return folded[matches[0]] if matches else None
