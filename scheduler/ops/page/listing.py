"""The page of all automations, as values: which there are, in which state, and when each fires next."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from scheduler.core.policy import due_of
from scheduler.core.status import AutomationDetails
from scheduler.ops.page.rendering import pausing
from scheduler.ops.page.rows import address
from scheduler.ops.page.times import When, when
from scheduler.ops.queries import AutomationQuery
from scheduler.ops.views import wanted

TONES = {"enabled": "good", "disabled": "soft", "paused": "warn", "invalid": "bad"}


@dataclass(frozen=True, slots=True)
class Listed:
    """One automation as a row. ``due`` is None when it is due at its instant."""

    details: AutomationDetails
    link: str
    tone: str
    next_fire: When | None
    due: When | None


def listed(automations: Iterable[AutomationDetails], query: AutomationQuery, now: datetime) -> Sequence[Listed]:
    """The automations of the page by their names, and one more."""
    chosen = sorted(_chosen(automations, query), key=lambda each: (each.name.casefold(), each.target, each.id))
    return [_row(each, now) for each in islice(chosen, query.offset, query.offset + query.limit + 1)]


def _chosen(automations: Iterable[AutomationDetails], query: AutomationQuery) -> Iterator[AutomationDetails]:
    is_wanted = None if query.automation is None else wanted(query.automation)
    for each in pausing(automations):
        if query.target in {None, each.target} and query.state in {None, each.state} and (is_wanted is None or is_wanted(each.automation)):
            yield each


def _row(details: AutomationDetails, now: datetime) -> Listed:
    instant = details.next_fire
    due = None if instant is None else due_of(details.policies, details.target, details.id, details.schedule, instant)
    shown_due = None if due == instant else when(due, now, details.timezone)
    return Listed(details, address(details.target, details.id), TONES[details.state], when(instant, now, details.timezone), shown_due)
