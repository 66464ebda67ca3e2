"""A choice of occurrences in the history, for commands, pages and the ledger."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from scheduler.core.model import Outcome, RunStatus

DEFAULT_LIMIT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class OccurrenceQuery:
    """A choice of occurrences, the newest first by default: ``limit`` occurrences after the first ``offset``.

    ``automation`` is an id, a name or a pattern for a name (``nightly-*``): the name now or at that time.
    ``since`` is inclusive and ``until`` exclusive; both are compared with scheduled instants. ``run_status``
    is the status of the run that an occurrence started.
    """

    target: str | None = None
    automation: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    outcome: Outcome | None = None
    run_status: RunStatus | None = None
    only_open: bool = False
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    oldest_first: bool = False

    def extend_by_one(self) -> "OccurrenceQuery":
        """Return this query with one more occurrence, which shows whether another page follows."""
        return replace(self, limit=self.limit + 1)
