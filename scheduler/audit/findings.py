"""What an audit finds, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class FindingKind(StrEnum):
    """What kind of finding it is."""

    MISSING = "missing"  # a version in force implied it, and it has no row
    DOUBLE = "double"  # two runs for one occurrence, or one run for two
    UNEXPLAINED = "unexplained"  # a row that nothing implies, no outcome when there should be one, or a run that nobody knows
    DIFFERENTLY = "differently"  # evaluated by another croniter, other zone data or other rules: no loss


BAD_KINDS: Final = frozenset({FindingKind.MISSING, FindingKind.DOUBLE, FindingKind.UNEXPLAINED})
"""The kinds that must not be."""


@dataclass(frozen=True, slots=True, order=True)
class AuditFinding:
    """One finding, in sentences. ``scheduled_for`` is None for what belongs to no occurrence."""

    target: str
    automation_id: str
    name: str
    scheduled_for: datetime | None
    kind: FindingKind
    text: str
    advice: str


def format_counts(kinds: Mapping[FindingKind, int]) -> str:
    """How many there are of each kind."""
    words = {FindingKind.DIFFERENTLY: "evaluated differently"}
    return ", ".join(f"{words.get(kind, kind)} {kinds.get(kind, 0):,}" for kind in FindingKind)
