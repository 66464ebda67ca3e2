"""What can be wrong with a configuration, as values: all mistakes are collected first and reported together.

Apart from the models, so that whoever only catches a `SettingsError` need not know how settings are read.
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
_MAX_SHOWN: Final = 60  # characters of a faulty value that an error repeats


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it is, what is wrong, and what to do about it. Never holds a key."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}\n  {self.what}\n  {self.remedy}"


class SettingsError(ConfigurationError):
    """The configuration has mistakes; `problems` are all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        many = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        super().__init__("\n".join([f"the configuration has {many}", *map(str, problems)]))
        self.problems = tuple(problems)


class SettingsUnreadable(SettingsError):
    """The configuration file that was asked for is not there or cannot be read, so nothing can be said about it."""


class InvalidSetting(ValueError):
    """A value that a setting cannot have, without the place, which only its reader knows."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what
        self.remedy = remedy


def format_value(value: object) -> str:
    """A value as an error repeats it: as JSON, on one line and cut short; never what may be a key or a password."""
    try:
        text = json.dumps(value, ensure_ascii=True, default=str)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes, or a list nested very deep
        return f"this {type(value).__name__}"
    if KEY_PREFIX in text:
        return "what looks like a key"
    if _CREDENTIALS.search(text):
        return "what looks like a URL with a password"
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def find_nearest(unknown: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known name that is most like an unknown one, whatever its case; None when none is."""
    folded = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(unknown.lower(), folded, n=1, cutoff=cutoff)
    return folded[matches[0]] if matches else None
