"""Backfill: an operator's request to start an occurrence that already has an outcome, or is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from scheduler.core.model import Occurrence, Outcome

BACKFILL_OUTCOMES = frozenset({Outcome.SKIPPED, Outcome.EXPIRED, Outcome.REJECTED})
"""Outcomes for which it is certain that no run was started."""


@dataclass(frozen=True, slots=True)
class FireRequest:
    """The request of the person named ``by``, made at ``at``, to start this occurrence.

    ``instants`` are all instants of the span with this occurrence. ``instants`` are given when the ledger
    does not have them, for example for a span of its first version.
    """

    occurrence: Occurrence
    at: datetime
    by: str
    instants: Sequence[datetime] = ()


@dataclass(frozen=True, slots=True)
class Reopening:
    """The continuation of an occurrence from ``at``.

    ``name`` and ``due`` are for an occurrence without a row.
    """

    name: str
    due: datetime
    deadline: datetime
    at: datetime
