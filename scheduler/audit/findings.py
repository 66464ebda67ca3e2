"""What an audit finds, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What kind of finding it is."""

    MISSING = "missing"  # a version in force implied it, and it has no row
    DOUBLE = "double"  # two runs for one occurrence, or one run for two
    UNEXPLAINED = "unexplained"  # a row that nothing implies, no outcome when there should be one, or a run that nobody knows
    DIFFERENTLY = "differently"  # evaluated by another croniter, other zone data or other rules: no loss


BAD: Final = frozenset({Kind.MISSING, Kind.DOUBLE, Kind.UNEXPLAINED})
"""The kinds that must not be."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One finding, in sentences. ``scheduled_for`` is None for what belongs to no occurrence."""

    target: str
    automation_id: str
    name: str
    scheduled_for: datetime | None
    kind: Kind
    text: str
    advice: str


def told(kinds: Mapping[Kind, int]) -> str:
    """How many there are of each kind."""
    words = {Kind.DIFFERENTLY: "evaluated differently"}
    return ", ".join(f"{words.get(kind, kind)} {kinds.get(kind, 0):,}" for kind in Kind)
