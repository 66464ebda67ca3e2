"""What is asked for by hand: an occurrence that had its outcome, or that is missing, is to be started after all."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from scheduler.core.model import Occurrence, Outcome

BACKFILL_OUTCOMES = frozenset({Outcome.SKIPPED, Outcome.EXPIRED, Outcome.REJECTED})
"""Outcomes of which it is certain that nothing was started."""


@dataclass(frozen=True, slots=True)
class FireRequest:
    """Somebody, ``by`` name, asked at ``at`` for this occurrence.

    ``instants``: all those of the span that it lies in, where the ledger does not know them itself, as of a span of its first version.
    """

    occurrence: Occurrence
    at: datetime
    by: str
    instants: Sequence[datetime] = ()


@dataclass(frozen=True, slots=True)
class Reopening:
    """How the occurrence goes on from ``at``. ``name`` and ``due`` are for one that has no row yet."""

    name: str
    due: datetime
    deadline: datetime
    at: datetime
