"""The findings of an audit, each with advice."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class FindingKind(StrEnum):
    """The kind of a finding."""

    MISSING = "missing"  # a version in force implied the occurrence, and no row exists
    DOUBLE = "double"  # two runs for one occurrence, or one run for two
    UNEXPLAINED = "unexplained"  # a row that nothing implies, a missing outcome, or an unknown run
    DIFFERENTLY = "differently"  # evaluated by another croniter, other zone data or other rules: no loss


BAD_KINDS: Final = frozenset({FindingKind.MISSING, FindingKind.DOUBLE, FindingKind.UNEXPLAINED})
"""The kinds of findings that are errors."""


KEEP_ADVICE: Final = "keep the ledger, and report this"


@dataclass(frozen=True, slots=True, order=True)
class AuditFinding:
    """A finding, in sentences. ``scheduled_for`` is None for a finding without an occurrence."""

    target: str
    automation_id: str
    name: str
    scheduled_for: datetime | None
    kind: FindingKind
    text: str
    advice: str


def format_counts(kinds: Mapping[FindingKind, int]) -> str:
    """Format the number of findings of each kind."""
    words = {FindingKind.DIFFERENTLY: "evaluated differently"}
    return ", ".join(f"{words.get(kind, kind)} {kinds.get(kind, 0):,}" for kind in FindingKind)
