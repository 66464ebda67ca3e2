"""The override of an automation, found without testing each override against each automation.

With hundreds of overrides and ten thousand automations, all pairs take seconds at a start and at each reload.
Exact names are looked up, and patterns are found by the literal text at the beginning or the end. Only a
pattern without such text is tested against every name.
"""

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

_WILDCARDS: Final = re.compile(r"[*?\[\]]")
_Part = tuple[int | None, int | None]
"""The begin and the end of the part of a name that equals the literal text of a pattern."""


class PatternIndex:
    """Patterns (``*``, ``?``, ``[…]``; case counts) by position in a list."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._exact: defaultdict[str, list[int]] = defaultdict(list)
        self._by_literal: defaultdict[_Part, dict[str, list[int]]] = defaultdict(dict)
        self._compiled: dict[int, re.Pattern[str]] = {}
        for place, pattern in enumerate(patterns):
            self._exact[pattern].append(place)
            if _WILDCARDS.search(pattern):
                self._add(place, pattern)

    def _add(self, place: int, pattern: str) -> None:
        prefix, *_, suffix = _WILDCARDS.split(pattern)
        self._compiled[place] = re.compile(fnmatch.translate(pattern))
        if len(prefix) >= len(suffix):
            self._by_literal[None, len(prefix)].setdefault(prefix, []).append(place)
        else:
            self._by_literal[-len(suffix), None].setdefault(suffix, []).append(place)

    def find_all(self, automation_id: str, name: str) -> Iterator[int]:
        """Yield the positions of all patterns for the automation, in no particular order.

        A pattern matches when the pattern is the id or the name, or when the name fits the pattern.
        """
        for text in {automation_id, name}:
            yield from self._exact.get(text, ())
        for (begin, end), by_literal in self._by_literal.items():
            for place in by_literal.get(name[begin:end], ()):
                if self._compiled[place].match(name):
                    yield place
