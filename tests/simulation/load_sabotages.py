"""The promise under load broken on purpose, one way at a time, and the story that notices each."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from scheduler.core import model
from scheduler.core.fair_queue import FairQueue, Ticket
from scheduler.core.model import Claim, Occurrence, Skip
from scheduler.core.request_budget import RequestBudget
from scheduler.core.timetable import Timetable
from scheduler.daemon.places import Places
from scheduler.ledger.sqlite import SqliteLedger

Patch = tuple[object, str, object]
_claim: Final = SqliteLedger.claim
_choose: Final = FairQueue.choose
_required: Final = model._required
_miss: Final = Timetable._miss


def _expect_nothing(_self: RequestBudget, _need: object, _now: float) -> None:
    """Keep no reserve for polls."""


def _keep_slot(_self: Places, _place: object) -> None:
    """Leave a request that hangs in flight."""


def _choose_again(self: FairQueue) -> Ticket | None:
    """Prefer the automation of which an occurrence was sent before."""
    for ticket in self._waiting:
        if ticket.automation_id in self._sent:
            self.leave(ticket)
            return ticket
    return _choose(self)


async def _claim_without_spans(
    self: SqliteLedger, target: str, claims: Sequence[Claim], skips: Sequence[Skip], watermark: datetime, **more: Any
) -> Mapping[Occurrence, int]:
    """Make a slice of the recovery durable without its rows."""
    return await _claim(self, target, claims, skips, watermark, **(more | {"spans": ()}))


async def _claim_without_gaps(
    self: SqliteLedger, target: str, claims: Sequence[Claim], skips: Sequence[Skip], watermark: datetime, **more: Any
) -> Mapping[Occurrence, int]:
    """Move the watermark, and record no gap."""
    return await _claim(self, target, claims, skips, watermark, **(more | {"gaps": ()}))


def _require_cut(value: Mapping[str, object], field: str, kind: type[Any]) -> Any:
    """Cut a text where a C string ends."""
    found = value.get(field)
    return _required(value | {field: found.partition("\0")[0]} if isinstance(found, str) else value, field, kind)  # type: ignore[operator]


def _miss_at_once(self: Timetable, snapshot: model.Snapshot, _confirm_after: float, *more: Any) -> list[model.Version]:
    """Remove what the next snapshot does not show either, however soon that comes."""
    return _miss(self, snapshot, 0.0, *more)


def _is_removed(self: Timetable, automation_id: str) -> bool:
    """Take what the list does not show for present until it is removed."""
    return automation_id not in self.entries


LOAD_SABOTAGES: Final[Mapping[str, Sequence[Patch]]] = {
    "fires starve polls": [(RequestBudget, "expect", _expect_nothing)],
    "the second waiting occurrence precedes the first": [(FairQueue, "choose", _choose_again)],
    "a hanging request keeps its slot": [(Places, "note_hanging", _keep_slot)],
    "the watermark moves over a gap that is not recorded": [(SqliteLedger, "claim", _claim_without_gaps)],
    "a slice of the recovery is lost": [(SqliteLedger, "claim", _claim_without_spans)],
    "a removal by an immediate second reading": [(Timetable, "_miss", _miss_at_once)],
    "an absent automation fires": [(Timetable, "is_absent", _is_removed)],
    "text cut at NUL": [(model, "_required", _require_cut)],
}

TOLD_BY: Final[Mapping[str, str]] = {
    "fires starve polls": "polls starved by fires",
    "the second waiting occurrence precedes the first": "everything caught up with",
    "a hanging request keeps its slot": "hanging requests",
    "the watermark moves over a gap that is not recorded": "killed while it recovers",
    "a slice of the recovery is lost": "killed while it recovers",
    "a removal by an immediate second reading": "short list between polls",
    "an absent automation fires": "empty list for seconds",
    "text cut at NUL": "text with NUL",
}
"""The story that notices each of them."""
