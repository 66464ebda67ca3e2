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


class PatternIndex:
    """Patterns (``*``, ``?``, ``[…]``; case counts) by position in a list."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._exact: defaultdict[str, list[int]] = defaultdict(list)
        self._by_prefix: defaultdict[int, defaultdict[str, list[int]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self._by_suffix: defaultdict[int, defaultdict[str, list[int]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self._compiled: dict[int, re.Pattern[str]] = {}
        for place, pattern in enumerate(patterns):
            self._exact[pattern].append(place)
            if _WILDCARDS.search(pattern):
                self._add(place, pattern)

    def _add(self, place: int, pattern: str) -> None:
        prefix, *_, suffix = _WILDCARDS.split(pattern)
        self._compiled[place] = re.compile(fnmatch.translate(pattern))
        if len(prefix) >= len(suffix):
            self._by_prefix[len(prefix)][prefix].append(place)
        else:
            self._by_suffix[len(suffix)][suffix].append(place)

    def find_first(self, automation_id: str, name: str) -> int | None:
        """Return the position of the first pattern for the automation; None without a match.

        A pattern matches when the pattern is the id or the name, or when the name fits the pattern.
        """
        exact = [self._exact[text][0] for text in (automation_id, name) if text in self._exact]
        fitting = (self._find_first_match(places, name) for places in self._find_candidates(name))
        return min([*exact, *(place for place in fitting if place is not None)], default=None)

    def find_all(self, automation_id: str, name: str) -> Iterator[int]:
        """Yield the positions of all patterns for the automation, in no particular order."""
        for text in {automation_id, name}:
            yield from self._exact.get(text, ())
        for places in self._find_candidates(name):
            yield from (place for place in places if self._compiled[place].match(name))

    def _find_candidates(self, name: str) -> Iterator[Sequence[int]]:
        """Yield the positions of patterns with a literal part of the name, each list in order."""
        for length, by_prefix in self._by_prefix.items():
            if (places := by_prefix.get(name[:length])) is not None:
                yield places
        for length, by_suffix in self._by_suffix.items():
            if (places := by_suffix.get(name[-length:])) is not None:
                yield places

    def _find_first_match(self, places: Sequence[int], name: str) -> int | None:
        return next((place for place in places if self._compiled[place].match(name)), None)
