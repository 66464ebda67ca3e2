"""The daemon's two neighbours with behaviour of their own: an API with its own truth, and the real
ledger in memory.
"""

from tests.fakes.api import (
    GONE,
    LOST_ANSWER,
    LOST_REQUEST,
    NULL_RUN,
    REFUSED,
    RESET_AFTER,
    RESET_BEFORE,
    SERVED,
    Arrival,
    Deed,
    FakeApi,
    StartedRun,
    answered,
    carried_out_after,
)
from tests.fakes.ledger import LedgerDouble, Row

__all__ = [
    "GONE",
    "LOST_ANSWER",
    "LOST_REQUEST",
    "NULL_RUN",
    "REFUSED",
    "RESET_AFTER",
    "RESET_BEFORE",
    "SERVED",
    "Arrival",
    "Deed",
    "FakeApi",
    "LedgerDouble",
    "Row",
    "StartedRun",
    "answered",
    "carried_out_after",
]
