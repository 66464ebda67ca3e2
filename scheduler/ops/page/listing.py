"""The page of all automations, as values: which there are, in which state, and when each fires next."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from scheduler.core.policy import due_of
from scheduler.core.status import AutomationDetails, FinishedRun
from scheduler.ops.content import Key
from scheduler.ops.page.rendering import pausing
from scheduler.ops.page.rows import TONES as RUN_TONES
from scheduler.ops.page.rows import address
from scheduler.ops.page.times import When, when
from scheduler.ops.queries import AutomationQuery
from scheduler.ops.views import wanted

TONES = {"enabled": "good", "disabled": "soft", "paused": "warn", "invalid": "bad"}


@dataclass(frozen=True, slots=True)
class LastResult:
    """What became of the newest finished run of an automation."""

    word: str
    tone: str
    failures: int
    finished: When


@dataclass(frozen=True, slots=True)
class Listed:
    """One automation as a row. ``due`` is None when it is due at its instant.

    ``result`` is None while no run has finished, and when the ledger cannot be read.
    """

    details: AutomationDetails
    link: str
    tone: str
    next_fire: When | None
    due: When | None
    throttled: bool
    result: LastResult | None


def choose(automations: Iterable[AutomationDetails], query: AutomationQuery, failing: Collection[Key]) -> Sequence[AutomationDetails]:
    """Return the automations of the page by their names, and one more. ``failing`` counts when only the failing ones are wanted."""
    of_result = (each for each in _chosen(automations, query) if not query.only_failing or (each.target, each.id) in failing)
    chosen = sorted(of_result, key=lambda each: (each.name.casefold(), each.target, each.id))
    return list(islice(chosen, query.offset, query.offset + query.limit + 1))


def make_rows(
    automations: Sequence[AutomationDetails],
    runs: Mapping[Key, FinishedRun],
    now: datetime,
    throttles: Mapping[str, datetime | None],
) -> Sequence[Listed]:
    """Make a row for each automation. ``runs`` are the newest finished runs, by target and id; ``throttles`` end then, by target."""
    return [
        _row(automation, runs.get((automation.target, automation.id)), now, throttles.get(automation.target)) for automation in automations
    ]


def _chosen(automations: Iterable[AutomationDetails], query: AutomationQuery) -> Iterator[AutomationDetails]:
    is_wanted = None if query.automation is None else wanted(query.automation)
    for each in pausing(automations):
        if query.target in {None, each.target} and query.state in {None, each.state} and (is_wanted is None or is_wanted(each.automation)):
            yield each


def _row(details: AutomationDetails, run: FinishedRun | None, now: datetime, throttled_until: datetime | None) -> Listed:
    instant, timezone = details.next_fire, details.timezone
    due = None if instant is None else due_of(details.policies, details.target, details.id, details.schedule, instant)
    return Listed(
        details,
        address(details.target, details.id),
        TONES[details.state],
        when(instant, now, timezone),
        None if due == instant else when(due, now, timezone),
        throttled_until is not None and due is not None and details.state == "enabled" and due < throttled_until,
        None if run is None else LastResult(run.status, RUN_TONES[run.status], run.failures, When(run.finished_at, now, timezone)),
    )
